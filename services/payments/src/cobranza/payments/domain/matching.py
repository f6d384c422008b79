"""Whose money it is and what it pays, by named rules: proposals with reasons, and which of them need no person."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import combinations
from typing import Final, Literal, NamedTuple
from uuid import UUID

from cobranza.payments.domain.allocation import OLDEST_DUE

Basis = Literal["told", "virtual_account", "reference", "account", "tax_id", "name", "similar_name"]
Difference = Literal["small_balance", "discount"]
CheckDigits = Literal["none", "luhn", "mod97"]

#: How alike two names must be, from 0 to 100.
ALIKE: Final = 92.0
#: The search for debts that sum to an amount looks at this many, oldest due first …
MOST_DEBTS: Final = 20
#: … and takes at most this many of them.
MOST_IN_SUM: Final = 5
#: A shorter number in a text is as likely a date or a street.
_SHORTEST_NUMBER: Final = 3
_MOST_WORDS: Final = 60
_WORDS_IN_NUMBER: Final = 3
_SHORTEST_NAME: Final = 6
_RF_MODULUS: Final = 97
_LUHN_MODULUS: Final = 10
_RF_BODY: Final = 21

R1, R2, R3 = "r1-reference-exact@1", "r2-reference@1", "r3-remittance@1"
R4, R5, R6 = "r4-number-in-text@1", "r5-exact-debt@1", "r6-whole-account@1"
R7, R8, R9 = "r7-debts-in-sum@1", "r8-promise@1", OLDEST_DUE
R10 = "r10-amount-in-company@1"
R11, R12 = "r11-payment-claim@1", "r12-claimed-amount@1"

CONFIDENCE: Final[Mapping[str, Decimal]] = {
    R1: Decimal("1.00"),
    R2: Decimal("0.95"),
    R3: Decimal("0.98"),
    R4: Decimal("0.97"),
    R5: Decimal("0.90"),
    R6: Decimal("0.90"),
    R7: Decimal("0.80"),
    R8: Decimal("0.92"),
    R9: Decimal("0.60"),
    R10: Decimal("0.50"),
    R11: Decimal("0.93"),
    R12: Decimal("0.85"),
}
#: A person decides, however certain the rule is.
ONLY_SUGGESTED: Final = frozenset({R7, R10, R12})
#: Rules that follow what the payer wrote or said; the others must not contradict a reference that is not known yet.
BY_WORD: Final = frozenset({R1, R2, R3, R4, R11})


class Party(NamedTuple):
    """One customer as payers may call it; keys as `key_of` and `name_key` make them.

    `accounts` are those it pays from, `virtual_accounts` those on which it alone pays.
    """

    customer: str
    name: str
    tax_id: str | None = None
    accounts: frozenset[str] = frozenset()
    virtual_accounts: frozenset[str] = frozenset()


class Debt(NamedTuple):
    """An open receivable; `discount` is what may still be deducted today. Amounts in minor units."""

    receivable_id: UUID
    customer: str
    number: str
    open: int
    due_on: date
    is_charge: bool = False
    discount: int = 0
    place: int = 0


class Promise(NamedTuple):
    """What a customer promised to pay: minor units, and the days in which money counts as its keeping."""

    promise_id: UUID
    amount: int
    from_on: date
    through_on: date
    receivables: tuple[UUID, ...]


#: Days between what a debtor says and the bank's value date.
CLAIM_DAYS: Final = 5


class MadeClaim(NamedTuple):
    """What a customer says to have paid: minor units, and as far as known the day and the transfer's reference."""

    claim_id: UUID
    customer: str
    amount: int
    paid_on: date | None
    reference: str | None
    receivables: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """Money to be applied: `amount` minor units of one currency, and all that is known of its origin.

    `named` are debts that structured references name, `advised` what a remittance advice says for
    each, `texts` the bank's free text. `is_unresolved`: a reference names something that is not known. `check`: how the
    company's own references are checked.
    """

    amount: int
    value_on: date
    customer: str | None = None
    references: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    payer_name: str | None = None
    payer_account: str | None = None
    payer_tax_id: str | None = None
    to_account: str | None = None
    check: CheckDigits = "none"
    named: tuple[UUID, ...] = ()
    advised: tuple[tuple[UUID, int], ...] = ()
    is_unresolved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose money it is, and by what that is known."""

    customer: str
    basis: Basis
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What may be missing of a debt: at most `amount` minor units and at most `percent` of it."""

    amount: int = 0
    percent: Decimal = Decimal(0)

    def covers(self, difference: int, of: int) -> bool:
        """Whether `difference` minor units of a debt of `of` are small enough; both limits count."""
        return abs(difference) <= min(Decimal(self.amount), self.percent * of / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One way to apply money: which rule says so, how certain, what it saw, how much goes where.

    `differences` close what stays open of a debt: (receivable, why, minor units).
    """

    rule: str
    confidence: Decimal
    shares: Mapping[UUID, int]
    inputs: Mapping[str, object]
    customer: str | None
    differences: tuple[tuple[UUID, Difference, int], ...] = ()

    @property
    def amount(self) -> int:
        """All it applies, in minor units."""
        return sum(self.shares.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is applied by itself, and what waits for a person."""

    applied: Proposal | None
    suggested: tuple[Proposal, ...] = field(default=())


def key_of(text: str) -> str:
    """Letters and digits alone, in capitals: how accounts, tax ids and codes are compared."""
    return "".join(c for c in unicodedata.normalize("NFKD", text).upper() if c.isascii() and c.isalnum())


def name_key(name: str) -> str:
    """A name without accents, punctuation and legal form: how names are compared."""
    flat = unicodedata.normalize("NFKD", name).upper().replace(".", "")
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in flat if not unicodedata.combining(c)).split()
    while len(words) > 1 and _ends_in_legal_form(words):
        words = words[: -_ends_in_legal_form(words)]
    return " ".join(words)


