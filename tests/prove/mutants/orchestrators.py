"""Graphs, swarms and agents as tools."""

from __future__ import annotations

from tests.prove.mutants.mutant import Edit, Mutant

ORCHESTRATORS: tuple[Mutant, ...] = (
    Mutant(
        "finished_node_runs_again",
        "a node whose result is recorded is not run again",
        (
            Edit(
                "multiagent/visits.py",
                """\
        if node_id in run.finished:
            self._replay(run, node_id, node)
""",
                """\
        if node_id in run.finished and not node_id:
            self._replay(run, node_id, node)
""",
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_a_cut_makes_no_difference[graph]",),
    ),
    Mutant(
        "failed_nodes_not_cleared",
        "a graph that failed once and finishes is not called failed for ever",
        (
            Edit(
                "multiagent/graph.py",
                '"failed_nodes": [name for name in named("failed") if name not in batch],',
                '"failed_nodes": named("failed"),',
            ),
            Edit(
                "multiagent/graph.py",
                '"failed": [index for index in state["failed"] if index not in indexes],',
                '"failed": [index for index in state["failed"] if index not in indexes or index >= 0],',
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_a_node_that_failed_once_does_not_fail_the_run_for_ever",),
    ),
    Mutant(
        "handoff_lost",
        "the node that was chosen before a crash is the next one after it",
        (
            Edit(
                "multiagent/swarm.py",
                """\
        if self._handoff is not None and self._handoff["visit"] == token:
            self.hand_over(self._handoff)
""",
                """\
        if self._handoff is not None and self._handoff["visit"] == token:
            return
""",
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_a_cut_makes_no_difference[swarm]",),
    ),
    Mutant(
        "shared_context_lost",
        "what the agents of a swarm share survives",
        (
            Edit(
                "multiagent/swarm.py",
                """\
            self.orchestrator.shared_context.context = unpack_value(self._recorded[_SHARED])
""",
                """\
            self.orchestrator.shared_context.context = {}
""",
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_a_cut_makes_no_difference[swarm]",),
    ),
    Mutant(
        "structured_output_lost",
        "the structured output of a finished node is an object of its type again",
        (
            Edit(
                "hooks/results.py",
                """\
        if output.model_dump_json() == text:
            return output
""",
                """\
        if output.model_dump_json() == text:
            return None
""",
            ),
        ),
        ("tests/unit/multiagent/test_nodes.py::test_structured_output_reaches_the_next_prompt_unchanged",),
    ),
    Mutant(
        "end_of_an_agent_recorded_before_its_node",
        "a node's agent and the node itself finish in one commit",
        (
            Edit(
                "hooks/ownership.py",
                """\
            self._keep([*last, *totals])
            return
""",
                """\
            recording.journal.append(*last, *totals)
            return
""",
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_a_cut_makes_no_difference[graph]",),
    ),
    Mutant(
        "visits_mixed_up",
        "an unfinished invocation is resumed by the visit that began it",
        (
            Edit(
                "hooks/ownership.py",
                'return bool(read_status(found, key=key).get("visit") == visit)',
                'return bool(read_status(found, key=key).get("visit") or visit)',
            ),
        ),
        (
            "tests/unit/multiagent/test_cut_everywhere.py::test_a_cut_makes_no_difference_to_nodes_that_are_visited_again",
        ),
    ),
    Mutant(
        "task_not_compared",
        "another task does not silently finish the one that is unfinished",
        (
            Edit(
                "multiagent/root.py",
                """\
        if self.pack_task(task) == run.task or self._are_answers_again(run, task):
            return
""",
                """\
        if run.task:
            return
""",
            ),
        ),
        ("tests/unit/multiagent/test_policies.py::test_new_task_is_refused_and_the_unfinished_one_named",),
    ),
    Mutant(
        "topology_not_compared",
        "an unfinished run is not resumed silently by another graph or swarm",
        (
            Edit(
                "multiagent/topology.py",
                """\
    if mode == "ignore" or recorded == (current := describe(orchestrator)):
        return
""",
                """\
    if recorded:
        return
    current = describe(orchestrator)
""",
            ),
        ),
        ("tests/unit/multiagent/test_policies.py::test_drift_is_named_and_refused",),
    ),
    Mutant(
        "opaque_node_starts_unrecorded",
        "a node that runs as a whole starts only when everything before it is acknowledged",
        (
            Edit(
                "multiagent/visits.py",
                """\
        await root.journal.barrier()  # it runs as a whole, so this is where its effects begin
""",
                "",
            ),
        ),
        ("tests/unit/multiagent/test_cut_everywhere.py::test_an_opaque_node_starts_when_all_before_it_is_recorded",),
    ),
    Mutant(
        "scope_of_a_tool_call_left_open",
        "what an agent did as a tool ends with the result of the call",
        (
            Edit(
                "multiagent/subagents.py",
                """\
        parent.nested.setdefault(tool_use_id, []).append(ScopeClosed(call.scope))
""",
                """\
        parent.nested.setdefault(tool_use_id, [])
""",
            ),
        ),
        (
            "tests/unit/multiagent/test_cut_everywhere.py::test_the_scope_of_an_agent_that_was_a_tool_ends_with_the_call",
        ),
    ),
)
