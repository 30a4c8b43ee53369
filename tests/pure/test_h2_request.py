"""Requests of HTTP/2 (RFC 9113 section 8): the head that they mean, and those that mean none."""

from __future__ import annotations

import pytest

from hopproxy.errors import BadRequest, Denied, HopError
from hopproxy.message import CHUNKED, NO_BODY, SIZED
from hopproxy.settings.client import ClientSettings
from hopproxy.wire.h2_fields import Malformed
from hopproxy.wire.h2_request import Section
from hopproxy.wire.hpack import FieldLine

LIMITS = ClientSettings()
Fields = list[tuple[bytes, bytes]]


def fields(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A GET, with other pseudo-header fields (None: without) and further fields."""
    start: dict[str, bytes | None] = {
        "method": b"GET",
        "scheme": b"http",
        "authority": b"a",
        "path": b"/",
    }
    start.update(pseudo)
    return [(b":" + name.encode(), value) for name, value in start.items() if value is not None] + [
        *more
    ]


def section(pairs: Fields) -> Section:
    return Section([FieldLine(name, value) for name, value in pairs])


@pytest.mark.parametrize(
    ("pairs", "raw"),
    [
        pytest.param(fields(), b"GET / HTTP/1.1\r\nhost: a", id="8.3.1 a simple GET"),
        pytest.param(
            fields((b"x-a", b"1"), (b"x-b", b"")),
            b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: ",
            id="8.2 fields in their order",
        ),
        pytest.param(
            fields((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")),
            b"GET / HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2",
            id="8.2.3 cookie crumbs are one field",
        ),
        pytest.param(
            fields((b"cookie", b"a=1"), (b"cookie", b"")),
            b"GET / HTTP/1.1\r\nhost: a\r\ncookie: a=1;",
            id="8.2.3 an empty crumb, and no white space at the end",
        ),
        pytest.param(
            fields((b"host", b"a:80")),
            b"GET / HTTP/1.1\r\nhost: a",
            id="8.3.1 Host that names the same authority",
        ),
        pytest.param(
            fields((b"host", b"b"), authority=None),
            b"GET / HTTP/1.1\r\nhost: b",
            id="8.3.1 Host in the place of :authority",
        ),
        pytest.param(
            fields(method=b"OPTIONS", path=b"*"),
            b"OPTIONS * HTTP/1.1\r\nhost: a",
            id="8.3.1 OPTIONS for the server",
        ),
        pytest.param(
            fields((b"te", b"trailers")),
            b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers",
            id="8.2.2 te: trailers",
        ),
        pytest.param(
            fields((b"x", b"\xe4\tb")), b"GET / HTTP/1.1\r\nhost: a\r\nx: \xe4\tb", id="8.2.1 bytes"
        ),
        pytest.param(fields(scheme=b"https"), b"GET / HTTP/1.1\r\nhost: a", id="8.3.1 https"),
    ],
)
def test_a_request_means_what_it_would_in_http_1(pairs: Fields, raw: bytes) -> None:
    head = section(pairs).request(LIMITS, ended=True)
    assert head.raw == raw
    assert head.body is NO_BODY
    assert head.host in (b"a", b"b")
    assert head.minor == 2
    assert head.lines == raw.split(b"\r\n")[1:]


MALFORMED = [
    pytest.param(fields((b"X-A", b"1")), "lower case", id="8.2.1 upper case"),
    pytest.param(fields((b"", b"1")), "lower case", id="8.2.1 empty name"),
    pytest.param(fields((b"a b", b"1")), "lower case", id="8.2.1 space in a name"),
    pytest.param(fields((b"a:", b"1")), "lower case", id="8.2.1 colon in a name"),
    pytest.param(fields((b"a\xe4", b"1")), "lower case", id="8.2.1 byte above 7f in a name"),
    pytest.param(fields((b"a", b"b\r\nc: d")), "control", id="8.2.1 CR LF in a value"),
    pytest.param(fields((b"a", b"b\nc")), "control", id="8.2.1 LF in a value"),
    pytest.param(fields((b"a", b"b\0c")), "control", id="8.2.1 NUL in a value"),
    pytest.param(fields((b"a", b" b")), "white space", id="8.2.1 space before a value"),
    pytest.param(fields((b"a", b"b\t")), "white space", id="8.2.1 tab after a value"),
    pytest.param(fields((b"connection", b"close")), "connection", id="8.2.2 connection"),
    pytest.param(fields((b"keep-alive", b"1")), "keep-alive", id="8.2.2 keep-alive"),
    pytest.param(fields((b"proxy-connection", b"x")), "proxy-", id="8.2.2 proxy-connection"),
    pytest.param(fields((b"transfer-encoding", b"chunked")), "transfer", id="8.2.2 coding"),
    pytest.param(fields((b"upgrade", b"h2c")), "upgrade", id="8.2.2 upgrade"),
    pytest.param(fields((b"te", b"gzip")), "te other", id="8.2.2 te"),
    pytest.param(fields((b"te", b"trailers, gzip")), "te other", id="8.2.2 te with more"),
    pytest.param(fields((b":path", b"/b")), ":path twice", id="8.3 :path twice"),
    pytest.param(fields((b":status", b"200")), ":status, an", id="8.3 :status in a request"),
    pytest.param(fields((b":x", b"1")), ":x, an", id="8.3 unknown"),
    pytest.param(fields((b"a", b"b"), (b":x", b"1")), "after others", id="8.3 after a field"),
    pytest.param(fields((b"a", b"b"), (b":path", b"/")), "after others", id="8.3 path after"),
    pytest.param(fields(method=None), ":method", id="8.3.1 no method"),
    pytest.param(fields(method=b""), ":method", id="8.3.1 empty method"),
    pytest.param(fields(method=b"G T"), ":method", id="8.3.1 space in the method"),
    pytest.param(fields(method=b"GET / HTTP/1.1\r\n"), "control", id="8.3.1 line in the method"),
    pytest.param(fields(scheme=None), ":scheme", id="8.3.1 no scheme"),
    pytest.param(fields(scheme=b"ftp"), ":scheme", id="8.3.1 another scheme"),
    pytest.param(fields(path=None), ":path", id="8.3.1 no path"),
    pytest.param(fields(path=b""), ":path", id="8.3.1 empty path"),
    pytest.param(fields(path=b"a"), ":path", id="8.3.1 path without slash"),
    pytest.param(fields(path=b"*"), ":path", id="8.3.1 * without OPTIONS"),
    pytest.param(fields(path=b"/a b"), ":path", id="8.3.1 space in the path"),
    pytest.param(fields(path=b"/a#b"), ":path", id="8.3.1 fragment"),
    pytest.param(fields(path=b"/\xe4"), ":path", id="8.3.1 byte above 7f in the path"),
    pytest.param(fields(path=b"http://b/"), ":path", id="8.3.1 absolute form"),
    pytest.param(fields(path=b"/ HTTP/1.1\r\nX: y"), "control", id="8.3.1 line in the path"),
    pytest.param(fields(authority=b""), ":authority", id="8.3.1 empty authority"),
    pytest.param(fields(authority=b"u@a"), ":authority", id="8.3.1 userinfo"),
    pytest.param(fields(authority=b"a b"), ":authority", id="8.3.1 space in the authority"),
    pytest.param(fields(authority=b"a:99999"), ":authority", id="8.3.1 port"),
    pytest.param(fields((b"host", b"b")), "Host differs", id="8.3.1 another Host"),
    pytest.param(fields((b"host", b"a@")), "Host differs", id="8.3.1 invalid Host"),
    pytest.param(
        fields((b"host", b"a"), (b"host", b"a")), "Host twice", id="RFC 9112 3.2 Host twice"
    ),
    pytest.param(
        fields((b"host", b"a"), (b"host", b"a"), authority=None),
        "Host twice",
        id="RFC 9112 3.2 Host twice, without :authority",
    ),
    pytest.param(
        fields((b"host", b"a"), (b"host", b"b")), "Host twice", id="8.3.1 Hosts that differ"
    ),
    pytest.param(fields(method=b"CONNECT"), "CONNECT", id="8.5 CONNECT with path"),
    pytest.param(
        fields(method=b"CONNECT", scheme=None, path=None, authority=None),
        "CONNECT",
        id="8.5 CONNECT without authority",
    ),
    pytest.param(fields(protocol=b"websocket"), "protocol in", id="RFC 8441 4 without CONNECT"),
    pytest.param(fields((b"content-length", b"3")), "without DATA", id="8.1.1 length without DATA"),
]


@pytest.mark.parametrize(("pairs", "why"), MALFORMED)
def test_a_malformed_request_is_refused(pairs: Fields, why: str) -> None:
    for _ in range(2):  # nothing of it is remembered
        with pytest.raises(Malformed, match=why):
            section(pairs).request(LIMITS, ended=True)


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        pytest.param(fields(authority=None), 400, id="8.3.1 neither authority nor Host"),
        pytest.param(fields((b"content-length", b"x")), 400, id="8.1.1 invalid length"),
        pytest.param(
            fields((b"content-length", b"1"), (b"content-length", b"2")), 400, id="two lengths"
        ),
        pytest.param(fields((b"expect", b"x")), 417, id="RFC 9110 10.1.1"),
        pytest.param(fields(path=b"/" + b"a" * 8192), 414, id="a long target"),
        pytest.param(fields(*[(b"x", b"y")] * 128), 431, id="many fields"),
        pytest.param(fields((b"x", b"y" * 32768)), 431, id="a large head"),
        pytest.param(
            fields(method=b"CONNECT", scheme=None, path=None), 405, id="8.5 a usual CONNECT"
        ),
    ],
)
def test_what_is_refused_in_http_1_is_refused_here(pairs: Fields, status: int) -> None:
    with pytest.raises(HopError) as refused:
        section(pairs).request(LIMITS, ended=False)
    assert isinstance(refused.value, BadRequest | Denied)
    assert refused.value.status == status


def test_a_request_without_host_is_told_in_the_words_of_its_protocol() -> None:
    with pytest.raises(BadRequest, match="neither :authority nor Host"):
        section(fields(authority=None)).request(LIMITS, ended=True)


def test_a_section_above_the_limit_is_a_large_head() -> None:
    large = Section([], too_large=True)
    with pytest.raises(BadRequest, match="max_head_size"):
        large.request(LIMITS, ended=True)
    with pytest.raises(BadRequest, match="max_head_size"):
        large.trailers()


def test_a_body_follows_unless_the_stream_has_ended() -> None:
    """The same fields mean both: whether DATA follows is not in them."""
    shared = section(fields())
    assert shared.request(LIMITS, ended=True).body is NO_BODY
    assert shared.request(LIMITS, ended=False).body is CHUNKED
    assert shared.request(LIMITS, ended=True).simple
    assert not shared.request(LIMITS, ended=False).simple
    assert shared.request(LIMITS, ended=True) is shared.request(LIMITS, ended=True)
    assert shared.request(LIMITS, ended=False) is shared.request(LIMITS, ended=False)


def test_a_length_is_believed_and_an_expectation_needs_a_body() -> None:
    expecting = section(fields((b"expect", b"100-continue")))
    assert expecting.request(LIMITS, ended=False).expects
    assert not expecting.request(LIMITS, ended=True).expects
    sized = section(fields((b"content-length", b"3"), method=b"POST"))
    head = sized.request(LIMITS, ended=False)
    assert (head.body, head.length) == (SIZED, 3)
    empty = section(fields((b"content-length", b"0"))).request(LIMITS, ended=False)
    assert empty.body is NO_BODY


def test_credentials_that_bind_a_connection_are_noticed() -> None:
    assert section(fields((b"authorization", b"NTLM x"))).request(LIMITS, ended=True).binds
    assert not section(fields((b"authorization", b"Basic x"))).request(LIMITS, ended=True).binds


WEBSOCKET = fields(
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"not ours"),
    (b"origin", b"http://a"),
    method=b"CONNECT",
    protocol=b"websocket",
)


def test_an_extended_connect_is_an_upgrade() -> None:
    """RFC 8441 section 5: HTTP/1.1 needs a key, and the client's is none."""
    found = section(WEBSOCKET)
    assert found.protocol == b"websocket"
    head = found.opening(LIMITS, b"key")
    assert head.raw == (
        b"GET / HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\norigin: http://a\r\n"
        b"sec-websocket-key: key"
    )
    assert head.upgrade == b"websocket"
    assert section(fields()).request(LIMITS, ended=True).upgrade is None  # it is no model


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        pytest.param(fields(protocol=b"websocket"), 400, id="RFC 8441 4 without CONNECT"),
        pytest.param(fields(method=b"CONNECT", protocol=b"connect-udp"), 501, id="another"),
        pytest.param([*WEBSOCKET, (b"content-length", b"5")], 400, id="content in CONNECT"),
        pytest.param(
            fields(method=b"CONNECT", protocol=b"websocket", path=None), 400, id="RFC 8441 4 path"
        ),
        pytest.param(
            fields((b"x", b"y" * 32768), method=b"CONNECT", protocol=b"websocket"), 431, id="large"
        ),
    ],
)
def test_an_extended_connect_is_refused_like_a_request(pairs: Fields, status: int) -> None:
    with pytest.raises(BadRequest) as refused:
        section(pairs).opening(LIMITS, b"key")
    assert refused.value.status == status


