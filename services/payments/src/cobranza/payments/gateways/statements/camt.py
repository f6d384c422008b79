"""camt.053 (statement) and camt.054 (notification) of ISO 20022, read as a stream without any document tree.

Source: field names of camt.053.001.08; older and newer versions differ in what is not read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final
from xml.parsers import expat  # a DTD is refused, so that no entity is ever declared

from cobranza.payments.domain.bank_transaction import (
    Item,
    Kind,
    Movement,
    Statement,
    Tally,
    account_of,
    cleaned,
    cleaned_all,
    in_minor,
)
from cobranza.payments.domain.errors import StatementError

_BLOCK: Final = 64 * 1024
_DEEPEST: Final = 40
_LONGEST_TEXT: Final = 10_000
_STATEMENTS: Final = {"Stmt": True, "Ntfctn": False}


@dataclass(slots=True)
class _Node:
    tag: str
    line: int
    currency: str | None = None
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def all(self, path: str) -> list[_Node]:
        """Every node at `path`, such as `Refs/EndToEndId`."""
        found = [self]
        for tag in path.split("/"):
            found = [child for node in found for child in node.children if child.tag == tag]
        return found

    def first(self, *paths: str) -> _Node | None:
        """The first node at the first of the paths that has one."""
        return next((node for path in paths for node in self.all(path)), None)

    def texts(self, *paths: str) -> list[str]:
        """The texts of every node at the paths."""
        return [node.text.strip() for path in paths for node in self.all(path)]

    def value(self, *paths: str) -> str | None:
        """The text at the first of the paths that has one."""
        return next((text for text in self.texts(*paths) if text), None)


@dataclass(slots=True)
class _Open:
    node: _Node
    is_statement: bool
    account: str = ""
    currency: str = ""
    tally: Tally = field(default_factory=Tally)
    # The bank's summary counts pending entries too, its balances do not.
    summary: Tally = field(default_factory=Tally)
    has_head: bool = False


def read(path: Path) -> Iterator[Item]:
    """Read the file; sums, counts and balances that it states are held against its entries.

    Raises:
        StatementError: it is no camt.053 or camt.054, an element is wrong, or a total differs.
    """
    reader = _Reader()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            reader.feed(block, final=False)
            yield from reader.taken()
        reader.feed(b"", final=True)
        yield from reader.taken()


class _Reader:
    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._stack: list[_Node] = []
        self._open: _Open | None = None
        self._items: list[Item] = []
        self._statements = 0

    def feed(self, block: bytes, *, final: bool) -> None:
        try:
            self._parser.Parse(block, final)
        except expat.ExpatError as error:
            raise _fault(error.lineno, "XML", "a well-formed document", expat.ErrorString(error.code)) from error
        except (UnicodeError, LookupError) as error:
            raise _fault(self._line, "XML", "UTF-8, UTF-16 or Latin-1", str(error)) from error
        if final and not self._statements:
            raise _fault(
                0, "file", "a camt.053 (BkToCstmrStmt/Stmt) or camt.054 (BkToCstmrDbtCdtNtfctn/Ntfctn)", "none"
            )

    def taken(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    @property
    def _line(self) -> int:
        return self._parser.CurrentLineNumber

    def _doctype(self, *_: object) -> None:
        raise _fault(self._line, "DOCTYPE", "no document type: banks send none", "one")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._stack) >= _DEEPEST:
            raise _fault(self._line, "XML", "at most {most} elements inside one another", "more", most=_DEEPEST)
        node = _Node(name.rpartition(":")[2], self._line, attributes.get("Ccy"))
        if self._stack:
            self._stack[-1].children.append(node)
        self._stack.append(node)
        if node.tag in _STATEMENTS and self._open is None:
            self._open = _Open(node, _STATEMENTS[node.tag])

    def _data(self, data: str) -> None:
        if self._stack and (self._stack[-1].text or not data.isspace()):
            node = self._stack[-1]
            if len(node.text) + len(data) > _LONGEST_TEXT:
                raise _fault(self._line, node.tag, "at most {most} characters", "more", most=_LONGEST_TEXT)
            node.text += data

    def _end(self, _name: str) -> None:
        node = self._stack.pop()
        told = self._open
        if told is None:
            # Outside of statements nothing is kept but the chain of open elements.
            node.children.clear()
        elif node is told.node:
            self._items.append(_closed(told, self._line))
            self._statements += 1
            self._open = None
            node.children.clear()
        elif node.tag == "Ntry" and self._stack[-1] is told.node:
            told.node.children.pop()
            if not told.has_head:
                _read_head(told)
            self._items.extend(_movements(told, node))


def _read_head(told: _Open) -> None:
    node = told.node
    account = node.value("Acct/Id/IBAN", "Acct/Id/Othr/Id")
    if account is None:
        raise _fault(node.line, "Acct/Id", "an IBAN or another account number before the entries", "none")
    told.account = account_of(account)
    told.currency = node.value("Acct/Ccy") or ""
    for balance in node.all("Bal/Amt"):
        told.currency = told.currency or balance.currency or ""
    told.has_head = True


def _movements(told: _Open, entry: _Node) -> list[Movement]:
    amount, currency = _amount(entry, "Ntry")
    told.currency = told.currency or currency
    if currency != told.currency:
        raise _fault(entry.line, "Ntry/Amt@Ccy", "{currency}, the account's currency", currency, currency=told.currency)
    mark = entry.value("CdtDbtInd")
    if mark not in {"CRDT", "DBIT"}:
        raise _fault(entry.line, "Ntry/CdtDbtInd", "CRDT or DBIT", mark or "nothing")
    is_credit = mark == "CRDT"
    is_pending = entry.value("Sts/Cd", "Sts/Prtry", "Sts") in {"PDNG", "INFO", "FUTR"}
    told.summary.add(amount, credit=is_credit)
    if not is_pending:
        told.tally.add(amount, credit=is_credit)
    kind: Kind
    if is_pending:
        kind = "pending"
    elif _is_true(entry.value("RvslInd")):
        kind = "returned_debit" if is_credit else "reversal"
    else:
        kind = "credit" if is_credit else "debit"
    details = entry.all("NtryDtls/TxDtls")
    if kind in {"credit", "reversal"} and details:
        amounts = [_detail_amount(detail, currency) for detail in details]
        if len(amounts) == 1 and amounts[0] is None:
            amounts = [amount]
        missing = next((detail for detail, part in zip(details, amounts, strict=True) if part is None), None)
        if missing is not None:
            raise _fault(
                missing.line,
                "TxDtls/Amt",
                "the amount in {currency} of each part of the batch",
                "none",
                currency=currency,
            )
        parts = [part for part in amounts if part is not None]
        if sum(parts) != amount:
            told.tally.check_money("sum of TxDtls", stated=amount, found=sum(parts), currency=currency, line=entry.line)
    else:
        details, parts = [_Node("TxDtls", entry.line)], [amount]
    return [
        _movement(told, entry, detail, part if part else 0, kind if part else "empty", is_batch=len(parts) > 1)
        for detail, part in zip(details, parts, strict=True)
    ]


def _movement(told: _Open, entry: _Node, detail: _Node, amount: int, kind: Kind, *, is_batch: bool) -> Movement:
    entry_ref = cleaned(entry.value("AcctSvcrRef"))
    own_ref = cleaned(detail.value("Refs/AcctSvcrRef"))
    value_on = _date(entry, "ValDt") or _date(entry, "BookgDt")
    if value_on is None:
        raise _fault(entry.line, "Ntry/ValDt", "a value or booking date", "none")
    references = detail.texts("RmtInf/Strd/CdtrRefInf/Ref", "RmtInf/Strd/RfrdDocInf/Nb", "Refs/EndToEndId")
    trace = [own_ref, None if is_batch else entry_ref]
    trace += detail.texts("Refs/EndToEndId", "Refs/TxId", "Refs/UETR", "Refs/InstrId", "Refs/MndtId")
    # The payer is the debtor; of a reversal the same party, told the same way.
    return Movement(
        line=detail.line,
        account=told.account,
        currency=told.currency,
        amount=amount,
        kind=kind,
        booked_on=_date(entry, "BookgDt") or value_on,
        value_on=value_on,
        bank_ref=own_ref if own_ref != entry_ref else None,
        entry_ref=entry_ref,
        references=cleaned_all(references),
        remittance=_remittance(detail, told.currency),
        texts=cleaned_all(
            (*detail.texts("RmtInf/Ustrd", "AddtlTxInf"), *entry.texts("AddtlNtryInf"), *detail.texts("Refs/ChqNb"))
        ),
        trace=cleaned_all(trace),
        payer_name=cleaned(
            detail.value(
                "RltdPties/Dbtr/Pty/Nm", "RltdPties/Dbtr/Nm", "RltdPties/UltmtDbtr/Pty/Nm", "RltdPties/UltmtDbtr/Nm"
            )
        ),
        payer_account=cleaned(detail.value("RltdPties/DbtrAcct/Id/IBAN", "RltdPties/DbtrAcct/Id/Othr/Id")),
        to_account=cleaned(detail.value("RltdPties/CdtrAcct/Id/IBAN", "RltdPties/CdtrAcct/Id/Othr/Id")),
        payer_tax_id=cleaned(
            detail.value(
                "RltdPties/Dbtr/Pty/Id/OrgId/Othr/Id",
                "RltdPties/Dbtr/Id/OrgId/Othr/Id",
                "RltdPties/Dbtr/Pty/Id/PrvtId/Othr/Id",
                "RltdPties/Dbtr/Id/PrvtId/Othr/Id",
            )
        ),
        method=_method(entry, detail),
    )


def _method(entry: _Node, detail: _Node) -> str:
    if detail.value("Refs/ChqNb"):
        return "cheque"
    match detail.value("BkTxCd/Domn/Fmly/Cd") or entry.value("BkTxCd/Domn/Fmly/Cd"):
        case "RDDT" | "IDDT":
            return "direct_debit"
        case "CCRD" | "MCRD":
            return "card"
        case "CNTR":
            return "cash"
        case "RCHQ" | "ICHQ":
            return "cheque"
        case _:
            return "transfer"


def _remittance(detail: _Node, currency: str) -> tuple[tuple[str, int], ...]:
    """Amounts that the payer states for a document, where one document has one."""
    lines = []
    for part in detail.all("RmtInf/Strd"):
        reference = cleaned(part.value("RfrdDocInf/Nb", "CdtrRefInf/Ref"))
        stated = part.first("RfrdDocAmt/RmtdAmt")
        if reference and stated is not None and stated.currency == currency:
            amount = in_minor(stated.text.strip(), currency, line=stated.line, name="RfrdDocAmt/RmtdAmt")
            if amount:
                lines.append((reference, amount))
    return tuple(lines[:200])


def _detail_amount(detail: _Node, currency: str) -> int | None:
    for path in ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt"):
        found = detail.first(path)
        if found is not None and found.currency == currency:
            return in_minor(found.text.strip(), currency, line=found.line, name=f"TxDtls/{path}")
    return None


def _amount(node: _Node, name: str) -> tuple[int, str]:
    found = node.first("Amt")
    if found is None:
        raise _fault(node.line, f"{name}/Amt", "an amount", "none")
    if found.currency is None:
        raise _fault(found.line, f"{name}/Amt@Ccy", "a currency", "none")
    return in_minor(found.text.strip(), found.currency, line=found.line, name=f"{name}/Amt"), found.currency


def _date(node: _Node, path: str) -> date | None:
    found = node.first(f"{path}/Dt", f"{path}/DtTm")
    return None if found is None else _day(found, path)


def _day(node: _Node, name: str) -> date:
    try:
        return date.fromisoformat(node.text.strip()[:10])
    except ValueError as error:
        raise _fault(node.line, name, "a date such as 2027-01-14", node.text.strip()[:40]) from error


def _is_true(text: str | None) -> bool:
    return text in {"true", "1"}


def _closed(told: _Open, line: int) -> Statement:
    if not told.has_head:
        _read_head(told)
    node, tally, summary = told.node, told.tally, told.summary
    for name, path, count, total in (
        ("TtlNtries", "TxsSummry/TtlNtries", summary.credits + summary.debits, summary.credit_sum + summary.debit_sum),
        ("TtlCdtNtries", "TxsSummry/TtlCdtNtries", summary.credits, summary.credit_sum),
        ("TtlDbtNtries", "TxsSummry/TtlDbtNtries", summary.debits, summary.debit_sum),
    ):
        _check_total(told, name, node.first(path), count, total)
    balances = {balance.value("Tp/CdOrPrtry/Cd"): balance for balance in node.all("Bal")}
    first, last = balances.get("OPBD") or balances.get("PRCD"), balances.get("CLBD")
    opening = None if first is None else _balance(first)
    closing = None if last is None else _balance(last)
    if opening is not None and closing is not None and last is not None and told.is_statement:
        found = opening + tally.credit_sum - tally.debit_sum
        tally.check_money("closing balance", stated=closing, found=found, currency=told.currency, line=last.line)
    start, end = node.first("FrToDt/FrDtTm", "FrToDt/FrDt"), node.first("FrToDt/ToDtTm", "FrToDt/ToDt")
    through_on = None if end is None else _day(end, "FrToDt")
    if last is not None and (closed := _date(last, "Dt")) is not None:
        through_on = closed
    if not told.currency:
        raise _fault(line, "Acct/Ccy", "the account's currency", "none")
    return Statement(
        account=told.account,
        currency=told.currency,
        from_on=None if start is None else _day(start, "FrToDt"),
        through_on=through_on,
        is_complete=told.is_statement and closing is not None,
        opening=opening,
        closing=closing,
        checks=tuple(tally.checks),
    )


def _check_total(told: _Open, name: str, stated: _Node | None, count: int, total: int) -> None:
    if stated is None:
        return
    number = stated.value("NbOfNtries")
    if number is not None:
        if not (number.isascii() and number.isdigit() and len(number) < 10):  # noqa: PLR2004 - a count
            raise _fault(stated.line, f"{name}/NbOfNtries", "a count", number)
        told.tally.check(f"{name}/NbOfNtries", stated=int(number), found=count, line=stated.line)
    sum_ = stated.first("Sum")
    if sum_ is not None and told.currency:
        amount = in_minor(sum_.text.strip(), told.currency, line=sum_.line, name=f"{name}/Sum")
        told.tally.check_money(f"{name}/Sum", stated=amount, found=total, currency=told.currency, line=sum_.line)


def _balance(node: _Node) -> int:
    amount, _ = _amount(node, "Bal")
    return -amount if node.value("CdtDbtInd") == "DBIT" else amount


def _fault(line: int, name: str, expected: str, found: str, **values: object) -> StatementError:
    return StatementError(line=line, name=name, expected=expected, values=values, found=found)
