"""Ids and keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strands_dapr_session.errors import InvalidIdentifierError
from strands_dapr_session.journal.layout import (
    Layout,
    all_shard_keys,
    check_id,
    quote,
    random_name,
    shard_key,
    worker_key,
)
from strands_dapr_session.stores.base import check_key

ids = st.text(
    st.characters(exclude_characters="/\\", exclude_categories=("Cc", "Cs")), min_size=1, max_size=255
).filter(str.strip)


@pytest.mark.parametrize("value", ["a", "user 1", "ü", "a:b", "{x}", "..", ".a", "x" * 255, "a.b@c", "日本", "-", "😀"])
def test_ordinary_and_odd_ids_are_accepted(value: str) -> None:
    assert check_id("session_id", value) == value


@pytest.mark.parametrize(
    "value", ["", " ", "\t", "a/b", "a\\b", "a\nb", "\0", "\x7f", "x" * 256, "\ud800", None, 1, b"a"]
)
def test_other_ids_are_refused(value: object) -> None:
    with pytest.raises(InvalidIdentifierError, match="session_id"):
        check_id("session_id", value)
    with pytest.raises(ValueError, match="session_id"):
        check_id("session_id", value)


@given(ids, ids)
def test_every_key_fits_every_store(session: str, root: str) -> None:
    layout = Layout(session, root, random_name())
    for key in (
        layout.head,
        layout.slot(10**12),
        layout.part(10**9, 9999),
        layout.piece(f"p{random_name()}", 9999),
        shard_key(session),
        worker_key("0" * 16),
    ):
        check_key(key)


@given(ids, ids)
def test_different_ids_have_different_keys(one: str, other: str) -> None:
    assert (quote(one) == quote(other)) == (one == other)


@given(st.tuples(ids, ids), st.tuples(ids, ids))
def test_session_and_root_do_not_run_together(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (Layout(*one, "i").base == Layout(*other, "i").base) == (one == other)


def test_ordinary_ids_can_be_read_in_keys() -> None:
    assert Layout("user-1", "agent", "i").slot(7) == "strands:{user-1:agent}:i:7"


def test_keys_of_one_layout_do_not_collide() -> None:
    layout = Layout("s", "r", "i")
    keys = [
        layout.head,
        layout.slot(1),
        layout.slot(11),
        layout.part(1, 1),
        layout.piece("p1", 1),
        layout.piece("p", 11),
    ]
    assert len(set(keys)) == len(keys)


def test_all_sessions_are_in_one_of_the_shards() -> None:
    shards = set(all_shard_keys())
    assert all(shard_key(f"session {number}") in shards for number in range(5000))
