"""From the few words of `hopproxy dev` to where it listens and what it stands in front of."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hopproxy.dev.settings import ADMIN, SITE, bind_of, dev_settings, open_at, origin_of
from hopproxy.dev.start import url
from hopproxy.server.listener import CannotBind
from hopproxy.settings.agreement import contradictions
from hopproxy.settings.amounts import Misread
from hopproxy.settings.reader import read
from hopproxy.settings.units import Bind, OriginAddress

ORIGIN = OriginAddress("tcp", "localhost", 1)


@pytest.fixture
def taken() -> Iterator[Bind]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Bind("tcp", "127.0.0.1", server.getsockname()[1])


@pytest.mark.parametrize(
    ("word", "origin"),
    [
        ("3000", "http://localhost:3000"),
        (":3000", "http://localhost:3000"),
        ("3000/", "http://localhost:3000"),
        ("localhost:3000", "http://localhost:3000"),
        ("app.test:3000", "http://app.test:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        ("localhost", "http://localhost:80"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_an_origin_is_said_in_few_words(word: str, origin: str) -> None:
    assert str(origin_of(word)) == origin


@pytest.mark.parametrize("word", ["ftp://x", "3000/path", "99999", "0", "a b", "unix:x", ""])
def test_what_is_no_origin_is_misread(word: str) -> None:
    with pytest.raises(Misread):
        origin_of(word)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("/run/app.sock", "write unix:/run/app.sock"),
        ("//localhost:3000", "write http://localhost:3000"),
        ("localhost:3000/api", "write http://localhost:3000"),
    ],
)
def test_what_is_nearly_an_origin_is_told_how_to_be_written(word: str, hint: str) -> None:
    with pytest.raises(Misread) as caught:
        origin_of(word)
    assert caught.value.hint.endswith(hint)


@pytest.mark.parametrize(
    ("word", "bind"),
    [
        ("9000", "127.0.0.1:9000"),
        (":9000", "127.0.0.1:9000"),
        ("0.0.0.0:9000", "0.0.0.0:9000"),
        ("[::]:9000", "[::]:9000"),
        ("unix:/run/site.sock", "unix:/run/site.sock"),
    ],
)
def test_a_bind_is_said_in_few_words(word: str, bind: str) -> None:
    assert str(bind_of(word)) == bind


def test_a_bind_with_one_number_too_many_is_misread() -> None:
    with pytest.raises(Misread):
        bind_of("8080:80")


def test_the_settings_agree_with_each_other() -> None:
    site, admin = Bind("tcp", "127.0.0.1", 8080), Bind("tcp", "127.0.0.1", 9901)
    settings = dev_settings(ORIGIN, site, admin)
    assert list(contradictions(settings)) == []
    assert settings.upstreams["app"].origins == (ORIGIN,)
    assert settings.listeners[0].bind == site
    assert settings.access_log == "text"


def test_local_dev_yaml_is_the_same_as_a_file() -> None:
    file = Path(__file__).parents[2] / "config" / "local-dev.yaml"
    written = read(file.read_text(), file=file.name, environ={})
    expected = dev_settings(origin_of("3000"), SITE, ADMIN)
    assert msgspec.structs.replace(written, routes=()) == expected


def test_a_taken_port_makes_way_for_the_next_free_one(taken: Bind) -> None:
    sock, bind = open_at(None, taken, ORIGIN)
    with sock:
        assert taken.port < bind.port <= taken.port + 20
        assert sock.getsockname() == (bind.host, bind.port)


def test_a_port_that_was_asked_for_is_not_exchanged(taken: Bind) -> None:
    with pytest.raises(CannotBind, match=f"cannot listen on {taken}"):
        open_at(taken, Bind("tcp", "127.0.0.1", 0), ORIGIN)


def test_any_port_is_told_as_the_one_it_became() -> None:
    sock, bind = open_at(Bind("tcp", "127.0.0.1", 0), Bind("tcp", "127.0.0.1", 0), ORIGIN)
    with sock:
        assert bind.port == sock.getsockname()[1] > 0


def test_the_origins_own_port_is_left_to_it_even_while_it_is_down(taken: Bind) -> None:
    free = _free_port()
    origin = OriginAddress("tcp", "localhost", free)
    sock, bind = open_at(None, Bind("tcp", "127.0.0.1", free), origin)
    with sock:
        assert bind.port > free
    with pytest.raises(CannotBind, match="that is the origin"):
        open_at(Bind("tcp", "127.0.0.1", free), taken, origin)


def test_the_origins_own_unix_socket_is_not_taken(taken: Bind) -> None:
    with pytest.raises(CannotBind, match="that is the origin"):
        open_at(Bind("unix", path="/run/x"), taken, OriginAddress("unix", path="/run/x"))


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        (Bind("tcp", "127.0.0.1", 8080), "http://127.0.0.1:8080"),
        (Bind("tcp", "0.0.0.0", 8080), "http://127.0.0.1:8080"),
        (Bind("tcp", "::", 8080), "http://[::1]:8080"),
        (Bind("unix", path="/run/x"), "unix:/run/x"),
    ],
)
def test_the_address_to_open_is_one_that_a_browser_can_reach(bind: Bind, address: str) -> None:
    assert url(bind) == address


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
