"""What both parsers refuse (RFC 9112 sections 2-5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest, BadResponse, Denied
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.rules.hop import Underscores, request_for_upstream
from hopproxy.wire import http1, plain
from tests.pure.search import (
    LIMITS,
    REQUESTS,
    Limits,
    answer,
    damaged,
    get,
    request,
    response,
    search,
)


def both_parsers(raw: bytes) -> list[bytes]:
    """`raw`, and the same with a line that the fast parser leaves to h11."""
    return [raw, raw + b"\r\nX-Odd:y"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(b"GET / HTTP/2.0\r\nHost: a", 505, id="2.3 HTTP/2.0"),
        pytest.param(b"GET / HTTP/0.9\r\nHost: a", 505, id="2.3 HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0", 505, id="2.3 HTTP/2 preface"),
        pytest.param(b"GET / HTTP/1.10\r\nHost: a", 400, id="2.3 two digits"),
        pytest.param(b"GET / http/1.1\r\nHost: a", 400, id="2.3 lower case"),
        pytest.param(b"GET /\r\nHost: a", 400, id="3 no version"),
        pytest.param(b"GET  / HTTP/1.1\r\nHost: a", 400, id="3 two spaces"),
        pytest.param(b"GET / HTTP/1.1 \r\nHost: a", 400, id="3 space at the end"),
        pytest.param(b"GET\t/ HTTP/1.1\r\nHost: a", 400, id="3 tab"),
        pytest.param(b" GET / HTTP/1.1\r\nHost: a", 400, id="3 space at the start"),
        pytest.param(b"G(T / HTTP/1.1\r\nHost: a", 400, id="3.1 method is no token"),
        pytest.param(b"", 400, id="3 nothing"),
        pytest.param(b"GET / HTTP/1.1\nHost: a", 400, id="2.2 bare LF"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\nX: b", 400, id="2.2 bare LF between fields"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\rX: b", 400, id="2.2 bare CR"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r", 400, id="2.2 CR at the end"),
        pytest.param(b"GET / HTTP/1.1\r\n Host: a", 400, id="2.2 space before the first field"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c", 400, id="5.2 fold"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\tX: b", 400, id="5.2 fold with a tab"),
        pytest.param(b"GET / HTTP/1.1\r\nHost : a", 400, id="5.1 space before the colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n: x", 400, id="5.1 no name"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX", 400, id="5.1 no colon"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX\x85: 1", 400, id="5.1 name is no token"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00", 400, id="5.5 NUL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b", 400, id="5.5 control byte"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb", 400, id="5.5 DEL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: \x0b", 400, id="5.5 vertical tab"),
        pytest.param(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: other", 417, id="9110 10.1.1 expectation"
        ),
        pytest.param(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, other", 417, id="one of two"
        ),
        pytest.param(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue;x", 417, id="a parameter"),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, status: int) -> None:
    for form in both_parsers(raw):
        refusal = request(form)
        assert isinstance(refusal, BadRequest)
        assert refusal.status == status


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/2.0 200 OK", id="HTTP/2.0"),
        pytest.param(b"HTTP/1.1 99 X", id="two digits"),
        pytest.param(b"HTTP/1.1 099 X", id="below 100"),
        pytest.param(b"HTTP/1.1 600 X", id="above 599"),
        pytest.param(b"HTTP/1.1 999 X", id="999"),
        pytest.param(b"HTTP/1.1 2000 X", id="four digits"),
        pytest.param(b"HTTP/1.1200 OK", id="no space"),
        pytest.param(b"200 OK", id="no version"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\nA: 1", id="bare LF"),
        pytest.param(b"HTTP/1.1 200 O\rK", id="bare CR"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: 1\r\n fold", id="fold"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA : 1", id="space before the colon"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: \x02", id="control byte"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon", id="no colon"),
        pytest.param(b"HTTP/1.1 200 O\x01K", id="control byte in the reason"),
        pytest.param(b"HTTP/1.1 200 O\x7fK", id="DEL in the reason"),
    ],
)
def test_what_is_no_response_is_refused(raw: bytes) -> None:
    for form in both_parsers(raw):
        for method in (b"GET", b"HEAD"):
            assert isinstance(response(form, method), BadResponse)


@pytest.mark.parametrize(
    ("lines", "start"),
    [
        ([b"X: \xe9\x85 a"], b"GET / HTTP/1.1"),
        ([b"X:"], b"GET / HTTP/1.1"),
        ([b"X:\ty  "], b"GET / HTTP/1.1"),
        ([], b"GET / HTTP/1.9"),
        ([], b"a-method-of-more-than-thirty-two-bytes / HTTP/1.1"),
    ],
)
def test_what_is_odd_and_legal_is_read(lines: list[bytes], start: bytes) -> None:
    head = get(*lines, start=start)
    assert head.minor == 1
    assert head.method == start.split()[0]
    assert len(head.lines) == 1 + len(lines)


def test_a_response_may_lack_its_reason() -> None:
    for form in both_parsers(b"HTTP/1.1 200"):
        head = response(form)
        assert isinstance(head, ResponseHead)
        assert (head.status, head.reason) == (200, b"")


@pytest.mark.parametrize("status", [100, 101, 103])
def test_interim_responses_are_read_on_both_parsers(status: int) -> None:
    for form in both_parsers(b"HTTP/1.1 %d X" % status):
        head = response(form)
        assert isinstance(head, ResponseHead)
        assert head.status == status


def test_limits_have_their_own_status() -> None:
    fields = b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX: 1" * 9
    target = b"GET /" + b"x" * 49 + b" HTTP/1.1\r\nHost: a"
    small = Limits(max_fields=10, max_target_size=50)
    assert isinstance(request(fields, small), RequestHead)
    assert isinstance(request(target, small), RequestHead)
    for raw, status in ((fields + b"\r\nX: 1", 431), (target.replace(b"/x", b"/xx"), 414)):
        for limits in (Limits(), small):  # remembered or not, the limit is the caller's own
            read = request(raw, limits)
            assert isinstance(read, RequestHead) is (limits != small)
        assert isinstance(read, BadRequest)
        assert read.status == status


@pytest.mark.parametrize(
    ("lines", "start", "expects"),
    [
        ([b"Expect: 100-continue", b"Content-Length: 5"], b"PUT / HTTP/1.1", True),
        ([b"Expect: 100-Continue", b"Transfer-Encoding: chunked"], b"PUT / HTTP/1.1", True),
        ([b"Expect: 100-continue"], b"PUT / HTTP/1.1", False),
        ([b"Expect: 100-continue", b"Content-Length: 5"], b"PUT / HTTP/1.0", False),
        ([b"Expect: other", b"Content-Length: 5"], b"PUT / HTTP/1.0", False),
        ([b"Content-Length: 5"], b"PUT / HTTP/1.1", False),
        ([b"Expect:", b"Content-Length: 5"], b"PUT / HTTP/1.1", False),
        ([b"Expect: ,", b"Content-Length: 5"], b"PUT / HTTP/1.1", False),
        ([b"Expect: , 100-continue,", b"Content-Length: 5"], b"PUT / HTTP/1.1", True),
        ([b"Expect:", b"Expect: 100-continue", b"Content-Length: 5"], b"PUT / HTTP/1.1", True),
    ],
)
def test_a_body_may_be_held_back(lines: list[bytes], start: bytes, expects: bool) -> None:
    """RFC 9110 section 10.1.1: not without a body, not in HTTP/1.0."""
    assert get(*lines, start=start).expects is expects


def test_connect_is_understood_and_not_served() -> None:
    for form in both_parsers(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443"):
        denied = request(form)
        assert isinstance(denied, Denied)
        assert denied.status == 405


def remembered(*lines: bytes) -> RequestHead:
    """A head that has come so often that it is remembered."""
    for _ in range(plain.TEACHING):
        head = get(*lines)
    return head


def test_remembered_heads_are_bounded() -> None:
    """What was remembered first is forgotten, and read again all the same."""
    first = remembered(b"N: 0")
    assert get(b"N: 0") is first
    for number in range(1, http1._Memo.HEADS * plain.TEACHING + 1):
        get(b"N: %d" % number)
        answer(b"N: %d" % number)
    again = get(b"N: 0")
    assert again is not first
    assert again.lines == first.lines
    long = b"L: " + b"x" * http1._Memo.HEAD_SIZE
    assert remembered(long) is not get(long)


def test_models_are_bounded() -> None:
    models = http1._requests.models
    for number in range(http1._Memo.HEADS + 2):
        assert get(host=b"h%d" % number).host == b"h%d" % number
        assert len(models) <= http1._Memo.HEADS
    hosted = [head for head in models.values() if head.host == b"h%d" % number]
    assert len(hosted) == 1
    many = [b"Via: 1.1 a"] * http1._Memo.FORMS
    assert get(*many).model is None
    assert get(*many, b"X: 2").model is None
    assert get(b"TE: " + b"x" * http1._Memo.HEAD_SIZE).model is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([b"Content-Length: 5"], [b"Content-Length: 60"]),
        ([b"Content-Length: 5"], [b"Content-Length: 0"]),
        ([b"Content-Length: 5"], [b"Content-Length: 006"]),
        ([b"X: 1", b"Via: 1.1 a"], [b"Via: 1.0 b", b"Y: 2"]),
        ([b"X-Forwarded-For: 1.1.1.1"], [b"Forwarded: for=2.2.2.2"]),
        ([b"TE: trailers"], [b"TE: gzip"]),
        ([b"Connection: close"], [b"Connection: X-A"]),
        ([b"Connection: upgrade", b"Upgrade: a"], [b"Connection: upgrade", b"Upgrade: b"]),
        ([b"X_A: 1"], [b"X_Forwarded_For: 1"]),
    ],
)
def test_a_head_is_settled_by_its_own_fields(first: list[bytes], second: list[bytes]) -> None:
    """Whatever was settled before it."""
    for lines in (first, second, first, second):
        head = get(b"X: new", *lines)
        alone = RequestHead(b"GET", b"/", 1, head.lines, head.special)
        http1.read_request_fields(alone)
        assert everything(head) == everything(alone)


def everything(head: RequestHead) -> list[object]:
    """All that is settled."""
    found: list[object] = [head.options, head.body, head.length, head.host]
    return [*found, head.expects, head.passed, head.upgrade]


@given(damaged(REQUESTS), st.integers(0, 10**6))
@search
def test_a_model_changes_nothing(raw: bytes, number: int) -> None:
    """A head whose forms came before is settled and written as if it were the first."""
    raw += b"\r\nX-Request-Id: %d" % number
    head = request(raw)
    again = request(raw + b"\r\nTraceparent: 00-%d" % number)
    if not isinstance(head, RequestHead) or not head.raw:
        return
    assert isinstance(again, RequestHead)
    alone = RequestHead(head.method, head.target, 1, head.lines, head.special)
    http1.read_request_fields(alone)
    assert everything(head) == everything(again) == everything(alone)
    for choice in (*Underscores, *Underscores):
        written = request_for_upstream(head, b"", b"Via: x\r\n", choice)
        assert written == request_for_upstream(alone, b"", b"Via: x\r\n", choice)


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon", "a field line without a colon"),
        (b"G(T / HTTP/1.1\r\nHost: a", "this is not an HTTP/1.1 request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:y\r\nhost: a", "Found multiple Host: headers"),
    ],
)
def test_a_refusal_is_a_plain_sentence(raw: bytes, detail: str) -> None:
    """Bytes of the peer's are not shown as Python writes them."""
    refused = request(raw)
    assert isinstance(refused, BadRequest)
    assert refused.detail == detail
    answered = response(b"HTTP/1.1 200 OK\r\nno colon")
    assert isinstance(answered, BadResponse)
    assert answered.detail == "the origin sent a field line without a colon"


