"""Which addresses meet."""

import pytest

from hopproxy.settings.addresses import meet, reaches
from hopproxy.settings.units import parse_bind, parse_origin


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("localhost:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "app:80"),
        ("[::]:80", "127.0.0.1:80"),
        ("[::]:80", "0.0.0.0:80"),
        ("[::]:80", "[::1]:80"),
        (":80", "127.0.0.1:80"),
        (":80", "[::1]:80"),
        (":80", "[::]:80"),
        (":80", "0.0.0.0:80"),
        ("unix:/a", "unix:/a"),
        ("fd:3", "fd:03"),
        ("systemd:web", "systemd:web"),
        ("unix:/a/../b", "unix:/b"),
    ],
)
def test_listeners_that_cannot_stand_side_by_side(one: str, other: str) -> None:
    assert meet(parse_bind(one), parse_bind(other))
    assert meet(parse_bind(other), parse_bind(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("127.0.0.1:80", "127.0.0.1:81"),
        ("fd:3", "fd:4"),
        ("fd:3", "systemd:web"),
        ("systemd:web", ":80"),
        ("127.0.0.1:80", "127.0.0.2:80"),
        ("127.0.0.1:80", "[::1]:80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("a:80", "b:80"),
        (":0", ":0"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("unix:/a", "unix:/b"),
        ("unix:/a", ":80"),
    ],
)
def test_listeners_that_leave_each_other_room(one: str, other: str) -> None:
    assert not meet(parse_bind(one), parse_bind(other))
    assert not meet(parse_bind(other), parse_bind(one))


@pytest.mark.parametrize(
    ("origin", "bind"),
    [
        ("http://127.0.0.1:80", "127.0.0.1:80"),
        ("http://127.0.0.1:80", "0.0.0.0:80"),
        ("http://127.0.0.9:80", ":80"),
        ("http://[::1]:80", "[::]:80"),
        ("80", ":80"),
        ("80", "127.0.0.1:80"),
        ("80", "[::1]:80"),
        ("80", "localhost:80"),
        ("http://127.0.0.1:80", "localhost:80"),
        ("http://0.0.0.0:80", "127.0.0.1:80"),
        ("http://app:80", "app:80"),
        ("unix:/a", "unix:/a"),
    ],
)
def test_origin_that_is_the_listener_itself(origin: str, bind: str) -> None:
    assert reaches(parse_origin(origin), parse_bind(bind))


@pytest.mark.parametrize(
    ("origin", "bind"),
    [
        ("http://127.0.0.1:81", ":80"),
        ("http://127.0.0.1:80", "fd:3"),
        ("http://app:80", ":80"),
        ("http://10.0.0.1:80", "127.0.0.1:80"),
        ("http://127.0.0.1:80", "127.0.0.2:80"),
        ("80", "10.0.0.1:80"),
        ("http://0.0.0.0:80", "10.0.0.1:80"),
        ("unix:/a", "unix:/b"),
        ("unix:/a", ":80"),
    ],
)
def test_origin_that_is_another(origin: str, bind: str) -> None:
    assert not reaches(parse_origin(origin), parse_bind(bind))
