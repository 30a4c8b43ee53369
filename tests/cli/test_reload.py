"""SIGHUP to the real thing: two workers, their supervisor, and a file that changes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, STEP, Command, answering, children_of, get, hopproxy
from tests.ports import free_port


class Site:
    """A proxy with two workers in front of two origins, whose settings file can be changed."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "hopproxy.yaml"
        self.ports = {name: free_port() for name in ("one", "two", "site", "admin")}
        self.command: Command

    def write(self, *, upstream: str = "one", listen: str = "", more: str = "") -> None:
        """Write settings with a route to this upstream."""
        ports = self.ports
        self.file.write_text(
            f"workers: 2\naccess_log: off\ndrain_timeout: 5s\n{more}\n"
            f"listeners: [{{bind: 127.0.0.1:{ports['site']}}}{listen}]\n"
            f"admin: {{bind: 127.0.0.1:{ports['admin']}}}\n"
            f"upstreams:\n  one: {{origins: [{ports['one']}]}}\n"
            f"  two: {{origins: [{ports['two']}]}}\n"
            f"routes: [{{upstream: {upstream}}}]\n"
        )

    def reload(self, said: str) -> None:
        """Send SIGHUP and wait until this is said once more."""
        before = len(re.findall(said, self.command.said))
        self.command.process.send_signal(signal.SIGHUP)
        limit = time.monotonic() + PATIENCE
        while len(re.findall(said, self.command.said)) == before:
            assert time.monotonic() < limit, self.command.said
            time.sleep(STEP)

    def answers(self, count: int = 8) -> set[bytes]:
        """What so many new connections get, which both workers accept."""
        url = f"http://127.0.0.1:{self.ports['site']}"
        return {get(url)[2] for _ in range(count)}

    def descriptors(self) -> list[int]:
        """How many each process has open."""
        pid = self.command.process.pid
        return [len(os.listdir(f"/proc/{one}/fd")) for one in (pid, *children_of(pid))]


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    site.write()
    with (
        answering(site.ports["one"], b"one"),
        answering(site.ports["two"], b"two"),
        hopproxy("run", str(site.file), until="admin listener") as site.command,
    ):
        limit = time.monotonic() + PATIENCE
        while len(children_of(site.command.process.pid)) < 2:
            assert time.monotonic() < limit
            time.sleep(STEP)
        yield site
        assert site.command.stop() == 0
        assert "Traceback" not in site.command.said, site.command.said


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("reload")) as made:
        yield made


def settled(site: Site, expected: set[bytes]) -> None:
    """Wait until every worker has taken over what one has read."""
    limit = time.monotonic() + PATIENCE
    while site.answers() != expected:
        assert time.monotonic() < limit, site.command.said
        time.sleep(STEP)


def test_every_worker_follows_and_a_bad_file_changes_nothing(site: Site) -> None:
    assert site.answers() == {b"one"}
    site.write(upstream="two")
    site.reload("reloaded in")
    settled(site, {b"two"})
    assert "route 1: upstream one -> two" in site.command.said
    site.file.write_text("listeners: [")
    site.reload("not reloaded")
    assert f"{site.file}:1:13: is not YAML" in site.command.said
    assert site.answers() == {b"two"}
    metrics = get(f"http://127.0.0.1:{site.ports['admin']}", "/metrics")[2].decode()
    assert "hopproxy_config_last_reload_successful 0.0" in metrics
    site.write()
    site.reload("reloaded in")
    settled(site, {b"one"})


def test_a_worker_that_is_replaced_gets_the_settings_of_the_last_reload(site: Site) -> None:
    site.write(upstream="two")
    site.reload("reloaded in")
    settled(site, {b"two"})
    for worker in children_of(site.command.process.pid):
        os.kill(worker, signal.SIGKILL)
    limit = time.monotonic() + PATIENCE
    while len(re.findall("another one is started", site.command.said)) < 2:
        assert time.monotonic() < limit
        time.sleep(STEP)
    settled(site, {b"two"})
    site.write()
    site.reload("reloaded in")
    settled(site, {b"one"})


def test_many_listeners_come_and_go_without_a_leaked_descriptor(site: Site) -> None:
    """More than fit into one message to a worker."""
    names = [f"{site.file.parent}/{number}.sock" for number in range(300)]
    many = "".join(f", {{bind: unix:{name}}}" for name in names)
    site.reload("reloaded in")
    settled(site, {b"one"})
    time.sleep(0.2)
    before = site.descriptors()
    for _ in range(2):
        site.write(listen=many)
        site.reload("300 changes")
        for name in names[0], names[-1]:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(name)
        site.write()
        site.reload("300 changes")
        limit = time.monotonic() + PATIENCE
        while any(Path(name).exists() for name in names):
            assert time.monotonic() < limit
            time.sleep(STEP)
    limit = time.monotonic() + PATIENCE
    while max(site.descriptors()) > max(before) + 8:  # connections to origins, and threads
        assert time.monotonic() < limit, (before, site.descriptors())
        time.sleep(STEP)
    settled(site, {b"one"})


def test_hangups_in_a_row_and_one_before_the_end_do_no_harm(site: Site) -> None:
    for number in range(10):
        site.write(upstream=("two", "one")[number % 2])
        site.command.process.send_signal(signal.SIGHUP)
        assert site.answers(2) <= {b"one", b"two"}
    site.reload("reloaded in")
    settled(site, {b"one"})
    links = json.loads(get(f"http://127.0.0.1:{site.ports['admin']}", "/links")[2])
    assert links["totals"]["failures"] == 0
    site.command.process.send_signal(signal.SIGHUP)  # and then it is stopped
