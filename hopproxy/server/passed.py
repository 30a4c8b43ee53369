"""Listening sockets that this process was started with, by systemd or by a shell.

systemd passes them as descriptors from 3 on, and says so in the environment (sd_listen_fds(3)).
"""

import os
import socket

#: The first descriptor that systemd passes.
_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Passed:
    """The sockets of this process, by the names that a `bind` gives them; one instance, `PASSED`.

    `fd:3` is the one with that number, `systemd:NAME` and `systemd:NAME#2` are those of one name.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] | None = None

    def collect(self) -> dict[str, int]:
        """Find them, once.  Children inherit neither the sockets nor what the environment says."""
        if self.held is None:
            named = _named_by_systemd()
            listening = {f"fd:{fd}": fd for fd in _inherited() if _listens(fd)}
            self.held = listening | {
                name: fd for name, fd in named.items() if fd in listening.values()
            }
            for fd in listening.values():
                os.set_inheritable(fd, False)
        return self.held

    def count(self, name: str) -> int:
        """How many there are of this name."""
        number = 0
        while (f"{name}#{number + 1}" if number else name) in self.collect():
            number += 1
        return number

    def open(self, name: str) -> socket.socket | None:
        """A socket of our own for this one, None if there is none."""
        fd = self.collect().get(name)
        return None if fd is None else socket.socket(fileno=os.dup(fd))


def _named_by_systemd() -> dict[str, int]:
    pid, count, names, _ = (os.environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}  # they are for another process
    found: dict[str, int] = {}
    words = names.split(":") if names else []
    for at in range(int(count)):
        name = f"systemd:{words[at] if at < len(words) else 'unknown'}"
        same = sum(known.partition("#")[0] == name for known in found)
        found[f"{name}#{same + 1}" if same else name] = _FIRST + at
    return found


def _inherited() -> list[int]:
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        numbers = list(range(_FIRST, 64))
    return sorted(fd for fd in numbers if fd >= _FIRST and _is_inheritable(fd))


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def _listens(fd: int) -> bool:
    """Whether it is a stream socket that accepts connections."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        return sock.type == socket.SOCK_STREAM and bool(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    finally:
        sock.detach()


PASSED = Passed()
