"""Dapr's health endpoints."""

from __future__ import annotations

import http.client
from contextlib import closing


def is_healthy(port: int, path: str) -> bool:
    """Whether the endpoint answers that all is well.

    Raises:
        OSError: Nobody answers.
    """
    # Not urllib, which would ask a proxy that the environment names.
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=2)) as connection:
        connection.request("GET", path)
        try:
            return connection.getresponse().status in {http.client.OK, http.client.NO_CONTENT}
        except http.client.HTTPException:
            return False
