"""The admin listener: probes, metrics, the links as JSON and the live page.  It only reads.

It has a small HTTP server of its own, on h11, with limits on connections, head size and time.  It
shares nothing with the data plane, so that it answers when that is full or draining.
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import h11
import msgspec
import trio

from hopproxy import descriptors
from hopproxy.link.shortage import NONE_LEFT
from hopproxy.observe import whole
from hopproxy.observe.families import of_workers
from hopproxy.observe.families import whole as whole_families
from hopproxy.observe.page import HTML, POLICY
from hopproxy.observe.views import Question, Views
from hopproxy.observe.visitor import is_local, refusal
from hopproxy.server.listener import close_listener
from hopproxy.server.siblings import Part, Siblings, Unheard
from hopproxy.settings.descriptors import admin_share

log = logging.getLogger("hopproxy")

#: Most open connections, fewer if there are few descriptors.  For another one the least recently
#: used is closed.
MOST_CONNECTIONS = 32
#: Seconds until the next try if no descriptor is left for a connection.
PAUSE = 0.1
#: Most bytes of a request's head.
HEAD_SIZE = 8 * 1024
#: Seconds for a complete request to arrive, and for a response to be accepted.
IDLE_TIMEOUT, WRITE_TIMEOUT = 30.0, 10.0

_TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """One response."""

    status: int
    content_type: str
    body: bytes
    fields: tuple[tuple[str, str], ...] = ()


class Query(NamedTuple):
    """The parts of a request that responses depend on."""

    limit: int | None
    fold: bool
    accept: str


class Admin:
    """Serves the pages about one worker, or about all of them."""

    def __init__(self, views: Views, siblings: Siblings | None = None) -> None:
        self._views = views
        self._siblings = siblings
        #: With several workers no connection is kept: its worker may be stopped, and others can
        #: answer.
        self._keeps = siblings is None or siblings.workers == 1
        self._is_local = False
        self._open: dict[trio.CancelScope, None] = {}
        self._most = min(MOST_CONNECTIONS, admin_share(descriptors.limit()))
        self._answers: dict[str, Callable[[Query], Awaitable[Answer]]] = {
            "/": self._page,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/links": self._links,
            "/closes": self._closes,
            "/origins": self._origins,
            "/requests": self._requests_told,
            "/config": self._config,
            "/metrics": self._exposition,
        }

    async def run(self, listener: socket.socket) -> None:
        """Serve until cancelled, then close the listener."""
        self._is_local = is_local(listener)
        try:
            incoming = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._views.recent.run)
                await self._accept(incoming, nursery)
        finally:
            close_listener(listener)

    # -- connections -------------------------------------------------------------------------

    async def _accept(self, incoming: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            try:
                stream = await incoming.accept()
            except OSError as error:
                if error.errno not in NONE_LEFT:
                    raise
                self._make_room()
                await trio.sleep(PAUSE)
            else:
                nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection.  Its errors end only this connection."""
        if len(self._open) >= self._most:
            self._make_room()
        with trio.CancelScope() as scope:
            self._open[scope] = None
            try:
                await self._requests(stream, scope)
            except (trio.BrokenResourceError, h11.LocalProtocolError):
                pass
            except Exception:
                log.exception("the admin listener could not answer")
            finally:
                self._open.pop(scope, None)
                await trio.aclose_forcefully(stream)

    def _make_room(self) -> None:
        longest = next(iter(self._open), None)
        if longest is not None:
            del self._open[longest]
            longest.cancel()

    async def _requests(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_SIZE)
        while True:
            scope.deadline = trio.current_time() + IDLE_TIMEOUT
            try:
                request = await _next_request(stream, connection)
            except h11.RemoteProtocolError as error:
                request, answer = None, Answer(error.error_status_hint, _TEXT, b"not understood\n")
            else:
                if request is None:
                    return
                if scope in self._open:  # keep them in the order of their last use
                    del self._open[scope]
                    self._open[scope] = None
                answer = await self._answer(request)
            scope.deadline = trio.current_time() + WRITE_TIMEOUT
            written = _written(connection, request, answer, keeps=self._keeps)
            await stream.send_all(written)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    # -- answers -----------------------------------------------------------------------------

    async def _answer(self, request: h11.Request) -> Answer:
        if request.method not in (b"GET", b"HEAD"):
            return Answer(405, _TEXT, b"GET and HEAD only\n", (("Allow", "GET, HEAD"),))
        fields = {bytes(name): bytes(value) for name, value in request.headers}
        if refused := refusal(fields, local=self._is_local):
            return Answer(403, _TEXT, f"{refused}\n".encode())
        path, _, query = request.target.decode("ascii", "replace").partition("?")
        answer = self._answers.get(path)
        if answer is None:
            known = " ".join(self._answers)
            return Answer(404, _TEXT, f"not found; there are: {known}\n".encode())
        asked = parse_qs(query)
        limit = asked.get("limit", [""])[0]
        most = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 7 else None
        accepted = [value for name, value in request.headers if name == b"accept"]
        fold = asked.get("fold") == ["on"]
        wanted = Query(most, fold, b", ".join(accepted).decode("ascii", "replace"))
        try:
            return await answer(wanted)
        except Unheard:
            return Answer(503, _TEXT, b"the supervisor does not answer\n")

    async def _page(self, _: Query) -> Answer:
        policy = ("Content-Security-Policy", POLICY)
        return Answer(200, "text/html; charset=utf-8", HTML, (policy,))

    async def _healthz(self, _: Query) -> Answer:
        return Answer(200, _TEXT, b"alive\n")

    async def _readyz(self, _: Query) -> Answer:
        reason = await self._views.view(("unready",))
        if reason and self._siblings is not None:
            reason = whole.unready((await self._ask(("unready",)))[0])
        return Answer(503 if reason else 200, _TEXT, f"{reason or 'ready'}\n".encode())

    async def _links(self, query: Query) -> Answer:
        answers, past, _ = await self._ask(("links", query.limit))
        totals = {key[1]: count for key, count in past.items() if key[0] == "total"}
        rows = whole.links(answers, query.limit, totals)
        if self._siblings is not None:
            rows["pid"] = os.getppid()
            rows["workers"] = self._siblings.workers
        return Answer(200, "application/json", msgspec.json.encode(rows))

    async def _origins(self, _: Query) -> Answer:
        answers = (await self._ask(("links", 0)))[0]
        rows = {"time": answers[0]["time"], "origins": whole.origins(answers)}
        return Answer(200, "application/json", msgspec.json.encode(rows))

    async def _closes(self, query: Query) -> Answer:
        answers, past, _ = await self._ask(("closes", query.limit, query.fold))
        rows = whole.closes(answers, query.limit, past)
        return Answer(200, "application/json", msgspec.json.encode(rows))

    async def _requests_told(self, query: Query) -> Answer:
        rows = whole.requests((await self._ask(("requests", query.limit)))[0], query.limit)
        return Answer(200, "application/json", msgspec.json.encode({"requests": rows}))

    async def _config(self, _: Query) -> Answer:
        row = await self._views.view(("config",))
        return Answer(200, "application/json", msgspec.json.encode(row))

    async def _exposition(self, query: Query) -> Answer:
        from hopproxy.observe.exposition import exposition

        answers, past, parts = await self._ask(("metrics",))
        place = 0 if self._siblings is None else self._siblings.place
        answers.append(of_workers(place, parts))
        families = whole_families(answers, past)
        body, content_type = exposition(families, query.accept)
        return Answer(200, content_type, body)

    async def _ask(self, question: Question) -> tuple[list[Any], dict[Any, float], list[Part]]:
        """(all answers, ours first; the counts of ended workers; the other workers)."""
        ours = await self._views.view(question)
        if self._siblings is None:
            return [ours], {}, []
        parts, past = await self._siblings.ask(question)
        return [ours, *(part.answer for part in parts if part.answer is not None)], past, parts


async def _next_request(
    stream: trio.SocketStream, connection: h11.Connection
) -> h11.Request | None:
    """The next request, None at the end of the connection.  Raises RemoteProtocolError."""
    request = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(HEAD_SIZE))
        elif isinstance(event, h11.Request):
            request = event
            framed = {b"content-length", b"transfer-encoding"}
            if any(name in framed for name, _ in event.headers):
                return request  # its body is not read, so the connection closes after it
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:
            return None


def _written(
    connection: h11.Connection, request: h11.Request | None, answer: Answer, *, keeps: bool
) -> bytes:
    """The bytes of a response; for HEAD only its head.  `keeps` if the connection may persist."""
    headers = [
        ("Content-Type", answer.content_type),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        *answer.fields,
    ]
    if not keeps or connection.their_state is not h11.DONE:
        headers.append(("Connection", "close"))
    reason = HTTPStatus(answer.status).phrase.encode()
    head = h11.Response(status_code=answer.status, headers=headers, reason=reason)
    out = connection.send(head) or b""
    if request is None or request.method != b"HEAD":
        out += connection.send(h11.Data(data=answer.body)) or b""
    return out + (connection.send(h11.EndOfMessage()) or b"")
