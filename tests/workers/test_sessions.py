"""Clients resume their TLS sessions at any worker, whatever became of the one that they met."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from hopproxy.link import tickets
from hopproxy.server import takeover
from hopproxy.server.board import Board
from hopproxy.server.channel import close_all, in_memory
from hopproxy.server.crew import Crew as CrewOfSupervisor
from tests.authority import certificate, client_context, files_of
from tests.cli.command import PATIENCE, answering, hopproxy
from tests.cli.test_takeover import wait_until
from tests.ports import free_port
from tests.workers.test_workers import Crew, stopped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Seen(NamedTuple):
    """One connection of a client: whether it was resumed, and at which certificate it was."""

    resumed: bool
    serial: str
    session: ssl.SSLSession


class Client:
    """A client that speaks one version and keeps the session of its first connection."""

    def __init__(self, port: int, version: ssl.TLSVersion) -> None:
        self._port = port
        self._context = client_context(version)
        self._first: Seen | None = None

    def ask(self, *, anew: bool = False) -> Seen:
        """One request on a connection of its own, resumed if there is a session, unless `anew`."""
        session = None if anew or self._first is None else self._first.session
        with (
            socket.create_connection(("127.0.0.1", self._port), PATIENCE) as sock,
            self._context.wrap_socket(sock, server_hostname="site.test", session=session) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nHost: site.test\r\nConnection: close\r\n\r\n")
            said = b""
            while data := tls.recv(65536):
                said += data
            assert said.endswith(b"whole")
            shown = tls.getpeercert()
            assert shown is not None
            assert tls.session is not None
            seen = Seen(bool(tls.session_reused), str(shown["serialNumber"]), tls.session)
        self._first = self._first or seen
        return seen


@contextmanager
def crew(folder: Path) -> Iterator[Crew]:
    origin_port, port = free_port(), free_port()
    cert, key = files_of(certificate("site.test"), folder)
    file = folder / "hopproxy.yaml"
    file.write_text(
        f"workers: 2\ndrain_timeout: 5s\nadmin: off\naccess_log: off\n"
        f"listeners: [{{bind: 127.0.0.1:{port}, "
        f"tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}}}]\n"
        f"upstreams: {{app: {{origins: [{origin_port}]}}}}\n"
    )
    with (
        answering(origin_port, b"whole") as origin,
        hopproxy("run", str(file), until=rf"listening on \S+:{port}") as command,
    ):
        found = Crew(command, f"http://127.0.0.1:{port}", "", origin)
        found.workers()
        yield found


@pytest.mark.skipif(not tickets.can_be_shared(), reason="missing: OpenSSL as a library")
def test_a_session_is_resumed_at_every_worker_there_ever_is(tmp_path: Path) -> None:
    with crew(tmp_path) as two:
        one, other = two.workers()
        clients = [Client(two.port, version) for version in VERSIONS]

        def resumed(*, not_at: int) -> list[bool]:
            with stopped(not_at):
                return [client.ask().resumed for client in clients]

        assert resumed(not_at=other) == [False, False]
        assert resumed(not_at=one) == [True, True]

        older = clients[0].ask().serial
        files_of(certificate("site.test", "www.site.test"), tmp_path)
        two.command.process.send_signal(signal.SIGHUP)
        two.command.wait_for("reloaded in")
        for stands in (one, other):
            with stopped(stands):
                wait_until(lambda: clients[0].ask(anew=True).serial != older, two.command)
            assert resumed(not_at=stands) == [True, True]

        os.kill(one, signal.SIGKILL)
        two.command.wait_for(rf"pid {one}\) was killed by SIGKILL")
        assert set(two.workers()) != {one, other}
        assert resumed(not_at=other) == [True, True]
        assert two.command.stop() == 0


def test_a_program_that_takes_over_goes_on_with_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    crews = [CrewOfSupervisor(None), CrewOfSupervisor(None)]
    keys = [Board(one.board, 0, 1).ticket_keys for one in crews]
    assert keys[0] != keys[1]
    monkeypatch.setenv(takeover.VARIABLE, str(in_memory(crews[0].estate().written())))
    crews[0] = CrewOfSupervisor(takeover.inheritance())
    assert Board(crews[0].board, 0, 1).ticket_keys == keys[0]
    close_all(one.board for one in crews)
