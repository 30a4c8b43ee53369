"""From the few words of `hopproxy dev` to where it listens and what it stands in front of."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hopproxy.dev.settings import ADMIN, SITE, bind_of, dev_settings, open_at
from hopproxy.dev.site import Site, origin_of, site_of
from hopproxy.dev.start import url
from hopproxy.message import RequestHead
from hopproxy.server.listener import CannotBind
from hopproxy.settings.agreement import contradictions
from hopproxy.settings.amounts import Misread
from hopproxy.settings.reader import read
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.settings.words import parse_host

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
    settings = dev_settings(Site({"app": ORIGIN}, "app"), site, admin)
    assert list(contradictions(settings)) == []
    assert settings.upstreams["app"].origins == (ORIGIN,)
    assert settings.listeners[0].bind == site
    assert settings.access_log == "text"


def test_local_dev_yaml_is_the_same_as_a_file() -> None:
    file = Path(__file__).parents[2] / "config" / "local-dev.yaml"
    written = read(file.read_text(), file=file.name, environ={})
    expected = dev_settings(site_of(["3000"], [], [], None), SITE, ADMIN)
    assert written == expected


def test_a_taken_port_makes_way_for_the_next_free_one(taken: Bind) -> None:
    sock, bind = open_at(None, taken, [ORIGIN])
    with sock:
        assert taken.port < bind.port <= taken.port + 20
        assert sock.getsockname() == (bind.host, bind.port)


def test_a_port_that_was_asked_for_is_not_exchanged(taken: Bind) -> None:
    with pytest.raises(CannotBind, match=f"cannot listen on {taken}"):
        open_at(taken, Bind("tcp", "127.0.0.1", 0), [ORIGIN])


def test_any_port_is_reported_as_the_one_it_became() -> None:
    sock, bind = open_at(Bind("tcp", "127.0.0.1", 0), Bind("tcp", "127.0.0.1", 0), [ORIGIN])
    with sock:
        assert bind.port == sock.getsockname()[1] > 0


def test_the_origins_own_port_is_left_to_it_even_while_it_is_down(taken: Bind) -> None:
    free = _free_port()
    origin = OriginAddress("tcp", "localhost", free)
    sock, bind = open_at(None, Bind("tcp", "127.0.0.1", free), [origin])
    with sock:
        assert bind.port > free
    with pytest.raises(CannotBind, match="that is the origin"):
        open_at(Bind("tcp", "127.0.0.1", free), taken, [origin])


def test_the_origins_own_unix_socket_is_not_taken(taken: Bind) -> None:
    with pytest.raises(CannotBind, match="that is the origin"):
        open_at(Bind("unix", path="/run/x"), taken, [OriginAddress("unix", path="/run/x")])


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


def test_the_url_of_a_site_that_is_an_ipv6_address() -> None:
    bind = Bind("tcp", "::1", 8080)
    assert url(bind, parse_host("[::1]")) == url(bind) == "http://[::1]:8080"
    assert url(bind, "app.localhost") == "http://app.localhost:8080"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


# -- several origins, paths and hosts --------------------------------------------------------


def leads(site: Site, host: str, target: str = "/") -> str:
    head = RequestHead(b"GET", target.encode(), 1, [], [])
    head.host = host.encode()
    return str(site.origin_of(head))


def test_named_origins_have_hosts_and_the_first_takes_the_rest() -> None:
    site = site_of(["web=3000", "api=4000", "shop.test=5000"], [], ["app.localhost"], None)
    for host, port in (
        ("localhost:8080", 3000), ("api.localhost:8080", 4000), ("api.app.localhost", 4000),
        ("shop.test", 5000), ("other.test", 3000),
    ):  # fmt: skip
        assert leads(site, host) == f"http://localhost:{port}"


def test_paths_lead_to_origins_of_their_own_or_to_named_ones() -> None:
    site = site_of(["web=3000", "api=4000"], ["/api=api", "/api/v2=5000", "/x=6000"], [], "5s")
    assert site.hold == 5.0
    for target, port in (("/", 3000), ("/api/x", 4000), ("/api/v2?y", 5000), ("/x", 6000)):
        assert leads(site, "a", target) == f"http://localhost:{port}"
    assert list(site.origins) == ["web", "api", "api-v2", "x"]
    settings = dev_settings(site, SITE, ADMIN)
    assert list(contradictions(settings)) == []
    assert {one.hold for one in settings.upstreams.values()} == {5.0}


def test_without_an_origin_the_demo_takes_all_but_the_paths() -> None:
    site = site_of([], ["/app=4000", "/=5000"], [], None)
    assert site.first == ""
    site = site.with_demo(ORIGIN)
    assert leads(site, "a", "/app") == "http://localhost:4000"
    assert list(site.origins) == ["app", "app-2", "root"]


@pytest.mark.parametrize(
    "words",
    [
        (["3000", "4000"], [], [], None), (["a=3000", "a=4000"], [], [], None),
        (["3000"], ["/api"], [], None), (["3000"], ["api=4000"], [], None),
        (["3000"], ["/a=1", "/a=2"], [], None), (["3000"], [], ["*.a"], None),
        (["3000"], [], ["a:80"], None), (["3000"], [], [], "10"), (["a=x y"], [], [], None),
    ],
)  # fmt: skip
def test_what_is_no_site_is_misread(words: tuple[list[str], list[str], list[str], None]) -> None:
    with pytest.raises(Misread):
        site_of(*words)


def test_origins_may_see_their_own_host() -> None:
    site = Site({"app": ORIGIN}, "app", rewrites_host=True)
    assert dev_settings(site, SITE, ADMIN).upstreams["app"].host == "origin"
