"""What a browser is shown when the origin does not answer, and what everybody else gets."""

from __future__ import annotations

import re

import pytest

from hopproxy.dev.down import page_for
from hopproxy.errors import (
    BadRequest,
    BadResponse,
    ConnectFailed,
    HopError,
    PoolExhausted,
    TlsFailed,
)
from hopproxy.message import Field, Kind, RequestHead
from hopproxy.settings.units import OriginAddress
from hopproxy.wire.unfinished import UnfinishedResponse

PAGE = page_for(lambda _: OriginAddress("tcp", "localhost", 3000), b"hopproxy")
REFUSED = ConnectFailed("http://localhost:3000 cannot be reached: refused")
HTML = b"Accept: text/html,application/xhtml+xml,*/*;q=0.8"


def request(accept: bytes = HTML, method: bytes = b"GET", target: bytes = b"/") -> RequestHead:
    line, _, value = accept.partition(b": ")
    return RequestHead(method, target, 1, [accept], [Field(accept, line, value, Kind.ORDINARY)])


def shown(error: HopError, asked: RequestHead | None = None) -> str:
    """The page's text."""
    found = PAGE(asked or request(), error)
    assert found is not None
    return found[1].decode()


def test_it_says_what_was_tried_and_what_to_do() -> None:
    text = shown(REFUSED, request(target=b"/some/page"))
    assert "localhost, port 3000" in text
    assert "refused at once" in text
    assert "Is your server started, and does it listen on port 3000?" in text
    assert "GET /some/page" in text
    assert 'data-waits="true"' in text


def test_no_place_of_the_template_stays_empty() -> None:
    assert re.findall(r"\{\{|\}\}", shown(REFUSED)) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(REFUSED, 502), (ConnectFailed("late", 504, "connection_timeout"), 504)],
)
def test_the_cause_stays_in_proxy_status(error: HopError, status: int) -> None:
    found = PAGE(request(), error)
    assert found is not None
    head, body = found
    assert (head.status, head.length) == (status, len(body))
    assert b"Content-Type: text/html; charset=utf-8" in head.lines
    assert b"Cache-Control: no-store" in head.lines
    causes = [line for line in head.lines if line.startswith(b"Proxy-Status: hopproxy; error=")]
    assert causes == [
        b'Proxy-Status: hopproxy; error=%s; details="%s"'
        % (error.cause.encode(), error.detail.encode())
    ]


def test_a_post_is_not_repeated_by_a_page_that_reloads_itself() -> None:
    assert 'data-waits="false"' in shown(REFUSED, request(method=b"POST"))


def test_a_server_that_was_reached_is_not_asked_again_by_itself() -> None:
    text = shown(BadResponse("two different lengths"))
    assert "two different lengths" in text
    assert "its own log may say more" in text
    assert 'data-waits="false"' in text


def test_an_origin_that_writes_bare_line_feeds_is_told_the_way_out() -> None:
    """Other proxies read it, so the page says what to change, and what to do until then."""
    with pytest.raises(BadResponse) as refused:
        UnfinishedResponse(b"GET").check(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nhey")
    text = shown(refused.value, request(target=b"/a?b"))
    assert "a line that ends with a bare line feed instead of CRLF" in text
    assert r"HTTP/1.1 ends each line with \r\n: write that" in text
    assert '<a id="direct" href="http://localhost:3000/a?b">http://localhost:3000/a?b</a>' in text
    assert "its own log may say more" not in text


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            b"\x15\x03\x03\x00\x02\x02\x46",
            "Your server speaks TLS: write https:// in front of its address.",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "Give hopproxy the port on which your server speaks plain HTTP/1.1.",
        ),
    ],
)
def test_an_origin_that_speaks_something_else_is_told_what_to_do(said: bytes, hint: str) -> None:
    with pytest.raises(BadResponse) as refused:
        UnfinishedResponse(b"GET").check(said)
    text = shown(refused.value)
    assert refused.value.detail in text
    assert hint in text


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (REFUSED, request()),
        (BadResponse("x"), request(method=b"POST")),
        (BadResponse("x"), request(target=b"*")),
    ],
)
def test_there_is_no_direct_way_where_it_would_not_help(
    error: HopError, asked: RequestHead
) -> None:
    text = shown(error, asked)
    assert '<dt hidden>Without hopproxy</dt><dd class="mono" hidden>' in text


def test_a_server_that_does_not_accept_is_distinguished_from_one_that_is_not_there() -> None:
    text = shown(ConnectFailed("late", 504, "connection_timeout"))
    assert "no connection within 1 s" in text
    assert "stopped in a debugger" in text


def test_a_unix_socket_is_named_by_its_path() -> None:
    page = page_for(lambda _: OriginAddress("unix", path="/run/app.sock"), b"hopproxy")
    found = page(request(), ConnectFailed("no such file", 502, "destination_unavailable"))
    assert found is not None
    assert b"does it listen on /run/app.sock?" in found[1]
    assert b"no such file" in found[1]


def test_nothing_of_the_request_is_markup() -> None:
    text = shown(REFUSED, request(target=b"/<script>{{detail}}&"))
    assert "/&lt;script&gt;{{detail}}&amp;" in text
    assert "/<script>" not in text


@pytest.mark.parametrize(
    "accept", [b"Accept: */*", b"Accept: application/json", b"X-Other: text/html"]
)
def test_who_does_not_ask_for_html_gets_the_plain_answer(accept: bytes) -> None:
    assert PAGE(request(accept), REFUSED) is None


@pytest.mark.parametrize("error", [BadRequest("no"), PoolExhausted("full")])
def test_what_is_not_the_origins_doing_gets_the_plain_answer(error: HopError) -> None:
    assert PAGE(request(), error) is None


def test_a_head_that_could_not_be_read_gets_the_plain_answer() -> None:
    assert PAGE(None, REFUSED) is None


def test_a_server_without_tls_is_distinguished_from_one_that_is_not_there() -> None:
    text = shown(TlsFailed("TLS with https://localhost:3000 failed: it does not speak TLS"))
    assert "No good answer from" in text
    assert "is https:// right?" in text
