"""A strict reader of HTTP/1.1 messages, for the tests alone: RFC 9112, and nothing lenient.

It shares no code with hopproxy. What a proxy sends must pass it on both wires, so a bare LF, a
fold, a second Content-Length or a chunk extension that leaked through is `Malformed` here.

A reader is a generator: it yields what it needs next, and knows neither sockets nor trio. So the
raw peers of tests/links read with it as those of the conformance cases do.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) (HTTP/1\.[01])")
STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
FIELD_LINE = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\t \x21-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*"
)
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")

Fields = tuple[tuple[str, str], ...]


class Malformed(AssertionError):
    """Bytes that a strict HTTP/1.1 reader does not take."""


class Source(Protocol):
    """Where a message's bytes come from; each call raises when the bytes do not come."""

    def read_until(self, marker: bytes) -> bytes: ...
    def read_exactly(self, size: int) -> bytes: ...
    def read_to_end(self) -> bytes: ...


@dataclass(frozen=True)
class Message:
    """A request or a response as it stood on the wire, its names and values as text (latin-1)."""

    start: tuple[str, str, str]
    fields: Fields
    raw_head: bytes
    body: bytes = b""
    trailers: Fields = ()
    chunks: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def is_request(self) -> bool:
        return not self.start[0].startswith("HTTP/")

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def target(self) -> str:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    @property
    def version(self) -> str:
        return self.start[2] if self.is_request else self.start[0]

    def values(self, name: str) -> list[str]:
        """Return the value of each field line of that name, in order."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    def value(self, name: str) -> str:
        """Return the value of the one field line of that name."""
        values = self.values(name)
        assert len(values) == 1, f"{name}: {values}"
        return values[0]

    def options(self, name: str = "connection") -> list[str]:
        """Return the members of a comma-separated field, lower-cased (RFC 9110 5.6.1)."""
        joined = ",".join(self.values(name))
        return [member.strip().lower() for member in joined.split(",") if member.strip()]

    def has(self, name: str) -> bool:
        return bool(self.values(name))

    def trailer_values(self, name: str) -> list[str]:
        return [value for known, value in self.trailers if known.lower() == name.lower()]


def parse_head(raw: bytes) -> Message:
    """Read a head that ends with its empty line.

    Raises Malformed (RFC 9112 2.2, 3, 4, 5).
    """
    lines = raw[:-4].split(b"\r\n")
    match = REQUEST_LINE.fullmatch(lines[0]) or STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise Malformed(f"start line {lines[0]!r}")
    one, two, three = (part.decode("latin-1") for part in match.groups())
    return Message(start=(one, two, three), fields=parse_fields(lines[1:]), raw_head=raw)


def parse_fields(lines: list[bytes]) -> Fields:
    """Read field lines, CRLF already removed (RFC 9112 5)."""
    fields = []
    for line in lines:
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise Malformed(f"field line {line!r}")
        fields.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return tuple(fields)


#: What a reader needs: bytes up to and with a marker, so many bytes, or (None) all to the end.
Need = bytes | int | None
Reader = Generator[Need, bytes, Message]


def head_reader() -> Reader:
    """Read up to and with the empty line that ends a head."""
    return parse_head((yield b"\r\n\r\n"))


def message_reader(to: str = "") -> Reader:
    """Read a request, or a response to a request of method `to`, each with its body."""
    head = yield from head_reader()
    return (yield from body_reader(head, to))


def body_reader(head: Message, to: str = "") -> Reader:
    """Read the body that follows `head`, by the one framing that it declares (RFC 9112 6.3)."""
    codings, lengths = head.values("transfer-encoding"), head.values("content-length")
    if codings and lengths:
        raise Malformed(f"both Transfer-Encoding {codings} and Content-Length {lengths}")
    if len(lengths) > 1 or any(not value.isascii() or not value.isdigit() for value in lengths):
        raise Malformed(f"Content-Length {lengths}")
    if codings and [value.lower() for value in codings] != ["chunked"]:
        raise Malformed(f"Transfer-Encoding {codings}")
    if not head.is_request and (head.status < 200 or head.status == 204) and (codings or lengths):
        raise Malformed(f"a length in a {head.status}: {codings} {lengths}")
    if not head.is_request and (to == "HEAD" or head.status < 200 or head.status in (204, 304)):
        return head
    if codings:
        return (yield from _chunked_reader(head))
    if lengths:
        return with_body(head, body=(yield int(lengths[0])))
    return head if head.is_request else with_body(head, body=(yield None))


def _chunked_reader(head: Message) -> Reader:
    """Read a chunked body and its trailers; a chunk extension is Malformed (RFC 9112 7.1)."""
    chunks = []
    while size := parse_chunk_size((yield b"\r\n")):
        chunks.append((yield size))
        if (end := (yield 2)) != b"\r\n":
            raise Malformed(f"chunk ends with {end!r}")
    lines = []
    while line := (yield b"\r\n")[:-2]:
        lines.append(line)
    return with_body(
        head, body=b"".join(chunks), trailers=parse_fields(lines), chunks=tuple(chunks)
    )


def parse_chunk_size(line: bytes) -> int:
    """Read a chunk-size line, with its CRLF."""
    if CHUNK_SIZE.fullmatch(line[:-2]) is None:
        raise Malformed(f"chunk size line {line[:-2]!r}")
    return int(line, 16)


def read(source: Source, reader: Reader) -> Message:
    """Give a reader what it needs, from a source that waits for it."""
    try:
        need = next(reader)
        while True:
            if need is None:
                need = reader.send(source.read_to_end())
            elif isinstance(need, int):
                need = reader.send(source.read_exactly(need))
            else:
                need = reader.send(source.read_until(need))
    except StopIteration as end:
        message: Message = end.value
        return message


def read_head(source: Source) -> Message:
    """Read one head."""
    return read(source, head_reader())


def read_body(source: Source, head: Message, to: str) -> Message:
    """Read the body that follows `head`."""
    return read(source, body_reader(head, to))


def read_request(source: Source) -> Message:
    """Read one request with its body."""
    return read(source, message_reader())


def read_response(source: Source, to: str) -> Message:
    """Read one response, interim or final, to a request with method `to`."""
    return read(source, message_reader(to))


def with_body(
    head: Message, *, body: bytes, trailers: Fields = (), chunks: tuple[bytes, ...] = ()
) -> Message:
    """Return the message of this head with this body."""
    return Message(head.start, head.fields, head.raw_head, body, trailers, chunks)
