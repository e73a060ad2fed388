"""A GET of a server's own HTTP port."""

from __future__ import annotations

import http.client
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> bytes | None:
    """Return the body of the answer, or None when the answer is no success.

    Raises:
        OSError: Nobody answers.
    """
    # Not urllib, which would ask a proxy that the environment names.
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
        connection.request("GET", path, headers=dict(headers or {}))
        try:
            response = connection.getresponse()
            body = response.read()
        except http.client.HTTPException:
            return None
        return body if response.status in {http.client.OK, http.client.NO_CONTENT} else None
