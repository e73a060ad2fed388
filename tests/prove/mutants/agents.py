"""What is recorded of an agent, when it is waited for, and what a resumed agent gets back."""

from __future__ import annotations

from tests.prove.mutants.mutant import Edit, Mutant

AGENTS: tuple[Mutant, ...] = (
    Mutant(
        "barrier_skipped_before_a_tool",
        "a tool starts only when everything before it is acknowledged",
        (
            Edit(
                "hooks/tool_calls.py",
                """\
        await recording.check()
        await recording.barrier()
""",
                """\
        await recording.check()
""",
            ),
        ),
        (
            "tests/unit/hooks/test_rules.py::test_a_tool_starts_when_the_message_that_asks_for_it_and_all_results_before_it_are_recorded",
        ),
    ),
    Mutant(
        "mark_of_a_doubt_not_awaited",
        "under a policy that needs it, a tool starts only when the mark that it did is acknowledged",
        (
            Edit(
                "hooks/tool_calls.py",
                """\
            self._record_start(recording, event.agent, tool_use_id, name)
""",
                """\
            await recording.barrier()
            self._record_start(recording, event.agent, tool_use_id, name)
""",
            ),
            Edit(
                "hooks/tool_calls.py",
                """\
        await recording.check()
        await recording.barrier()
""",
                """\
        await recording.check()
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_tool_that_must_not_run_twice_starts_when_its_mark_is_recorded",),
    ),
    Mutant(
        "doubts_forgotten",
        "a tool that was marked as started and has no result is in doubt",
        (
            Edit(
                "hooks/recording.py",
                'return set(scope.started).difference(self.status.get("asking", ()))',
                'return set(scope.started).intersection(self.status.get("asking", ()))',
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_tool_that_may_have_run_is_treated_as_its_policy_says",),
    ),
    Mutant(
        "result_recorded_before_other_hooks",
        "the recorded result of a tool is the one that the model sees, after every hook",
        (
            Edit(
                "hooks/tool_calls.py",
                "registry.add_callback(AfterToolCallEvent, self._after, order=LAST)",
                "registry.add_callback(AfterToolCallEvent, self._after, order=strands_compat.FIRST)",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_the_result_that_is_recorded_is_the_one_after_every_hook",),
    ),
    Mutant(
        "result_of_a_retried_tool_recorded",
        "a result that a hook throws away, to have the tool run again, is not recorded",
        (
            Edit(
                "hooks/tool_calls.py",
                """\
        if strands_compat.will_retry(event):
            return
""",
                "",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_result_that_is_thrown_away_for_a_retry_is_not_recorded",),
    ),
    Mutant(
        "held_message_lost",
        "the message that asked for unfinished tools is put back before its run goes on",
        (
            Edit(
                "hooks/recording.py",
                """\
            messages.insert(min(len(self.transcript) - 1, len(messages)), self.held)
""",
                """\
            pass
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_recorded_results_reach_the_model_in_their_places",),
    ),
    Mutant(
        "placeholder_kept",
        'what Strands answers to an owed batch, "Tool was interrupted.", is never recorded',
        (
            Edit(
                "hooks/recording.py",
                """\
        if self.placeholder is not None and messages and messages[-1] is self.placeholder:
            messages.pop()
""",
                "",
            ),
        ),
        ("tests/integration/agents/test_failures.py::test_a_hook_that_raises",),
    ),
    Mutant(
        "recorded_results_not_reinjected",
        "a recorded tool result is never computed again",
        (
            Edit(
                "hooks/resume.py",
                "recorded = [recording.results[id_] for id_ in order if id_ in recording.results]",
                "recorded = [recording.results[id_] for id_ in order if not id_]",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_recorded_results_reach_the_model_in_their_places",),
    ),
    Mutant(
        "results_reinjected_in_another_order",
        "recorded results reach the model in their places",
        (
            Edit(
                "hooks/resume.py",
                "for place, tool_use_id in enumerate(order):",
                "for place, tool_use_id in enumerate(reversed(order)):",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_recorded_results_reach_the_model_in_their_places",),
    ),
    Mutant(
        "answers_dropped_on_resume",
        "what a person answered before a crash is not asked for again",
        (
            Edit(
                "hooks/restore.py",
                """\
        documents["interrupt_state"] = strands_compat.without_batch(interrupts)
""",
                """\
        documents.pop("interrupt_state")
""",
            ),
        ),
        ("tests/integration/agents/test_interrupts.py::test_answered_before_and_after_a_crash",),
    ),
    Mutant(
        "edits_in_place_missed",
        "a message that was changed in place is recorded as it is now",
        (
            Edit(
                "hooks/recording.py",
                "compare = self.transcript.changed if thorough else self.transcript.appended",
                "compare = self.transcript.appended",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_messages_that_were_changed_in_place_are_recorded_as_they_are",),
    ),
    Mutant(
        "state_of_a_tool_missed",
        "what a tool changed in the agent's state is recorded with its result",
        (
            Edit(
                "hooks/documents.py",
                """\
        if version != self._state_version:
""",
                """\
        if version != self._state_version and not self._packed:
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_what_a_tool_changed_in_the_state_is_recorded_with_its_result",),
    ),
    Mutant(
        "final_answer_recorded_early",
        "a final answer is recorded together with the end of its invocation",
        (
            Edit(
                "hooks/checkpoint.py",
                "strands_compat.is_cancelled(agent) or not tool_use_ids(message):",
                "strands_compat.is_cancelled(agent):",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_final_answer_and_the_end_are_in_one_commit",),
    ),
    Mutant(
        "idempotency_key_changes_on_resume",
        "the idempotency key of a call is the same at every attempt",
        (
            Edit(
                "hooks/tool_calls.py",
                "set_key(recording.name, recording.scope, invocation.id, str(invocation.progress.batches), ",
                "set_key(recording.name, recording.scope, invocation.id, str(invocation.attempt), ",
            ),
        ),
        ("tests/integration/agents/test_cut_everywhere.py::test_keys_stay_with_their_calls",),
    ),
    Mutant(
        "drift_not_checked",
        "an unfinished run is not resumed silently by an agent with other tools, prompt or model",
        (
            Edit(
                "hooks/opening.py",
                """\
    check_drift(agent, last.fingerprint, recording.settings.drift)
""",
                "",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_another_agent_does_not_go_on_unnoticed",),
    ),
    Mutant(
        "finished_invocation_runs_again",
        "asking again for a finished invocation, by its id, gives its recorded result",
        (
            Edit(
                "hooks/opening.py",
                """\
    if key is not None and key in finished:
""",
                """\
    if key is not None and not key:
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_finished_invocation_is_handed_out_again_by_its_id",),
    ),
    Mutant(
        "id_taken_for_another_prompt",
        "an invocation id belongs to one prompt",
        (
            Edit(
                "hooks/opening.py",
                """\
    if given and asked not in {None, digest_of(plain_prompt(given))}:
""",
                """\
    if given and not asked:
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_a_finished_invocation_is_handed_out_again_by_its_id",),
    ),
    Mutant(
        "tokens_counted_anew",
        "a resumed run reports the tokens of all its attempts",
        (
            Edit(
                "hooks/resume.py",
                """\
        if not recording.usage_is_live:
""",
                """\
        if not recording:
""",
            ),
        ),
        ("tests/unit/hooks/test_rules.py::test_tokens_of_all_attempts_are_reported",),
    ),
    Mutant(
        "answer_about_a_doubt_kept",
        "a person who decided about a call in doubt is asked again when it is in doubt again",
        (
            Edit(
                "hooks/tool_calls.py",
                "if strands_compat.forget_answer(agent, tool_use_id, INTERRUPT_NAME):",
                "if not tool_use_id:",
            ),
        ),
        (
            "tests/unit/hooks/test_tool_calls.py::test_whoever_decided_about_a_call_in_doubt_is_asked_again_when_it_is_in_doubt_again",
        ),
    ),
    Mutant(
        "a_tool_that_asked_never_in_doubt",
        "a tool that has asked a person is in doubt once it goes on with the answer",
        (
            Edit(
                "hooks/tool_calls.py",
                """\
                invocation.asking.remove(tool_use_id)
""",
                """\
                pass
""",
            ),
        ),
        ("tests/unit/hooks/test_tool_calls.py::test_a_tool_that_has_asked_itself_is_in_doubt_once_it_goes_on",),
    ),
    Mutant(
        "calls_of_one_id_share_a_key",
        "calls that a model gave one id have idempotency keys of their own",
        (Edit("hooks/tool_calls.py", "if tool_use_id in recording.ambiguous else []", "if not tool_use_id else []"),),
        ("tests/unit/hooks/test_tool_calls.py::test_calls_of_one_batch_that_share_an_id_have_keys_of_their_own",),
    ),
    Mutant(
        "structured_output_recorded_early",
        "structured output is recorded together with the end of its invocation",
        (
            Edit(
                "hooks/tool_calls.py",
                """\
            recording.structured.add(tool_use_id)
""",
                """\
            pass
""",
            ),
        ),
        ("tests/unit/hooks/test_tool_calls.py::test_structured_output_is_recorded_together_with_the_end",),
    ),
    Mutant(
        "session_kept_by_a_call_that_is_over",
        "a call that a hook after ours ended does not hold the session",
        (
            Edit(
                "hooks/checkpoint.py",
                """\
        io_thread.start(self._end_later(recording, agent, last))
""",
                "",
            ),
        ),
        ("tests/unit/hooks/test_checkpoint.py::test_a_call_that_a_later_hook_ends_lets_others_go_on",),
    ),
    Mutant(
        "recorded_behind_what_is_owed",
        "nothing is recorded behind a batch that waits for results",
        (
            Edit("hooks/checkpoint.py", "        if recording.owed:\n", "        if recording.owed and not message:\n"),
            Edit(
                "hooks/checkpoint.py",
                "records = [] if recording.owed else recording.changes(agent, thorough=True)",
                "records = recording.changes(agent, thorough=True)",
            ),
        ),
        ("tests/unit/hooks/test_checkpoint.py::test_nothing_is_recorded_behind_what_is_owed",),
    ),
    Mutant(
        "result_referred_to_twice",
        "a recorded result belongs to the first message that holds it",
        (
            Edit(
                "hooks/transcript.py",
                """\
    for used in ids:
        del results[used]
""",
                "",
            ),
        ),
        ("tests/unit/hooks/test_transcript.py::test_a_recorded_result_is_referred_to_once",),
    ),
    Mutant(
        "redaction_not_recorded",
        "a message that was redacted is recorded at once",
        (
            Edit(
                "session_manager.py",
                """\
            agent.messages[-1] = redact_message
        self.sync_agent(agent)
""",
                """\
            agent.messages[-1] = redact_message
""",
            ),
        ),
        ("tests/unit/test_session_manager.py::test_a_message_that_was_redacted_in_place_is_recorded",),
    ),
    Mutant(
        "input_rewritten_by_a_hook_forgotten",
        "what a hook makes of a tool's input is recorded with the tool's result",
        (
            Edit(
                "hooks/tool_calls.py",
                "edits = recording.edits(event.agent)",
                "edits: list[Spliced] = []",
            ),
        ),
        ("tests/integration/agents/test_stops.py::test_what_hooks_make_of_messages_survives_wherever_it_was_cut",),
    ),
    Mutant(
        "stop_forgotten",
        "an agent that a tool asked to stop stops when the batch is done, whatever process finishes it",
        (
            Edit(
                "hooks/tool_calls.py",
                "    return [recording.note_status(RUNNING)]\n\n\ndef _is_late",
                "    return []\n\n\ndef _is_late",
            ),
        ),
        (
            "tests/integration/agents/test_stops.py::test_an_agent_that_was_asked_to_stop_stops_wherever_it_was_cut[flag]",
        ),
    ),
    Mutant(
        "last_batch_recorded_without_the_end",
        "the message of a batch with which a turn ends is recorded with the end only",
        (
            Edit(
                "hooks/checkpoint.py",
                "invocation.ends or invocation.stop is not None or strands_compat.is_stopping(agent)",
                "invocation.ends and invocation.stop is not None",
            ),
        ),
        (
            "tests/integration/agents/test_stops.py::test_an_agent_that_was_asked_to_stop_stops_wherever_it_was_cut[flag]",
        ),
    ),
    Mutant(
        "tools_of_a_stopped_answer_run",
        "tools that Strands does not run for an answer are not run by whoever goes on",
        (Edit("hooks/checkpoint.py", 'event.stop_response.stop_reason != "tool_use"', "False"),),
        ("tests/integration/agents/test_stops.py::test_tools_of_an_answer_that_a_filter_stopped_never_run",),
    ),
    Mutant(
        "doubts_settled_before_hooks",
        "a call in doubt is treated by the policy of the tool that runs, whichever hooks choose",
        (Edit("hooks/resume.py", "self._settle, order=LATE", "self._settle, order=FIRST"),),
        ("tests/unit/hooks/test_resume.py::test_the_policy_is_that_of_the_tool_which_a_hook_chooses[selected]",),
    ),
    Mutant(
        "prompt_compared_after_hooks",
        "what the caller said is what is compared, whatever hooks make of it",
        (
            Edit(
                "hooks/checkpoint.py",
                "recording.given, recording.adopted = copy_messages(event.messages), list(event.messages)",
                "recording.given, recording.adopted = list(event.messages), list(event.messages)",
            ),
        ),
        (
            (
                "tests/integration/agents/test_users_hooks.py::"
                "test_a_prompt_that_a_hook_rewrites_where_it_is_and_differently_each_time"
            ),
        ),
    ),
    Mutant(
        "history_edits_of_tools_forgotten",
        "what a tool makes of the messages is recorded with its result",
        (Edit("hooks/recording.py", "return self.transcript.edited(agent.messages)", "return []"),),
        (
            (
                "tests/integration/agents/test_conversation_managers.py::"
                "test_what_is_edited_in_the_middle_of_a_run_stays_edited[forget]"
            ),
        ),
    ),
    Mutant(
        "reinjection_taken_for_a_question",
        "a run that is cancelled as it goes on waits for nobody",
        (
            Edit(
                "hooks/resume.py",
                """\
            self._stop_waiting(event.agent)
            invocation.reinjected = False
""",
                """\
            invocation.reinjected = False
""",
            ),
        ),
        (
            (
                "tests/integration/agents/test_stops.py::"
                "test_a_run_that_is_cancelled_as_it_goes_on_is_over[another process]"
            ),
        ),
    ),
    Mutant(
        "stash_not_restored",
        "a context manager finds what it put aside in another process",
        (
            Edit(
                "hooks/stash.py",
                "        stash = strands_compat.stash_in_memory(agent) if entries else None\n",
                "        stash = None\n",
            ),
        ),
        ("tests/unit/hooks/test_stash.py::test_a_restored_stash_is_what_it_was_and_goes_on",),
    ),
    Mutant(
        "beat_written_behind_a_release",
        "the heartbeat of a worker that is killed when its last journal is released does not stay",
        (
            Edit(
                "journal/heart.py",
                "if self._leases.keys() <= self._leaving - skipped:",
                "if self._leases.keys() < self._leaving - skipped:",
            ),
        ),
        ("tests/unit/journal/test_heart.py::test_it_beats_on_while_a_release_takes_long",),
    ),
)
