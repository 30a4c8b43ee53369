"""The supervisor, with workers that only say what real ones would: every order of events."""

from __future__ import annotations

import errno
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hopproxy.server import place, takeover, upgrade
from hopproxy.server.channel import Channel, Message, close_all, in_memory, pair
from hopproxy.server.place import Place
from hopproxy.server.supervisor import RETRY, Supervisor
from hopproxy.server.takeover import OLD, Inheritance, inheritance, replace
from hopproxy.signals import SIGNALS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


class Scene:
    """A supervisor whose workers are not there: the other ends of their channels are `ends`."""

    def __init__(self, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        notified = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notified.bind(str(folder / "notify"))
        notified.setblocking(False)
        self.notified = notified
        monkeypatch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        monkeypatch.setattr(SIGNALS, "keep", lambda: None)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.killed.append(pid))
        monkeypatch.setattr(place, "_spawn", self._spawn)
        monkeypatch.setattr(upgrade, "start_check", self._check)
        monkeypatch.setattr(upgrade, "replace", lambda *_: self.replaced.append(1))
        self.supervisor = Supervisor()
        self.crew = self.supervisor._crew
        self.ends: dict[int, Channel] = {}
        self.killed: list[int] = []
        self.checks: list[int] = []
        self.replaced: list[int] = []
        self.fails: OSError | None = None
        self._stack = stack
        stack.callback(self._close)

    def _spawn(self, theirs: socket.socket) -> int:
        if self.fails is not None:
            raise self.fails
        pid = 1000 + len(self.ends)
        self.ends[pid] = Channel(theirs.dup())
        return pid

    def _check(self) -> int:
        self.checks.append(1)
        return 77

    def _close(self) -> None:
        for one in self.crew.every:
            if one.channel is not None:
                one.channel.close()
        for end in self.ends.values():
            end.close()
        if self.crew.settings >= 0:
            os.close(self.crew.settings)
        close_all([self.crew.board, self.supervisor._bell, self.supervisor._rope])
        self.crew.give_up_sockets()

    def old_worker(self) -> Place:
        """A worker of the program before this one."""
        old = Place(OLD + len(self.crew.retiring))
        old.channel, theirs = pair()
        old.pid, old.serving_since = 500 + len(self.crew.retiring), 0.0
        with theirs:
            self.ends[old.pid] = Channel(theirs.dup())
        self.crew.poll.register(old.channel)
        self.crew.retiring.append(old)
        return old

    def start(self) -> list[int]:
        """Start what is due: the processes of all new workers."""
        self.supervisor._start_due(time.monotonic())
        return [one.pid for one in self.crew.places if one.pid]

    def say(self, worker: Place, kind: str, body: object = None, *fds: int) -> None:
        """Have a worker say something."""
        assert worker.channel is not None
        message = Message(kind, body, list(fds))
        self.supervisor._take(worker, worker.channel, message)
        message.close()

    def opened(self, worker: Place, workers: int = 2, *names: str) -> None:
        """The first worker has read the settings and opened its sockets."""
        fds = [in_memory(b"") for _ in range(1 + len(names))]
        self.say(worker, "opened", (workers, list(names), 5.0), *fds)

    def heard(self, pid: int) -> list[str]:
        """The kinds of messages that a worker got."""
        kinds = []
        with suppress(BlockingIOError):
            while True:
                message = self.ends[pid].receive()
                message.close()
                kinds.append(message.kind)
        return kinds

    def serving(self, workers: int = 2) -> list[Place]:
        """All workers serve."""
        self.start()
        self.opened(self.crew.places[0], workers)
        self.start()
        for one in self.crew.places:
            self.say(one, "serving")
        for pid in self.ends:
            self.heard(pid)
        self.told()
        return self.crew.places

    def told(self) -> list[str]:
        """What systemd was told."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.notified.recv(4096).decode().partition("\n")[0])
        return found


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, monkeypatch, tmp_path)


# -- a stop ------------------------------------------------------------------------------------


def test_a_stop_before_a_new_program_has_opened_its_sockets_starts_no_more_workers(
    scene: Scene,
) -> None:
    old = scene.old_worker()
    [pid] = scene.start()
    scene.supervisor._obey(signal.SIGTERM)
    assert "stop" in scene.heard(pid)
    assert scene.heard(old.pid) == ["stop"]
    scene.opened(scene.crew.places[0], 2, "127.0.0.1:80")
    assert scene.start() == [pid]
    assert scene.crew.held == {}, "the last worker closes its sockets"
    scene.supervisor._has_retired(old, 0)
    scene.supervisor._ended(scene.crew.places[0], 0)
    assert scene.supervisor._code == 0


def test_a_stop_during_the_check_or_before_the_take_over_wins(scene: Scene) -> None:
    scene.serving()
    scene.supervisor._obey(signal.SIGUSR2)
    scene.supervisor._obey(signal.SIGTERM)
    scene.supervisor._upgrade.has_ended(77, 0)
    scene.supervisor._upgrade.replace_if_due()
    assert scene.replaced == []
    assert scene.supervisor._upgrade.replace_at == math.inf


def test_nobody_is_called_ready_once_it_stops(scene: Scene) -> None:
    workers = scene.serving()
    scene.supervisor._obey(signal.SIGHUP)
    scene.supervisor._obey(signal.SIGTERM)
    scene.say(workers[0], "reloaded", (True, 1.0))
    assert scene.told() == ["RELOADING=1", "STOPPING=1"]


# -- a new program -----------------------------------------------------------------------------


def test_what_old_workers_say_of_their_settings_is_not_taken_for_those_of_the_new_program(
    scene: Scene,
) -> None:
    old = scene.old_worker()
    workers = scene.serving()
    settings = scene.crew.settings
    scene.opened(old, 2)
    scene.say(old, "changed", (2, [], 99.0), in_memory(b""))
    scene.say(old, "reading")
    scene.say(old, "reloaded", (True, 1.0))
    scene.say(old, "serving")
    assert scene.crew.places == workers
    assert len(workers) == 2
    assert scene.crew.settings == settings
    assert scene.crew.grace == 5.0
    assert scene.told() == []
    assert scene.heard(workers[1].pid) == []


def test_a_second_new_program_waits_until_the_first_has_opened_its_sockets(scene: Scene) -> None:
    scene.old_worker()
    scene.start()
    scene.supervisor._obey(signal.SIGUSR2)
    scene.supervisor._obey(signal.SIGUSR2)
    assert scene.checks == []
    scene.opened(scene.crew.places[0])
    assert scene.checks == [1]


def test_a_second_new_program_is_tried_if_the_first_cannot_serve(scene: Scene) -> None:
    scene.old_worker()
    scene.start()
    scene.supervisor._obey(signal.SIGUSR2)
    scene.supervisor._ended(scene.crew.places[0], 3)
    assert scene.told() == ["READY=1"], "the old workers go on"
    assert scene.checks == [1]
    scene.supervisor._upgrade.has_ended(77, 0)
    scene.supervisor._upgrade.replace_if_due()
    assert scene.replaced == [1]


def test_a_new_program_waits_for_the_end_of_a_reload_but_not_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker that reads may open sockets, which the new program has to get."""
    workers = scene.serving()
    upgrade = scene.supervisor._upgrade
    scene.supervisor._obey(signal.SIGUSR2)
    scene.say(workers[1], "reading")  # it watches the file
    upgrade.has_ended(77, 0)
    upgrade.replace_if_due()
    assert scene.replaced == []
    scene.say(workers[1], "reloaded", (True, 1.0))
    upgrade.replace_if_due()
    assert scene.replaced == [1]
    scene.supervisor._obey(signal.SIGUSR2)
    scene.say(workers[1], "reading")
    upgrade.has_ended(77, 0)
    late = upgrade.replace_at
    monkeypatch.setattr(time, "monotonic", lambda: late)
    upgrade.replace_if_due()
    assert scene.replaced == [1, 1]


