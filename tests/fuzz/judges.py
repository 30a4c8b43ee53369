"""Readers that are not ours, and must agree: h11, llhttp, and the strict one of the suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httptools

from tests.conformance import strict
from tests.fuzz.h11_reader import Disagreement, Reading, Seen, h11_requests, h11_responses

#: What llhttp knows; others it refuses whatever follows.
LLHTTP_METHODS = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK "
    b"BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH "
    b"PURGE MKCALENDAR LINK UNLINK".split()
)


# -- llhttp ----------------------------------------------------------------------------------


class _Listener:
    """What llhttp tells as it reads."""

    def __init__(self, code: Callable[[], bytes]) -> None:
        self.messages: list[Seen] = []
        self._code = code
        self._start = b""
        self._body = b""
        self._head: list[tuple[bytes, bytes]] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self.begun = False

    def on_message_begin(self) -> None:
        self._start = self._body = b""
        self._head, self._fields, self.begun = None, [], True

    def on_url(self, url: bytes) -> None:
        self._start += url

    def on_status(self, status: bytes) -> None:
        self._start += status

    def on_header(self, name: bytes, value: bytes | None) -> None:
        self._fields.append((name.lower(), (value or b"").strip(b" \t")))

    def on_headers_complete(self) -> None:
        self._head, self._fields = self._fields, []

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.messages.append(self._seen(whole=True))
        self.begun = False

    def unfinished(self) -> Seen | None:
        """The message whose end has not come, if its head has."""
        return self._seen(whole=False) if self.begun and self._head is not None else None

    def _seen(self, *, whole: bool) -> Seen:
        start = self._code(), self._start
        return Seen(start, tuple(self._head or ()), self._body, tuple(self._fields), whole)


def llhttp_requests(data: bytes) -> Reading:
    """Every request on a connection."""
    found: list[Seen] = []
    while data:
        holder: list[httptools.HttpRequestParser] = []
        listener = _Listener(lambda: bytes(holder[0].get_method()))  # noqa: B023
        holder.append(httptools.HttpRequestParser(listener))
        offset = len(data)
        try:
            holder[0].feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            offset = upgrade.args[0]
        except httptools.HttpParserError as error:
            raise Disagreement(f"llhttp refuses what we sent: {error!r}: {data[:300]!r}") from error
        found += listener.messages
        unfinished = listener.unfinished()
        if unfinished is not None:
            return Reading([*found, unfinished], b"")
        if listener.begun:
            return Reading(found, data)
        data = data[offset:]
    return Reading(found, b"")


def llhttp_responses(data: bytes, *, ended: bool) -> Reading:
    """Every response on a connection on which no HEAD was asked, up to a switch of protocols."""
    holder: list[httptools.HttpResponseParser] = []
    listener = _Listener(lambda: b"%d" % holder[0].get_status_code())
    holder.append(httptools.HttpResponseParser(listener))
    rest = b""
    try:
        holder[0].feed_data(data)
    except httptools.HttpParserUpgrade as upgrade:
        rest = data[upgrade.args[0] :]
    except httptools.HttpParserError as error:
        raise Disagreement(f"llhttp refuses what we sent: {error!r}: {data[:300]!r}") from error
    unfinished = listener.unfinished()
    if unfinished is not None:
        endless = all(
            n not in (b"content-length", b"transfer-encoding") for n, _ in unfinished.fields
        )
        return Reading([*listener.messages, unfinished._replace(whole=ended and endless)], rest)
    return Reading(listener.messages, rest)


# -- the strict reader -----------------------------------------------------------------------


class _Bytes:
    """A connection whose bytes have all come."""

    def __init__(self, data: bytes, *, ended: bool) -> None:
        self.data = data
        self.ended = ended

    def read_until(self, marker: bytes) -> bytes:
        at = self.data.find(marker)
        if at < 0:
            raise EOFError
        return self.read_exactly(at + len(marker))

    def read_exactly(self, size: int) -> bytes:
        if len(self.data) < size:
            raise EOFError
        found, self.data = self.data[:size], self.data[size:]
        return found

    def read_to_end(self) -> bytes:
        if not self.ended:
            raise EOFError
        return self.read_exactly(len(self.data))


def strict_requests(data: bytes) -> Reading:
    """Every whole request on a connection."""
    source = _Bytes(data, ended=False)
    found: list[Seen] = []
    while source.data:
        before = source.data
        try:
            found.append(_strict_seen(strict.read_request(source)))
        except EOFError:
            return Reading(found, before)
        except strict.Malformed as error:
            raise Disagreement(f"the strict reader refuses what we sent: {error}") from error
    return Reading(found, b"")


def strict_responses(data: bytes, methods: Sequence[bytes], *, ended: bool) -> Reading:
    """Every whole response on a connection, to requests with these methods."""
    source = _Bytes(data, ended=ended)
    found: list[Seen] = []
    for method in methods:
        while source.data:
            before = source.data
            try:
                found.append(_strict_seen(strict.read_response(source, method.decode())))
            except EOFError:
                return Reading(found, before)
            except strict.Malformed as error:
                raise Disagreement(f"the strict reader refuses what we sent: {error}") from error
            if not found[-1].interim:
                break
    return Reading(found, source.data)


def _strict_seen(message: strict.Message) -> Seen:
    start = message.start[:2] if message.is_request else message.start[1:]
    return Seen(
        (start[0].encode("latin-1"), start[1].encode("latin-1")),
        _encoded(message.fields),
        message.body,
        _encoded(message.trailers),
    )


def _encoded(fields: strict.Fields) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in fields)


# -- together --------------------------------------------------------------------------------


def requests(data: bytes) -> Reading:
    """What all readers see in the request bytes of one connection.  Raises Disagreement."""
    reading = h11_requests(data)
    known = all(seen.start[0] in LLHTTP_METHODS for seen in reading.messages)
    if any(_upgrades_with_a_body(seen) for seen in reading.messages):
        known = False  # llhttp stops behind the head: for this the link serves once only
    others = [("strict", strict_requests(data))]
    if known and not (reading.rest and reading.rest.split(b" ")[0] not in LLHTTP_METHODS):
        others.append(("llhttp", llhttp_requests(data)))
    _compare(reading, others)
    return reading


def _upgrades_with_a_body(seen: Seen) -> bool:
    fields = dict(seen.fields)
    sized = fields.get(b"content-length", b"0").strip(b"0") != b""
    return b"upgrade" in fields and (sized or b"transfer-encoding" in fields)


def responses(data: bytes, methods: Sequence[bytes], *, ended: bool) -> Reading:
    """What all readers see in the response bytes of one connection.  Raises Disagreement."""
    reading = h11_responses(data, methods, ended=ended)
    others = [("strict", strict_responses(data, methods, ended=ended))]
    switched = any(seen.start[0] == b"101" for seen in reading.messages)
    if b"HEAD" not in methods and not switched and not reading.rest:
        others.append(("llhttp", llhttp_responses(data, ended=ended)))
    _compare(reading, others)
    return reading


def _compare(reading: Reading, others: list[tuple[str, Reading]]) -> None:
    for name, other in others:
        mine = [seen for seen in reading.messages if seen.whole]
        theirs = [seen for seen in other.messages if seen.whole]
        if mine != theirs:
            raise Disagreement(f"h11 sees {mine!r}, {name} {theirs!r}")
