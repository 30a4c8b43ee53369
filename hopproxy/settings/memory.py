"""How much memory hopproxy may take with given settings, at the very worst."""

from hopproxy.settings.amounts import KiB, MiB
from hopproxy.settings.schema import Settings

#: A worker that serves nobody, with its logs full; the supervisor.
WORKER, SUPERVISOR = 48 * MiB, 14 * MiB
#: An idle link of a client, without and with TLS.
LINK, TLS_LINK = 2 * KiB, 20 * KiB
#: Of one request: what is kept of its body, what was read last, and what a slow client has not
#: taken of the response.
KEPT, READ, UNSENT = 64 * KiB, 64 * KiB, 256 * KiB


def most_memory(settings: Settings, workers: int) -> int:
    """Bytes: every connection open, every request with the largest head, nobody reads or ends.

    Each connection has one request; with HTTP/2, further ones use an upstream link, wait for one,
    or wait for their own body.  The kernel's buffers are not in it.
    """
    client = settings.client
    at_once = any("h2" in listener.protocols for listener in settings.listeners)
    secured = any(listener.tls is not None for listener in settings.listeners)
    requests, links, head = client.max_connections, 0, 0
    for upstream in settings.upstreams.values():
        own = len(upstream.origins) * upstream.pool.max_connections
        links += own
        head = max(head, upstream.max_head_size)
        if at_once:  # more than one request on a connection: others are refused
            most = 2 * (own + len(upstream.origins) * upstream.pool.queue)
            limit = upstream.max_requests_in_flight
            requests += min(most, limit) if isinstance(limit, int) and limit else most
    return (
        SUPERVISOR
        + workers * WORKER
        + client.max_connections * (TLS_LINK if secured else LINK)
        + requests * (2 * client.max_head_size + KEPT + READ + UNSENT)
        + min(links, settings.max_upstream_connections) * (2 * head + READ)
    )


def told(size: int) -> str:
    """`212 MiB`, rounded up; `1.5 GiB` from there on."""
    if size < 1024 * MiB:
        return f"{-(-size // MiB)} MiB"
    return f"{-(-size * 10 // (1024 * MiB)) / 10:g} GiB"
