"""Opening a connection to an origin: its addresses race, within one deadline (RFC 8305).

The first address is tried at once, the next one when an earlier one fails or has not answered for
a quarter of a second.  The first connection wins, the others are closed.  No task waits: the
watch's events drive the race.
"""

import errno
import math
import os
import socket
from collections.abc import Callable
from functools import lru_cache
from itertools import zip_longest
from typing import Any

from hopproxy.errors import ConnectFailed, LocalShortage
from hopproxy.link.shortage import is_shortage
from hopproxy.link.watch import Watch
from hopproxy.settings.units import OriginAddress

#: An address family, and the argument of `connect` for it.
Target = tuple[socket.AddressFamily, Any]
Result = socket.socket | Exception
Done = Callable[[Result], None]

_CAUSES = {
    errno.ECONNREFUSED: "connection_refused",
    errno.EHOSTUNREACH: "destination_ip_unroutable",
    errno.ENETUNREACH: "destination_ip_unroutable",
    errno.EADDRNOTAVAIL: "destination_ip_unroutable",
    errno.ETIMEDOUT: "connection_timeout",
}

#: Seconds without an answer before the next address is tried (RFC 8305 section 5).
ATTEMPT_DELAY = 0.25
#: Seconds for which an address that did not answer is tried last, and how many are remembered.
SLOW_FOR = 30.0
MOST_SLOW = 1024
#: Sockets that all dials together may open in addition to one each; fewer if descriptors are few.
MOST_FURTHER = 64
#: Seconds until a Unix socket with a full backlog is tried again; no event reports room in it.
BACKLOG_PAUSE = 0.01
#: Start of the ephemeral port range, in which a socket can connect to itself.
OWN_PORTS = 32768


