"""Bank files made up for tests, each with control records that agree."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

IBAN = "ES9121000418450200051332"


@dataclass(frozen=True)
class Entry:
    """One movement as a test thinks of it."""

    amount: str
    ref: str | None = None
    invoice: str | None = None
    text: str = ""
    mark: str = "CRDT"
    reversal: bool = False
    status: str = "BOOK"
    day: str = "2027-01-12"
    parts: tuple[tuple[str, str], ...] = ()
    payer: str = "Ferretería Núñez"
    end_to_end: str = "NOTPROVIDED"
    to_account: str = ""


def camt(*entries: Entry, kind: str = "053", account: str = IBAN, opening: str = "100.00", **changes: str) -> str:
    booked = [e for e in entries if e.status == "BOOK"]
    moved = sum((Decimal(e.amount) * (1 if e.mark == "CRDT" else -1) for e in booked), Decimal(0))
    closing = changes.get("closing", f"{Decimal(opening) + moved:.2f}")
    count = changes.get("count", str(len(entries)))
    currency = changes.get("currency", "EUR")
    root, element = ("BkToCstmrStmt", "Stmt") if kind == "053" else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    balances = "".join(
        f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy='{currency}'>{amount}</Amt>"
        f"<CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{changes.get('day', '2027-01-12')}</Dt></Dt></Bal>"
        for code, amount in (("OPBD", opening), ("CLBD", closing))
    )
    return (
        f"<?xml version='1.0' encoding='UTF-8'?>\n"
        f"<Document xmlns='urn:iso:std:iso:20022:tech:xsd:camt.{kind}.001.08'><{root}>\n<{element}><Id>1</Id>"
        f"<Acct><Id><IBAN>{account}</IBAN></Id><Ccy>{currency}</Ccy></Acct>{balances if kind == '053' else ''}"
        f"<TxsSummry><TtlNtries><NbOfNtries>{count}</NbOfNtries></TtlNtries></TxsSummry>\n"
        + "\n".join(_entry(entry, currency) for entry in entries)
        + f"\n</{element}></{root}></Document>"
    )


def _entry(entry: Entry, currency: str) -> str:
    reference = f"<AcctSvcrRef>{entry.ref}</AcctSvcrRef>" if entry.ref else ""
    parts = entry.parts or ((entry.amount, entry.invoice or ""),)
    paid_to = f"<CdtrAcct><Id><Othr><Id>{entry.to_account}</Id></Othr></Id></CdtrAcct>" if entry.to_account else ""
    details = "".join(
        f"<TxDtls><Refs><EndToEndId>{entry.end_to_end}</EndToEndId></Refs><Amt Ccy='{currency}'>{amount}</Amt>"
        f"<RltdPties><Dbtr><Pty><Nm>{entry.payer}</Nm></Pty></Dbtr>{paid_to}</RltdPties><RmtInf><Ustrd>{entry.text}</Ustrd>"
        + (f"<Strd><RfrdDocInf><Nb>{invoice}</Nb></RfrdDocInf></Strd>" if invoice else "")
        + "</RmtInf></TxDtls>"
        for amount, invoice in parts
    )
    return (
        f"<Ntry><Amt Ccy='{currency}'>{entry.amount}</Amt><CdtDbtInd>{entry.mark}</CdtDbtInd>"
        f"{'<RvslInd>true</RvslInd>' if entry.reversal else ''}<Sts><Cd>{entry.status}</Cd></Sts>"
        f"<BookgDt><Dt>{entry.day}</Dt></BookgDt><ValDt><Dt>{entry.day}</Dt></ValDt>{reference}"
        f"<NtryDtls>{details if entry.parts != (('', ''),) else ''}</NtryDtls></Ntry>"
    )


def norma43(*movements: tuple[str, str, str], account: str = "21000418450200051332", **changes: str) -> str:
    """Movements are (date YYMMDD, mark and fourteen digits, reference)."""
    bank, office, number = account[:4], account[4:8], account[-10:]
    opening = 10_000
    sums = {"1": 0, "2": 0}
    counts = {"1": 0, "2": 0}
    records = [f"11{bank}{office}{number}2701012701312{opening:014}978300000000000000000000000000"]
    for day, amount, reference in movements:
        mark, digits = amount[0], int(amount[1:])
        sums[mark] += digits
        counts[mark] += 1
        records.append(f"22    {office}{day}{day}02000{mark}{digits:014}{0:010}{reference:<12.12}{'':16}")
        records.append(f"2301{'TRANSFERENCIA NÚÑEZ':<38}{'':38}")
    closing = int(changes.get("closing", opening + sums["2"] - sums["1"]))
    records.append(
        f"33{bank}{office}{number}{counts['1']:05}{sums['1']:014}{counts['2']:05}{sums['2']:014}"
        f"{'2' if closing >= 0 else '1'}{abs(closing):014}978"
    )
    records.append(f"88{'9' * 18}{int(changes.get('count', len(records))):06}")
    return "\r\n".join(record.ljust(80) for record in records) + "\r\n"


def mt940(*lines: str, opening: str = "C270112EUR100,00", closing: str, account: str = IBAN) -> str:
    body = "\n".join((":20:STMT", f":25:{account}", ":28C:1/1", f":60F:{opening}", *lines, f":62F:{closing}", "-"))
    return body + "\n"
