"""Bytes to heads: the plain lane first, h11 for the rest, then what h11 leaves to us.

The only door to h11.  h11 is asked about one head at a time and never keeps the state of a
connection: that is `link/`'s.  Whatever it lets through and we do not is refused here, so both
lanes have one meaning.
"""

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

import h11

from hopproxy.errors import BadRequest, BadResponse
from hopproxy.message import Field, Kind, RequestHead, ResponseHead, field
from hopproxy.rules.framing import frame_request, frame_response, read_options, refused_codings
from hopproxy.rules.persistence import settle_persistence
from hopproxy.rules.target import settle_target
from hopproxy.rules.upgrade import settle_upgrade
from hopproxy.wire import plain


class HeadLimits(Protocol):
    """The limits of one hop on a head: bytes in all, field lines, bytes of the target."""

    @property
    def max_head_size(self) -> int: ...
    @property
    def max_fields(self) -> int: ...
    @property
    def max_target_size(self) -> int: ...


_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_VERSION = re.compile(rb" HTTP/([0-9])\.([0-9])\Z")
_STATUS_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9]) ")
_LENGTH = re.compile(rb"(?i:content-length)[ \t]*:")
_CODING = re.compile(rb"\r\n(?i:transfer-encoding):([^\r]*)")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
#: So much of a first line is enough to tell that no method begins it.
_METHOD_SIZE = 64
_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: |\Z)")


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
        if len(forms) <= self.FORMS and len(head.raw) <= self.HEAD_SIZE:
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
            raise BadRequest("the head has more fields than max_fields", 431)
        head = plain.read_request(raw)
        if head is not None:
            _requests.settle(head)
            _requests.keep(raw, head)
        else:
            head = _odd_request(raw)
            read_request_fields(head)
    if len(head.target) > limits.max_target_size:
        raise BadRequest("the request target is longer than max_target_size", 414)
    if len(head.lines) > limits.max_fields:
        raise BadRequest("the head has more fields than max_fields", 431)
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
        if expected.lower() != b"100-continue":
            raise BadRequest("an expectation that cannot be met", 417)
        head.expects = head.body.value != "none"


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


def check_start(start: bytes, read: int = 0) -> None:
    """Refuse early what no request begins with, such as a TLS ClientHello on a plain port.

    `start` is an unfinished head, of which `read` bytes were checked before: raises BadRequest as
    soon as it cannot become one.
    """
    if read < _METHOD_SIZE:
        line = start[:_METHOD_SIZE].partition(b"\r\n")[0]
        if not _START.match(line) and line:
            raise BadRequest("this is no HTTP/1.1 request")
    # A head may come byte by byte: to look at all of it each time would cost the square of it.
    bare = _BARE_LINE_END.search(start, max(0, read - 1))
    if bare is not None and not (bare[0] == b"\r" and bare.end() == len(start)):
        raise BadRequest("a line that does not end with CRLF")


def _odd_request(raw: bytes) -> RequestHead:
    """A request that the plain lane left alone: h11 reads it, after and before our own checks."""
    if _BARE_LINE_END.search(raw):
        raise BadRequest("a line that does not end with CRLF")
    line, _, rest = raw.partition(b"\r\n")
    version = _VERSION.search(line)
    if version is None:
        raise BadRequest("a request line that cannot be read")
    if version[1] != b"1":
        raise BadRequest(f"HTTP/{version[1].decode()} is not spoken here", 505)
    _refuse_hidden(rest, BadRequest)
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 8)
    try:
        connection.receive_data(raw + b"\r\n\r\n")
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        if error.error_status_hint == 501:  # of both lanes we are the judge of codings
            raise refused_codings([one.strip().lower() for one in _CODING.findall(raw)]) from error
        raise BadRequest(_sentence(error), error.error_status_hint) from error
    assert isinstance(event, h11.Request)  # a whole head is read or refused
    lines, special = _read_fields(event.headers.raw_items(), BadRequest)
    minor = 0 if event.http_version == b"1.0" else 1
    return RequestHead(event.method, event.target, minor, lines, special)


def _odd_response(raw: bytes) -> ResponseHead:
    """A response that the plain lane left alone.  Never asked about bytes of an idle link."""
    if _BARE_LINE_END.search(raw):
        raise BadResponse("a line that does not end with CRLF")
    version = _STATUS_VERSION.match(raw)
    if version is None or version[1] != b"1":
        raise BadResponse("a status line that cannot be read")
    _refuse_hidden(raw.partition(b"\r\n")[2], BadResponse)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(raw) + 8)
    # A GET that offers to upgrade: without it h11 would not read a 101 at all.
    connection.send(
        h11.Request(method="GET", target="/", headers=[("host", "h"), ("upgrade", "any")])
    )
    connection.send(h11.EndOfMessage())
    try:
        connection.receive_data(raw + b"\r\n\r\n")
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise BadResponse(_sentence(error)) from error
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    if not 100 <= event.status_code <= 599:
        raise BadResponse(f"{event.status_code} is no status")
    if _CONTROL.search(event.reason):
        raise BadResponse("a control byte in the reason phrase")
    lines, special = _read_fields(event.headers.raw_items(), BadResponse)
    minor = 0 if event.http_version == b"1.0" else 1
    return ResponseHead(event.status_code, event.reason, minor, lines, special)


def _sentence(error: h11.RemoteProtocolError) -> str:
    """What h11 complains of, without the bytes that it repeats as Python would write them."""
    return str(error).partition(": bytearray(")[0]


def _read_fields(
    items: list[tuple[bytes, bytes]], refusal: type[BadRequest] | type[BadResponse]
) -> tuple[list[bytes], list[Field]]:
    """Lines and special fields out of what h11 read; control bytes in values are refused."""
    lines: list[bytes] = []
    special: list[Field] = []
    for name, value in items:
        found = field(name + b": " + value)
        if found is None:
            raise refusal("a control byte in a field value")
        lines.append(found.line)
        if found.kind is not Kind.ORDINARY:
            special.append(found)
    return lines, special


def _refuse_hidden(fields: bytes, refusal: type[BadRequest] | type[BadResponse]) -> None:
    """Refuse what h11 repairs and so would hide from our own checks: folds, repeated lengths."""
    if fields[:1] in (b" ", b"\t") or b"\r\n " in fields or b"\r\n\t" in fields:
        raise refusal("a folded field line")
    lengths = [line for line in fields.split(b"\r\n") if _LENGTH.match(line)]
    if len(lengths) > 1 or b"," in b"".join(lengths):
        raise refusal("more than one Content-Length")
