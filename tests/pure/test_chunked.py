"""The chunked coding: cut anywhere it is the same, and what is strange in it is refused."""

from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.wire.chunked import (
    LAST_CHUNK,
    MAX_EXTENSIONS,
    MAX_LINE,
    MAX_TRAILERS,
    ChunkedError,
    ChunkedReader,
    chunk,
    last_chunk,
)
from tests.pure.search import search

Read = tuple[bytes, list[bytes], bytes, bool]


def read(*pieces: bytes) -> Read:
    """(body, trailers, what is left, whether it ended) of a coding that comes in these pieces."""
    reader = ChunkedReader()
    body = left = b""
    for piece in pieces:
        if reader.done:
            left += piece
            continue
        found, behind = reader.feed(piece)
        body += found
        left += behind
    return body, reader.trailers, left, reader.done


def verdict(*pieces: bytes) -> Read | None:
    """The same, None where it is refused."""
    try:
        return read(*pieces)
    except ChunkedError:
        return None


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"5 \r\nhello\r\n0\t\r\n\r\n", b"hello"),
        (b'5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n', b"hello"),
        (b"5;\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_a_coding_is_taken_apart(coded: bytes, body: bytes) -> None:
    assert read(coded + b"NEXT") == (body, [], b"NEXT", True)


@pytest.mark.parametrize(
    "coded",
    [
        pytest.param(b"0x5\r\nhello\r\n", id="hex prefix"),
        pytest.param(b"+5\r\nhello\r\n", id="sign"),
        pytest.param(b"-5\r\nhello\r\n", id="minus"),
        pytest.param(b" 5\r\nhello\r\n", id="space before the size"),
        pytest.param(b"5 ;a\r\nhello\r\n", id="space before an extension"),
        pytest.param(b"0_5\r\nhello\r\n", id="underscore"),
        pytest.param(b"\r\nhello\r\n", id="no size"),
        pytest.param(b";a=b\r\nhello\r\n", id="extension alone"),
        pytest.param(b"5 5\r\nhello\r\n", id="two sizes"),
        pytest.param(b"0" * 17 + b"\r\n", id="17 digits"),
        pytest.param(b"f" * 22 + b"\r\n", id="22 digits"),
        pytest.param(b"\xd9\xa5\r\nhello\r\n", id="digit of another script"),
        pytest.param(b"5\nhello\r\n", id="LF after the size"),
        pytest.param(b"\nhello\r\n", id="LF alone"),
        pytest.param(b"5\r\nhello\n0\r\n\r\n", id="LF after the data"),
        pytest.param(b"5\r\nhello0\r\n\r\n", id="no CRLF after the data"),
        pytest.param(b"5\r\nhelloXX0\r\n\r\n", id="other bytes for CRLF"),
        pytest.param(b"5\r\nhello!\r\n0\r\n\r\n", id="longer than it said"),
        pytest.param(b"5\r\nhello\rX", id="CR and no LF"),
        pytest.param(b"5;\rx=1\r\nhello\r\n", id="CR in an extension"),
        pytest.param(b"5;a=\x00\r\nhello\r\n", id="NUL in an extension"),
        pytest.param(b"5;a=\x7f\r\nhello\r\n", id="DEL in an extension"),
        pytest.param(b"5;a\nb\r\nhello\r\n", id="LF in an extension"),
        pytest.param(b"0\r\n\n", id="LF for the last line"),
        pytest.param(b"0\r\nX: 1\n\r\n", id="LF after a trailer"),
        pytest.param(b"0\r\nno field\r\n\r\n", id="trailer without colon"),
        pytest.param(b"0\r\nX : 1\r\n\r\n", id="space before a trailer's colon"),
        pytest.param(b"0\r\nX: 1\r\n folded\r\n\r\n", id="folded trailer"),
        pytest.param(b"0\r\nX: \x01\r\n\r\n", id="control byte in a trailer"),
    ],
)
def test_what_is_strange_is_refused(coded: bytes) -> None:
    with pytest.raises(ChunkedError):
        read(coded)
    with pytest.raises(ChunkedError):
        read(*[coded[n : n + 1] for n in range(len(coded))])


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 9", b"Host: evil", b"Transfer-Encoding: chunked", b"Connection: x",
        b"Authorization: Basic eA==", b"Set-Cookie: a=b", b"cookie: a", b"Via: 1.1 x",
        b"X-Forwarded-For: 1.2.3.4", b"X_Forwarded_For: 1.2.3.4", b"TE: gzip", b"Upgrade: x",
        b"Content-Type: a/b", b"Trailer: X", b"Location: /", b"Expect: 100-continue",
        b"Date: now", b"Cache-Control: private", b"Range: bytes=0-",
    ],
)  # fmt: skip
def test_what_belongs_into_the_head_is_no_trailer(line: bytes) -> None:
    """RFC 9110 section 6.5.1."""
    assert read(b"0\r\nX-A: 1\r\n" + line + b"\r\nX-B:2 \r\n\r\n")[1] == [b"X-A: 1", b"X-B: 2"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(b"5;" + b"x" * (MAX_LINE - 2), b"\r\nhello\r\n0\r\n\r\n", id="size line"),
        pytest.param(
            b"0\r\nX:" + b"x" * (MAX_TRAILERS - 2), b"\r\n\r\n", id="one trailer"
        ),
        pytest.param(
            b"0\r\n" + b"X:234567\r\n" * (MAX_TRAILERS // 8 - 1) + b"X:234567",
            b"\r\n\r\n",
            id="all trailers",
        ),
        pytest.param(
            (b"1;" + b"x" * 2049 + b"\r\ny\r\n") * (MAX_EXTENSIONS // 2048 - 1)
            + b"1;" + b"x" * 2049,
            b"\r\ny\r\n0\r\n\r\n",
            id="all extensions",
        ),
    ],
)  # fmt: skip
def test_lines_are_bounded_however_they_come(before: bytes, after: bytes) -> None:
    fits, too_long = before + after, before + b"x" + after
    for at in (len(fits), len(before), len(before) + 1, len(before) + 2, 9):
        assert verdict(fits[:at], fits[at:]) == verdict(fits)
        assert verdict(too_long[:at], too_long[at:]) is None
    assert verdict(fits) is not None


def test_a_long_stream_may_name_its_chunks() -> None:
    """Extensions are weighed against the data they come with, not against each other."""
    coded = (b"80;" + b"x" * 200 + b"\r\n" + b"d" * 128 + b"\r\n") * 400 + LAST_CHUNK
    assert len(read(coded)[0]) == 400 * 128


def test_an_endless_line_is_refused_before_its_end() -> None:
    for start in (b"5;", b"0\r\nX: "):
        with pytest.raises(ChunkedError, match="too long"):
            read(start, b"x" * (MAX_TRAILERS + MAX_LINE))


def test_each_piece_of_data_is_handed_on_at_once() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"8\r\nab") == (b"ab", b"")
    assert reader.feed(b"cd") == (b"cd", b"")
    assert reader.feed(b"efgh\r") == (b"efgh", b"")
    assert not reader.done


