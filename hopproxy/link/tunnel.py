"""After a switch of protocols: bytes both ways, with half-close, until both sides have ended.

One task waits for the whole of it; bytes are carried straight from the watch's events.  What one
side does not take yet is held, one receive at most, and until it has gone the other side is not
read.
"""

from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from hopproxy.errors import LinkError
from hopproxy.link.link import Link
from hopproxy.link.transport import TURN
from hopproxy.record import CloseReason

# For every message: a global, as those of `message.Body`.
_LATE = CloseReason.TUNNEL_TIMEOUT


class Flow:
    """One direction: from the link that is read to the link that is written to.

    `carried` counts bytes, `moved_at` is when the last ones moved.
    """

    def __init__(self, source: Link, sink: Link) -> None:
        self._source = source.transport
        self._sink = sink.transport
        self._rest: bytes | memoryview = source.buffer
        source.buffer = b""
        self.carried = len(self._rest)
        self.moved_at = self._source.now()
        self.done = False

    def pump(self) -> bool:
        """Carry what is at hand; whether there may be more, which has to wait for its turn.

        Raises LinkError.
        """
        if self._rest and not self._send(self._rest):
            return False
        source, sink = self._source, self._sink
        for _ in range(TURN):
            if self.done or not source.readable:
                return False
            data = source.receive_now()
            if data is None:
                return False
            if not data:
                self.done = True
                sink.shut_down()
                return False
            self.carried += len(data)
            if not self._send(data):
                return False
        return True

    def _send(self, data: bytes | memoryview) -> bool:
        """Send what is taken and hold the rest; whether there is none."""
        count = self._sink.send_now(data)
        if count:
            self.moved_at = self._sink.now()
        if count == len(data):
            self._rest = b""
            return True
        self._rest = memoryview(data)[count:]
        self._sink.tell_of_room()
        return False


class Tunnel:
    """Two links that carry one upgraded connection.

    Silence of both sides for `idle_timeout` seconds ends it, and so does a side that takes nothing
    for so long.  `carried` counts the bytes towards the client and towards the origin, `reason`
    says why it ended.
    """

    def __init__(self, client: Link, upstream: Link, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._flows = Flow(client, upstream), Flow(upstream, client)
        self._transports = client.transport, upstream.transport
        self._task: Task | None = None
        self._error: Exception | None = None
        self._over = False
        self.reason = CloseReason.TUNNEL_ENDED

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes towards the client, and towards the origin."""
        outwards, inwards = self._flows
        return inwards.carried, outwards.carried

    async def run(self) -> None:
        """Carry until both sides have sent FIN, one breaks, or silence.  Closes nothing.

        A checkpoint where it does not end at once.
        """
        self._pump()
        if not self._over:
            self._task = current_task()
            await wait_task_rescheduled(self._abort)
        if self._error is not None:
            raise self._error

    def _pump(self) -> None:
        """Something has happened on one of the two."""
        outwards, inwards = self._flows
        try:
            more = outwards.pump()
            more = inwards.pump() or more
        except LinkError as error:
            self._end(error.reason)
        except Exception as error:  # the watch must not fall with one tunnel: the task raises this
            self._error = error
            self._end(CloseReason.INTERNAL_ERROR)
        else:
            if outwards.done and inwards.done:
                self._end(CloseReason.TUNNEL_ENDED)
                return
            deadline = self._moved_at() + (0.0 if more else self._idle_timeout)
            for transport in self._transports:
                transport.park(self._pump, self._lapse, deadline, _LATE)

    def _moved_at(self) -> float:
        outwards, inwards = self._flows
        return max(outwards.moved_at, inwards.moved_at)

    def _lapse(self) -> None:
        """A side had its turn, or was silent for so long, or was closed under us."""
        for transport in self._transports:
            error = transport.take_error()
            if isinstance(error, LinkError) and error.reason is not CloseReason.TUNNEL_TIMEOUT:
                self._end(error.reason)
                return
        if self._transports[0].now() < self._moved_at() + self._idle_timeout:
            self._pump()
        else:
            self._end(CloseReason.TUNNEL_TIMEOUT)

    def _end(self, reason: CloseReason) -> None:
        self.reason = reason
        self._over = True
        self._unpark()
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def _abort(self, _: object) -> Abort:
        self._task = None
        self._unpark()
        return Abort.SUCCEEDED

    def _unpark(self) -> None:
        for transport in self._transports:
            transport.unpark()
