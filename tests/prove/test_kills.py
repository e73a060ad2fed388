"""A slice of the real campaign; `make prove` runs more of it, `make prove-full` all."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.prove.kills.campaign import CAMPAIGN


@pytest.mark.parametrize(("stores", "seeds"), [("redis", range(3)), ("sqlite", range(100, 103))])
def test_sessions_survive(stores: str, seeds: range, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    options = Namespace(seeds=seeds, minutes=None, workers=1, state=state, expect_from=1, stores=stores)
    findings = CAMPAIGN.run(options)
    assert findings.violations == []
    assert findings.never_fired == []
    assert findings.runs == len(seeds)
    assert state.exists()
    assert CAMPAIGN.run(options).runs == len(seeds)  # and there is nothing left to do
