"""A dunning policy: the ladder of steps and the rules that decide when each is taken.

These classes are the one schema of the policy file: their fields are its keys, and their annotations
say the type, the range and the default of each. `policy_file` reads a file by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Final, Literal

from cobranza.contracts.calendar import Roll
from cobranza.dunning.domain.condition import ALWAYS, Condition

Tone = Literal["friendly", "neutral", "firm", "formal", "legal"]
Kind = Literal["notice", "call", "task", "effect"]
Channel = Literal["email", "sms", "whatsapp", "letter", "certified_letter"]
CatchUpMode = Literal["collapse", "next", "none"]
Effect = Literal["fee", "interest", "credit_hold", "suspend_service", "credit_bureau", "agency", "legal", "write_off"]
Undoing = Literal["late_charge_waived", "release_credit_hold", "resume_service", "correct_bureau", "recall"]

#: From soft to hard.
TONES: Final[tuple[Tone, ...]] = ("friendly", "neutral", "firm", "formal", "legal")
HARDNESS: Final[Mapping[str, int]] = MappingProxyType({tone: place for place, tone in enumerate(TONES)})
#: Steps that the debtor notices as a contact: gap, limits and catch-up are about these.
CONTACTS: Final = frozenset({"notice", "call"})
#: Who tasks and approvals may be for.
ROLES: Final = frozenset(
    {"collector", "supervisor", "credit_manager", "finance", "operations", "policy_author", "admin", "auditor"}
)
#: Effects that nobody takes without a person's approval.
NEED_APPROVAL: Final = frozenset({"suspend_service", "credit_bureau", "agency", "legal", "write_off"})
#: Effects that cannot be taken back for the debtor: an earlier notice must have been delivered.
IRREVERSIBLE: Final = frozenset({"suspend_service", "credit_bureau", "agency", "legal"})
#: Days after which a notice that could not be sent is given up, unless its step says otherwise.
EXPIRES_AFTER_DAYS: Final = 5


# What annotations say of a value in the file.


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds, both inclusive."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Word:
    """Text of a form; `expected` says it in words."""

    pattern: str
    expected: str


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of the policy's currency, kept in minor units."""


@dataclass(frozen=True, slots=True)
class Percent:
    """A percent from 0 to 100."""


@dataclass(frozen=True, slots=True)
class ZoneName:
    """A time zone of the IANA database."""


@dataclass(frozen=True, slots=True)
class CurrencyCode:
    """A currency of ISO 4217."""


@dataclass(frozen=True, slots=True)
class Several:
    """A list, or one value alone; from `least` to `most` entries."""

    least: int
    most: int
    expected: str


#: Marks a field that is computed and no key of the file.
COMPUTED: Final[Mapping[str, bool]] = MappingProxyType({"computed": True})

Slug = Annotated[str, Word(r"[a-z0-9][a-z0-9_-]{0,63}", "up to 64 of a-z, 0-9, _ and -")]
Days60 = Annotated[int, Whole(0, 60)]
Minor = Annotated[int, Amount()]
Share = Annotated[Decimal, Percent()]


@dataclass(frozen=True, slots=True)
class Threshold:
    """Least amount (minor units) and least percent; both must be met."""

    amount: Minor = 0
    percent: Share = Decimal(0)


