"""Incomplete heads: refused as soon as they can never become valid.

Otherwise a peer that speaks another protocol would end in a timeout, and only the timeout would be
reported.  Heads that arrive in one piece are not checked here.  A beginning that may still
become a head which `wire/http1.py` accepts is never refused; `tests/pure` searches for one.
"""

import re
from abc import ABC, abstractmethod
from typing import Protocol

from hopproxy.errors import BadRequest, BadResponse, HopError
from hopproxy.message import FIELD_LINE, Field, Kind, RequestHead, ResponseHead, field
from hopproxy.rules.framing import frame_response, read_hop_fields, read_options
from hopproxy.rules.target import is_served, may_become_served, settle_target
from hopproxy.wire.other_protocols import protocol_of


class HeadLimits(Protocol):
    """The limits of one hop: bytes of a head, field lines, bytes of a target."""

    @property
    def max_head_size(self) -> int: ...
    @property
    def max_fields(self) -> int: ...
    @property
    def max_target_size(self) -> int: ...


#: An unfinished line up to this length is checked again with each new byte; of a longer one only
#: the new bytes are checked, or a line that comes byte by byte would cost the square of its length.
SHORT = 256

#: Kinds of field that can make a head invalid, alone or together.
_SETTLED = frozenset({Kind.HOST, Kind.LENGTH, Kind.CODING, Kind.CONNECTION, Kind.EXPECT})

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb")(?: ([!-~]*)(?: (.*))?)?", re.DOTALL)
_VERSION = re.compile(rb"HTTP/1\.[0-9]")
_OTHER_VERSION = re.compile(rb"HTTP/(?:[02-9]|1[0-9])[0-9.]*")
_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-5][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?")
#: The beginning of a field line, or of the empty line after all fields.
FIELD_PART = re.compile(rb"(?:" + _TOKEN + rb"(?::[\t\x20-\x7e\x80-\xff]*\r?)?|\r)?")
_NAME = re.compile(_TOKEN)
_BROKEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\Z)")

#: Completes the beginning of a valid start line.
_USUAL_VERSION = b"HTTP/1.1"
_USUAL_STATUS = b"HTTP/1.1 200"

#: A body where the head should be, or the head that a CGI script writes.
_CONTENT = re.compile(rb"[<{\[]|[A-Za-z-]+:")

_BARE_CR = "a carriage return inside a line: lines end with CRLF"
_BARE_LF = "a line that ends with a bare line feed instead of CRLF"

_WRITE_CRLF = (
    "Your server ends a line of its response head with \\n alone. HTTP/1.1 ends each line with "
    "\\r\\n: write that, or let an HTTP library write the head. Two programs may read a bare line "
    "feed in two ways, so hopproxy refuses it. Until this is fixed, open your server directly."
)
_OTHER_PORT = "Give hopproxy the port on which your server speaks plain HTTP/1.1."
_OTHER_SCHEME = "Your server speaks TLS: write https:// in front of its address."
_NO_HEAD = (
    "The response began with its body. Your server must write a status line and fields first, "
    "for example HTTP/1.1 200 OK."
)


