"""One HTTP/2 client connection: an exchange for each of its streams, and how it ends."""

from __future__ import annotations

import trio

from hopproxy.errors import Denied, HopError, LinkError, note_failure
from hopproxy.link.faults import contain
from hopproxy.link.h2 import H2Link
from hopproxy.link.h2_stream import H2Stream
from hopproxy.proxy.exchange import exchange, refuse
from hopproxy.reasons import CloseReason, Hop
from hopproxy.record import ExchangeRecord
from hopproxy.server.served import Owner

#: Why a stream is reset with HTTP_1_1_REQUIRED (RFC 9113 section 7): browsers then use HTTP/1.1.
HTTP_1 = "NTLM and Negotiate authenticate a connection, and need HTTP/1.1"


class H2Connection:
    """Serves one HTTP/2 link.  `in_task` once a task waits for its end.

    Its exchanges are always stepped by events; the task only waits, and cuts them if it is
    cancelled.
    """

    __slots__ = ("_ended", "client", "in_task", "owner")

    def __init__(self, client: H2Link, owner: Owner) -> None:
        self.client = client
        self.owner = owner
        self.in_task = False
        self._ended: trio.Event | None = None

    def start(self, data: bytes = b"") -> None:
        """Serve the connection; `data` was read of it already."""
        self.client.start(self, data)

    # -- called by the link ------------------------------------------------------------------

    def begin(self, stream: H2Stream) -> None:
        """A request has arrived."""
        terms = self.owner.terms
        if stream.refusal is not None:
            stream.begin(refuse(stream, stream.refusal, terms))
        elif not (request := stream.request).binds:
            stream.begin(exchange(stream, request, terms))
        else:
            self._log(Denied(HTTP_1), stream)
            self.client.on_stream_end(stream)

    def on_violation(self, error: HopError) -> None:
        """The client has broken a rule of the connection: log it like a refused request."""
        self._log(error)

    def _log(self, error: HopError, stream: H2Stream | None = None) -> None:
        client, terms = self.client, self.owner.terms
        now = client.now()
        record = ExchangeRecord(client.peer, client.number, client.served, now)
        if stream is not None:
            record.stream = stream.stream_id
            record.method, record.target, record.host = stream.glimpse(error)
        note_failure(record, error, client.limits)
        record.ended = now
        terms.unrouted.add(record)
        if terms.log is not None:
            terms.log(record)

    def on_end(self, reason: CloseReason) -> None:
        """The connection must be closed."""
        self.owner.close(self, reason)
        if self._ended is not None:
            self._ended.set()

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: end this connection, and nothing else."""
        self.client.on_fault(error)

    # -- the worker stops --------------------------------------------------------------------

    def announce_close(self) -> None:
        """The worker is about to stop, but still serves: tell the client to go elsewhere."""
        self.client.leave(CloseReason.DRAINING)

    def end_idle(self) -> None:
        """Close the link, which is idle, after a round trip: requests may be on their way."""
        self.client.leave(CloseReason.DRAINING)

    @property
    def under_way(self) -> int:
        """How many requests are being served."""
        return len(self.client.streams) + len(self.client.parked)

    def close(self) -> None:
        """Cut everything that is under way."""
        for stream in list(self.client.streams):
            stream.close()
        self.client.end(LinkError(Hop.CLIENT, CloseReason.STOPPED, "stopped"))

    def move_to_task(self) -> None:
        """`run_in_task` follows."""
        self.in_task = True
        self._ended = trio.Event()

    async def run_in_task(self) -> None:
        """Wait until the connection has ended.  Cuts it when cancelled."""
        assert self._ended is not None
        try:
            await self._ended.wait()
        finally:
            try:
                self.close()
            except Exception as error:
                contain(self, error)
