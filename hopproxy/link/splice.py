"""A long body from one socket to another, without a detour through this process (Linux).

One pipe serves a whole worker, since it is empty again before anybody else has a turn: what the
receiver does not take at once is read out of it, and waits as it would have otherwise.
"""

import contextlib
import errno
import fcntl
import logging
import os

from hopproxy.errors import LinkError
from hopproxy.link.link import Link
from hopproxy.link.transport import Transport
from hopproxy.message import NO_BODY, SIZED
from hopproxy.record import CloseReason

#: Bytes carried in one go, and how many must be left of a body for it to be worth it.
SIZE = 256 * 1024
LEAST = 128 * 1024

_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)

#: What a broken connection says.  Anything else (EPERM under seccomp, ENOSYS, EINVAL, ...) says
#: that splicing is not available here, whatever the reason.
_BROKEN = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EPIPE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EBADF,  # closed on our side meanwhile
    }
)

log = logging.getLogger("hopproxy")


class Pipe:
    """A pipe in the kernel, made when first needed.  `close` it in the end.

    Where splicing turns out not to be available, bodies are copied from then on.
    """

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None
        self._usable = hasattr(os, "splice")

    def suits(self, source: Link, sink: Link) -> bool:
        """Whether what comes next on this link is so much of a body that it had better be spliced.

        Nothing of it may have been read yet.  A splice never gets past the mark of urgent data.
        """
        if not self._usable or source.body is not SIZED or source.left < LEAST:
            return False
        if source.buffer or source.transport.urgent:
            return False
        ends = source.transport.endpoint, sink.transport.endpoint
        return ends[0].may_be_spliced and ends[1].may_be_spliced

    async def carry(self, source: Link, sink: Link) -> int:
        """Carry some of the body that `suits`; how many bytes, 0 where it suits no longer.

        What is not taken at once is written on the sink, for its `flush`.  Waits for the source.
        Raises LinkError as `read_body` does, or when the sink is broken.
        """
        late = source.transport.now() + source.body_timeout
        count = None
        while count is None:
            await source.transport.until_readable(late, CloseReason.BODY_TIMEOUT)
            if not self.suits(source, sink):
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
                source.transport.readable = source.transport.endpoint.has_input()
        left = self._drain(sink.transport, count)
        if left:
            sink.write(self._rest(left))
        if not self._usable:
            self.close()
        return count

    def close(self) -> None:
        """Close both ends, with what is between them."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)

    def _fill(self, source: Transport, count: int) -> int | None:
        """Take in what is at hand: 0 at a FIN, None if nothing is."""
        if self._ends is None and not self._open():
            return None
        assert self._ends is not None
        try:
            return os.splice(source.fd, self._ends[1], count)
        except BlockingIOError:
            source.readable = source.hung_up = False
            return None
        except OSError as error:
            if error.errno in _BROKEN:
                raise source.broken(error) from error
            self._give_up(error)
            self.close()
            return None

    def _open(self) -> bool:
        """Make the pipe; False where that is denied, or no descriptor is left."""
        try:
            self._ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._give_up(error)
            return False
        _widen(self._ends[1])
        return True

    def _give_up(self, error: OSError) -> None:
        """Copy bodies from now on."""
        self._usable = False
        log.warning("long bodies are copied from now on, splice is not available: %s", error)

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

    def _drain(self, sink: Transport, count: int) -> int:
        """Give out what is taken at once; how much is left.

        Raises LinkError where the sink is broken, and leaves nothing in the pipe then.
        """
        assert self._ends is not None
        try:
            while count:
                given = os.splice(self._ends[0], sink.fd, count)
                sink.sent += given
                count -= given
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _BROKEN:
                self.close()
                raise sink.broken(error) from error
            self._give_up(error)
        return count


def _widen(end: int) -> None:
    """Let the pipe hold `SIZE`, where that is allowed."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(end, _SET_SIZE, SIZE)
