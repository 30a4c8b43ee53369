"""Tells systemd the state of the service (sd_notify(3)), if systemd asks for it."""

import contextlib
import math
import os
import socket
import time

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Sends messages to the socket in NOTIFY_SOCKET.  Children do not inherit the variable.

    `environ` is what the next program in this process needs.  `interval` is how many
    seconds systemd allows between two messages of `alive`, halved; infinity if it does not ask.
    """

    def __init__(self) -> None:
        self.environ = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        for name in self.environ:
            del os.environ[name]
        address = self.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        micros = self.environ.get("WATCHDOG_USEC", "")
        for_us = self.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked = for_us and micros.isdecimal() and int(micros)
        self.interval = int(micros) / 2e6 if asked else math.inf
        self._stops = False

    def ready(self) -> None:
        """It serves: after the start, or again after a reload."""
        if not self._stops:
            self._tell("READY=1", "STATUS=serving")

    def reloading(self) -> None:
        """A reload or a take-over begins; `ready` follows."""
        micros = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={micros}", "STATUS=reloading")

    def stopping(self) -> None:
        """It drains.  `ready` says no more."""
        self._stops = True
        self._tell("STOPPING=1", "STATUS=draining")

    def alive(self) -> None:
        """It is alive (for systemd's watchdog)."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode(), self._address)