def test_the_last_chunk_carries_trailers() -> None:
    assert last_chunk([]) == LAST_CHUNK
    assert read(chunk(b"x" * 300) + last_chunk([b"A: 1", b"B: 2"])) == (
        b"x" * 300,
        [b"A: 1", b"B: 2"],
        b"",
        True,
    )


EXTENSIONS = st.sampled_from([b"", b" ", b";a", b";a=b", b';a="b c"', b";"])
CHUNKS = st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSIONS), max_size=5)
TRAILERS = st.lists(st.sampled_from([b"X-A: 1", b"Y:2", b"Host: evil", b"Z:"]), max_size=3)


@st.composite
def codings(draw: st.DrawFn) -> bytes:
    """A sound chunked body."""
    coded = b"".join(
        b"%X%b\r\n%b\r\n" % (len(data), extension, data) for data, extension in draw(CHUNKS)
    )
    return coded + b"0\r\n" + b"".join(line + b"\r\n" for line in draw(TRAILERS)) + b"\r\n"


@st.composite
def damaged_codings(draw: st.DrawFn) -> bytes:
    """A chunked body after up to three strokes."""
    coded = draw(codings())
    pieces = st.sampled_from([b"\r", b"\n", b"\r\n", b"0", b"5", b";", b" ", b"\0", b"x"])
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(coded)))
        coded = coded[:at] + draw(pieces) + coded[at + draw(st.integers(0, 2)) :]
    return coded


@given(damaged_codings(), st.data())
@search
def test_cut_anywhere_it_reads_the_same(coded: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(coded)), max_size=6)))
    borders = [0, *cuts, len(coded)]
    pieces = [coded[a:b] for a, b in pairwise(borders) if a < b]
    assert verdict(*pieces) == verdict(coded)


@given(codings(), st.binary(max_size=10))
@search
def test_byte_by_byte_it_reads_the_same(coded: bytes, behind: bytes) -> None:
    whole = read(coded + behind)
    assert whole[3]
    assert whole[2] == behind
    assert read(*[coded[n : n + 1] for n in range(len(coded))], behind) == whole


@given(damaged_codings())
@search
def test_what_is_read_h11_reads_the_same(coded: bytes) -> None:
    found = verdict(coded)
    if found is None or not found[3]:
        return
    body, trailers, left, _ = found
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + coded)
    seen = b""
    while not isinstance(event := judge.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA
        if isinstance(event, h11.Data):
            seen += event.data
    assert (seen, judge.trailing_data[0]) == (body, left)
    theirs = [name + b": " + value for name, value in event.headers.raw_items()]
    assert [line for line in theirs if line in trailers] == trailers


@given(st.lists(st.binary(min_size=1, max_size=50)), TRAILERS)
@search
def test_what_we_frame_we_read(parts: list[bytes], trailers: list[bytes]) -> None:
    kept = [line for line in trailers if line == b"X-A: 1"]
    coded = b"".join(map(chunk, parts)) + last_chunk(kept)
    assert read(coded) == (b"".join(parts), kept, b"", True)
