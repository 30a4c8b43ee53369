"""What a request of HTTP/1.1 says, in the words of HTTP/2."""

from __future__ import annotations

import re

Lines = list[tuple[bytes, bytes]]

#: What HTTP/1.1 says in Connection, and HTTP/2 in other ways.
SAID_OTHERWISE = {b"te", b"upgrade"}
ABSOLUTE_FORM = re.compile(rb"(https?)://([^/?#]*)([/?].*)?", re.DOTALL)


class NoMeaning(AssertionError):
    """A case says what HTTP/2 has no words for."""


class Request:
    """A request as HTTP/1.1 says it: its fields for HTTP/2, and how its body ends.

    `left` is what is missing of its body, -1 for a chunked one or a tunnel, -2 for what ends with
    the bytes at hand, since its length says nothing.
    """

    def __init__(self, head: bytes, scheme: bytes) -> None:
        start, *lines = head.split(b"\r\n")
        self.method, _, rest = start.partition(b" ")
        target, _, version = rest.rpartition(b" ")
        if version != b"HTTP/1.1":
            raise NoMeaning(f"{version!r} in a request line")
        self.pairs = pairs_of(lines)
        self.chunked = self._take(b"transfer-encoding", b"chunked")
        self.is_tunnel = self._take(b"upgrade", b"websocket")
        for name, value in self.pairs:
            if name in (b"keep-alive", b"proxy-connection", b"upgrade") or (
                name == b"connection" and not options_of(value) <= SAID_OTHERWISE
            ):
                raise NoMeaning(f"{name.decode()}: {value!r}")
        self.pairs = [pair for pair in self.pairs if pair[0] != b"connection"]
        self.fields = [*self._start(target, scheme), *self.pairs]
        self.left = self._length()

    def _take(self, name: bytes, value: bytes) -> bool:
        """Whether this field is there, once; it is then said by other means."""
        values = [known for found, known in self.pairs if found == name]
        if [known.lower() for known in values] != [value]:
            return False
        self.pairs = [pair for pair in self.pairs if pair[0] != name]
        return True

    def _start(self, target: bytes, scheme: bytes) -> Lines:
        hosts = [value for name, value in self.pairs if name == b"host"]
        method, authority = self.method, hosts[0] if len(hosts) == 1 else None
        absolute = ABSOLUTE_FORM.fullmatch(target)
        if method == b"CONNECT":
            self._drop_host()
            return [(b":method", method), (b":authority", target)]
        if absolute is not None:
            scheme, authority, target = absolute[1], absolute[2], absolute[3] or b"/"
        elif authority is not None:
            self._drop_host()
        start = [(b":method", b"CONNECT"), (b":protocol", b"websocket")]
        start = start if self.is_tunnel else [(b":method", method)]
        start += [(b":scheme", scheme), (b":path", target)]
        return start if authority is None else [*start, (b":authority", authority)]

    def _drop_host(self) -> None:
        self.pairs = [pair for pair in self.pairs if pair[0] != b"host"]

    def _length(self) -> int:
        lengths = [value for name, value in self.pairs if name == b"content-length"]
        if self.is_tunnel and lengths:
            raise NoMeaning("an upgrade with a body")
        if self.chunked or self.is_tunnel:
            return -1
        if any(name == b"transfer-encoding" for name, _ in self.pairs):
            return -2
        if len(lengths) == 1 and lengths[0].isdigit():
            return int(lengths[0])
        return -2 if lengths else 0


def pairs_of(lines: list[bytes]) -> Lines:
    """Names, in lower case, and values, whatever they are; a fold stays in its value."""
    pairs: Lines = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and pairs:
            name, value = pairs.pop()
            pairs.append((name, value + b"\r\n" + line))
            continue
        name, colon, value = line.partition(b":")
        if not colon:
            raise NoMeaning(f"no field: {line!r}")
        pairs.append((name.lower(), value.strip(b" \t")))
    return pairs


def options_of(value: bytes) -> set[bytes]:
    """The members of a Connection field."""
    return {member.strip(b" \t").lower() for member in value.split(b",")}
