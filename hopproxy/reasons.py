"""The two hops, why a link ends, and why a request gets a new one.

Every link ends for exactly one `CloseReason`, and each reason has one owner: who acted first.
"""

from enum import Enum
from typing import NamedTuple


class Hop(Enum):
    """The two hops of a gateway."""

    __hash__ = object.__hash__  # several times faster than Enum's

    CLIENT = "client"
    UPSTREAM = "upstream"


# Globals are faster than attributes of the class (see `message.Body`).
CLIENT, UPSTREAM = Hop.CLIENT, Hop.UPSTREAM


class Owner(Enum):
    """Who ended a link."""

    US = "us"
    PEER = "peer"
    TIMEOUT = "timeout"
    RESET = "reset"


class CloseReason(Enum):
    """Why a link ended: the label in logs and metrics, and who ended it."""

    def __init__(self, label: str, owner: Owner) -> None:
        self.label = label
        self.owner = owner

    __hash__ = object.__hash__

    # Either hop.
    PEER_CLOSED = ("peer_closed", Owner.PEER)  # FIN
    PEER_RESET = ("peer_reset", Owner.RESET)
    PEER_ASKED = ("peer_asked", Owner.US)  # the peer sent `Connection: close`, or GOAWAY
    PEER_HTTP10 = ("peer_http10", Owner.US)  # HTTP/1.0 without an explicit keep-alive
    IDLE_TIMEOUT = ("idle_timeout", Owner.TIMEOUT)
    BODY_TIMEOUT = ("body_timeout", Owner.TIMEOUT)
    BODY_RATE = ("body_rate", Owner.TIMEOUT)  # a request's body came more slowly
    WRITE_TIMEOUT = ("write_timeout", Owner.TIMEOUT)
    REQUEST_LIMIT = ("request_limit", Owner.US)
    MAX_AGE = ("max_age", Owner.US)
    # An idle link, closed because a limit was reached or another link was silent.
    MADE_ROOM = ("made_room", Owner.US)
    INCOMPLETE = ("incomplete", Owner.PEER)  # FIN inside a message
    TUNNEL_ENDED = ("tunnel_ended", Owner.PEER)
    TUNNEL_TIMEOUT = ("tunnel_timeout", Owner.TIMEOUT)
    DRAINING = ("draining", Owner.US)
    STOPPED = ("stopped", Owner.US)  # after `drain_timeout`, or a second signal
    INTERNAL_ERROR = ("internal_error", Owner.US)
    WORKER_ENDED = ("worker_ended", Owner.US)  # its worker crashed or was killed; counted only
    NEVER_OPENED = ("never_opened", Owner.US)
    # The client link.
    UNTRUSTED_PROXY = ("untrusted_proxy", Owner.US)  # only trusted_proxies may send a PROXY header
    PROXY_HEADER = ("proxy_header", Owner.US)  # malformed, or missing
    HANDSHAKE_TIMEOUT = ("handshake_timeout", Owner.TIMEOUT)
    HANDSHAKE_LIMIT = ("handshake_limit", Owner.US)  # made room for another handshake
    HANDSHAKE_FAILED = ("handshake_failed", Owner.US)
    HANDSHAKE_REFUSED = ("handshake_refused", Owner.PEER)  # by an alert, or by leaving
    CLIENT_CERTIFICATE = ("client_certificate", Owner.US)  # missing, or not accepted
    NO_PROTOCOL = ("no_protocol", Owner.US)  # none in common
    NOT_TLS = ("not_tls", Owner.US)  # plain HTTP on a port with TLS
    HEAD_TIMEOUT = ("head_timeout", Owner.TIMEOUT)
    ADDRESS_LIMIT = ("address_limit", Owner.US)  # max_connections_per_address; counted only
    BAD_REQUEST = ("bad_request", Owner.US)
    BODY_UNREAD = ("body_unread", Owner.US)  # answered before the request's body had ended
    NO_LENGTH = ("no_length", Owner.US)  # an HTTP/1.0 response without a length
    PROTOCOL_ERROR = ("protocol_error", Owner.US)  # a rule of HTTP/2 was broken
    FLOODED = ("flooded", Owner.US)  # too many useless HTTP/2 frames
    RESPONSE_CUT = ("response_cut", Owner.US)  # upstream failed inside the response's body
    # The upstream link.
    RESPONSE_TIMEOUT = ("response_timeout", Owner.TIMEOUT)
    PING_TIMEOUT = ("ping_timeout", Owner.TIMEOUT)  # an HTTP/2 link did not answer a PING
    STREAM_RESET = ("stream_reset", Owner.RESET)  # an HTTP/2 stream; its link goes on
    STREAM_REFUSED = ("stream_refused", Owner.RESET)  # the same, and the request was not processed
    BAD_RESPONSE = ("bad_response", Owner.US)
    CLOSE_DELIMITED = ("close_delimited", Owner.PEER)  # the close ended the body
    OVER_READ = ("over_read", Owner.US)  # bytes after the end of the response
    UNSOLICITED = ("unsolicited", Owner.US)  # bytes while it was idle
    EARLY_ANSWER = ("early_answer", Owner.US)  # answered before all of our request was sent
    UPGRADE_DECLINED = ("upgrade_declined", Owner.US)  # the body may be taken for a new request
    CLIENT_GONE = ("client_gone", Owner.US)
    POOL_FULL = ("pool_full", Owner.US)  # max_idle
    PRIVATE = ("private", Owner.US)  # bound to a client (NTLM) that has left
    HINT = ("hint", Owner.US)  # the limit in the origin's Keep-Alive field was reached
    LEARNED = ("learned", Owner.US)  # a learned limit of age or requests was reached
    ORIGIN_REMOVED = ("origin_removed", Owner.US)
    ORIGIN_OUT = ("origin_out", Owner.US)  # idle, when requests to its origin got no response
    CHECKED = ("checked", Owner.US)  # a health check of the origin
    WENT_ELSEWHERE = ("went_elsewhere", Owner.US)  # its request went to another origin


class Source(Enum):
    """Where a limit comes from."""

    SETTING = "setting"
    HINT = "hint"
    LEARNED = "learned"


class Limit(NamedTuple):
    """A limit on a link, in seconds or in requests, and where it comes from."""

    value: float
    source: Source


#: The setting behind a reason, if it does not have the reason's label.
_SPEAKS_OF = {
    CloseReason.PEER_CLOSED: "idle_timeout",
    CloseReason.PEER_RESET: "idle_timeout",
    CloseReason.UNSOLICITED: "idle_timeout",
    CloseReason.REQUEST_LIMIT: "max_requests",
    CloseReason.MADE_ROOM: "max_connections",
    CloseReason.POOL_FULL: "max_idle",
}


def setting_behind(reason: CloseReason, settings: object) -> Limit | None:
    """The limit behind the end of a link, from the settings of its hop."""
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
    UPGRADED = "upgraded"  # the last one was upgraded, or declined an upgrade with a body
    EARLY_ANSWER = "early_answer"  # the last one was answered before its request was sent
    CLIENT_GONE = "client_gone"  # the last one was closed because its client had left
    FAILED = "failed"  # the last one ended during a request


#: If there are no links: the reason, by how the last one ended.
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
