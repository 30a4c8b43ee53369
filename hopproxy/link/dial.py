"""Opening a connection to an origin: every address it has, within one bound.

No task waits for a connection, the watch tells of it.  Only a name needs one, to be resolved.
"""

import errno
import math
import os
import socket
from collections.abc import Callable
from functools import lru_cache

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from hopproxy.errors import ConnectFailed, LocalShortage
from hopproxy.link.shortage import is_shortage, is_shortage_of_look_up
from hopproxy.link.watch import Watch
from hopproxy.settings.units import OriginAddress

#: A family, and what `connect` takes in it.
Target = tuple[socket.AddressFamily, tuple[str, int] | str]
Result = socket.socket | Exception
Done = Callable[[Result], None]

_CAUSES = {
    errno.ECONNREFUSED: "connection_refused",
    errno.EHOSTUNREACH: "destination_ip_unroutable",
    errno.ENETUNREACH: "destination_ip_unroutable",
    errno.EADDRNOTAVAIL: "destination_ip_unroutable",
    errno.ETIMEDOUT: "connection_timeout",
}

#: Seconds between two looks at the full backlog of a Unix socket, which no event tells of.
BACKLOG_PAUSE = 0.01


class Dial:
    """One connection that is being opened, to one of the targets in turn, until `deadline`.

    `done` gets a connected, non-blocking socket, or why there is none: ConnectFailed (504 when the
    time ran out, 502 else; LocalShortage when one of the targets could not even be tried), anything
    else for a fault of ours.  It is called from the watch, never
    within the call that begins the dial, and not once that was called off.
    """

    def __init__(self, address: OriginAddress, watch: Watch, deadline: float, done: Done) -> None:
        self.deadline = deadline
        self.fd = -1
        self.closed = self.readable = self.urgent = False
        self.timer_at = math.inf
        self._address = address
        self._watch = watch
        self._done: Done | None = done
        self._targets: list[Target] = []
        self._failure: Exception | None = None
        self._sock: socket.socket | None = None

    def begin(self, targets: list[Target]) -> None:
        """Try these (none: its address has none, or there was no time to find out)."""
        self._targets = targets[:]
        self._watch.wake_at(self, self._attempt(self._watch.now()))

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
        if isinstance(result, Exception):
            self._drop()
        else:
            self._watch.remove(self)
            self._sock = None
            self.fd = -1
        done(result)

    def on_event(self, hung_up: bool) -> None:
        """The kernel has an answer."""
        sock = self._sock
        assert sock is not None
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail(OSError(number, os.strerror(number)))
            self._watch.wake_at(self, self._watch.now())
        else:
            self.settle(sock)

    def on_time(self, now: float) -> float:
        """Time to try again, to try the next, or to give up."""
        if now >= self.deadline:
            late = f"{self._address} did not accept a connection in time"
            self.settle(ConnectFailed(late, 504, "connection_timeout"))
        elif self._targets:
            return self._attempt(now)
        else:
            nowhere = ConnectFailed(f"{self._address} has no address", 502, "dns_error")
            self.settle(self._failure or nowhere)
        return math.inf

    def _attempt(self, now: float) -> float:
        """Try the next target; when to look again, should no event come before."""
        if not self._targets:
            return now
        family, target = self._targets[0]
        try:
            if self._sock is None:
                self._sock = socket.socket(family, socket.SOCK_STREAM)
                self._sock.setblocking(False)
            try:
                self._sock.connect(target)
            except BlockingIOError as error:
                if error.errno == errno.EAGAIN and family is socket.AF_UNIX:
                    return min(now + BACKLOG_PAUSE, self.deadline)
            self.fd = self._sock.fileno()
            self._watch.add_connecting(self)
        except Exception as error:  # whatever it is, the watch must not fall with one dial
            self._fail(error)
            return now
        return self.deadline

    def _fail(self, error: Exception) -> None:
        self._drop()
        if isinstance(error, OSError):
            failure = _failed(self._address, self._targets[0], error)
            if self._failure is None or isinstance(failure, LocalShortage):
                self._failure = failure  # a target that was not tried might have answered
            del self._targets[0]
        else:
            self._failure = error
            self._targets.clear()

    def _drop(self) -> None:
        self._watch.remove(self)
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self.fd = -1


async def connect(address: OriginAddress, timeout: float, watch: Watch) -> socket.socket:
    """A connected, non-blocking socket.  A checkpoint; cancelled, it leaves no socket behind.

    `timeout` seconds bound name resolution and all attempts together.  Raises as `Dial` tells.
    """
    task = current_task()
    results: list[Result] = []

    def done(result: Result) -> None:
        results.append(result)
        reschedule(task)

    def abort(_: object) -> Abort:
        dial.call_off()
        return Abort.SUCCEEDED

    dial = Dial(address, watch, watch.now() + timeout, done)
    targets = known_targets(address)
    if targets is None:
        with trio.move_on_at(dial.deadline):
            targets = await _resolved(address)
    dial.begin(targets or [])
    await wait_task_rescheduled(abort)
    result = results.pop()
    if isinstance(result, Exception):
        try:
            raise result
        finally:
            del result  # it holds this frame
    return result


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


async def _resolved(address: OriginAddress) -> list[Target]:
    try:
        found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and is_shortage_of_look_up(error):
            raise LocalShortage(f"this machine cannot look up the name of {address}") from error
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise ConnectFailed(
            f"the name of {address} cannot be resolved: {reason}", 502, "dns_error"
        ) from error
    return [(family, (str(target[0]), int(target[1]))) for family, _, _, _, target in found]


def _numeric(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address, which needs no resolver and no thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None
