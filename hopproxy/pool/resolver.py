"""Name resolution in threads: by the system's resolver, and by DNS for SRV records.

A resolver blocks, sometimes for half a minute.  So each name is looked up in its own thread, once
for all dials that need it, and a name that hangs costs one thread.  The threads are daemons: the
process does not wait for them when it ends.
"""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from hopproxy import descriptors
from hopproxy.errors import ConnectFailed, LocalShortage, OriginRemoved
from hopproxy.link.dial import Dial, Shared, Target, known_targets
from hopproxy.link.shortage import is_shortage_of_look_up
from hopproxy.pool import service_records
from hopproxy.pool.service_records import Records
from hopproxy.settings.units import OriginAddress

#: Most names looked up at the same time; others wait for their turn.
MOST = 128

#: The result of `getaddrinfo`, the records of a service, or an error.
Answer = list[tuple[Any, ...]] | Records | Exception


class LookUp:
    """One name that is being looked up, and the dials that wait for it.

    `followers` get the answer first.  `service` if its SRV records are wanted.
    """

    __slots__ = ("askers", "followers", "host", "port", "service")

    def __init__(self, address: OriginAddress) -> None:
        self.host = address.host
        self.port = address.port
        self.service = address.kind == "srv"
        self.askers: dict[Dial, None] = {}
        self.followers: list[Callable[[Answer], None]] = []


class Resolver:
    """The look-ups of one trio run.  Create it in that run."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._look_ups: dict[tuple[str, bool], LookUp] = {}
        self._queue: deque[LookUp] = deque()
        self._running = 0
        self.shared = Shared(descriptors.limit())

    def begin(self, dial: Dial) -> None:
        """Begin a dial: now if its addresses are known, else when its name is resolved."""
        targets = known_targets(dial.address)
        if targets is not None:
            dial.begin(targets)
            return
        try:
            look_up = self._look_up(dial.address)
        except UnicodeError:
            dial.give_up(_unresolved(dial, "it is not a host name"))
            return
        dial.ask(look_up.askers)
        self._start_due()

    def look_up(self, address: OriginAddress, told: Callable[[Answer], None]) -> None:
        """Look up a name; `told` is called once with the answer."""
        try:
            look_up = self._look_up(address)
        except UnicodeError as error:
            told(error)
            return
        look_up.followers.append(told)
        self._start_due()

    def _look_up(self, address: OriginAddress) -> LookUp:
        """The look-up that is under way for this name, or a new one.  Raises UnicodeError."""
        key = (address.host, address.kind == "srv")
        look_up = self._look_ups.get(key)
        if look_up is None:
            address.host.encode("idna")
            look_up = self._look_ups[key] = LookUp(address)
            self._queue.append(look_up)
        return look_up

    def stop(self) -> None:
        """Forget every look-up; running threads are left alone."""
        self._look_ups.clear()
        self._queue.clear()

    def _start_due(self) -> None:
        while self._queue and self._running < MOST:
            look_up = self._queue.popleft()
            if not (look_up.askers or look_up.followers):  # all dials have ended
                self._forget(look_up)
                continue
            self._running += 1
            try:
                self._start(look_up)
            except RuntimeError as error:  # the process cannot have more threads
                self._ended(look_up, error)

    def _start(self, look_up: LookUp) -> None:
        """Look up a name in a thread; `_ended` is called in trio's thread."""
        name = f"look-up of {look_up.host}"
        threading.Thread(target=self._ask, args=(look_up,), name=name, daemon=True).start()

    def _ask(self, look_up: LookUp) -> None:
        answer: Answer
        try:
            if look_up.service:
                answer = service_records.look_up(look_up.host)
            else:
                answer = socket.getaddrinfo(look_up.host, look_up.port, type=socket.SOCK_STREAM)
        except Exception as error:  # the waiting dials get it, whatever it is
            answer = error.with_traceback(None)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(partial(self._ended, look_up, answer))

    def _ended(self, look_up: LookUp, answer: Answer) -> None:
        self._running -= 1
        self._forget(look_up)
        for told in look_up.followers:
            told(answer)
        for dial in list(look_up.askers):
            if isinstance(answer, Exception):
                dial.give_up(_failed(dial, answer))
            elif look_up.followers and _targets(answer, 1):  # its addresses are origins now
                dial.give_up(OriginRemoved(f"{dial.address} has been resolved"))
            else:
                dial.begin(_targets(answer, dial.address.port))
        self._start_due()

    def _forget(self, look_up: LookUp) -> None:
        key = (look_up.host, look_up.service)
        if self._look_ups.get(key) is look_up:
            del self._look_ups[key]


def _targets(answer: list[tuple[Any, ...]] | Records, port: int) -> list[Target]:
    """Where to connect, with this origin's port: the look-up may have had another one."""
    if isinstance(answer, Records):
        return [
            (socket.AF_INET6 if ":" in one.address else socket.AF_INET, (one.address, one.port))
            for one in answer.records
        ]
    return [(family, (target[0], port, *target[2:])) for family, _, _, _, target in answer]


def _failed(dial: Dial, error: Exception) -> Exception:
    if isinstance(error, RuntimeError):
        return LocalShortage(f"no thread left to look up the name of {dial.address}")
    if isinstance(error, UnicodeError):
        return _unresolved(dial, "it is not a host name")
    if not isinstance(error, OSError):
        return error
    if is_shortage_of_look_up(error):
        return LocalShortage(f"this machine cannot look up the name of {dial.address}")
    return _unresolved(dial, error.strerror or str(error))


def _unresolved(dial: Dial, reason: str) -> ConnectFailed:
    return ConnectFailed(
        f"the name of {dial.address} cannot be resolved: {reason}", 502, "dns_error"
    )
