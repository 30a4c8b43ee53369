"""Durations, sizes and addresses: what is read, what is refused, and how it is written back."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings.amounts import (
    Misread,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import (
    Bind,
    OriginAddress,
    address_and_port,
    authority,
    parse_bind,
    parse_origin,
    unmapped,
)

ports = st.integers(1, 65535)
names = st.from_regex(r"[a-z0-9_]{1,8}(\.[a-z][a-z0-9]{0,5}){1,3}", fullmatch=True)
addresses = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
hosts = st.one_of(names, addresses)
socket_paths = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=100)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("0.1s", 0.1),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1d2h3m4s5ms", 93784.005),
        ("1m1.5s", 61.5),
    ],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (60.0, "60s"),
        (75.0, "75s"),
        (90.0, "90s"),
        (120.0, "2m"),
        (3600.0, "1h"),
        (5400.0, "90m"),
        (0.0001, "0.0001s"),
        (86400.0, "1d"),
        (129600.0, "36h"),
        (math.inf, "off"),
    ],
)
def test_duration_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**12))
def test_duration_comes_back_from_its_own_text(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("32KiB", 32768),
        ("32kib", 32768),
        ("10MB", 10_000_000),
        ("1GiB", 1024**3),
        ("2KB", 2000),
        ("3GB", 3 * 10**9),
        ("1MiB", 1024**2),
        ("10m", 10 * 1024**2),
        ("10M", 10 * 1024**2),
        ("10Mi", 10 * 1024**2),
        ("8k", 8192),
        ("1g", 1024**3),
    ],
)
def test_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1, "1B"), (32768, "32KiB"), (10_000_000, "10MB"), (1024**2 * 3, "3MiB")],
)
def test_size_is_written_in_its_largest_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 10**12 - 1))
def test_size_comes_back_from_its_own_text(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8080", Bind("tcp", "127.0.0.1", 8080)),
        ("localhost:0", Bind("tcp", "localhost", 0)),
        ("Web_1.Example:80", Bind("tcp", "web_1.example", 80)),
        ("[::]:8080", Bind("tcp", "::", 8080)),
        ("[0:0:0:0:0:0:0:1]:1", Bind("tcp", "::1", 1)),
        (":8080", Bind("tcp", "", 8080)),
        (":0", Bind("tcp", "", 0)),
        ("unix:/run/h.sock", Bind("unix", path="/run/h.sock")),
        ("fd:3", Bind("passed", path="fd:3")),
        ("fd:007", Bind("passed", path="fd:7")),
        ("systemd:web.socket", Bind("passed", path="systemd:web.socket")),
    ],
)
def test_bind_is_read(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind


@given(st.builds(Bind, st.just("tcp"), st.one_of(hosts, st.just("")), st.integers(0, 65535)))
def test_tcp_bind_comes_back_from_its_own_text(bind: Bind) -> None:
    assert parse_bind(str(bind)) == bind


def test_sockets_of_one_name_are_distinguished() -> None:
    assert str(Bind("passed", path="systemd:web")) == "systemd:web"
    assert str(Bind("passed", path="systemd:web", port=1)) == "systemd:web#2"


@given(socket_paths)
def test_unix_bind_comes_back_from_its_own_text(path: str) -> None:
    bind = Bind("unix", path=f"/{path}")
    assert parse_bind(str(bind)) == bind


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("http://127.0.0.1:3000", OriginAddress("tcp", "127.0.0.1", 3000)),
        ("HTTP://App:3000/", OriginAddress("tcp", "app", 3000)),
        ("http://app", OriginAddress("tcp", "app", 80)),
        ("http://[::1]", OriginAddress("tcp", "::1", 80)),
        ("https://app", OriginAddress("tcp", "app", 443, scheme="https")),
        ("HTTPS://App:8443/", OriginAddress("tcp", "app", 8443, scheme="https")),
        ("https://[::1]:8443", OriginAddress("tcp", "::1", 8443, scheme="https")),
        ("3000", OriginAddress("tcp", "localhost", 3000)),
        (":3000", OriginAddress("tcp", "localhost", 3000)),
        ("app:3000", OriginAddress("tcp", "app", 3000)),
        ("localhost:3000/", OriginAddress("tcp", "localhost", 3000)),
        ("[::1]:3000", OriginAddress("tcp", "::1", 3000)),
        ("unix:/run/app.sock", OriginAddress("unix", path="/run/app.sock")),
        ("http://app.internal.:3000", OriginAddress("tcp", "app.internal.", 3000)),
        ("https://App.Internal.", OriginAddress("tcp", "app.internal.", 443, scheme="https")),
        ("localhost.:3000", OriginAddress("tcp", "localhost", 3000)),
    ],
)
def test_origin_is_read(text: str, origin: OriginAddress) -> None:
    assert parse_origin(text) == origin


@given(
    st.builds(
        OriginAddress,
        st.just("tcp"),
        hosts,
        ports,
        scheme=st.sampled_from(["http", "https"]),
    )
)
def test_tcp_origin_comes_back_from_its_own_text(origin: OriginAddress) -> None:
    assert parse_origin(str(origin)) == origin


@pytest.mark.parametrize("text", ["http://a.internal.:3000", "https://a.", "h2c://a.internal.:80"])
def test_a_complete_name_is_looked_up_with_its_dot_and_told_without(text: str) -> None:
    origin = parse_origin(text)
    assert parse_origin(str(origin)) == origin
    assert origin.host.endswith(".")
    assert origin.authority == parse_origin(text.replace(".:", ":").rstrip(".")).authority
    assert origin.server_name == origin.host.rstrip(".")
    found = replace(origin, host="10.0.0.1", name=origin.host)
    assert (found.authority, found.server_name) == (origin.authority, origin.server_name)


@pytest.mark.parametrize("text", ["10.0.0.1.:80", "a..:80", ".:80", "[::1].:80", "-.:80"])
def test_what_ends_with_a_dot_and_is_no_name_is_misread(text: str) -> None:
    with pytest.raises(Misread):
        parse_origin(text)


def test_unix_origin_is_written_as_it_is_read() -> None:
    assert str(parse_origin("unix:/run/app.sock")) == "unix:/run/app.sock"


def test_authority_brackets_an_ipv6_address_alone() -> None:
    assert authority("::1", 80) == "[::1]:80"
    assert authority("app", 80) == "app:80"


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (parse_duration, "30", "`30` has no unit (write 30s for seconds, or 30ms)"),
        (parse_duration, "5 s", "`5 s` is not a duration (write 5s)"),
        (
            parse_duration,
            "-5s",
            "`-5s` is not a duration (write it like 250ms, 5s, 2m, 1h30m or 1d)",
        ),
        (parse_duration, "1w", "`1w` is not a duration (write it like 250ms, 5s, 2m, 1h30m or 1d)"),
        (
            parse_duration,
            "1h30",
            "`1h30` is not a duration (write it like 250ms, 5s, 2m, 1h30m or 1d)",
        ),
        (parse_duration, "90 min", "`90 min` is not a duration (write 90m)"),
        (parse_duration, "5sec", "`5sec` is not a duration (write 5s)"),
        (parse_duration, "1.5 Hours", "`1.5 Hours` is not a duration (write 1.5h)"),
        (parse_duration, "2days", "`2days` is not a duration (write 2d)"),
        (parse_duration, "300 milliseconds", "`300 milliseconds` is not a duration (write 300ms)"),
        (
            parse_duration,
            "30m1h",
            "`30m1h` has its units out of order (write the largest first, as in 1h30m)",
        ),
        (
            parse_duration,
            "1h1h",
            "`1h1h` has its units out of order (write the largest first, as in 1h30m)",
        ),
        (
            parse_duration,
            "off",
            "`off` could mean two things here "
            "(write 0s not to wait at all, or a long time like 1d)",
        ),
        (
            parse_duration,
            "inf",
            "`inf` is not a duration (write it like 250ms, 5s, 2m, 1h30m or 1d)",
        ),
        (parse_size, "10 MB", "`10 MB` is not a size (write 10MB)"),
        (
            parse_size,
            "1T",
            "`1T` is not a size (write it like 512, 512B, 32KiB, 10MB or 10m (10MiB))",
        ),
        (
            parse_size,
            "-1",
            "`-1` is not a size (write it like 512, 512B, 32KiB, 10MB or 10m (10MiB))",
        ),
        (
            parse_size,
            "1.5KiB",
            "`1.5KiB` is not a size (write it like 512, 512B, 32KiB, 10MB or 10m (10MiB))",
        ),
        (
            parse_bind,
            "8080",
            "`8080` is a port without a host "
            "(write :8080 for every address, or 127.0.0.1:8080 for this machine alone)",
        ),
        (
            parse_bind,
            "http://127.0.0.1:8080/",
            "`http://127.0.0.1:8080/` has a scheme (a listener takes an address: 127.0.0.1:8080)",
        ),
        (
            parse_bind,
            "fd:2",
            "`fd:2` is not a descriptor (write the number of a listening socket that this "
            "process inherits, from 3 on)",
        ),
        (
            parse_bind,
            "systemd:",
            "`systemd:` has no name (write systemd: and what FileDescriptorName= says, or the name "
            "of the .socket)",
        ),
        (parse_bind, "*:80", "`*:80` is not an address (write :80 for every address)"),
        (parse_bind, ":http", "`http` is not a port (write a number up to 65535)"),
        (
            parse_bind,
            "8080:22",
            "`8080:22` is two numbers, not host:port "
            "(ports are not mapped here; write 127.0.0.1:8080)",
        ),
        (
            parse_bind,
            "localhost",
            "`localhost` has no port (write it with a port, like localhost:9000)",
        ),
        (
            parse_bind,
            "::1:8080",
            "`::1:8080` is not an address (put an IPv6 address in brackets: [::1]:8080)",
        ),
        (
            parse_bind,
            "[::1",
            "`[::1` is not an address (write host:port, :port, [address]:port or unix:/path)",
        ),
        (parse_bind, "[::g]:80", "`::g` is not an IPv6 address (write it like [::1])"),
        (parse_bind, "a:65536", "`65536` is not a port (write a number up to 65535)"),
        (parse_bind, "a:http", "`http` is not a port (write a number up to 65535)"),
        (
            parse_bind,
            "1.2.3:80",
            "`1.2.3` is not an IPv4 address (write host:port, :port, [address]:port or unix:/path)",
        ),
        (
            parse_bind,
            "a b:80",
            "`a b` is not a host (write host:port, :port, [address]:port or unix:/path)",
        ),
        (
            parse_bind,
            f"{'a.' * 127}a:80",
            f"`{'a.' * 127}a` is not a host (write host:port, :port, [address]:port or unix:/path)",
        ),
        (
            parse_bind,
            "unix:h.sock",
            "`unix:h.sock` is not an absolute path (write unix:/run/name.sock)",
        ),
        (parse_bind, f"unix:/{'a' * 107}", "no Unix socket has such a path (at most 107 bytes)"),
        (parse_bind, "unix:/a\0b", "no Unix socket has such a path (at most 107 bytes)"),
        (
            parse_origin,
            "app",
            "`app` has no port (write app:3000, or http://app for port 80)",
        ),
        (
            parse_origin,
            "8080:3000",
            "`8080:3000` is two numbers, not host:port (ports are not mapped here; write 3000)",
        ),
        (parse_origin, "0", "no origin answers on port 0 (write a port from 1 to 65535)"),
        (
            parse_origin,
            "wss://app",
            "`wss` is not supported as a scheme (write https://app)",
        ),
        (
            parse_origin,
            "fcgi://app",
            "`fcgi` is not supported as a scheme (write http://app)",
        ),
        (
            parse_origin,
            "http://app/base",
            "`http://app/base` has more than a host and a port "
            "(each request keeps its own path: write http://app)",
        ),
        (
            parse_origin,
            "http://app?a",
            "`http://app?a` has more than a host and a port "
            "(each request keeps its own path: write http://app)",
        ),
        (
            parse_origin,
            "http://me:secret@app",
            "an origin takes no user or password (write http://host:port)",
        ),
        (
            parse_origin,
            "http://app:0",
            "no origin answers on port 0 (write a port from 1 to 65535)",
        ),
        (parse_origin, "http://", "`` is not a host (write http://host:port)"),
        (
            parse_network,
            "ten",
            "`ten` is not a network (write it like 10.0.0.0/8 or fd00::/8, or unix)",
        ),
        (
            parse_network,
            "10.0.0.1/8",
            "`10.0.0.1/8` has bits set after its prefix (its block is 10.0.0.0/8)",
        ),
    ],
)
def test_misread_says_what_would_do(parse: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(Misread) as caught:
        parse(text)
    assert str(caught.value) == said


@given(st.text(max_size=40))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_bind, parse_origin, parse_network):
        with suppress(Misread):
            parse(text)


@pytest.mark.parametrize(
    ("network", "peer", "inside"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/8", "9.255.255.255", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::1", False),
        ("fd00::/8", "fd12::1", True),
        ("fd00::/8", "253.0.0.0", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "unix", False),
        ("unix", "", True),
        ("unix", "127.0.0.1", False),
        ("unix", "::1", False),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::/0", "10.1.2.3", False),
    ],
)
def test_network_knows_its_peers(network: str, peer: str, inside: bool) -> None:
    assert (peer in parse_network(network)) is inside


@given(st.ip_addresses(v=4), st.integers(0, 32), st.ip_addresses(v=4))
def test_ipv4_network_agrees_with_its_bits(base: IPv4Address, bits: int, peer: IPv4Address) -> None:
    shift = 32 - bits
    first = IPv4Address(int(base) >> shift << shift)
    network = parse_network(f"{first}/{bits}")
    assert str(network) == f"{first}/{bits}"
    assert (str(peer) in network) is (int(peer) >> shift == int(base) >> shift)


@given(st.ip_addresses(v=6))
def test_an_address_is_a_network_of_one(address: IPv6Address) -> None:
    network = parse_network(str(address))
    assert str(network) == f"{address}/128"


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("::ffff:0:0:1", "::ffff:0:0:1"),
        ("::ffff:x", "::ffff:x"),
        ("::ffff:192.0.2.1%eth0", "::ffff:192.0.2.1%eth0"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("", ""),
    ],
)
def test_ipv4_inside_of_ipv6_is_reported_as_ipv4(address: str, written: str) -> None:
    assert unmapped(address) == written


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ("192.0.2.7:5", ("192.0.2.7", 5)),
        ("[2001:db8::1]:5", ("2001:db8::1", 5)),
        ("unix", ("unix", 0)),
        ("192.0.2.7", ("192.0.2.7", 0)),
    ],
)
def test_a_peer_is_an_address_and_a_port(peer: str, told: tuple[str, int]) -> None:
    assert address_and_port(peer) == told


def test_the_place_of_an_origin_has_no_scheme() -> None:
    assert OriginAddress("tcp", host="::1", port=443, scheme="https").place == "[::1]:443"
