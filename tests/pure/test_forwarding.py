"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239), Via and Max-Forwards (RFC 9110 7.6)."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import Denied
from hopproxy.message import RequestHead, list_of
from hopproxy.rules.chain import MAX_CHAIN
from hopproxy.rules.forwarded import first_of, nodes_of, parse_elements, parse_node
from hopproxy.rules.forwarding import (
    CHAINS,
    FAMILIES,
    FORMS,
    FORWARDED,
    MAX_PASSES,
    X_FORWARDED,
    Sender,
    hops_left,
    is_trusted,
    via_line,
)
from tests.pure.search import get, search


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


def test_without_a_host_none_is_sent() -> None:
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
        b"Forwarded: for=1.2.3.4;host=shop.example;proto=https, "
        b"for=5.6.7.8;host=shop.example;proto=https, for=" + node.encode(),
        b"X-Forwarded-Port: 443",
        b"X-Real-IP: 1.2.3.4",
    ]


def told(
    *lines: bytes,
    address: str = "10.0.0.2",
    families: tuple[str, ...] = FAMILIES,
    host: bytes | None = b"a",
) -> list[bytes]:
    """What a trusted proxy's fields become."""
    start = b"GET / HTTP/1.1" if host else b"GET / HTTP/1.0"
    head = get(*lines, start=start, host=host)
    written = Sender(address, b"http", TRUSTED, families).block(head)
    return written[:-2].split(b"\r\n") if written else []


X_FOR, X_PROTO, X_HOST = b"X-Forwarded-For: ", b"X-Forwarded-Proto: ", b"X-Forwarded-Host: "


@pytest.mark.parametrize(
    ("lines", "forwarded"),
    [
        pytest.param(
            [X_FOR + b"1.2.3.4", X_PROTO + b"https"],
            b"for=1.2.3.4;proto=https, for=10.0.0.2;host=a",
            id="one client",
        ),
        pytest.param(
            [X_FOR + b"192.0.2.43, 2001:db8:cafe::17"],
            b'for=192.0.2.43, for="[2001:db8:cafe::17]", for=10.0.0.2;host=a;proto=http',
            id="RFC 7239 section 7.4",
        ),
        pytest.param(
            [X_PROTO + b"https"], b"for=10.0.0.2;host=a;proto=https", id="proto without a chain"
        ),
        pytest.param(
            [X_HOST + b"shop.example:8443, a"],
            b'for=10.0.0.2;host="shop.example:8443";proto=http',
            id="a list of hosts",
        ),
        pytest.param(
            [X_FOR + b"1.1.1.1, 2.2.2.2", X_PROTO + b"https, http"],
            b"for=1.1.1.1;proto=https, for=2.2.2.2;proto=http, for=10.0.0.2;host=a",
            id="a proto for each",
        ),
        pytest.param(
            [X_FOR + b"1.1.1.1, 2.2.2.2", X_PROTO + b"https, http, http"],
            b"for=1.1.1.1;proto=https, for=2.2.2.2;proto=https, for=10.0.0.2;host=a",
            id="protos of somebody",
        ),
        pytest.param(
            [X_FOR + b"1.1.1.1:80, [2001:db8::1]:4711, [2001:db8::2]"],
            b'for="1.1.1.1:80", for="[2001:db8::1]:4711", for="[2001:db8::2]", '
            b"for=10.0.0.2;host=a;proto=http",
            id="ports",
        ),
        pytest.param(
            [X_FOR + b"unknown, _hidden, _gaz:_p, Unknown"],
            b'for=unknown, for=_hidden, for="_gaz:_p", for=unknown, for=10.0.0.2;host=a;proto=http',
            id="no addresses",
        ),
        pytest.param(
            [
                X_FOR
                + b'1.1.1.1;host=evil, "x, [1.1.1.1], 1.2.3, \xe9, [::1, a:b:c:d, 1.1.1.1:999999'
            ],
            b"for=unknown, for=unknown, for=unknown, for=unknown, for=unknown, for=unknown, "
            b"for=unknown, for=unknown, for=10.0.0.2;host=a;proto=http",
            id="garbage cannot become parameters",
        ),
        pytest.param(
            [X_FOR + b"1.2.3.4", X_PROTO + b'https;x="', X_HOST + b"a b"],
            b"for=1.2.3.4, for=10.0.0.2",
            id="what is no proto and no host is not repeated",
        ),
        pytest.param(
            [X_FOR + b"1.2.3.4", b"X-Forwarded-Ssl: on"],
            b"for=1.2.3.4;proto=https, for=10.0.0.2;host=a",
            id="X-Forwarded-Ssl",
        ),
        pytest.param(
            [X_FOR + b"1.2.3.4", b"X-Forwarded-Ssl: off"],
            b"for=1.2.3.4, for=10.0.0.2;host=a;proto=http",
            id="X-Forwarded-Ssl: off",
        ),
        pytest.param(
            [b"X-Forwarded-Scheme: https"],
            b"for=10.0.0.2;host=a;proto=https",
            id="X-Forwarded-Scheme",
        ),
        pytest.param(
            [X_FOR + b"::ffff:1.2.3.4, [::FFFF:1.2.3.5]:80, fe80::1%eth0"],
            b'for=1.2.3.4, for="1.2.3.5:80", for="[fe80::1]", for=10.0.0.2;host=a;proto=http',
            id="IPv4 in IPv6",
        ),
    ],
)
def test_a_trusted_chain_becomes_forwarded_too(lines: list[bytes], forwarded: bytes) -> None:
    assert b"Forwarded: " + forwarded in told(*lines)


