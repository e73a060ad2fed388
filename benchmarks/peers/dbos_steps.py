"""One durable step of a DBOS workflow on SQLite, which returns a message.

Run by `peer_steps` in an environment of its own; prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from dbos import DBOS


def main() -> None:
    """Take one step after the other."""
    wanted = json.load(sys.stdin)
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{wanted['directory']}/dbos.db",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )

    @DBOS.step()  # type: ignore[untyped-decorator] # not installed where types are checked
    def step(number: int) -> Any:
        return wanted["messages"][number]

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    def run() -> list[float]:
        found = []
        for number in range(len(wanted["messages"])):
            began = time.perf_counter()
            step(number)
            found.append((time.perf_counter() - began) * 1000)
        return found

    DBOS.launch()
    found = run()
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    DBOS.destroy()


if __name__ == "__main__":
    main()
