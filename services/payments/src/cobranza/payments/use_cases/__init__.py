"""What payments does, each in one transaction: load, decide, save, tell."""

from cobranza.payments.use_cases.bookkeeping import Bookkeeper, Outcome
from cobranza.payments.use_cases.charge_rules import RuleKeeper
from cobranza.payments.use_cases.control_totals import COMPARE, Expectation, compare_run
from cobranza.payments.use_cases.decisions import Decider
from cobranza.payments.use_cases.fiscal_receipts import REMIND, FiscalDesk, grouping_of
from cobranza.payments.use_cases.imports import Importer, Report
from cobranza.payments.use_cases.late_charges import Charger
from cobranza.payments.use_cases.matching import Matcher, Share, follow_claim, follow_promise
from cobranza.payments.use_cases.permits import Gatekeeper
from cobranza.payments.use_cases.stops import follow_stop
from cobranza.payments.use_cases.verification import check_interest, check_ledger

__all__ = [
    "COMPARE",
    "REMIND",
    "Bookkeeper",
    "Charger",
    "Decider",
    "Expectation",
    "FiscalDesk",
    "Gatekeeper",
    "Importer",
    "Matcher",
    "Outcome",
    "Report",
    "RuleKeeper",
    "Share",
    "check_interest",
    "check_ledger",
    "compare_run",
    "follow_claim",
    "follow_promise",
    "follow_stop",
    "grouping_of",
]
