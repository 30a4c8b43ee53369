"""The parent of the workers: starts them, relays signals to them, replaces those that end.

It neither serves nor reads settings, and imports next to nothing: with one worker it costs a few
MiB.  The first worker reads the settings file and opens the listening sockets, and passes both to
the supervisor, which hands them to all other workers.  So a worker that is replaced costs no
connection that waits in a queue, and the settings it gets are the ones that were checked.

Workers obey messages, not signals: a terminal sends Ctrl-C to every process, and systemd SIGTERM,
which would count twice.
"""

import contextlib
import math
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence

from hopproxy.server.board import clear, connections_of, new_board
from hopproxy.server.channel import Channel, Ended, Message, close_all, in_memory
from hopproxy.server.past import Past
from hopproxy.server.place import Place
from hopproxy.server.say import say
from hopproxy.server.socket_files import SocketFiles
from hopproxy.signals import SIGNALS, STOP

#: Exit codes: as asked; a fault of ours.
DONE, FAULT = 0, 70
#: Seconds beyond the time that workers have to drain, and after a second stop, until they are
#: killed.
LATE, AT_ONCE = 5.0, 1.0
#: Seconds between two tries to start a worker that cannot serve, while others do.
RETRY = 10.0


def supervise() -> int:
    """Serve until a signal ends it; return the exit code."""
    return Supervisor().run()


