"""What passes from one hop to the other: everything but what is of one hop (RFC 9110 7.6.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest
from hopproxy.message import PROTECTED, RequestHead, name_of
from hopproxy.rules.hop import (
    Underscores,
    end_to_end_trailers,
    reject_underscores,
    request_for_upstream,
)
from hopproxy.wire.http1 import write_response
from tests.pure.search import answer, get, request, search

VIA = b"Via: 1.1 hopproxy\r\n"


def upstream(head: RequestHead, underscores: Underscores = Underscores.SHADOW) -> list[bytes]:
    """The lines that go upstream."""
    written = request_for_upstream(head, b"", VIA, underscores)
    assert written.endswith(b"\r\n" + VIA + b"\r\n")
    return written.split(b"\r\n")[:-3]


def client(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK") -> list[bytes]:
    """The lines that reach the client."""
    written = write_response(answer(*lines, start=start), VIA).removesuffix(b"\r\n")
    assert written.endswith(b"\r\n" + VIA)
    return written.split(b"\r\n")[:-2]


def test_what_is_not_of_one_hop_passes_as_it_came() -> None:
    lines = [b"user-agent: X", b"Accept: a, b", b"Cookie: a=1", b"X-Empty: ", b"Accept: c",
             b"Authorization: Basic eA==", b"X: \xe9"]  # fmt: skip
    start = b"GET /a%2Fb;c//d?e=%zz HTTP/1.1"
    assert upstream(get(*lines, start=start)) == [start, b"Host: a", *lines]


def test_an_answer_passes_as_it_came() -> None:
    lines = [b"server: o", b"Set-Cookie: a=1", b"ETag: x", b"Set-Cookie: b=2", b"Vary: *",
             b"Content-Length: 3", b"Date: then", b"X_Y: 1"]  # fmt: skip
    assert client(*lines) == [b"HTTP/1.1 200 OK", *lines]


@pytest.mark.parametrize(
    "line",
    [
        b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"TE: gzip",
        b"Upgrade: websocket", b"HTTP2-Settings: x", b"Proxy-Authenticate: Basic",
        b"Proxy-Authorization: Basic eA==", b"Proxy-Authentication-Info: x",
        b"Connection: close", b"connection:keep-alive",
    ],
)  # fmt: skip
def test_what_is_of_one_hop_stays_on_it(line: bytes) -> None:
    assert upstream(get(line, b"A: 1"))[2:] == [b"A: 1"]
    assert client(line, b"A: 1")[1:] == [b"A: 1"]


def test_the_framing_of_the_next_hop_is_written_again() -> None:
    assert upstream(get(b"transfer-encoding: Chunked", b"A: 1"))[2:] == [
        b"A: 1",
        b"Transfer-Encoding: chunked",
    ]
    assert client(b"Transfer-Encoding: chunked", b"A: 1")[1:] == [b"A: 1"]
    assert upstream(get(b"Content-Length: 5"))[2:] == [b"Content-Length: 5"]


@pytest.mark.parametrize("start", [b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 204 No Content"])
def test_what_has_no_body_has_no_length(start: bytes) -> None:
    assert client(b"Link: </a>", b"content-length:5", start=start)[1:] == [b"Link: </a>"]


def test_http11_is_what_we_speak() -> None:
    assert upstream(get(start=b"GET / HTTP/1.0"))[0] == b"GET / HTTP/1.1"
    assert client(b"A: 1", start=b"HTTP/1.0 404 Gone away")[0] == b"HTTP/1.1 404 Gone away"
    assert client(b"A: 1", start=b"HTTP/1.1 200")[0] == b"HTTP/1.1 200 "


@pytest.mark.parametrize(
    ("start", "line"),
    [(b"GET / HTTP/1.0", b"Host: "), (b"GET http://b:80/ HTTP/1.0", b"Host: b:80")],
)
def test_a_request_without_host_is_given_one(start: bytes, line: bytes) -> None:
    assert upstream(get(b"A: 1", start=start, host=None)) == [b"GET / HTTP/1.1", line, b"A: 1"]


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ([b"TE: trailers"], [b"Connection: TE", b"TE: trailers"]),
        ([b"TE: gzip, Trailers", b"Connection: TE"], [b"Connection: TE", b"TE: trailers"]),
        ([b"TE: gzip;q=0.5"], []),
        ([b"TE: chunked"], []),
        ([b"TE:"], []),
        ([b"Connection: upgrade", b"Upgrade: h2c"], []),
        (
            [b"Connection: upgrade, te", b"Upgrade: websocket", b"TE: trailers"],
            [b"Connection: Upgrade", b"Upgrade: websocket"],
        ),
    ],
)
def test_the_next_connection_is_spoken_of_by_us(lines: list[bytes], sent: list[bytes]) -> None:
    assert upstream(get(*lines))[2:] == sent


@pytest.mark.parametrize(
    ("method", "said", "sent"),
    [
        (b"OPTIONS", b"5", b"4"),
        (b"TRACE", b"1", b"0"),
        (b"GET", b"5", b"5"),
        (b"OPTIONS", b"x", b"x"),
        (b"OPTIONS", b"010", b"9"),
        (b"OPTIONS", b"5\r\nMax-Forwards: 5", b"4"),
        (b"OPTIONS", b"9999999999", b"9999999999"),
    ],
)
def test_max_forwards_counts_down(method: bytes, said: bytes, sent: bytes) -> None:
    """RFC 9110 section 7.6.2."""
    head = get(b"Max-Forwards: " + said, start=method + b" / HTTP/1.1")
    assert upstream(head)[2:] == [b"Max-Forwards: " + sent]


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        ([b"Expect: 100-Continue"], [b"Expect: 100-Continue"]),
        ([b"Expect:"], []),
        ([b"Expect: ,\t,"], []),
        ([b"Expect:", b"Expect: "], []),
        ([b"Expect: ,100-Continue,"], [b"Expect: 100-continue"]),
        ([b"Expect: 100-continue", b"Expect: 100-continue"], [b"Expect: 100-continue"]),
    ],
)
def test_an_expectation_is_one_or_none(lines: list[bytes], sent: list[bytes]) -> None:
    for _ in range(2):
        for odd in ([], [b"X-A:1"]):
            head = get(b"Content-Length: 5", *lines, *odd, start=b"PUT / HTTP/1.1")
            expected = [line for line in upstream(head) if line.startswith(b"Expect")]
            assert expected == sent


def test_an_expectation_of_http10_stays_behind() -> None:
    for value in (b"100-continue", b"", b"other", b"100-continue,"):
        head = get(b"Expect: " + value, start=b"PUT / HTTP/1.0")
        assert not any(b"Expect" in line for line in upstream(head))


CHOICES = {
    Underscores.SHADOW: [b"X_Custom: 1", b"A: 1"],
    Underscores.DROP: [b"A: 1"],
    Underscores.KEEP: [b"X_Forwarded_For: 1", b"X_Custom: 1", b"content_length: 9", b"A: 1"],
}
UNDERSCORED = [b"X_Forwarded_For: 1", b"X_Custom: 1", b"content_length: 9", b"A: 1"]


@pytest.mark.parametrize("choice", CHOICES)
def test_underscores_are_a_choice(choice: Underscores) -> None:
    head = get(*UNDERSCORED)
    assert upstream(head, choice)[2:] == CHOICES[choice]


def test_another_choice_is_obeyed_at_once() -> None:
    """The same head comes again after a reload."""
    head = get(*UNDERSCORED)
    for choice in (*CHOICES, *CHOICES):
        assert upstream(head, choice)[2:] == CHOICES[choice]


@pytest.mark.parametrize("line", [b"X_Custom: 1", b"X_Forwarded_For: 1", b"Host_: b"])
def test_underscores_may_be_rejected(line: bytes) -> None:
    with pytest.raises(BadRequest, match="underscore"):
        reject_underscores(get(line))
    reject_underscores(get(b"A: 1", b"Connection: close"))


def test_another_sender_has_other_lines() -> None:
    head = get(b"A: 1")
    for forwarding in (b"X-Forwarded-For: 1.1.1.1\r\n", b"X-Forwarded-For: 2.2.2.2\r\n"):
        written = request_for_upstream(head, forwarding, VIA, Underscores.SHADOW)
        assert written == (b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n" + forwarding + VIA + b"\r\n")
        assert request_for_upstream(head, forwarding, VIA, Underscores.SHADOW) == written


def test_another_client_connection_has_other_lines() -> None:
    head = answer(b"A: 1")
    for added in (b"Connection: close\r\n", b"", b"Connection: close\r\n"):
        for _ in range(2):
            assert write_response(head, added) == b"HTTP/1.1 200 OK\r\nA: 1\r\n" + added + b"\r\n"


@pytest.mark.parametrize("name", sorted(PROTECTED))
def test_nobody_takes_away_what_is_meant_for_all(name: bytes) -> None:
    refused = request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, " + name.title())
    assert isinstance(refused, BadRequest)
    assert name.decode() in refused.detail
    if name not in (b"content-length", b"transfer-encoding", b"trailer"):
        line = name.title() + b": x"
        assert line in client(b"Connection: " + name, line)


def test_connection_may_speak_of_the_connection() -> None:
    head = get(b"Connection: close, Keep-Alive, upgrade, TE, X-Own, HTTP2-Settings")
    assert len(head.options) == 6


NAMES = st.sampled_from([b"X-A", b"x-b", b"X-C", b"Cookie", b"Age", b"Keep-Alive", b"Close", b"D"])
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b"1", b"2", b""])), max_size=8)
GAPS = st.sampled_from([b",", b" , ", b",,", b"\t,", b", ,"])


@st.composite
def connection_lines(draw: st.DrawFn) -> tuple[list[bytes], set[bytes]]:
    """(lines of Connection in any list syntax, the names in them in lower case)."""
    lines, named = [], set()
    for names in draw(st.lists(st.lists(NAMES, max_size=3), max_size=3)):
        value = draw(st.sampled_from([b"", b",", b" "]))
        for name in names:
            value += draw(st.sampled_from([name, name.lower(), name.upper()])) + draw(GAPS)
            named.add(name.lower())
        lines.append(b"connection:" + value)
    return lines, named


@given(connection_lines(), LINES)
@search
def test_what_connection_names_goes_and_nothing_else(
    connection: tuple[list[bytes], set[bytes]], pairs: list[tuple[bytes, bytes]]
) -> None:
    lists, named = connection
    lines = [name + b": " + value for name, value in pairs]
    gone = (named - PROTECTED) | {b"keep-alive"}
    gone.discard(b"close")  # a word of the connection, not the name of a field
    expected = [line for line in lines if name_of(line) not in gone]
    mixed = [*lists, *lines] if len(lines) % 2 else [*lines, *lists]
    assert client(*mixed)[1:] == expected
    head = request(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *mixed]))
    if named & PROTECTED:
        assert isinstance(head, BadRequest)
    else:
        assert isinstance(head, RequestHead)
        assert upstream(head)[2:] == expected


def test_connection_names_trailers_too() -> None:
    lines = [b"X-Hop: 1", b"x-own: 2", b"X-Own: 3"]
    assert end_to_end_trailers(lines, get(b"Connection: X-OWN, close").options) == lines[:1]
    assert end_to_end_trailers(lines, get().options) == lines
    assert end_to_end_trailers([], get(b"Connection: X-Own").options) == []


@pytest.mark.parametrize("line", [b"Expect: 100-continue", b"expect:100-Continue"])
@pytest.mark.parametrize(("minor", "passes"), [(b"0", False), (b"1", True)])
@pytest.mark.parametrize("underscores", list(Underscores))
def test_an_expectation_of_http10_has_no_meaning(
    line: bytes, minor: bytes, passes: bool, underscores: Underscores
) -> None:
    head = get(line, b"Content-Length: 2", b"A: 1", start=b"POST / HTTP/1." + minor)
    lines = request_for_upstream(head, b"", b"Via: x\r\n", underscores).lower().split(b"\r\n")
    assert any(one.startswith(b"expect") for one in lines) is passes
    assert {b"a: 1", b"content-length: 2"} <= set(lines)
