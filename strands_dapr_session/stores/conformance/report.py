"""What a store can do, as found by trying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from strands_dapr_session.stores.conformance.checks import CHECKS, Violation, name_of, run_check

if TYPE_CHECKING:
    from strands_dapr_session.stores.base import StateStore, StoreCapabilities
    from strands_dapr_session.stores.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: Its name.
        passed: Whether the store keeps this part of the contract.
        detail: What was seen.
    """

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class CapabilityReport:
    """What a store can do. ``str()`` gives a text for people.

    Attributes:
        store: Its name.
        capabilities: What it says of itself.
        findings: One for each check.
    """

    store: str
    capabilities: StoreCapabilities
    findings: tuple[Finding, ...]

    @property
    def conforms(self) -> bool:
        """Whether it keeps the whole contract."""
        return all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        width = max(len(finding.check) for finding in self.findings)
        lines = [f"{self.store}: {'conforms' if self.conforms else 'DOES NOT CONFORM'}"]
        lines += [
            f"  {'pass' if finding.passed else 'FAIL'}  {finding.check:{width}}  {finding.detail}".rstrip()
            for finding in self.findings
        ]
        return "\n".join(lines)


async def run_conformance(store: StateStore, retry: RetryPolicy | None = None) -> CapabilityReport:
    """Try everything that the contract of `StateStore` promises. Takes seconds, and leaves no keys behind.

    Args:
        store: The store; it is opened.
        retry: How long to go on while it gives no answer.

    Returns:
        What was found. A violation is no error here.

    Raises:
        StoreError: The store cannot be opened.
    """
    await store.open()
    findings = []
    for check in CHECKS:
        try:
            findings.append(Finding(name_of(check), passed=True, detail=await run_check(store, check, retry)))
        except Violation as violation:
            findings.append(Finding(name_of(check), passed=False, detail=str(violation)))
        except Exception as error:  # noqa: BLE001 - a store that is tried out may raise anything
            findings.append(Finding(name_of(check), passed=False, detail=repr(error)))
    return CapabilityReport(store.name, store.capabilities, tuple(findings))
