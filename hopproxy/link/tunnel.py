"""After a switch of protocols: bytes both ways, with half-close, until both sides have ended.

The exchange waits once for the whole of it; bytes are carried straight from the watch's events.
What one side does not take yet is held, one receive at most, and until it has gone the other side
is not read.
"""

from hopproxy.errors import LinkError
from hopproxy.link.link import Link
from hopproxy.link.stepper import Waker, wait
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
                sink.endpoint.shut_down()
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
    says why it ended.  It is what the exchange waits for, and what both transports wake.
    """

    def __init__(self, client: Link, upstream: Link, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._flows = Flow(client, upstream), Flow(upstream, client)
        self._transports = client.transport, upstream.transport
        self.waker: Waker | None = None
        self.reason: CloseReason | None = None
        self._error: Exception | None = None

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes towards the client, and towards the origin."""
        outwards, inwards = self._flows
        return inwards.carried, outwards.carried

    async def run(self) -> CloseReason:
        """Carry until both sides have sent FIN, one breaks, or silence; why it ended.

        Closes nothing.
        """
        try:
            self._pump()
            if self.reason is None:
                await wait(self)
        finally:
            self.waker = None
            for transport in self._transports:
                transport.waker = None
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it holds this frame
        assert self.reason is not None
        return self.reason

    def wake(self) -> None:
        """Something has happened on one of the two, or nothing for too long."""
        client, upstream = self._transports
        if (client.error or upstream.error) and self._over():
            return
        client.waker = upstream.waker = self  # first: a fault is told to who waits here
        self._pump()

    def _over(self) -> bool:
        """Why a transport has woken us without an event; whether that ends the tunnel."""
        for transport in self._transports:
            try:
                transport.raise_error()
            except LinkError as error:
                silent = transport.now() >= self._moved_at() + self._idle_timeout
                if error.reason is not CloseReason.TUNNEL_TIMEOUT or silent:
                    self._end(error.reason)
                    return True
            except Exception as fault:  # of ours: the exchange raises it
                self._error = fault
                self._end(CloseReason.INTERNAL_ERROR)
                return True
        return False

    def _pump(self) -> None:
        outwards, inwards = self._flows
        try:
            more = outwards.pump()
            more = inwards.pump() or more
        except LinkError as error:
            self._end(error.reason)
            return
        if outwards.done and inwards.done:
            self._end(CloseReason.TUNNEL_ENDED)
            return
        deadline = self._moved_at() + (0.0 if more else self._idle_timeout)
        for transport in self._transports:
            transport.wait_until(deadline, _LATE)
            transport.waker = self

    def _moved_at(self) -> float:
        outwards, inwards = self._flows
        return max(outwards.moved_at, inwards.moved_at)

    def _end(self, reason: CloseReason) -> None:
        self.reason = reason
        for transport in self._transports:
            transport.waker = None
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()
