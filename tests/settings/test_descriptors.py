"""How file descriptors are shared out between clients, origins and the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings.descriptors import RESERVED, admin_share, fitted, shortfalls
from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings


def settings(
    clients: int = 4096, upstream: int = 4096, origins: int = 1, pool: int = 256
) -> Settings:
    listed = ", ".join(f"http://10.0.0.{n}:80" for n in range(1, origins + 1))
    app = f"{{origins: [{listed}], pool: {{max_connections: {pool}, max_idle: 1}}}}"
    text = (
        f"client: {{max_connections: {clients}}}\n"
        f"max_upstream_connections: {upstream}\n"
        f"upstreams: {{app: {app}}}\n"
    )
    return read(text, file="x", environ={})


def shares(limit: int, held: int = 0, **limits: int) -> tuple[int, int]:
    found = fitted(settings(**limits), limit, held)
    return found.client.max_connections, found.max_upstream_connections


def test_what_fits_stays_as_it_is() -> None:
    assert shares(1_000_000) == (4096, 4096)
    assert list(shortfalls(settings(), 1_000_000)) == []


def test_clients_leave_to_the_origins_what_their_pools_may_hold() -> None:
    clients, upstream = shares(1024)
    assert upstream == 4096, "only 256 of them can ever be opened"
    assert clients == 1024 - 17 - RESERVED - 256


def test_many_origins_get_half() -> None:
    clients, upstream = shares(1024, origins=20)
    assert clients + upstream == 1024 - 17 - RESERVED
    assert abs(clients - upstream) <= 1


def test_what_clients_do_not_ask_for_goes_to_the_origins() -> None:
    assert shares(1024, clients=100, origins=20) == (100, 1024 - 17 - RESERVED - 100)


def test_what_is_open_already_counts() -> None:
    assert shares(1024, held=500)[0] == 1024 - 500 - RESERVED - 198


def test_the_warnings_name_the_setting_what_fits_and_what_would() -> None:
    (few,) = shortfalls(settings(), 1024)
    assert few.path == "client.max_connections"
    assert few.message == "4096 do not fit in 1024 file descriptors: 623 are served at once"
    assert few.hint.startswith("raise the limit of open files to 4497 (")
    assert list(shortfalls(settings(), 4497)) == []
    both = list(shortfalls(settings(origins=20), 1024))
    assert [risk.path for risk in both] == ["client.max_connections", "max_upstream_connections"]
    assert both[1].message == (
        "4096 connections to origins do not fit in 1024 file descriptors: 439 are opened at most"
    )


@pytest.mark.parametrize("limit", [0, 1, 20, 40])
def test_even_a_few_leave_room_for_one_exchange(limit: int) -> None:
    clients, upstream = shares(limit)
    assert clients >= 1
    assert upstream >= 1


@given(
    limit=st.integers(40, 20_000),
    clients=st.integers(1, 10_000),
    upstream=st.integers(1, 10_000),
    origins=st.integers(1, 5),
)
def test_what_is_promised_fits(limit: int, clients: int, upstream: int, origins: int) -> None:
    asked = settings(clients, upstream, origins)
    given_out = fitted(asked, limit)
    assert given_out.client.max_connections <= clients
    assert given_out.max_upstream_connections <= upstream
    opened = min(given_out.max_upstream_connections, origins * 256)
    assert 17 + given_out.client.max_connections + opened < limit
    assert (given_out == asked) == (not list(shortfalls(asked, limit)))


@pytest.mark.parametrize(("limit", "share"), [(1024, 128), (64, 8), (4, 1)])
def test_the_admin_listener_has_an_eighth_of_the_descriptors(limit: int, share: int) -> None:
    assert admin_share(limit) == share
