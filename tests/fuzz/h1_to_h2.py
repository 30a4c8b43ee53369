"""The whole path from HTTP/1.1 to HTTP/2: a client of raw bytes, the library `h2` as the origin.

What the origin reads is what there was to understand in the client's bytes, and what the client
reads is what the origin's library meant.  A WebSocket passes the bytes of both sides on as they
are.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from functools import partial
from math import inf
from operator import methodcaller
from typing import NamedTuple

import trio
from trio.testing import MockClock

from hopproxy.errors import HopError
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.message import Body, RequestHead, ResponseHead
from hopproxy.proxy import attempt
from hopproxy.record import ExchangeRecord
from hopproxy.rules.upgrade import asks_websocket
from hopproxy.wire.h2_response import ResponseSection, switched
from hopproxy.wire.hpack import FieldLine
from tests.fuzz import corpus, h2_script, meant, mutate, reference, verdict
from tests.fuzz.corpus import FIN, Case
from tests.fuzz.edges import Edges
from tests.fuzz.ends import End
from tests.fuzz.h2_ends import H2End, Half
from tests.fuzz.h2_script import Act, Script
from tests.fuzz.h2_verdict import REPEATABLE, as_seen
from tests.fuzz.h2_whole import answer_stream, settings
from tests.fuzz.h11_reader import Disagreement
from tests.fuzz.reference import Meant
from tests.fuzz.search import Result, tried
from tests.fuzz.whole_path import Stage, set_up

#: A WebSocket's handshake (RFC 6455 section 1.3), and what its client says behind it.
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FRAMES = (b"\x81\x05hello", b"\x82\x00", b"\x88\x02\x03\xe8", b"GET / HTTP/1.1\r\n\r\n")


class Sent(NamedTuple):
    """One request on one stream; its number is known once it was written."""

    record: ExchangeRecord
    end: End
    stream: H2UpstreamStream


class Run(NamedTuple):
    """The client's bytes in pieces, and what the origin does with each request in turn."""

    client: tuple[bytes, ...]
    origin: tuple[tuple[Act, ...], ...]

    def to_json(self) -> str:
        """As kept in a file."""
        said = [piece.decode("latin-1") for piece in self.client]
        return json.dumps([said, Script(True, (), self.origin).to_json()])

    @classmethod
    def from_json(cls, text: str) -> Run:
        """From a file."""
        said, script = json.loads(text)
        pieces = tuple(piece.encode("latin-1") for piece in said)
        return cls(pieces, Script.from_json(script).origin)


class MixedStage(Stage):
    """The gateway, its client of HTTP/1.1, and its origin of HTTP/2."""

    async def play(self, run: Run) -> None:
        """Play a run, judge it, and leave nothing.  Raises as `run`."""
        self._origin = list(run.origin)
        self._servers: dict[int, H2End] = {}
        self._sent: list[Sent] = []
        await self.judged(partial(self._play, Case(run.client, ())))

    def note(self, one: attempt.Attempt) -> None:
        """A request goes out on a stream."""
        assert isinstance(one.link, H2UpstreamStream)
        carrier = one.link.carrier
        assert isinstance(carrier, H2UpstreamLink)
        self._sent.append(Sent(one.record, self._by_fd[carrier.transport.fd], one.link))

    async def _answer(self, origin: End) -> None:
        server = self._servers.get(id(origin))
        if server is None:
            server = self._servers[id(origin)] = H2End(origin, client=False, connects=True)
        server.hear()
        server.flush()
        while server.begun:
            stream = server.begun.pop(0)
            fields = dict(server.heard[stream].heads[0])
            if fields.get(b":protocol") == b"websocket":
                await answer_stream(server, stream, self._origin.pop(0) if self._origin else ())
        while server.ended:
            stream = server.ended.pop(0)
            if stream in server.said:
                continue  # a WebSocket
            probed = dict(server.heard[stream].heads[0]).get(b":path") == b"/probe"
            acts = PROBED if probed else self._origin.pop(0) if self._origin else ()
            await answer_stream(server, stream, acts or PLAIN)

    def judge_run(self, client: End) -> None:
        """Raise Disagreement unless both wires say what was understood, and no more."""
        first = client.link_number
        wanted = reference.requests(client.said)
        answers: verdict.Answers = {}
        times: dict[int, int] = {}
        last = {sent.record: sent.stream for sent in self._sent}
        for record, end, stream in self._sent:
            server = self._servers.get(id(end))
            half = server.heard.get(stream.stream_id) if server is not None else None
            if record.link_number != first or half is None or not half.heads:
                continue
            assert server is not None
            number = record.link_request
            if number > len(wanted):
                raise Disagreement(f"request {number} goes out, but only {wanted!r} came")
            request = wanted[number - 1]
            said = server.said.get(stream.stream_id) or Half()
            unprocessed = said.reset == 7 or server.leaves
            times[number] = times.get(number, 0) + (not unprocessed)
            if times[number] > (2 if request.head.method in REPEATABLE else 1):
                raise Disagreement(f"{request!r} was sent {times[number]} times")
            tunnel = asks_websocket(request.head)
            _judge_request(half, request, tunnel=tunnel)
            answers[number] = list(_responses(said, request.head, tunnel=tunnel))
            if tunnel and record.status == 101 and stream is last[record]:
                verdict.judge_tunnel("origin", half.content, request.rest, record)
        mine = [record for record in self.records if record.link_number == first]
        verdict.judge_client(client, mine, answers)


