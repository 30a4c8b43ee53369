"""One row for each link, and for each stream of an HTTP/2 link.  Times are seconds."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from hopproxy.link.clients import AnyClientLink, Clients
from hopproxy.link.h2 import H2Link
from hopproxy.link.link import Link
from hopproxy.link.pooled import PooledLink
from hopproxy.link.stepper import Stepper
from hopproxy.link.transport import Transport
from hopproxy.pool.origin import Origin
from hopproxy.pool.wait import Wait
from hopproxy.reasons import Hop
from hopproxy.settings.units import address_and_port

Row = dict[str, Any]


class AnyLink(Protocol):
    """What the rows of all links have in common."""

    number: int
    hop: Hop
    peer: str
    opened: float
    since: float
    served: int
    transport: Transport


class Partner(NamedTuple):
    """What uses an upstream link, and since when: a client link, or the `stream` of one."""

    number: int
    stream: int
    since: float
    upgraded: bool = False


def partners(clients: Clients) -> Iterator[tuple[Link, Partner]]:
    """The upstream links in use, each with what uses it: a client link, or one of its streams."""
    for link in clients.links:
        if isinstance(link, H2Link):
            for stream in link.streams:
                if stream.partner is not None:
                    upgraded = stream.tunnel is not None
                    yield (
                        stream.partner,
                        Partner(link.number, stream.stream_id, stream.since, upgraded),
                    )
        elif link.partner is not None:
            yield link.partner, Partner(link.number, 0, link.since, link.tunnelling)


def client_row(link: AnyClientLink, now: float) -> Row:
    """One client link.  `idle_limit` is null if it is not idle."""
    idle = link in link.clients.idle
    state = "busy"
    if idle:
        state = "idle"
    elif _waits(link.driver):
        state = "waiting"
    elif link.tunnelling:
        state = "upgraded"
    row = _row(link, now, state)
    row["peer"], row["peer_port"] = address_and_port(link.peer)
    row["client"] = link.named or row["peer"]
    row["idle_limit"] = round(link.transport.read_by - link.since, 3) if idle else None
    row["coupled_to"] = link.partner.number if link.partner is not None else None
    row["busy"] = 0.0 if idle else round(now - link.since, 3)
    row["protocol"] = link.protocol
    row["streams"] = _stream_rows(link, now) if isinstance(link, H2Link) else []
    return row


def _waits(driver: Stepper | None) -> bool:
    """Whether an exchange waits for an upstream link."""
    return driver is not None and isinstance(driver.waits_for, Wait)


def _stream_rows(link: H2Link, now: float) -> list[Row]:
    """The exchanges under way on an HTTP/2 link, by the number of their stream."""
    return [
        {
            "stream": stream.stream_id,
            "state": "waiting" if _waits(stream) else "upgraded" if stream.tunnel else "busy",
            "coupled_to": stream.partner.number if stream.partner is not None else None,
            "busy": round(now - stream.since, 3),
        }
        for stream in link.streams
    ]


def upstream_row(link: PooledLink, origin: Origin, client: Partner | None, now: float) -> Row:
    """One upstream link, and the `client` that uses it, if any."""
    idle = link in origin.idle
    state = "idle" if idle else "upgraded" if client and client.upgraded else "busy"
    if state == "busy" and client is None and link.bound:
        state = "private"  # bound, and between two requests of its client
    row = _row(link, now, state)
    row["origin"] = origin.label
    row["local_port"] = link.local_port
    resting = idle or link in origin.bound_idle
    row["idle_limit"] = round(link.transport.read_by - link.since, 3) if resting else None
    row["coupled_to"] = client.number if client is not None else None
    row["stream"] = client.stream if client is not None else 0
    row["busy"] = round(now - client.since, 3) if client is not None else 0.0
    row["protocol"] = "h2" if link.multiplexed else "http/1.1"
    row["streams"] = origin.lent.get(link, 0)
    row["max_streams"] = link.max_streams
    return row


def _row(link: AnyLink, now: float, state: str) -> Row:
    return {
        "number": link.number,
        "hop": link.hop.value,
        "peer": link.peer,
        "state": state,
        "age": round(now - link.opened, 3),
        "idle": round(now - link.since, 3) if state in ("idle", "private") else 0.0,
        "requests": link.served,
        "received": link.transport.received,
        "sent": link.transport.sent,
    }
