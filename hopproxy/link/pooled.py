"""A connection to an origin as the pool knows it, whatever protocol it speaks."""

import math
from typing import Protocol

from hopproxy.link.link import Link
from hopproxy.link.transport import Transport
from hopproxy.reasons import CloseReason, Unused
from hopproxy.settings.upstream import UpstreamSettings


class Keeper(Protocol):
    """The pool, as a link sees it."""

    def on_idle_event(self, link: "PooledLink", hung_up: bool) -> None: ...
    def on_idle_lapsed(self, link: "PooledLink") -> None: ...
    def on_hint(self, link: "PooledLink", timeout: float) -> None: ...
    def on_fault(self, link: "PooledLink", error: Exception) -> None: ...


class PooledLink(Link):
    """One connection to one origin.

    `answered` (bytes have arrived since it was checked out) and `written` (bytes sent) decide about
    a retry.  `ending` is why the link must not be used again, None if it may.  `old_at` is when
    `max_age` has passed.  `keep_for` (idle seconds) and `reuses_left` are the origin's own hint
    (Keep-Alive).  `bound` once a client has sent credentials for the connection (NTLM), `greeting`
    while the origin has not accepted them.  `idled` is how many seconds it was idle when checked
    out, negative if handed over directly.  `unused` is why it was opened although there were
    others, `dialled_at` when its dial began.  `local_port` is our port, 0 on Unix sockets.
    `movable` if its request may go to another origin.
    """

    __slots__ = (
        "_received_before", "_sent_before", "bound", "dialled_at", "ending", "greeting",
        "has_rested", "heard", "idle_stamp", "idled", "keep_for", "keeper", "limits", "local_port",
        "movable", "old_at", "origin", "reuses_left", "unused",
    )  # fmt: skip

    #: How many requests it carries at a time.
    max_streams = 1
    #: Only a stream can be known to be unprocessed: see `link.stream.UpstreamStream`.
    unprocessed = http11_required = False

    def __init__(
        self, transport: Transport, origin: str, keeper: Keeper, limits: UpstreamSettings
    ) -> None:
        super().__init__(transport, origin)
        self.origin = origin
        self.keeper = keeper
        self.limits = limits
        self.local_port = 0
        self.body_timeout = limits.body_timeout
        self.write_timeout = limits.write_timeout
        self.ending: CloseReason | None = None
        self.bound = False
        self.greeting = False
        self.dialled_at = self.opened
        self.has_rested = False
        self.heard = False
        self.movable = False
        self.idle_stamp = 0
        self.idled = -1.0
        self.unused: Unused | None = None
        self.keep_for = math.inf
        self.old_at = math.inf
        self.reuses_left: int | None = None
        self._received_before = 0
        self._sent_before = 0
        transport.owner = self

    def begin(self) -> None:
        """It was checked out: count bytes from now on."""
        self.transport.resting = False
        self._received_before = self.transport.received
        self._sent_before = self.transport.sent

    @property
    def reused(self) -> bool:
        """Whether the link may have died before this request: it has served, or has been idle."""
        return self.served > 1 or self.has_rested

    @property
    def answered(self) -> bool:
        """Whether any byte of a response has arrived in this cycle."""
        return self.transport.received != self._received_before

    @property
    def written(self) -> int:
        """Bytes of the request that the kernel has accepted in this cycle."""
        return self.transport.sent - self._sent_before

    def idle_verdict(self) -> CloseReason:
        """Why an idle link that became readable must be closed."""
        try:
            data = self.transport.endpoint.peek()
        except OSError:  # an earlier call may have consumed the socket's error
            return CloseReason.PEER_RESET
        return CloseReason.UNSOLICITED if data else CloseReason.PEER_CLOSED

    # -- called by the transport -------------------------------------------------------------

    def on_unawaited(self, hung_up: bool) -> None:
        """An event that nobody waits for.  Bytes or a FIN on an idle link end it.

        The event may also mean only that the socket is writable.
        """
        if self.transport.resting and self.transport.endpoint.has_input():
            self.keeper.on_idle_event(self, hung_up)

    def on_lapsed(self) -> None:
        """The idle link's deadline has passed."""
        self.keeper.on_idle_lapsed(self)

    def on_fault(self, error: Exception) -> None:
        """A callback raised an unexpected exception."""
        if not self.transport.interrupt(error):
            self.keeper.on_fault(self, error)
