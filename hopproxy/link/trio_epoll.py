"""Finding the epoll of trio itself, for `link.readiness`."""

import contextlib
import os
import re
from pathlib import Path

import trio
from trio.lowlevel import wait_readable

#: Information about each descriptor; for an epoll, which descriptors it watches.
FDINFO = "/proc/self/fdinfo"


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
    inode = os.fstat(fd).st_ino
    watches = re.compile(rf"^tfd:\s*{fd}\s.*\bino:0*{inode:x}\b", re.MULTILINE)
    found = []
    try:
        for entry in Path(FDINFO).iterdir():
            with contextlib.suppress(OSError):  # the folder's own descriptor
                if watches.search(entry.read_text()):
                    found.append(int(entry.name))
    except OSError:
        return None
    return found[0] if len(found) == 1 else None
