"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239), Via and Max-Forwards (RFC 9110 7.6)."""

from ipaddress import ip_network

import pytest

from hopproxy.errors import Denied
from hopproxy.message import RequestHead
from hopproxy.rules.forwarding import MAX_PASSES, Sender, hops_left, is_trusted, via_line
from tests.pure.search import get


class Block:
    """A block of addresses, as the settings read it."""

    def __init__(self, text: str) -> None:
        self._network = ip_network(text)

    def __contains__(self, peer: str) -> bool:
        return any(str(address) == peer for address in self._network)


TRUSTED = [Block("10.0.0.0/30"), Block("fd00::/126")]
OWN = (b"Via: 1.0 me\r\n", b"Via: 1.1 me\r\n")
SAID = [
    b"X-Forwarded-For: 1.2.3.4",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: shop.example",
    b"Forwarded: for=1.2.3.4;proto=https",
    b"X-Forwarded-Port: 443",
    b"X-Real-IP: 1.2.3.4",
]


def block(sender: Sender, head: RequestHead) -> list[bytes]:
    """The lines that tell the upstream of the sender."""
    written = sender.block(head)
    assert written.endswith(b"\r\n")
    return written[:-2].split(b"\r\n")


@pytest.mark.parametrize(
    ("address", "host", "lines"),
    [
        ("192.0.2.1", b"a.b-c",
         [b"X-Forwarded-For: 192.0.2.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a.b-c",
          b"Forwarded: for=192.0.2.1;host=a.b-c;proto=http"]),
        ("2001:db8::1", b"a:8080",
         [b"X-Forwarded-For: 2001:db8::1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a:8080",
          b'Forwarded: for="[2001:db8::1]";host="a:8080";proto=http']),
        ("", b"[::1]",
         [b"X-Forwarded-Proto: http", b"X-Forwarded-Host: [::1]",
          b'Forwarded: for=unknown;host="[::1]";proto=http']),
    ],
)  # fmt: skip
def test_the_upstream_is_told_who_asks(address: str, host: bytes, lines: list[bytes]) -> None:
    assert block(Sender(address, b"http", []), get(host=host)) == lines


def test_without_a_host_none_is_told() -> None:
    head = get(start=b"GET / HTTP/1.0", host=None)
    assert block(Sender("192.0.2.1", b"https", []), head) == [
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"Forwarded: for=192.0.2.1;proto=https",
    ]


@pytest.mark.parametrize("address", ["192.0.2.1", ""])
def test_what_a_stranger_says_is_worth_nothing(address: str) -> None:
    sender = Sender(address, b"http", TRUSTED)
    assert not sender.trusted
    assert block(sender, get(*SAID)) == block(sender, get())


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_what_a_trusted_proxy_says_is_kept_and_added_to(address: str) -> None:
    node = address if "." in address else f'"[{address}]"'
    assert block(Sender(address, b"http", TRUSTED), get(*SAID, b"x-forwarded-for:5.6.7.8")) == [
        b"X-Forwarded-For: 1.2.3.4, 5.6.7.8, " + address.encode(),
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: shop.example",
        b"Forwarded: for=1.2.3.4;proto=https, for=" + node.encode() + b";host=a;proto=http",
        b"X-Forwarded-Port: 443",
        b"X-Real-IP: 1.2.3.4",
    ]


def test_what_a_trusted_proxy_leaves_out_is_said_by_us() -> None:
    sender = Sender("10.0.0.2", b"http", TRUSTED)
    assert block(sender, get(b"X-Real-IP: 1.2.3.4", b"X-Forwarded-For:")) == [
        *block(sender, get()),
        b"X-Real-IP: 1.2.3.4",
    ]


def test_each_host_is_told_on_the_same_link() -> None:
    sender = Sender("192.0.2.1", b"http", [])
    first = sender.block(get(host=b"a"))
    assert b"X-Forwarded-Host: b\r\n" in sender.block(get(host=b"b"))
    assert sender.block(get(host=b"a")) == first
    assert sender.block(get(host=b"a")) is sender.block(get(host=b"a"))


def test_a_strange_host_is_quoted() -> None:
    head = RequestHead(b"GET", b"/", 1, [], [])  # of its own: a head that was read is shared
    head.host = b'a"\\b'
    assert block(Sender("192.0.2.1", b"http", []), head)[-1] == (
        b'Forwarded: for=192.0.2.1;host="a\\"\\\\b";proto=http'
    )


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.0.0.1", True), ("10.0.0.4", False), ("fd00::3", True), ("::1", False), ("", False)],
)
def test_trust_is_by_address(address: str, trusted: bool) -> None:
    assert is_trusted(address, TRUSTED) is trusted
    assert not is_trusted(address, [])


@pytest.mark.parametrize(
    ("lines", "minor", "line"),
    [
        ([], b"1", b"Via: 1.1 me\r\n"),
        ([], b"0", b"Via: 1.0 me\r\n"),
        ([b"Via: 1.0 a"], b"1", b"Via: 1.0 a, 1.1 me\r\n"),
        ([b"via:1.0 a", b"Via: 1.1 b (x), 2 c"], b"0", b"Via: 1.0 a, 1.1 b (x), 2 c, 1.0 me\r\n"),
        ([b"Via: ,"], b"1", b"Via: 1.1 me\r\n"),
        ([b"Via: me"], b"1", b"Via: me, 1.1 me\r\n"),
    ],
)
def test_via_tells_the_whole_way_in_order(lines: list[bytes], minor: bytes, line: bytes) -> None:
    head = get(*lines, start=b"GET / HTTP/1." + minor)
    assert head.passed is bool(lines)
    assert via_line(head, OWN, b"me") == line


def test_a_request_that_goes_in_circles_is_stopped() -> None:
    most = [b"Via: 1.1 me, 1.1 other", b"Via: 1.0 me", b"Via: 1.1 metoo, 1.1 me (again)"]
    assert via_line(get(*most), OWN, b"me").endswith(b", 1.1 me\r\n")
    most += [b"Via: 1.1 me"] * (MAX_PASSES - 3)
    via_line(get(*most[:-1]), OWN, b"me")
    with pytest.raises(Denied, match="before") as loop:
        via_line(get(*most), OWN, b"me")
    assert (loop.value.status, loop.value.cause) == (508, "proxy_loop_detected")


@pytest.mark.parametrize(
    ("method", "lines", "left"),
    [
        (b"TRACE", [b"Max-Forwards: 0"], 0),
        (b"OPTIONS", [b"max-forwards:5"], 5),
        (b"OPTIONS", [], None),
        (b"GET", [b"Max-Forwards: 5"], None),
        (b"TRACE", [b"Max-Forwards: 5", b"Max-Forwards: 5"], None),
        (b"TRACE", [b"Max-Forwards: -1"], None),
        (b"TRACE", [b"Max-Forwards: 9999999999"], None),
        (b"TRACE", [b"Max-Forwards: "], None),
    ],
)
def test_max_forwards_bounds_two_methods(
    method: bytes, lines: list[bytes], left: int | None
) -> None:
    assert hops_left(get(*lines, start=method + b" / HTTP/1.1")) == left
