"""KeyUpdates of TLS 1.3: peers may send them, but not too many."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.client import Listener
from tests.authority import TlsPeer, client_context, listener_tls
from tests.raw_peers import GET, OK
from tests.sealed import Sealer
from tests.wire_pair import Hops


async def open_link(hops: Hops, directory: Path) -> tuple[TlsPeer, Sealer]:
    """A client whose handshake has ended, and what seals its records."""
    await hops.start(listeners=(Listener(tls=listener_tls(directory)),))
    context, log = client_context(ssl.TLSVersion.TLSv1_3), directory / "keys"
    context.keylog_filename = str(log)
    client = TlsPeer(await hops.client(), context)
    await client.shake()
    await hops.quiet()
    return client, Sealer(log, "CLIENT_TRAFFIC_SECRET_0")


@pytest.mark.parametrize("answer", [False, True])
async def test_a_request_among_key_updates_is_served(
    hops: Hops, directory: Path, answer: bool
) -> None:
    client, sealer = await open_link(hops, directory)
    for _ in range(3):
        records = [sealer.key_update(answer=answer) for _ in range(300)]
        await hops.clients[0].send(b"".join(records) + sealer.data(GET))
        upstream = hops.origins[0].peers[0] if hops.origins[0].peers else None
        upstream = upstream or await hops.origins[0].accept()
        await upstream.message()
        await upstream.send(OK)
        assert (await client.message()).body == b"ok"


@pytest.mark.parametrize("answer", [False, True])
async def test_a_flood_of_key_updates_ends_the_link(
    hops: Hops, directory: Path, answer: bool
) -> None:
    _client, sealer = await open_link(hops, directory)
    flood = b"".join(sealer.key_update(answer=answer) for _ in range(4000))
    hops.clients[0].sock.setsockopt(1, 7, 4 * len(flood))  # SO_SNDBUF: all of it at once
    await hops.clients[0].send(flood + sealer.data(GET))
    await hops.clients[0].gone()
    assert hops.closes(Hop.CLIENT) == [CloseReason.PEER_RESET]
    assert not hops.origins[0].peers
