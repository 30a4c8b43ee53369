"""The switch of the tests themselves: with it, connections are driven as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hopproxy.link.clients import AnyClientLink
from hopproxy.server.connection import Connection
from hopproxy.server.gateway import Gateway
from tests import drivers
from tests.raw_peers import OK
from tests.wire_pair import Hops, tasks


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> Iterator[str]:
    """The driver that the test names, whatever the one of this run is."""
    drivers.apply(request.param)
    drivers.choose_by("always the same")
    yield request.param
    drivers.apply(drivers.DRIVER)


def by(driver: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("driver", [driver], indirect=True)


def connection_of(client: AnyClientLink) -> Connection:
    """Who steps the exchanges of a client link."""
    assert isinstance(client.driver, Connection)
    return client.driver


def connection_tasks() -> int:
    """How many tasks drive a connection."""
    return sum("run_in_task" in name for name in tasks())


async def exchange_on_each(hops: Hops, count: int) -> None:
    """Open so many clients, each with two good exchanges behind it."""
    for _ in range(count):
        client, upstream = await hops.asked()
        await upstream.send(OK)
        assert (await client.message()).body == b"ok"
        assert (await hops.again(client, upstream)).body == b"ok"
        await hops.quiet()
        upstream.close()
        await hops.quiet()


@by("events")
async def test_by_events_no_connection_has_a_task(driver: str, hops: Hops) -> None:
    await hops.start()
    await exchange_on_each(hops, 5)
    links = list(hops.runtime.clients.links)
    assert [connection_of(link).in_task for link in links] == [False] * 5
    assert connection_tasks() == 0


@by("tasks")
async def test_by_tasks_each_connection_has_one_from_its_beginning(driver: str, hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    await hops.quiet()
    assert connection_tasks() == 1
    client.close()
    await hops.quiet()
    assert connection_tasks() == 0
    await exchange_on_each(hops, 5)
    links = list(hops.runtime.clients.links)
    assert [connection_of(link).in_task for link in links] == [True] * 5
    assert connection_tasks() == 5


@by("mixed")
async def test_mixed_connections_move_at_every_stage_of_an_exchange(
    driver: str, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved_at = []

    def give_task(gateway: Gateway, connection: Connection) -> None:
        at = "idle"
        if connection.running:
            at = "origin" if connection.client.partner is not None else "dial"
        moved_at.append(at)
        usual(gateway, connection)

    usual = Gateway.give_task
    monkeypatch.setattr(Gateway, "give_task", give_task)
    await hops.start()
    await exchange_on_each(hops, 40)
    links = list(hops.runtime.clients.links)
    in_task = sum(connection_of(link).in_task for link in links)
    assert connection_tasks() == in_task == len(moved_at)
    assert 0 < in_task < 40, "some move, some do not"
    assert {"origin", "idle"} <= set(moved_at), "some in the middle of an exchange"


@pytest.mark.parametrize(
    ("driver", "said"), [("tasks", "usage: hopproxy"), ("other", "HOPPROXY_TEST_DRIVER=other")]
)
def test_a_proxy_in_a_process_of_its_own_obeys_the_switch(driver: str, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.drivers", "--help"],
        capture_output=True,
        env={**os.environ, "HOPPROXY_TEST_DRIVER": driver},
        text=True,
        check=False,
    )
    assert said in ran.stdout + ran.stderr
    assert (ran.returncode == 0) is (driver == "tasks")
