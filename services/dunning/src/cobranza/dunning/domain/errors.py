"""Dunning's refusals.

DunningError
├── UnknownCompanyError      this deployment does not collect for the company
├── UnknownStepRunError      an outcome names a step run that was never requested
├── PolicyRefusedError       the policy file has faults
├── PolicyConflictError      another content under a version already loaded
├── UnknownPolicyError       no such policy version
├── MigrationRefusedError    a migration leaves an issued step without a place
├── TimelineRefusedError     a timeline to simulate has faults
├── PreviewRefusedError      the days of a preview or back-test are over, not in order, or too many
├── TrialsWaitingError       so many previews and back-tests wait already
├── TrialNotEndedError       a back-test has no result yet
├── UnknownTaskError         no such task
├── TaskRefusedError         the task ended otherwise already
├── UnknownHoldError         no such hold
├── HoldRefusedError         the hold breaks a rule
├── UnknownInvoiceError      nothing is known of the invoice
├── AgreementRefusedError    the promise, plan, dispute or hand-over breaks a rule
├── UnknownAgreementError    no such promise, plan, dispute or hand-over
└── AgreementEndedError      it ended otherwise already
"""

from __future__ import annotations

from typing import ClassVar


class DunningError(Exception):
    """A request or an event is refused; `facts` say with which values."""

    code: ClassVar[str] = "dunning_refused"
    status: ClassVar[int] = 422

    def __init__(self, detail: str, *, pointer: str | None = None, **facts: object) -> None:
        self.detail = detail
        self.pointer = pointer
        self.facts = facts
        super().__init__(detail)


class UnknownCompanyError(DunningError):
    """This deployment does not collect for the company."""

    code = "company_unknown"


class UnknownStepRunError(DunningError):
    """The outcome names a step run that was never requested."""

    code = "step_run_unknown"


class PolicyRefusedError(DunningError):
    """The policy file has faults; each is told with line and column."""

    code = "policy_refused"


class PolicyConflictError(DunningError):
    """This version was loaded before with other content; versions never change."""

    code = "policy_conflict"
    status = 409


class UnknownPolicyError(DunningError):
    """There is no such policy version."""

    code = "policy_unknown"
    status = 404


class MigrationRefusedError(DunningError):
    """A migration leaves an issued step of an open case without a place in the new version."""

    code = "migration_refused"


class TimelineRefusedError(DunningError):
    """A timeline to simulate has faults; each is told with line and column."""

    code = "timeline_refused"


class PreviewRefusedError(DunningError):
    """The days of a preview or a back-test are over, not in order, or too many."""

    code = "preview_refused"


class TrialsWaitingError(DunningError):
    """So many previews and back-tests of the company wait already."""

    code = "trials_waiting"
    status = 429


class TrialNotEndedError(DunningError):
    """The back-test has no result, or none yet."""

    code = "trial_not_ended"
    status = 409


class UnknownTaskError(DunningError):
    """There is no such task."""

    code = "task_unknown"
    status = 404


class TaskRefusedError(DunningError):
    """The task ended otherwise already."""

    code = "task_refused"
    status = 409


class UnknownHoldError(DunningError):
    """There is no such hold."""

    code = "hold_unknown"
    status = 404


class HoldRefusedError(DunningError):
    """The hold breaks a rule."""

    code = "hold_refused"


class UnknownInvoiceError(DunningError):
    """Nothing is known of the invoice."""

    code = "invoice_unknown"
    status = 404


class AgreementRefusedError(DunningError):
    """The promise, plan, dispute or hand-over breaks a rule."""

    code = "agreement_refused"


class UnknownAgreementError(DunningError):
    """There is no such promise, plan, dispute or hand-over."""

    code = "agreement_unknown"
    status = 404


class AgreementEndedError(DunningError):
    """The promise, plan or dispute ended otherwise already."""

    code = "agreement_ended"
    status = 409
