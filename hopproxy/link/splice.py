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

        Nothing of it may have been read yet.  A splice never gets past the mark of urgent data.
        """
        if not self._usable or source.body is not SIZED or source.left < LEAST:
            return False
        return not source.buffer and not source.transport.urgent

    async def carry(self, source: Link, sink: Link) -> int:
        """Carry some of the body that `suits`; how many bytes, 0 where it suits no longer.

        What is not taken at once is written on the sink, for its `flush`.  A checkpoint if it has
        to wait.  Raises LinkError as `read_body` does, or when the sink is broken.
        """
        late = source.transport.now() + source.body_timeout
        count = None
        while count is None:
            await source.transport.until_readable(late, CloseReason.BODY_TIMEOUT)
            if not self.suits(source):
                return 0
            count = self._fill(source.transport, min(SIZE, source.left))
        if count == 0:
            raise LinkError(
                source.hop, CloseReason.INCOMPLETE, "the connection ended inside a body"
            )
        source.left -= count
        source.transport.received += count
        if not source.left:
            source.body = NO_BODY
            if not source.transport.hung_up:  # how little was spliced tells nothing of the rest
                source.transport.readable = source.transport.is_readable()
        left = self._drain(sink.transport, count)
        if left:
            sink.write(self._rest(left))
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
                self._usable = False  # bodies go the usual way from now on
                return None
            raise source.broken(error) from error

    def _rest(self, count: int) -> bytes:
        assert self._ends is not None
        try:
            rest = os.read(self._ends[0], count)
            if len(rest) < count:
                raise OSError(errno.EIO, "the pipe gives less than it took")
        except BaseException:
            self.close()  # what has stayed in it must not meet the next
            raise
        return rest

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
