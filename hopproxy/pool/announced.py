"""Links that begin with a PROXY header: each belongs to the one client that its header names."""

import math
import os
import socket
from functools import lru_cache, partial

from hopproxy.errors import PoolExhausted
from hopproxy.link.pooled import PooledLink
from hopproxy.link.stream import ClientStream
from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.connector import Opened
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.wait import Wait
from hopproxy.reasons import CloseReason, Unused
from hopproxy.settings.units import address_and_port
from hopproxy.wire.proxy_protocol import own_header, write_header


async def acquire(
    pool: Pool, origin: Origin, client: ClientStream | None, *, fresh: bool
) -> UpstreamLink:
    """Check out the idle link of this client, or dial one; always dial if `fresh`.

    `client` is None for a request of our own, such as a check.

    Waits.  There is no queue, since the link of another client cannot be used.  Raises
    PoolExhausted if the origin has `max_connections` links in use, and ConnectFailed.
    """
    header = _header(origin.settings.proxy_protocol, client)
    if not fresh and (link := _idle_of(pool, origin, header)) is not None:
        return link
    why = None if client is None else Unused.RETRY if fresh else origin.why_unused()
    due, evicted = pool.ledger.start_fresh(origin)
    pool.make_room(evicted)
    if not due:
        raise PoolExhausted(f"all connections to {origin.label} are in use", limit="")
    pool.ledger.dialled(origin)  # in use from now on
    waiting = Wait(pool.watch)
    dial = pool.connector.begin(origin, partial(_dialled, pool, waiting), header=header)
    origin.unheard.begin(dial, pool.watch.now())
    try:
        opened = await waiting.settled(math.inf)
    finally:
        origin.unheard.ended(dial)
        if (unused := waiting.leave()) is not None:
            pool.discard(origin, unused, CloseReason.CLIENT_GONE)
    assert isinstance(opened, UpstreamLink)
    opened.announced = header
    origin.bind(opened, 0)
    origin.begin(opened, why, pool.watch.now())
    return opened


def _idle_of(pool: Pool, origin: Origin, header: bytes) -> UpstreamLink | None:
    """Check out the warmest idle link that began with this header, if it is still open."""
    for link in reversed(origin.bound_idle):
        if isinstance(link, UpstreamLink) and link.announced == header:
            pool.ledger.take_bound(origin, link)
            if link.transport.endpoint.has_input():
                pool.end_dead(origin, link)
                return None
            origin.reused += 1
            link.begin()
            return link
    return None


def _dialled(pool: Pool, waiting: Wait, origin: Origin, opened: Opened) -> None:
    """A dial has ended: pass its link to the request that waits for it."""
    if isinstance(opened, PooledLink):
        pool.links[opened] = origin
        if waiting.left:
            pool.discard(origin, opened, CloseReason.CLIENT_GONE)
        else:
            waiting.serve(opened)
        return
    pool.ledger.drop_in_use(origin)
    if isinstance(opened, Exception):
        waiting.fail(opened)


def _header(version: str, client: ClientStream | None) -> bytes:
    """The header that names this client, and where it has connected."""
    if client is None:
        return own_header(version)
    return _written(version, address_and_port(client.peer), _local(client.fd))


@lru_cache(1024)
def _written(version: str, client: tuple[str, int], here: tuple[str, int]) -> bytes:
    return write_header(version, client, here)


def _local(fd: int) -> tuple[str, int]:
    """Our address and port on this connection; "" for a Unix socket, or once it is closed."""
    if fd < 0:
        return "", 0
    with socket.socket(fileno=os.dup(fd)) as sock:
        name = sock.getsockname()
    return (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
