"""The state of a worker as plain rows: every link of both hops, the last closes.

Nothing is stored here; rows are made from the links' attributes.  Ages and idle times are seconds.
"""

import os
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import trio

from hopproxy import __version__
from hopproxy.link.origin_tls import Secured
from hopproxy.observe.link_rows import AnyLink, Row, client_row, partners, upstream_row
from hopproxy.pool.origin import Origin
from hopproxy.reasons import Hop
from hopproxy.record import ORDINARY, CloseRecord
from hopproxy.server.runtime import Runtime
from hopproxy.settings.units import address_and_port

L = TypeVar("L", bound=AnyLink)


#: Rows made between two checkpoints.
STRIDE = 100


def origins(runtime: Runtime) -> Iterator[tuple[str, Origin]]:
    """Every origin, with the name of its upstream."""
    for name, upstream in runtime.upstreams.items():
        for origin in upstream.balancer.members:
            yield name, origin


def unready(runtime: Runtime) -> str:
    """Why this worker is not ready for requests, "" if it is.

    An upstream can be reached if the last dial to one of its origins has succeeded.
    """
    if runtime.draining:
        return "draining"
    asked = runtime.settings.readiness
    if asked == "self":
        return ""
    unreached = [name for name, upstream in runtime.upstreams.items() if not upstream.is_reached()]
    if not unreached or (asked == "any" and len(unreached) < len(runtime.upstreams)):
        return ""
    return f"no origin of {', '.join(unreached)} can be reached"


# -- links -----------------------------------------------------------------------------------


async def links_of(runtime: Runtime, most: int | None = None) -> Row:
    """Every link of both hops, or at most `most` of each: the busy ones, then the youngest.

    Has a checkpoint now and then; links that close meanwhile are left out.
    """
    now = trio.current_time()
    clients, pooled = runtime.clients, runtime.pool.links
    used_by = dict(partners(clients))
    client_rows: list[Row] = []
    for client in await _chosen(clients.links, clients.idle, most):
        if len(client_rows) % STRIDE == 0:
            await trio.lowlevel.checkpoint()
        if not client.transport.closed:
            client_rows.append(client_row(client, now))
    names = {
        origin: name
        for name, upstream in runtime.upstreams.items()
        for origin in (*upstream.balancer.members, *upstream.twins)
    }
    idle = {link: None for origin in names for link in origin.idle}
    upstream_rows: list[Row] = []
    for link in await _chosen(pooled, idle, most):
        if len(upstream_rows) % STRIDE == 0:
            await trio.lowlevel.checkpoint()
        if link in pooled:
            row = upstream_row(link, pooled[link], used_by.get(link), now)
            row["upstream"] = names.get(pooled[link], "")
            upstream_rows.append(row)
    return {
        **summary(runtime, now),
        "origins": [origin_row(name, origin, now) for name, origin in origins(runtime)],
        "certificates": certificate_rows(runtime),
        "clients": client_rows,
        "upstreams": upstream_rows,
    }


async def _chosen(links: Iterable[L], idle: Iterable[L], most: int | None) -> list[L]:
    """The links to show, in the order in which they were opened."""
    found = list(links)
    if most is None or len(found) <= most:
        return found
    await trio.lowlevel.checkpoint()
    resting = set(idle)
    found.sort(key=lambda link: (link in resting, -link.number))
    return sorted(found[:most], key=lambda link: link.number)


def origin_row(name: str, origin: Origin, now: float) -> Row:
    """One origin: its links, its state and its limits."""
    pool, failed_at = origin.settings.pool, origin.reach.failed_at
    return {
        "upstream": name,
        "origin": origin.label,
        "idle": len(origin.idle) + len(origin.bound_idle),
        "lent": origin.in_use,
        "dialling": origin.dialling,
        "streams": origin.streams,
        "waiting": len(origin.waiters),
        "opened": origin.opened,
        "reused": origin.reused,
        "reached": origin.reach.reached,
        "failed_ago": None if failed_at is None else round(now - failed_at, 3),
        "passed_over": origin.reach.passed_until > now or origin.reach.checked_down,
        "out": origin.reach.is_out,
        "why_out": (origin.reach.why if origin.reach.outs else None)
        or ("its checks fail" if origin.reach.checked_down else None),
        "times_out": origin.reach.times_out,
        "name": origin.address.name or None,
        "weight": origin.weight,
        "priority": origin.priority,
        "unused": {why.value: count for why, count in origin.unused.items()},
        "tls": None if origin.secured is None else tls_row(origin.secured),
        "learned": learned_row(origin, now),
        "limits": {
            "max_connections": origin.max_connections,
            "max_idle": origin.max_idle,
            "queue": origin.queue_size,
            "idle_timeout": pool.idle_timeout,
            "max_requests": pool.max_requests,
            "max_age": pool.max_age,
        },
    }


def tls_row(secured: Secured) -> Row:
    """TLS with one origin: handshakes, and version, cipher and protocol of the last one."""
    return {
        "full": secured.full,
        "resumed": secured.resumed,
        "failed": dict(secured.failed),
        "version": secured.version or None,
        "cipher": secured.cipher or None,
        "alpn": secured.alpn or None,
    }