@pytest.mark.parametrize(
    ("forwarded", "chain", "proto", "host", "written"),
    [
        pytest.param(
            b'For="[2001:db8::17]:4711";Proto=https;Host=shop.example;by=203.0.113.43;ext="a b"',
            b"2001:db8::17", b"https", b"shop.example",
            b'for="[2001:db8::17]:4711";proto=https;host=shop.example;by=203.0.113.43;ext="a b", '
            b"for=10.0.0.2",
            id="all that there is",
        ),
        pytest.param(
            b"for=1.1.1.1, for=2.2.2.2;proto=https",
            b"1.1.1.1, 2.2.2.2", b"https", b"a",
            b"for=1.1.1.1, for=2.2.2.2;proto=https, for=10.0.0.2;host=a",
            id="what one of them says",
        ),
        pytest.param(
            b"for=[::1] , for=1.1.1.1:80;; , ,",
            b"::1, 1.1.1.1", b"http", b"a",
            b'for="[::1]", for="1.1.1.1:80", for=10.0.0.2;host=a;proto=http',
            id="careless senders",
        ),
        pytest.param(
            b"for=unknown;proto=https, for=_hidden, by=_me",
            b"unknown, _hidden, unknown", b"https", b"a",
            b"for=unknown;proto=https, for=_hidden, by=_me, for=10.0.0.2;host=a",
            id="nobody is left out, or those before them would move",
        ),
        pytest.param(
            b"proto=https;host=shop.example",
            b"", b"https", b"shop.example",
            b"proto=https;host=shop.example, for=10.0.0.2",
            id="no node at all",
        ),
        pytest.param(
            b'for="1.1.1.1";proto="ht tp";host="a b"',
            b"1.1.1.1", b"http", b"a",
            b"for=1.1.1.1, for=10.0.0.2;host=a;proto=http",
            id="no proto, no host",
        ),
        pytest.param(
            b'for="\\1.1.1.1";x="\\""',
            b"1.1.1.1", b"http", b"a",
            b'for=1.1.1.1;x="\\"", for=10.0.0.2;host=a;proto=http',
            id="escapes",
        ),
        *[
            pytest.param(
                bad, b"", b"http", b"a", b"for=10.0.0.2;host=a;proto=http", id=f"malformed {bad!r}"
            )
            for bad in (
                b"for", b'for="1.1.1.1', b"for=1.1.1.1 proto=https", b"for=1.1.1.1;for=2.2.2.2",
                b"=1.1.1.1", b"for=;proto=https", b"for=1.1.1.1, x y", b"", b" , ;",
            )
        ],
    ],
)  # fmt: skip
def test_a_trusted_forwarded_alone_becomes_x_forwarded_too(
    forwarded: bytes, chain: bytes, proto: bytes, host: bytes, written: bytes
) -> None:
    chain = chain + b", 10.0.0.2" if chain else b"10.0.0.2"
    expected = [X_FOR + chain, X_PROTO + proto, X_HOST + host, b"Forwarded: " + written]
    assert told(b"Forwarded: " + forwarded) == expected


