"""Applications for Python servers: each answers with the port of the connection it was asked on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Message = dict[str, Any]


def wsgi(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Answer with the peer's port (PEP 3333)."""
    body = str(environ["REMOTE_PORT"]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer with the peer's port, and echo on a WebSocket (ASGI 3)."""
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    assert scope["type"] == "http"
    body = str(scope["client"][1]).encode()
    fields = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def _echo(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})
