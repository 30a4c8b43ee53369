"""What a request is for: targets and Hosts (RFC 9112 section 3.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest, HopError
from hopproxy.message import Field, Kind, RequestHead
from hopproxy.rules.target import (
    is_authority,
    is_served,
    plain_path,
    settle_target,
    written_path,
)
from tests.pure.search import get, request, search


@pytest.mark.parametrize(
    ("start", "host", "target", "settled"),
    [
        (b"GET / HTTP/1.1", b"a", b"/", b"a"),
        (b"GET /a%2Fb;c//d/../e?x=/?#".rstrip(b"#") + b" HTTP/1.1", b"A.b:81",
         b"/a%2Fb;c//d/../e?x=/?", b"A.b:81"),
        (b"OPTIONS * HTTP/1.1", b"a", b"*", b"a"),
        (b"GET http://a HTTP/1.1", b"a", b"/", b"a"),
        (b"GET http://a?q HTTP/1.1", b"a", b"/?q", b"a"),
        (b"GET http://a/b?q HTTP/1.1", b"a", b"/b?q", b"a"),
        (b"GET HTTPS://A:443/ HTTP/1.1", b"a:443", b"/", b"a:443"),
        (b"OPTIONS http://a HTTP/1.1", b"a", b"*", b"a"),
        (b"OPTIONS http://a/ HTTP/1.1", b"a", b"/", b"a"),
        (b"OPTIONS http://a?q HTTP/1.1", b"a", b"/?q", b"a"),
        (b"GET http://[::1]:8080/x HTTP/1.1", b"[::1]:8080", b"/x", b"[::1]:8080"),
        (b"GET http://b/x HTTP/1.0", None, b"/x", b"b"),
        (b"GET /x HTTP/1.0", None, b"/x", b""),
        (b"GET /x HTTP/1.0", b"c", b"/x", b"c"),
    ],
)  # fmt: skip
def test_a_target_comes_to_origin_form(
    start: bytes, host: bytes | None, target: bytes, settled: bytes
) -> None:
    head = get(start=start, host=host)
    assert (head.target, head.host) == (target, settled)


@pytest.mark.parametrize(
    ("scheme", "authority", "host"),
    [
        (b"http", b"h:80", b"h"),
        (b"http", b"h", b"h:80"),
        (b"HTTP", b"H:80", b"h"),
        (b"https", b"h:443", b"h"),
        (b"https", b"h", b"h:443"),
        (b"http", b"h:", b"h"),
        (b"http", b"h", b"h:"),
        (b"http", b"h:080", b"h:80"),
        (b"http", b"h.example.", b"H.example"),
        (b"http", b"h.example:80", b"h.example.:80"),
        (b"http", b"[::1]:80", b"[::1]"),
        (b"http", b"[0:0:0:0:0:0:0:1]", b"[::1]:80"),
        (b"http", b"[FE80::A]:81", b"[fe80::a]:81"),
        (b"http", b"[fe80::a%25Eth0]", b"[fe80::A%25eth0]:80"),
        (b"http", b"127.0.0.1:80", b"127.0.0.1"),
    ],
)
def test_one_authority_in_two_spellings_is_one(
    scheme: bytes, authority: bytes, host: bytes
) -> None:
    """The origin gets the client's Host, in Host and as the host of the request."""
    head = get(start=b"GET " + scheme + b"://" + authority + b"/x HTTP/1.1", host=host)
    assert (head.host, head.target) == (host, b"/x")
    assert head.special_value(b"host") == host


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(b"*", id="asterisk without OPTIONS"),
        pytest.param(b"foo", id="no form at all"),
        pytest.param(b"!", id="mark"),
        pytest.param(b"/a#b", id="fragment"),
        pytest.param(b"/\x80", id="byte that is not ASCII"),
        pytest.param(b"/\x7f", id="DEL"),
        pytest.param(b"a:80", id="authority-form"),
        pytest.param(b"http://", id="no authority"),
        pytest.param(b"http:///x", id="empty authority"),
        pytest.param(b"http://u@a/", id="userinfo"),
        pytest.param(b"http://a:99999/", id="port"),
        pytest.param(b"http://a#b", id="fragment behind the authority"),
        pytest.param(b"ftp://a/", id="another scheme"),
        pytest.param(b"http://b/", id="another host than Host"),
        pytest.param(b"http://a:81/", id="another port than Host"),
        pytest.param(b"https://a:80/", id="another port than that of the scheme"),
        pytest.param(b"http://a:443/", id="the port of another scheme"),
        pytest.param(b"http://a../", id="two dots at the end"),
    ],
)
def test_a_target_in_no_form_of_ours_is_refused(target: bytes) -> None:
    refusal = request(b"GET " + target + b" HTTP/1.1\r\nHost: a")
    assert isinstance(refusal, BadRequest)
    assert refusal.status == 400


