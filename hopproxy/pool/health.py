"""Origins whose requests fail, and origins that answer again."""

import logging
from typing import Protocol

from hopproxy.errors import Passed
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.pooled import PooledLink
from hopproxy.pool.idle_timeout import Sign
from hopproxy.pool.origin import ERRORS, Origin
from hopproxy.reasons import CloseReason

log = logging.getLogger("hopproxy")

#: Ends of a link under a request, before its response has begun, that count as failures of its
#: origin.
FAILURES = {
    CloseReason.PEER_CLOSED: "close",
    CloseReason.PEER_RESET: "reset",
    CloseReason.RESPONSE_TIMEOUT: "timeout",
    CloseReason.BAD_RESPONSE: "malformed response",
}


class Links(Protocol):
    """The pool: all upstream links, with their origins."""

    links: dict[PooledLink, Origin]

    def drop_idle(self, link: PooledLink, reason: CloseReason) -> None: ...


def ended(
    pool: Links, origin: Origin, link: PooledLink, reason: CloseReason, sign: Sign | None
) -> None:
    """A link has ended under its request.  `sign` if it had ended before, while it was idle."""
    if link.multiplexed or link.answered or sign not in (None, Sign.SILENT):
        return
    if sign is Sign.SILENT:
        retire(pool, origin)
    request_ended(pool, origin, reason, link.transport.now())


def request_ended(pool: Links, origin: Origin, reason: CloseReason, now: float) -> None:
    """A request has ended without a response; there may be a part of its head."""
    if reason in FAILURES:
        failed(pool, origin, FAILURES[reason], now)


def failed(pool: Links, origin: Origin, kind: str, now: float) -> None:
    """A request has failed on an origin; `kind` says how, as one noun or as `status 503`."""
    origin.latency.failed += 1
    peers = origin.peers
    if peers is None or origin.removed:
        return
    may_go = peers.has_another(origin, now)
    out = origin.reach.request_failed(kind, now, may_go=may_go)
    if out is None:
        return
    log.warning("origin %s out for %g s: %s", origin.label, out.seconds, out.why)
    if "timeout" in out.why:
        silent(pool, origin, now)


def judge(pool: Links, origin: Origin, status: int, now: float, *, movable: bool) -> None:
    """A response has begun: an error, or any response of an origin that had failures or is out.

    Raises Passed if it counts as a failure and another origin may answer the request.
    """
    reach = origin.reach
    if status not in origin.settings.health.statuses:
        if status >= ERRORS:
            origin.latency.failed += 1
        since = reach.out_since
        if reach.answered(now):
            log.info("origin %s is back after %.1f s", origin.label, now - since)
        return
    failed(pool, origin, f"status {status}", now)
    peers = origin.peers
    if movable and peers is not None and peers.chances(origin, now):
        raise Passed(f"{origin.label} answered with status {status}")


def is_unanswered(link: PooledLink) -> bool:
    """Whether a link carries a request of which no byte of the response has come."""
    return link.ending is CloseReason.EARLY_ANSWER and not link.answered


def silent(pool: Links, origin: Origin, now: float) -> None:
    """An origin has gone silent."""
    retire(pool, origin)
    if origin.peers is not None:
        move(pool, origin, origin.peers.chances(origin, now))


def retire(pool: Links, origin: Origin) -> None:
    """Close the idle links of a silent address: they may be dead without any sign."""
    for one in origin.known.origins:
        for link in (*one.idle, *one.bound_idle):
            pool.drop_idle(link, CloseReason.ORIGIN_OUT)


def move(pool: Links, origin: Origin, left: int) -> None:
    """Up to `left` requests that wait on a silent origin go to another one."""
    for link, owner in list(pool.links.items()):
        if left <= 0:
            return
        if owner is not origin:
            continue
        silent = Passed(f"{origin.label} is out, and has sent nothing")
        if isinstance(link, H2UpstreamLink):
            waiting = [stream for stream in link.streams if stream.movable and stream.waits]
            left -= sum(stream.leave(silent) for stream in waiting[:left])
        elif link.movable and is_unanswered(link):
            left -= link.transport.interrupt(silent)
