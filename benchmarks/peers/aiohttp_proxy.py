"""A reverse proxy as one writes it with aiohttp: pooled session, streamed bodies, WebSockets.

Run: python -m benchmarks.peers.aiohttp_proxy PORT ORIGIN_PORT.  It is here to be compared with: its
parser is written in C, and it has no limits of its own, no retries, no counters.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping

from aiohttp import (
    ClientSession,
    ClientWebSocketResponse,
    DummyCookieJar,
    TCPConnector,
    WSMsgType,
    web,
)
from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
Link = web.WebSocketResponse | ClientWebSocketResponse


def end_to_end(fields: Mapping[str, str]) -> CIMultiDict[str]:
    """The fields without those of one hop (RFC 9110 7.6.1)."""
    named = {name.strip().lower() for name in fields.get("Connection", "").split(",")}
    return CIMultiDict(
        (name, value)
        for name, value in fields.items()
        if (lower := name.lower()) not in HOP_BY_HOP and lower not in named
    )


class Proxy:
    """One origin, one session, one answer for each request."""

    def __init__(self, origin: str, session: ClientSession) -> None:
        self._origin = origin
        self._session = session

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._tunnel(request)
        fields = end_to_end(request.headers)
        fields.add("X-Forwarded-For", request.remote or "")
        async with self._session.request(
            request.method,
            self._origin + request.path_qs,
            headers=fields,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=AUTOMATIC,
        ) as upstream:
            response = web.StreamResponse(
                status=upstream.status,
                reason=upstream.reason,
                headers=end_to_end(upstream.headers),
            )
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    async def _tunnel(self, request: web.BaseRequest) -> web.StreamResponse:
        downstream = web.WebSocketResponse()
        await downstream.prepare(request)
        async with self._session.ws_connect(self._origin + request.path_qs) as upstream:
            ways = [
                asyncio.create_task(copy_messages(downstream, upstream)),
                asyncio.create_task(copy_messages(upstream, downstream)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
        return downstream


async def copy_messages(source: Link, sink: Link) -> None:
    """Pass messages on until one side closes."""
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await sink.send_bytes(message.data)


async def serve(port: int, origin_port: int) -> None:
    connector = TCPConnector(limit=256, keepalive_timeout=60)
    async with ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar()
    ) as session:
        proxy = Proxy(f"http://127.0.0.1:{origin_port}", session)
        runner = web.ServerRunner(web.Server(proxy.answer, access_log=None, keepalive_timeout=300))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
