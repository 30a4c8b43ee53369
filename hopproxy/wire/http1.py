"""Bytes to heads: the plain lane first, h11 for the rest, then what h11 leaves to us.

The only door to h11.  h11 is asked about one head at a time and never keeps the state of a
connection: that is `link/`'s.  Whatever it lets through and we do not is refused here, so both
lanes have one meaning.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Generic, TypeVar

import h11

from hopproxy.errors import BadRequest, BadResponse
from hopproxy.message import (
    CONTINUE_EXPECTED,
    NO_BODY,
    Field,
    Kind,
    RequestHead,
    ResponseHead,
    field,
    list_of,
)
from hopproxy.rules.framing import frame_request, frame_response, read_options
from hopproxy.rules.hop import response_lines
from hopproxy.rules.persistence import settle_persistence
from hopproxy.rules.target import settle_target
from hopproxy.rules.upgrade import settle_upgrade
from hopproxy.wire import plain
from hopproxy.wire.unfinished import HeadLimits, UnfinishedRequest, UnfinishedResponse

_FRAMING = frozenset({Kind.LENGTH, Kind.CODING})

H = TypeVar("H", RequestHead, ResponseHead)


_form_of: Callable[[Field], bytes | Kind] = attrgetter("form")

#: A request's method and the forms of its special fields: those that share it are settled alike.
_Forms = tuple[bytes | Kind, ...]


class _Memo(Generic[H]):
    """Heads that were read lately, by their bytes: on a link that lives they come again whole.

    Only of the plain lane, and only once settled: what is refused is never remembered.  What comes
    for the first time may never come again, so a head is remembered at its second.  `models` are
    for requests of which no more comes again than the special fields.
    """

    #: Bounds the memo to about a megabyte, and what was settled to another.
    HEADS = 512
    HEAD_SIZE = 1024
    FORMS = 16

    def __init__(self) -> None:
        self._heads: dict[bytes, H] = {}
        self.get: Callable[[bytes], H | None] = self._heads.get
        self._new = 0
        self.models: dict[_Forms, RequestHead] = {}

    def keep(self, raw: bytes, head: H) -> None:
        self._new += 1
        if self._new % plain.TEACHING == 0 and len(raw) <= self.HEAD_SIZE:
            if len(self._heads) >= self.HEADS:
                self._heads.clear()
            self._heads[raw] = head

    def settle(self, head: RequestHead) -> None:
        """Settle a head of the plain lane as another of its forms was, or by its own fields."""
        forms = (head.method, *map(_form_of, head.special))
        model = self.models.get(forms)
        if model is not None:
            head.settle_as(model)
            return
        read_request_fields(head)
        # Without its bytes it was written anew, which the next of its forms would not be.
        if head.raw and len(forms) <= self.FORMS and len(head.raw) <= self.HEAD_SIZE:
            if len(self.models) >= self.HEADS:
                self.models.clear()
            self.models[forms] = head


_requests = _Memo[RequestHead]()
_responses = _Memo[ResponseHead]()


def read_request(raw: bytes, limits: HeadLimits) -> RequestHead:
    """The request head in `raw`, which ends before its empty line; framing and target are settled.

    Raises BadRequest, and Denied for CONNECT.
    """
    head = _requests.get(raw)
    if head is None:
        # In a large head they are counted before thousands of them are read in vain.
        if len(raw) > _requests.HEAD_SIZE and raw.count(b"\r\n") > limits.max_fields:
            raise BadRequest("the head has more fields than max_fields", 431, limit="max_fields")
        head = plain.read_request(raw)
        if head is not None:
            _requests.settle(head)
            _requests.keep(raw, head)
        else:
            head = _odd_request(raw, limits)
            read_request_fields(head)
    if len(head.target) > limits.max_target_size:
        raise BadRequest(
            "the request target is longer than max_target_size", 414, limit="max_target_size"
        )
    if len(head.lines) > limits.max_fields:
        raise BadRequest("the head has more fields than max_fields", 431, limit="max_fields")
    return head


def read_request_fields(head: RequestHead) -> None:
    """Settle what the fields of a request say: options, target, framing, upgrade, expectation."""
    special = head.special
    if len(special) == 1 and special[0].kind is Kind.HOST:
        settle_target(head)  # nearly every GET: nothing else to settle
        return
    read_options(head, BadRequest)
    head.passed = any(field.kind is Kind.VIA for field in special)
    head.binds = any(field.kind is Kind.CREDENTIALS for field in special)
    frame_request(head)
    settle_target(head)
    settle_upgrade(head)
    expected = head.special_value(b"expect")
    if expected is not None and head.minor:
        asked = set(list_of(expected.lower()))  # none at all where the list is empty
        if asked - {CONTINUE_EXPECTED}:
            raise BadRequest("an expectation that cannot be met", 417)
        head.expects = bool(asked) and head.body is not NO_BODY


def read_response(raw: bytes, method: bytes) -> ResponseHead:
    """The head in `raw` of the response to a `method` request.  Raises BadResponse."""
    if method == b"HEAD":  # the same bytes mean another body
        head = plain.read_response(raw) or _odd_response(raw)
        _settle_response(head, method)
        return head
    kept = _responses.get(raw)
    if kept is not None:
        return kept
    found = plain.read_response(raw)
    head = found or _odd_response(raw)
    _settle_response(head, method)
    if found is not None:
        _responses.keep(raw, found)
    return head


def _settle_response(head: ResponseHead, method: bytes) -> None:
    read_options(head, BadResponse)
    frame_response(head, method)
    settle_persistence(head)


def write_response(head: ResponseHead, added: bytes) -> bytes:
    """A response's head as it goes out in HTTP/1.1, its empty line with it.

    `added` are whole lines: those that the gateway adds (Date, Via), and what the client's link
    says of the body's framing and of its own persistence.
    """
    memo = head.rewritten
    if memo is not None and memo[0] == added:
        return memo[1]
    lines = response_lines(head)
    lines.append(added)
    written = b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, b"\r\n".join(lines))
    head.rewritten = (added, written)
    return written


def _odd_request(raw: bytes, limits: HeadLimits) -> RequestHead:
    """A request that the plain lane left alone: our own checks line by line, then h11's."""
    UnfinishedRequest(limits).check_lines(raw + b"\r\n")
    fields = _fields_of(raw)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 8)
    event = _read_by_h11(connection, _without_framing(raw, fields), BadRequest)
    assert isinstance(event, h11.Request)  # a whole head is read or refused
    minor = 0 if event.http_version == b"1.0" else 1
    lines, special = _sorted(fields)
    return RequestHead(event.method, event.target, minor, lines, special)


