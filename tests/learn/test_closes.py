"""Ways to end a link, on each hop: its record says who, why, and which limit it was under."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import trio

from hopproxy.pool.idle_timeout import Sign
from hopproxy.pool.origin import Origin
from hopproxy.reasons import CloseReason, Hop, Limit, Owner, Source
from tests.raw_peers import GET, OK
from tests.wire_pair import Hops

POST_10 = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


class Way(NamedTuple):
    """What happens, and what is to be on record of it."""

    act: Callable[[Hops], Awaitable[None]]
    hop: Hop
    owner: Owner
    reason: CloseReason
    limit: Limit | None = None
    settings: dict[str, dict[str, Any]] = {}  # noqa: RUF012


def by_setting(value: float) -> Limit:
    return Limit(value, Source.SETTING)


async def _pair_and_wait(hops: Hops) -> None:
    await hops.pair()
    await trio.sleep(200)


async def _client_leaves(hops: Hops) -> None:
    client, _ = await hops.pair()
    client.close()


async def _client_leaves_its_request(hops: Hops) -> None:
    client, _ = await hops.asked()
    client.close()


async def _client_says(hops: Hops, request: bytes) -> None:
    client = await hops.client()
    await client.send(request)
    await trio.sleep(20)


async def _client_asks_to_close(hops: Hops) -> None:
    client, upstream = await hops.asked(GET.replace(b"Host: a", b"Host: a\r\nConnection: close"))
    await upstream.send(OK)
    await client.message()


async def _client_speaks_http10(hops: Hops) -> None:
    client, upstream = await hops.asked(GET.replace(b"1.1", b"1.0"))
    await upstream.send(OK)
    await client.message()


async def _half_a_head(hops: Hops) -> None:
    await _client_says(hops, GET[:-2])


async def _nonsense(hops: Hops) -> None:
    await _client_says(hops, b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n")


async def _half_a_head_and_fin(hops: Hops) -> None:
    client = await hops.client()
    await client.send(GET[:-2])
    await hops.quiet()
    client.close()


async def _half_a_body(hops: Hops) -> None:
    client = await hops.client()
    await client.send(POST_10 + b"half")
    await trio.sleep(100)


async def _one_request(hops: Hops) -> None:
    await hops.pair()


async def _two_requests(hops: Hops) -> None:
    client, upstream = await hops.pair()
    await hops.again(client, upstream)


async def _a_request_when_old(hops: Hops) -> None:
    client, upstream = await hops.pair()
    await trio.sleep(50)
    await hops.again(client, upstream)


async def _drain(hops: Hops) -> None:
    client, _ = await hops.pair()
    hops.worker.stop()
    await client.rest()
    client.close()


async def _another_client(hops: Hops) -> None:
    await hops.pair()
    await hops.client()


async def _origin_dies_in_its_body(hops: Hops) -> None:
    _, upstream = await hops.asked()
    await upstream.send(OK[:-1])
    await hops.quiet()
    upstream.close()


async def _origin_says(hops: Hops, *lines: bytes) -> None:
    client, upstream = await hops.asked()
    fields = b"".join(b"\r\n" + line for line in lines)
    await upstream.send(OK.replace(b"\r\n\r\n", fields + b"\r\n\r\n", 1))
    await client.message()
    await trio.sleep(100)


async def _origin_closes(hops: Hops) -> None:
    _, upstream = await hops.pair()
    await trio.sleep(7)
    upstream.close()


async def _origin_has_died_in_silence_before(hops: Hops) -> None:
    client, _ = await hops.pair()
    (origin,) = hops.runtime.pool.ledger.shares
    assert isinstance(origin, Origin)
    (link,) = origin.idle
    origin.saw_close(link, 7.0, trio.current_time(), Sign.SILENT)
    await trio.sleep(30)
    await hops.anew(client)


async def _origin_closes_at_once(hops: Hops) -> None:
    _, upstream = await hops.asked()
    upstream.close()


async def _origin_hints(hops: Hops) -> None:
    await _origin_says(hops, b"Keep-Alive: timeout=10")


async def _origin_counts(hops: Hops) -> None:
    await _origin_says(hops, b"Keep-Alive: max=0")


async def _origin_asks_to_close(hops: Hops) -> None:
    await _origin_says(hops, b"Connection: close")


async def _origin_is_silent(hops: Hops) -> None:
    await hops.asked()
    await trio.sleep(100)


async def _origin_stops_in_its_body(hops: Hops) -> None:
    _, upstream = await hops.asked()
    await upstream.send(OK[:-1])
    await trio.sleep(100)


async def _origin_says_too_much(hops: Hops) -> None:
    _, upstream = await hops.asked()
    await upstream.send(OK + b"HTTP/1.1 200 OK\r\n")


async def _origin_speaks_unasked(hops: Hops) -> None:
    _, upstream = await hops.pair()
    await trio.sleep(3)
    await upstream.send(b"HTTP/1.1 408 Late\r\n\r\n")


async def _origin_talks_nonsense(hops: Hops) -> None:
    _, upstream = await hops.asked()
    await upstream.send(b"nonsense\r\n\r\n")


async def _origin_ends_by_closing(hops: Hops) -> None:
    _, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nall")
    upstream.close()


CLIENT = [
    Way(_client_leaves, Hop.CLIENT, Owner.PEER, CloseReason.PEER_CLOSED, by_setting(75.0)),
    Way(_client_leaves_its_request, Hop.CLIENT, Owner.PEER, CloseReason.PEER_CLOSED),
    Way(_pair_and_wait, Hop.CLIENT, Owner.TIMEOUT, CloseReason.IDLE_TIMEOUT, by_setting(75.0)),
    Way(_client_asks_to_close, Hop.CLIENT, Owner.US, CloseReason.PEER_ASKED),
    Way(_client_speaks_http10, Hop.CLIENT, Owner.US, CloseReason.PEER_HTTP10),
    Way(_half_a_head, Hop.CLIENT, Owner.TIMEOUT, CloseReason.HEAD_TIMEOUT, by_setting(10.0)),
    Way(_nonsense, Hop.CLIENT, Owner.US, CloseReason.BAD_REQUEST),
    Way(_half_a_head_and_fin, Hop.CLIENT, Owner.PEER, CloseReason.INCOMPLETE),
    Way(_half_a_body, Hop.CLIENT, Owner.TIMEOUT, CloseReason.BODY_RATE, by_setting(240)),
    Way(
        _half_a_body, Hop.CLIENT, Owner.TIMEOUT, CloseReason.BODY_TIMEOUT, by_setting(60.0),
        {"client": {"body_rate": 0}},
    ),
    Way(
        _two_requests, Hop.CLIENT, Owner.US, CloseReason.REQUEST_LIMIT, by_setting(2),
        {"client": {"max_requests": 2}},
    ),
    Way(
        _a_request_when_old, Hop.CLIENT, Owner.US, CloseReason.MAX_AGE, by_setting(40.0),
        {"client": {"max_age": 40.0}},
    ),
    Way(_drain, Hop.CLIENT, Owner.US, CloseReason.DRAINING),
    Way(
        _another_client, Hop.CLIENT, Owner.US, CloseReason.MADE_ROOM, by_setting(1),
        {"client": {"max_connections": 1}},
    ),
    Way(_origin_dies_in_its_body, Hop.CLIENT, Owner.US, CloseReason.RESPONSE_CUT),
]  # fmt: skip

UPSTREAM = [
    Way(_origin_closes, Hop.UPSTREAM, Owner.PEER, CloseReason.PEER_CLOSED, by_setting(60.0)),
    Way(_origin_closes_at_once, Hop.UPSTREAM, Owner.PEER, CloseReason.PEER_CLOSED),
    Way(_pair_and_wait, Hop.UPSTREAM, Owner.TIMEOUT, CloseReason.IDLE_TIMEOUT, by_setting(60.0)),
    Way(_origin_hints, Hop.UPSTREAM, Owner.US, CloseReason.HINT, Limit(9.0, Source.HINT)),
    Way(_origin_counts, Hop.UPSTREAM, Owner.US, CloseReason.HINT, Limit(1, Source.HINT)),
    Way(
        _origin_has_died_in_silence_before, Hop.UPSTREAM, Owner.US, CloseReason.LEARNED,
        Limit(6.0, Source.LEARNED),
    ),
    Way(_origin_asks_to_close, Hop.UPSTREAM, Owner.US, CloseReason.PEER_ASKED),
    Way(
        _origin_is_silent, Hop.UPSTREAM, Owner.TIMEOUT, CloseReason.RESPONSE_TIMEOUT,
        by_setting(50.0), {"upstream": {"response_timeout": 50.0}},
    ),
    Way(
        _origin_stops_in_its_body, Hop.UPSTREAM, Owner.TIMEOUT, CloseReason.BODY_TIMEOUT,
        by_setting(60.0),
    ),
    Way(_origin_dies_in_its_body, Hop.UPSTREAM, Owner.PEER, CloseReason.INCOMPLETE),
    Way(_origin_says_too_much, Hop.UPSTREAM, Owner.US, CloseReason.OVER_READ),
    Way(
        _origin_speaks_unasked, Hop.UPSTREAM, Owner.US, CloseReason.UNSOLICITED, by_setting(60.0)
    ),
    Way(_origin_talks_nonsense, Hop.UPSTREAM, Owner.US, CloseReason.BAD_RESPONSE),
    Way(_origin_ends_by_closing, Hop.UPSTREAM, Owner.PEER, CloseReason.CLOSE_DELIMITED),
    Way(_client_leaves_its_request, Hop.UPSTREAM, Owner.US, CloseReason.CLIENT_GONE),
    Way(
        _two_requests, Hop.UPSTREAM, Owner.US, CloseReason.REQUEST_LIMIT, by_setting(2),
        {"pool": {"max_requests": 2}},
    ),
    Way(
        _pair_and_wait, Hop.UPSTREAM, Owner.US, CloseReason.MAX_AGE, by_setting(55.0),
        {"pool": {"max_age": 55.0}},
    ),
    Way(
        _one_request, Hop.UPSTREAM, Owner.US, CloseReason.POOL_FULL, by_setting(0),
        {"pool": {"max_idle": 0}},
    ),
    Way(_drain, Hop.UPSTREAM, Owner.US, CloseReason.DRAINING),
]  # fmt: skip


@pytest.mark.parametrize(
    "way", CLIENT + UPSTREAM, ids=lambda way: f"{way.hop.value}-{way.act.__name__.strip('_')}"
)
async def test_the_record_of(way: Way, hops: Hops) -> None:
    await hops.start(**way.settings)
    await way.act(hops)
    await hops.quiet()
    record = [close for close in hops.runtime.closes.last if close.hop is way.hop][-1]
    assert (record.reason, record.reason.owner) == (way.reason, way.owner)
    if way.limit is None:
        assert record.limit is None
    else:
        assert record.limit is not None
        assert record.limit.source is way.limit.source
        assert record.limit.value == pytest.approx(way.limit.value, abs=0.5)
    assert 0 <= record.idle <= record.age
    assert record.requests <= 2
    peer = str(hops.origins[0].address) if way.hop is Hop.UPSTREAM else "unix"
    assert record.peer == peer
