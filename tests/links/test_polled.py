"""Both hops where there is no epoll (macOS): readiness is looked for with `poll` every 2 ms."""

from __future__ import annotations

import select
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import trio

from hopproxy.link import readiness, watch
from hopproxy.reasons import CloseReason, Hop
from tests.raw_peers import GET, OK, get
from tests.wire_pair import Hops

#: Longer than one look; time jumps, so it costs nothing.
A_LOOK = 0.01
BODY = bytes(range(256)) * 8192
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(autouse=True)
def only_poll(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hides epoll from the watch, and counts what `poll` has found, to prove that it was asked."""
    looks: list[int] = []

    class Poll:
        """The real one; what each look found is kept."""

        def __init__(self) -> None:
            self._poll = select.poll()
            self.register, self.modify = self._poll.register, self._poll.modify
            self.unregister = self._poll.unregister

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            found = self._poll.poll(timeout)
            looks.append(len(found))
            return found

    monkeypatch.setattr(watch, "select", SimpleNamespace(poll=Poll))
    names = ("POLLIN", "POLLOUT", "POLLRDHUP")
    without_epoll = {name: getattr(select, name) for name in names if hasattr(select, name)}
    monkeypatch.setattr(readiness, "select", SimpleNamespace(poll=Poll, **without_epoll))
    yield
    assert any(looks)


async def test_plain_exchanges_share_both_links(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    await trio.sleep(A_LOOK)
    for _ in range(3):
        assert (await hops.again(client, upstream)).body == b"ok"
    assert hops.closes(Hop.UPSTREAM) == []


async def test_pipelined_requests_are_answered_in_turn(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked(get(b"/1") + get(b"/2"))
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    assert (await upstream.message()).start == b"GET /2 HTTP/1.1"
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"


async def test_a_long_post_waits_for_room_and_arrives_whole(hops: Hops) -> None:
    origin = await hops.start()
    client = await hops.client()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, POST + BODY)
        upstream = await origin.accept()
        await trio.sleep(1)  # nobody reads: every buffer between the two is full
        assert (await upstream.message()).body == BODY
    await upstream.send(OK)
    assert (await client.message()).status == 200
    assert (await hops.again(client, upstream)).body == b"ok"


async def test_idle_links_end_at_their_limits(hops: Hops) -> None:
    await hops.start(client={"idle_timeout": 3.0}, pool={"idle_timeout": 2.0})
    client, upstream = await hops.pair()
    began = trio.current_time()
    assert await upstream.rest() == b""
    assert trio.current_time() - began == pytest.approx(2.0, abs=A_LOOK)
    assert await client.rest() == b""
    assert trio.current_time() - began == pytest.approx(3.0, abs=A_LOOK)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.IDLE_TIMEOUT]
    assert hops.closes(Hop.CLIENT) == [CloseReason.IDLE_TIMEOUT]


async def test_an_idle_link_that_its_origin_closes_serves_no_request(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.pair()
    upstream.close()
    await trio.sleep(A_LOOK)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]
    assert (await hops.anew(client)).body == b"ok"


async def test_unsolicited_bytes_that_came_with_a_request_are_not_its_answer(hops: Hops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    client.send_at_once(GET)  # no checkpoint between the two: one look sees both
    upstream.send_at_once(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    with trio.fail_after(1):
        await origin.accept_and_answer()
        assert (await client.message()).body == b"ok"
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.UNSOLICITED]


async def test_a_client_that_leaves_between_two_requests_ends_its_link(hops: Hops) -> None:
    await hops.start()
    client, _ = await hops.pair()
    client.close()
    await trio.sleep(A_LOOK)
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_CLOSED]


async def test_a_client_that_leaves_ends_the_wait_for_its_response(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await trio.sleep(A_LOOK)
    began = trio.current_time()
    client.close()
    with trio.fail_after(1):
        assert await upstream.rest() == b""
    assert trio.current_time() - began < A_LOOK
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


async def test_over_tcp_a_client_that_leaves_ends_the_wait_for_its_response(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    client, upstream = await tcp_hops.asked()
    await trio.sleep(A_LOOK)
    client.close()
    with trio.fail_after(0.03):
        assert await upstream.rest() == b""
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.CLIENT_GONE]


async def test_over_tcp_a_reset_of_an_idle_link_is_seen(tcp_hops: Hops) -> None:
    await tcp_hops.start()
    _, upstream = await tcp_hops.pair()
    upstream.reset()
    await trio.sleep(A_LOOK)
    assert tcp_hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_RESET]