@pytest.mark.parametrize(
    ("lines", "chain", "elements"),
    [
        ([], b"1.2.3.4, 10.0.0.1", b"for=1.2.3.4, for=10.0.0.1;host=a;proto=http"),
        (
            [b"X-Forwarded-Proto: https"],
            b"1.2.3.4, 10.0.0.1",
            b"for=1.2.3.4;proto=https, for=10.0.0.1;host=a",
        ),
        (
            [b"X-Forwarded-For: 5.6.7.8"],
            b"5.6.7.8, 10.0.0.1",
            b"for=5.6.7.8, for=10.0.0.1;host=a;proto=http",
        ),
    ],
)
def test_x_real_ip_names_the_client_where_nothing_else_does(
    lines: list[bytes], chain: bytes, elements: bytes
) -> None:
    head = get(b"X-Real-IP: 1.2.3.4", *lines)
    sender = Sender("10.0.0.1", b"http", TRUSTED)
    said = block(sender, head)
    assert b"X-Forwarded-For: " + chain in said
    assert b"Forwarded: " + elements in said
    assert b"X-Real-IP: 1.2.3.4" in said
    assert sender.client(head) == chain.split(b",")[0].decode()


@pytest.mark.parametrize(
    ("lines", "passes"),
    [
        ([b"Forwarded: for=1.2.3.4", b"X-Real-IP: 6.6.6.6"], False),
        ([b"Forwarded: for=1.2.3.4, for=6.6.6.6", b"X-Real-IP: 6.6.6.6"], False),
        ([b"Forwarded: for=unknown", b"X-Real-IP: 6.6.6.6"], False),
        ([b'Forwarded: for="1.2.3.4:80"', b"X-Real-IP: 1.2.3.4"], True),
        ([b'Forwarded: for="[fd00::7]"', b"X-Real-IP: FD00:0::7"], True),
        ([b"Forwarded: proto=https", b"X-Real-IP: 6.6.6.6"], True),
    ],
)
def test_x_real_ip_does_not_contradict_a_forwarded_that_is_believed(
    lines: list[bytes], passes: bool
) -> None:
    """A front that writes Forwarded alone passes an X-Real-IP on as a client has forged it."""
    assert (lines[1] in told(*lines)) is passes


def test_several_forwarded_lines_are_one_list() -> None:
    lines = told(b"Forwarded: for=1.1.1.1;proto=https", b"forwarded: for=2.2.2.2")
    assert lines[0] == X_FOR + b"1.1.1.1, 2.2.2.2, 10.0.0.2"
    assert lines[3] == b"Forwarded: for=1.1.1.1;proto=https, for=2.2.2.2, for=10.0.0.2;host=a"


@pytest.mark.parametrize(
    "malformed", [b"garbage out", b'for="', b"for=6.6.6.6;for=6.6.6.6", b'for=6.6.6.6, for="a']
)
@pytest.mark.parametrize("lines", [1, 2])
def test_a_malformed_beginning_does_not_hide_what_was_added_to_it(
    malformed: bytes, lines: int
) -> None:
    """A proxy that adds its element to what a client sent need not have looked at that."""
    added = b'for="[2001:db8::9]:80";proto=https'
    sent = [malformed + b", " + added] if lines == 1 else [malformed, added]
    written = told(*[b"Forwarded: " + line for line in sent])
    assert written[:2] == [X_FOR + b"unknown, 2001:db8::9, 10.0.0.2", X_PROTO + b"https"]
    assert written[3] == b"Forwarded: for=unknown, " + added + b", for=10.0.0.2;host=a"


def test_an_endless_malformed_chain_is_read_from_its_end() -> None:
    written = told(b"Forwarded: x y" + b", for=1.1.1.1" * 200)
    assert written[0] == X_FOR + b"1.1.1.1, " * MAX_CHAIN + b"10.0.0.2"


def test_families_that_agree_are_both_kept() -> None:
    same = b"for=1.2.3.4;proto=https;host=s;by=_front"
    lines = told(X_FOR + b"1.2.3.4", X_PROTO + b"HTTPS", X_HOST + b"S", b"Forwarded: " + same)
    assert lines == [
        X_FOR + b"1.2.3.4, 10.0.0.2",
        X_PROTO + b"HTTPS",
        X_HOST + b"S",
        b"Forwarded: " + same + b", for=10.0.0.2",
    ]


