"""Messages of the supervisor on standard error, written without waiting."""

import contextlib
import os
import select
import signal
import stat

_OWN = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def say(text: str) -> None:
    """Write one line, or drop it if nobody reads.

    The descriptor is shared with others, so it stays as it is (see `observe/sink.py`): a pipe or a
    terminal is opened again.
    """
    line = f"hopproxy: {text}\n".encode("utf-8", "backslashreplace")[: select.PIPE_BUF]
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(2).st_mode) or os.isatty(2):
            with contextlib.suppress(FileNotFoundError, PermissionError):
                _write_to_own("/proc/self/fd/2", line)
                return
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        if poll.poll(0):
            os.write(2, line)


def _write_to_own(path: str, line: bytes) -> None:
    fd = os.open(path, _OWN)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def end_of(code: int) -> str:
    """How a worker with this exit code has ended."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def connections(count: int) -> str:
    """So many connections."""
    return f"{count} connection{'' if count == 1 else 's'}"
