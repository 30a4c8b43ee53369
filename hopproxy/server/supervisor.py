"""The parent of the workers: starts them, relays signals to them, replaces those that end.

It neither serves nor reads settings, and imports very little, so it takes only a few MiB.  The
first worker reads the settings file and opens the listening sockets, and passes both to the
supervisor, which passes them to all other workers.  So if a worker is replaced, no connection in a
queue is lost, and the new worker gets the settings that were checked.

Workers obey messages, not signals: a terminal sends Ctrl-C to every process, and systemd sends
SIGTERM to all, which would count twice.
"""

import contextlib
import math
import os
import select
import signal
import time
from collections import deque

from hopproxy.descriptors import raise_limit
from hopproxy.exits import BAD_CONFIGURATION, DONE, FAULT
from hopproxy.server.board import connections_of, lack_of_room
from hopproxy.server.channel import Channel, Ended, Message
from hopproxy.server.crew import Crew, connected
from hopproxy.server.notify import Notifier
from hopproxy.server.place import RETIRING, Place
from hopproxy.server.reading import Reading
from hopproxy.server.say import connections, end_of, say
from hopproxy.server.takeover import inheritance
from hopproxy.server.upgrade import Upgrade
from hopproxy.signals import SIGNALS, STOP

#: Seconds until workers are killed: after their time to drain, and after a second stop.
LATE, AT_ONCE = 5.0, 1.0
#: Seconds between two tries to start a worker that cannot serve, while others do.
RETRY = 10.0
#: What workers say of the settings and sockets that they have read and opened.
OF_SETTINGS = ("opened", "changed", "reading", "reloaded", "serving")


def supervise() -> int:
    """Serve until a signal ends it; return the exit code."""
    if lack := lack_of_room(1):
        say(lack)
        return BAD_CONFIGURATION
    raise_limit()  # it holds every listening socket, and twice as many during a reload
    return Supervisor().run()


