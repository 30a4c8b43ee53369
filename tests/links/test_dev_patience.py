"""`hopproxy dev` waits for a server that a debugger holds."""

from __future__ import annotations

import msgspec
import pytest
import trio

from hopproxy.dev.settings import ADMIN, SITE, dev_settings
from hopproxy.dev.site import site_of
from tests.raw_peers import OK
from tests.wire_pair import Hops

#: Seconds that the server stands at a breakpoint.
HELD = 50 * 60.0
BODY = b"b" * 8_000_000


async def start(hops: Hops) -> None:
    """Serve with the settings of `hopproxy dev`, towards the scripted origin."""
    settings = dev_settings(site_of(["3000"], [], [], None), SITE, ADMIN)
    app = msgspec.structs.replace(settings.upstreams["app"], origins=(hops.add_origin().address,))
    await hops.start(client=msgspec.structs.asdict(settings.client), upstreams={"app": app})


async def test_server_held_before_it_answers(hops: Hops) -> None:
    await start(hops)
    client, upstream = await hops.asked()
    await trio.sleep(HELD)
    await upstream.send(OK)
    assert (await client.message()).status == 200


async def test_server_held_while_it_reads_a_body(hops: Hops) -> None:
    await start(hops)
    client = await hops.client()
    async with trio.open_nursery() as nursery:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        nursery.start_soon(client.send, head + BODY)
        upstream = await hops.origins[0].accept()
        await trio.sleep(HELD)
        assert (await upstream.message()).body == BODY
    await upstream.send(OK)
    assert (await client.message()).status == 200


@pytest.mark.parametrize("held", ["server", "browser"])
async def test_either_end_held_inside_a_response(hops: Hops, held: str) -> None:
    await start(hops)
    client, upstream = await hops.asked()
    head = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    async with trio.open_nursery() as nursery:
        if held == "server":
            await upstream.send(head + BODY[:100])
            await trio.sleep(HELD)
            nursery.start_soon(upstream.send, BODY[100:])
        else:
            nursery.start_soon(upstream.send, head + BODY)
            await trio.sleep(HELD)
        assert (await client.message()).body == BODY
