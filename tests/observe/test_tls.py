"""What is shown of TLS: handshakes on both hops, those that were saved, and certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from hopproxy.observe.metrics import Metrics
from hopproxy.observe.snapshot import links_of
from hopproxy.settings.certificate import OriginTls
from tests.authority import certificate, files_of
from tests.raw_peers import GET
from tests.tls_peers import NAME, TlsHops, ca_file
from tests.wire_pair import nothing_left


@pytest.fixture
async def hops(tmp_path: Path) -> AsyncIterator[TlsHops]:
    """Both hops on Unix sockets, TLS towards the origins."""
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = TlsHops(nursery, tmp_path)
            yield made
            await made.end()


def values(hops: TlsHops, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one metric, by the values of its labels in the order of their names."""
    text = Metrics(hops.runtime, None).exposition("")[0].decode()
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_handshakes_are_counted_and_so_are_those_that_were_saved(hops: TlsHops) -> None:
    origin = await hops.start()
    client, upstream = await hops.pair()
    for _ in range(7):
        await hops.again(client, upstream)
    saved = "hopproxy_tls_handshakes_saved_total"
    assert values(hops, saved) == {("client",): 0, ("upstream",): 7}
    upstream.close()
    await hops.quiet()
    assert values(hops, saved) == {("client",): 0, ("upstream",): 7}
    await client.send(GET)
    await origin.accept_and_answer()
    await client.message()
    assert values(hops, saved) == {("client",): 0, ("upstream",): 7}
    assert values(hops, "hopproxy_tls_handshakes_total") == {
        ("upstream", "full", "TLSv1.3"): 1,
        ("upstream", "resumed", "TLSv1.3"): 1,
    }
    row = (await links_of(hops.runtime))["origins"][0]["tls"]
    assert (row["full"], row["resumed"], row["failed"]) == (1, 1, {})
    assert (row["version"], row["alpn"]) == ("TLSv1.3", None)


async def test_a_handshake_that_fails_is_counted(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    (await origin.accept_raw()).close()
    assert (await client.message()).status == 502
    assert values(hops, "hopproxy_tls_handshakes_total") == {("upstream", "failed", ""): 1}
    assert (await links_of(hops.runtime))["origins"][0]["tls"]["failed"] == {
        "tls_protocol_error": 1
    }


async def test_certificates_are_shown_with_the_days_that_are_left(
    hops: TlsHops, tmp_path: Path
) -> None:
    cert, key = files_of(certificate("me.test"), tmp_path, "me")
    tls = OriginTls(ca=ca_file(tmp_path), server_name=NAME, cert=str(cert), key=str(key))
    await hops.start(upstream={"tls": tls})
    left = values(hops, "hopproxy_certificate_days_left")
    assert {setting for setting, _ in left} == {
        "upstreams.app.tls.cert",
        "upstreams.app.tls.ca",
    }
    assert all(days > 100 for days in left.values())
    rows = (await links_of(hops.runtime))["certificates"]
    assert [row["days_left"] for row in rows] == sorted(row["days_left"] for row in rows)
    (ours,) = [row for row in rows if row["setting"] == "upstreams.app.tls.cert"]
    assert (ours["file"], ours["names"]) == (str(cert), ["me.test"])