class Supervisor:
    """Decides what its crew, the workers, must do."""

    def __init__(self) -> None:
        left = inheritance()
        if left is not None:
            SIGNALS.keep()
        self._crew = Crew(left)
        self.stopping = False
        self._heard: deque[signal.Signals] = deque()
        self._bell, self._rope = connected()
        self._notifier = Notifier()
        self._sign_at = time.monotonic() + self._notifier.interval
        self._is_ready = False
        self._reading = Reading(self._crew, self._notifier)
        self._upgrade = Upgrade(self._crew, self._notifier, self._reading)
        self._drained: list[tuple[int, int, int]] = []  # results of workers that have drained
        self._code: int | None = None  # once all is over

    # -- the loop ----------------------------------------------------------------------------

    def run(self) -> int:
        """Run until there is no worker and none will be started."""
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # it only wakes the poll
        self._crew.poll.register(self._bell, select.POLLIN)
        try:
            with SIGNALS.obeyed_by(self._heard.append):
                signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the previous program blocked them
                while self._code is None:
                    self._turn()
        finally:
            for place in self._crew.every:
                place.kill()
            signal.set_wakeup_fd(-1)
            self._crew.files.remove_all()
        return self._code

    def _turn(self) -> None:
        now = time.monotonic()
        self._start_due(now)
        starts = [place.start_at for place in self._crew.places if not place.pid]
        ends = [place.kill_at for place in self._crew.every if place.pid]
        dues = self._sign_at, self._reading.late_at, self._upgrade.replace_at
        wait = min(*dues, *starts, *ends) - now
        ready = self._crew.poll.poll(None if wait == math.inf else max(0.0, wait) * 1000 + 1)
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 4096)
        while self._heard:
            self._obey(self._heard.popleft())
        found = {fd for fd, _ in ready}
        for place in self._crew.every:
            if place.channel is not None and place.channel.fileno() in found:
                self._hear(place)
        self._reap()
        if time.monotonic() >= self._sign_at:
            self._sign_at = time.monotonic() + self._notifier.interval
            if any(place.serving_since is not None for place in self._crew.every):
                self._notifier.alive()
        if time.monotonic() >= self._reading.late_at:
            self._reading.pass_over()
        self._kill_late(time.monotonic())
        self._upgrade.replace_if_due()

    # -- signals -----------------------------------------------------------------------------

    def _obey(self, number: signal.Signals) -> None:
        if number in STOP:
            self._stop()
        elif number == signal.SIGHUP:
            self._reload()
        elif number == signal.SIGUSR2:
            if not self.stopping:
                self._upgrade.ask()
        else:
            say(f"{number.name}: received, nothing to do")

    def _reload(self) -> None:
        """Make one worker read the settings file again, as soon as one serves."""
        if self._crew.settings < 0:
            self._crew.places[0].start_at = 0.0  # it could not start before; perhaps it can now
        if not self.stopping:
            self._reading.ask()

    def _stop(self) -> None:
        """Make the workers drain; the second time, make them stop at once."""
        now = time.monotonic()
        late = AT_ONCE if self.stopping else self._crew.grace + LATE
        for place in self._crew.every:
            place.kill_at = min(place.kill_at, now + late)
            if place.channel is not None and (self.stopping or not place.retired):
                place.channel.send("stop")
            place.start_at = math.inf
        self.stopping = True
        self._upgrade.stop()
        self._notifier.stopping()
        self._crew.give_up_sockets()
        self._end_if_empty(DONE)

    def _kill_late(self, now: float) -> None:
        for place in self._crew.every:
            if place.pid and place.kill_at <= now:
                place.kill_at = math.inf
                say(f"{self._crew.name(place)} does not end: killing it")
                place.kill()

    def _kill_old(self, deaf: list[Place]) -> None:
        """Kill workers that could not receive new settings, since they would keep the old ones."""
        for place in deaf:
            say(f"{self._crew.name(place)} reads no messages, so its settings are old: killing it")
            place.kill()

    # -- workers -----------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take the exit codes of workers, and those of orphans if this is process 1."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                code = os.waitstatus_to_exitcode(status)
                for place in self._crew.places:
                    if place.pid == pid:
                        self._ended(place, code)
                for place in list(self._crew.retiring):
                    if place.pid == pid:
                        self._has_retired(place, code)
                self._upgrade.has_ended(pid, code)

    def _has_retired(self, place: Place, code: int) -> None:
        """A worker of the previous program has ended."""
        self._hear(place)
        name = self._crew.name(place)
        self._crew.let_go(place)
        self._crew.retiring.remove(place)
        if code:
            say(f"{name} {end_of(code)}, and its connections with it")
        if self.stopping:
            self._end_if_empty(DONE)
        elif self._crew.settings < 0:
            self._crew.places[0].start_at = 0.0  # nobody is left soon: perhaps it can begin now

    def _ended(self, place: Place, code: int) -> None:
        now = time.monotonic()
        self._hear(place)  # its last report
        name = self._crew.name(place)
        lost = connections_of(self._crew.board, place.number)
        served_for = None if place.serving_since is None else now - place.serving_since
        self._crew.forget(place)
        if self._crew.settings < 0:  # it could not begin, and has logged why
            place.start_at = math.inf
            if self._crew.retiring and not self.stopping:
                say("the new program cannot serve: the old workers still serve")
                self._notifier.ready()
                self._upgrade.go_on()
            else:
                self._end_if_empty(code if code >= 0 else 128 - code)
            return
        how = end_of(code)
        if self.stopping:
            if code:
                say(f"{name} {how} while it drained: {connections(lost)} lost")
            place.start_at = math.inf
            self._end_if_empty(FAULT if code == FAULT else DONE)
            return
        self._crew.past.lose(lost)
        self._reading.has_left(place)
        pause = place.back_off.ended(served_for)
        when = f" in {pause:g} s" if pause else ""
        say(f"{name} {how}: {connections(lost)} lost; another one is started{when}")
        self._wait_to_start(place, now, pause)

    def _start_due(self, now: float) -> None:
        """Start the workers whose time has come."""
        for place in self._crew.places:
            if place.pid or place.start_at > now:
                continue
            try:
                self._crew.start(place)
            except OSError as error:  # too many processes, or the program is being replaced
                self._crew.forget(place)
                say(f"worker {place.number} cannot be started: {error.strerror}")
                self._wait_to_start(place, now, place.back_off.ended(None))

    def _wait_to_start(self, place: Place, now: float, pause: float) -> None:
        """Start a worker after a pause.

        An infinite one means that workers end before they serve.  While others serve, try again
        from time to time.
        """
        place.start_at = now + pause
        if pause < math.inf:
            return
        if any(other.serving_since is not None for other in self._crew.every):
            place.start_at = now + RETRY
            self._notifier.ready()
        else:
            say("no worker can serve: giving up")
            self._code = FAULT

    def _end_if_empty(self, code: int) -> None:
        if any(place.pid for place in self._crew.every):
            return
        self._code = code
        if len(self._drained) > 1:
            ended, cut, lost = (sum(counts) for counts in zip(*self._drained, strict=True))
            say(f"all workers: {connections(ended)} ended, {cut} cut, {lost} requests lost")

    # -- what workers say --------------------------------------------------------------------

    def _hear(self, place: Place) -> None:
        """Handle every message of a worker that has arrived."""
        channel = place.channel
        with contextlib.suppress(BlockingIOError):
            while channel is not None:
                try:
                    message = channel.receive()
                except Ended:
                    self._crew.poll.modify(channel, 0)  # its end follows
                    return
                try:
                    self._take(place, channel, message)
                finally:
                    message.close()

    def _take(self, place: Place, channel: Channel, message: Message) -> None:
        kind, body, fds = message.kind, message.body, message.fds
        if kind in OF_SETTINGS and place in self._crew.retiring:
            return  # those of the new program count
        if kind == "opened":
            SIGNALS.keep()
            workers, names, self._crew.grace = body
            self._crew.adopt(names, fds)
            self._crew.past.note_reload(done=True, at=time.time())
            self._crew.past.tell_reload(channel)
            if self.stopping:
                self._crew.give_up_sockets()
            else:
                self._crew.places += [Place(number) for number in range(1, workers)]
                self._upgrade.go_on()
        elif kind == "changed":
            _, names, self._crew.grace = body
            self._kill_old(self._crew.tell_others(place, kind, names, fds))
            self._crew.adopt(names, fds)
            if self.stopping:
                self._crew.give_up_sockets()
        elif kind == "reading":
            self._reading.begun(place)
        elif kind == "reloaded":
            done, at = body
            self._reading.ended()
            self._crew.past.note_reload(done=done, at=at)
            self._crew.tell_others(place, kind, body)
        elif kind == "serving":
            place.serving_since = time.monotonic()
            if all(other.serving_since is not None for other in self._crew.places):
                self._all_serve()
            if not self.stopping:
                self._reading.go_on()
        elif kind == "drained":
            self._drained += [body] * self.stopping  # those that retire are not counted
        elif kind == "report":
            place.take_report(fds.pop())
        elif kind == "ask":
            self._crew.ask(place, channel, *body)
        elif kind == "learned":
            self._crew.past.learn(*body)
            self._crew.tell_others(place, kind, body)

    def _all_serve(self) -> None:
        """Every worker serves: the workers of the previous program are no longer needed."""
        if not self._is_ready:
            self._is_ready = True
            self._notifier.ready()
        late = time.monotonic() + RETIRING + self._crew.grace_before + LATE
        for place in self._crew.retiring:
            place.kill_at = min(place.kill_at, late)
            if place.channel is not None and not place.retired:
                place.retired = True
                place.channel.send("retire")
