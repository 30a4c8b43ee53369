"""Two parsers, one meaning: the fast parser and h11 read the same, and refuse the same."""

import re

import h11
import pytest
from hypothesis import given

from hopproxy.errors import BadRequest, BadResponse, HopError
from hopproxy.message import Head, RequestHead, ResponseHead
from hopproxy.wire import plain
from tests.pure.search import REQUESTS, RESPONSES, damaged, request, response, search

#: Legal, but declined by the fast parser: with it h11 parses the head.
ODD_LINE = b"X-Odd:y"

FRAMING = re.compile(rb"\r\n(?i:content-length|transfer-encoding):[^\r]*")

Pair = tuple[bytes, bytes]


def h11_reads(raw: bytes) -> h11.Event | type[h11.PAUSED] | type[h11.NEED_DATA] | None:
    """What h11, asked without any of our own checks, takes for the head; None if it refuses it.

    A response is one to a GET that offered to upgrade.
    """
    is_response = raw.startswith(b"HTTP/")
    connection = h11.Connection(h11.CLIENT if is_response else h11.SERVER)
    if is_response:
        fields = [("Host", "a"), ("Upgrade", "x")]
        connection.send(h11.Request(method="GET", target="/", headers=fields))
        connection.send(h11.EndOfMessage())
    connection.receive_data(raw + b"\r\n\r\n")
    try:
        return connection.next_event()
    except h11.RemoteProtocolError:
        return None


def items(head: Head) -> list[Pair]:
    """(name, value) of each line, in order."""
    return [calm(*re.split(rb":[ \t]*", line, maxsplit=1)) for line in head.lines]


def calm(name: bytes, value: bytes) -> Pair:
    """A coding in lower case, as h11 hands it over, and a length as we write it.

    Neither goes out as it came.
    """
    lower = name.lower()
    if lower == b"content-length" and value.isdigit():
        return b"Content-Length", b"%d" % int(value)
    return name, value.lower() if lower == b"transfer-encoding" else value


def calmed(event: h11.Request | h11.Response | h11.InformationalResponse) -> list[Pair]:
    return [calm(name, value) for name, value in event.headers.raw_items()]


def without_framing(pairs: list[Pair]) -> list[Pair]:
    """What h11 and we must read alike of a response that has no body."""
    framing = (b"content-length", b"transfer-encoding")
    return [(name, value) for name, value in pairs if name.lower() not in framing]


def meaning(head: Head) -> list[object]:
    """All that a head means to the floors above, its lines first."""
    special = [(*calm(field.name, field.value), field.kind) for field in head.special]
    shared = [items(head), special, head.minor, head.options, head.body, head.length]
    if isinstance(head, RequestHead):
        return [
            *shared,
            head.method,
            head.target,
            head.host,
            head.expects,
            head.upgrade,
            head.binds,
        ]
    assert isinstance(head, ResponseHead)
    return [*shared, head.status, head.reason, head.ending]


@given(damaged(REQUESTS))
@search
def test_what_is_let_through_h11_reads_the_same(raw: bytes) -> None:
    head = request(raw)
    if isinstance(head, HopError):
        return
    event = h11_reads(raw)
    assert isinstance(event, h11.Request), "refused by h11"
    assert event.method == head.method
    assert calmed(event) == items(head)
    assert event.http_version == b"1.0" if head.minor == 0 else event.http_version > b"1.0"
    if plain.read_request(raw) is not None:
        assert (event.target, event.http_version) == (head.target, b"1.1")


@given(damaged(RESPONSES))
@search
def test_what_an_origin_gets_through_h11_reads_the_same(raw: bytes) -> None:
    head = response(raw)
    if isinstance(head, HopError):
        return
    bodiless = head.status < 200 or head.status in (204, 304)
    # Of such a response h11 refuses framing fields that have no meaning; we drop them.
    event = h11_reads(FRAMING.sub(b"", raw) if bodiless else raw)
    assert isinstance(event, h11.Response | h11.InformationalResponse), "refused by h11"
    assert (event.status_code, event.reason) == (head.status, head.reason)
    mine = items(head)
    assert calmed(event) == (without_framing(mine) if bodiless else mine)
    if plain.read_response(raw) is not None:
        assert event.http_version == b"1.1"


def differs_by_an_odd_line(one: Head | HopError, other: Head | HopError) -> None:
    """The same head, read by the fast parser if it can, and with one more line by h11."""
    if isinstance(one, HopError) or isinstance(other, HopError):
        assert isinstance(one, HopError), f"only h11 refuses: {other!r}"
        assert isinstance(other, HopError), f"only the fast parser refuses: {one!r}"
        assert other.status == one.status
        return
    assert other.lines.pop() == b"X-Odd: y"
    assert meaning(other) == meaning(one)


@given(damaged(REQUESTS))
@search
def test_an_odd_line_changes_nothing_of_a_request(raw: bytes) -> None:
    odd = raw + b"\r\n" + ODD_LINE
    assert plain.read_request(odd) is None
    differs_by_an_odd_line(request(raw), request(odd))


@given(damaged(RESPONSES))
@search
def test_an_odd_line_changes_nothing_of_a_response(raw: bytes) -> None:
    odd = raw + b"\r\n" + ODD_LINE
    assert plain.read_response(odd) is None
    differs_by_an_odd_line(response(raw), response(odd))


@pytest.mark.parametrize("raw", REQUESTS)
def test_a_head_read_again_means_the_same(raw: bytes) -> None:
    first, again = request(raw), request(raw)
    assert isinstance(first, RequestHead)
    assert isinstance(again, RequestHead)
    assert meaning(first) == meaning(again)


@pytest.mark.parametrize(
    "raw", [REQUESTS[0], REQUESTS[1], REQUESTS[2], REQUESTS[3], REQUESTS[5]], ids=range(5)
)
def test_usual_requests_take_the_plain_lane(raw: bytes) -> None:
    assert plain.read_request(raw) is not None


def test_a_refused_head_is_refused_again() -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"
    assert isinstance(request(raw), BadRequest)
    assert isinstance(request(raw), BadRequest)
    answered = raw.replace(b"GET / HTTP/1.1", b"HTTP/1.1 200 OK")
    assert isinstance(response(answered), BadResponse)
    assert isinstance(response(answered), BadResponse)


def test_the_same_bytes_mean_another_body_after_head() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5"
    lengths = []
    for method in (b"GET", b"HEAD", b"GET"):
        head = response(raw, method)
        assert isinstance(head, ResponseHead)
        lengths.append(head.length)
    assert lengths == [5, 0, 5]
