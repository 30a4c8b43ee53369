"""Which driver steps the exchanges of a test: events, tasks, or both in turn.

Set HOPPROXY_TEST_DRIVER to `tasks` or `mixed`.  With `tasks` each connection has a task from its
beginning; with `mixed` every third wake of a connection moves it into one.  A proxy that runs in a
process of its own is begun by `python -m tests.drivers`, which takes hopproxy's arguments.
"""

from __future__ import annotations

import os
import sys
from itertools import count

from hopproxy.server.connection import Connection

DRIVER = os.environ.get("HOPPROXY_TEST_DRIVER", "events")
#: What begins a proxy in a process of its own.
COMMAND = [sys.executable, "-m", "hopproxy.cli" if DRIVER == "events" else "tests.drivers"]


def apply(driver: str) -> None:
    """Have this driver step every connection of this process."""
    start, wake = Connection.start, Connection.wake
    turns = count(1)

    def start_in_task(connection: Connection) -> None:
        start(connection)
        connection.host.give_task(connection)

    def wake_and_move(connection: Connection) -> None:
        wake(connection)
        is_open = connection.client.driver is connection
        if is_open and not connection.in_task and next(turns) % 3 == 0:
            connection.host.give_task(connection)

    if driver == "tasks":
        Connection.start = start_in_task  # type: ignore[method-assign, assignment]
    elif driver == "mixed":
        Connection.wake = wake_and_move  # type: ignore[method-assign, assignment]
    elif driver != "events":
        raise ValueError(f"HOPPROXY_TEST_DRIVER={driver}: events, tasks or mixed")


if __name__ == "__main__":
    apply(DRIVER)
    from hopproxy.cli import main

    sys.exit(main())