def test_a_new_program_that_could_not_serve_is_tried_again_if_an_old_worker_ends(
    scene: Scene,
) -> None:
    old = scene.old_worker()
    scene.start()
    scene.supervisor._ended(scene.crew.places[0], 3)
    assert scene.start() == []
    scene.supervisor._has_retired(old, -9)
    assert len(scene.start()) == 1
    scene.supervisor._ended(scene.crew.places[0], 3)
    assert scene.supervisor._code == 3, "now nobody serves"


def test_a_new_program_whose_workers_end_at_once_leaves_the_old_ones(scene: Scene) -> None:
    scene.old_worker()
    scene.start()
    scene.opened(scene.crew.places[0], 1)
    [worker] = scene.crew.places
    for _ in range(10):
        worker.start_at = 0.0
        scene.start()
        scene.supervisor._ended(worker, 70)
    assert scene.supervisor._code is None
    assert 0 < worker.start_at - time.monotonic() <= RETRY
    assert "READY=1" in scene.told()


def test_a_new_program_gets_any_number_of_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux allows 128 KiB for one variable of the environment."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda _, __, environ: started.append(environ))
    held = {f"unix:/{'x' * 90}/{number}": 0 for number in range(3000)}
    past, board = in_memory(b""), in_memory(b"")
    monkeypatch.setattr(os, "set_inheritable", lambda *_: None)
    state = Inheritance(held, {}, [], {}, past, board, 1.0)
    monkeypatch.setattr(takeover, "close_all", lambda _: None)
    replace(state, {})
    [environ] = started
    assert max(map(len, environ.values())) < 100_000
    monkeypatch.setenv(takeover.VARIABLE, environ[takeover.VARIABLE])
    left = inheritance()
    assert left is not None
    assert left.held == held
    close_all([past, board])


# -- workers that cannot be started -----------------------------------------------------------


def test_a_worker_that_cannot_be_started_leaves_the_others_alone(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    """There are too many processes, or the interpreter is just being replaced by another one."""
    first, second = scene.serving()
    scene.fails = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    scene.supervisor._ended(second, -9)
    for _ in range(10):
        second.start_at = 0.0
        assert scene.start() == [first.pid]
    assert scene.supervisor._code is None
    assert "worker 1 cannot be started: Resource temporarily unavailable" in capfd.readouterr().err
    scene.fails = None
    second.start_at = 0.0
    assert len(scene.start()) == 2


def test_if_no_worker_can_be_started_it_ends(scene: Scene) -> None:
    scene.fails = OSError(errno.ENOMEM, "")
    for _ in range(6):
        scene.crew.places[0].start_at = 0.0
        scene.start()
    assert scene.supervisor._code == 70


def test_a_worker_that_cannot_be_told_what_to_do_is_killed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for ever."""
    monkeypatch.setattr(Channel, "send", lambda *_: False)
    [pid] = scene.start()
    assert scene.killed == [pid]


# -- reloads ----------------------------------------------------------------------------------


def test_settings_that_end_workers_are_not_given_to_all_of_them(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = scene.serving()
    scene.supervisor._obey(signal.SIGHUP)
    for worker in (first, second):
        assert scene.heard(worker.pid) == ["reload"]
        scene.say(worker, "reading")
        scene.supervisor._ended(worker, -11)
    for worker in (first, second):
        worker.start_at = 0.0
        scene.start()
        scene.say(worker, "serving")
        assert "reload" not in scene.heard(worker.pid)
    assert "those in use stay in use" in capfd.readouterr().err
    assert scene.told()[-1] == "READY=1"
