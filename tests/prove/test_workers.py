"""A slice of the campaign of the workers, in every test run."""

from __future__ import annotations

import pytest

from tests.prove.workers import CAMPAIGN

pytestmark = pytest.mark.newest_dependencies  # Dapr's workflow SDK is a part of dapr since 1.19.


def test_every_run_finishes_once_whatever_happens_to_its_workers() -> None:
    result = CAMPAIGN.main(["--seeds", "7", "--runs", "40", "--at-once", "8", "--every", "0.6"])
    assert not result["violations"]
    assert not result["never_fired"]
    assert result["runs"] == 40
