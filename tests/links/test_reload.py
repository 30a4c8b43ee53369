"""Settings that change while a worker serves: read from a file, applied in place."""

from __future__ import annotations

import gc
import logging
import marshal
import math
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from hopproxy.exits import Failure
from hopproxy.observe.families import Key, lasting
from hopproxy.observe.metrics import Metrics
from hopproxy.observe.snapshot import summary
from hopproxy.proxy.gone import EARLIER
from hopproxy.reasons import CloseReason, Hop
from hopproxy.server import reload
from hopproxy.server.channel import Message, in_memory
from hopproxy.server.listener import CannotBind, open_listener
from hopproxy.server.reload import Reloader
from hopproxy.server.siblings import Siblings
from hopproxy.server.sockets import Sockets, rebound
from hopproxy.server.worker import Worker
from hopproxy.settings.reader import read
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Bind
from hopproxy.settings_file import SettingsFile, read_file, read_text
from tests.issued import authority
from tests.ports import free_port
from tests.raw_peers import GET, OK, Peer
from tests.wire_pair import Hops, nothing_left, open_files

UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Live(Hops):
    """Both hops, with settings from a file.  In a text `@` is the folder of all sockets."""

    reloader: Reloader

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        super().__init__(nursery, directory)
        self.folder = directory
        self.file = directory / "hopproxy.yaml"

    def write(self, text: str) -> None:
        """Replace the settings file, as editors do."""
        new = self.folder / "new"
        new.write_text(text.replace("@", str(self.folder)))
        new.rename(self.file)

    async def serve(self, text: str, siblings: object = None) -> None:
        """Serve with these settings, in front of two origins."""
        self.add_origin()
        self.add_origin()
        self.write(text)
        file = read_file(str(self.file))
        nothing = replace(file.settings, listeners=(), admin=None)
        sockets = rebound(nothing, Sockets([], None), file.settings)
        self.target = sockets.clients[0].getsockname()
        self.worker = Worker(file.settings, sockets, self.records)
        others = cast("Siblings | None", siblings)
        self.reloader = Reloader(self.worker, file, sockets, _as_it_is, others)
        self.runtime = await self.nursery.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[object]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.reloader.run)
            await self._run(task_status)
            nursery.cancel_scope.cancel()

    def by_tcp(self) -> None:
        """From now on clients use TCP, whose delivery may lag behind the system call."""
        self.tcp = True
        clock().autojump_threshold = 0.02

    async def reload(self, text: str) -> bool:
        """Reload with these settings; whether that succeeded."""
        self.write(text)
        return await self.reloader.reload_now()

    async def asked_on(self, client: Peer, origin: int) -> Peer:
        """The upstream link on which a request of this client reaches this origin."""
        await client.send(GET)
        upstream = await self.origins[origin].accept()
        await upstream.message()
        return upstream

    async def client_of(self, name: str) -> Peer:
        """A client of the listener on the Unix socket of this name."""
        self.target = str(self.folder / name)
        return await self.client()


def _as_it_is(settings: Settings) -> Settings:
    return settings


def clock() -> MockClock:
    """That of this run."""
    found = trio.lowlevel.current_clock()
    assert isinstance(found, MockClock)
    return found


