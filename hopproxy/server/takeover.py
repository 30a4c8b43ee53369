"""A new program under the same process id (SIGUSR2), and what it takes over from the old one.

The supervisor replaces itself (execve) and keeps its sockets and its children.  What the new
program has to know is in a file in memory.  The old workers serve until new ones do.
"""

import os
import signal
import socket
import sys
import time

from hopproxy.server.channel import Channel, close_all, content, in_memory
from hopproxy.server.place import Place

#: In the environment of the new program: the descriptor of the state.
VARIABLE = "HOPPROXY_TAKEOVER"
#: The number of the first old worker, above those of all new ones.
OLD = 10_000


class Inheritance:
    """What goes from one supervisor to the next: descriptors by name, and the old workers.

    `held` are the listening sockets, `passed` those that this process was started with.  `workers`
    each have a pid, a channel, a report (or -1), and whether they must retire.  `files` are those
    of Unix sockets, `past` is the descriptor of the counters of ended workers, `board` that of
    shared memory, `grace` how long a drain takes.
    """

    def __init__(
        self,
        held: dict[str, int],
        passed: dict[str, int],
        workers: list[tuple[int, int, int, bool]],
        files: dict[str, tuple[int, int]],
        past: int,
        board: int,
        grace: float,
    ) -> None:
        self.held, self.passed, self.workers, self.files = held, passed, workers, files
        self.past, self.board, self.grace = past, board, grace

    def written(self) -> bytes:
        """As bytes; `inheritance` reads it."""
        import json  # here: most supervisors never need it

        of_files = self.held, self.passed, self.workers, self.files
        return json.dumps([*of_files, self.past, self.board, self.grace]).encode()

    def descriptors(self) -> set[int]:
        """All of them."""
        of_workers = {fd for worker in self.workers for fd in worker[1:3] if fd >= 0}
        return {*self.held.values(), *self.passed.values(), *of_workers, self.past, self.board}

    def places(self) -> list[Place]:
        """The old workers."""
        found = []
        for number, (pid, channel, report, retired) in enumerate(self.workers):
            place = Place(OLD + number)
            place.pid, place.report, place.retired = pid, report, retired
            place.channel = Channel(socket.socket(fileno=channel))
            place.serving_since = time.monotonic()
            found.append(place)
        return found


def inherited_from(
    places: list[Place],
    held: dict[str, int],
    passed: dict[str, int],
    files: dict[str, tuple[int, int]],
    past: int,
    board: int,
    grace: float,
) -> Inheritance:
    """What the next program takes over."""
    workers = [
        (place.pid, place.channel.fileno(), place.report, place.retired)
        for place in places
        if place.pid and place.channel is not None
    ]
    return Inheritance(held, passed, workers, files, past, board, grace)


def start_check() -> int:
    """Start the installed program to check its settings file; returns the pid of that process.

    It writes to standard error only.
    """
    words = sys.argv[1:]
    command = [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(words)]]
    return os.posix_spawn(
        sys.executable,
        [*command, "check", *words[1:]],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
        setsigmask=(),
    )


def replace(state: Inheritance, environ: dict[str, str]) -> None:
    """Become the new program.  Returns only if that fails, with OSError.

    Signals wait until the new program hears them.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    written = in_memory(state.written())
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        for fd in (written, *state.descriptors()):
            os.set_inheritable(fd, True)
        os.execve(sys.executable, command, {**os.environ, **environ, VARIABLE: str(written)})
    finally:
        for fd in state.descriptors():
            os.set_inheritable(fd, False)
        close_all([written, state.past])
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def inheritance() -> Inheritance | None:
    """The inheritance from the previous program, if there was one.  Call it once."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    import json

    held, passed, workers, files, past, board, grace = json.loads(content(int(number)))
    os.close(int(number))
    state = Inheritance(
        held,
        passed,
        [(pid, channel, report, retired) for pid, channel, report, retired in workers],
        {path: (device, inode) for path, (device, inode) in files.items()},
        past,
        board,
        grace,
    )
    for fd in state.descriptors():
        os.set_inheritable(fd, False)
    return state
