"""What happened: why links ended, and what one exchange was.

Every link of both hops ends for exactly one `CloseReason`, and each reason has one owner: who
acted first.  Records travel up; observers read them, no room below knows who looks.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple


class Hop(Enum):
    """The two links a gateway stands between."""

    __hash__ = object.__hash__  # Enum's own is several times slower, and says no more

    CLIENT = "client"
    UPSTREAM = "upstream"


class Owner(Enum):
    """Who ended a link."""

    US = "us"
    PEER = "peer"
    TIMEOUT = "timeout"
    RESET = "reset"


class CloseReason(Enum):
    """Why a link ended: the name seen by tests, logs and metrics alike, and its owner."""

    def __init__(self, label: str, owner: Owner) -> None:
        self.label = label
        self.owner = owner

    __hash__ = object.__hash__

    # Either hop.
    PEER_CLOSED = ("peer_closed", Owner.PEER)  # FIN while idle: the usual end
    PEER_RESET = ("peer_reset", Owner.RESET)
    PEER_ASKED = ("peer_asked", Owner.US)  # its `Connection: close`, carried out by us
    PEER_HTTP10 = ("peer_http10", Owner.US)  # HTTP/1.0 without an explicit keep-alive
    IDLE_TIMEOUT = ("idle_timeout", Owner.TIMEOUT)
    BODY_TIMEOUT = ("body_timeout", Owner.TIMEOUT)
    WRITE_TIMEOUT = ("write_timeout", Owner.TIMEOUT)
    REQUEST_LIMIT = ("request_limit", Owner.US)
    MAX_AGE = ("max_age", Owner.US)
    MADE_ROOM = (
        "made_room",
        Owner.US,
    )  # an idle one: a limit was full, or another was not taken up
    INCOMPLETE = ("incomplete", Owner.PEER)  # FIN inside a message
    TUNNEL_ENDED = ("tunnel_ended", Owner.PEER)
    TUNNEL_TIMEOUT = ("tunnel_timeout", Owner.TIMEOUT)
    DRAINING = ("draining", Owner.US)
    STOPPED = ("stopped", Owner.US)  # the drain was over, or a second signal came
    INTERNAL_ERROR = ("internal_error", Owner.US)
    NEVER_OPENED = ("never_opened", Owner.US)
    # The client link.
    HEAD_TIMEOUT = ("head_timeout", Owner.TIMEOUT)
    BAD_REQUEST = ("bad_request", Owner.US)
    BODY_UNREAD = ("body_unread", Owner.US)  # answered before the request's body had ended
    NO_LENGTH = ("no_length", Owner.US)  # the close is what delimits an HTTP/1.0 response
    RESPONSE_CUT = ("response_cut", Owner.US)  # upstream failed inside the body: never look whole
    # The upstream link.
    RESPONSE_TIMEOUT = ("response_timeout", Owner.TIMEOUT)
    BAD_RESPONSE = ("bad_response", Owner.US)
    CLOSE_DELIMITED = ("close_delimited", Owner.PEER)  # its close was the end of the body
    OVER_READ = ("over_read", Owner.US)  # bytes came after the response had ended
    UNSOLICITED = ("unsolicited", Owner.US)  # bytes came while it was idle
    EARLY_ANSWER = ("early_answer", Owner.US)  # answered before our request had been sent
    UPGRADE_DECLINED = ("upgrade_declined", Owner.US)  # its body may be read as what follows
    CLIENT_GONE = ("client_gone", Owner.US)
    POOL_FULL = ("pool_full", Owner.US)  # max_idle
    PRIVATE = ("private", Owner.US)  # NTLM made it one client's, and that client has left
    HINT = ("hint", Owner.US)  # Keep-Alive said that it will not be kept long enough
    LEARNED = ("learned", Owner.US)  # the origin was seen to close at this age or count
    ORIGIN_REMOVED = ("origin_removed", Owner.US)


class Source(Enum):
    """Where a limit comes from."""

    SETTING = "setting"
    HINT = "hint"
    LEARNED = "learned"


class Limit(NamedTuple):
    """A limit on a link, in seconds or in requests, and where it comes from."""

    value: float
    source: Source


#: The setting that a reason speaks of, where it is not of the reason's own name.
_SPEAKS_OF = {
    CloseReason.PEER_CLOSED: "idle_timeout",
    CloseReason.PEER_RESET: "idle_timeout",
    CloseReason.UNSOLICITED: "idle_timeout",
    CloseReason.REQUEST_LIMIT: "max_requests",
    CloseReason.MADE_ROOM: "max_connections",
    CloseReason.POOL_FULL: "max_idle",
}


def setting_behind(reason: CloseReason, settings: object) -> Limit | None:
    """The limit that applied to a link that ended so, out of the settings of its hop."""
    value = getattr(settings, _SPEAKS_OF.get(reason, reason.label), None)
    return None if value is None else Limit(value, Source.SETTING)


class Unused(Enum):
    """Why a request got a fresh link although there were, or had been, others to its origin."""

    ALL_BUSY = "all_busy"
    RETRY = "repetition"  # a retry: another idle link might be dead too
    METHOD = "method"  # it cannot be retried, and no idle link was young enough
    PRIVATE = "private"  # NTLM has bound every link to its client
    OLD_BY_SETTING = "old_by_setting"
    OLD_BY_HINT = "old_by_hint"
    OLD_BY_LEARNING = "old_by_learning"
    MAX_AGE = "max_age"
    REQUEST_LIMIT = "request_limit"
    OVER_READ = "over_read"
    CLOSED_BY_ORIGIN = "closed_by_origin"
    MADE_ROOM = "made_room"
    UPGRADED = "upgraded"  # the last one was switched to another protocol, or nearly so
    EARLY_ANSWER = "early_answer"  # the last one was answered before its request had been sent
    CLIENT_GONE = "client_gone"  # the last one ended since its client had left
    FAILED = "failed"  # the last one ended under its request


#: Where the pool is empty: what the end of its last link says.
UNUSED_AFTER = {
    CloseReason.IDLE_TIMEOUT: Unused.OLD_BY_SETTING,
    CloseReason.HINT: Unused.OLD_BY_HINT,
    CloseReason.LEARNED: Unused.OLD_BY_LEARNING,
    CloseReason.MAX_AGE: Unused.MAX_AGE,
    CloseReason.REQUEST_LIMIT: Unused.REQUEST_LIMIT,
    CloseReason.OVER_READ: Unused.OVER_READ,
    CloseReason.UNSOLICITED: Unused.OVER_READ,
    CloseReason.PRIVATE: Unused.PRIVATE,
    CloseReason.PEER_CLOSED: Unused.CLOSED_BY_ORIGIN,
    CloseReason.PEER_RESET: Unused.CLOSED_BY_ORIGIN,
    CloseReason.PEER_ASKED: Unused.CLOSED_BY_ORIGIN,
    CloseReason.PEER_HTTP10: Unused.CLOSED_BY_ORIGIN,
    CloseReason.CLOSE_DELIMITED: Unused.CLOSED_BY_ORIGIN,
    CloseReason.POOL_FULL: Unused.MADE_ROOM,
    CloseReason.MADE_ROOM: Unused.MADE_ROOM,
    CloseReason.TUNNEL_ENDED: Unused.UPGRADED,
    CloseReason.TUNNEL_TIMEOUT: Unused.UPGRADED,
    CloseReason.UPGRADE_DECLINED: Unused.UPGRADED,
    CloseReason.EARLY_ANSWER: Unused.EARLY_ANSWER,
    CloseReason.CLIENT_GONE: Unused.CLIENT_GONE,
}

#: Causes that are no failure of the proxy or its origins: the client left, or took nothing more.
CLIENT_CAUSES = frozenset({"client_closed", "client_timeout"})

#: A wait for a link that is shorter (seconds) is only the time it takes to begin a dial.
NO_WAIT = 0.0005


class CloseRecord:
    """One ended link.  `limit` is what bounded it in the state it was in, None if nothing did.

    `idle` is for how long it had been idle, `busy` for how long it had then served the request that
    it ended under, 0 if there was none.  `client` is whom a trusted peer named last, `local_port`
    our own port on an upstream link.
    """

    __slots__ = (
        "age", "at", "busy", "client", "hop", "idle", "limit", "local_port", "peer", "reason",
        "requests",
    )  # fmt: skip

    def __init__(
        self,
        hop: Hop,
        peer: str,
        reason: CloseReason,
        times: tuple[float, float, float],
        requests: int,
    ) -> None:
        """`times`: (clock now, age, time since it was last used), in seconds."""
        self.hop = hop
        self.peer = peer
        self.reason = reason
        self.at, self.age, self.idle = times
        self.requests = requests
        self.limit: Limit | None = None
        self.client = ""
        self.local_port = 0
        self.busy = 0.0

    def under_request(self, idled: float) -> None:
        """It had been idle for `idled` only (below 0: not at all), and served a request since."""
        self.busy = min(self.idle, self.idle - idled)
        self.idle -= self.busy


#: How a client link ends when nothing is wrong: the client leaves, or was idle for long enough.
ORDINARY = frozenset(
    {
        CloseReason.PEER_CLOSED,
        CloseReason.PEER_ASKED,
        CloseReason.PEER_HTTP10,
        CloseReason.IDLE_TIMEOUT,
        CloseReason.NO_LENGTH,
    }
)


class Closes:
    """The ended links: a count for each reason on each hop, and the last few records.

    `notable` are the last few without ordinary closes of clients, which would bury the others.
    `folded_at` is when the last of those was.
    """

    KEPT = 512

    def __init__(self) -> None:
        self.counts: dict[tuple[Hop, CloseReason], int] = {}
        self.last: deque[CloseRecord] = deque(maxlen=self.KEPT)
        self.notable: deque[CloseRecord] = deque(maxlen=self.KEPT)
        self.folded_at: float | None = None

    def add(self, record: CloseRecord) -> None:
        """Note that a link has ended."""
        key = (record.hop, record.reason)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.last.append(record)
        if record.hop is Hop.CLIENT and record.reason in ORDINARY:
            self.folded_at = record.at
        else:
            self.notable.append(record)

    def add_fault(self, hop: Hop, peer: str, now: float) -> None:
        """Note that a fault of ours has ended a connection before it was a link."""
        self.add(CloseRecord(hop, peer, CloseReason.INTERNAL_ERROR, (now, 0.0, 0.0), 0))


class ExchangeRecord:
    """One request and its response, as the access log and the counters see them.

    Times are seconds of the process clock; sizes are body bytes, as carried, framing excluded.
    `status` is what the client was sent, 0 when no response began.  `suffered` is the last upstream
    link that ended under it, `unused` why its link was a fresh one.  `passed` is the limit that
    ended it, by its setting.  `queued` and `connecting` are how long it waited for a link to come
    free, and for a connection to be made.  `peer` is the address and the port at the other end of
    the client link, `client` whom a trusted peer named; `local_port` is our own port on the
    upstream link, 0 on a Unix socket.
    """

    # Slots: Python keeps at most 30 attributes of an object without a dict of its own, and each
    # request makes such a record.
    __slots__ = (
        "attempts", "cause", "client", "connecting", "detail", "ended", "first_byte", "fresh",
        "has_waited", "host", "link_number", "link_request", "local_port", "method", "origin",
        "passed", "peer", "queued", "received", "route", "sent", "started", "status", "suffered",
        "target", "unused", "upgraded", "upstream_close", "upstream_number",
    )  # fmt: skip

    def __init__(self, peer: str, link_number: int, link_request: int, started: float) -> None:
        self.peer = peer
        self.link_number = link_number
        self.link_request = link_request
        self.started = started
        self.first_byte = self.ended = self.queued = self.connecting = 0.0
        self.method = self.target = self.host = b""
        self.client = self.route = self.origin = self.cause = self.detail = ""
        self.status = self.received = self.sent = self.attempts = 0
        self.local_port = self.upstream_number = 0
        self.fresh = self.upgraded = self.has_waited = False
        self.upstream_close: CloseReason | None = None
        self.unused: Unused | None = None
        self.suffered: CloseRecord | None = None
        self.passed: tuple[str, float] | None = None

    def note_wait(self, began: float, now: float, dialled: float | None) -> None:
        """A link was waited for since `began`: one whose dial began at `dialled`, None for none."""
        self.has_waited = True
        free = now if dialled is None else min(max(began, dialled), now)
        queued = free - began
        if queued < NO_WAIT:
            queued, free = 0.0, began
        self.queued += queued
        if dialled is not None:
            self.connecting += now - free
