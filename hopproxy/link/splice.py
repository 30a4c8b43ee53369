"""A long body from one socket to another, without a detour through this process (Linux).

One pipe serves a whole worker, since it is empty again before anybody else has a turn: what the
receiver does not take at once is read out of it, and waits as it would have otherwise.
"""

import contextlib
import errno
import fcntl
import os

from hopproxy.errors import LinkError
from hopproxy.link.endpoint import Endpoint
from hopproxy.link.link import Link
from hopproxy.message import NO_BODY, SIZED
from hopproxy.record import CloseReason

#: Bytes carried in one go, and how many must be left of a body for it to be worth it.
SIZE = 256 * 1024
LEAST = 128 * 1024

_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)


class Pipe:
    """A pipe in the kernel, made when first needed.  `close` it in the end."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None
        self._usable = hasattr(os, "splice")

    def suits(self, source: Link) -> bool:
        """Whether what comes next on this link is so much of a body that it had better be spliced.

        Nothing of it may have been read yet.
        """
        return self._usable and source.body is SIZED and source.left >= LEAST and not source.buffer

    async def carry(self, source: Link, sink: Link) -> int:
        """Carry some of the body that `suits`; how many bytes, 0 where it cannot be done here.

        A checkpoint if it has to wait.  Raises LinkError as `read_body` and `flush` do.
        """
        late = source.transport.now() + source.body_timeout
        count = None
        while count is None:
            await source.transport.until_readable(late, CloseReason.BODY_TIMEOUT)
            count = self._fill(source.transport, min(SIZE, source.left))
            if not self._usable:
                return 0
        if count == 0:
            raise LinkError(
                source.hop, CloseReason.INCOMPLETE, "the connection ended inside a body"
            )
        source.left -= count
        if not source.left:
            source.body = NO_BODY
        source.transport.received += count
        left = self._drain(sink.transport, count)
        if left:
            assert self._ends is not None
            rest = os.read(self._ends[0], left)
            await sink.transport.send_rest(memoryview(rest), sink.write_timeout)
        return count

    def close(self) -> None:
        """Close both ends, with what is between them."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)

    def _fill(self, source: Endpoint, count: int) -> int | None:
        """Take in what is at hand: 0 at a FIN, None if nothing is."""
        try:
            if self._ends is None:
                self._ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
                _widen(self._ends[1])
            return os.splice(source.fd, self._ends[1], count)
        except BlockingIOError:
            source.readable = source.hung_up = False
            return None
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EMFILE, errno.ENFILE):
                self._usable = False  # not on this system, or not now: bodies go the usual way
                return None
            raise source.broken(error) from error

    def _drain(self, sink: Endpoint, count: int) -> int:
        """Give out what is taken at once; how much is left.  Raises LinkError, and leaves none."""
        assert self._ends is not None
        try:
            while count:
                given = os.splice(self._ends[0], sink.fd, count)
                sink.sent += given
                count -= given
        except BlockingIOError:
            pass
        except OSError as error:
            self.close()
            raise sink.broken(error) from error
        return count


def _widen(end: int) -> None:
    """Let the pipe hold `SIZE`, where that is allowed."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(end, _SET_SIZE, SIZE)