class Supervisor:
    """Everything that it knows.  `held` are the listening sockets by address."""

    def __init__(self) -> None:
        self.places = [Place(0)]
        self.held: dict[str, int] = {}
        self.settings = -1  # the descriptor of the settings, once a worker has read them
        self.stopping = False
        self._board = new_board()
        self._past = Past()
        self._heard: deque[signal.Signals] = deque()
        self._poll = select.poll()
        self._bell, self._rope = _connected()
        self._files = SocketFiles()
        self._grace = 0.0
        self._reload_due = False
        self._kill_at = math.inf
        self._code: int | None = None  # once all is over

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> int:
        """Run until there is no worker and none is wanted."""
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only has to wake the poll
        self._poll.register(self._bell, select.POLLIN)
        try:
            with SIGNALS.obeyed_by(self._heard.append):
                while self._code is None:
                    self._turn()
        finally:
            for place in self.places:
                place.kill()
            signal.set_wakeup_fd(-1)
            self._files.remove_all()
        return self._code

    def _turn(self) -> None:
        now = time.monotonic()
        self._start_due(now)
        wait = min(self._kill_at, *(p.start_at for p in self.places if not p.pid), math.inf) - now
        ready = self._poll.poll(None if wait == math.inf else max(0.0, wait) * 1000 + 1)
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 4096)
        while self._heard:
            self._obey(self._heard.popleft())
        found = {fd for fd, _ in ready}
        for place in list(self.places):
            if place.channel is not None and place.channel.fileno() in found:
                self._hear(place)
        self._reap()
        if time.monotonic() >= self._kill_at:
            self._kill_at = math.inf
            self._kill_late()

    # -- signals -----------------------------------------------------------------------------

    def _obey(self, number: signal.Signals) -> None:
        if number in STOP:
            self._stop()
        elif number == signal.SIGHUP:
            self._reload_due = True
            self._reload()
        else:
            say(f"{number.name}: received, nothing to do")

    def _reload(self) -> None:
        """Have one worker read the settings file anew, once one serves."""
        for place in self.places:
            if place.channel is not None and place.serving_since is not None:
                self._reload_due = False
                if not self.stopping:
                    place.channel.send("reload")
                return

    def _stop(self) -> None:
        """Have the workers drain; the second time, have them stop at once."""
        now = time.monotonic()
        late = AT_ONCE if self.stopping else self._grace + LATE
        self._kill_at = min(self._kill_at, now + late)
        self.stopping = True
        for place in self.places:
            if place.channel is not None:
                place.channel.send("stop")
            place.start_at = math.inf
        # With the last worker's copies the sockets close: until then, it accepts.
        close_all(self.held.values())
        self.held = {}
        self._end_if_empty(DONE)

    def _kill_late(self) -> None:
        for place in self.places:
            if place.pid:
                say(f"{self._name(place)} does not end: killing it")
                place.kill()

    # -- workers -----------------------------------------------------------------------------

    def _start_due(self, now: float) -> None:
        for place in self.places:
            if not place.pid and place.start_at <= now:
                channel = place.start()
                self._poll.register(channel, select.POLLIN)
                first = self.settings < 0
                channel.send(
                    "begin",
                    (place.number, 0 if first else len(self.places), list(self.held)),
                    [self._board, *([] if first else [self.settings]), *self.held.values()],
                )
                self._past.tell(channel)

    def _reap(self) -> None:
        """Take the exit codes of workers, and those of orphans if this is process 1."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                for place in self.places:
                    if place.pid == pid:
                        self._ended(place, os.waitstatus_to_exitcode(status))

    def _ended(self, place: Place, code: int) -> None:
        now = time.monotonic()
        self._hear(place)  # its last report
        name = self._name(place)
        lost = connections_of(self._board, place.number)
        served_for = None if place.serving_since is None else now - place.serving_since
        self._forget(place)
        if self.settings < 0:  # it could not even begin, and has said why
            self._code = code if code >= 0 else 128 - code
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        if self.stopping:
            if code:
                say(f"{name} {how} while it drained: {_connections(lost)} lost")
            place.start_at = math.inf
            self._end_if_empty(FAULT if code == FAULT else DONE)
            return
        self._past.lose(lost)
        pause = place.back_off.ended(served_for)
        place.start_at = now + pause
        when = f" in {pause:g} s" if pause else ""
        say(f"{name} {how}: {_connections(lost)} lost; another one is started{when}")
        if pause == math.inf:
            self._give_up(place, now)

    def _give_up(self, place: Place, now: float) -> None:
        """Workers end before they serve.  While others serve, try again from time to time."""
        if any(other.serving_since is not None for other in self.places):
            place.start_at = now + RETRY
        else:
            say("no worker can serve: giving up")
            self._code = FAULT

    def _forget(self, place: Place) -> None:
        if place.channel is not None:
            self._poll.unregister(place.channel)
            place.channel.close()
        place.channel, place.pid, place.serving_since = None, 0, None
        if place.report >= 0:
            self._past.add(place.report)
            place.take_report(-1)
        clear(self._board, place.number)

    def _end_if_empty(self, code: int) -> None:
        if not any(place.pid for place in self.places):
            self._code = code

    def _name(self, place: Place) -> str:
        which = f"worker {place.number}" if len(self.places) > 1 else "the worker"
        return f"{which} (pid {place.pid})"

    # -- what workers say --------------------------------------------------------------------

    def _hear(self, place: Place) -> None:
        """Take every message of a worker that has come."""
        channel = place.channel
        with contextlib.suppress(BlockingIOError):
            while channel is not None:
                try:
                    message = channel.receive()
                except Ended:
                    self._poll.modify(channel, 0)  # its end follows
                    return
                try:
                    self._take(place, channel, message)
                finally:
                    message.close()

    def _take(self, place: Place, channel: Channel, message: Message) -> None:
        kind, body, fds = message.kind, message.body, message.fds
        if kind == "opened":
            SIGNALS.keep()
            workers, names, self._grace = body
            self.settings, *sockets = fds
            self.held = dict(zip(names, sockets, strict=True))
            fds.clear()  # they are ours now
            self._files.note(self.held)
            self.places += [Place(number) for number in range(1, workers)]
        elif kind == "changed":
            self._change(place, body, fds)
        elif kind == "reloaded":
            self._tell_others(place, kind, body)
        elif kind == "serving":
            place.serving_since = time.monotonic()
            if self._reload_due:
                self._reload()
        elif kind == "report":
            place.take_report(fds.pop())
        elif kind == "ask":
            self._ask(place, channel, *body)
        elif kind == "learned":
            self._past.learn(*body)
            self._tell_others(place, kind, body)

    def _tell_others(self, place: Place, kind: str, body: object, fds: Sequence[int] = ()) -> None:
        for other in self.places:
            if other.channel is not None and other is not place:
                other.channel.send(kind, body, fds)

    def _change(self, place: Place, body: tuple[int, list[str], float], fds: list[int]) -> None:
        """A worker has read new settings and opened their sockets: all others take them over."""
        _, names, self._grace = body
        self._tell_others(place, "changed", names, fds)
        close_all([self.settings, *self.held.values()])
        self.settings, *sockets = fds
        self.held = dict(zip(names, sockets, strict=True))
        fds.clear()  # they are ours now
        self._files.note(self.held)
        if self.stopping:
            close_all(self.held.values())
            self.held = {}

    def _ask(self, asker: Place, channel: Channel, number: int, question: object) -> None:
        """Pass a question of one worker on to all others.

        Each answers on a socket, of which the asker gets the other end.
        """
        roster: list[tuple[int, int, bool]] = []
        ends = [in_memory(self._past.dump())]
        for place in self.places:
            asked = False
            if place is not asker and place.channel is not None and place.serving_since is not None:
                theirs, ours = _connected()
                asked = place.channel.send("question", question, [ours])
                os.close(ours)
                if asked:
                    ends.append(theirs)
                else:
                    os.close(theirs)
            roster.append((place.number, place.pid, asked))
        channel.send("parts", (number, roster), ends)
        close_all(ends)


def _connected() -> tuple[int, int]:
    """The descriptors of two connected sockets; some sandboxes forbid pipes."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends[0].detach(), ends[1].detach()


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"
