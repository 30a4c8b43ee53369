"""Finding the epoll of trio itself, for `link.readiness`."""

import contextlib
import os
import re
from pathlib import Path

import trio
from trio.lowlevel import wait_readable

#: Information about each descriptor; for an epoll, which descriptors it watches.
FDINFO = "/proc/self/fdinfo"
#: The name of an epoll in /proc/self/fd.
EPOLL = "anon_inode:[eventpoll]"
_WATCHED = re.compile(r"^tfd:\s*(\d+)\s.*\bino:0*([0-9a-f]+)\b", re.MULTILINE)


def is_guest() -> bool:
    """Whether trio runs inside another loop, or might."""
    context = getattr(trio._core._run, "GLOBAL_RUN_CONTEXT", None)
    guest = getattr(getattr(context, "runner", None), "is_guest", None)
    return guest is not False


async def find_epoll() -> int | None:
    """The descriptor of this trio run's epoll, None if it cannot be found for certain."""
    try:
        mark, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # forbidden, or no descriptor is left
        return None
    try:
        os.write(end, b"x")
        await wait_readable(mark)
        return _epoll_of(mark)
    finally:
        trio.lowlevel.notify_closing(mark)
        os.close(mark)
        os.close(end)


def _epoll_of(fd: int) -> int | None:
    """The only epoll of this process that watches `fd`, matched by number and inode."""
    watched = str(fd), f"{os.fstat(fd).st_ino:x}"
    found = []
    try:
        for name in os.listdir(FDINFO):
            with contextlib.suppress(OSError):  # the folder's own descriptor
                if os.readlink(f"/proc/self/fd/{name}") != EPOLL:
                    continue
                if watched in _WATCHED.findall(Path(FDINFO, name).read_text()):
                    found.append(int(name))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
