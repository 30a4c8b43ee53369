"""After a protocol switch: bytes in both directions, with half-close, until both sides have ended.

The exchange waits once for the whole tunnel; events move the bytes directly.  What one side does
not accept yet is held back, at most one receive, and the other side is not read until it is sent.
"""

from typing import Protocol

from hopproxy.errors import LinkError
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.transport import TURN
from hopproxy.reasons import CloseReason, Hop, Owner

# A global is faster than an attribute of the class (see `message.Body`).
_LATE = CloseReason.TUNNEL_TIMEOUT


class TunnelSocket(Protocol):
    """What a tunnel needs of an endpoint."""

    @property
    def cut(self) -> bool: ...
    def shut_down(self) -> None:
        """End our side."""

    def cut_short(self) -> None:
        """What was sent is incomplete."""


class TunnelTransport(Protocol):
    """What a tunnel needs of a transport; see `Transport`."""

    waker: Waker | None
    error: Exception | None

    @property
    def endpoint(self) -> TunnelSocket: ...
    @property
    def readable(self) -> bool: ...
    @property
    def pending(self) -> bool: ...
    def now(self) -> float: ...
    def receive_now(self) -> bytes | None: ...
    def send_now(self, data: bytes | memoryview, /) -> int: ...
    def tell_of_room(self) -> object: ...
    def wait_until(self, deadline: float, late: CloseReason) -> None: ...
    def raise_error(self) -> None: ...


class TunnelEnd(Protocol):
    """One end of a tunnel: a link, or a stream of an HTTP/2 link."""

    buffer: bytes

    @property
    def transport(self) -> TunnelTransport: ...


class Flow:
    """One direction: from `source` to `sink`.

    `carried` counts bytes, `moved_at` is when the sink last accepted some, `done` after a FIN.
    """

    def __init__(self, source: TunnelEnd, sink: TunnelEnd) -> None:
        self._source = source.transport
        self._sink = sink.transport
        self._rest: bytes | memoryview = source.buffer
        source.buffer = b""
        self.carried = len(self._rest)
        self.moved_at = self._source.now()
        self.done = False

    def pump(self) -> bool:
        """Move what has arrived; return True if there may be more, left for the next turn.

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
                if source.endpoint.cut:
                    sink.endpoint.cut_short()
                sink.endpoint.shut_down()
                return False
            self.carried += len(data)
            if not self._send(data):
                return False
        return True

    def settled(self) -> bool:
        """After the FIN: whether the sink has sent all that it accepted.  Raises LinkError."""
        if not self._sink.pending:
            return True
        self._sink.send_now(b"")  # raises what has ended it meanwhile
        return False

    def _send(self, data: bytes | memoryview) -> bool:
        """Send what the sink accepts and hold back the rest; True if there is no rest."""
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
    """Two ends that carry one upgraded connection.

    It ends after `idle_timeout` seconds in which no byte was moved.  `cut_by` is the error that has
    ended it, None if both sides have sent FIN.  As a `Wait` it is the exchange's wait for the end;
    as a `Waker` both transports wake it.
    """

    def __init__(self, client: TunnelEnd, upstream: TunnelEnd, idle_timeout: float) -> None:
        self._idle_timeout = idle_timeout
        self._flows = Flow(client, upstream), Flow(upstream, client)
        self._transports = client.transport, upstream.transport
        self.waker: Waker | None = None
        self.cut_by: LinkError | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes sent to the client, and to the origin."""
        outwards, inwards = self._flows
        return inwards.carried, outwards.carried

    async def run(self) -> None:
        """Move bytes until both sides have sent FIN, one breaks, or the timeout.

        Closes nothing; `reason_for` says why it ended.
        """
        try:
            self._pump()
            if not self._ended:
                await wait(self)
        except LinkError:
            if not self._ended:  # else the client has left a tunnel that had ended
                raise
        finally:
            self.waker = None
            for transport in self._transports:
                transport.waker = None
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its traceback refers to this frame

    def reason_for(self, hop: Hop) -> CloseReason:
        """Why the link of this hop ends: an error on the other hop is not the reason here."""
        cut = self.cut_by
        if cut is not None and (cut.at is hop or cut.reason.owner is Owner.TIMEOUT):
            return cut.reason
        return CloseReason.TUNNEL_ENDED

    def wake(self) -> None:
        """An event, a deadline or a fault on one of the two links."""
        client, upstream = self._transports
        if (client.error or upstream.error) and self._over():
            return
        client.waker = upstream.waker = self  # set first: faults are passed to the waker
        self._pump()

    def _over(self) -> bool:
        """Whether the error of a transport ends the tunnel.  Its deadline may have moved."""
        for transport in self._transports:
            try:
                transport.raise_error()
            except LinkError as error:
                if error.reason is _LATE:
                    error.at = Hop.UPSTREAM  # the setting is one of its hop
                    if transport.now() < self._moved_at() + self._idle_timeout:
                        continue
                self._end(error)
                return True
            except Exception as fault:  # unexpected: the exchange raises it
                self._error = fault
                self._end(None)
                return True
        return False

    def _pump(self) -> None:
        outwards, inwards = self._flows
        try:
            more = outwards.pump()
            more = inwards.pump() or more
            over = outwards.done and inwards.done and outwards.settled() and inwards.settled()
        except LinkError as error:
            self._end(error)
            return
        if over:
            self._end(None)
            return
        deadline = self._moved_at() + (0.0 if more else self._idle_timeout)
        for transport in self._transports:
            transport.wait_until(deadline, _LATE)
            transport.waker = self

    def _moved_at(self) -> float:
        outwards, inwards = self._flows
        return max(outwards.moved_at, inwards.moved_at)

    def _end(self, error: LinkError | None) -> None:
        self._ended = True
        if error is not None:
            self.cut_by = error.with_traceback(None)  # it refers to frames that refer to this
        for transport in self._transports:
            transport.waker = None
            if error is not None and error.reason.owner is not Owner.TIMEOUT:
                transport.endpoint.cut_short()
        waker, self.waker = self.waker, None
        if waker is not None:
            waker.wake()