def learned_row(origin: Origin, now: float) -> Row:
    """What is known about an origin's own limits.

    `closes_idle_at` and `silent_at` were observed.  `idle_limit` is when a link is retired, `young`
    the idle age up to which it takes requests that cannot be retried.  `sends_no_100`: uploads do
    not wait for a 100.  `acknowledged_at_once`: ACKs are sent at once, since responses wait for
    them.  `serves_at_once`: how many connections it serves at a time, if found to be few.
    """
    learned = origin.learned
    limit, told, silent = origin.limit_at(now), learned.told, learned.silent
    width = origin.unheard.width
    return {
        "idle_limit": round(limit.value, 3),
        "limit_from": limit.source.value,
        "young": round(origin.young, 3),
        "hint": learned.hint,
        "closes_idle_at": None if told.age is None else round(told.age, 3),
        "silent_at": None if silent.age is None else round(silent.age, 3),
        "certain": told.certain or silent.certain,
        "closes_after": learned.requests(now),
        "proven": round(learned.proven, 3),
        "serves_at_once": width.proven if width.tight else None,
        "sends_no_100": origin.expectation.is_silent(now),
        "acknowledged_at_once": origin.delayed_ack.at_once,
    }


def _party(record: CloseRecord) -> Row:
    """The peer of a link, and our port or the client."""
    if record.hop is Hop.UPSTREAM:
        return {"peer": record.peer, "local_port": record.local_port}
    peer, port = address_and_port(record.peer)
    return {"peer": peer, "peer_port": port, "client": record.client or peer}


# -- the worker ------------------------------------------------------------------------------


def certificate_rows(runtime: Runtime) -> list[Row]:
    """The certificates of the settings; those that expire first come first."""
    now = time.time()
    rows = [
        {
            "setting": path,
            "file": facts.file,
            "subject": facts.subject,
            "issuer": facts.issuer,
            "names": list(facts.names),
            "key": facts.key,
            "not_before": facts.since,
            "not_after": facts.until,
            "days_left": round(facts.days_left(now), 2),
        }
        for path, facts in runtime.certificates
    ]
    return sorted(rows, key=lambda row: row["not_after"])


def summary(runtime: Runtime, now: float) -> Row:
    """The worker as a whole: its identity, its state, its totals."""
    tallies = runtime.tallies.values()
    counted = [upstream.links_counted() for upstream in runtime.upstreams.values()]
    opened, reused = (sum(one) for one in zip(runtime.gone.links_counted(), *counted, strict=True))
    return {
        "version": __version__,
        "pid": os.getpid(),
        "time": round(time.time(), 3),
        "uptime": round(now - runtime.started, 3),
        "draining": runtime.draining,
        "unready": unready(runtime),
        "totals": {
            "requests": sum(sum(tally.statuses.values()) for tally in tallies),
            "failures": sum(sum(tally.causes.values()) for tally in tallies),
            "repeated": sum(tally.repeated for tally in tallies),
            "received": sum(tally.received for tally in tallies),
            "sent": sum(tally.sent for tally in tallies),
            "accepted": runtime.clients.accepted,
            "opened": opened,
            "reused": reused,
            "closed": sum(runtime.closes.counts.values()),
            "clients": len(runtime.clients.links),
            "clients_idle": len(runtime.clients.idle),
            "upstreams": len(runtime.pool.links),
        },
        "limits": {
            "max_clients": runtime.clients.limit,
            "max_upstreams": runtime.pool.ledger.max_total,
        },
    }


def closes_of(runtime: Runtime, most: int | None = None, *, fold: bool = False) -> Row:
    """The last closes, newest first, and the count of each reason.

    `fold` leaves out the ordinary closes of clients and counts them in `folded`.
    """
    now, wall = trio.current_time(), time.time()
    closes = runtime.closes
    last = closes.notable if fold else closes.last
    rows = [
        {
            "time": round(wall - (now - record.at), 3),
            "hop": record.hop.value,
            "owner": record.reason.owner.value,
            "reason": record.reason.label,
            **_party(record),
            "age": round(record.age, 3),
            "idle": round(record.idle, 3),
            "busy": round(record.busy, 3),
            "requests": record.requests,
            "limit": round(record.limit.value, 3) if record.limit is not None else None,
            "limit_from": record.limit.source.value if record.limit is not None else None,
            "close_notify": record.notified,
            "detail": record.detail,
        }
        for record in list(reversed(last))[:most]
    ]
    counts = [
        {"hop": hop.value, "owner": reason.owner.value, "reason": reason.label, "count": count}
        for (hop, reason), count in closes.counts.items()
    ]
    answer: Row = {"time": round(wall, 3), "closes": rows, "counts": counts}
    if fold:
        answer["folded"] = {
            "last": None if closes.folded_at is None else round(wall - (now - closes.folded_at), 3),
            "reasons": {
                reason.label: count
                for (hop, reason), count in closes.counts.items()
                if hop is Hop.CLIENT and reason in ORDINARY
            },
        }
    return answer
