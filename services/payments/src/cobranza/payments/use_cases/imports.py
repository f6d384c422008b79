"""Bank files into the ledger: checked as a whole, imported once, undone as a whole."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import yaml
from pydantic import ValidationError

from cobranza.chassis.clock import evaluation_date
from cobranza.chassis.companies import Companies, CompanyProfile
from cobranza.chassis.database import Database, Transaction
from cobranza.chassis.ids import new_id
from cobranza.chassis.streams import Event
from cobranza.contracts import identifiers, ingress
from cobranza.contracts.envelope import erp_event
from cobranza.contracts.identifiers import Company, ExternalId, System
from cobranza.contracts.money import Money, to_decimal
from cobranza.contracts.payloads import External, Payload
from cobranza.contracts.payments import RemittanceLine
from cobranza.payments import repository
from cobranza.payments.domain.bank_transaction import (
    BOOKED_KINDS,
    Format,
    Identified,
    Identifier,
    Item,
    Movement,
    Statement,
    account_of,
)
from cobranza.payments.domain.errors import (
    BankImportRefusedError,
    BankImportUnknownError,
    PaymentsError,
    StatementError,
    UnknownCompanyError,
)
from cobranza.payments.gateways import statements
from cobranza.payments.gateways.statements import Mapping
from cobranza.payments.repository import StagedLine
from cobranza.payments.use_cases.bookkeeping import Bookkeeper

#: The system that external ids of bank movements belong to.
BANK: Final = System("bank")
_STAGE_AT_ONCE: Final = 1000
_BOOK_AT_ONCE: Final = 500
_KEEP_CHECKS_DAYS: Final = 7
_SHORTEST_ACCOUNT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An import as people and programs are told of it; amounts are decimals of their currency."""

    import_id: UUID
    company: str
    name: str
    format: str
    mapping: str | None
    state: str
    lines: tuple[dict[str, Any], ...]
    ignored: tuple[dict[str, Any], ...]
    statements: tuple[dict[str, Any], ...]
    watermark: str | None
    imported_at: datetime | None
    undone_at: datetime | None
    is_repeat: bool = False

    def count(self, verdict: str, *kinds: str) -> int:
        """How many lines have this verdict, of these kinds or of any."""
        return sum(
            int(line["count"])
            for line in self.lines
            if line["verdict"] == verdict and (not kinds or line["kind"] in kinds)
        )

    def as_values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            name: str(value) if isinstance(value, UUID | datetime) else value
            for name in self.__slots__
            for value in (getattr(self, name),)
        }

    def sentences(self) -> list[str]:
        """For people, in English."""
        what = {
            "checked": "checked, not imported yet",
            "importing": "is being imported",
            "imported": "imported",
            "undoing": "is being undone",
            "undone": "undone",
        }[self.state]
        told = [f"import {self.import_id}: {self.name} ({self.format}) of {self.company}: {what}"]
        if self.is_repeat and self.state == "imported":
            told = [f"{self.name} was already imported on {self.imported_at:%Y-%m-%d} ({self.import_id}); no effect"]
        for line in self.lines:
            words = _VERDICTS[line["verdict"]]
            told.append(f"  {line['kind']}: {line['count']} {words}, {line['amount']} {line['currency']}")
        for line in self.ignored:
            told.append(f"  {line['kind']}: {line['count']} left alone, {line['amount']} {line['currency']}")
        for one in self.statements:
            period = f"{one['from_on'] or '?'} to {one['through_on'] or '?'}"
            checks = f"agrees with {', '.join(one['checks'])}" if one["checks"] else "has no control records"
            balances = f", {one['opening']} to {one['closing']} {one['currency']}" if one["closing"] else ""
            told.append(f"  account {one['account']}, {period}{balances}: {checks}")
        if self.watermark:
            told.append(f"  cash watermark {self.watermark}")
        return told