@pytest.mark.parametrize(
    "forged",
    [
        b"for=6.6.6.6",
        b"for=1.2.3.4;proto=http",
        b"for=1.2.3.4;proto=https;host=evil",
        b"for=1.2.3.4, for=6.6.6.6",
        b"host=evil",
    ],
)
def test_a_forwarded_that_contradicts_is_replaced(forged: bytes) -> None:
    lines = told(X_FOR + b"1.2.3.4", X_PROTO + b"https", b"Forwarded: " + forged)
    assert lines == [
        X_FOR + b"1.2.3.4, 10.0.0.2",
        X_PROTO + b"https",
        X_HOST + b"a",
        b"Forwarded: for=1.2.3.4;proto=https, for=10.0.0.2;host=a",
    ]


def test_what_an_agreeing_forwarded_lacks_stands_in_our_own_element() -> None:
    lines = told(X_FOR + b"1.2.3.4", X_PROTO + b"https", b"Forwarded: for=1.2.3.4;by=_front")
    assert lines[3] == b"Forwarded: for=1.2.3.4;by=_front, for=10.0.0.2;host=a;proto=https"


def test_families_are_never_mixed() -> None:
    # A proxy that writes X-Forwarded-For alone passes on what a client says in Forwarded.
    lines = told(X_FOR + b"1.2.3.4", b"Forwarded: for=1.2.3.4;proto=https;host=evil")
    assert lines[1:] == [
        X_PROTO + b"http",
        X_HOST + b"a",
        b"Forwarded: for=1.2.3.4, for=10.0.0.2;host=a;proto=http",
    ]


def test_the_family_named_first_is_believed() -> None:
    both = [
        X_FOR + b"6.6.6.6", X_PROTO + b"http", b"X-Forwarded-Port: 80", b"X-Real-IP: 6.6.6.6",
        b"X-Forwarded-Prefix: /p", b"Forwarded: for=1.2.3.4;proto=https",
    ]  # fmt: skip
    assert told(*both, families=(FORWARDED, X_FORWARDED)) == [
        X_FOR + b"1.2.3.4, 10.0.0.2",
        X_PROTO + b"https",
        X_HOST + b"a",
        b"Forwarded: for=1.2.3.4;proto=https, for=10.0.0.2;host=a",
        b"X-Forwarded-Prefix: /p",
    ]
    assert told(*both, families=(X_FORWARDED, FORWARDED))[0] == X_FOR + b"6.6.6.6, 10.0.0.2"


