"""The whole path with HTTP/2: a client that is the library `h2`, an origin of either version.

The client sends what a script says, as far as the library lets it.  What the origin then reads is
what the library meant, or nothing, for a reason; what it answers is what the client's library
reads.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from operator import methodcaller
from typing import NamedTuple

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hopproxy.proxy import attempt
from hopproxy.server.entrance import Entrance
from hopproxy.server.runtime import Runtime
from hopproxy.settings.client import Listener
from hopproxy.settings.schema import Settings
from hopproxy.settings.upstream import UpstreamSettings
from tests.fuzz import h2_verdict
from tests.fuzz.corpus import FIN, OK
from tests.fuzz.edges import Edges
from tests.fuzz.ends import End
from tests.fuzz.h2_ends import H2End
from tests.fuzz.h2_script import MARK, Act, Script, made, mutated
from tests.fuzz.h11_reader import Disagreement
from tests.fuzz.search import Result, tried
from tests.fuzz.whole_path import SETTINGS, Logged, Stage, set_up

#: Whether the origin of a run speaks HTTP/2: so often.
ORIGINS = (False, False, False, True, True)
#: What a search begins with.
FIRST = 40

_MARK = re.compile(rb"\r\n" + MARK + rb": (\d+)\r\n")


def settings(*, h2_origin: bool) -> Settings:
    """As those of the whole path, for an origin of this version."""
    app = SETTINGS.upstreams["app"]
    return Settings(
        client=SETTINGS.client,
        upstreams={
            "app": UpstreamSettings(
                origins=app.origins,
                tunnel_timeout=20,
                body_timeout=5,
                protocol="h2" if h2_origin else "auto",
            )
        },
    )


class Answered(NamedTuple):
    """One request of HTTP/1.1 that an origin has answered.

    `said` is how much the origin had said there before.
    """

    mark: int
    end: End
    request: bytes
    said: int


class H2Stage(Stage):
    """The gateway, its HTTP/2 client, and its origins.

    `streams` are the client's streams by mark, `answered` what origins of HTTP/1.1 have answered,
    `servers` are the ends of origins of HTTP/2, with the mark of each of their streams.
    """

    def __init__(
        self, nursery: trio.Nursery, runtime: Runtime, clock: MockClock, logged: Logged
    ) -> None:
        super().__init__(nursery, runtime, clock, logged)
        self._entrance = Entrance(runtime.settings, Listener())
        self._begin(Script(False, (), ()))

    def _begin(self, script: Script) -> None:
        self.script = script
        self.streams: dict[int, int] = {}
        self.answered: list[Answered] = []
        self.servers: list[H2End] = []
        self.marks: dict[tuple[H2End, int], int] = {}
        self._served: dict[int, int] = {}

    def note(self, one: attempt.Attempt) -> None:
        """Not needed: requests are known by their marks."""

    def connect(self) -> End:
        """A new client, of which nothing is known before it speaks."""
        return self.admit()

    async def play(self, script: Script) -> None:
        """Play a script, judge it, and leave nothing.  Raises as `run`."""
        self._begin(script)
        await self.judged(partial(self._play_script, script))

    async def _play_script(self, script: Script) -> None:
        begins = script.client[0] if script.client else None
        window = begins.number if begins is not None and begins.what == "begin" else None
        self.client = H2End(self.connect(), client=True, window=window)
        end = self.client.end
        for act in script.client:
            if act.what == "wait":
                await self._send(act.number)
            elif not self.client.perform(act, self._stream(act)) and act.what == "head":
                self._forget(act.mark)
        await self._send(0)
        await self._unwind()
        await self.pass_time(end)
        self.client.finish()
        await self.settle(end)
        prober = await self.probe()
        await self.end()
        h2_verdict.judge(self)
        self.judge_probe(prober)

    def _stream(self, act: Act) -> int:
        """The stream of this mark, which begins with its head."""
        if act.what == "head" and act.mark not in self.streams:
            self.streams[act.mark] = self.client.h2.get_next_available_stream_id()
        return self.streams.get(act.mark, 0)

    def _forget(self, mark: int) -> None:
        """The library has not let a request begin."""
        if self.streams.get(mark) not in self.client.said:
            self.streams.pop(mark, None)

    async def _send(self, size: int) -> None:
        """Send what there is, in pieces of this size if it is one, and let all act on it."""
        data = self.client.take_out()
        size = max(size, len(data) // 64 + 1) if size else len(data) or 1
        for at in range(0, len(data), size):
            self.client.end.send(data[at : at + size])
            if size < len(data):
                await wait_all_tasks_blocked()
        await self.settle(self.client.end)

    async def _unwind(self) -> None:
        """Open the windows that somebody waits for."""
        for _ in range(6):
            given = [one.give_room() for one in (self.client, *self.servers)]
            if not any(given):
                return
            for one in (self.client, *self.servers):
                one.flush()
            await self.settle(self.client.end)

    async def settle(self, client: End) -> None:
        """Let the gateway act and the origins answer until nothing moves."""
        moved = True
        while moved:
            await wait_all_tasks_blocked()
            moved = False
            for end in self.clients:
                moved = end.take() or moved
            self.client.hear()
            self.client.flush()
            for origin in list(self.origins):
                if origin.take():
                    moved = True
                    await self._answer(origin)

    async def _answer(self, origin: End) -> None:
        if self.runtime.settings.upstreams["app"].protocol != "h2":
            await self._answer_http1(origin)
            return
        server = next((one for one in self.servers if one.end is origin), None)
        if server is None:
            server = H2End(origin, client=False)
            self.servers.append(server)
        server.hear()
        server.flush()
        while server.ended:
            await self._answer_stream(server, server.ended.pop(0))

    async def _answer_http1(self, origin: End) -> None:
        """One reply for each request that has come whole."""
        while request := origin.next_request():
            found = _MARK.findall(request)
            if self.client.broken and not found:
                origin.say(OK)
                continue
            if len(found) != 1:
                raise Disagreement(f"a request of nobody: {request!r}")
            mark = int(found[0])
            self.answered.append(Answered(mark, origin, request, len(origin.said)))
            pieces = [act.data for act in self._acts_for(mark)] or [OK]
            for at, piece in enumerate(pieces):
                if at and piece != FIN:
                    await wait_all_tasks_blocked()
                origin.switched = origin.switched or b" 101 " in piece[:16]
                origin.say(piece)

    def _acts_for(self, mark: int) -> tuple[Act, ...]:
        """What the origin does with this request: after the first time, the plain thing."""
        self._served[mark] = self._served.get(mark, 0) + 1
        if self._served[mark] > 1 or mark >= len(self.script.origin):
            return ()
        return self.script.origin[mark]

    async def _answer_stream(self, server: H2End, stream: int) -> None:
        fields = dict(server.heard[stream].heads[0])
        if fields.get(b":path") == b"/probe":
            self.marks[server, stream] = -1
            head = ((b":status", b"200"), (b"content-length", b"7"))
            acts: tuple[Act, ...] = (Act("head", 0, head), Act("data", 0, (), b"probed!", 0, True))
        elif MARK not in fields and self.client.broken:
            acts = (Act("head", 0, ((b":status", b"200"),), end=True),)
        elif MARK not in fields:
            raise Disagreement(f"a request of nobody: {fields!r}")
        else:
            mark = self.marks[server, stream] = int(fields[MARK])
            acts = self._acts_for(mark) or (Act("head", 0, ((b":status", b"200"),), end=True),)
        await answer_stream(server, stream, acts)


async def answer_stream(server: H2End, stream: int, acts: tuple[Act, ...]) -> None:
    """What an origin does with one request."""
    for act in acts:
        if act.what in ("wait", "fin"):
            server.flush()
            await wait_all_tasks_blocked()
            if act.what == "fin":
                server.finish()
        else:
            server.perform(act, stream)
    server.flush()


@asynccontextmanager
async def stage(*, h2_origin: bool) -> AsyncIterator[H2Stage]:
    """A gateway; run it under `MockClock()`."""
    async with set_up(H2Stage, settings(h2_origin=h2_origin)) as made:
        yield made


# -- the search --------------------------------------------------------------------------------


def search_h2_whole(seconds: float, seed: int, most: float = inf) -> Result:
    """Scripts made at random, and changed, until the time is over."""
    result = Result("h2-whole")
    trio.run(search_until, result, (seconds, most), seed, clock=MockClock())
    return result


async def search_until(
    result: Result, bounds: tuple[float, float], seed: int, versions: tuple[bool, ...] = ORIGINS
) -> None:
    """Search so many seconds and inputs; `versions`: whether an origin speaks HTTP/2."""
    seconds, most = bounds
    chance, edges = random.Random(seed), Edges()
    pool = [made(chance, chance.choice(versions)) for _ in range(FIRST)]
    began = time.monotonic()
    passed = 0.0
    while passed < seconds and result.inputs < most:
        passed = time.monotonic() - began
        if result.inputs < FIRST:
            script = pool[result.inputs]
        elif chance.random() < 0.4:
            script = made(chance, chance.choice(versions))
        else:
            script = mutated(chance, chance.choice(pool), pool)
        play = methodcaller("play", script)
        if await tried(result, edges, stage(h2_origin=script.h2_origin), play, script.to_json()):
            pool.append(script)
    result.edges, result.kept, result.seconds = len(edges.seen), len(pool), passed
