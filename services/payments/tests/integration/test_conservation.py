"""The database itself refuses what would break conservation, whoever writes."""

from typing import Any

import asyncpg
import pytest

PERMISSION = asyncpg.InsufficientPrivilegeError
CHECK = asyncpg.CheckViolationError
FOREIGN_KEY = asyncpg.ForeignKeyViolationError
UNIQUE = asyncpg.UniqueViolationError

TRIES = [
    pytest.param("UPDATE receivable SET allocated = issued + 1", CHECK, id="open below zero"),
    pytest.param("UPDATE receivable SET credited = -1", CHECK, id="credited below zero"),
    pytest.param("UPDATE receipt SET allocated = amount + 1", CHECK, id="unapplied below zero"),
    pytest.param("UPDATE receipt SET reversed = 1", CHECK, id="reversed what is allocated"),
    pytest.param("UPDATE credit SET unapplied = -1", CHECK, id="credit below zero"),
    pytest.param("UPDATE receivable SET issued = 1", PERMISSION, id="another issued amount"),
    pytest.param("UPDATE receipt SET amount = 1", PERMISSION, id="another amount received"),
    pytest.param("UPDATE allocation SET amount = 1", PERMISSION, id="another allocation"),
    pytest.param("UPDATE journal_line SET amount = 1", PERMISSION, id="another journal line"),
    *(
        pytest.param("DELETE FROM " + table, PERMISSION, id="delete from " + table)  # noqa: S608 - names below
        for table in ("receivable", "receipt", "allocation", "journal_entry", "journal_line", "credit", "permit")
    ),
    pytest.param("TRUNCATE journal_line", PERMISSION, id="truncate the journal"),
    pytest.param("DROP TRIGGER journal_balances ON journal_line", PERMISSION, id="drop the trigger"),
    pytest.param(
        """INSERT INTO journal_line (entry_id, line, account, currency, amount)
        SELECT entry_id, 99, 'CASH', 'MXN', 1 FROM journal_entry LIMIT 1""",
        CHECK,
        id="an entry that does not balance",
    ),
    pytest.param(
        """INSERT INTO journal_line (entry_id, line, account, currency, amount)
        SELECT entry_id, 98 + n, 'CASH', k, a FROM (SELECT entry_id FROM journal_entry LIMIT 1) e,
            (VALUES (1, 'MXN', 5), (2, 'USD', -5)) AS t(n, k, a)""",
        CHECK,
        id="an entry that balances across currencies only",
    ),
    pytest.param(
        """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule, cause_event_id)
        SELECT gen_random_uuid(), p.company, p.receipt_id, r.receivable_id, 'USD', 1, 'x', gen_random_uuid()
        FROM receipt p, receivable r""",
        FOREIGN_KEY,
        id="an allocation in another currency",
    ),
    pytest.param(
        """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule, cause_event_id)
        SELECT gen_random_uuid(), company, gen_random_uuid(), receivable_id, currency, 1, 'x', gen_random_uuid()
        FROM receivable""",
        FOREIGN_KEY,
        id="an allocation without a receipt",
    ),
    pytest.param(
        """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule, cause_event_id)
        SELECT gen_random_uuid(), company, receipt_id, receivable_id, currency, -1, 'x', gen_random_uuid()
        FROM allocation LIMIT 1""",
        CHECK,
        id="a negative allocation that undoes nothing",
    ),
    pytest.param(
        """INSERT INTO allocation (allocation_id, company, receipt_id, receivable_id, currency, amount, rule,
            cause_event_id, reverses)
        SELECT gen_random_uuid(), company, receipt_id, receivable_id, currency, -amount, 'x', gen_random_uuid(),
            allocation_id FROM allocation, generate_series(1, 2)""",
        UNIQUE,
        id="an allocation undone twice",
    ),
    pytest.param(
        """INSERT INTO receipt (company, receipt_id, kind, currency, system, external_id, sha256, amount, value_on, details)
        SELECT company, gen_random_uuid(), kind, currency, system, external_id, sha256, amount, value_on, details
        FROM receipt""",
        UNIQUE,
        id="the same payment under another id",
    ),
]


@pytest.mark.parametrize(("sql", "error"), TRIES)
async def test_the_database_refuses(ledger: Any, make: Any, sql: Any, error: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "60.00", "F-1"), make.payment("Q", "5.00"))
    connection = await asyncpg.connect(ledger.app_url)
    try:
        with pytest.raises(error):
            await connection.execute(sql)
    finally:
        await connection.close()


async def test_a_planted_error_is_found_by_verify(ledger: Any, make: Any) -> None:
    await ledger.tell(make.invoice("F-1", "100.00"), make.payment("P", "60.00", "F-1"))
    assert await ledger.broken() == set()
    await ledger.run("UPDATE receivable SET allocated = allocated - 1")
    ledger.expected_broken = {"receivable_equals_journal", "receivable_equals_allocations"}
    assert await ledger.broken() == ledger.expected_broken


async def test_a_planted_credit_is_found_by_verify(ledger: Any, make: Any) -> None:
    await ledger.tell(make.payment("P", "60.00"))
    await ledger.run("UPDATE credit SET unapplied = unapplied + 1")
    ledger.expected_broken = {"credit_equals_receipts"}