class UnfinishedHead(ABC):
    """A head that arrives in pieces, checked as it grows."""

    __slots__ = ("_begin", "_lines", "_read", "_settled", "_special", "_start")

    def __init__(self) -> None:
        self._begin = 0  # where the unfinished line begins
        self._read = 0  # bytes checked so far
        self._lines = 0
        self._settled = 0  # bytes whose fields were checked so far
        self._start = b""
        self._special: list[Field] = []  # of the kinds in _SETTLED

    def check(self, head: bytes) -> None:
        """Check what is new in `head`, which has no empty line yet.

        Raises BadRequest or BadResponse if it can never become valid.
        """
        self.check_lines(head)
        if self._begin == self._settled:
            return
        lines = head[self._settled : self._begin].split(b"\r\n")
        if not self._settled:
            self._start = lines[0]
        self._settled = self._begin
        # The start line, and what follows the last line end, are no fields.
        fields = [found for found in map(field, lines) if found is not None]
        special = [found for found in fields if found.kind in _SETTLED]
        if special:
            self._special += special
            self._settle(self._start, self._special)

    def check_lines(self, head: bytes) -> None:
        """As `check`, for each line alone."""
        end = head.find(b"\n", self._read)
        while end >= 0:
            bare = end == 0 or head[end - 1] != 13
            self._check_line(head, head[self._begin : end - 1 + bare], whole=not bare)
            if bare:
                raise self._refusal(_BARE_LF)
            self._begin = self._read = end + 1
            self._lines += 1
            end = head.find(b"\n", end + 1)
        if self._read == self._begin or len(head) - self._begin <= SHORT:
            line = head[self._begin :]
            # Only LF can follow a CR at the end: treat the line as complete.
            whole = len(line) > 1 and line.endswith(b"\r")
            self._check_line(head, line.removesuffix(b"\r") if whole else line, whole=whole)
        elif _BROKEN.search(head, self._read - 1):
            raise self._refusal("a control byte, or a carriage return inside a line")
        self._read = len(head)

    def _check_line(self, head: bytes, line: bytes, *, whole: bool) -> None:
        if not self._lines:
            self._check_start(head, line, whole=whole)
        elif not FIELD_PART.fullmatch(line) or (whole and not FIELD_LINE.fullmatch(line)):
            raise self._refusal(field_fault(line))

    @abstractmethod
    def _check_start(self, head: bytes, line: bytes, *, whole: bool) -> None:
        """Check the start line or its beginning."""

    @abstractmethod
    def _settle(self, start: bytes, special: list[Field]) -> None:
        """Refuse fields that no further field can make valid."""

    @abstractmethod
    def _refusal(self, detail: str) -> HopError:
        """The error for a line that cannot be read."""


class UnfinishedRequest(UnfinishedHead):
    """A request's head that arrives in pieces."""

    __slots__ = ("_limits",)

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__()
        self._limits = limits

    def check(self, head: bytes) -> None:
        """As the base class; also raises BadRequest if a limit is exceeded (414, 431)."""
        super().check(head)
        self._check_limits(head)

    def _check_limits(self, head: bytes) -> None:
        if not self._lines:
            self._check_size(head)
        elif self._lines > self._limits.max_fields + 1:
            raise BadRequest("the head has more fields than max_fields", 431, limit="max_fields")

    def _check_start(self, head: bytes, line: bytes, *, whole: bool) -> None:
        if whole:
            self._check_size(line)
        check_request_line(head, line, whole=whole)

    def _check_size(self, line: bytes) -> None:
        begin = line.find(b" ") + 1
        most = begin + self._limits.max_target_size
        if begin and len(line) > most + 1 and line.find(b" ", begin, most + 1) < 0:
            raise BadRequest(
                "the request target is longer than max_target_size", 414, limit="max_target_size"
            )

    def _settle(self, start: bytes, special: list[Field]) -> None:
        method, target, version = start.split(b" ")
        lines = [field.line for field in special]
        head = RequestHead(method, target, int(version[-1:]), lines, special[:])
        read_hop_fields(head)
        if method != b"CONNECT" and any(field.kind is Kind.HOST for field in special):
            settle_target(head)

    def _refusal(self, detail: str) -> HopError:
        return BadRequest(detail)


class UnfinishedResponse(UnfinishedHead):
    """The head of the response to a `method` request, arriving in pieces."""

    __slots__ = ("_method",)

    def __init__(self, method: bytes) -> None:
        super().__init__()
        self._method = method

    def _check_start(self, head: bytes, line: bytes, *, whole: bool) -> None:
        check_status_line(head, line, whole=whole)

    def _settle(self, start: bytes, special: list[Field]) -> None:
        lines = [field.line for field in special]
        head = ResponseHead(int(start[9:12]), b"", int(start[7:8]), lines, special[:])
        read_options(head, BadResponse)
        frame_response(head, self._method)

    def _refusal(self, detail: str) -> HopError:
        hint = _WRITE_CRLF if detail is _BARE_LF else ""
        return BadResponse(f"the origin sent {detail}", hint)


