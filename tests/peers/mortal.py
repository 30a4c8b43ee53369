"""python -m tests.peers.mortal FD LOG: an origin that may be killed at any moment.

It serves on a listening socket that its parent holds open, so that no connect is refused while it
is dead, and writes down each request before it answers: method, id, `first` or `later` on its
connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

THINKING = 0.003
"""Seconds between a request and its answer, in which a kill finds it unanswered."""


async def serve(fd: int, log: int) -> None:
    """Serve until killed."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = "first"
        while head := await _head(reader):
            method, target = head.split(b" ", 2)[:2]
            await reader.readexactly(_length(head))
            os.write(log, f"{method.decode()} {target[1:].decode()} {turn}\n".encode())
            turn = "later"
            await asyncio.sleep(THINKING)
            body = target[1:]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    async with await asyncio.start_server(connection, sock=listener) as server:
        await server.serve_forever()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


if __name__ == "__main__":
    path = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(serve(int(sys.argv[1]), path))
