"""A field section of HTTP/2 as a request (RFC 9113 section 8.3, RFC 8441).

The head means the same as one of HTTP/1.1, and goes through the same rules.  So it has the lines
and the bytes that HTTP/1.1 would have.
"""

from __future__ import annotations

from hopproxy.errors import BadRequest, Denied
from hopproxy.message import CHUNKED, HTTP_2, NO_BODY, Field, Kind, RequestHead, list_of
from hopproxy.rules.target import ORIGIN_FORM, is_authority, same_authority
from hopproxy.wire import http1
from hopproxy.wire.h2_fields import (
    COOKIE,
    HOST,
    MALFORMED,
    ORDINARY,
    PSEUDO,
    SPECIAL,
    Checked,
    Malformed,
    checked,
    trailers_of,
)
from hopproxy.wire.hpack import FieldLine
from hopproxy.wire.unfinished import HeadLimits

_KNOWN = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})

#: The fields of the handshake of RFC 6455 that RFC 8441 section 5 does without.
_HANDSHAKE = frozenset({b"sec-websocket-key", b"sec-websocket-accept"})


class Section:
    """A decoded field section.  Many connections may share one: it is never changed.

    `too_large` if it was above the limit, and its lines are not known.  `protocol` is that of an
    extended CONNECT (RFC 8441 section 4), b"" if it is none.
    """

    __slots__ = ("_fits", "_like", "_open", "_path", "_whole", "lines", "protocol", "too_large")

    def __init__(
        self, lines: list[FieldLine], *, too_large: bool = False, like: Section | None = None
    ) -> None:
        """`like` is a section that differs only in the value of its :path."""
        self.lines = lines
        self.protocol: bytes = _protocol(lines) if like is None else like.protocol
        self.too_large = too_large
        self._like = like
        self._path = b""
        self._fits: HeadLimits | None = None  # the limits that the last one was within
        # A request with these fields: without a body, and with a body that follows.
        self._whole: RequestHead | None = None
        self._open: RequestHead | None = None

    def request(self, limits: HeadLimits, ended: bool) -> RequestHead:
        """The request with these fields; `ended` if no DATA follows.

        Raises BadRequest, and Denied for CONNECT.
        """
        head = self._whole if ended else self._open
        if head is None:
            if self.too_large:
                raise _too_large()
            model = self._like._whole if ended and self._like is not None else None
            if model is not None and model.raw:
                head = _elsewhere(model, self._path)
            else:
                head = _head_of(self.lines)
                _settle(head, ended=ended)
            if ended:
                self._whole = head
            else:
                self._open = head
        if self._fits is not limits:
            _check_limits(head, limits)
            self._fits = limits
        return head

    def elsewhere(self, place: int, path: bytes) -> Section:
        """The section with another :path at this place, and the same other lines."""
        lines = self.lines.copy()
        lines[place] = FieldLine(b":path", path)
        other = Section(lines, like=self)
        other._path = path
        return other

    def opening(self, limits: HeadLimits, key: bytes) -> RequestHead:
        """The HTTP/1.1 upgrade that means the same as this extended CONNECT.

        `key` is a new Sec-WebSocket-Key: HTTP/2 has none.  Raises as `request`.
        """
        pseudo, others = _parted(self.lines)
        if pseudo.get(b":method") != b"CONNECT":
            raise Malformed(":protocol in a request other than CONNECT (RFC 8441 section 4)")
        protocol = pseudo.pop(b":protocol")
        if protocol.lower() != b"websocket":
            raise BadRequest("a protocol other than websocket in an extended CONNECT", 501)
        lines = [FieldLine(b":method", b"GET")]
        lines += [FieldLine(name, value) for name, value in pseudo.items() if name != b":method"]
        lines += [line for line in others if line.name not in _HANDSHAKE]
        lines.append(FieldLine(b"sec-websocket-key", key))
        head = _head_of(lines)
        http1.read_request_fields(head)  # not `settle_request`: this head is no model for others
        if head.body is not NO_BODY:
            raise Malformed("Content-Length in an extended CONNECT: what follows is not content")
        head.upgrade = protocol
        head.simple = False
        _check_limits(head, limits)
        return head

    def trailers(self) -> list[bytes]:
        """The lines of a trailer section.  Raises BadRequest."""
        if self.too_large:
            raise _too_large()
        return trailers_of(self.lines)

    def glimpse(self) -> tuple[bytes, bytes, bytes]:
        """(method, target, host) as far as they are there; for the log."""
        found = {line.name: line.value for line in reversed(self.lines)}
        host = found.get(b":authority") or found.get(b"host", b"")
        return found.get(b":method", b""), found.get(b":path", b""), host


def _protocol(lines: list[FieldLine]) -> bytes:
    for line in lines:
        if line.name[:1] != b":":
            break
        if line.name == b":protocol":
            return line.value
    return b""


def _too_large() -> BadRequest:
    return BadRequest("the head is larger than max_head_size", 431, limit="max_head_size")