# -- lines -----------------------------------------------------------------------------------


def check_request_line(head: bytes, line: bytes, *, whole: bool) -> None:
    """Refuse a request line, or the beginning of one, that is not valid.

    Raises BadRequest: 505 for another version, else 400.
    """
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        if whole or line:
            raise _no_request(head, line, "this is not an HTTP/1.1 request")
        return
    method, target, version = match.groups()
    if version is None:
        if whole:
            raise _no_request(
                head, line, "a request line without a version: HTTP/0.9 is not served here"
            )
        if target and not may_become_served(method, target):
            raise _no_request(head, line, "a request target that is not valid")
        return
    other = _OTHER_VERSION.match(version)
    if other is not None:
        raise BadRequest(f"{other[0].decode()} is not served here: use HTTP/1.1", 505)
    if not whole:
        version += _USUAL_VERSION[len(version) :]
    if not is_served(method, target):
        raise _no_request(head, line, "a request target that is not valid")
    if not _VERSION.fullmatch(version):
        raise _no_request(head, line, "a request line that does not end with the version HTTP/1.1")


def check_status_line(head: bytes, line: bytes, *, whole: bool) -> None:
    """Refuse a status line, or the beginning of one, that is not valid.  Raises BadResponse."""
    if not whole:
        line += _USUAL_STATUS[len(line) :]
    if _STATUS_LINE.fullmatch(line):
        return
    raise _no_response(head, line)


def field_fault(line: bytes) -> str:
    """What is wrong with a field line, or the beginning of one."""
    if b"\r" in line:
        return _BARE_CR
    if line[:1] in (b" ", b"\t"):
        return "a folded field line"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "a field line without a colon"
    if name[-1:] in (b" ", b"\t"):
        return "a space before the colon of a field"
    if not _NAME.fullmatch(name):
        return "a field name that is not a token"
    return "a control byte in a field value"


def _no_request(head: bytes, line: bytes, detail: str) -> BadRequest:
    """The error for another protocol, or else for a request line with this fault."""
    protocol = protocol_of(head)
    if protocol == "TLS":
        return BadRequest("a TLS handshake on a listener without TLS: use http:// here")
    if protocol == "HTTP/2":
        return BadRequest("HTTP/2 is not served here: use HTTP/1.1", 505)
    if protocol == "the PROXY protocol":
        return BadRequest("a PROXY header on a listener without proxy_protocol")
    if protocol:
        return BadRequest(f"this is {protocol}, not HTTP/1.1")
    return BadRequest(_BARE_CR if b"\r" in line else detail)


def _no_response(head: bytes, line: bytes) -> BadResponse:
    protocol = protocol_of(head)
    if protocol == "TLS":
        return BadResponse("the origin speaks TLS: write https:// in its address", _OTHER_SCHEME)
    if protocol:
        return BadResponse(f"the origin answers {protocol}, not HTTP/1.1", _OTHER_PORT)
    other = _OTHER_VERSION.match(line)
    if other is not None:
        return BadResponse(f"the origin answers {other[0].decode()}, not HTTP/1.1", _OTHER_PORT)
    if b"\r" in line:
        return BadResponse(f"the origin sent {_BARE_CR}")
    if _CONTENT.match(head):
        return BadResponse("the origin answers without a status line (HTTP/0.9)", _NO_HEAD)
    if not head.startswith(b"HTTP/"):
        detail = "the origin does not answer HTTP/1.1: its first line is not a status line"
        return BadResponse(detail, _OTHER_PORT)
    return BadResponse("the origin sent a status line that cannot be read")
