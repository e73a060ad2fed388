"""How what is packed is divided: into segments, pages, and what the checkpoint holds."""

from __future__ import annotations

import pytest

from strands_dapr_session.journal import packing
from strands_dapr_session.journal.checkpoint import read_checkpoint
from strands_dapr_session.journal.head import Head, Run, Segment, read_head, read_page
from strands_dapr_session.journal.layout import Layout
from strands_dapr_session.journal.load import Log, read_log
from strands_dapr_session.journal.packing import Packing, _holds_any, _is_among
from strands_dapr_session.journal.past import read_history
from strands_dapr_session.records.frames import open_sealed
from strands_dapr_session.records.records import Noted, SegmentsPlanned, Spliced
from strands_dapr_session.stores.memory import MemoryStore
from tests.unit.journal.journals import Script, context_of

LAYOUT = Layout("s", "r", "i")
OLDER = Run("old", 0, 1)


async def head_of(script: Script) -> Head:
    assert script.claim is not None
    layout = script.claim.layout
    return read_head(layout, await script.store.get(layout.head))


async def packed(*sizes: int) -> tuple[Script, Head]:
    """Pack messages of so many bytes, all of them live."""
    script = Script(MemoryStore())
    await script.own()
    for number, size in enumerate(sizes):
        await script.write(Spliced("", number, 0, (b"%d" % number * size,)))
    assert await script.pack()
    return script, await head_of(script)


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [((), [0]), ((500,), [1]), ((500, 1), [1, 1]), ((60, 40), [2]), ((60, 41), [1, 1]), ((60, 40, 1, 99, 1), [2, 2, 1]),
     ((10,) * 10, [10])],
    ids=repr,
)  # fmt: skip
async def test_messages_fill_segments(
    sizes: tuple[int, ...], counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SEGMENT_BYTES", 100)
    script, head = await packed(*sizes)
    assert [segment.count for segment in head.segments] == counts
    assert [segment.first for segment in head.segments] == [sum(counts[:n]) for n in range(len(counts))]
    commits = await read_history(script.store, "s", "r")
    assert [number for number, _ in commits] == list(range(1, len(sizes) + 3))
    bodies = [body for _, records in commits for r in records if isinstance(r, Spliced) for body in r.bodies]
    assert bodies == [b"%d" % number * size for number, size in enumerate(sizes)]


@pytest.mark.parametrize(("limit", "is_inline"), [(100, True), (99, False)])
async def test_live_messages_up_to_a_size_are_in_the_checkpoint(
    limit: int, *, is_inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "INLINE_BYTES", limit)
    script, head = await packed(60, 40)
    assert script.claim is not None
    log = await read_log(context_of(script.store), script.claim.layout)
    assert head.checkpoint is not None
    view = read_checkpoint("k", log.payloads[head.checkpoint])
    assert sorted(view.bodies or {}) == ([0, 1] if is_inline else [])
    assert [segment.live for segment in head.segments] == [not is_inline]
    assert view.sequence == head.sequence == 4


async def test_merging_keeps_the_whole_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "INLINE_BYTES", 0)
    script = Script(MemoryStore())
    await script.own()
    for number in range(20):
        await script.write(Spliced("", number, 0, (b"x" * 3_000,)), Noted(f"{number}", "k", b""))
        assert await script.pack()
    head = await head_of(script)
    assert len(head.segments) < 15  # some were merged
    commits = await read_history(script.store, "s", "r")
    notes = [record.scope for _, records in commits for record in records if isinstance(record, Noted)]
    assert notes == [f"{number}" for number in range(20)]
    assert [number for number, _ in commits] == sorted({number for number, _ in commits})
    assert len(commits) == 41


async def test_what_was_live_for_a_moment_only_is_in_the_history_too() -> None:
    script = Script(MemoryStore())
    await script.own()
    await script.say("gone", "kept")
    await script.trim(1)
    assert await script.pack()
    await script.check()
    commits = await read_history(script.store, "s", "r")
    bodies = [body for _, records in commits for r in records if isinstance(r, Spliced) for body in r.bodies]
    assert len(bodies) == 2


async def test_the_newest_orphans_are_remembered() -> None:
    script = Script(MemoryStore())
    await script.own()
    for number in range(20):
        await script.write(SegmentsPlanned((f"o{number}",)))
    assert await script.pack()
    assert (await head_of(script)).orphans == tuple(f"o{number}" for number in range(4, 20))


def segments(lives: str) -> list[Segment]:
    return [Segment(Run("s", n, 1), 10 * n, 10, 100, live=live == "L") for n, live in enumerate(lives)]


@pytest.mark.parametrize(
    ("lives", "kept", "moved", "gone"),
    [
        ("." * 7, 4, [], 0),
        ("." * 8, 4, [0, 1, 2, 3], 0),
        ("." * 9, 0, [0, 1, 2, 3, 4], 0),
        ("L" * 9, 4, [], 0),
        (".L" * 6, 4, [0, 2, 4, 6], 0),
        (".L" * 5, 4, [], 0),
        ("." * 5, 5, [0], 3),
        ("L" * 9, 9, [], 7),
        ("", 5, [], 3),
    ],
)
def test_a_page_takes_what_a_load_does_not_need(
    lives: str, kept: int, moved: list[int], gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_NEWEST_SEGMENTS", 4)
    monkeypatch.setattr(packing, "_MOST_KEPT", 4)
    work = Packing(Log(LAYOUT, Head("s", "r", older=OLDER), "1"), "p", 10_000)
    every = segments(lives)
    page, left, slots = work._turn_page(every, list(range(kept)))
    assert left == [segment for n, segment in enumerate(every) if n not in moved]
    assert slots == list(range(gone, kept))
    if not moved and not gone:
        assert page == OLDER
        assert work._pieces == []
        return
    assert page == Run("p", 0, 1)
    ((key, value),) = work._pieces
    written = read_page(key, open_sealed(key, value))
    assert list(written.segments) == [every[n] for n in moved]
    assert list(written.kept) == list(range(gone))
    assert written.older == OLDER


@pytest.mark.parametrize(
    ("numbers", "holds"),
    [([], False), ([9], False), ([10], True), ([14], True), ([15], False), ([9, 15], False), ([9, 12, 15], True)],
    ids=repr,
)
def test_a_segment_holds_its_numbers(numbers: list[int], *, holds: bool) -> None:
    assert _holds_any(Segment(Run("s", 0, 1), 10, 5, 100, live=True), numbers) is holds


def test_a_number_is_among_others() -> None:
    assert [number for number in range(-1, 8) if _is_among(number, [0, 2, 3, 6])] == [0, 2, 3, 6]
    assert not _is_among(0, [])
