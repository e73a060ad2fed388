"""What every store refuses before it sends anything."""

from __future__ import annotations

import pytest

from strands_dapr_session.errors import InvalidIdentifierError, TooLargeError
from strands_dapr_session.stores.base import check_key, check_write


@pytest.mark.parametrize("key", ["a", "A.b_c:d-e{f}", "0" * 128])
def test_portable_keys_pass(key: str) -> None:
    check_key(key)


@pytest.mark.parametrize("key", ["", "a" * 129, "a||b", "a b", "a/b", "ü", "a\n", "a*", "%"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidIdentifierError, match="store key"):
        check_key(key)


def test_values_must_fit_and_not_be_empty() -> None:
    check_write("k", b"12345", 5)
    with pytest.raises(TooLargeError, match="6 bytes are more than the 5"):
        check_write("k", b"123456", 5)
    with pytest.raises(ValueError, match="empty"):
        check_write("k", b"", 5)