_LEGAL_FORMS: Final = tuple(
    tuple(form.split())
    for form in (
        "SA DE CV", "S DE RL DE CV", "SAPI DE CV", "S DE RL", "SOCIEDAD ANONIMA", "SA", "SAS", "SPA", "SL", "SLU", "SAU",
        "LTDA", "LIMITADA", "EIRL", "AC", "SC", "INC", "LLC", "LTD", "GMBH",
    )
)  # fmt: skip


def _ends_in_legal_form(words: Sequence[str]) -> int:
    """How many words at the end are a legal form."""
    return next((len(f) for f in _LEGAL_FORMS if len(words) > len(f) and tuple(words[-len(f) :]) == f), 0)


def rf_reference(code: str) -> str:
    """The creditor reference of a customer's code, RF with two check digits.

    Source: ISO 11649, check digits by ISO 7064 MOD 97-10.

    Raises:
        ValueError: the code has no letter or digit, or more than 21.
    """
    body = key_of(code)
    if not 0 < len(body) <= _RF_BODY:
        raise ValueError(f"a creditor reference holds 1 to {_RF_BODY} letters and digits, not {body!r}")
    return f"RF{98 - _mod97(body + 'RF00'):02d}{body}"


def rf_code(reference: str) -> str | None:
    """The code in a creditor reference, or None when it is none or its check digits are wrong."""
    text = key_of(reference)
    if not text.startswith("RF") or not text[2:4].isdigit() or not 4 < len(text) <= 4 + _RF_BODY:  # noqa: PLR2004 - RFcc
        return None
    return text[4:] if _mod97(text[4:] + text[:4]) == 1 else None


def _mod97(text: str) -> int:
    return int("".join(str(int(c, 36)) for c in text)) % _RF_MODULUS


def checked_reference(code: str, check: CheckDigits) -> str:
    """A customer's code with the check digits at its end by which a bank notices a wrong one.

    Source: luhn, ISO/IEC 7812-1 annex B, letters as two digits as in ISO 6166; mod97, ISO 7064 MOD 97-10.
    """
    body = key_of(code)
    match check:
        case "none":
            return body
        case "luhn":
            return f"{body}{-_luhn(body + '0') % _LUHN_MODULUS}"
        case "mod97":
            return f"{body}{98 - _mod97(body + '00'):02d}"


def checked_code(reference: str, check: CheckDigits) -> str | None:
    """The code in a reference of the company's scheme, or None when its check digits are wrong."""
    text = key_of(reference)
    length = {"none": 0, "luhn": 1, "mod97": 2}[check]
    if not length or len(text) <= length or not text[-length:].isdigit():
        return None
    holds = _luhn(text) == 0 if check == "luhn" else _mod97(text) == 1
    return text[:-length] if holds else None


