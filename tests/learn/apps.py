"""Applications that write down each POST they are sent, by its id, into the file POSTS names."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Message = dict[str, Any]


def _note(method: str, query: str) -> None:
    if method == "POST":
        with open(os.environ["POSTS"], "a") as file:
            file.write(f"POST {query}\n")


def wsgi(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """A short answer (PEP 3333)."""
    _note(environ["REQUEST_METHOD"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """A short answer (ASGI 3)."""
    assert scope["type"] == "http"
    _note(scope["method"], scope["query_string"].decode())
    fields = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"ok"})
