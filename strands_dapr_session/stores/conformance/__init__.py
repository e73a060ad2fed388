"""Finds out whether a store keeps the contract of `StateStore`, by trying.

`run_conformance` is thorough, for those who write a store or set one up, and ends in a report. (`stores.probe` is the
quick check that every process makes.) With pytest, each check is a test:

    @pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
    def test_conformance(check):
        io_thread.run_sync(conformance.run_check(store, check))
"""

from strands_dapr_session.stores.conformance.checks import CHECKS, Check, Violation, name_of, run_check
from strands_dapr_session.stores.conformance.report import CapabilityReport, Finding, run_conformance

__all__ = [
    "CHECKS",
    "CapabilityReport",
    "Check",
    "Finding",
    "Violation",
    "name_of",
    "run_check",
    "run_conformance",
]