def _luhn(text: str) -> int:
    digits = "".join(str(int(c, 36)) for c in text)
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value  # noqa: PLR2004 - the sum of its digits
    return total % _LUHN_MODULUS


def reference_codes(references: Iterable[str], check: CheckDigits = "none") -> list[str]:
    """The customer codes that references may be: checked ones without their check digits, others as they stand."""
    return list(dict.fromkeys(code for r in references if (code := rf_code(r) or checked_code(r, check) or key_of(r))))


def words_of(texts: Iterable[str]) -> list[str]:
    """What may be a document's number in free text: words and up to three neighbours, as references are compared."""
    found: dict[str, None] = {}
    for text in texts:
        words = text.casefold().split()[:_MOST_WORDS]
        for length in range(1, _WORDS_IN_NUMBER + 1):
            for start in range(len(words) - length + 1):
                candidate = " ".join(words[start : start + length]).strip(".,;:#()[]'\"")
                if len(candidate) >= _SHORTEST_NUMBER and any(c.isdigit() for c in candidate):
                    found[candidate] = None
    return list(found)


def identify(
    incoming: Incoming, parties: Collection[Party], *, similarity: Callable[[str, str], float]
) -> Identity | None:
    """Whose money it is; the first sign that names exactly one customer decides, an ambiguous one decides nothing.

    Args:
        similarity: of two name keys, from 0 to 100.
    """
    if incoming.customer is not None:
        return Identity(customer=incoming.customer, basis="told", seen=incoming.customer)
    paid_to = key_of(incoming.to_account or "")
    codes = reference_codes(incoming.references, incoming.check)
    account = key_of(incoming.payer_account or "")
    tax_id = key_of(incoming.payer_tax_id or "")
    name = name_key(incoming.payer_name or "")
    signs: tuple[tuple[Basis, str, Callable[[Party], bool]], ...] = (
        ("virtual_account", paid_to, lambda party: paid_to in party.virtual_accounts),
        ("reference", ", ".join(codes), lambda party: key_of(party.customer) in codes),
        ("account", account, lambda party: account in party.accounts),
        ("tax_id", tax_id, lambda party: party.tax_id is not None and key_of(party.tax_id) == tax_id),
        ("name", name, lambda party: name_key(party.name) == name),
        (
            "similar_name",
            name if len(name) >= _SHORTEST_NAME else "",
            lambda party: similarity(name_key(party.name), name) >= ALIKE,
        ),
    )
    for basis, seen, fits in signs:
        found = {party.customer for party in parties if fits(party)} if seen else set()
        if len(found) == 1:
            return Identity(customer=found.pop(), basis=basis, seen=seen)
        if found:
            return None
    return None


def propose(
    incoming: Incoming,
    debts: Iterable[Debt],
    *,
    payer: Identity | None,
    in_text: Collection[UUID] = (),
    promises: Iterable[Promise] = (),
    claims: Iterable[MadeClaim] = (),
    tolerance: Tolerance = Tolerance(),
    today: date,
) -> list[Proposal]:
    """Every way the rules see to apply the money, best first; the order of the input changes nothing.

    Args:
        debts: open, in the money's currency: the payer's, those that are named, and for a payer who
            is not known those of the whole company.
        in_text: the debts whose number stands in the free text.
        today: the company's date, by which a debt is past due.
    """
    ordered = sorted(debts, key=lambda d: (d.is_charge, d.due_on, d.place, d.receivable_id))
    desk = _Rules(incoming, ordered, payer, tolerance, today)
    found: list[Proposal | None] = [
        *desk.by_reference(),
        desk.by_number_in_text(frozenset(in_text)),
        desk.by_promise(sorted(promises)),
        desk.by_claim(list(claims)),
    ]
    if payer is not None:
        exact = desk.by_exact_debt()
        found += [exact, desk.by_whole_account(), None if exact else desk.by_sum(), desk.by_age()]
    else:
        found.append(desk.by_amount_in_company())
    once: dict[tuple[tuple[UUID, int], ...], Proposal] = {}
    for proposal in sorted((p for p in found if p is not None), key=lambda p: (-p.confidence, p.rule)):
        once.setdefault(tuple(sorted(proposal.shares.items())), proposal)
    return list(once.values())


