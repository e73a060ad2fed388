"""What is written, and whether it was: frames, records, settled writes."""

from __future__ import annotations

from tests.prove.mutants.mutant import Edit, Mutant

_FRAMES = "tests/unit/records/test_frames.py"

STORAGE: tuple[Mutant, ...] = (
    Mutant(
        "read_back_skipped",
        "a write without an answer is read back before anybody relies on it",
        (
            Edit(
                "stores/settle.py",
                """\
        found = await store.get(key)
        if found is not None:
            if found.value == value:
""",
                """\
        if isinstance(problem, OutcomeUnknown):
            return
        found = await store.get(key)
        if found is not None:
            if found.value == value:
""",
            ),
        ),
        ("tests/unit/stores/test_settle.py::test_a_create_is_applied_once",),
    ),
    Mutant(
        "retry_without_settling",
        "a conflict may be with this very write: only reading it back tells",
        (
            Edit(
                "stores/settle.py",
                """\
        found = await store.get(key)
        if found is not None:
            if found.value == value:
                return
            raise KeyConflict(key, found, settled=True) from problem
""",
                """\
        if isinstance(problem, KeyConflict):
            raise KeyConflict(key, await store.get(key), settled=True) from problem
        found = None
""",
            ),
        ),
        ("tests/unit/stores/test_settle.py::test_a_create_is_applied_once",),
    ),
    Mutant(
        "commit_changed_on_retry",
        "a commit is the same bytes at every try",
        (
            Edit(
                "stores/settle.py",
                """\
            raise KeyConflict(key, found, settled=True) from problem
        await _wait(backoff, store, key, problem)


async def settle_replace(
""",
                """\
            raise KeyConflict(key, found, settled=True) from problem
        await _wait(backoff, store, key, problem)
        value = value[:-1] + bytes([value[-1] ^ 1])


async def settle_replace(
""",
            ),
        ),
        ("tests/unit/stores/test_settle.py::test_a_create_is_applied_once",),
    ),
    Mutant(
        "replace_that_was_lost_counts_as_done",
        "a head is replaced by compare-and-set: whoever comes second is told",
        (
            Edit(
                "stores/settle.py",
                """\
        if found is None or found.etag != etag:
            raise KeyConflict(key, found, settled=True) from problem
""",
                """\
        if found is None or found.etag != etag:
            return
""",
            ),
        ),
        ("tests/unit/stores/test_settle.py::test_anothers_value_is_a_conflict_that_carries_it",),
    ),
    Mutant(
        "checksum_not_bound_to_its_key",
        "a value that was copied to another key or session is refused",
        (Edit("records/frames.py", "(FORMAT_VERSION, flags, key.encode())", '(FORMAT_VERSION, flags, b"")'),),
        (f"{_FRAMES}::test_a_value_belongs_to_its_key",),
    ),
    Mutant(
        "checksum_not_compared",
        "a value of which one bit was altered is refused",
        (Edit("records/frames.py", "if checksum != _checksum(key, flags, body):", "if not checksum:"),),
        (f"{_FRAMES}::test_every_flipped_bit_is_noticed",),
    ),
    Mutant(
        "length_of_a_bomb_believed",
        "a value never unfolds to more than its reader allows",
        (
            Edit(
                "records/frames.py",
                """\
    if length > max_bytes:
""",
                """\
    if length > 2**32:
""",
            ),
        ),
        (f"{_FRAMES}::test_the_longest_payload_can_be_limited",),
    ),
    Mutant(
        "tuples_come_back_as_lists",
        "a value comes back with exactly its types",
        (
            Edit(
                "records/codec.py",
                "_COLLECTIONS: dict[int, Callable[[list[Any]], Any]] = {TUPLE: tuple,",
                "_COLLECTIONS: dict[int, Callable[[list[Any]], Any]] = {TUPLE: list,",
            ),
        ),
        ("tests/unit/records/test_codec.py::test_every_supported_value_comes_back_with_its_types",),
    ),
    Mutant(
        "parts_of_different_commits_joined",
        "a long commit is made of its own parts or refused",
        (
            Edit(
                "journal/commit.py",
                """\
    if _digest(payload) != manifest[2]:
""",
                """\
    if not manifest[2]:
""",
            ),
        ),
        ("tests/unit/journal/test_commit.py::test_parts_of_another_commit_are_noticed",),
    ),
    Mutant(
        "slot_written_before_its_parts",
        "whoever sees a slot sees a whole commit",
        (
            Edit(
                "journal/commit.py",
                """\
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)
    await settle_create(context.store, slot.key, slot.value, context.retry)
""",
                """\
    await settle_create(context.store, slot.key, slot.value, context.retry)
    for key, value in slot.parts:
        await settle_create(context.store, key, value, context.retry)
""",
            ),
        ),
        ("tests/unit/journal/test_rules.py::test_parts_are_there_before_their_slot",),
    ),
    Mutant(
        "etag_that_means_none_sent_to_redis",
        "a replace never overwrites what has another ETag, whatever it was given for one",
        (Edit("stores/redis.py", "if not etag.isdecimal() or etag == _NO_ETAG:", "if not etag.isdecimal():"),),
        ("tests/unit/stores/test_redis.py::test_what_is_no_etag_is_a_conflict_and_not_sent",),
    ),
    Mutant(
        "lost_write_to_redis_called_a_conflict",
        "a write without an answer is neither done nor refused until it is read back",
        (
            Edit(
                "stores/redis.py",
                "raise OutcomeUnknown(key, error) from error",
                "raise KeyConflict(key) from error",
            ),
        ),
        ("tests/unit/stores/test_redis.py::test_what_may_be_over_soon_is_read_again_and_leaves_writes_unknown",),
    ),
)
