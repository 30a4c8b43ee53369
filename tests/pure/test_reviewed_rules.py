"""Rules of which a review found a gap: answers that announce content, an old client's Expect."""

import pytest

from hopproxy.record import CloseReason
from hopproxy.rules.hop import Underscores, request_for_upstream
from tests.pure.search import answer, get

NO_CONTENT = b"HTTP/1.1 204 No Content"


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5"],
        [b"Content-Length: 50"],
        [b"content-length: 005"],
        [b"Connection: keep-alive", b"Content-Length: 5"],
        [b"Connection: close", b"Content-Length: 5"],
    ],
)
def test_a_204_that_announces_content_ends_the_link(lines: list[bytes]) -> None:
    assert answer(*lines, start=NO_CONTENT).ending is CloseReason.BAD_RESPONSE


@pytest.mark.parametrize("line", [b"Content-Length: 0", b"Content-Length: 00", b"Date: x", b"A: 5"])
def test_a_204_that_announces_none_keeps_it(line: bytes) -> None:
    assert answer(line, start=NO_CONTENT).ending is None


@pytest.mark.parametrize(
    ("start", "method"), [(b"HTTP/1.1 304 Not Modified", b"GET"), (b"HTTP/1.1 200 OK", b"HEAD")]
)
def test_what_another_answer_would_have_had_is_no_announcement(start: bytes, method: bytes) -> None:
    assert answer(b"Content-Length: 5", start=start, method=method).ending is None


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
