"""Which driver steps the exchanges of a test: events, tasks, or both in turn.

Set HOPPROXY_TEST_DRIVER to `tasks` or `mixed`.  With `tasks` each connection has a task from its
beginning; with `mixed` every third wake of a connection, on average, moves it into one.  A proxy
that runs in a process of its own is begun by `python -m tests.drivers`, which takes hopproxy's
arguments.

Set HOPPROXY_TEST_TLS to `clients`, `origins` or `both` to have the conformance tests speak TLS
there, and HOPPROXY_TEST_HTTP2 to `clients` to play them a second time with clients of HTTP/2.
"""

from __future__ import annotations

import os
import random
import sys

from hopproxy.server.connection import Connection

DRIVER = os.environ.get("HOPPROXY_TEST_DRIVER", "events")
#: The hops on which the conformance tests speak TLS: `clients`, `origins` or `both`.
TLS = os.environ.get("HOPPROXY_TEST_TLS", "")
#: The hop on which they are played in HTTP/2 as well: `clients`, or none.
HTTP2 = os.environ.get("HOPPROXY_TEST_HTTP2", "")
#: What begins a proxy in a process of its own.
COMMAND = [sys.executable, "-m", "hopproxy.cli" if DRIVER == "events" else "tests.drivers"]

_start, _wake = Connection.start, Connection.wake
_chance = random.Random(1)


def choose_by(name: str) -> None:
    """Have `mixed` choose its wakes by this name: a test moves at the same ones each time."""
    _chance.seed(name)


def apply(driver: str) -> None:
    """Have this driver step every connection of this process that begins from now on."""
    if driver not in ("events", "tasks", "mixed"):
        raise ValueError(f"HOPPROXY_TEST_DRIVER={driver}: events, tasks or mixed")
    start = _start_in_task if driver == "tasks" else _start
    wake = _wake_and_move if driver == "mixed" else _wake
    Connection.start, Connection.wake = start, wake  # type: ignore[method-assign, assignment]


def _start_in_task(connection: Connection) -> None:
    _start(connection)
    connection.owner.give_task(connection)


def _wake_and_move(connection: Connection) -> None:
    _wake(connection)
    is_open = connection.client.driver is connection
    if is_open and not connection.in_task and _chance.random() < 1 / 3:
        connection.owner.give_task(connection)


if __name__ == "__main__":
    apply(DRIVER)
    from hopproxy.cli import main

    sys.exit(main())
