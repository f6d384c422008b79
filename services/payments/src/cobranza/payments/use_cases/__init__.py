"""What payments does, each in one transaction: load, decide, save, tell."""

from cobranza.payments.use_cases.bookkeeping import Bookkeeper, Outcome
from cobranza.payments.use_cases.control_totals import COMPARE, Expectation, compare_run
from cobranza.payments.use_cases.fiscal_receipts import REMIND, FiscalDesk, grouping_of
from cobranza.payments.use_cases.imports import Importer, Report
from cobranza.payments.use_cases.matching import Matcher, Share, follow_promise
from cobranza.payments.use_cases.permits import Gatekeeper
from cobranza.payments.use_cases.stops import follow_stop
from cobranza.payments.use_cases.verification import check_ledger

__all__ = [
    "COMPARE",
    "REMIND",
    "Bookkeeper",
    "Expectation",
    "FiscalDesk",
    "Gatekeeper",
    "Importer",
    "Matcher",
    "Outcome",
    "Report",
    "Share",
    "check_ledger",
    "compare_run",
    "follow_promise",
    "follow_stop",
    "grouping_of",
]
