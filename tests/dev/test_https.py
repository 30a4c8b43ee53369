"""`hopproxy dev --https`: an authority of one's own, and what browsers get of it."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from hopproxy.certificates import machine_trusts
from hopproxy.dev.authority import ALWAYS, certificate_for, data_folder, trust
from hopproxy.dev.settings import ADMIN, HTTPS, dev_settings
from hopproxy.dev.site import site_of
from hopproxy.settings.chain import examine, facts
from hopproxy.settings.pem import Source
from tests.cli.command import finished, hopproxy
from tests.ports import free_port

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def names_in(file: str) -> tuple[str, ...]:
    return facts(x509.load_pem_x509_certificate(Path(file).read_bytes()), "").names


def test_the_authority_is_made_once_and_what_it_signs_is_used_again(tmp_path: Path) -> None:
    first = certificate_for(["app.localhost"], tmp_path / "hopproxy", NOW)
    again = certificate_for(["app.localhost"], tmp_path / "hopproxy", NOW + timedelta(days=50))
    assert (first.new, again.new) == (True, False)
    assert again.certificate == first.certificate
    assert set(names_in(first.certificate.cert)) == {*ALWAYS, "app.localhost"}
    other = certificate_for(["shop.test", "10.0.0.7", "[::2]"], tmp_path / "hopproxy", NOW)
    assert other.certificate != first.certificate
    assert set(names_in(other.certificate.cert)) == {*ALWAYS, "shop.test", "10.0.0.7", "::2"}


def test_a_certificate_that_ends_soon_is_made_again_by_the_same_authority(tmp_path: Path) -> None:
    first = certificate_for([], tmp_path, NOW)
    old = Path(first.certificate.cert).read_bytes()
    later = certificate_for([], tmp_path, NOW + timedelta(days=61))
    assert not later.new
    assert Path(later.certificate.cert).read_bytes() != old


def other_key() -> bytes:
    """A key that belongs to no certificate here."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def encrypted_key() -> bytes:
    """A key that cannot be read without its password."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize("key", [bytes, other_key, encrypted_key])
def test_a_certificate_whose_key_is_lost_is_made_again(
    tmp_path: Path, key: Callable[[], bytes]
) -> None:
    first = certificate_for([], tmp_path, NOW)
    Path(str(first.certificate.key)).write_bytes(key())
    second = certificate_for([], tmp_path, NOW)
    assert not second.new
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
        second.certificate.cert, second.certificate.key
    )


@pytest.mark.parametrize("key", [bytes, other_key, encrypted_key])
def test_a_lost_authority_is_made_again_with_what_it_has_signed(
    tmp_path: Path, key: Callable[[], bytes]
) -> None:
    first = certificate_for([], tmp_path, NOW)
    (tmp_path / "ca.key").write_bytes(key())
    second = certificate_for([], tmp_path, NOW)
    assert (first.new, second.new) == (True, True)
    leaf, root = (
        x509.load_pem_x509_certificate(Path(file).read_bytes())
        for file in (second.certificate.cert, second.ca)
    )
    leaf.verify_directly_issued_by(root)
    source = Source("k", Path(str(second.certificate.key)).read_bytes())
    cert = Source("c", Path(second.certificate.cert).read_bytes())
    _, found = examine(cert, source, NOW.timestamp(), frozenset, server=True)
    assert found == []


def test_nobody_else_may_read_the_keys(tmp_path: Path) -> None:
    made = certificate_for([], tmp_path / "new" / "hopproxy", NOW)
    assert (tmp_path / "new" / "hopproxy").stat().st_mode & 0o777 == 0o700
    for key in (made.ca.with_suffix(".key"), Path(str(made.certificate.key))):
        assert key.stat().st_mode & 0o777 == 0o600
    assert not machine_trusts(str(made.ca))
    assert not machine_trusts("/nowhere")


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "hopproxy"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert data_folder() == tmp_path / ".local/share/hopproxy"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder() == tmp_path / ".local/share/hopproxy"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_folder() == tmp_path / "Library/Application Support/hopproxy"


def test_one_command_for_each_system() -> None:
    lines = trust(Path("/home/me/my data/ca.crt"))
    assert [line.partition(":")[0] for line in lines] == ["Debian", "macOS", "Firefox", "Chromium"]
    assert all("'/home/me/my data/ca.crt'" in line for line in lines)


def test_an_origin_on_this_machine_may_have_a_certificate_of_its_own_making() -> None:
    site = site_of(["web=https://localhost:5173", "api=https://api.example"], [], [], None)
    settings = dev_settings(site, HTTPS, ADMIN)
    assert not settings.upstreams["web"].tls.verify
    assert settings.upstreams["api"].tls.verify
    assert site.all_hosts() == ("web.localhost", "api.localhost")


def _hot_reload(listener: socket.socket) -> None:
    """A server like Vite's: it switches protocols, and echoes."""
    head = b""
    while not head:  # the first connection is only to see whether somebody is there
        connection, _ = listener.accept()
        with connection:
            head = connection.recv(65536)
            if not head:
                continue
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Protocol: vite-hmr\r\n\r\n"
            )
            connection.sendall(connection.recv(100) if b"Proto: https\r\n" in head else b"")


def test_hot_reload_works_over_wss(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_hot_reload, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        environ = {**os.environ, "XDG_DATA_HOME": str(tmp_path)}
        bind = free_port()
        words = ("--https", "--host", "app.test", "--bind", str(bind), "--admin", "127.0.0.1:0")
        with hopproxy(
            "dev", f"127.0.0.1:{port}", *words, until=r"open https://app.test", env=environ
        ) as command:
            assert f"made a certificate authority: {tmp_path}/hopproxy/ca.crt" in command.said
            assert "Chromium: mkdir -p $HOME/.pki/nssdb && certutil" in command.said
            context = ssl.create_default_context(cafile=tmp_path / "hopproxy" / "ca.crt")
            plain = socket.create_connection(("127.0.0.1", bind), 10)
            with context.wrap_socket(plain, server_hostname="app.test") as client:
                client.sendall(
                    b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\n"
                    b"Upgrade: websocket\r\nSec-WebSocket-Protocol: vite-hmr\r\n\r\n"
                )
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += client.recv(65536)
                assert answer.startswith(b"HTTP/1.1 101 ")
                client.sendall(b"ping")
                assert client.recv(100) == b"ping"
        thread.join()


def test_a_folder_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = finished("dev", "--https", env={**os.environ, "XDG_DATA_HOME": f"{tmp_path}/file"})
    assert ended.returncode == 1
    assert (
        ended.stderr == f"hopproxy dev: {tmp_path}/file/hopproxy cannot be used: Not a directory\n"
    )
