"""What packing keeps of the past, how it is told, and the sessions that begin in it."""

from __future__ import annotations

from tests.prove.mutants.mutant import Edit, Mutant

_TIMELINE = "tests/unit/timeline/test_timeline.py"
_HISTORY = "tests/unit/journal/test_history.py"
_FORK = "tests/unit/journal/test_fork.py"

PAST: tuple[Mutant, ...] = (
    Mutant(
        "past_states_kept_once_a_packing",
        "what the state was at every end of an invocation is kept",
        (
            Edit(
                "journal/history.py",
                """\
            acquisitions += isinstance(record, Acquired)
""",
                "",
            ),
        ),
        (
            f"{_HISTORY}::test_the_last_value_of_every_acquisition_is_kept",
            f"{_TIMELINE}::test_every_end_of_an_invocation_is_told_exactly",
        ),
    ),
    Mutant(
        "past_states_left_out_without_a_trace",
        "a state that was not kept is unknown, and no older one is taken for it",
        (
            Edit(
                "journal/history.py",
                """\
            kept[number].append(replace(record, value=b""))
""",
                "",
            ),
        ),
        (f"{_TIMELINE}::test_every_moment_is_told_as_before_it_was_packed_or_is_unknown",),
    ),
    Mutant(
        "past_of_older_versions_believed",
        "what older versions left out without a trace is unknown",
        (
            Edit(
                "journal/past.py",
                """\
    silent = frozenset(number for number, records in commits if CANDID not in records)
""",
                """\
    silent: frozenset[int] = frozenset()
""",
            ),
        ),
        (f"{_TIMELINE}::test_what_older_packings_left_out_is_never_made_up",),
    ),
    Mutant(
        "past_results_not_put_back",
        "results are told where they were recorded, though packing keeps them in messages only",
        (
            Edit(
                "timeline/timeline.py",
                """\
        self._commits = with_results(past.commits, self._key)
""",
                """\
        self._commits = past.commits
""",
            ),
        ),
        (f"{_TIMELINE}::test_every_moment_is_told_as_before_it_was_packed_or_is_unknown",),
    ),
    Mutant(
        "past_states_in_the_way_of_loads",
        "long states of the past are where no load reads them",
        (
            Edit(
                "journal/packing.py",
                """\
        if sum(map(len, history)) > HISTORY_BYTES:
""",
                """\
        if sum(map(len, history)) < 0:
""",
            ),
        ),
        (f"{_HISTORY}::test_long_states_are_where_no_load_reads_them",),
    ),
    Mutant(
        "past_states_keep_segments_apart",
        "segments of messages are merged, whatever lies between them",
        (
            Edit(
                "journal/packing.py",
                """\
    filled = [segment for segment in head.segments if segment.count]
""",
                """\
    filled = [*head.segments]
""",
            ),
        ),
        (f"{_HISTORY}::test_segments_are_merged_over_those_of_long_states",),
    ),
    Mutant(
        "fork_seen_before_it_is_whole",
        "a fork is there whole, or not at all",
        (
            Edit(
                "journal/fork.py",
                """\
    try:
        for start in range(0, len(slots), _AT_ONCE):
            await asyncio.gather(*(_write(context, slot) for slot in slots[start : start + _AT_ONCE]))
        await change_roots(context, session_id, lambda roots: _call_live(roots, layout))
""",
                """\
    try:
        await change_roots(context, session_id, lambda roots: _call_live(roots, layout))
        for start in range(0, len(slots), _AT_ONCE):
            await asyncio.gather(*(_write(context, slot) for slot in slots[start : start + _AT_ONCE]))
""",
            ),
        ),
        (f"{_FORK}::test_killed_anywhere_it_is_there_whole_or_not_at_all",),
    ),
    Mutant(
        "fork_parts_written_first",
        "what a killed fork wrote can be found",
        (
            Edit(
                "journal/fork.py",
                """\
    await settle_create(context.store, slot.key, slot.value, context.retry)
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)
""",
                """\
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)
    await settle_create(context.store, slot.key, slot.value, context.retry)
""",
            ),
        ),
        (f"{_FORK}::test_killed_before_it_is_there_it_leaves_nothing_that_is_not_deleted",),
    ),
    Mutant(
        "fork_over_another",
        "of several forks to one name one succeeds, and what is there is left alone",
        (
            Edit(
                "journal/fork.py",
                """\
        return  # it is done, and somebody else has changed the document since
    _refuse_present(roots, layout)
""",
                """\
        return  # it is done, and somebody else has changed the document since
""",
            ),
        ),
        (f"{_FORK}::test_of_two_at_once_one_is_there_and_the_other_leaves_nothing",),
    ),
    Mutant(
        "fork_that_lost_leaves_its_keys",
        "a fork that does not come to be removes what it wrote",
        (
            Edit(
                "journal/fork.py",
                """\
        await delete_all(context, [key for slot in slots for key in slot.keys])
""",
                "",
            ),
        ),
        (f"{_FORK}::test_deleted_while_it_is_made_it_is_never_there",),
    ),
    Mutant(
        "fork_that_was_killed_not_found",
        "what a killed fork wrote goes when the session is deleted",
        (
            Edit(
                "journal/delete.py",
                """\
    dead = [name.removesuffix(UNBORN) for name in place.dead]
""",
                """\
    dead = [*place.dead]
""",
            ),
        ),
        (f"{_FORK}::test_killed_before_it_is_there_it_leaves_nothing_that_is_not_deleted",),
    ),
    Mutant(
        "fork_born_while_it_is_deleted",
        "a session whose deletion has begun does not come to be",
        (
            Edit(
                "journal/delete.py",
                """\
    place = await change_place(context, wish.session_id, wish.root_id, _with_unborn) or Place(None, [])
""",
                """\
    place = _with_unborn(await place_of(context, wish.session_id, wish.root_id)) or Place(None, [])
""",
            ),
        ),
        (f"{_FORK}::test_once_its_deletion_has_begun_it_cannot_be_there_any_more",),
    ),
    Mutant(
        "fork_of_what_runs",
        "no session begins in the middle of an invocation",
        (
            Edit(
                "timeline/timeline.py",
                """\
        return not _runs(root.invocation) or read_status(root, key=self._key).get("state") == INTERRUPTED
""",
                """\
        return True
""",
            ),
        ),
        (f"{_TIMELINE}::test_where_nothing_has_ended_no_session_can_begin",),
    ),
)
