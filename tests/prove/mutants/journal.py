"""Who owns a journal, what is in it, and what becomes of it."""

from __future__ import annotations

from tests.prove.mutants.mutant import Edit, Mutant

JOURNAL: tuple[Mutant, ...] = (
    Mutant(
        "no_second_head_read",
        "an acquisition holds only if the head has not packed its slot meanwhile",
        (
            Edit(
                "journal/acquire.py",
                """\
        if head.sequence >= number:
""",
                """\
        if head.sequence < 0:
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_an_owner_that_trusts_what_it_knows_looks_at_the_head_as_well",),
    ),
    Mutant(
        "stale_view_trusted",
        "an owner whose head moved while it read reads again",
        (
            Edit(
                "journal/acquire.py",
                """\
        if head.stamp != position.stamp and not position.own:
""",
                """\
        if not head.stamp and position.stamp:
""",
            ),
        ),
        ("tests/model/test_protocol.py::test_a_view_is_read_again_when_the_head_has_moved",),
    ),
    Mutant(
        "failed_acquisition_withdrawn",
        "the record of an acquisition that does not hold stays: it may be somebody's fence",
        (
            Edit(
                "journal/acquire.py",
                """\
            # takeover, and rely on it to stop the owner before.
            return None
""",
                """\
            # takeover, and rely on it to stop the owner before.
            await context.store.delete_many([slot.key])
            return None
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_an_acquisition_in_a_slot_that_was_packed_and_deleted_does_not_hold",),
    ),
    Mutant(
        "deleted_journal_acquired",
        "nobody owns a journal that the registry does not name any more",
        (
            Edit(
                "journal/acquire.py",
                """\
        if place.live != layout.incarnation:
""",
                """\
        if not layout.incarnation:
""",
            ),
        ),
        ("tests/model/test_protocol.py::test_every_interleaving_is_safe[c|D|at-once]",),
    ),
    Mutant(
        "takeover_not_marked",
        "an acquisition after an owner that did not release says so, so that its slot is kept",
        (Edit("journal/acquire.py", "takeover=position.owner is not None,", "takeover=False,"),),
        ("tests/unit/journal/test_acquire.py::test_a_silent_owner_is_taken_over_after_its_lease",),
    ),
    Mutant(
        "takeover_slots_deleted",
        "the slot of a takeover is never deleted: it is where the old owner will write next",
        (
            Edit(
                "journal/packing.py",
                """\
            kept.append(number)
""",
                """\
            pass
""",
            ),
        ),
        ("tests/unit/journal/test_compaction.py::test_takeover_slots_are_kept",),
    ),
    Mutant(
        "slots_deleted_before_the_head_moves",
        "what a head replaces is deleted only when that head is replaced in its turn",
        (
            Edit(
                "journal/compaction.py",
                """\
    await tidy(context, layout, log.head)
""",
                """\
    await tidy(context, layout, packed.head)
""",
            ),
        ),
        (
            "tests/unit/journal/test_rules.py::test_nothing_is_deleted_before_the_head_that_replaces_it_has_been_replaced",
        ),
    ),
    Mutant(
        "slots_deleted_as_soon_as_the_head_moves",
        "whoever has read a head finds all that belongs to it until the log has been packed twice",
        (
            Edit(
                "journal/compaction.py",
                """\
    moved = await _move(context, log, packed.head, plan)
""",
                """\
    moved = await _move(context, log, packed.head, plan)
    if moved:
        await tidy(context, layout, packed.head)
""",
            ),
        ),
        (
            "tests/unit/journal/test_rules.py::test_nothing_is_deleted_before_the_head_that_replaces_it_has_been_replaced",
        ),
    ),
    Mutant(
        "head_overwritten",
        "the head moves by compare-and-set: of two compactions one wins",
        (
            Edit(
                "journal/compaction.py",
                """\
            await settle_replace(context.store, layout.head, value, log.etag, context.retry)
""",
                """\
            now = await context.store.get(layout.head)
            await settle_replace(context.store, layout.head, value, now.etag if now else log.etag, context.retry)
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_a_head_that_somebody_else_has_moved_is_left_alone",),
    ),
    Mutant(
        "compaction_drops_messages",
        "every live message is in the checkpoint or in a segment that a load reads",
        (
            Edit(
                "journal/packing.py",
                "segments = [replace(segment, live=_holds_any(segment, needed)) for segment in segments]",
                "segments = [replace(segment, live=False) for segment in segments]",
            ),
        ),
        ("tests/unit/journal/test_compaction.py::test_few_live_messages_are_in_the_checkpoint_and_many_in_segments",),
    ),
    Mutant(
        "compaction_packs_what_is_not_acknowledged",
        "only commits up to the one that announces a compaction are packed by it",
        (
            Edit(
                "journal/compaction.py",
                """\
    del log.slots[through - log.head.sequence :]
""",
                "",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_commits_beside_a_compaction_are_not_packed_by_it",),
    ),
    Mutant(
        "gap_accepted",
        "a commit that was acknowledged and is missing is an error, never a shorter journal",
        (
            Edit(
                "journal/load.py",
                """\
        raise JournalGapError(
            log.layout.slot(before + 1), "this commit was acknowledged and is missing, though later ones exist"
        )
""",
                """\
        return
""",
            ),
        ),
        ("tests/unit/journal/test_damage.py::test_a_missing_commit_is_a_gap",),
    ),
    Mutant(
        "fence_swallowed",
        "a commit whose slot somebody else has never counts as acknowledged",
        (
            Edit(
                "journal/log_writer.py",
                """\
            raise fenced_by(self.layout, slot.number, conflict) from conflict
""",
                """\
            if fenced_by(self.layout, slot.number, conflict) is None:
                raise
""",
            ),
        ),
        (
            "tests/unit/journal/test_rules.py::test_whoever_is_fenced_believes_in_no_further_slot",
            "tests/unit/hooks/test_rules.py::test_a_run_that_was_taken_over_stops_before_its_next_tool",
        ),
    ),
    Mutant(
        "silence_not_verified",
        "an owner that was silent for a lease asks whether its journal still exists",
        (
            Edit(
                "journal/log_writer.py",
                """\
            await self._verify()
""",
                """\
            pass
""",
            ),
        ),
        ("tests/model/test_protocol.py::test_every_interleaving_is_safe[c|D|at-once]",),
    ),
    Mutant(
        "silence_believed",
        "a process that stood still for a lease proves that it still owns the journal before it goes on",
        (
            Edit(
                "journal/journal.py",
                """\
            if self._committer().silence <= self.settings.lease:
                return
""",
                """\
            if self._committer().silence <= self.settings.lease or self.owned:
                return
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_who_stood_still_for_a_lease_proves_that_it_still_owns",),
    ),
    Mutant(
        "group_commit_reorders",
        "records are applied in the order in which they were appended",
        (
            Edit(
                "journal/committer.py",
                "records = [record for group in self._ready[:count] for record in group]",
                "records = [record for group in reversed(self._ready[:count]) for record in group]",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_records_keep_their_order_in_and_between_commits",),
    ),
    Mutant(
        "records_torn_apart",
        "records that were appended together are in one commit",
        (
            Edit(
                "journal/committer.py",
                """\
            self._ready.append(records)
""",
                """\
            self._ready.extend([record] for record in records)
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_records_that_belong_together_are_in_one_commit",),
    ),
    Mutant(
        "acknowledged_before_it_is_written",
        "whoever waits for a commit is answered when the store has it",
        (
            Edit(
                "journal/committer.py",
                """\
                await self._commit(records)
                self._acknowledged += len(records)
                self._answer()
""",
                """\
                self._acknowledged += len(records)
                self._answer()
                await self._commit(records)
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_a_barrier_is_passed_when_all_before_it_is_acknowledged",),
    ),
    Mutant(
        "release_not_awaited",
        "a caller gets its result when the end of the invocation is acknowledged",
        (
            Edit(
                "journal/journal.py",
                """\
            self.append(*last, Released(tenure.acquisition if tenure else ""))
        await self._settled()
""",
                """\
            self.append(*last, Released(tenure.acquisition if tenure else ""))
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_a_release_is_over_when_it_is_acknowledged",),
    ),
    Mutant(
        "let_go_before_the_last_acknowledgement",
        "a process holds a journal until its release is acknowledged",
        (
            Edit(
                "journal/journal.py",
                """\
            self.append(*last, Released(tenure.acquisition if tenure else ""))
        await self._settled()
""",
                """\
            self.append(*last, Released(tenure.acquisition if tenure else ""))
            if tenure is not None:
                tenure.end()
        await self._settled()
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_a_journal_is_held_until_its_release_is_acknowledged",),
    ),
    Mutant(
        "heartbeat_ignored",
        "an owner whose heart beats is not taken over",
        (
            Edit(
                "journal/acquire.py",
                "sign = (owner.acquisition, end, beat)",
                "sign = (owner.acquisition, end, None)",
            ),
        ),
        ("tests/unit/journal/test_acquire.py::test_a_heartbeat_keeps_it_alive",),
    ),
    Mutant(
        "machine_not_compared",
        "only a process of this boot and namespace can be seen to be gone",
        (
            Edit(
                "journal/worker.py",
                "return (self.boot, self.namespace) == (here.boot, here.namespace)",
                "return here.started is not None",
            ),
        ),
        ("tests/unit/journal/test_worker.py::test_nothing_is_known_of_other_machines_and_namespaces",),
    ),
    Mutant(
        "start_time_not_compared",
        "another process that got the same number is not the worker",
        (Edit("journal/worker.py", "in _DEAD_STATES or found[1] != self.started", "in _DEAD_STATES"),),
        ("tests/unit/journal/test_worker.py::test_a_process_of_the_same_number_is_another_one",),
    ),
    Mutant(
        "fork_keeps_the_journal",
        "a process that was forked from an owner does not own",
        (
            Edit(
                "journal/tenure.py",
                """\
        return self._worker == this_process.name
""",
                """\
        return bool(self._worker)
""",
            ),
        ),
        ("tests/unit/journal/test_journal.py::test_a_forked_child_owns_nothing",),
    ),
    Mutant(
        "moved_journal_taken_for_known",
        "an agent is brought up to date when somebody else wrote meanwhile",
        (
            Edit(
                "journal/journal.py",
                "moved = self._is_caller_behind or (sequence, layout) != (claim.slot.number - 1, claim.layout)",
                "moved = self._is_caller_behind and (sequence, layout) != (claim.slot.number - 1, claim.layout)",
            ),
        ),
        ("tests/unit/journal/test_journal.py::test_what_others_wrote_is_seen",),
    ),
    Mutant(
        "deletion_leaves_fences",
        "deleting a session leaves no key behind, not even what fenced somebody off or came to nothing",
        (
            Edit(
                "journal/purge.py",
                """\
    await delete_all(context, [layout.slot(number) for number in range(1, head.sequence + 1)])
""",
                "",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_an_acquisition_that_did_not_hold_goes_with_the_journal",),
    ),
    Mutant(
        "fences_purged_at_once",
        "a deletion leaves its fences in place until everybody who was stopped has looked into the registry",
        (
            Edit(
                "journal/delete.py",
                """\
            await context.sleep(max(wish.settings.lease, claim.before.lease if claim and claim.before else 0))
""",
                """\
            pass
""",
            ),
        ),
        ("tests/model/test_protocol.py::test_every_interleaving_is_safe[c|D|at-once]",),
    ),
    Mutant(
        "registry_forgets_first",
        "the registry names a journal until its last key is gone, so that a killed deletion can be run again",
        (
            Edit(
                "journal/delete.py",
                """\
        remains = await purge(context, layout)
        await change_place(context, wish.session_id, wish.root_id, partial(_without, incarnation))
""",
                """\
        await change_place(context, wish.session_id, wish.root_id, partial(_without, incarnation))
        remains = await purge(context, layout)
""",
            ),
        ),
        ("tests/unit/journal/test_delete.py::test_it_may_be_killed_anywhere_and_run_again",),
    ),
    Mutant(
        "cancelled_acquisition_kept",
        "a journal that was acquired for somebody who does not wait any more is released",
        (
            Edit(
                "journal/tenure.py",
                """\
                self._is_wanted = False
""",
                """\
                self._is_wanted = True
""",
            ),
        ),
        ("tests/unit/journal/test_tenure.py::test_an_acquisition_that_is_cancelled_while_it_is_written_is_released",),
    ),
    Mutant(
        "held_when_it_is_written",
        "a process never takes an owner of its own for dead, not even while it acquires",
        (
            Edit(
                "journal/tenure.py",
                """\
        this_process.hold(acquisition, holder)
""",
                "",
            ),
        ),
        (
            "tests/unit/journal/test_tenure.py::test_a_process_holds_what_it_owns_from_before_it_is_written_until_it_is_released",
        ),
    ),
    Mutant(
        "no_heartbeat",
        "an owner that writes nothing for long is known to be alive",
        (
            Edit(
                "journal/tenure.py",
                """\
            heart.begin(self.acquisition, self._lease)
""",
                "",
            ),
        ),
        ("tests/unit/journal/test_tenure.py::test_a_heart_is_told_when_an_ownership_begins_and_before_it_ends",),
    ),
)