@pytest.mark.parametrize("address", ["10.0.0.2", "192.0.2.1"])
def test_only_the_families_that_are_named_are_written(address: str) -> None:
    def names(*families: str) -> set[bytes]:
        return {line.partition(b":")[0] for line in told(*SAID, address=address, families=families)}

    x = {b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"}
    if address == "10.0.0.2":
        x |= {b"X-Forwarded-Port", b"X-Real-IP"}
    assert names(FORWARDED) == {b"Forwarded"}
    assert names(X_FORWARDED) == x
    assert names(X_FORWARDED, FORWARDED) == {b"Forwarded"} | x
    assert names() == set()


def test_one_family_is_made_from_the_other_where_only_that_is_written() -> None:
    assert told(X_FOR + b"1.2.3.4", X_PROTO + b"https", families=(FORWARDED,)) == [
        b"Forwarded: for=1.2.3.4;proto=https, for=10.0.0.2;host=a"
    ]
    assert told(b"Forwarded: for=1.2.3.4;proto=https", families=(X_FORWARDED,)) == [
        X_FOR + b"1.2.3.4, 10.0.0.2",
        X_PROTO + b"https",
        X_HOST + b"a",
    ]


class UnixPeers:
    """The block of peers without an address."""

    def __contains__(self, peer: str) -> bool:
        return peer == ""


def test_a_trusted_unix_peer_adds_no_member() -> None:
    sender = Sender("", b"http", [UnixPeers()])
    assert sender.trusted
    assert block(sender, get(X_FOR + b"1.2.3.4", X_PROTO + b"https", X_HOST + b"s")) == [
        X_FOR + b"1.2.3.4",
        X_PROTO + b"https",
        X_HOST + b"s",
        b"Forwarded: for=1.2.3.4;host=s;proto=https",
    ]
    assert block(sender, get(X_FOR + b"1.2.3.4"))[-1] == (
        b"Forwarded: for=1.2.3.4;host=a;proto=http"
    )
    assert block(sender, get(X_PROTO + b"https"))[-1] == (
        b"Forwarded: for=unknown;host=a;proto=https"
    )


def test_an_ipv4_peer_of_a_dual_stack_listener_is_reported_as_ipv4() -> None:
    sender = Sender("::ffff:192.0.2.1", b"http", [])
    assert sender.peer == "192.0.2.1"
    assert block(sender, get()) == block(Sender("192.0.2.1", b"http", []), get())
    assert Sender("::ffff:10.0.0.1", b"http", TRUSTED).trusted


def test_of_an_endless_chain_the_end_is_kept() -> None:
    chain = [b"1.1.1.%d" % (n % 250) for n in range(MAX_CHAIN + 9)]
    kept = b", ".join(chain[-MAX_CHAIN:])
    assert told(X_FOR + b", ".join(chain))[0] == X_FOR + kept + b", 10.0.0.2"
    elements = b", ".join([b"for=" + one for one in chain])
    assert told(b"Forwarded: " + elements)[0] == X_FOR + kept + b", 10.0.0.2"


def test_chains_are_remembered_within_bounds() -> None:
    sender = Sender("10.0.0.2", b"http", TRUSTED)
    again = get(X_FOR + b"1.2.3.4")
    assert sender.block(again) is sender.block(get(X_FOR + b"1.2.3.4"))
    first = sender.block(again)
    for n in range(CHAINS):
        sender.block(get(X_FOR + b"2.2.2.%d" % n))
    assert sender.block(again) == first
    assert sender.block(again) is not first
    long = get(X_FOR + b"1.2.3.4, " * 500 + b"1.2.3.4")
    assert sender.block(long) is not sender.block(long)


@pytest.mark.parametrize(
    "line", [b"X-Client-Cert-Names: IP:255.255.255.100", b"X-Client-Cert-Subject: CN=%b 100%"]
)
def test_whatever_a_certificate_says_the_chain_is_told_the_same(line: bytes) -> None:
    sender = Sender("10.0.0.2", b"https", TRUSTED, FAMILIES, line + b"\r\n")
    for chain in (b"1.1.1.1, 2.2.2.2", b"3.3.3.3, 4.4.4.4"):
        lines = block(sender, get(X_FOR + chain))
        assert X_FOR + chain + b", 10.0.0.2" in lines
        assert line in lines


@pytest.mark.parametrize("families", [FAMILIES, FAMILIES[::-1], FAMILIES[:1], FAMILIES[1:], ()])
@pytest.mark.parametrize(
    "rest",
    [
        [],
        [X_PROTO + b"https", X_HOST + b"shop.example"],
        [b"X-Forwarded-Prefix: /100%25/%b/%s", X_HOST + b"a%b"],
        [X_HOST + b"255.255.255.100", X_PROTO + b"https, http"],
        [b"X-Real-IP: 255.255.255.101"],
        [b"X-Forwarded-Prefix: /" + b"x" * 2000],
    ],
)
def test_a_chain_is_told_the_same_by_a_form_that_was_seen_before(
    families: tuple[str, ...], rest: list[bytes]
) -> None:
    used = Sender("10.0.0.2", b"http", TRUSTED, families)
    for chain in (
        b"1.2.3.4", b"5.6.7.8", b"2001:db8::1", b"1.2.3.4:80", b"garbage%b", b"::ffff:1.2.3.4",
        b"1.1.1.1, 2.2.2.2", b"[::1]:80, unknown", b"255.255.255.100, 255.255.255.101",
    ):  # fmt: skip
        head = get(X_FOR + chain, *rest)
        fresh = Sender("10.0.0.2", b"http", TRUSTED, families)
        again = Sender("10.0.0.2", b"http", TRUSTED, families)
        again.block(get(X_FOR + b"9.9.9.9, " * chain.count(b",") + b"9.9.9.8", *rest))
        assert used.block(head) == fresh.block(head) == again.block(head)
        assert used.client(head) == fresh.client(head)
        if X_FORWARDED in families:
            member = b"1.2.3.4" if chain == b"::ffff:1.2.3.4" else chain
            assert used.block(head).startswith(X_FOR + member + b", 10.0.0.2\r\n")
        if families == FAMILIES[1:]:
            names = [b"1.2.3.4" if b"ffff" in one else parse_node(one).name
                     for one in list_of(chain)]  # fmt: skip
            told = parse_elements(used.block(head)[len(b"Forwarded: ") : -2])
            assert told is not None
            assert [node.name for node in nodes_of(told)] == [*names, b"10.0.0.2"]


def test_forms_are_remembered_within_bounds() -> None:
    sender = Sender("10.0.0.2", b"http", TRUSTED)
    for n in range(2 * FORMS + 3):
        (line, *_) = block(sender, get(X_FOR + b"1.2.3.4", host=b"h%d" % n))
        assert line == X_FOR + b"1.2.3.4, 10.0.0.2"


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([X_FOR + b"1.2.3.4"], "1.2.3.4"),
        ([X_FOR + b"6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ([X_FOR + b"6.6.6.6, 1.2.3.4, 10.0.0.3, fd00::1"], "1.2.3.4"),
        ([X_FOR + b"10.0.0.3, 10.0.0.1"], "10.0.0.3"),
        ([X_FOR + b"::ffff:1.2.3.4:80, [2001:db8::1]:80"], "2001:db8::1"),
        ([X_FOR + b"1.2.3.4, garbage, 10.0.0.1"], "unknown"),
        ([X_FOR + b"1.2.3.4, _hidden"], "_hidden"),
        ([b'Forwarded: for=6.6.6.6, for="1.2.3.4:5"'], "1.2.3.4"),
        ([X_FOR + b"1.2.3.4", b"Forwarded: for=6.6.6.6"], "1.2.3.4"),
        ([b"X-Real-IP: 1.2.3.4"], "1.2.3.4"),
        ([b"X-Real-IP: garbage"], ""),
        ([X_PROTO + b"https"], ""),
        ([], ""),
    ],
)
def test_the_client_is_the_last_who_is_no_trusted_proxy(lines: list[bytes], client: str) -> None:
    assert Sender("10.0.0.2", b"http", TRUSTED).client(get(*lines)) == client
    assert Sender("10.0.0.2", b"http", TRUSTED, ()).client(get(*lines)) == client
    assert Sender("192.0.2.1", b"http", TRUSTED).client(get(*lines)) == ""


@search
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host",
                             b"Forwarded"]),
            st.lists(
                st.sampled_from([b"1.2.3.4", b"[::1]:80", b"for=", b"proto=", b"https", b";", b",",
                                 b'"', b"\\", b"host=", b"a.example", b"unknown", b" ", b"\xe9"]),
                max_size=8,
            ).map(b"".join),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_whatever_a_trusted_proxy_sends_both_families_say_the_same(
    fields: list[tuple[bytes, bytes]],
) -> None:
    head = get(*[name + b": " + value.strip() for name, value in fields])
    lines = dict(line.split(b": ", 1) for line in block(Sender("10.0.0.2", b"http", TRUSTED), head))
    elements = parse_elements(lines[b"Forwarded"])
    assert elements is not None
    named = [parse_node(one).name for one in list_of(lines[b"X-Forwarded-For"])]
    assert named == [node.name for node in nodes_of(elements)]
    proto = next(list_of(lines[b"X-Forwarded-Proto"]), b"")
    assert first_of(elements, b"proto").lower() in (proto.lower(), b"")
    host = next(list_of(lines[b"X-Forwarded-Host"]), b"")
    assert first_of(elements, b"host").lower() in (host.lower(), b"")
    # What we wrote reads back as what we wrote, and passes a second proxy of the same name.
    assert told(*[name + b": " + value for name, value in lines.items()])


