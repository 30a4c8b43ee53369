"""The wire rules that apply to HTTP/2, with clients that speak it.

They are played where HOPPROXY_TEST_HTTP2 is `clients`, as in `make drivers`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("h2", reason="needs h2 (pip install h2)")

from tests import drivers
from tests.conformance import only_http1
from tests.conformance.case import Case, run
from tests.conformance.h2_client import H2Client
from tests.conformance.h2_said import NoMeaning, Request
from tests.conformance.proxies import Proxy
from tests.conformance.table import cases

IN_HTTP2 = [case for case in cases() if not case.only_http1]

if drivers.HTTP2 == "clients":

    @pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in IN_HTTP2])
    def test_rule_in_http2(case: Case, proxy_for: Callable[[Case], Proxy]) -> None:
        proxy = proxy_for(case)
        stage = proxy.stage(case)
        stage.speaks = H2Client
        outcome = run(case, stage)
        assert outcome.verdict == "pass", f"{outcome.seen}\n{outcome.trace}"
        assert "Traceback" not in proxy.printed(), proxy.printed()


def test_each_case_is_played_in_http2_or_says_why_it_has_no_meaning_there() -> None:
    assert len(IN_HTTP2) == 273
    others = [case for case in cases() if case.only_http1]
    assert len(others) == len(cases()) - 273
    assert {case.only_http1 for case in others} == only_http1.REASONS


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, X-A",
        b"GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: 5",
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c",
        b"GET / HTTP/1.1\r\nHost: a\r\nno field",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 2",
        b"hello world",
    ],
)
def test_what_http2_cannot_say_is_never_left_out_in_silence(head: bytes) -> None:
    with pytest.raises(NoMeaning):
        Request(head, b"http")


def test_a_request_is_said_in_the_words_of_http2() -> None:
    lines = (
        b"POST http://b:8/p?q HTTP/1.1",
        b"X-A: 1\n2",
        b"Host: b:8",
        b"TE: trailers",
        b"Connection: TE",
        b"Transfer-Encoding: Chunked",
        b"X-B:\t3\r\n 4 ",
    )
    said = Request(b"\r\n".join(lines), b"https")
    start = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/p?q")]
    pairs = [(b"x-a", b"1\n2"), (b"host", b"b:8"), (b"te", b"trailers"), (b"x-b", b"3\r\n 4 ")]
    assert said.fields == [*start, (b":authority", b"b:8"), *pairs]
    assert said.chunked


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        (b"X-A: 1", 0),
        (b"Content-Length: 0", 0),
        (b"Content-Length: 12", 12),
        (b"Transfer-Encoding: chunked", -1),
        (b"Content-Length: +5", -2),
        (b"Content-Length: 5\r\nContent-Length: 5", -2),
        (b"Transfer-Encoding: chunked, gzip", -2),
        (b"Upgrade: websocket\r\nConnection: upgrade", -1),
    ],
)
def test_a_body_ends_where_http11_says(lines: bytes, left: int) -> None:
    assert Request(b"POST / HTTP/1.1\r\nHost: a\r\n" + lines, b"http").left == left