_VERDICTS: Final = {
    "new": "new",
    "known": "already known",
    "conflict": "told otherwise before (conflict, not imported)",
    "unmatched": "of no payment that is known (not imported)",
    "refused": "refused by the ledger (not imported)",
}


def shipped_mappings() -> tuple[Mapping, ...]:
    """The mappings that come with the product."""
    return statements.presets()


def report_of(row: Any, counts: Sequence[Any], *, is_repeat: bool = False) -> Report:
    """What is told of an import, from its row and the counts of its lines."""
    return Report(
        import_id=row.import_id,
        company=row.company,
        name=row.name,
        format=row.format,
        mapping=row.mapping,
        state=row.state,
        lines=tuple(
            {
                "kind": count.kind,
                "verdict": count.verdict,
                "count": count.count,
                "amount": str(to_decimal(count.amount, count.currency)),
                "currency": count.currency,
            }
            for count in counts
        ),
        ignored=tuple(row.ignored),
        statements=tuple(row.statements),
        watermark=row.watermark,
        imported_at=row.imported_at,
        undone_at=row.undone_at,
        is_repeat=is_repeat,
    )


def read_mapping(text: str, *, name: str = "mapping") -> Mapping:
    """A mapping from its YAML or JSON.

    Raises:
        StatementError: with the key that is wrong.
    """
    try:
        return Mapping.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        raise StatementError(file=name, line=line, name="mapping", expected="YAML", found=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "mapping"
        raise StatementError(
            file=name, line=0, name=key, expected="{problem}", values={"problem": first["msg"]}, found=first["input"]
        ) from error


@dataclass(frozen=True, slots=True)
class Importer:
    """Takes bank files in, and out again.

    A file is staged in one transaction, so that a wrong one leaves nothing. Its lines are booked some
    at a time, because one transaction of fifty thousand payments would keep everybody else waiting;
    an import that a crash cut short goes on where it stopped (`resume`), and no other file of the
    company begins before it has ended.
    """

    database: Database
    companies: Companies
    evaluation_hour: int

    # ------------------------------------------------------------------ check

    async def check(
        self,
        path: Path,
        *,
        name: str,
        by: str,
        company: str | None = None,
        format_: Format | None = None,
        mapping: str | None = None,
        account: str | None = None,
    ) -> Report:
        """Read a whole file, hold it against its control records, and say of each movement what it would be.

        Nothing of it is in the ledger afterwards; `run` imports it.

        Raises:
            StatementError: the file is refused as a whole; nothing of it is kept.
            PaymentsError: company, account or mapping are not known.
        """
        sha256 = await asyncio.to_thread(_digest, path, name)
        chosen = format_ or await _detected(path, name)
        async with self.database.transaction() as tx:
            profile = None if company is None else self._profile(company)
            columns = await self._mapping(tx, profile, mapping)
            items = statements.read(path, name=name, format_=chosen, mapping=columns, account=account)
            first = await asyncio.to_thread(lambda: list(islice(items, _STAGE_AT_ONCE)))
            profile = profile or self._company_of(first, name=name)
            known = await repository.import_of_content(tx, company=profile.company, sha256=sha256)
            if known is not None:
                return await self._report(tx, known, is_repeat=True)
            await repository.forget_checks(tx, company=profile.company, days=_KEEP_CHECKS_DAYS)
            import_id = new_id()
            await repository.open_import(
                tx,
                import_id=import_id,
                company=profile.company,
                name=name[:200],
                sha256=sha256,
                format=chosen,
                mapping=None if columns is None else columns.name,
                checked_by=by,
            )
            staging = _Staging(profile, self.companies, name, None if account is None else account_of(account))
            await self._stage(tx, import_id, staging, first, items)
            await repository.judge_lines(tx, import_id=import_id)
            return await self._report(tx, import_id)

    async def _stage(
        self, tx: Transaction, import_id: UUID, staging: _Staging, first: list[Item], items: Iterator[Item]
    ) -> None:
        block = first
        while block:
            lines = await asyncio.to_thread(staging.take, block)
            await repository.stage_lines(tx, import_id=import_id, company=staging.profile.company, lines=lines)
            block = await asyncio.to_thread(lambda: list(islice(items, _STAGE_AT_ONCE)))
        await repository.close_staging(
            tx,
            import_id=import_id,
            statements=json.dumps([_told_statement(statement) for statement in staging.statements]),
            ignored=json.dumps(staging.ignored()),
        )

    def _profile(self, company: str) -> CompanyProfile:
        profile = self.companies.get(company)
        if profile is None:
            known = ", ".join(p.company for p in self.companies)
            raise UnknownCompanyError(f"no company {company!r} here; these are known: {known}", pointer="/company")
        return profile

    def _company_of(self, items: Sequence[Item], *, name: str) -> CompanyProfile:
        """Whose account the file is of: the only company, or the one that names the account in its profile."""
        profiles = list(self.companies)
        owners = [p for p in profiles if any(_is_of(p, item.account) for item in items[:1])]
        if len(profiles) == 1 or len(owners) == 1:
            return (owners or profiles)[0]
        found = items[0].account if items else "an empty file"
        raise StatementError(
            file=name, line=0, name="company", expected="the company (--company), for no payment instructions in "
            "companies.yaml name this account", found=found,
        )  # fmt: skip

    async def _mapping(self, tx: Transaction, profile: CompanyProfile | None, name: str | None) -> Mapping | None:
        if name is None:
            return None
        if profile is not None:
            saved = await repository.mapping(tx, company=profile.company, name=name)
            if saved is not None:
                return Mapping.model_validate(saved)
        shipped = {mapping.name: mapping for mapping in statements.presets()}
        if name in shipped:
            return shipped[name]
        raise BankImportUnknownError(
            f"no mapping {name!r}{'' if profile is None else f' of {profile.company}'}; shipped are:"
            f" {', '.join(shipped)}; one of a company needs --company"
        )

    async def _report(self, tx: Transaction, import_id: UUID, *, is_repeat: bool = False) -> Report:
        row = await repository.lock_import(tx, import_id=import_id, company=None)
        return report_of(row, await repository.import_counts(tx, import_id=import_id), is_repeat=is_repeat)

    # ------------------------------------------------------------------ import

    async def run(self, import_id: UUID, *, company: str | None = None) -> Report:
        """Import a checked file; one that is imported already stays as it is.

        Raises:
            BankImportUnknownError: there is none of that id.
            BankImportRefusedError: it was undone, or another file of the company is on its way.
        """
        async with self.database.transaction() as tx:
            row = await self._locked(tx, import_id, company)
            match row.state:
                case "checked":
                    known = await repository.import_of_content(tx, company=row.company, sha256=row.sha256)
                    if known is not None:
                        return await self._report(tx, known, is_repeat=True)
                    await self._require_free(tx, row.company)
                    # Since the check, other files may have told the same.
                    await repository.judge_lines(tx, import_id=import_id)
                    await repository.set_import_state(tx, import_id=import_id, state="importing")
                case "importing":
                    pass
                case "imported":
                    return await self._report(tx, import_id, is_repeat=True)
                case _:
                    raise BankImportRefusedError(
                        f"import {import_id} is {row.state}; check the file again to import it"
                    )
        while await self.import_some(import_id):
            pass
        async with self.database.transaction() as tx:
            return await self._report(tx, import_id)

    async def import_some(self, import_id: UUID) -> bool:
        """Book the next lines; the last call ends the import. Returns whether there is more to do."""
        async with self.database.transaction() as tx:
            row = await self._locked(tx, import_id, None)
            if row.state != "importing":
                return False
            lines = await repository.lines_to_import(tx, import_id=import_id, most=_BOOK_AT_ONCE)
            if not lines:
                await repository.set_import_state(tx, import_id=import_id, state="imported")
                words = await self._move_watermark(tx, row)
                await repository.note_watermark(tx, import_id=import_id, words=words)
                return False
            events = [_event(_payment_or_reversal(row.company, line), f"{import_id}/{line.position}") for line in lines]
            outcomes = await Bookkeeper(self.companies).book(tx, events)
            receipts: dict[int, UUID] = {}
            notes: dict[int, str] = {}
            for line, event in zip(lines, events, strict=True):
                outcome = outcomes[event.id]
                if isinstance(outcome, PaymentsError):
                    notes[line.position] = outcome.detail
                else:
                    receipts[line.position] = identifiers.payment_id(
                        Company(row.company), BANK, ExternalId(line.external_id)
                    )
            await repository.mark_imported(tx, import_id=import_id, receipts=receipts)
            await repository.mark_refused(tx, import_id=import_id, notes=notes)
            return True

    async def _locked(self, tx: Transaction, import_id: UUID, company: str | None) -> Any:
        row = await repository.lock_import(tx, import_id=import_id, company=company)
        if row is None:
            raise BankImportUnknownError(f"no import {import_id}{'' if company is None else f' of {company}'}")
        return row

    async def _require_free(self, tx: Transaction, company: str) -> None:
        busy = await repository.busy_import(tx, company=company)
        if busy is not None:
            raise BankImportRefusedError(f"import {busy} of {company} is on its way; try again when it has ended")

    async def _move_watermark(self, tx: Transaction, row: Any) -> str:
        """Cash is known through the last complete day of the statements, where that is certain.

        The feed has the name of the account. It is moved when the company has no other account, or
        when the feed is told of already; otherwise nobody said that this account is all there is.
        """
        profile = self._profile(row.company)
        complete = [told for told in row.statements if told["is_complete"] and told["through_on"]]
        if not complete:
            return "not moved: the file does not say through which day it is complete"
        known = await repository.feeds(tx, company=row.company)
        own = {_digits(instructions.account) for instructions in profile.payment_instructions}
        yesterday = evaluation_date(tx.now, profile.zone, from_hour=self.evaluation_hour) - timedelta(days=1)
        words = []
        for told in complete:
            feed = told["account"].lower()
            is_only = len(own) == 1 and _is_of(profile, told["account"])
            if not is_only and feed not in known:
                words.append(
                    f"not moved: {told['account']} is not the company's only account; a cash-watermark with feed"
                    f" {feed!r}, told once, lets imports move it"
                )
                continue
            through_on = min(date.fromisoformat(told["through_on"]), yesterday)
            watermark = ingress.CashWatermark(
                company=Company(row.company), system=BANK, feed=feed, through_on=through_on, stated_at=tx.now
            )
            event = _event(watermark, f"{row.import_id}/{feed}/{through_on}")
            outcome = (await Bookkeeper(self.companies).book(tx, [event]))[event.id]
            words.append(f"feed {feed}: {'' if outcome == 'accepted' else 'was already '}through {through_on}")
        return "; ".join(words)

    # ------------------------------------------------------------------ undo

    async def undo(self, import_id: UUID, *, by: str, company: str | None = None) -> Report:
        """Take every payment of an import back; one that is undone stays as it is.

        Raises:
            BankImportUnknownError: there is none of that id.
            BankImportRefusedError: money of it was refunded, it reversed a payment of another import,
                it was never imported, or another file of the company is on its way.
        """
        async with self.database.transaction() as tx:
            row = await self._locked(tx, import_id, company)
            match row.state:
                case "imported":
                    await self._require_free(tx, row.company)
                    await self._require_undoable(tx, import_id)
                    await repository.set_import_state(tx, import_id=import_id, state="undoing", by=by)
                case "undoing":
                    pass
                case "undone":
                    return await self._report(tx, import_id, is_repeat=True)
                case _:
                    raise BankImportRefusedError(f"import {import_id} is {row.state}, there is nothing to undo yet")
        while await self.undo_some(import_id):
            pass
        async with self.database.transaction() as tx:
            return await self._report(tx, import_id)

    async def _require_undoable(self, tx: Transaction, import_id: UUID) -> None:
        obstacles = await repository.obstacles_to_undo(tx, import_id=import_id)
        if obstacles:
            words = "; ".join(
                f"line {one.line}: "
                + (
                    f"money of payment {one.external_id} was refunded"
                    if one.why == "refunded"
                    else f"it reversed payment {one.external_id} of another import, and a reversal cannot be taken back"
                )
                for one in obstacles
            )
            raise BankImportRefusedError(f"import {import_id} cannot be undone: {words}")

    async def undo_some(self, import_id: UUID) -> bool:
        """Take the next lines back; the last call ends it. Returns whether there is more to do."""
        async with self.database.transaction() as tx:
            row = await self._locked(tx, import_id, None)
            if row.state != "undoing":
                return False
            lines = await repository.lines_to_undo(tx, import_id=import_id, most=_BOOK_AT_ONCE)
            if not lines:
                await repository.set_import_state(tx, import_id=import_id, state="undone")
                return False
            today = evaluation_date(tx.now, self._profile(row.company).zone, from_hour=self.evaluation_hour)
            events = [
                _event(_reversal(row.company, line.external_id, today, "error"), f"{import_id}/{line.position}/undone")
                for line in lines
                if line.kind == "credit" and not line.is_reversed
            ]
            for outcome in (await Bookkeeper(self.companies).book(tx, events)).values():
                if isinstance(outcome, PaymentsError):
                    raise outcome
            await repository.mark_undone(tx, import_id=import_id, positions=[line.position for line in lines])
            return True

    async def resume(self) -> bool:
        """Go on with imports that were cut short; returns whether there is more to do."""
        async with self.database.transaction() as tx:
            unfinished = await repository.unfinished_imports(tx)
        more = False
        for import_id, state in unfinished:
            more |= await (self.import_some(import_id) if state == "importing" else self.undo_some(import_id))
        return more

    # ------------------------------------------------------------------ mappings

    async def save_mapping(self, company: str, mapping: Mapping, *, by: str) -> None:
        """Keep a mapping under its name, in place of the one before.

        Raises:
            UnknownCompanyError: this deployment does not collect for the company.
        """
        profile = self._profile(company)
        async with self.database.transaction() as tx:
            await repository.save_mapping(
                tx, company=profile.company, name=mapping.name, mapping=mapping.model_dump_json(), by=by
            )


class _Staging:
    """Turns the items of one file into lines to stage, and counts what is left alone."""

    def __init__(self, profile: CompanyProfile, companies: Companies, name: str, account: str | None) -> None:
        self.profile = profile
        self.statements: list[Statement] = []
        self._others = [other for other in companies if other.company != profile.company]
        self._name = name
        self._account = account
        self._identifier = Identifier()
        self._position = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sums: Counter[tuple[str, str]] = Counter()

    def take(self, items: Sequence[Item]) -> list[StagedLine]:
        lines = []
        for item in items:
            self._require_account(item)
            if isinstance(item, Statement):
                self.statements.append(item)
            elif item.kind in BOOKED_KINDS:
                self._position += 1
                lines.append(self._line(self._identifier.identify(item)))
            else:
                self._counts[item.kind, item.currency] += 1
                self._sums[item.kind, item.currency] += item.amount
        return lines

    def ignored(self) -> list[dict[str, Any]]:
        return [
            {
                "kind": kind,
                "currency": currency,
                "count": count,
                "amount": str(to_decimal(self._sums[kind, currency], currency)),
            }
            for (kind, currency), count in sorted(self._counts.items())
        ]

    def _require_account(self, item: Item) -> None:
        line = item.line if isinstance(item, Movement) else 0
        if self._account is not None and item.account != self._account:
            raise StatementError(
                file=self._name,
                line=line,
                name="account",
                expected="{account}",
                values={"account": self._account},
                found=item.account,
            )
        if not _is_of(self.profile, item.account):
            owner = next((other for other in self._others if _is_of(other, item.account)), None)
            if owner is not None:
                raise StatementError(
                    file=self._name,
                    line=line,
                    name="account",
                    expected="an account of {company}",
                    values={"company": self.profile.company},
                    found=f"{item.account}, which is an account of {owner.company}",
                )

    def _line(self, identified: Identified) -> StagedLine:
        told = identified.movement
        try:
            payment = _payment(self.profile.company, told, identified.identity[:32])
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise StatementError(
                file=self._name,
                line=told.line,
                name=name,
                expected="{problem}",
                values={"problem": first["msg"]},
                found=first["input"],
            ) from error
        return StagedLine(
            position=self._position,
            line=told.line,
            account=told.account,
            identity=identified.identity,
            entry_ref=told.entry_ref,
            kind=told.kind,
            currency=told.currency,
            amount=told.amount,
            booked_on=told.booked_on,
            value_on=told.value_on,
            content=identified.content,
            told=payment.model_dump_json(),
            texts=json.dumps(told.texts),
            trace=json.dumps(told.trace),
        )


def _payment(company: str, told: Movement, external_id: str) -> ingress.PaymentReceived:
    payer = {
        name: text
        for name, text in (
            ("name", told.payer_name),
            ("account", told.payer_account),
            ("tax_id", told.payer_tax_id),
            ("to_account", told.to_account),
        )
        if text is not None
    }
    return ingress.PaymentReceived(
        company=Company(company),
        external=External(system=BANK, id=ExternalId(external_id)),
        payer=ingress.Payer(**payer) if payer else None,
        amount=Money.from_minor(told.amount, told.currency),
        value_on=told.value_on,
        booked_on=told.booked_on,
        method=told.method,
        references=told.references,
        remittance=tuple(
            RemittanceLine(reference=reference, amount=Money.from_minor(amount, told.currency))
            for reference, amount in told.remittance
        ),
    )


def _payment_or_reversal(company: str, line: Any) -> Payload:
    if line.kind == "reversal":
        return _reversal(company, line.external_id, line.value_on, "returned")
    return ingress.PaymentReceived.model_validate({**line.told, "external": {"system": BANK, "id": line.external_id}})


def _reversal(company: str, external_id: str, on: date, reason: str) -> ingress.PaymentReversed:
    return ingress.PaymentReversed(
        company=Company(company),
        external=External(system=BANK, id=ExternalId(external_id)),
        reversed_on=on,
        reason=reason,
    )


def _event(payload: Payload, external_event_id: str) -> Event:
    return Event.of(erp_event(payload, external_event_id=external_event_id, system=BANK), offset=0)


def _told_statement(told: Statement) -> dict[str, Any]:
    def money(minor: int | None) -> str | None:
        return None if minor is None else str(to_decimal(minor, told.currency))

    return {
        "account": told.account,
        "currency": told.currency,
        "from_on": None if told.from_on is None else told.from_on.isoformat(),
        "through_on": None if told.through_on is None else told.through_on.isoformat(),
        "is_complete": told.is_complete,
        "opening": money(told.opening),
        "closing": money(told.closing),
        "checks": list(told.checks),
    }


def _is_of(profile: CompanyProfile, account: str) -> bool:
    """Whether a company names the account in its payment instructions, whatever is written around the digits."""
    digits = _digits(account)
    return len(digits) >= _SHORTEST_ACCOUNT and any(
        digits == _digits(instructions.account) for instructions in profile.payment_instructions
    )


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isascii() and c.isdigit())


async def _detected(path: Path, name: str) -> Format:
    return await asyncio.to_thread(statements.detect_format, path, name=name)


def _digest(path: Path, name: str) -> bytes:
    size = path.stat().st_size
    if size > statements.MOST_BYTES:
        raise StatementError(
            file=name,
            line=0,
            name="size",
            expected="at most {most} MiB",
            values={"most": statements.MOST_BYTES >> 20},
            found=f"{size >> 20} MiB",
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
