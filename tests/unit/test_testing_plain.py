"""What is compared of two runs, and what may differ."""

from __future__ import annotations

from typing import Any

from strands_dapr_session.testing.plain import in_any_order


def asked(*texts: str) -> list[Any]:
    return [{"role": "user", "content": [{"text": text} for text in texts]}]


def test_results_of_nodes_that_ran_together_may_come_in_any_order() -> None:
    one = asked("Original Task: t", "\nFrom n5:", "  - Agent: b\n", "  - Agent: a\n", "\nFrom n6:", "  - Agent: c\n")
    other = asked("Original Task: t", "\nFrom n5:", "  - Agent: a\n", "  - Agent: b\n", "\nFrom n6:", "  - Agent: c\n")
    assert in_any_order(one) == in_any_order(other) == other


def test_all_else_keeps_its_order() -> None:
    for texts in (("b", "a"), ("  - Agent: b", "x", "  - Agent: a"), ("\nFrom n6:", "\nFrom n5:", "  - Agent: b")):
        assert in_any_order(asked(*texts)) == asked(*texts)
    tools = [{"role": "assistant", "content": [{"toolUse": {"toolUseId": "1"}}, {"text": "  - Agent: b"}]}]
    assert in_any_order(tools) == tools