@dataclass(frozen=True, slots=True)
class Materiality:
    """What is worth a step: per item, in percent of its original amount; per case, of all that is open."""

    item: Threshold = Threshold()
    case: Threshold = Threshold()


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What happens when several unissued steps are due.

    Args:
        first_contact_max: the highest step that may be an item's first contact.
    """

    mode: CatchUpMode = "collapse"
    first_contact_max: Slug | None = None
    stale_after_days: Annotated[int, Whole(0, 365)] = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """Most automatic contacts of a case in a rolling window."""

    contacts: Annotated[int, Whole(1, 365)] = 12
    window_days: Annotated[int, Whole(1, 730)] = 90
    on_limit: Literal["task"] = "task"


@dataclass(frozen=True, slots=True)
class Goodwill:
    """A payment of at least this part of what was open lets the next step wait."""

    percent: Share
    days: Days60


@dataclass(frozen=True, slots=True)
class Cash:
    """How fresh cash must be, what the control total decides, and what unapplied credit does."""

    max_staleness_banking_days: Annotated[int, Whole(1, 30)] = 1
    control_total: Literal["required", "effects", "off"] = "effects"
    unapplied: Literal["net", "hold"] = "net"


@dataclass(frozen=True, slots=True)
class SelfService:
    """Promises the debtor may make alone."""

    max_days: Annotated[int, Whole(0, 365)]
    max_amount: Minor


@dataclass(frozen=True, slots=True)
class Promises:
    """Limits on promises to pay."""

    max_days: Annotated[int, Whole(1, 365)] = 15
    max_days_approved: Annotated[int, Whole(1, 365)] = 30
    grace_business_days: Annotated[int, Whole(0, 30)] = 2
    tolerance: Minor = 0
    max_broken: Annotated[int, Whole(0, 100)] = 2
    self_service: SelfService | None = None


@dataclass(frozen=True, slots=True)
class DefaultAfter:
    """When a payment plan is in default."""

    missed: Annotated[int, Whole(1, 12)] = 1
    days: Days60 = 5


@dataclass(frozen=True, slots=True)
class Plans:
    """Limits on payment plans."""

    max_instalments: Annotated[int, Whole(2, 60)] = 6
    default_after: DefaultAfter = DefaultAfter()
    age_by: Literal["original", "plan"] = "original"


@dataclass(frozen=True, slots=True)
class Disputes:
    """What a dispute stops, and how long it may take by its type."""

    hold: Literal["disputed_amount", "item"] = "disputed_amount"
    grace_days: Days60 = 5
    sla_business_days: Mapping[str, Annotated[int, Whole(1, 120)]] = field(
        default_factory=lambda: MappingProxyType({"default": 10})
    )


@dataclass(frozen=True, slots=True)
class Interest:
    """Late interest: by which rule, from which step it is shown, with which it is charged."""

    rule: Slug
    show_from: Slug | None = None
    charge_at: Slug | None = None


@dataclass(frozen=True, slots=True)
class Fee:
    """A charge that an effect step books once."""

    amount: Minor = 0
    percent: Share = Decimal(0)
    per: Literal["item", "case"] = "item"
    max: Minor | None = None
    settle: Literal["enforce", "waive_on_principal"] = "enforce"


@dataclass(frozen=True, slots=True)
class Requires:
    """What must have happened before a step.

    Args:
        issued: an earlier step, issued for the item.
        delivered: it must also have been delivered.
        term_days: full days that must have passed after its last run.
        evidence: documents that must be at hand.
    """

    issued: Slug | None = None
    delivered: bool = False
    term_days: Annotated[int, Whole(0, 365)] | None = None
    evidence: tuple[Slug, ...] = ()


@dataclass(frozen=True, slots=True)
class Approval:
    """Who must agree, from which dunnable amount of the case, and what follows when nobody answers."""

    role: Slug
    from_amount: Minor = 0
    expires_business_days: Annotated[int, Whole(1, 60)] = 3
    on_expiry: Literal["task", "skip"] = "task"


@dataclass(frozen=True, slots=True)
class StepTask:
    """What a person is asked to do by a call or task step."""

    kind: Slug
    role: Slug
    due_business_days: Days60 = 2
    attempts: Annotated[int, Whole(1, 20)] = 3
    blocking: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """How often the last notice is said again."""

    every_days: Annotated[int, Whole(1, 365)]
    max: Annotated[int, Whole(1, 5)]


@dataclass(frozen=True, slots=True)
class Undo:
    """What takes an effect back, and when."""

    effect: Undoing
    on: Literal["settled", "below_materiality"] = "settled"


@dataclass(frozen=True, slots=True)
class Step:
    """One rung of the ladder.

    Args:
        position: place in the policy, from 1.
        when: what must hold of the item and its customer.
        roll, min_gap_days, materiality: the policy's when None.
    """

    id: Slug
    offset: Annotated[int, Whole(-365, 730)]
    kind: Kind
    base: Literal["due", "issue", "previous"] = "due"
    unit: Literal["calendar", "business"] = "calendar"
    channel: Channel | None = None
    also: tuple[Channel, ...] = ()
    fallback: tuple[Channel, ...] = ()
    tone: Tone | None = None
    template: Slug | None = None
    script: Slug | None = None
    when: Condition = ALWAYS
    materiality: Materiality | None = None
    min_gap_days: Days60 | None = None
    roll: Roll | None = None
    requires: Requires | None = None
    requires_delivery: bool = False
    expires_after_days: Annotated[int, Whole(1, 30)] = EXPIRES_AFTER_DAYS
    on_unknown: Literal["assume_sent", "operator", "resend"] = "assume_sent"
    approval: Approval | None = None
    task: StepTask | None = None
    repeat: Repeat | None = None
    effect: Effect | None = None
    fee: Slug | None = None
    undo: Undo | None = None
    position: int = field(default=0, metadata=COMPUTED)


#: Keys that every kind of step may have, those that one kind must have, and those it may have.
COMMON_KEYS: Final = ("id", "offset", "base", "unit", "kind", "when", "materiality", "roll", "requires", "approval")
KIND_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = MappingProxyType(
    {
        "notice": (
            ("channel", "tone", "template"),
            ("also", "fallback", "min_gap_days", "requires_delivery", "expires_after_days", "on_unknown", "repeat"),
        ),
        "call": ((), ("tone", "script", "task", "min_gap_days")),
        "task": (("task",), ("script",)),
        "effect": (("effect",), ("fee", "undo", "task")),
    }
)


@dataclass(frozen=True, slots=True)
class EndTask:
    """What a person is asked when nothing is left to do."""

    kind: Slug
    role: Slug
    due_business_days: Days60 = 2


@dataclass(frozen=True, slots=True)
class End:
    """The mandatory end of the ladder."""

    after_days: Annotated[int, Whole(0, 365)]
    task: EndTask


@dataclass(frozen=True, slots=True)
class Policy:
    """One immutable version of a policy; it serves one company and one currency."""

    policy: Annotated[str, Word(r"[a-z0-9-]{3,48}", "3 to 48 of a-z, 0-9 and -")]
    version: Annotated[int, Whole(1, 1_000_000)]
    company: Annotated[str, Word(r"[a-z0-9-]{2,40}", "2 to 40 of a-z, 0-9 and -")]
    currency: Annotated[str, CurrencyCode()]
    timezone: Annotated[str, ZoneName()]
    calendar: Annotated[str, Word(r"[a-z]{2}(-[a-z0-9-]+)?", "a calendar such as mx-business")]
    languages: Annotated[
        tuple[Annotated[str, Word(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", "a language such as es-MX")], ...],
        Several(1, 20, "a list of languages such as [es-MX, en]"),
    ]
    effective_from: date
    contact_rules: Annotated[tuple[Slug, ...], Several(0, 20, "a list of contact rules such as [b2b-default]")]
    steps: Annotated[tuple[Step, ...], Several(1, 30, "a list of 1 to 30 steps")]
    end: End
    title: Annotated[str, Word(r"[^\x00-\x1f\x7f]{1,200}", "one line of text")] = ""
    applies_to: Condition = ALWAYS
    priority: Annotated[int, Whole(0, 1_000_000)] = 0
    grace_days: Days60 = 0
    min_gap_days: Days60 = 3
    roll: Roll = "following"
    release: Literal["automatic", "proposal"] = "automatic"
    catch_up: CatchUp = CatchUp()
    materiality: Materiality = Materiality()
    limits: Limits = Limits()
    goodwill: Goodwill | None = None
    reopen_grace_days: Annotated[int, Whole(0, 30)] = 5
    cash: Cash = Cash()
    promises: Promises = Promises()
    plans: Plans = Plans()
    disputes: Disputes = Disputes()
    interest: Interest | None = None
    fees: Mapping[str, Fee] = field(default_factory=lambda: MappingProxyType({}))

    def position_of(self, step: str | None) -> int | None:
        """Place of a step from 1; None when this version does not have it."""
        return next((known.position for known in self.steps if known.id == step), None)

    def language_for(self, wanted: str | None) -> str:
        """The policy's language nearest to the one a customer wants; the first is the default."""
        if wanted in self.languages:
            return str(wanted)
        primary = (wanted or "").partition("-")[0]
        return next((tag for tag in self.languages if tag.partition("-")[0] == primary), self.languages[0])