PROBED = (
    Act("head", 0, ((b":status", b"200"), (b"content-length", b"7"))),
    Act("data", 0, (), b"probed!", 0, True),
)
PLAIN = (Act("head", 0, ((b":status", b"200"),), end=True),)


def _judge_request(half: Half, request: Meant[RequestHead], *, tunnel: bool) -> None:
    """What an origin has read of a request, against what there was to understand."""
    if tunnel:
        return  # its head is another one; what follows is judged as a tunnel
    seen = as_seen(half)
    if request.head.body is Body.CHUNKED:  # HTTP/2 frames it
        seen = seen._replace(fields=(*seen.fields, (b"transfer-encoding", b"chunked")))
    head = copy(request.head)
    head.lines = sorted(head.lines, key=lambda line: line[:5].lower() != b"host:")  # :authority
    meant.check_request(head, seen)
    if not request.body.startswith(seen.body):
        raise Disagreement(f"the body {request.body!r} arrived as {seen.body!r}")
    if seen.whole and (seen.body != request.body or not request.whole):
        raise Disagreement(f"looks whole: {seen!r}, meant was {request!r}")
    lines = [name + b": " + value for name, value in seen.trailers]
    if seen.whole and lines != [_lower_name(line) for line in request.trailers]:
        raise Disagreement(f"the trailers {request.trailers!r} arrived as {seen.trailers!r}")


def _lower_name(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name.lower() + colon + value


def _responses(said: Half, request: RequestHead, *, tunnel: bool) -> list[Meant[ResponseHead]]:
    """What an origin has said on a stream, as responses."""
    found: list[Meant[ResponseHead]] = []
    for fields in said.heads:
        section = ResponseSection([FieldLine(*pair) for pair in fields])
        try:
            head = section.response(request.method)
        except HopError:
            break
        if tunnel and 200 <= head.status < 300:
            found.append(Meant(switched(head, _accept(request)), b"", True, said.content))
            break
        found.append(_meant(head, said))
        if head.status >= 200:
            break
    return found


def _accept(request: RequestHead) -> bytes:
    """What answers the key of a WebSocket handshake (RFC 6455 section 4.2.2)."""
    key = request.values(b"sec-websocket-key")[0]
    return b64encode(hashlib.sha1(key + GUID).digest())


def _meant(head: ResponseHead, said: Half) -> Meant[ResponseHead]:
    if head.status < 200:
        return Meant(head, b"", True, b"")
    size = head.length if head.body is Body.SIZED else 0
    fits = head.body is Body.CHUNKED or len(said.content) >= size
    body = said.content if head.body is Body.CHUNKED else said.content[:size]
    trailers = tuple(name + b": " + value for name, value in said.trailers or ())
    # What has its length is whole in HTTP/1.1, even if END_STREAM never comes, or more DATA does.
    whole = fits and (said.ended or head.body is Body.SIZED)
    return Meant(head, body, whole, b"", trailers)


@asynccontextmanager
async def stage() -> AsyncIterator[MixedStage]:
    """A gateway; run it under `MockClock()`."""
    async with set_up(MixedStage, settings(h2_origin=True)) as made:
        yield made


# -- the search --------------------------------------------------------------------------------


def search_mixed(seconds: float, seed: int, most: float = inf) -> Result:
    """Clients as on the whole path, with origins made at random."""
    result = Result("h1-to-h2")
    trio.run(search_until, result, (seconds, most), seed, clock=MockClock())
    return result


def made(chance: random.Random, pool: list[Case]) -> Run:
    """A new run."""
    count = chance.choice((1, 2, 3))
    origin = [h2_script.response(chance, mark) for mark in range(count)]
    if chance.random() < 0.15:
        frames = [chance.choice(FRAMES) for _ in range(chance.choice((0, 1, 3)))]
        acts = [Act("data", 0, (), chance.choice(FRAMES)) for _ in range(chance.choice((0, 1, 3)))]
        ends = [Act("data", 0, (), b"", 0, True)] if chance.random() < 0.5 else []
        head = Act("head", 0, ((b":status", b"200"), (b"sec-websocket-protocol", b"x")))
        return Run((HANDSHAKE, *frames, FIN)[: len(frames) + chance.choice((1, 2))],
                   ((head, *acts, *ends),))  # fmt: skip
    case = chance.choice(pool)
    for _ in range(chance.choice((0, 0, 1, 1, 2))):
        case = mutate.mutated(chance, case, pool)
    return Run(case.client, tuple(origin))


async def search_until(result: Result, bounds: tuple[float, float], seed: int) -> None:
    """Search so many seconds and inputs."""
    seconds, most = bounds
    chance, edges = random.Random(seed), Edges()
    pool = corpus.seeds()
    began = time.monotonic()
    passed = 0.0
    while passed < seconds and result.inputs < most:
        passed = time.monotonic() - began
        run = made(chance, pool)
        play = methodcaller("play", run)
        if await tried(result, edges, stage(), play, run.to_json()):
            pool.append(Case(run.client, ()))
    result.edges, result.kept, result.seconds = len(edges.seen), len(pool), passed
