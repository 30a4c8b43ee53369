"""One message, and how h11 reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import h11

#: Room for whatever an input can hold.
LARGEST = 1 << 20


class Disagreement(AssertionError):
    """Two readers do not see the same in what hopproxy sent, or one sees what we did not mean."""


Fields = tuple[tuple[bytes, bytes], ...]


class Seen(NamedTuple):
    """One message as a reader saw it; `whole` tells that its end was seen."""

    start: tuple[bytes, bytes]
    fields: Fields
    body: bytes = b""
    trailers: Fields = ()
    whole: bool = True

    @property
    def interim(self) -> bool:
        """Whether it is a response before the final one."""
        return self.start[0] in (b"100", b"102", b"103") or (
            self.start[0][:1] == b"1" and len(self.start[0]) == 3 and self.start[0] != b"101"
        )


class Reading(NamedTuple):
    """The messages on one connection; `rest` is what stands behind them or has only begun."""

    messages: list[Seen]
    rest: bytes


def h11_requests(data: bytes) -> Reading:
    """Every request on a connection."""
    found: list[Seen] = []
    while data:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
        seen, rest = _h11_message(connection, data, ended=False)
        if seen is None:
            return Reading(found, data)
        found.append(seen)
        if not seen.whole:
            return Reading(found, b"")
        data = rest
    return Reading(found, b"")


def h11_responses(data: bytes, methods: Sequence[bytes], *, ended: bool) -> Reading:
    """Every response on a connection, interim ones included, to requests with these methods."""
    found: list[Seen] = []
    for method in methods:
        final = False
        while data and not final:
            connection = _h11_client(method)
            seen, rest = _h11_message(connection, data, ended=ended)
            if seen is None:
                return Reading(found, data)
            found.append(seen)
            if not seen.whole:
                return Reading(found, b"")
            data, final = rest, not seen.interim
            if seen.start[0] == b"101":
                return Reading(found, data)
    return Reading(found, data)


def _h11_client(method: bytes) -> h11.Connection:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST)
    fields = [("host", "h"), ("upgrade", "any")]
    connection.send(h11.Request(method=method, target="/", headers=fields))
    connection.send(h11.EndOfMessage())
    return connection


def _h11_message(
    connection: h11.Connection, data: bytes, *, ended: bool
) -> tuple[Seen | None, bytes]:
    head: h11.Request | h11.Response | h11.InformationalResponse | None = None
    body = b""
    trailers: Fields = ()
    whole = False
    try:
        connection.receive_data(data)
        while not whole:
            event = connection.next_event()
            if event is h11.NEED_DATA and ended:
                ended = False
                connection.receive_data(b"")
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                whole = event is h11.PAUSED and head is not None
                break
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                trailers, whole = _pairs(event.headers.raw_items()), True
            elif isinstance(event, h11.ConnectionClosed):
                break
            else:
                assert isinstance(event, h11.Request | h11.Response | h11.InformationalResponse)
                head = event
                if isinstance(event, h11.InformationalResponse):
                    whole = True
    except h11.RemoteProtocolError as error:
        cut = "complete message" in str(error)  # the end came before: that is not malformed
        if not cut or head is None:
            raise Disagreement(f"h11 refuses what we sent: {error}: {data[:300]!r}") from error
    if head is None:
        return None, data
    return _h11_seen(head, body, trailers, whole=whole), bytes(connection.trailing_data[0])


def _h11_seen(
    head: h11.Request | h11.Response | h11.InformationalResponse,
    body: bytes,
    trailers: Fields,
    *,
    whole: bool,
) -> Seen:
    if isinstance(head, h11.Request):
        start = head.method, head.target
    else:
        start = b"%d" % head.status_code, head.reason
    return Seen(start, _pairs(head.headers.raw_items()), body, trailers, whole)


def _pairs(items: Sequence[tuple[bytes, bytes]]) -> Fields:
    return tuple((bytes(name).lower(), bytes(value)) for name, value in items)


def strict_end(data: bytes) -> int:
    """How many bytes of `data` the first request takes; 0 while its end has not come."""
    if not data:
        return 0
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
    seen, rest = _h11_message(connection, data, ended=False)
    return len(data) - len(rest) if seen is not None and seen.whole else 0