def test_what_names_no_protocol_is_no_extended_connect() -> None:
    assert section(fields((b"x", b"y"))).protocol == b""
    assert Section([]).protocol == b""


def test_trailers_are_checked_and_some_left_out() -> None:
    assert section([(b"x-sum", b"1"), (b"content-length", b"9")]).trailers() == [b"x-sum: 1"]
    for flawed in ([(b":path", b"/")], [(b"X", b"1")], [(b"x", b"a\nb")]):
        with pytest.raises(Malformed):
            section(flawed).trailers()


def test_what_can_be_read_of_a_refused_request_is_logged() -> None:
    assert section(fields(path=b"/x y")).glimpse() == (b"GET", b"/x y", b"a")
    assert section([(b"host", b"h")]).glimpse() == (b"", b"", b"h")


# -- another path ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/", b"/b?c", b"*", b"", b"b", b"/a b", b"/" + b"x" * 9000])
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"POST"])
@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("served", [True, False])
def test_a_section_with_another_path_means_what_it_says(
    path: bytes, method: bytes, ended: bool, served: bool
) -> None:
    """Whether or not the section that it was made of has been served."""

    def made(target: bytes) -> Section:
        more = (b"x-a", b"1"), (b"authorization", b"NTLM x"), (b"cookie", b"a"), (b"cookie", b"b")
        return section(fields(*more, method=method, path=target))

    first = made(b"/first")
    if served:
        first.request(LIMITS, ended)
    found = _told(first.elsewhere(3, path), ended)
    assert found == _told(made(path), ended)
    assert first.glimpse()[1] == b"/first"


def _told(one: Section, ended: bool) -> object:
    try:
        head = one.request(LIMITS, ended)
    except HopError as error:
        return type(error), error.detail, error.status, one.glimpse()
    names = (
        "method",
        "target",
        "minor",
        "lines",
        "host",
        "body",
        "length",
        "simple",
        "binds",
        "raw",
    )
    said = [getattr(head, name) for name in names]
    return said, [field.line for field in head.special], one.glimpse()
