"""The most memory that hopproxy can take with given settings.

In the worst case every connection is open, every request has the largest head, and no peer reads.
The kernel's socket buffers are not included, nor is the memory for reading the settings.
`tests/workers/test_memory.py` compares the result with processes in the worst case.
"""

from typing import NamedTuple

from hopproxy.settings.amounts import KiB, MiB
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import packed_address
from hopproxy.settings.upstream import UpstreamSettings

#: An idle worker with full caches and logs; the supervisor.
WORKER, SUPERVISOR = 74 * MiB, 14 * MiB
#: An upstream, with its last failed requests; a name that is being looked up, in a thread.
UPSTREAM, LOOKUP, MOST_LOOKUPS = 512 * KiB, 256 * KiB, 128
#: A connection without requests, and the last bytes read from it.
LINK, READ = 4 * KiB, 64 * KiB
#: TLS on a connection: OpenSSL's state and its buffers (176 KiB), ciphertext that was read, and
#: ciphertext that the peer does not take.
TLS = 176 * KiB + READ + 64 * KiB + 128 * KiB
#: HTTP/2 on a connection: frames that the peer does not take, a frame that is not complete, and
#: the table of HPACK.
H2 = (128 + 128 + 128 + 80 + 24) * KiB
#: A request under way, without its head and its body; a field of a head beside its bytes.
REQUEST, FIELD = 12 * KiB, 320
#: Bytes of a body kept for a retry, with the last bytes read.
KEPT = 128 * KiB
#: Bytes of a body that its receiver has not accepted: after a splice, and with HTTP/2.
SPLICED, UNSENT = 256 * KiB, 128 * KiB


class _Worst(NamedTuple):
    """The largest of what listeners or upstreams allow."""

    head: int
    fields: int
    streams: int  # on one connection; 0: no HTTP/2


def most_memory(settings: Settings, workers: int) -> int:
    """Bytes, for all processes together."""
    client = settings.client
    worst = _worst(settings)
    secured = any(listener.tls is not None for listener in settings.listeners)
    answer = max(one.max_head_size for one in settings.upstreams.values())
    collected = max(one.buffer_request for one in settings.upstreams.values())
    link = LINK + READ + worst.head + TLS * secured
    if worst.streams:
        link += H2 + 2 * worst.head
    # A head as received, as lines, and as sent; the response's head as lines and as frames.
    request = REQUEST + 5 * worst.head + FIELD * worst.fields + KEPT + 2 * collected + 2 * answer
    multiplexed = min(client.max_total_streams, worst.streams * client.max_connections)
    single = client.max_connections
    if worst.streams:
        single -= -(-multiplexed // worst.streams)
    names = sum(_is_name(one.host) for up in settings.upstreams.values() for one in up.origins)
    return (
        SUPERVISOR
        + workers * (WORKER + min(names, MOST_LOOKUPS) * LOOKUP)
        + len(settings.upstreams) * workers * UPSTREAM
        + client.max_connections * link
        + single * (request + SPLICED)
        + multiplexed * (request + UNSENT)
        + _upstream_links(settings, single + multiplexed, SPLICED + 3 * worst.head + 2 * answer)
    )


def _worst(settings: Settings) -> _Worst:
    every: list[tuple[LinkSettings, bool]] = [
        (listener.client or settings.client, "h2" in listener.protocols)
        for listener in settings.listeners
    ]
    return _Worst(
        max(limits.max_head_size for limits, _ in every),
        max(limits.max_fields for limits, _ in every),
        max(limits.max_streams * multiplexed for limits, multiplexed in every),
    )


def _most_links(settings: Settings) -> int:
    """How many connections to origins there can be."""
    own = 0
    for upstream in settings.upstreams.values():
        if any(_is_name(origin.host) for origin in upstream.origins):
            return settings.max_upstream_connections  # each of its addresses is an origin
        own += len(upstream.origins) * upstream.pool.max_connections * (1 + _has_twins(upstream))
    return min(own, settings.max_upstream_connections)


def _has_twins(upstream: UpstreamSettings) -> bool:
    """Whether there are connections of its own for what HTTP/2 cannot carry."""
    return upstream.protocol == "auto" and any(one.scheme == "https" for one in upstream.origins)


def _upstream_links(settings: Settings, requests: int, stuck: int) -> int:
    """Memory of the connections to origins; as many as there are requests hold `stuck` bytes each.

    These are bytes of a request that the origin does not accept, and an incomplete response head.
    """
    most = _most_links(settings)
    each = LINK
    if any(map(_may_multiplex, settings.upstreams.values())):
        each += H2
    if any(one.scheme == "https" for up in settings.upstreams.values() for one in up.origins):
        each += TLS
    return most * each + min(most, requests) * (READ + stuck)


def _may_multiplex(upstream: UpstreamSettings) -> bool:
    if upstream.protocol == "auto":
        return any(origin.scheme != "http" for origin in upstream.origins)
    return upstream.protocol == "h2"


def _is_name(host: str) -> bool:
    """Whether this host must be looked up."""
    return host not in ("", "localhost") and packed_address(host) is None


def told(size: int) -> str:
    """`212 MiB`, rounded up; `1.5 GiB` from there on."""
    if size < 1024 * MiB:
        return f"{-(-size // MiB)} MiB"
    return f"{-(-size * 10 // (1024 * MiB)) / 10:g} GiB"
