"""Several workers as processes: they share the load, and one that ends is replaced."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hopproxy.server.channel import close_all, pair
from hopproxy.server.crew import Crew as CrewOfSupervisor
from hopproxy.server.place import Place
from hopproxy.server.supervisor import Supervisor
from hopproxy.server.takeover import OLD
from tests.cli.command import (
    PATIENCE,
    STEP,
    Command,
    Server,
    answering,
    children_of,
    finished,
    get,
    hopproxy,
    write_settings,
)
from tests.cli.test_serving import LISTENING
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Crew:
    """A hopproxy with two workers in front of an origin."""

    def __init__(self, command: Command, url: str, admin: str, origin: Server) -> None:
        self.command = command
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.admin = admin
        self.origin = origin

    def workers(self) -> list[int]:
        """Both, once both serve."""
        limit = time.monotonic() + PATIENCE
        while True:
            pids = children_of(self.command.process.pid)
            if len(pids) == 2 and all(is_serving(pid) for pid in pids):
                return pids
            assert time.monotonic() < limit, self.command.said
            time.sleep(STEP)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process refer to; some may be closed meanwhile."""
    found = []
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def is_serving(pid: int) -> bool:
    """Whether this process serves: it has an epoll beside the one of trio."""
    return open_files(pid).count("anon_inode:[eventpoll]") >= 2


@contextmanager
def crew(folder: Path, more: str = "") -> Iterator[Crew]:
    origin_port, admin = free_port(), free_port()
    more = f"workers: 2\nadmin: {{bind: 127.0.0.1:{admin}}}\n{more}"
    file, url = write_settings(folder, origin_port, more)
    with (
        answering(origin_port, b"whole") as origin,
        hopproxy("run", str(file), until=LISTENING) as command,
    ):
        found = Crew(command, url, f"http://127.0.0.1:{admin}", origin)
        found.workers()
        yield found


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def connections_of(pid: int, port: int) -> int:
    """How many accepted connections a process has on this port."""
    sockets = (re.match(r"socket:\[(\d+)\]", name) for name in open_files(pid))
    own = {int(found[1]) for found in sockets if found}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = [row for row in rows if row[3] == "01" and int(row[9]) in own]
    return sum(int(row[1].rpartition(":")[2], 16) == port for row in established)


