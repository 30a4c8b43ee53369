"""Records of what happened: how links ended, and the data of one exchange.

Observers read the records; lower floors do not know them.
"""

from collections import deque

from msgspec import Struct

from hopproxy.reasons import CLIENT, CloseReason, Hop, Limit, Unused

#: Causes that are no failure of the proxy or its origins: the client left, or stopped reading.
CLIENT_CAUSES = frozenset({"client_closed", "client_timeout"})

#: Shorter waits for a link, in seconds, do not count: they are the time to begin a dial.
NO_WAIT = 0.0005


class CloseRecord(Struct, gc=False, eq=False):
    """One ended link.  `limit` is the limit that applied when it ended, None if there was none.

    `at` is the clock at its end, `age` is the time since it was opened.  `idle` is how long it had
    been idle; `busy` is how long it had then served the request during which it ended, 0 if there
    was none.  `client` is the client that a trusted proxy named last, `local_port` our port on an
    upstream link.  `detail` says more about the reason, if known.  `notified` if the peer has ended
    its stream with close_notify (TLS).
    """

    hop: Hop
    peer: str
    reason: CloseReason
    at: float
    age: float
    idle: float
    requests: int
    limit: Limit | None = None
    notified: bool = False
    local_port: int = 0
    client: str = ""
    detail: str = ""
    busy: float = 0.0

    def under_request(self, idled: float) -> None:
        """The link ended during a request; before, it was idle for `idled` (negative: not idle)."""
        self.busy = min(self.idle, self.idle - idled)
        self.idle -= self.busy


#: Normal ends of a client link: the client left, or was idle for too long.
ORDINARY = frozenset({
    CloseReason.PEER_CLOSED, CloseReason.PEER_ASKED, CloseReason.PEER_HTTP10,
    CloseReason.IDLE_TIMEOUT, CloseReason.NO_LENGTH})  # fmt: skip


class Closes:
    """The ended links: counts by hop and reason, of their requests by hop; the last few records.

    `notable` are the last few without ordinary closes of clients; `folded_at` is when the last of
    those was.
    """

    KEPT = 512

    def __init__(self) -> None:
        self.counts: dict[tuple[Hop, CloseReason], int] = {}
        self.requests = {Hop.CLIENT: 0, Hop.UPSTREAM: 0}
        self.last: deque[CloseRecord] = deque(maxlen=self.KEPT)
        self.notable: deque[CloseRecord] = deque(maxlen=self.KEPT)
        self.folded_at: float | None = None

    def add(self, record: CloseRecord) -> None:
        """Record a link that has ended."""
        key = (record.hop, record.reason)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.requests[record.hop] += record.requests
        self.last.append(record)
        if record.hop is CLIENT and record.reason in ORDINARY:
            self.folded_at = record.at
        else:
            self.notable.append(record)

    def count(self, hop: Hop, reason: CloseReason) -> None:
        """Count a connection that was refused: a flood of them must not hide the last closes."""
        self.counts[hop, reason] = self.counts.get((hop, reason), 0) + 1

    def add_fault(self, hop: Hop, peer: str, now: float) -> None:
        """Record a connection that a fault ended before it was a link."""
        self.add(CloseRecord(hop, peer, CloseReason.INTERNAL_ERROR, now, 0.0, 0.0, 0))


class ExchangeRecord:
    """One request and its response, for the access log and the counters.

    Times are seconds of trio's clock; sizes are body bytes without framing.  `status` is what was
    sent to the client, 0 if no response began.  `suffered` is the last upstream link that ended
    during the exchange, `unused` is why its link was fresh.  `passed` is the limit that ended it,
    by its setting.  `queued` and `connecting` are the waits for a free link and for a new
    connection.  `failed_origin` is where the first attempt failed, if the second went elsewhere.
    `peer` is the address and port of the client link's peer, `client` is the client that a trusted
    proxy named; `local_port` is our port on the upstream link, 0 on a Unix socket.  `request_id` is
    empty unless the settings ask for one.  `stream` and `upstream_stream` are 0 except on HTTP/2.
    """

    # Slots, since each request makes a record: beyond 30 attributes Python would create a dict.
    __slots__ = (
        "attempts", "cause", "client", "connecting", "detail", "ended", "failed_origin",
        "first_byte", "fresh", "has_waited", "host", "link_number", "link_request", "local_port",
        "method", "origin", "passed", "peer", "queued", "received", "request_id", "route", "sent",
        "started", "status", "stream", "suffered", "target", "unused", "upgraded",
        "upstream_close", "upstream_number", "upstream_stream",
    )  # fmt: skip

    def __init__(
        self,
        peer: str,
        link_number: int,
        link_request: int,
        started: float,
        method: bytes = b"",
        target: bytes = b"",
        host: bytes = b"",
        stream: int = 0,
    ) -> None:
        """`method`, `target` and `host` as far as they were read."""
        self.peer = peer
        self.link_number = link_number
        self.link_request = link_request
        self.started = started
        self.method = method
        self.target = target
        self.host = host
        self.stream = stream
        self.first_byte = self.ended = self.queued = self.connecting = 0.0
        self.client = self.route = self.origin = self.cause = self.detail = ""
        self.failed_origin = self.request_id = ""
        self.status = self.received = self.sent = self.attempts = 0
        self.local_port = self.upstream_number = self.upstream_stream = 0
        self.fresh = self.upgraded = self.has_waited = False
        self.upstream_close: CloseReason | None = None
        self.unused: Unused | None = None
        self.suffered: CloseRecord | None = None
        self.passed: tuple[str, float] | None = None

    def note_wait(self, began: float, now: float, dialled: float | None) -> None:
        """Note a wait for a link from `began` to `now`; `dialled` is when its dial began."""
        self.has_waited = True
        free = now if dialled is None else min(max(began, dialled), now)
        queued = free - began
        if queued < NO_WAIT:
            queued, free = 0.0, began
        self.queued += queued
        if dialled is not None:
            self.connecting += now - free
