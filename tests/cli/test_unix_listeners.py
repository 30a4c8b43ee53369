"""Listeners on Unix sockets: who may connect, and what becomes of the file."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopproxy.server.listener import CannotBind, close_listener, open_listener
from hopproxy.settings.units import Bind
from tests.cli.command import answering, finished, hopproxy, told
from tests.ports import free_port


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a Unix socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="unix") as made:
        yield Path(made)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def settings(folder: Path, origin_port: int, listener: str, more: str = "") -> str:
    """A settings file; its path."""
    file = folder / "hopproxy.yaml"
    file.write_text(
        f"listeners: [{{{listener}}}]\n"
        f"upstreams: {{app: {{origins: [http://127.0.0.1:{origin_port}]}}}}\n{more}\n"
    )
    return str(file)


def ask(path: Path) -> bytes:
    """GET by way of this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_the_file_has_the_mode_that_is_set_whatever_the_umask(folder: Path, umask: int) -> None:
    modes = {"": 0o666, ', mode: "0660"': 0o660, ", mode: 600": 0o600}
    paths = {folder / f"site{number}": written for number, written in enumerate(modes)}
    port = free_port()
    listeners = "}, {".join(f"bind: unix:{path}{written}" for path, written in paths.items())
    file = settings(folder, port, listeners)
    with (
        answering(port, b"here"),
        hopproxy("run", "--config", file, until="listening on", umask=umask) as command,
    ):
        for path, written in paths.items():
            assert mode_of(path) == modes[written]
            assert ask(path).endswith(b"here")
        assert command.stop() == 0


def test_another_user_can_connect_by_default(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("missing: root, to become another user")
    folder.chmod(0o755)
    path, port = folder / "site", free_port()
    file = settings(folder, port, f"bind: unix:{path}")
    with answering(port, b"here"), hopproxy("run", "--config", file, until="listening on"):
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                os._exit(0 if ask(path).endswith(b"here") else 1)
            except OSError:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_files_are_removed_at_the_end(folder: Path, number: signal.Signals) -> None:
    site, admin = folder / "site", folder / "admin"
    file = settings(folder, 1, f"bind: unix:{site}", f"admin: {{bind: unix:{admin}}}")
    with hopproxy("run", "--config", file, until="listening on") as command:
        assert site.exists()
        assert admin.exists()
        assert command.stop(number) == 0
    assert not site.exists()
    assert not admin.exists()


def test_a_file_that_was_left_behind_is_replaced(folder: Path) -> None:
    path = folder / "site"
    file = settings(folder, 1, f"bind: unix:{path}")
    with hopproxy("run", "--config", file, until="listening on") as command:
        command.process.kill()
        command.ended()
        assert path.exists()
    with hopproxy("run", "--config", file, until="listening on") as command:
        assert command.stop() == 0
    assert not path.exists()


def test_a_file_that_another_has_put_in_its_place_stays(folder: Path) -> None:
    path = folder / "site"
    file = settings(folder, 1, f"bind: unix:{path}")
    with hopproxy("run", "--config", file, until="listening on") as command:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            assert command.stop() == 0
            assert path.exists()


def test_what_was_opened_is_removed_where_another_listener_cannot_be(folder: Path) -> None:
    path = folder / "site"
    file = settings(folder, 1, f"bind: unix:{path}", "admin: {bind: unix:/nowhere/at/all}")
    ended = finished("run", "--config", file)
    assert ended.returncode == 3
    assert "its directory does not exist" in ended.stderr
    assert not path.exists()


def test_one_in_use_is_left_alone_also_with_a_full_backlog(folder: Path) -> None:
    path = folder / "site"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waits:
        busy.bind(str(path))
        busy.listen(0)
        waits.connect(str(path))
        with pytest.raises(CannotBind, match="another process listens there"):
            open_listener(Bind("unix", path=str(path)), 8)
        assert path.exists()


@pytest.mark.parametrize("put", [Path.touch, lambda path: path.symlink_to("/nowhere")])
def test_what_is_no_socket_is_never_removed(folder: Path, put: object) -> None:
    path = folder / "site"
    assert callable(put)
    put(path)
    with pytest.raises(CannotBind, match="the file is not a socket"):
        open_listener(Bind("unix", path=str(path)), 8)
    assert path.is_symlink() or path.exists()


def test_the_umask_is_as_before(folder: Path) -> None:
    before = os.umask(0o027)
    try:
        sock = open_listener(Bind("unix", path=str(folder / "site")), 8, mode=0o600)
        close_listener(sock)
        close_listener(sock)
        plain = open_listener(Bind("unix", path=str(folder / "plain")), 8)
        assert mode_of(folder / "plain") == 0o750
        close_listener(plain)
    finally:
        assert os.umask(before) == 0o027
    assert list(folder.iterdir()) == []


def test_check_warns_where_everybody_may_say_who_is_asking(folder: Path) -> None:
    trust = "trusted_proxies: [unix]"
    for listener, warned in (
        (f"bind: unix:{folder}/site", True),
        (f'bind: unix:{folder}/site, mode: "0660"', False),
        ("bind: 127.0.0.1:8080", False),
    ):
        ended = told("check", "--config", settings(folder, 1, listener, trust))
        assert ended.returncode == 0
        assert ("every user of this machine may connect" in ended.stdout) is warned


def test_a_mode_without_a_file_is_an_error(folder: Path) -> None:
    file = settings(folder, 1, 'bind: 127.0.0.1:8080, mode: "0660"')
    ended = told("check", "--config", file)
    assert ended.returncode == 1
    assert "listeners[0].mode: has no meaning for `127.0.0.1:8080`" in ended.stderr
