"""Bytes to heads: the fast parser first (`wire.plain`), h11 for the rest, then our own checks.

The only user of h11.  h11 parses one head at a time and keeps no connection state; `link/` does.
What h11 accepts and the fast parser's rules do not is refused here, so that both have one meaning.
"""

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Generic, TypeVar

import h11

from hopproxy.errors import BadRequest, BadResponse
from hopproxy.message import (
    NO_BODY,
    Field,
    Kind,
    RequestHead,
    ResponseHead,
    field,
)
from hopproxy.rules.framing import frame_response, read_hop_fields, read_options
from hopproxy.rules.hop import response_lines
from hopproxy.rules.persistence import settle_persistence
from hopproxy.rules.target import settle_target
from hopproxy.rules.upgrade import settle_upgrade
from hopproxy.wire import plain
from hopproxy.wire.unfinished import HeadLimits, UnfinishedRequest, UnfinishedResponse

_FRAMING = frozenset({Kind.LENGTH, Kind.CODING})
_SIMPLE = frozenset({b"GET", b"HEAD"})

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")

H = TypeVar("H", RequestHead, ResponseHead)


_form_of: Callable[[Field], bytes | Kind] = attrgetter("form")

#: A request's method and the forms of its special fields; the rules treat equal ones alike.
_Forms = tuple[bytes | Kind, ...]


class _Memo(Generic[H]):
    """A cache of heads by their bytes, since the same heads come again on persistent connections.

    It has only accepted heads of the fast parser.  Every `TEACHING`th new head is added, so that
    frequent ones are added soon, and rare ones seldom.  `models` are heads by their forms, for
    requests that differ only in values that no rule looks at.
    """

    #: Bounds each of the two caches to about a megabyte.
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
        """Apply the rules to a head, or take their results from a model of the same forms."""
        forms = (head.method, *map(_form_of, head.special))
        model = self.models.get(forms)
        if model is not None:
            head.settle_as(model)
            return
        read_request_fields(head)
        # `raw` is empty if a rule has rewritten the head: then it is no model for others.
        if head.raw and len(forms) <= self.FORMS and len(head.raw) <= self.HEAD_SIZE:
            if len(self.models) >= self.HEADS:
                self.models.clear()
            self.models[forms] = head


_requests = _Memo[RequestHead]()
_responses = _Memo[ResponseHead]()


def read_request(raw: bytes, limits: HeadLimits) -> RequestHead:
    """Parse the request head in `raw` (without its empty line) and apply the rules to it.

    Raises BadRequest, and Denied for CONNECT.
    """
    head = _requests.get(raw)
    if head is None:
        # Count the fields of a large head before parsing thousands of them.
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


def settle_request(head: RequestHead) -> None:
    """As `read_request_fields`, with the results of an earlier head of the same forms."""
    _requests.settle(head)


def is_method(method: bytes) -> bool:
    """Whether this may be a method: the same tokens as in the fast parser."""
    return _METHOD.fullmatch(method) is not None


def too_large(start: bytes, limits: HeadLimits) -> BadRequest:
    """The error for a head larger than max_head_size, of which this is the start."""
    line_end = start.find(b"\r\n", 0, limits.max_head_size)
    if line_end < 0 or line_end > limits.max_target_size + 64:
        return BadRequest(
            "the request line is longer than max_target_size", 414, limit="max_target_size"
        )
    return BadRequest("the head is larger than max_head_size", 431, limit="max_head_size")


def read_request_fields(head: RequestHead) -> None:
    """Apply the rules: options, target, framing, upgrade, expectation."""
    special = head.special
    if len(special) == 1 and special[0].kind is Kind.HOST:
        settle_target(head)  # nearly every GET: no other rule applies
        head.simple = head.method in _SIMPLE and head.minor > 0
        return
    read_hop_fields(head)
    head.passed = any(field.kind is Kind.VIA for field in special)
    head.binds = any(field.kind is Kind.CREDENTIALS for field in special)
    settle_target(head)
    settle_upgrade(head)
    head.simple = (
        head.method in _SIMPLE
        and head.minor > 0
        and head.body is NO_BODY
        and not head.options
        and not head.binds
    )


def read_response(raw: bytes, method: bytes) -> ResponseHead:
    """Parse the head in `raw` of the response to a `method` request.  Raises BadResponse."""
    if method == b"HEAD":  # not cached: for other methods the same bytes mean another body
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
    """The bytes of a response's head in HTTP/1.1, with the empty line.

    `added` are whole lines: what the gateway adds (Date, Via), and the framing and persistence that
    the client's link adds.
    """
    memo = head.rewritten
    if memo is None:
        start = b"HTTP/1.1 %d %b" % (head.status, head.reason)
        kept = b"\r\n".join([start, *response_lines(head), b""])
    elif memo[0] == added:
        return memo[1]
    else:
        kept = memo[2]
    written = kept + added + b"\r\n"
    head.rewritten = (added, written, kept)
    return written


def _odd_request(raw: bytes, limits: HeadLimits) -> RequestHead:
    """A request that the fast parser declined: our own checks line by line, then h11's."""
    UnfinishedRequest(limits).check_lines(raw + b"\r\n")
    fields = _fields_of(raw)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 8)
    event = _read_by_h11(connection, _without_framing(raw, fields), BadRequest)
    assert isinstance(event, h11.Request)  # a complete head is accepted or refused
    minor = 0 if event.http_version == b"1.0" else 1
    lines, special = _sorted(fields)
    return RequestHead(event.method, event.target, minor, lines, special)


def _odd_response(raw: bytes) -> ResponseHead:
    """A response that the fast parser declined."""
    UnfinishedResponse(b"").check_lines(raw + b"\r\n")
    fields = _fields_of(raw)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 8)
    # A GET that offers an upgrade: otherwise h11 would not accept a 101.
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
        # Its message without the `repr` of the input.
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
    """The head for h11 without framing fields, since h11 repairs some of them.

    `rules.framing` reads them, for both parsers.
    """
    start, *lines = raw.split(b"\r\n")
    kept = [line for line, f in zip(lines, fields, strict=True) if f.kind not in _FRAMING]
    return b"\r\n".join([start, *kept]) + b"\r\n\r\n"


def _sorted(fields: list[Field]) -> tuple[list[bytes], list[Field]]:
    """The lines of all fields, and those that are special."""
    special = [field for field in fields if field.kind is not Kind.ORDINARY]
    return [field.line for field in fields], special
