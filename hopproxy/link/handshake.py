"""TLS handshakes: the transport that waits for one, and the queue that keeps live links served.

A handshake costs a fraction of a millisecond of CPU, as much as many requests.  When hundreds begin
at once, handshakes get turns of a millisecond; between two turns everything else that is ready is
served.
"""

from __future__ import annotations

import math
import os
import ssl
import time
from collections import deque
from collections.abc import Callable

from hopproxy.link.endpoint import RECEIVE_SIZE, Plain
from hopproxy.link.own_copy import own_copy
from hopproxy.link.stepper import Waker, wait
from hopproxy.link.tls import Tls
from hopproxy.link.transport import Transport
from hopproxy.link.watch import Watch
from hopproxy.reasons import CloseReason, Hop

#: Seconds of handshakes in one turn, and seconds after which the next turn begins at the latest.
TURN, ANEW = 0.001, 0.002

#: How a handshake ends.
FULL, RESUMED, FAILED = "full", "resumed", "failed"


class _Place:
    """A place in the queue: the wait for its turn."""

    __slots__ = ("waker",)

    def __init__(self) -> None:
        self.waker: Waker | None = None


class Handshakes:
    """The queue of one worker's handshakes, on both hops.

    `done` counts handshakes by hop, version and outcome; the version is empty if they failed.
    `saved` counts, by hop, the requests on ended links after the first one of each link: they
    needed no handshake.
    """

    def __init__(self, watch: Watch, clock: Callable[[], float] = time.perf_counter) -> None:
        self._watch = watch
        self._clock = clock
        self._places: deque[_Place] = deque()
        self._since = -math.inf
        self.timer_at = math.inf
        self.fd = -1  # an eventfd, from the first wait on
        self.closed = self.readable = self.urgent = False
        self.done: dict[tuple[Hop, str, str], int] = {}
        self.saved = dict.fromkeys(Hop, 0)

    @property
    def waiting(self) -> int:
        """How many have received bytes, and wait for their turn."""
        return len(self._places)

    def note(self, hop: Hop, tls: ssl.SSLObject | None) -> None:
        """A handshake has succeeded; or failed, without `tls`."""
        version, outcome = "", FAILED
        if tls is not None:
            version, outcome = tls.version() or "", RESUMED if tls.session_reused else FULL
        key = hop, version, outcome
        self.done[key] = self.done.get(key, 0) + 1

    async def turn(self) -> None:
        """Wait for a turn.  Does not wait if time is left in this one and nobody waits."""
        now = self._clock()
        if not self._places:
            if now >= self._since + ANEW:
                self._since = now
            if now < self._since + TURN:
                return
        place = _Place()
        self._places.append(place)
        if len(self._places) == 1:
            self._ask_for_turn()
        await wait(place)

    def _ask_for_turn(self) -> None:
        """Ask for `on_ready` in the next batch of events, or without an eventfd for `on_time` soon.

        The eventfd is handled together with the links; a deadline would cost a turn of trio's loop.
        """
        if self.fd < 0 and hasattr(os, "eventfd"):
            self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._watch.add_connecting(self)
        if self.fd >= 0:
            os.eventfd_write(self.fd, 1)
        else:
            self._watch.wake_at(self, self._watch.now())

    def close(self) -> None:
        """Close the eventfd: no handshake waits any more."""
        if self.fd >= 0:
            self.closed = True
            self._watch.forget(self)
            os.close(self.fd)
            self.fd = -1

    def on_ready(self, hung_up: bool) -> None:
        """A new turn."""
        self._take_turn()

    def on_time(self, now: float) -> float:
        """A new turn, where there is no eventfd."""
        self._take_turn()
        return math.inf

    def _take_turn(self) -> None:
        """Continue the handshakes that have waited longest."""
        self._since = began = self._clock()
        while self._places and self._clock() < began + TURN:
            place = self._places.popleft()
            waker, place.waker = place.waker, None
            if waker is not None:  # None: it has ended meanwhile
                waker.wake()
        if self._places:
            self._ask_for_turn()

    def on_fault(self, error: Exception) -> None:
        """A stepper raised an exception: the other handshakes go on."""
        if self._places:
            self._ask_for_turn()
        raise error


class TlsTransport(Transport):
    """A transport on TLS, or on a socket that TLS begins on later (`begin_tls`).

    The stream of TLS may end without an event of its own: by a close_notify.
    """

    __slots__ = ("_noted", "tls")

    def __init__(self, endpoint: Tls | Plain, watch: Watch, hop: Hop) -> None:
        super().__init__(endpoint, watch, hop)
        self.tls = endpoint if isinstance(endpoint, Tls) else None
        self._noted = False  # its buffers are freed once it is quiet

    def begin_tls(self, context: ssl.SSLContext) -> Tls:
        """From now on speak TLS, as a server."""
        assert isinstance(self.endpoint, Plain)
        below = self.endpoint
        tls = self.tls = Tls(below.channel, context, server_side=True, below=below)
        self.endpoint = self._channel = tls
        return tls

    def end_tls(self, below: Plain) -> None:
        """The handshake has failed, and the alert is sent: ignore what still arrives."""
        self.tls = None
        self.endpoint, self._channel = below, below.channel

    def receive_now(self, size: int = RECEIVE_SIZE) -> bytes | None:
        """As in `Transport`, without calling it, since this runs for each message."""
        try:
            data = self._channel.recv(size)
        except BlockingIOError:
            self.readable = self.hung_up = False
            return None
        except OSError as error:
            raise self.broken(error) from error
        count = len(data)
        if self.tls is not None and self.tls.ended:
            self.readable = True  # there is no event for a close_notify
            if self.hop is Hop.UPSTREAM:
                self.hung_up = True  # whenever the FIN comes
        elif count < size and not self.hung_up and not self.urgent:
            self.readable = not count
        self.received += count
        if not self._noted:
            self._note()
        return data

    def _note(self) -> None:
        self._noted = True
        self._watch.quiet.note(self)

    def shed(self) -> None:
        """As in `Transport`."""
        self._noted = False
        super().shed()

    on_ready = own_copy(Transport.on_ready)
    rest_until = own_copy(Transport.rest_until)
    send_now = own_copy(Transport.send_now)
    wait_until = own_copy(Transport.wait_until)

    async def shake(
        self,
        handshakes: Handshakes,
        deadline: float,
        late: CloseReason,
        first: bytes = b"",
    ) -> None:
        """Do the handshake.  Waits.

        `first` has been received by a caller who has waited for the first turn.
        Raises LinkError: `late` after `deadline`.  Raises OSError as `Tls.shake`.
        """
        assert self.tls is not None
        try:
            while True:
                if not first:
                    await handshakes.turn()
                if self.tls.shake(first):
                    break
                first = b""
                self.readable = self.hung_up  # a FIN may not have been read yet
                if self.tls.owes:
                    self.tell_of_room()
                await self.until_readable(deadline, late)
        except Exception:
            handshakes.note(self.hop, None)
            raise
        handshakes.note(self.hop, self.tls.tls)
        self._note()
        self.readable = self.hung_up or self.tls.inside  # it came with the last flight

    def saves(self, served: int) -> int:
        """How many handshakes this connection has saved, after `served` requests."""
        return max(0, served - 1) if self.tls is not None else 0