@pytest.mark.parametrize(
    ("lines", "binds"),
    [
        ([], False),
        ([b"Authorization: NTLM TlRMTVNTUAAB"], True),
        ([b"authorization:negotiate YII="], True),
        ([b"AUTHORIZATION: nTlM"], True),
        ([b"Authorization: Basic bnRsbQ=="], False),
        ([b"Authorization: Bearer NTLM"], False),
        ([b"Authorization: NTLMv3 x"], False),
        ([b"Authorization: "], False),
        ([b"Authorization: Basic x", b"Authorization: NTLM x"], True),
        ([b"WWW-Authenticate: NTLM"], False),
        ([b"Proxy-Authorization: NTLM x"], False),
        ([b"X-Authorization: NTLM x"], False),
    ],
)
@pytest.mark.parametrize("line_end", [b"", b" "], ids=["fast parser", "h11"])
def test_credentials_for_a_connection_bind_it(
    lines: list[bytes], binds: bool, line_end: bytes
) -> None:
    """RFC 9110 section 3.3 forbids what NTLM does, so its link is one client's alone."""
    for _ in range(40):  # until the line is remembered, and after
        assert get(*lines, b"X: y" + line_end).binds is binds


@pytest.mark.parametrize(
    ("start", "lines", "simple"),
    [
        (b"GET / HTTP/1.1", [], True),
        (b"HEAD / HTTP/1.1", [], True),
        (b"GET / HTTP/1.1", [b"Cookie: a=1", b"Via: 1.1 x", b"X-Forwarded-For: 1.1.1.1"], True),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Via: 1.1 x"], False),
        (b"POST / HTTP/1.1", [], False),
        (b"OPTIONS * HTTP/1.1", [b"Max-Forwards: 0"], False),
        (b"GET / HTTP/1.1", [b"Content-Length: 1"], False),
        (b"GET / HTTP/1.1", [b"Transfer-Encoding: chunked"], False),
        (b"GET / HTTP/1.1", [b"Connection: close"], False),
        (b"GET / HTTP/1.1", [b"Connection: Upgrade", b"Upgrade: websocket"], False),
        (b"GET / HTTP/1.1", [b"Authorization: NTLM x"], False),
    ],
)
def test_a_simple_request_has_nothing_that_a_rule_of_the_connection_asks_for(
    start: bytes, lines: list[bytes], simple: bool
) -> None:
    for _ in range(3 * plain.TEACHING):  # remembered or not, or settled as an earlier one
        assert get(*lines, start=start).simple is simple


def test_what_is_too_large_is_the_request_line_or_the_head() -> None:
    for start, status in ((b"GET /" + b"x" * 40_000, 414), (b"GET / HTTP/1.1\r\nX: y", 431)):
        assert http1.too_large(start, LIMITS).status == status