def _odd_response(raw: bytes) -> ResponseHead:
    """A response that the plain lane left alone.  Never asked about bytes of an idle link."""
    UnfinishedResponse(b"").check_lines(raw + b"\r\n")
    fields = _fields_of(raw)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 8)
    # A GET that offers to upgrade: without it h11 would not read a 101 at all.
    connection.send(
        h11.Request(method="GET", target="/", headers=[("host", "h"), ("upgrade", "any")])
    )
    connection.send(h11.EndOfMessage())
    event = _read_by_h11(connection, _without_framing(raw, fields), BadResponse)
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    minor = 0 if event.http_version == b"1.0" else 1
    lines, special = _sorted(fields)
    return ResponseHead(event.status_code, event.reason, minor, lines, special)


def _read_by_h11(
    connection: h11.Connection, head: bytes, refusal: type[BadRequest] | type[BadResponse]
) -> object:
    try:
        connection.receive_data(head)
        return connection.next_event()
    except h11.RemoteProtocolError as error:
        # Its sentence, without the bytes that it repeats as Python would write them.
        raise refusal(str(error).partition(": bytearray(")[0]) from error


def _fields_of(raw: bytes) -> list[Field]:
    """The fields of a head whose lines have been checked."""
    fields = []
    for line in raw.split(b"\r\n")[1:]:
        found = field(line)
        assert found is not None
        fields.append(found)
    return fields


def _without_framing(raw: bytes, fields: list[Field]) -> bytes:
    """The head for h11, less what says where the body ends: h11 repairs some of it.

    Framing is read in `rules.framing`, for both lanes alike.
    """
    start, *lines = raw.split(b"\r\n")
    kept = [line for line, f in zip(lines, fields, strict=True) if f.kind not in _FRAMING]
    return b"\r\n".join([start, *kept]) + b"\r\n\r\n"


def _sorted(fields: list[Field]) -> tuple[list[bytes], list[Field]]:
    """The lines of all fields, and those that are special."""
    special = [field for field in fields if field.kind is not Kind.ORDINARY]
    return [field.line for field in fields], special