def test_what_a_trusted_proxy_leaves_out_is_said_by_us() -> None:
    sender = Sender("10.0.0.2", b"http", TRUSTED)
    assert block(sender, get(b"X-Forwarded-Port: 443", b"X-Forwarded-For:")) == [
        *block(sender, get()),
        b"X-Forwarded-Port: 443",
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


@pytest.mark.parametrize(
    ("lines", "line"),
    [([], b""), ([b"Via: ,"], b""), ([b"Via: 1.0 a", b"via:1.1 b"], b"Via: 1.0 a, 1.1 b\r\n")],
)
def test_where_we_write_no_via_that_of_others_stays(lines: list[bytes], line: bytes) -> None:
    assert via_line(get(*lines), (b"", b""), b"me") == line


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
        (b"TRACE", [b"Max-Forwards: 5", b"Max-Forwards: 5"], 5),
        (b"TRACE", [b"Max-Forwards: 5", b"Max-Forwards: 6"], None),
        (b"TRACE", [b"Max-Forwards: -1"], None),
        (b"TRACE", [b"Max-Forwards: 9999999999"], None),
        (b"TRACE", [b"Max-Forwards: "], None),
    ],
)
def test_max_forwards_bounds_two_methods(
    method: bytes, lines: list[bytes], left: int | None
) -> None:
    assert hops_left(get(*lines, start=method + b" / HTTP/1.1")) == left