def asked(two: Crew, times: int) -> float:
    """Ask so often, each time on a new connection: what 95 of 100 requests need at most."""
    found = []
    for _ in range(times):
        begun = time.monotonic()
        with two.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            said = b""
            while data := client.recv(65536):
                said += data
        assert said.endswith(b"whole")
        found.append(time.monotonic() - begun)
    return sorted(found)[times * 95 // 100]


def test_connections_are_shared_and_a_stopped_worker_delays_no_others(tmp_path: Path) -> None:
    with crew(tmp_path) as two:
        pids = two.workers()
        for _ in range(3):
            with ExitStack() as clients:
                for _ in range(32):
                    clients.enter_context(two.connect())
                    time.sleep(0.005)
                time.sleep(0.1)
                counts = [connections_of(pid, two.port) for pid in pids]
                assert sum(counts) == 32
                assert 12 <= min(counts) <= max(counts) <= 20
        with ExitStack() as clients:
            with stopped(pids[0]):
                for _ in range(8):
                    clients.enter_context(two.connect())
            usual = asked(two, 60)
            with stopped(pids[0]):  # which has fewer connections
                assert asked(two, 100) < usual + 0.01
        with stopped(pids[1]):
            assert asked(two, 100) < usual + 0.01
        assert two.command.stop() == 0


def test_a_killed_worker_is_replaced_and_its_connections_are_named(tmp_path: Path) -> None:
    with crew(tmp_path) as two:
        pids = two.workers()
        with ExitStack() as clients:
            for _ in range(8):
                clients.enter_context(two.connect())
            time.sleep(0.1)
            lost = connections_of(pids[1], two.port)
            os.kill(pids[1], signal.SIGKILL)
            said = two.command.wait_for(
                rf"worker \d \(pid {pids[1]}\) was killed by SIGKILL: (\d+) connections? lost"
            )
            assert int(said[1]) == lost
            assert Counter(get(two.url)[0] for _ in range(10)) == {200: 10}
            after = two.workers()
        assert len(set(after) - set(pids)) == 1
        assert two.command.stop() == 0
        assert "Traceback" not in two.command.said


def metrics(admin: str) -> dict[str, float]:
    lines = get(admin, "/metrics")[2].decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_admin_shows_all_workers_as_one_and_no_counter_falls(tmp_path: Path) -> None:
    answered = 'hopproxy_requests_total{status="200",upstream="app"}'
    with crew(tmp_path) as two, ExitStack() as clients:
        pids = two.workers()
        for _ in range(40):
            assert get(two.url)[0] == 200
        for _ in range(12):
            clients.enter_context(two.connect())
        limit = time.monotonic() + PATIENCE
        while metrics(two.admin)['hopproxy_client_links{state="idle"}'] < 12:
            assert time.monotonic() < limit
        seen = [json.loads(get(two.admin, "/links")[2]) for _ in range(4)]
        for links in seen:
            assert links["pid"] == two.command.process.pid
            assert links["totals"]["requests"] == 40
            assert len(links["clients"]) == links["totals"]["clients"] == 12
            assert {link["worker"] for link in links["clients"]} == {0, 1}
            assert len({link["number"] for link in links["clients"]}) == 12
            assert links["limits"]["max_clients"] == 4096
            assert links["origins"][0]["limits"]["max_connections"] == 256
        for _ in range(6):
            with two.connect() as bad:
                bad.sendall(b"GET / HTTP/9.9\r\n\r\n")
                assert bad.recv(100)
        failed = [json.loads(get(two.admin, "/requests")[2])["requests"] for _ in range(4)]
        assert [len(rows) for rows in failed] == [6] * 4
        config = json.loads(get(two.admin, "/config")[2])["settings"]
        assert config["client"]["max_connections"] == 4096
        assert config["workers"] == 2
        before = metrics(two.admin)
        assert before[answered] == 40
        assert before["hopproxy_client_links_limit"] == 4096
        assert before['hopproxy_worker_up{worker="0"}'] == 1
        with stopped(pids[0]):
            begun = time.monotonic()
            during = metrics(two.admin)
            assert 0.9 < time.monotonic() - begun < 3
            assert sorted(during[f'hopproxy_worker_up{{worker="{n}"}}'] for n in (0, 1)) == [0, 1]
            grown = [key for key in before if re.search("_(total|count|bucket)", key)]
            assert [key for key in grown if during.get(key, 0) < before[key]] == []
            stuck = json.loads(get(two.admin, "/links")[2])
            assert stuck["totals"]["requests"] == 46
            assert get(two.admin, "/readyz")[0] == 200
        with stopped(two.command.process.pid):  # the supervisor: only it knows all counts
            assert get(two.admin, "/metrics")[::2] == (503, b"the supervisor does not answer\n")
            assert get(two.admin, "/readyz")[0] == 200
        os.kill(pids[1], signal.SIGKILL)
        two.command.wait_for("another one is started")
        two.workers()
        after = metrics(two.admin)
        closed = {key: after[key] for key in after if "link_closes_total" in key}
    counters = [key for key in before if "_total" in key or "_count" in key or "_bucket" in key]
    assert [key for key in counters if after.get(key, 0) < before[key]] == []
    assert after["hopproxy_worker_ends_total"] == 1
    assert sum(count for key, count in closed.items() if "worker_ended" in key) >= 1


def test_a_scrape_takes_no_time_with_many_links_not_even_the_first(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 6000:
        pytest.skip("needs 6,000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (6000, hard))
    try:
        with crew(tmp_path, "drain_timeout: 0s") as two, ExitStack() as clients:
            for _ in range(2000):
                clients.enter_context(two.connect())
            time.sleep(0.5)
            times = []
            for _ in range(7):
                begun = time.monotonic()
                assert metrics(two.admin)['hopproxy_client_links{state="idle"}'] == 2000
                times.append(time.monotonic() - begun)
            usual = sorted(times)[3]
            assert usual < 0.1, "15 ms on a machine that is idle"
            assert times[0] < 3 * usual
            assert two.command.stop(signal.SIGKILL) < 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_that_ends_before_it_could_reload_leaves_that_to_another(tmp_path: Path) -> None:
    with crew(tmp_path) as two, answering(free_port(), b"other") as other:
        pids = two.workers()
        file = tmp_path / "hopproxy.yaml"
        origin = two.origin.server_address[1]
        with stopped(pids[0]):
            file.write_text(file.read_text().replace(str(origin), str(other.server_address[1])))
            two.command.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            os.kill(pids[0], signal.SIGKILL)
        two.command.wait_for("reloaded in")
        limit = time.monotonic() + PATIENCE
        while {get(two.url)[2] for _ in range(10)} != {b"other"}:
            assert time.monotonic() < limit, two.command.said
        assert two.command.stop() == 0


def test_a_stopped_worker_holds_no_reload_up_and_its_time_outlives_workers(tmp_path: Path) -> None:
    with crew(tmp_path) as two, answering(free_port(), b"other") as other:
        pids = two.workers()
        file = tmp_path / "hopproxy.yaml"
        origin = two.origin.server_address[1]
        began = time.time()
        with stopped(pids[0]):
            file.write_text(file.read_text().replace(str(origin), str(other.server_address[1])))
            two.command.process.send_signal(signal.SIGHUP)
            two.command.wait_for(rf"pid {pids[0]}\) does not begin to reload")
            two.command.wait_for("worker 1: .* reloaded in .*, 1 change")
            assert get(two.url)[2] == b"other"
        two.command.wait_for("worker 0: .* reloaded in .*, 0 changes")
        file.write_text("nonsense")
        two.command.process.send_signal(signal.SIGHUP)
        two.command.wait_for("not reloaded")
        before = reload_metrics(two.admin)
        name = "hopproxy_config_last_reload"
        assert before[f"{name}_successful"] == 0
        in_use, last = (before[f"{name}{end}_timestamp_seconds"] for end in ("_success", ""))
        assert began < in_use < last
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            two.command.wait_for(rf"pid {pid}\) was killed by SIGKILL")
        two.workers()
        assert reload_metrics(two.admin) == before
        assert two.command.stop() == 0


def reload_metrics(admin: str) -> dict[str, float]:
    return {name: value for name, value in metrics(admin).items() if "config_last" in name}


def test_a_worker_that_takes_no_news_of_settings_is_distinguished() -> None:
    crew = CrewOfSupervisor(None)
    here, there = pair()
    deaf, other = Place(1), Place(2)
    deaf.channel, crew.places = here, [*crew.places, deaf, other]
    with there:
        while not (told := crew.tell_others(crew.places[0], "changed", "x" * 10_000)):
            pass
    assert told == [deaf]
    here.close()
    os.close(crew.board)


def test_a_stopped_worker_does_not_hold_the_end_for_ever(tmp_path: Path) -> None:
    with crew(tmp_path, "drain_timeout: 100ms") as two:
        pid = two.workers()[0]
        os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        two.command.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert two.command.stop() == 0
        assert time.monotonic() - begun < 10
        assert "does not end: killing it" in two.command.said


def test_an_old_worker_that_does_not_end_is_killed(capfd: pytest.CaptureFixture[str]) -> None:
    """It is stopped, perhaps, and would keep its listening sockets."""
    supervisor, old = Supervisor(), Place(OLD)
    crew = supervisor._crew
    old.channel, there = pair()
    crew.places, crew.retiring, crew.grace_before = [], [old], 3.0
    with subprocess.Popen(["sleep", "60"]) as process, there:
        old.pid = process.pid
        supervisor._all_serve()
        assert there.recv(100)
        assert 9 < old.kill_at - time.monotonic() <= 10
        supervisor._kill_late(old.kill_at - 0.1)
        assert process.poll() is None
        supervisor._kill_late(old.kill_at)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert f"the old worker (pid {old.pid}) does not end" in capfd.readouterr().err
    old.channel.close()
    close_all([crew.board, supervisor._bell, supervisor._rope])


def test_workers_end_if_their_supervisor_is_killed(tmp_path: Path) -> None:
    with crew(tmp_path) as two:
        pids = two.workers()
        two.command.process.kill()
        limit = time.monotonic() + PATIENCE
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < limit
            time.sleep(STEP)


def test_a_limit_that_cannot_be_divided_is_an_error_of_the_settings(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, free_port(), "workers: 2\nmax_upstream_connections: 1")
    ended = finished("run", str(file))
    assert ended.returncode == 1
    assert "cannot be divided among 2 workers" in ended.stderr


@pytest.mark.parametrize("arguments", [("run", "--help"), ("run", "--nonsense"), ("run", "/no")])
def test_what_the_first_worker_says_and_returns_is_what_run_does(
    arguments: tuple[str, ...],
) -> None:
    ended = finished(*arguments)
    expected = {"--help": (0, "usage"), "--nonsense": (2, "usage"), "/no": (1, "cannot be read")}
    code, words = expected[arguments[-1]]
    assert (ended.returncode, words in ended.stdout + ended.stderr) == (code, True)
