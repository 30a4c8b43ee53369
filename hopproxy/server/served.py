"""Interfaces of what serves a client connection, and of its owner, for all protocols."""

from typing import Protocol

from hopproxy.link.clients import AnyClientLink
from hopproxy.proxy.terms import Terms
from hopproxy.reasons import CloseReason


class Served(Protocol):
    """Serves one client connection: `Connection` (HTTP/1.1) or `H2Connection`.

    `in_task` once it is driven, or waited for, by a task.
    """

    in_task: bool

    @property
    def client(self) -> AnyClientLink: ...
    @property
    def under_way(self) -> int:
        """How many requests are being served."""

    def announce_close(self) -> None:
        """The worker is about to stop, but still serves."""

    def end_idle(self) -> None:
        """Close the link, which is idle; a request that arrives at this moment is not lost."""

    def close(self) -> None:
        """End what is under way."""

    def move_to_task(self) -> None:
        """`run_in_task` follows."""

    async def run_in_task(self) -> None:
        """Serve the connection in the calling task until it ends.  Closes it when cancelled."""


class Owner(Protocol):
    """What owns the connections: the gateway, as they see it."""

    terms: Terms  # used from the next request on

    def close(self, connection: Served, reason: CloseReason) -> None:
        """The connection has ended."""

    def give_task(self, connection: Served) -> None:
        """Continue the connection in a task."""
