"""Who is asking, as the origin sees it on the wire: behind a trusted proxy, and behind none."""

from __future__ import annotations

import re
import socket

import pytest

from hopproxy.link import tcp
from hopproxy.pool import connector
from hopproxy.settings.networks import parse_network
from tests.cli.test_serving import has_ipv6
from tests.raw_peers import OK, Message
from tests.wire_pair import Hops

UNIX = (parse_network("unix"),)
LOOPBACK = (parse_network("127.0.0.0/8"),)


async def sent(hops: Hops, *lines: bytes, start: bytes = b"GET / HTTP/1.1") -> Message:
    """What the origin is sent for a request with these lines, on links of its own."""
    client = await hops.client()
    await client.send(b"\r\n".join([start, *lines, b"Connection: close", b"", b""]))
    upstream = await hops.origins[0].accept()
    request = await upstream.message()
    await upstream.send(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n", 1))
    assert (await client.message()).status == 200
    return request


async def test_http10_without_host_is_told_no_host(tcp_hops: Hops) -> None:
    origin = await tcp_hops.start()
    authority = b"127.0.0.1:%d" % origin.address.port
    for _ in range(2):
        request = await sent(tcp_hops, start=b"GET / HTTP/1.0")
        assert request.values(b"host") == [authority]
        assert request.values(b"x-forwarded-host") == []
        assert request.values(b"forwarded") == [b"for=127.0.0.1;proto=http"]
    named = await sent(tcp_hops, start=b"GET http://named.example/ HTTP/1.0")
    assert named.values(b"x-forwarded-host") == [b"named.example"]
    assert [record.host for record in tcp_hops.records.kept] == [b"", b"", b"named.example"]


async def test_http10_without_host_keeps_the_host_a_trusted_proxy_named(tcp_hops: Hops) -> None:
    await tcp_hops.start(trusted_proxies=LOOPBACK)
    request = await sent(
        tcp_hops, b"X-Forwarded-Host: shop.example", b"X-Forwarded-For: 1.2.3.4",
        start=b"GET / HTTP/1.0",
    )  # fmt: skip
    assert request.values(b"x-forwarded-host") == [b"shop.example"]
    assert request.values(b"forwarded") == [
        b"for=1.2.3.4;host=shop.example, for=127.0.0.1;proto=http"
    ]


async def test_forwarded_says_what_x_forwarded_proto_of_a_trusted_front_says(
    tcp_hops: Hops,
) -> None:
    await tcp_hops.start(trusted_proxies=LOOPBACK)
    request = await sent(
        tcp_hops, b"Host: app", b"X-Forwarded-For: 203.0.113.9", b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: shop.example",
    )  # fmt: skip
    assert request.values(b"x-forwarded-for") == [b"203.0.113.9, 127.0.0.1"]
    assert request.values(b"x-forwarded-proto") == [b"https"]
    (forwarded,) = request.values(b"forwarded")
    assert re.findall(rb"proto=(\w+)", forwarded) == [b"https"]
    assert re.findall(rb"host=([\w.]+)", forwarded) == [b"shop.example"]
    assert re.findall(rb"for=([\d.]+)", forwarded) == [b"203.0.113.9", b"127.0.0.1"]


async def test_x_forwarded_says_what_forwarded_of_a_trusted_front_says(tcp_hops: Hops) -> None:
    await tcp_hops.start(trusted_proxies=LOOPBACK)
    request = await sent(
        tcp_hops, b"Host: app", b'Forwarded: for="[2001:db8::9]:4711";proto=https',
        b"Forwarded: for=_front;host=shop.example",
    )  # fmt: skip
    assert request.values(b"x-forwarded-for") == [b"2001:db8::9, _front, 127.0.0.1"]
    assert request.values(b"x-forwarded-proto") == [b"https"]
    assert request.values(b"x-forwarded-host") == [b"shop.example"]
    assert request.values(b"forwarded") == [
        b'for="[2001:db8::9]:4711";proto=https, for=_front;host=shop.example, for=127.0.0.1'
    ]


async def test_a_client_cannot_hide_behind_a_malformed_forwarded(tcp_hops: Hops) -> None:
    await tcp_hops.start(trusted_proxies=LOOPBACK)
    request = await sent(
        tcp_hops, b"Host: app", b'Forwarded: for="', b"Forwarded: for=203.0.113.9;proto=https"
    )
    assert request.values(b"x-forwarded-for") == [b"unknown, 203.0.113.9, 127.0.0.1"]
    assert tcp_hops.records.kept[0].client == "203.0.113.9"


@pytest.mark.parametrize("families", [(), ("forwarded",), ("x-forwarded",)])
async def test_only_the_families_of_the_setting_reach_the_origin(
    hops: Hops, families: tuple[str, ...]
) -> None:
    await hops.start(trusted_proxies=UNIX, forwarding=families)
    for lines in ([], [b"X-Forwarded-For: 1.2.3.4"], [b"Forwarded: for=1.2.3.4;proto=https"]):
        names = {name for name, _ in (await sent(hops, b"Host: a", *lines)).fields}
        assert (b"forwarded" in names) is ("forwarded" in families)
        assert (b"x-forwarded-proto" in names) is ("x-forwarded" in families)
        assert (b"x-forwarded-for" in names) is ("x-forwarded" in families and bool(lines))


async def test_peers_of_unix_sockets_can_be_trusted(hops: Hops) -> None:
    await hops.start(trusted_proxies=UNIX)
    request = await sent(hops, b"Host: a", b"X-Forwarded-For: 1.2.3.4", b"X-Real-IP: 1.2.3.4")
    assert request.values(b"x-forwarded-for") == [b"1.2.3.4"]
    assert request.values(b"x-real-ip") == [b"1.2.3.4"]
    assert request.values(b"forwarded") == [b"for=1.2.3.4;host=a;proto=http"]


async def test_peers_of_unix_sockets_are_not_trusted_for_an_address(hops: Hops) -> None:
    await hops.start(trusted_proxies=(*LOOPBACK, parse_network("::/0"), parse_network("0.0.0.0/0")))
    request = await sent(hops, b"Host: a", b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Prefix: /x")
    assert request.values(b"x-forwarded-for") == []
    assert request.values(b"x-forwarded-prefix") == []
    assert request.values(b"forwarded") == [b"for=unknown;host=a;proto=http"]


@pytest.mark.parametrize(
    ("via", "in_request", "in_response"),
    [("both", 1, 1), ("request", 1, 0), ("response", 0, 1), ("off", 0, 0)],
)
async def test_via_is_written_where_the_setting_says(
    hops: Hops, via: str, in_request: int, in_response: int
) -> None:
    origin = await hops.start(via=via)
    for others in ([], [b"1.0 front"]):
        client = await hops.client()
        lines = b"".join(b"Via: " + one + b"\r\n" for one in others)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"Connection: close\r\n\r\n")
        upstream = await origin.accept()
        own = [b"1.1 hopproxy"] * in_request
        assert (await upstream.message()).values(b"via") == (
            [b", ".join(others + own)] if others or own else []
        )
        await upstream.send(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n", 1))
        assert (await client.message()).values(b"via") == [b"1.1 hopproxy"] * in_response


@pytest.mark.skipif(not has_ipv6(), reason="missing: IPv6 on this machine")
async def test_an_ipv4_client_of_a_dual_stack_listener_is_an_ipv4_client(tcp_hops: Hops) -> None:
    tcp_hops.dual_stack = True
    await tcp_hops.start()
    request = await sent(tcp_hops, b"Host: a", b"X-Forwarded-For: 1.2.3.4")
    assert request.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert request.values(b"forwarded") == [b"for=127.0.0.1;host=a;proto=http"]


@pytest.mark.skipif(not has_ipv6(), reason="missing: IPv6 on this machine")
@pytest.mark.parametrize("network", ["127.0.0.0/8", "::ffff:127.0.0.0/104", "::ffff:127.0.0.1"])
async def test_an_ipv4_proxy_is_trusted_on_a_dual_stack_listener(
    tcp_hops: Hops, network: str
) -> None:
    tcp_hops.dual_stack = True
    await tcp_hops.start(trusted_proxies=(parse_network(network),))
    request = await sent(tcp_hops, b"Host: a", b"X-Forwarded-For: ::ffff:1.2.3.4")
    assert request.values(b"x-forwarded-for") == [b"1.2.3.4, 127.0.0.1"]
    assert request.values(b"forwarded") == [b"for=1.2.3.4, for=127.0.0.1;host=a;proto=http"]


async def test_our_own_port_is_asked_for_once_for_each_link(
    tcp_hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(sock: socket.socket) -> int:
        asked.append(sock)
        return tcp.local_port(sock)

    monkeypatch.setattr(connector, "local_port", counted)
    await tcp_hops.start()
    client, upstream = await tcp_hops.pair()
    for _ in range(4):
        await tcp_hops.again(client, upstream)
    assert {one.local_port for one in tcp_hops.records.kept} == {upstream.sock.getpeername()[1]}
    assert {one.peer for one in tcp_hops.records.kept} == {
        f"127.0.0.1:{client.sock.getsockname()[1]}"
    }
    assert len(asked) == 1


async def test_a_unix_socket_has_no_ports(hops: Hops) -> None:
    await hops.start(trusted_proxies=UNIX)
    await sent(hops, b"Host: a", b"X-Forwarded-For: 1.2.3.4")
    await sent(hops, b"Host: a")
    first, second = hops.records.kept
    assert (first.peer, first.client, first.local_port) == ("unix", "1.2.3.4", 0)
    assert (second.peer, second.client) == ("unix", "")