def test_a_target_is_judged_by_itself() -> None:
    """Whoever has read the line before."""
    line = b"Host: a"
    head = RequestHead(b"GET", b"foo", 1, [line], [Field(line, b"host", b"a", Kind.HOST)])
    with pytest.raises(BadRequest, match="not valid"):
        settle_target(head)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="none"),
        pytest.param([b"Host: a", b"Host: a"], id="two"),
        pytest.param([b"Host: a", b"host:b"], id="two that differ"),
        pytest.param([b"Host:"], id="empty"),
        pytest.param([b"Host: a b"], id="space"),
        pytest.param([b"Host: a, b"], id="list"),
        pytest.param([b"Host: a/b"], id="path"),
        pytest.param([b"Host: u@a"], id="userinfo"),
        pytest.param([b"Host: a:99999"], id="port above 65535"),
        pytest.param([b"Host: a:8o"], id="port that is no number"),
        pytest.param([b"Host: [::1"], id="bracket"),
        pytest.param([b"Host: ::1"], id="IPv6 without brackets"),
        pytest.param([b"Host: \xe9"], id="byte that is not ASCII"),
    ],
)
@pytest.mark.parametrize("more", [[], [b"X:y"], [b"Content-Length: 0"]])
def test_a_host_that_is_no_host_is_refused(lines: list[bytes], more: list[bytes]) -> None:
    refusal = request(b"\r\n".join([b"GET / HTTP/1.1", *lines, *more]))
    assert isinstance(refusal, BadRequest)
    assert refusal.status == 400


@pytest.mark.parametrize("minor", [b"0", b"1"])
def test_http10_is_not_excused_from_a_sound_host(minor: bytes) -> None:
    for host in (b"a b", b"a:99999"):
        assert isinstance(request(b"GET / HTTP/1." + minor + b"\r\nHost: " + host), BadRequest)
    two = b"GET / HTTP/1." + minor + b"\r\nHost: a\r\nHost: a"
    assert isinstance(request(two), BadRequest)


@pytest.mark.parametrize(
    ("value", "sound"),
    [
        (b"a", True), (b"a.b-c_d~", True), (b"10.0.0.1:80", True), (b"[::1]", True),
        (b"[fe80::1%25eth0]:80", True), (b"[::ffff:1.2.3.4]", True), (b"a:", True), (b"a:0", True),
        (b"a:65535", True), (b"a%41", True), (b"a:65536", False), (b"a:123456", False),
        (b"", False), (b":80", False), (b"[]", False), (b"[::1]x", False), (b"a\n", False),
    ],
)  # fmt: skip
def test_an_authority_is_a_host_and_a_port(value: bytes, sound: bool) -> None:
    assert is_authority(value) is sound


@given(st.binary(max_size=12), st.sampled_from([b"GET", b"OPTIONS"]))
@search
def test_whatever_the_target_it_leaves_in_a_form_of_ours(target: bytes, method: bytes) -> None:
    for raw in (target, b"/" + target, b"http://a/" + target, b"http://" + target):
        head = request(method + b" " + raw + b" HTTP/1.1\r\nHost: a")
        if not isinstance(head, HopError):
            assert head.target.startswith(b"/") or (head.target, method) == (b"*", b"OPTIONS")
            assert not any(byte <= 32 or byte >= 127 for byte in head.target)
            assert head.host.lower() == b"a"


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        (b"/", b"/"), (b"*", b"*"), (b"/a.b/..c/.d/", b"/a.b/..c/.d/"),
        (b"/a/./b", b"/a/b"), (b"/a/../b", b"/b"), (b"/../../a", b"/a"), (b"/a/..", b"/"),
        (b"/a/.", b"/a/"), (b"/a/b/..", b"/a/"), (b"//a///b//", b"/a/b/"), (b"//", b"/"),
        (b"/%61/%2e%2E/%62", b"/b"), (b"/a%2fb%2F..", b"/a/"), (b"/%252f%zz%", b"/%252f%25zz%25"),
        (b"/%2%65", b"/%252e"),
        (b"/%00%20%3f%23%e9", b"/\x00 ?#\xe9"),
    ],
)  # fmt: skip
def test_a_path_as_applications_understand_it(path: bytes, plain: bytes) -> None:
    assert plain_path(path) == plain
    assert plain_path(written_path(plain)) == plain
    assert is_served(b"OPTIONS", written_path(plain))
