"""What a message of HTTP/2 means on a hop of HTTP/1.1, and vice versa, written a second time.

The fields are those that `hpack` has read.  h11 and its companions read what we write.
"""

from __future__ import annotations

import hpack

from hopproxy.errors import HopError
from hopproxy.link.h2_heads import encoded
from hopproxy.message import CHUNKED, HTTP_2, NO_BODY, SIZED, RequestHead, ResponseHead
from hopproxy.rules.forwarding import Sender, via_line
from hopproxy.rules.hop import Underscores, request_for_upstream
from hopproxy.settings.client import LinkSettings
from hopproxy.wire import http1
from hopproxy.wire.h2_asking import request_block
from hopproxy.wire.h2_request import Section
from hopproxy.wire.h2_response import ResponseSection
from tests.fuzz import judges, meant
from tests.fuzz.h2_reader import asked, refuses
from tests.fuzz.h11_reader import Disagreement
from tests.h2_peer import Fields

_VIA = b"Via: 1.0 hopproxy\r\n", b"Via: 1.1 hopproxy\r\n", b"Via: 2.0 hopproxy\r\n"
_SENDER = Sender("192.0.2.7", b"http", ())


def asking(method: bytes) -> bytes:
    """The field block of a request."""
    return bytes(hpack.Encoder().encode(asked(method)))


#: What we refuse although `h2` does not: it does not look there.
STRICTER = (
    "SETTINGS is missing",
    "SETTINGS acknowledged twice",
    "on a closed stream",
    "on an idle stream",
    "PUSH_PROMISE",
    "GOAWAY",
    "SETTINGS_MAX_FRAME_SIZE",  # said twice in a frame: it reads the last
    "padding in the place of a priority",
    "depends on itself",  # it looks once the field block is whole
)


def is_stricter(why: str) -> bool:
    """Whether RFC 9113 lets us refuse this, and `h2` accepts it."""
    return any(words in why for words in STRICTER)


def _block(fields: Fields) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


def check_request(section: Section, fields: Fields, limits: LinkSettings, *, ended: bool) -> None:
    """What an HTTP/1.1 origin and an HTTP/2 origin would read.  Raises Disagreement."""
    if section.protocol or not fields or fields[0][0][:1] != b":":
        return  # an upgrade, and trailers
    try:
        head = section.request(limits, ended=ended)
        via = via_line(head, _VIA, b"hopproxy")
    except HopError:
        return
    why = refuses(fields, _block(fields), from_client=True, ended=ended)
    if why:
        raise Disagreement(f"h2 refuses a request that we pass on: {why}: {fields!r}")
    wanted = request_meant(fields, ended=ended)
    written = request_for_upstream(head, _SENDER.block(head), via, Underscores.SHADOW, b"origin:80")
    body = b"x" * head.length if head.body is SIZED else b""
    end = b"0\r\n\r\n" if head.body is CHUNKED else b""
    reading = judges.requests(written + body + end)
    if len(reading.messages) != 1 or reading.rest or reading.messages[0].body != body:
        raise Disagreement(f"one request meant, a reader sees {reading!r}, in {written!r}")
    seen = reading.messages[0]
    meant.check_request(wanted, seen)
    block = request_block(written, b"http")
    again = [(bytes(n), bytes(v)) for n, v in hpack.Decoder().decode(block, raw=True)]
    why = refuses(again, block, from_client=True, ended=not (body or end))
    if why:
        raise Disagreement(f"h2 refuses what we send: {why}: {again!r}")
    kept = [pair for pair in seen.fields if pair[0] not in (b"host", *_OF_HTTP1)]
    authority = [(b":authority", value) for name, value in seen.fields if name == b"host"]
    start = [(b":method", seen.start[0]), (b":scheme", b"http"), *authority]
    if again != [*start, (b":path", seen.start[1]), *kept]:
        raise Disagreement(f"HTTP/1.1 says {seen!r}, HTTP/2 {again!r}")


_OF_HTTP1 = b"connection transfer-encoding upgrade keep-alive proxy-connection".split()


def request_meant(fields: Fields, *, ended: bool) -> RequestHead:
    """A head made from these fields alone."""
    start = {name: value for name, value in fields if name[:1] == b":"}
    rest = [(name, value) for name, value in fields if name[:1] != b":" and name != b"cookie"]
    host = start.get(b":authority")
    if host is not None:
        rest = [(b"host", host), *(pair for pair in rest if pair[0] != b"host")]
    crumbs = [value for name, value in fields if name == b"cookie"]
    if crumbs:
        rest.append((b"cookie", b"; ".join(crumbs).rstrip(b" ")))
    lengths = [value for name, value in rest if name == b"content-length"]
    length = int(lengths[0].split(b",")[0]) if lengths else 0
    if lengths:  # said once, and in one way
        at = rest.index((b"content-length", lengths[0]))
        rest = [pair for pair in rest if pair[0] != b"content-length"]
        rest.insert(at, (b"content-length", b"%d" % length))
    lines = [b"%b: %b" % pair for pair in rest]
    made = RequestHead(start[b":method"], start[b":path"], HTTP_2, lines, [], b"")
    made.length = length
    made.body = NO_BODY if ended or (lengths and not length) else SIZED if lengths else CHUNKED
    return made


def check_response(section: ResponseSection, fields: Fields, method: bytes) -> None:
    """What a client reads, of HTTP/1.1 and of HTTP/2.  Raises Disagreement."""
    if not section.status:
        return
    try:
        head = section.response(method)
    except HopError:
        return
    why = refuses(fields, _block(fields), from_client=False, ended=not section.is_interim)
    if why and "content-length" not in why and "INFORMATIONAL" not in why:
        raise Disagreement(f"h2 refuses a response that we pass on: {why}: {fields!r}")
    _as_http1(head, method)
    block = encoded(head, b"Via: 2.0 hopproxy\r\n")
    came = [(bytes(n), bytes(v)) for n, v in hpack.Decoder().decode(block, raw=True)]
    names = [name for name, _ in came]
    if any(name == b"content-length" and not value.isdigit() for name, value in came):
        raise Disagreement(f"a length that is none goes on: {came!r}")
    anew = (b"via", b"content-length")  # the length is said once, and in one way
    kept = [pair for pair in fields if pair[0] in names and pair[0] not in anew]
    if [pair for pair in came if pair[0] not in anew] != kept:
        raise Disagreement(f"the origin says {fields!r}, the client gets {came!r}")
    lost = {name for name, _ in fields} - set(names) - meant.OF_ONE_HOP
    if lost - {b"content-length"}:
        raise Disagreement(f"{lost!r} is lost of {fields!r}")


def _as_http1(head: ResponseHead, method: bytes) -> None:
    added = b"Via: 1.1 hopproxy\r\n" if head.status >= 200 else b""
    body = b"x" * head.length if head.body is SIZED else b""
    if head.body is CHUNKED:
        added, body = added + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"
    out = http1.write_response(head, added) + body
    final = b"" if head.status >= 200 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    reading = judges.responses(out + final, [method], ended=False)
    if len(reading.messages) != (2 if final else 1) or reading.rest:
        raise Disagreement(f"one response meant, a reader sees {reading!r}, in {out!r}")