def decide(
    proposals: Sequence[Proposal], *, threshold: Decimal, fifo_auto: bool, is_unresolved: bool, by_people: bool = False
) -> Verdict:
    """Which proposal is applied by itself: the best one at or above the threshold that nothing contradicts.

    Args:
        is_unresolved: the payer named what is not known; only rules that follow the payer's words apply.
        by_people: a person undid or rejected something of this money; from then on people decide.
    """

    def may_apply(proposal: Proposal) -> bool:
        if by_people or proposal.rule in ONLY_SUGGESTED or (is_unresolved and proposal.rule not in BY_WORD):
            return False
        return fifo_auto if proposal.rule == R9 else proposal.confidence >= threshold

    able = [proposal for proposal in proposals if may_apply(proposal)]
    # Two rules of equal weight that say different things decide nothing.
    if len(able) > 1 and able[0].confidence == able[1].confidence:
        able = []
    applied = able[0] if able else None
    return Verdict(applied=applied, suggested=() if applied else tuple(proposals))


@dataclass(frozen=True, slots=True)
class _Rules:
    incoming: Incoming
    debts: list[Debt]
    payer: Identity | None
    tolerance: Tolerance
    today: date

    @property
    def _own(self) -> list[Debt]:
        return [d for d in self.debts if self.payer is not None and d.customer == self.payer.customer]

    def by_reference(self) -> list[Proposal | None]:
        named = [d for d in self.debts if d.receivable_id in self.incoming.named]
        advised = dict(self.incoming.advised)
        found: list[Proposal | None] = []
        if advised and sum(advised.values()) == self.incoming.amount:
            shares = {
                d.receivable_id: min(advised[d.receivable_id], d.open) for d in named if d.receivable_id in advised
            }
            if len(shares) == len(advised):
                found.append(self._proposal(R3, shares, named, advised=len(advised)))
        elif named and (closed := self._closing(sum(d.open for d in named), named)):
            found.append(self._proposal(R1, closed[0], named, differences=closed[1]))
        elif named:
            found.append(self._proposal(R2, self._spread(named), named))
        return found

    def by_number_in_text(self, in_text: frozenset[UUID]) -> Proposal | None:
        """Needs a known payer; the debts may be another customer's of the same company."""
        meant = [d for d in self.debts if d.receivable_id in in_text]
        if self.payer is None or not meant:
            return None
        closed = self._closing(sum(d.open for d in meant), meant)
        return self._proposal(R4, closed[0], meant, differences=closed[1]) if closed else None

    def by_exact_debt(self) -> Proposal | None:
        for fits in (
            lambda d: d.open == self.incoming.amount,
            lambda d: d.discount and d.open - d.discount == self.incoming.amount,
            lambda d: self.tolerance.covers(d.open - self.incoming.amount, d.open),
        ):
            found = [d for d in self._own if fits(d)]
            if len(found) == 1 and (closed := self._closing(found[0].open, found)):
                return self._proposal(R5, closed[0], found, differences=closed[1])
            if found:
                return None
        return None

    def by_whole_account(self) -> Proposal | None:
        for debts, what in ((self._own, "balance"), ([d for d in self._own if d.due_on < self.today], "past due")):
            if len(debts) > 1 and sum(d.open for d in debts) == self.incoming.amount:
                return self._proposal(R6, {d.receivable_id: d.open for d in debts}, debts, clears=what)
        return None

    def by_sum(self) -> Proposal | None:
        """The one set of old debts that sums to the amount; none when there are two such sets."""
        oldest = self._own[:MOST_DEBTS]
        found: tuple[Debt, ...] | None = None
        for size in range(2, min(MOST_IN_SUM, len(oldest)) + 1):
            for some in combinations(oldest, size):
                if sum(d.open for d in some) == self.incoming.amount:
                    if found is not None:
                        return None
                    found = some
        if found is None or len(found) == len(self._own):
            return None
        return self._proposal(R7, {d.receivable_id: d.open for d in found}, found, looked_at=len(oldest))

    def by_promise(self, promises: Sequence[Promise]) -> Proposal | None:
        if self.payer is None:
            return None
        kept = [
            p
            for p in promises
            if p.from_on <= self.incoming.value_on <= p.through_on
            and self.tolerance.covers(p.amount - self.incoming.amount, p.amount)
        ]
        if len(kept) != 1:
            return None
        debts = [d for d in self._own if d.receivable_id in kept[0].receivables]
        shares = self._spread(debts)
        return self._proposal(R8, shares, debts, promise=str(kept[0].promise_id)) if shares else None

    def by_claim(self, claims: Sequence[MadeClaim]) -> Proposal | None:
        """What a debtor says to have paid, found by amount and by day or reference; only one claim may fit."""
        texts = key_of(" ".join((*self.incoming.references, *self.incoming.texts)))
        fitting = []
        for claim in claims:
            named = key_of(claim.reference or "")
            is_named = len(named) >= _SHORTEST_NUMBER and named in texts
            in_time = claim.paid_on is None or abs((self.incoming.value_on - claim.paid_on).days) <= CLAIM_DAYS
            is_own = self.payer is not None and self.payer.customer == claim.customer
            if claim.amount == self.incoming.amount and (is_own or self.payer is None) and (is_named or in_time):
                fitting.append((claim, is_named or is_own))
        if len(fitting) != 1:
            return None
        claim, is_certain = fitting[0]
        debts = [
            d
            for d in self.debts
            if d.customer == claim.customer and (not claim.receivables or d.receivable_id in claim.receivables)
        ]
        shares = self._spread(debts)
        if not shares:
            return None
        rule = R11 if is_certain else R12
        return self._proposal(rule, shares, debts, customer=claim.customer, claim=str(claim.claim_id))

    def by_age(self) -> Proposal | None:
        shares = self._spread(self._own)
        return self._proposal(R9, shares, [d for d in self._own if d.receivable_id in shares]) if shares else None

    def by_amount_in_company(self) -> Proposal | None:
        found = [d for d in self.debts if d.open == self.incoming.amount]
        if len(found) != 1:
            return None
        return self._proposal(R10, {found[0].receivable_id: found[0].open}, found, customer=found[0].customer)

    def _closing(
        self, owed: int, debts: Sequence[Debt]
    ) -> tuple[dict[UUID, int], tuple[tuple[UUID, Difference, int], ...]] | None:
        """Shares that close the debts, and what closes the rest; None when the amount is not what they ask."""
        amount = self.incoming.amount
        if amount == owed:
            return {d.receivable_id: d.open for d in debts}, ()
        discounts = sum(d.discount for d in debts)
        if discounts and amount == owed - discounts:
            shares = {d.receivable_id: d.open - d.discount for d in debts}
            return shares, tuple((d.receivable_id, "discount", d.discount) for d in debts if d.discount)
        if not self.tolerance.covers(owed - amount, owed):
            return None
        if amount > owed:
            return {d.receivable_id: d.open for d in debts}, ()
        last, short = debts[-1], owed - amount
        if short >= last.open:
            return None
        shares = {d.receivable_id: d.open for d in debts} | {last.receivable_id: last.open - short}
        return shares, ((last.receivable_id, "small_balance", short),)

    def _spread(self, debts: Iterable[Debt]) -> dict[UUID, int]:
        left, shares = self.incoming.amount, {}
        for debt in debts:
            if share := min(left, debt.open):
                shares[debt.receivable_id] = share
                left -= share
        return shares

    def _proposal(
        self,
        rule: str,
        shares: dict[UUID, int],
        debts: Iterable[Debt],
        *,
        differences: tuple[tuple[UUID, Difference, int], ...] = (),
        customer: str | None = None,
        **seen: object,
    ) -> Proposal:
        payer = self.payer
        return Proposal(
            rule=rule,
            confidence=CONFIDENCE[rule],
            shares=shares,
            differences=differences,
            customer=payer.customer if payer else customer,
            inputs={
                "amount": self.incoming.amount,
                "value_on": self.incoming.value_on.isoformat(),
                "payer": None if payer is None else {"by": payer.basis, "seen": payer.seen},
                "debts": [{"number": d.number, "open": d.open, "due_on": d.due_on.isoformat()} for d in debts],
                **seen,
            },
        )
