"""Opening a connection to an origin: a race between the addresses it has, within one bound.

The first address is tried at once, each further one as soon as an earlier one fails or has stayed
silent for a quarter of a second (RFC 8305).  The first connection wins, the others are closed.  No
task waits for any of this: the watch tells of each connection.
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

#: A family, and what `connect` takes in it: host, port (and more with IPv6), or a path.
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

#: Seconds that an address may stay silent before the next one is tried (RFC 8305 section 5).
ATTEMPT_DELAY = 0.25
#: Seconds for which an address that stayed silent comes last.
SLOW_FOR = 30.0
#: So many of them are remembered.
MOST_SLOW = 1024
#: Seconds between two looks at the full backlog of a Unix socket, which no event tells of.
BACKLOG_PAUSE = 0.01
#: Where the kernel begins to choose ports of its own: a connection could be made to itself.
OWN_PORTS = 32768


class Dial:
    """One connection that is being opened, to the fastest of the targets, until `deadline`.

    `done` gets a connected, non-blocking socket, or why there is none: ConnectFailed (504 when the
    time ran out, 502 else; LocalShortage when one of the targets could not even be tried), anything
    else for a fault of ours.  It is called from the watch, never within the call that begins the
    dial, and not once that was called off.  `slow` are targets that stayed silent, and when.
    """

    fd = -1  # the sockets are those of its attempts
    readable = urgent = False

    def __init__(
        self,
        address: OriginAddress,
        watch: Watch,
        deadline: float,
        done: Done,
        slow: dict[Target, float],
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
        self._slow = slow
        self._next_at = 0.0

    def begin(self, targets: list[Target]) -> None:
        """Try these (none: its name has no address)."""
        now = self._watch.now()
        self._askers = None
        self._targets = _in_turn(targets)
        if self._slow:
            self._targets.sort(key=lambda one: now - self._slow.get(one, -math.inf) < SLOW_FOR)
        # However many there are, each gets its turn before the time is over.
        self._delay = min(ATTEMPT_DELAY, (self.deadline - now) / max(1, len(targets)))
        try:
            again = self._advance(now)
        except (
            Exception
        ) as fault:  # of ours, and whoever begins a dial is in the middle of its books
            self._fault = fault
            again = now
        self._watch.wake_at(self, again)

    def ask(self, askers: "dict[Dial, None]") -> None:
        """Wait, as one of `askers`, for the addresses of a name; `begin` or `give_up` follows."""
        self._askers = askers
        askers[self] = None
        self._watch.wake_at(self, self.deadline)

    def give_up(self, error: Exception) -> None:
        """Nothing can be tried; `done` is told soon."""
        self._askers = None
        self._failure = error
        self._watch.wake_at(self, self._watch.now())

    def call_off(self) -> None:
        """Nobody wants it any more: no socket is left."""
        self.closed = True
        self._done = None
        self._drop()

    def settle(self, result: Result) -> None:
        """Tell how it has ended, once."""
        done, self._done = self._done, None
        if done is None:
            return
        self.closed = True
        self._drop()
        done(result)

    def on_ready(self, hung_up: bool) -> None:
        """No socket is its own."""

    def on_fault(self, error: Exception) -> None:
        """A fault of ours: `done` is told."""
        self.settle(error)

    def on_time(self, now: float) -> float:
        """Time to try again, to try the next, or to give up."""
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
        """The kernel has an answer for one of the attempts."""
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not number and not _is_own(attempt.target, sock):
            attempt.sock = None
            self._slow.pop(attempt.target, None)
            self.settle(sock)
            return
        number = number or errno.ECONNREFUSED
        self._fail(attempt, OSError(number, os.strerror(number)))
        self._watch.wake_at(self, self._watch.now())

    def _late(self) -> ConnectFailed:
        if self._askers is not None:
            slow = f"the name of {self.address} was not resolved in time"
            return ConnectFailed(slow, 504, "dns_timeout", "connect_timeout")
        late = f"{self.address} did not accept a connection in time"
        return ConnectFailed(late, 504, "connection_timeout", "connect_timeout")

    def _advance(self, now: float) -> float:
        """Try what is due; when to look again, should no event come before."""
        again = self.deadline
        for attempt in self._attempts[:]:
            if attempt.fd < 0:
                again = min(again, self._connect(attempt, now))
        while self._targets and (now >= self._next_at or not self._attempts):
            if len(self._slow) >= MOST_SLOW:
                self._slow.clear()
            self._slow.update((silent.target, now) for silent in self._attempts)
            attempt = _Attempt(self, self._targets.pop(0))
            self._attempts.append(attempt)
            self._next_at = now + self._delay
            again = min(again, self._connect(attempt, now))
        if self._targets:
            return min(again, self._next_at)
        return again if self._attempts else now

    def _connect(self, attempt: "_Attempt", now: float) -> float:
        """Begin an attempt; when to come back to it."""
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
        self._next_at = -math.inf  # the next one need not wait
        failure = _failed(self.address, attempt.target, error)
        if self._failure is None or isinstance(failure, LocalShortage):
            self._failure = failure  # a target that was not tried might have answered

    def _drop(self) -> None:
        self._watch.remove(self)
        if self._askers is not None:
            self._askers.pop(self, None)
        for attempt in self._attempts:
            attempt.close(self._watch)
        self._attempts.clear()


class _Attempt:
    """One socket of a dial, on its way to one target; `fd` is -1 until the kernel has begun."""

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
        """Over, whatever came of it; a socket that was connected stays open."""
        self.closed = True
        watch.forget(self)
        if self.sock is not None:
            self.sock.close()


def _in_turn(targets: list[Target]) -> list[Target]:
    """Each target once, the families by turns (RFC 8305 section 4)."""
    if len(targets) < 2:
        return targets[:]
    first = [target for target in targets if target[0] is targets[0][0]]
    others = [target for target in targets if target[0] is not targets[0][0]]
    mixed = [target for pair in zip_longest(first, others) for target in pair if target is not None]
    return list(dict.fromkeys(mixed))


def _is_own(target: Target, sock: socket.socket) -> bool:
    """Whether the kernel has connected a socket to itself, where nobody listens."""
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
    """Where to connect, None where a resolver has to be asked."""
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    numeric = _numeric(address.host)
    if numeric is not None:
        return [(numeric, (address.host, address.port))]
    if address.host == "localhost":
        # Servers listen on one of the two or on both (RFC 6761 section 6.3: never ask a resolver).
        return [
            (socket.AF_INET, ("127.0.0.1", address.port)),
            (socket.AF_INET6, ("::1", address.port)),
        ]
    return None


def _numeric(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address, which needs no resolver and no thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None
