"""Long bodies moved from socket to socket by the kernel, without copying them here (Linux).

One pipe serves a whole worker, because it is always empty when another connection gets its turn:
what the receiver does not accept at once is read out of the pipe and queued like any other output.
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
from hopproxy.reasons import CloseReason

#: Bytes moved at once, and how many must remain of a body for splicing to pay.
SIZE = 256 * 1024
LEAST = 128 * 1024

_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)

#: Errors of a broken connection.  Any other (EPERM under seccomp, ENOSYS, EINVAL, ...) means that
#: splicing is not available here.
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
        errno.EBADF,  # we have closed it
    }
)

log = logging.getLogger("hopproxy")


class Pipe:
    """A pipe in the kernel, created when first needed.  `close` it in the end.

    Once splicing turns out to be unavailable, bodies are copied.
    """

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None
        self._usable = hasattr(os, "splice")

    def suits(self, source: Link, sink: Link) -> bool:
        """Whether the rest of the body on `source` should be spliced.

        Only if none of it is in the buffer, and no urgent data: a splice stops at its mark.
        """
        if not self._usable or source.body is not SIZED or source.left < LEAST:
            return False
        if source.buffer or source.transport.urgent:
            return False
        ends = source.transport.endpoint, sink.transport.endpoint
        return ends[0].may_be_spliced and ends[1].may_be_spliced

    async def carry(self, source: Link, sink: Link) -> int:
        """Move a part of a body that `suits`; return how many bytes, 0 if it no longer suits.

        What the sink does not accept at once is queued for its `flush`.  Waits for the source.
        Raises LinkError as `read_body` does, or if the sink is broken.
        """
        late, reason = source.body_deadline()
        count = None
        while count is None:
            await source.transport.until_readable(late, reason)
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
            if not source.transport.hung_up:  # a splice does not show whether more has arrived
                source.transport.readable = source.transport.endpoint.has_input()
        left = self._drain(sink.transport, count)
        if left:
            sink.write(self._rest(left))
        if not self._usable:
            self.close()
        return count

    def close(self) -> None:
        """Close both ends and discard what is in the pipe."""
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)

    def _fill(self, source: Transport, count: int) -> int | None:
        """Move what has arrived into the pipe: 0 at a FIN, None if nothing has."""
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
        """Create the pipe; False if that is forbidden, or no descriptor is left."""
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
            self.close()  # bytes left in it must not reach another connection
            raise
        return rest

    def _drain(self, sink: Transport, count: int) -> int:
        """Move what the sink accepts at once out of the pipe; return how much is left in it.

        If the sink is broken, raises LinkError and empties the pipe.
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
    """Let the pipe hold `SIZE` bytes, if that is allowed."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(end, _SET_SIZE, SIZE)