def _check_limits(head: RequestHead, limits: HeadLimits) -> None:
    if len(head.target) > limits.max_target_size:
        raise BadRequest(
            "the request target is longer than max_target_size", 414, limit="max_target_size"
        )
    if len(head.lines) > limits.max_fields:
        raise BadRequest("the head has more fields than max_fields", 431, limit="max_fields")
    if len(head.raw) + 4 > limits.max_head_size:
        raise _too_large()


def _parted(lines: list[FieldLine]) -> tuple[dict[bytes, bytes], list[FieldLine]]:
    """The pseudo-header fields, and the lines after them.  Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for line in lines:
        name = line.name
        if name[:1] != b":":
            break
        if name in pseudo:
            raise Malformed(f"{_text(name)} twice (RFC 9113 section 8.3)")
        if name not in _KNOWN:
            raise Malformed(f"{_text(name)}, an unknown field (RFC 9113 section 8.3)")
        found = checked(line)
        if found.role == MALFORMED:
            raise Malformed(found.flaw)
        pseudo[name] = line.value
        count += 1
    return pseudo, lines[count:]


def _head_of(lines: list[FieldLine]) -> RequestHead:
    """The head, to which no rule has been applied yet."""
    pseudo, others = _parted(lines)
    method, path, host = _start(pseudo)
    out = [host.line] if host is not None else []
    special = [host] if host is not None else []
    cookies = []
    hosts = 0
    for line in others:
        known = line.checked
        found = known if isinstance(known, Checked) else checked(line)
        role = found.role
        if role == ORDINARY:
            out.append(found.line)
        elif role == SPECIAL:
            assert found.special is not None
            out.append(found.line)
            special.append(found.special)
        elif role == COOKIE:
            cookies.append(line.value)
        elif role == HOST:
            assert found.special is not None
            hosts += 1
            if hosts > 1:
                raise Malformed("Host twice (RFC 9112 section 3.2)")
            if host is None:
                host = found.special
                out.append(host.line)
                special.append(host)
            elif not _agree(pseudo[b":scheme"], host.value, line.value):
                raise Malformed("Host differs from :authority (RFC 9113 section 8.3.1)")
        elif role == PSEUDO:
            raise Malformed("a pseudo-header field after others (RFC 9113 section 8.3)")
        else:
            raise Malformed(found.flaw)
    if cookies:
        out.append(b"cookie: " + b"; ".join(cookies).rstrip(b" "))  # sections 8.2.3, 8.2.1
    raw = b"%b %b HTTP/1.1\r\n%b" % (method, path, b"\r\n".join(out))
    return RequestHead(method, path, HTTP_2, out, special, raw)


def _start(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes, Field | None]:
    """Method, path, and the Host field of `:authority`.  Raises Malformed; Denied for CONNECT."""
    method = pseudo.get(b":method", b"")
    if not http1.is_method(method):
        raise Malformed("no valid :method (RFC 9113 section 8.3.1)")
    if b":protocol" in pseudo:
        raise Malformed(":protocol in a request other than CONNECT (RFC 8441 section 4)")
    authority = pseudo.get(b":authority")
    if method == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or not authority:
            raise Malformed("CONNECT with more or less than :authority (RFC 9113 section 8.5)")
        raise Denied("CONNECT is not served here", 405)
    path = pseudo.get(b":path", b"")
    if pseudo.get(b":scheme", b"").lower() not in (b"http", b"https"):
        raise Malformed(":scheme is neither http nor https (RFC 9113 section 8.3.1)")
    _check_path(method, path)
    if authority is None:
        return method, path, None
    if not is_authority(authority):
        raise Malformed(":authority is not a valid host and port (RFC 9113 section 8.3.1)")
    return method, path, Field(b"host: " + authority, b"host", authority, Kind.HOST)


def _check_path(method: bytes, path: bytes) -> None:
    if not ORIGIN_FORM.fullmatch(path) and (path != b"*" or method != b"OPTIONS"):
        raise Malformed("no valid :path (RFC 9113 section 8.3.1)")


def _elsewhere(model: RequestHead, path: bytes) -> RequestHead:
    """The head with another path and the same fields, since no rule reads the path."""
    method = model.method
    _check_path(method, path)
    behind = model.raw[len(method) + 1 + len(model.target) :]
    raw = b"%b %b%b" % (method, path, behind)
    head = RequestHead(method, path, HTTP_2, model.lines, model.special, raw)
    head.settle_as(model.model or model)
    return head


def _agree(scheme: bytes, authority: bytes, host: bytes) -> bool:
    return authority == host or (is_authority(host) and same_authority(scheme, authority, host))


def _settle(head: RequestHead, *, ended: bool) -> None:
    """Apply the rules, and find out whether there is a body (section 8.1.1)."""
    if ended:
        http1.settle_request(head)
        if head.length:
            raise Malformed("Content-Length without DATA (RFC 9113 section 8.1.1)")
        return
    http1.read_request_fields(head)
    if head.body is NO_BODY and not any(field.kind is Kind.LENGTH for field in head.special):
        head.body = CHUNKED
        head.simple = False
        head.expects = any(list_of(head.special_value(b"expect") or b""))


def _text(name: bytes) -> str:
    return name[:32].decode("ascii", "replace")
