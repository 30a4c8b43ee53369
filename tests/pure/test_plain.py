"""The plain lane: what it takes, what it leaves to h11, and how much it remembers."""

import pytest

from hopproxy.message import Kind
from hopproxy.wire import plain


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.0\r\nHost: a",
        b"GET / HTTP/1.2\r\nHost: a",
        b"GET http://a/ HTTP/1.1\r\nHost: a",
        b"OPTIONS * HTTP/1.1\r\nHost: a",
        b"GET /#f HTTP/1.1\r\nHost: a",
        b"GET /a b HTTP/1.1\r\nHost: a",
        b"GET /\x80 HTTP/1.1\r\nHost: a",
        b"G" * 33 + b" / HTTP/1.1\r\nHost: a",
        b"GET / HTTP/1.1\r\nHost:a",
        b"GET / HTTP/1.1\r\nHost: a ",
        b"GET / HTTP/1.1\r\nHost:  a",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"GET / HTTP/1.1\nHost: a",
        b"GET / HTTP/1.1\r\nHost: a\x01",
        b"",
    ],
)
def test_what_is_not_plain_is_left_alone(raw: bytes) -> None:
    assert plain.read_request(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 600 X",
        b"HTTP/1.1 20 X",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1 200 OK\x00",
        b"HTTP/1.1 200 OK\r\nA:b",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_response_that_is_not_plain_is_left_alone(raw: bytes) -> None:
    assert plain.read_response(raw) is None


def test_ordinary_lines_cost_nothing_later() -> None:
    head = plain.read_request(b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: b\r\nVia: 1.1 c")
    assert head is not None
    assert head.lines == [b"Host: a", b"Accept: b", b"Via: 1.1 c"]
    assert [field.kind for field in head.special] == [Kind.HOST, Kind.VIA]


def test_a_remembered_line_is_read_the_same() -> None:
    lines = [b"X-Twice: 1", b"Host: twice.example", b"X_Twice: 2"]
    first, second = plain.read_lines(lines), plain.read_lines(lines)
    assert first is not None
    assert first == second
    assert [field.name for field in first] == [b"host", b"x_twice"]


def test_what_is_remembered_is_bounded() -> None:
    memory = plain.Lines()
    first = b"Via: 1.1 first"
    kept = memory.learn(first)
    assert memory.get(first) is kept
    for number in range(plain.MEMO_LINES - 1):
        memory.learn(b"X: %d" % number)
    assert memory.get(first) is kept
    memory.learn(b"X: one more")
    assert memory.get(first) is None
    long = b"Via: " + b"x" * plain.MEMO_LINE_SIZE
    assert memory.learn(long) is not None
    assert memory.get(long) is None


@pytest.mark.parametrize("line", [b"A:b", b"A: b ", b"A", b"A: \x01"])
def test_what_is_no_plain_line_is_not_learned(line: bytes) -> None:
    memory = plain.Lines()
    with pytest.raises(ValueError, match="A"):
        memory.learn(line)
    assert memory.get(line, kept := memory.learn(b"Via: x")) is kept