class Shared:
    """What the dials of one worker share.

    `slow` are targets that did not answer, and when; `further` counts the sockets that dials have
    open in addition to one each, at most `most`.  `limit` is the limit of open files.
    """

    __slots__ = ("further", "most", "slow")

    def __init__(self, limit: int) -> None:
        self.slow: dict[Target, float] = {}
        self.further = 0
        self.most = min(MOST_FURTHER, limit // 16)


class Dial:
    """Opens one connection, to the target that answers first, until `deadline`.

    `done` is called once, with a connected non-blocking socket or with the error: ConnectFailed
    (504 after the deadline, else 502), LocalShortage if a target could not be tried, anything else
    for a fault.  It is always called later, by the watch, never by the method that starts the dial,
    and not after `call_off`.  If no further socket may be opened, the next target replaces the one
    that has been silent for longest.
    """

    def __init__(
        self,
        address: OriginAddress,
        watch: Watch,
        deadline: float,
        done: Done,
        shared: Shared,
    ) -> None:
        self.address = address
        self.deadline = deadline
        self.closed = False
        self.timer_at = math.inf
        self._watch = watch
        self._done: Done | None = done
        self._askers: dict[Dial, None] | None = None
        self._targets: list[Target] = []
        self._attempts: list[_Attempt] = []
        self._failure: Exception | None = None
        self._fault: Exception | None = None
        self._delay = ATTEMPT_DELAY
        self._shared = shared
        self._slow = shared.slow
        self._further = 0
        self._next_at = 0.0

    def begin(self, targets: list[Target]) -> None:
        """Try these targets; none if the name has no address."""
        now = self._watch.now()
        self._askers = None
        self._targets = _in_turn(targets)
        if self._slow:
            self._targets.sort(key=lambda one: now - self._slow.get(one, -math.inf) < SLOW_FOR)
        # Each of them is tried before the deadline, however many there are.
        self._delay = min(ATTEMPT_DELAY, (self.deadline - now) / max(1, len(targets)))
        try:
            again = self._advance(now)
        except Exception as fault:  # the caller's bookkeeping is not consistent yet: raise it later
            self._fault = fault
            again = now
        self._watch.brief.wake_at(self, again)

    def ask(self, askers: "dict[Dial, None]") -> None:
        """Wait in `askers` for the addresses of a name; `begin` or `give_up` follows."""
        self._askers = askers
        askers[self] = None
        self._watch.brief.wake_at(self, self.deadline)

    def give_up(self, error: Exception) -> None:
        """Nothing can be tried: `done` is called soon, with this error."""
        self._askers = None
        self._failure = error
        self._watch.brief.wake_at(self, self._watch.now())

    def call_off(self) -> None:
        """Cancel the dial: close its sockets, and do not call `done`."""
        self.closed = True
        self._done = None
        self._drop()

    def settle(self, result: Result) -> None:
        """Call `done` with the result, once."""
        done, self._done = self._done, None
        if done is None:
            return
        self.closed = True
        try:
            self._drop()
        finally:
            done(result)

    def on_fault(self, error: Exception) -> None:
        """A callback raised an unexpected exception: the dial ends with it."""
        if self._done is None:  # it was called already, and has raised this
            raise error
        self.settle(error)

    def on_time(self, now: float) -> float:
        """Try again, try the next target, or give up."""
        if self._fault is not None:
            raise self._fault
        if now >= self.deadline:
            self.settle(self._late())
        elif self._askers is not None:
            return self.deadline
        elif not self._targets and not self._attempts:
            nowhere = ConnectFailed(f"{self.address} has no address", 502, "dns_error")
            self.settle(self._failure or nowhere)
        else:
            return self._advance(now)
        return math.inf

    def answered(self, attempt: "_Attempt", sock: socket.socket) -> None:
        """An attempt has connected or failed."""
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not number and not _is_own(attempt.target, sock):
            attempt.sock = None
            self._slow.pop(attempt.target, None)
            self.settle(sock)
            return
        number = number or errno.ECONNREFUSED
        self._fail(attempt, OSError(number, os.strerror(number)))
        self._watch.brief.wake_at(self, self._watch.now())

    def _late(self) -> ConnectFailed:
        if self._askers is not None:
            slow = f"the name of {self.address} was not resolved in time"
            return ConnectFailed(slow, 504, "dns_timeout", "connect_timeout")
        late = f"{self.address} did not accept a connection in time"
        return ConnectFailed(late, 504, "connection_timeout", "connect_timeout")

    def _advance(self, now: float) -> float:
        """Start the attempts that are due; return when to call this again if no event comes."""
        again = self.deadline
        for attempt in self._attempts[:]:
            if attempt.fd < 0:
                again = min(again, self._connect(attempt, now))
        while self._targets and (now >= self._next_at or not self._attempts):
            if len(self._slow) >= MOST_SLOW:
                self._slow.clear()
            self._slow.update((silent.target, now) for silent in self._attempts)
            if self._attempts and self._shared.further >= self._shared.most:
                self._attempts.pop(0).close(self._watch)
            attempt = _Attempt(self, self._targets.pop(0))
            self._attempts.append(attempt)
            self._count()
            self._next_at = now + self._delay
            again = min(again, self._connect(attempt, now))
        if self._targets:
            return min(again, self._next_at)
        return again if self._attempts else now

    def _connect(self, attempt: "_Attempt", now: float) -> float:
        """Start an attempt; return when to try it again, inf if an event will come."""
        family, target = attempt.target
        try:
            if attempt.sock is None:
                attempt.sock = socket.socket(family, socket.SOCK_STREAM)
                attempt.sock.setblocking(False)
            try:
                attempt.sock.connect(target)
            except BlockingIOError as error:
                if error.errno == errno.EAGAIN and family is socket.AF_UNIX:
                    return now + BACKLOG_PAUSE
            attempt.fd = attempt.sock.fileno()
            self._watch.add_connecting(attempt)
        except OSError as error:
            self._fail(attempt, error)
        return math.inf

    def _fail(self, attempt: "_Attempt", error: OSError) -> None:
        attempt.close(self._watch)
        self._attempts.remove(attempt)
        self._count()
        self._next_at = -math.inf  # try the next one at once
        failure = _failed(self.address, attempt.target, error)
        if self._failure is None or isinstance(failure, LocalShortage):
            self._failure = failure  # a shortage wins: the target itself was not tried

    def _drop(self) -> None:
        self._watch.brief.forget_deadline(self)
        if self._askers is not None:
            self._askers.pop(self, None)
        for attempt in self._attempts:
            attempt.close(self._watch)
        self._attempts.clear()
        self._count()

    def _count(self) -> None:
        further = len(self._attempts) - 1
        if further > 0 or self._further:
            further = max(0, further)
            self._shared.further += further - self._further
            self._further = further


class _Attempt:
    """One socket of a dial, connecting to one target.  `fd` is -1 until `connect` has begun."""

    __slots__ = ("_dial", "closed", "fd", "readable", "sock", "target", "urgent")

    def __init__(self, dial: Dial, target: Target) -> None:
        self.fd = -1
        self.closed = self.readable = self.urgent = False
        self.sock: socket.socket | None = None
        self.target = target
        self._dial = dial

    def on_ready(self, hung_up: bool) -> None:
        assert self.sock is not None
        self._dial.answered(self, self.sock)

    def on_fault(self, error: Exception) -> None:
        self._dial.on_fault(error)

    def close(self, watch: Watch) -> None:
        """End the attempt.  The socket that won has been taken out before, and stays open."""
        self.closed = True
        watch.forget(self)
        if self.sock is not None:
            self.sock.close()


def _in_turn(targets: list[Target]) -> list[Target]:
    """Each target once, with alternating address families (RFC 8305 section 4)."""
    if len(targets) < 2:
        return targets[:]
    first = [target for target in targets if target[0] is targets[0][0]]
    others = [target for target in targets if target[0] is not targets[0][0]]
    mixed = [target for pair in zip_longest(first, others) for target in pair if target is not None]
    return list(dict.fromkeys(mixed))


def _is_own(target: Target, sock: socket.socket) -> bool:
    """Whether the socket is connected to itself, which can happen if nobody listens."""
    family, address = target
    if family is socket.AF_UNIX or address[1] < OWN_PORTS:
        return False
    return bool(sock.getsockname()[:2] == address[:2])


def _failed(address: OriginAddress, target: Target, error: OSError) -> ConnectFailed:
    text = error.strerror or str(error)
    if is_shortage(error, *target):
        return LocalShortage(f"this machine cannot open a connection to {address}: {text}")
    cause = _CAUSES.get(error.errno or 0, "destination_unavailable")
    return ConnectFailed(f"{address} cannot be reached: {text}", 502, cause)


@lru_cache(256)
def known_targets(address: OriginAddress) -> list[Target] | None:
    """Where to connect; None if the name must be resolved."""
    if address.kind == "srv":
        return None
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    numeric = _numeric(address.host)
    if numeric is not None:
        return [(numeric, (address.host, address.port))]
    if address.host == "localhost":
        # Servers listen on one or both.  A resolver is never asked (RFC 6761 section 6.3).
        return [
            (socket.AF_INET, ("127.0.0.1", address.port)),
            (socket.AF_INET6, ("::1", address.port)),
        ]
    return None


def _numeric(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address, None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None
