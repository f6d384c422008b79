"""Why something was not done: one set of codes for permits, notices and decision records."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a contact, a step or an allocation did not happen.

    On the wire the set is open: a reader has a default branch for codes it does not know.
    """

    # Nothing is owed, or somebody else acts.
    SETTLED = "settled"  # the receivable has nothing open
    CANCELLED = "cancelled"  # its invoice was cancelled or replaced
    WRITTEN_OFF = "written_off"  # what was open was written off
    HANDED_OVER = "handed_over"  # the case is with an agency or a lawyer
    UNKNOWN_RECEIVABLE = "unknown_receivable"  # the ledger does not know the receivable yet

    # A stop is in force.
    ON_HOLD = "on_hold"  # a hold, promise, plan or dispute stops all that is open
    PROMISED = "promised"  # a promise to pay covers the amount
    PLANNED = "planned"  # a payment plan in good standing covers the amount
    DISPUTED = "disputed"  # the amount is disputed
    COVERED_BY_CREDIT = "covered_by_credit"  # unapplied credit covers all that is open
    PART_COVERED = "part_covered"  # unapplied credit covers a part; the net is claimed

    # What we know is not fresh or not trusted.
    CASH_STALE = "cash_stale"  # cash is not known through the day the policy asks for
    CONTROL_MISMATCH = "control_mismatch"  # the company's control total differs or is missing
    HOLDS_STALE = "holds_stale"  # payments has not read the newest holds
    INPUT_PARKED = "input_parked"  # input about this customer waits to be repaired
    PAYMENT_IN_FLIGHT = "payment_in_flight"  # a payment has been started and is not settled
    LEDGER_STOPPED = "ledger_stopped"  # the ledger does not balance; nobody is asked for money
    PAYMENTS_UNREACHABLE = "payments_unreachable"  # no answer to the permit request
    FACTS_CHANGED = "facts_changed"  # lines are left, but none of the notice's own step

    # The policy says not now.
    IN_GRACE = "in_grace"  # due, but inside the grace days
    NOT_DUE = "not_due"  # the step's date lies ahead
    MIN_GAP = "min_gap"  # the last contact is too recent
    ROLLED = "rolled"  # moved off a day that is not worked
    BELOW_ITEM = "below_item"  # the receivable is below the policy's materiality
    BELOW_CASE = "below_case"  # the case is below the policy's materiality
    WHEN_FALSE = "when_false"  # the step's condition does not hold
    REQUIRES_MISSING = "requires_missing"  # a step it requires was not issued
    TERM_RUNNING = "term_running"  # the term of a required step is not over
    APPROVAL_PENDING = "approval_pending"  # waits for a person
    APPROVAL_REFUSED = "approval_refused"  # a person said no
    APPROVAL_EXPIRED = "approval_expired"  # nobody answered in time
    CATCH_UP = "catch_up"  # a later step was issued in its place
    STALE = "stale"  # too old to be made up for
    CONTACT_LIMIT = "contact_limit"  # the policy's limit of contacts is used up
    REOPENED_GRACE = "reopened_grace"  # reopened by a reversal a short time ago
    GOODWILL = "goodwill"  # a substantial part was paid a short time ago
    RUN_OPEN = "run_open"  # a run of the step is still under way
    BEFORE_START = "before_start"  # before the company's dunning_start
    HOLDOUT = "holdout"  # the customer is in a trial's hold-out
    NO_POLICY = "no_policy"  # no policy applies to the case
    END_REACHED = "end_reached"  # the ladder has ended; a person decides
    BRAKED = "braked"  # an unusual number of notices waits for release
    UNREACHABLE = "unreachable"  # calls were tried as often as allowed
    TASK_EXPIRED = "task_expired"  # the task was not done in its time
    EXECUTION_REFUSED = "execution_refused"  # whoever executes it said no

    # Notifications could not, or must not, contact.
    NO_ADDRESS = "no_address"  # no usable contact point for the channel
    NO_CONSENT = "no_consent"  # the law or the provider asks for a consent that is missing
    OPTED_OUT = "opted_out"  # the contact point or the channel was closed by the debtor
    OUTSIDE_HOURS = "outside_hours"  # outside the hours in which contact is allowed
    NO_SLOT = "no_slot"  # contact rules leave no allowed moment before the notice expires
    EXPIRED = "expired"  # not sent before its expires_at
    SENDING_STOPPED = "sending_stopped"  # the stop switch of platform, company or channel is on
    CHANNEL_UNAVAILABLE = "channel_unavailable"  # the company has no such channel
    TEMPLATE_MISSING = "template_missing"  # no template for channel, language and tone
    RENDER_FAILED = "render_failed"  # the template could not be filled in
    BOUNCED = "bounced"  # the address does not exist or refuses for good
    PROVIDER_REFUSED = "provider_refused"  # the provider refused for good
    OUTCOME_UNKNOWN = "outcome_unknown"  # nobody can tell whether it was sent

    # Payments could not apply money.
    REFERENCE_UNKNOWN = "reference_unknown"  # the reference names nothing the ledger knows
    CURRENCY_DIFFERS = "currency_differs"  # paid in another currency than the debt's
    AMBIGUOUS_MATCH = "ambiguous_match"  # more than one receivable fits
    BELOW_THRESHOLD = "below_threshold"  # the match is too weak to apply by itself
    PAYER_UNKNOWN = "payer_unknown"  # nobody knows whose money it is

    # Payments could not charge lateness.
    RATE_REQUIRED = "rate_required"  # no rate was published for a day; none is guessed
    RULES_REQUIRED = "rules_required"  # no rules are in force, or not those the policy names
    NOTHING_DUE = "nothing_due"  # nothing more than was charged before, or below the least amount
    CAP_REACHED = "cap_reached"  # the law allows no more, or nothing yet
    CHARGED_BEFORE = "charged_before"  # the charge exists once, and it does already


FINAL_PERMIT_REFUSALS = frozenset({Reason.SETTLED, Reason.ON_HOLD, Reason.COVERED_BY_CREDIT})
"""Refusals that suppress the line: asking again later makes no sense for this run."""

TRANSIENT_PERMIT_REFUSALS = frozenset(
    {
        Reason.CASH_STALE,
        Reason.CONTROL_MISMATCH,
        Reason.HOLDS_STALE,
        Reason.INPUT_PARKED,
        Reason.PAYMENT_IN_FLIGHT,
        Reason.LEDGER_STOPPED,
        Reason.PAYMENTS_UNREACHABLE,
        # Invoices travel on another topic than the notice; the ledger hears of it a little later.
        Reason.UNKNOWN_RECEIVABLE,
    }
)
"""Refusals that leave the notice queued, with back-off, until it expires."""
