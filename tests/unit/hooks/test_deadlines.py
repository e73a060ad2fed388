"""What is a deadline, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest

from strands_dapr_session import ConfigurationError, Deadlines, strands_compat

KINDS = ["tool", "model", "invocation", "silence"]


@pytest.fixture(autouse=True)
def _new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strands_compat, "AGENT_STREAM_STAGE", object())


def given(kind: str, seconds: Any) -> dict[str, Any]:
    return {"tools": {"a": seconds}} if kind == "tools" else {kind: seconds}


@pytest.mark.parametrize("seconds", [0, -1, -0.001, float("inf"), float("nan"), "1", True, [1]], ids=repr)
@pytest.mark.parametrize("kind", [*KINDS, "tools"])
def test_what_is_no_deadline(kind: str, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=kind):
        Deadlines(**given(kind, seconds))


@pytest.mark.parametrize("seconds", [0.001, 1, 10**9, None], ids=repr)
@pytest.mark.parametrize("kind", [*KINDS, "tools"])
def test_what_is_one(kind: str, seconds: Any) -> None:
    Deadlines(**given(kind, seconds))


def test_a_tool_that_is_named_has_its_own() -> None:
    deadlines = Deadlines(tool=5, tools={"quick": 1, "endless": None})
    assert [deadlines.of_tool(name) for name in ("quick", "endless", "other")] == [1, None, 5]


@pytest.mark.parametrize("kind", [*KINDS, "tools"])
def test_they_are_refused_where_strands_cannot_keep_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strands_compat, "AGENT_STREAM_STAGE", None)
    with pytest.raises(ConfigurationError, match=r"strands-agents 1\.62"):
        Deadlines(**given(kind, 1))
    Deadlines(**given(kind, None))