@pytest.fixture
async def live(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    """Settings are read in a thread; meanwhile no time passes, however long it takes."""
    run_sync = trio.to_thread.run_sync

    async def beside_time(*args: Any, **more: Any) -> Any:
        before, clock().autojump_threshold = clock().autojump_threshold, math.inf
        try:
            return await run_sync(*args, **more)
        finally:
            clock().autojump_threshold = before

    monkeypatch.setattr(trio.to_thread, "run_sync", beside_time)
    with nothing_left():
        async with trio.open_nursery() as nursery:
            made = Live(nursery, directory)
            yield made
            await made.end()


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


BASE = """listeners: [{bind: "unix:@/gateway"}]
upstreams:
  app: {origins: ["unix:@/origin0"]}
"""
WITH_API = f'{BASE}  api: {{origins: ["unix:@/origin1"]}}\nroutes: [{{upstream: ROUTE}}]\n'


# -- applied in place --------------------------------------------------------------------------


async def test_a_route_leads_elsewhere_and_links_stay(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(WITH_API.replace("ROUTE", "app"))
    client, first = await live.pair()
    assert await live.reload(WITH_API.replace("ROUTE", "api"))
    assert (await live.anew(client, 1)).body == b"ok", "on the same client link"
    assert await live.reload(WITH_API.replace("ROUTE", "app"))
    assert (await live.again(client, first)).body == b"ok", "and on the old upstream link"
    assert live.closes(Hop.CLIENT) == []
    assert live.closes(Hop.UPSTREAM) == []
    assert "route 1: upstream app -> api" in caplog.messages


async def test_an_origin_comes_and_goes(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    await live.serve(BASE)
    client, first = await live.pair()
    both = BASE.replace('0"]', '0", "unix:@/origin1"]')
    assert await live.reload(both)
    assert f"upstreams.app.origins: + unix:{live.folder}/origin1" in caplog.messages
    assert (await live.again(client, first)).body == b"ok"
    second = await live.asked_on(client, 1)
    assert await live.reload(BASE)
    await second.send(OK)
    assert (await client.message()).body == b"ok", "what is under way ends"
    assert await second.rest() == b""
    assert live.closes(Hop.UPSTREAM) == [CloseReason.ORIGIN_REMOVED]


async def test_no_counter_falls_whatever_leaves_and_comes_back(live: Live) -> None:
    def counted() -> dict[Key, float]:
        return lasting(Metrics(live.runtime, None).collect())

    def totals() -> dict[str, int]:
        found = summary(live.runtime, 0.0)["totals"]
        return {name: found[name] for name in ("requests", "sent", "opened", "reused")}

    one = WITH_API.replace("ROUTE", "app")
    await live.serve(one)
    client, upstream = await live.pair()
    assert (await live.again(client, upstream)).body == b"ok"
    before, sums = counted(), totals()
    assert (sums["requests"], sums["opened"], sums["reused"]) == (2, 1, 1)
    for text in (
        one.replace('origins: ["unix:@/origin0"]', 'origins: ["unix:@/origin0"], hold: 1s'),
        one.replace("/origin0", "/origin1"),
        BASE.replace("app:", "other:"),
        one,
    ):
        assert await live.reload(text)
        now = totals()
        assert [name for name in sums if now[name] < sums[name]] == []
    now_counted = counted()
    assert [key for key in before if now_counted.get(key, 0) < before[key]] == []
    client.close()


async def test_of_many_upstreams_that_are_gone_the_sums_are_kept(live: Live) -> None:
    """Names may be new in each deployment."""

    def series() -> int:
        return len(lasting(Metrics(live.runtime, None).collect()))

    await live.serve(BASE)
    client, upstream = await live.pair()
    assert (await live.again(client, upstream)).body == b"ok"
    client.close()
    text = BASE.replace("@", str(live.folder))

    def rename(number: int) -> None:
        live.runtime.apply(read(text.replace("app:", f"app{number}:"), file="", environ={}))

    for number in range(60):
        rename(number)
    earlier = live.runtime.tallies[EARLIER]
    assert earlier.statuses == {200: 2}
    assert sum(earlier.durations.buckets) == 2
    totals = summary(live.runtime, 0.0)["totals"]
    assert (totals["requests"], totals["opened"], totals["reused"]) == (2, 1, 1)
    before = series()
    for number in range(60, 90):
        rename(number)
    assert series() == before


async def test_an_upgraded_connection_lives_through_reloads(live: Live) -> None:
    await live.serve(WITH_API.replace("ROUTE", "app"))
    client, upstream = await live.asked(UPGRADE)
    await upstream.send(SWITCHED)
    await client.message(bodiless=True)
    other = 'listeners: [{bind: "unix:@/other"}]'
    for text in (
        WITH_API.replace("ROUTE", "api"),
        WITH_API.replace("ROUTE", "app").replace(BASE.splitlines()[0], other),
        "drain_delay: 1s\n" + WITH_API.replace("ROUTE", "app"),
    ):
        assert await live.reload(text)
        await client.send(b"ping")
        assert await upstream.exactly(4) == b"ping"
        await upstream.send(b"pong")
        assert await client.exactly(4) == b"pong"


async def test_limits_hold_for_new_connections(live: Live) -> None:
    await live.serve(BASE)
    old, upstream = await live.pair()
    assert await live.reload(BASE + "client: {idle_timeout: 5s}\n")
    new = await live.client()
    assert (await live.again(new, upstream)).body == b"ok"
    await trio.sleep(6)
    assert await new.rest() == b""
    assert (await live.again(old, upstream)).body == b"ok"


async def test_the_access_log_is_turned_off_and_on(live: Live) -> None:
    await live.serve(BASE)
    client, upstream = await live.pair()
    for style, lines in (("off", 1), ("text", 2), ("json", 3)):
        assert await live.reload(f"{BASE}access_log: {style}\n")
        await live.again(client, upstream)
        assert len(live.records.kept) == lines


# -- what does not succeed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "drain_timeout: 5\n", "/hopproxy.yaml:4:16: drain_timeout: `5` has no unit"),
        ("upstreams: [", "/hopproxy.yaml:1:13: is not YAML"),
        ("", "/hopproxy.yaml:1:1: is empty"),
        (
            BASE.replace("gateway", "gateway} , {bind: unix:/nowhere/at/all"),
            "cannot listen on unix:/nowhere/at/all: its directory does not exist",
        ),
    ],
)
async def test_a_bad_file_changes_nothing(
    live: Live, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    await live.serve(BASE)
    client, upstream = await live.pair()
    assert not await live.reload(text.replace("gateway}", 'gateway"}').replace('all"', "all"))
    assert any(said in message for message in caplog.messages), caplog.messages
    assert caplog.messages[-1].endswith("not reloaded: the current settings stay in use")
    assert (await live.again(client, upstream)).body == b"ok"
    assert (await live.again(await live.client(), upstream)).body == b"ok"
    reloads = live.runtime.reloads
    assert (reloads.done, reloads.failed, reloads.last_failed) == (0, 1, True)
    assert await live.reload(BASE)
    assert (reloads.done, reloads.failed, reloads.last_failed) == (1, 1, False)


async def test_a_file_that_is_gone_changes_nothing(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(BASE)
    live.file.unlink()
    assert not await live.reloader.reload_now()
    assert f"{live.file}: cannot be read: No such file or directory" in caplog.messages
    client, _ = await live.pair()
    client.close()


async def test_a_fifo_in_place_of_the_file_delays_no_others(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(BASE)
    client, upstream = await live.pair()
    live.file.unlink()
    os.mkfifo(live.file)
    assert not await live.reloader.reload_now()
    assert f"{live.file}: cannot be read again: it is not a regular file" in caplog.messages
    assert (await live.again(client, upstream)).body == b"ok"
    assert await live.reload(BASE)


async def test_metrics_tell_the_time_and_outcome(live: Live) -> None:
    await live.serve(BASE)
    metrics = Metrics(live.runtime, None)

    def value(name: str) -> float:
        lines = metrics.exposition("")[0].decode().splitlines()
        [found] = [float(line.split()[-1]) for line in lines if line.startswith(name)]
        return found

    assert value("hopproxy_config_last_reload_successful") == 1
    begun = value("hopproxy_config_last_reload_success_timestamp_seconds")
    assert value("hopproxy_config_last_reload_timestamp_seconds") == begun
    assert not await live.reload("")
    assert value("hopproxy_config_last_reload_successful") == 0
    assert value('hopproxy_config_reloads_total{outcome="failed"}') == 1
    failed = value("hopproxy_config_last_reload_timestamp_seconds")
    assert failed >= begun
    assert value("hopproxy_config_last_reload_success_timestamp_seconds") == begun
    assert await live.reload(BASE)
    assert value("hopproxy_config_last_reload_successful") == 1
    assert value('hopproxy_config_reloads_total{outcome="done"}') == 1
    assert value("hopproxy_config_last_reload_success_timestamp_seconds") >= failed


# -- listeners ---------------------------------------------------------------------------------


async def test_a_listener_moves_and_its_queue_is_served(live: Live) -> None:
    await live.serve(BASE)
    client, upstream = await live.pair()
    queued = trio.socket.from_stdlib_socket(connected(live.target))  # not accepted yet
    live.clients.append(Peer(queued))
    live.write(BASE.replace("/gateway", "/moved"))
    read = read_file(str(live.file))
    sockets = rebound(live.reloader.file.settings, live.reloader.sockets, read.settings)
    live.worker.apply(read.settings, sockets)
    live.reloader.file, live.reloader.sockets = read, sockets
    with pytest.raises(FileNotFoundError):
        await live.client()
    assert (await live.again(live.clients[1], upstream)).body == b"ok"
    assert (await live.again(client, upstream)).body == b"ok"
    assert (await live.again(await live.client_of("moved"), upstream)).body == b"ok"


def connected(target: str | tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(target)
    sock.setblocking(False)
    return sock


async def test_nothing_is_given_up_if_one_address_cannot_be_had(live: Live) -> None:
    await live.serve(BASE)
    moved = 'listeners: [{bind: "unix:@/a"}, {bind: "unix:@/b"}, {bind: unix:/nowhere/at/all}]'
    assert not await live.reload("")
    await live.quiet()
    before = open_files()
    assert not await live.reload(BASE.replace(BASE.splitlines()[0], moved))
    assert open_files() == before
    assert sorted(os.listdir(live.folder)) == ["gateway", "hopproxy.yaml", "origin0", "origin1"]
    client, _ = await live.pair()
    client.close()


@pytest.mark.parametrize(("old", "new"), [("127.0.0.1", ""), ("", "127.0.0.1")])
async def test_a_listener_becomes_wider_or_narrower_on_its_port(
    live: Live, old: str, new: str
) -> None:
    port = free_port()
    await live.serve(BASE.replace("unix:@/gateway", f"{old}:{port}"))
    live.by_tcp()
    live.target = ("127.0.0.1", port)
    client, upstream = await live.pair()
    assert await live.reload(BASE.replace("unix:@/gateway", f"{new}:{port}"))
    assert (await live.again(client, upstream)).body == b"ok"
    assert (await live.again(await live.client(), upstream)).body == b"ok"
    [sock] = live.reloader.sockets.clients
    assert sock.getsockname()[0] == ("::" if not new and socket.has_dualstack_ipv6() else new)
    with pytest.raises(CannotBind, match="another process listens there"):
        open_listener(Bind("tcp", "127.0.0.1", port), 8)


async def test_backlog_and_mode_change_in_place(live: Live) -> None:
    await live.serve(BASE)
    [sock] = live.reloader.sockets.clients
    assert await live.reload(BASE.replace('gateway"', 'gateway", mode: 600, backlog: 7'))
    assert live.reloader.sockets.clients == [sock]
    assert stat.S_IMODE((live.folder / "gateway").stat().st_mode) == 0o600


async def test_more_listeners_than_one_message_takes_descriptors(live: Live) -> None:
    many = ", ".join(f'{{bind: "unix:@/{number}"}}' for number in range(300))
    await live.serve(BASE)
    assert await live.reload(BASE)
    await live.quiet()
    before = len(open_files())
    with_many = BASE.replace('gateway"}', f'gateway"}}, {many}')
    assert await live.reload(with_many)
    assert len(open_files()) == before + 300
    _, upstream = await live.pair()
    for name in ("0", "299"):
        assert (await live.again(await live.client_of(name), upstream)).body == b"ok"
    await live.leave()
    assert await live.reload(BASE)
    assert len(list(live.folder.iterdir())) == 4


async def test_the_admin_listener_comes_moves_and_goes(live: Live) -> None:
    await live.serve(BASE)
    for name in ("one", "two"):
        assert await live.reload(f'{BASE}admin: {{bind: "unix:@/{name}"}}\n')
        looker = await live.client_of(name)
        await looker.send(GET.replace(b"/ ", b"/healthz "))
        assert (await looker.message()).body == b"alive\n"
    assert await looker_gone(live, "one")
    assert await live.reload(BASE)
    await live.quiet()
    assert await looker_gone(live, "two")


async def looker_gone(live: Live, name: str) -> bool:
    return not (live.folder / name).exists()


# -- several at once ---------------------------------------------------------------------------


async def test_an_address_that_another_worker_is_just_giving_up_is_waited_for(live: Live) -> None:
    """It was removed by the reload before, which that worker has not heard of yet."""
    port = free_port()
    await live.serve(BASE, Second())
    text = BASE.replace('gateway"}', f'gateway"}}, {{bind: "127.0.0.1:{port}"}}')
    with socket.create_server(("127.0.0.1", port)):
        assert not await live.reload(text)
    with socket.create_server(("127.0.0.1", port)) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live.reload, text)
            await trio.sleep(0.5)
            assert len(live.reloader.sockets.clients) == 1
            other.close()
    assert len(live.reloader.sockets.clients) == 2


async def test_what_is_asked_for_during_a_reload_causes_one_more(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live.serve(BASE)
    reads: list[str] = []

    def slow(name: str) -> SettingsFile:
        reads.append(name)
        if len(reads) == 1:
            for _ in range(3):  # signals, while the file is read
                trio.from_thread.run_sync(live.reloader.reload)
        return read_file(name)

    monkeypatch.setattr(reload, "read_file", slow)
    live.reloader.reload()
    live.reloader.reload()
    await trio.sleep(1)
    assert len(reads) == 2
    assert live.runtime.reloads.done == 2


async def test_a_stop_during_a_reload_wins(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(f"drain_delay: 5s\n{BASE}")

    def slow(name: str) -> SettingsFile:
        trio.from_thread.run_sync(live.worker.stop)
        return read_file(name)

    monkeypatch.setattr(reload, "read_file", slow)
    assert not await live.reload(BASE.replace("/gateway", "/moved"))
    assert f"{live.file}: not reloaded: hopproxy is stopping" in caplog.messages
    await live.ended.wait()
    assert not (live.folder / "moved").exists()


async def test_a_hundred_reloads_leave_nothing_behind(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    """Each with another upstream, origin, route, listener and admin address than the one before."""
    texts = [
        WITH_API.replace("ROUTE", "app"),
        f'admin: {{bind: "unix:@/one"}}\n{WITH_API.replace("ROUTE", "api")}',
        BASE.replace("/gateway", "/moved").replace("origin0", "origin1"),
        f'admin: {{bind: "unix:@/two"}}\npseudonym: other\n{BASE.replace("origin0", "origin1")}',
    ]
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, MockClock)
    clock.autojump_threshold = 0.2  # reading a file takes longer while the machine is busy
    await live.serve(texts[0])
    caplog.set_level(logging.ERROR)  # what is captured is kept
    counts = []
    for number in range(100):
        assert await live.reload(texts[number % 4])
        if number % 4 == 3:
            await live.quiet()
            gc.collect()
            counts.append((len(open_files()), len(gc.get_objects())))
    (files, objects), *_ = counts[2:]
    assert {count for count, _ in counts[2:]} == {files}
    assert counts[-1][1] < objects + 50


async def test_what_changes_only_at_a_start_is_named(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(BASE)
    assert await live.reload(f"workers: 3\n{BASE}")
    assert "workers: 1 -> 3 (from the next start on, or after SIGUSR2)" in caplog.messages


@pytest.mark.parametrize("workers", ["2", "1", "auto"])
async def test_limits_that_the_workers_there_are_cannot_share_are_refused(
    live: Live, caplog: pytest.LogCaptureFixture, workers: str
) -> None:
    """A reload does not change how many there are."""
    await live.serve(BASE)
    live.reloader._siblings = cast("Siblings", Second())
    small = BASE.replace('origin0"]', 'origin0"], pool: {max_connections: 1}')
    assert not await live.reload(f"workers: {workers}\n{small}")
    assert f"{live.file}:4:" in caplog.text
    assert "upstreams.app.pool.max_connections: 1 cannot be divided among" in caplog.text
    assert workers == "2" or "the 2 workers that serve" in caplog.text


async def test_a_worker_that_cannot_take_over_at_once_tries_again(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate is just being replaced: another worker has read the one before."""
    await live.serve(BASE)
    tries: list[float] = []

    def torn(name: str, text: str) -> SettingsFile:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise Failure("the key does not belong to the certificate", 1)
        return read_text(name, text)

    monkeypatch.setattr(reload, "read_text", torn)
    text = live.file.read_text().replace("origin0", "origin1")
    fds = [in_memory(marshal.dumps((str(live.file), text))), in_memory(b"")]
    live.reloader.change(Message("changed", [f"unix:{live.folder}/gateway"], fds))
    await trio.sleep(10)
    assert len(tries) == 3
    await live.asked_on(await live.client(), 1)


async def test_only_new_risks_are_warned_of(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    risky = WITH_API.replace("ROUTE", "app")
    await live.serve(risky)
    assert await live.reload(f"drain_delay: 9s\n{risky}")
    warned = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warned) == 1
    assert "/hopproxy.yaml:1:1: warning: drain_timeout: a stop may take 39s" in warned[0]


# -- watch: on ---------------------------------------------------------------------------------

WATCHED = f"watch: on\n{BASE}"


async def settled(live: Live) -> int:
    """How often it has reloaded, after some time."""
    await trio.sleep(3)
    return live.runtime.reloads.done


async def test_a_file_that_an_editor_replaces_is_read(live: Live) -> None:
    await live.serve(WATCHED)
    assert await settled(live) == 0
    live.write(f"{WATCHED}via: off\n")
    assert await settled(live) == 1
    assert live.runtime.settings.via == "off"
    live.file.write_text(live.file.read_text().replace("via: off", "via: response"))
    assert await settled(live) == 2
    assert live.runtime.settings.via == "response"


async def test_a_file_whose_content_stays_is_not_read(live: Live) -> None:
    await live.serve(WATCHED)
    os.utime(live.file, (1, 1))
    assert await settled(live) == 0
    live.write(WATCHED)
    assert await settled(live) == 0


async def test_a_config_map_changes_where_its_link_leads(live: Live) -> None:
    """Kubernetes: hopproxy.yaml -> ..data/hopproxy.yaml, ..data -> ..2026_1, which is renamed."""
    data, name = live.folder / "..data", live.file.name
    for version, via in (("..1", "request"), ("..2", "off")):
        (live.folder / version).mkdir()
        text = f"{WATCHED}via: {via}\n".replace("@", str(live.folder))
        (live.folder / version / name).write_text(text)
    data.symlink_to("..1")
    await live.serve(WATCHED)
    live.file.unlink()
    live.file.symlink_to(f"..data/{name}")
    assert await settled(live) == 1
    assert live.runtime.settings.via == "request"
    (live.folder / "..data_tmp").symlink_to("..2")
    (live.folder / "..data_tmp").rename(data)
    assert await settled(live) == 2
    assert live.runtime.settings.via == "off"


async def test_a_file_that_is_being_written_is_read_once_it_is_complete(live: Live) -> None:
    await live.serve(WATCHED)
    for length in range(0, len(WATCHED), 20):
        live.file.write_text(WATCHED[:length])
        await trio.sleep(0.4)
    assert live.runtime.reloads.failed == 0
    live.write(f"{WATCHED}via: off\n")
    assert await settled(live) == 1
    assert live.runtime.reloads.failed == 0


async def test_a_bad_file_is_complained_of_once(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    await live.serve(WATCHED)
    live.write("bad")
    assert await settled(live) == 0
    assert await settled(live) == 0
    assert live.runtime.reloads.failed == 1
    live.write(f"{WATCHED}via: off\n")
    assert await settled(live) == 1


class Second:
    """What the second of two workers knows of the first."""

    workers, place = 2, 1

    def publish(self, *_: object) -> None: ...

    def tell_reload(self, **_: object) -> None: ...


async def test_the_second_worker_watches_only_while_the_first_does_nothing(live: Live) -> None:
    await live.serve(WATCHED, Second())
    live.write("bad")
    live.reloader.note_reload(done=False, at=1.0)
    assert await settled(live) == 0
    assert await settled(live) == 0
    live.write(WATCHED + "# changed\n")
    await trio.sleep(1.5)
    live.reloader.note_reload(done=True, at=2.0)
    assert await settled(live) == 0
    assert live.runtime.reloads.failed == 0
    live.write(f"{WATCHED}via: off\n")
    await trio.sleep(1.5)
    assert live.runtime.settings.via == "both"
    assert await settled(live) == 1
    assert live.runtime.settings.via == "off"


async def test_watching_is_turned_off_and_on(live: Live) -> None:
    await live.serve(BASE)
    live.write(WATCHED)
    assert await settled(live) == 0
    assert await live.reloader.reload_now()
    live.write(f"{WATCHED}via: off\n")
    assert await settled(live) == 2
    live.write(BASE)
    assert await settled(live) == 3
    live.write(WATCHED)
    assert await settled(live) == 3


async def test_a_certificate_that_is_renewed_is_read(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await live.serve(WATCHED)
    ca = live.folder / "ca.crt"
    ca.write_bytes(authority("old", now=time.time()).cert)
    tls = WATCHED.replace('"unix:@/origin0"]', '"https://a.example"], tls: {ca: "@/ca.crt"}')
    assert await live.reload(tls)
    ca.write_bytes(authority("new", now=time.time()).cert)
    assert await settled(live) == 2
    # The name of its origin is looked up meanwhile, and that may be logged at any time.
    said = [record.getMessage() for record in caplog.records if record.module == "reload"]
    assert said[-2] == f"{ca}: has new content"
    assert said[-1].endswith(", 1 change")
    ca.write_text("half of a certifi")
    assert await settled(live) == 2
    assert live.runtime.reloads.failed == 1
    assert await live.reload(WATCHED)


@pytest.mark.parametrize("tcp", [False, True])
async def test_the_admin_listener_and_one_for_clients_change_their_places(
    live: Live, tcp: bool
) -> None:
    """Each socket goes on under the other, with its file."""
    ports = free_port(), free_port()
    binds = [f"127.0.0.1:{port}" for port in ports] if tcp else ["unix:@/0", "unix:@/1"]
    targets = [
        ("127.0.0.1", port) if tcp else str(live.folder / "01"[n]) for n, port in enumerate(ports)
    ]
    text = BASE.replace("unix:@/gateway", "SITE") + 'admin: {bind: "ADMIN"}\nreadiness: self\n'
    texts = [text.replace("SITE", a).replace("ADMIN", b) for a, b in (binds, binds[::-1])]
    await live.serve(texts[0])
    if tcp:
        live.by_tcp()

    async def client_at(place: int) -> Peer:
        live.target = targets[place]
        return await live.client()

    upstream = await live.asked_on(await client_at(0), 0)
    await upstream.send(OK)
    for site in (1, 0, 1):
        assert await live.reload(texts[site])
        await live.quiet()
        client, looker = await client_at(site), await client_at(1 - site)
        assert (await live.again(client, upstream)).body == b"ok"
        await looker.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await looker.message()).body == b"alive\n"
    assert tcp or {"0", "1"} < set(os.listdir(live.folder))
