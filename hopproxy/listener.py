"""Sockets that listen, and the loop that accepts."""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Awaitable, Callable

import trio

from hopproxy.settings.units import Bind

#: Connections taken in one go before others get a turn.
BATCH = 64
#: Seconds to wait when no file descriptor is left; closing ones need time to end.
PAUSE = 0.1
#: Seconds to wait where all connections that may be open are busy.
FULL_PAUSE = 0.01

Serve = Callable[[socket.socket, str], Awaitable[None]]


class CannotBind(Exception):
    """An address that cannot be listened on."""


def open_listener(bind: Bind, backlog: int) -> socket.socket:
    """A listening, non-blocking socket.  Raises CannotBind with the way out."""
    family = socket.AF_UNIX
    target: str | tuple[str, int] = bind.path
    if bind.kind == "tcp":
        family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
        target = (bind.host, bind.port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if bind.kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            _remove_stale(bind.path)
        sock.bind(target)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise CannotBind(f"cannot listen on {bind}: {_explained(error)}") from error
    sock.setblocking(False)
    return sock


def _remove_stale(path: str) -> None:
    """Take away the socket file of a process that is gone; one in use stays, and so fails."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
        except OSError:
            pass


def _explained(error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "another process listens there: stop it, or choose another port",
        errno.EACCES: "not permitted: take a port above 1023, or grant the capability",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    }
    return hints.get(error.errno or 0, error.strerror or str(error))


async def accept(
    listener: socket.socket,
    serve: Serve,
    nursery: trio.Nursery,
    make_room: Callable[[], None],
    limit: int = sys.maxsize,
) -> None:
    """Accept for ever, each connection served in `nursery`, which holds at most `limit`.

    Past that, and without a file descriptor left, it calls `make_room`; while nobody goes, new
    connections wait in the kernel's queue.  It neither ends nor spins.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        if len(nursery.child_tasks) >= limit:
            make_room()
            for _ in range(2):  # trio shuffles those it runs in one turn: after two he has gone
                await trio.lowlevel.checkpoint()
            if len(nursery.child_tasks) >= limit:
                await trio.sleep(FULL_PAUSE)
                continue
        for _ in range(min(BATCH, limit - len(nursery.child_tasks))):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    make_room()
                    await trio.sleep(PAUSE)
                    break
                continue  # the client had gone before it was accepted
            nursery.start_soon(serve, sock, address[0] if isinstance(address, tuple) else "")
