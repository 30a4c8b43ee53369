"""The fast parser: what it accepts, what it leaves to h11, and how much it caches."""

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
    memory = plain.Lines()
    lines = [b"X-Twice: 1", b"Host: twice.example", b"X_Twice: 2"]
    read = [memory.read(lines) for _ in range(plain.TEACHING + 2)]
    for special in read:
        assert special is not None
        assert [field.line for field in special] == lines[1:]
        assert [field.name for field in special] == [b"host", b"x_twice"]
        assert [field.value for field in special] == [b"twice.example", b"2"]
    assert read[0] != read[1]
    assert read[-1] == read[-2]


def is_remembered(memory: plain.Lines, line: bytes) -> bool:
    """Whether a special line is the same Field each time."""
    first, second = memory.read([line]), memory.read([line])
    return first is not None and first == second


def taught(memory: plain.Lines, *lines: bytes) -> None:
    """Let heads with these lines come so often that one of them is remembered."""
    for _ in range(plain.TEACHING):
        memory.read([*lines])


def test_lines_that_are_remembered_are_bounded() -> None:
    memory = plain.Lines()
    first = b"Via: 1.1 first"
    taught(memory, first, b"Via: " + b"x" * plain.MEMO_LINE_SIZE)
    assert is_remembered(memory, first)
    taught(memory, *(b"X: %d" % number for number in range(plain.MEMO_LINES - 1)))
    assert is_remembered(memory, first)
    taught(memory, b"X: one more")
    assert not is_remembered(memory, first)


def test_a_long_line_is_not_remembered() -> None:
    memory = plain.Lines()
    long = b"Via: " + b"x" * plain.MEMO_LINE_SIZE
    taught(memory, long)
    assert not is_remembered(memory, long)


def test_names_that_are_remembered_are_bounded() -> None:
    memory = plain.Lines()
    for number in range(2 * plain.MEMO_NAMES):
        assert memory.read([b"X-%d: 1" % number, b"Via: 1.1 a"]) is not None
        assert len(memory._names) <= plain.MEMO_NAMES
    long = b"X" * (plain.MEMO_NAME_SIZE + 1)
    assert memory.read([long + b": 1"]) == []
    assert long not in memory._names


def test_start_lines_that_are_remembered_are_bounded() -> None:
    for number in range(plain.MEMO_STARTS + 2):
        head = plain.read_request(b"GET /%d HTTP/1.1\r\nHost: a" % number)
        assert head is not None
        assert (head.method, head.target) == (b"GET", b"/%d" % number)
        assert len(plain._starts) <= plain.MEMO_STARTS
    long = b"GET /" + b"x" * plain.MEMO_LINE_SIZE + b" HTTP/1.1"
    assert plain.read_request(long + b"\r\nHost: a") is not None
    assert long not in plain._starts


@pytest.mark.parametrize("known", [[], [b"A: 1", b"Via: 1.1 a"]])
@pytest.mark.parametrize(
    "line",
    [b"A:b", b"A: b ", b"A:  b", b"A: \tb", b"A: b\t", b"A", b"A: \x01", b"A: b\x7fc", b"A: b\x00c",
     b"A: b\nc", b"A: b\rc", b"A : b", b"A:b: c", b": b", b"", b" A: b", b"A\x85: b", b"Via: \x01b",
     b"Via: a ", b"Via", b"Via:a"],
)  # fmt: skip
def test_what_is_no_plain_line_is_not_read(line: bytes, known: list[bytes]) -> None:
    """Whether or not the name was seen before."""
    memory = plain.Lines()
    assert memory.read(known) is not None
    for _ in range(plain.TEACHING + 1):
        assert memory.read([b"B: 1", line, b"C: 2"]) is None


@pytest.mark.parametrize("line", [b"A: ", b"A: b c\td", b"A: \xe9", b"Via: a: b", b"A: b:c: d"])
def test_what_is_a_plain_line_is_read(line: bytes) -> None:
    memory = plain.Lines()
    for _ in range(plain.TEACHING + 1):
        assert memory.read([line]) is not None
