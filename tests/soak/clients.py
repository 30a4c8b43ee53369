"""Clients of every kind, good and bad; each knows what must come back, and checks it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import NamedTuple

import trio

from tests.raw_peers import Message, Peer
from tests.soak.multiplexed import FAULTS as FAULTS_OF_STREAMS
from tests.soak.multiplexed import Answer, Client, fields_of
from tests.soak.origin import FAULTS, Origin, content
from tests.soak.secure import secure_client

#: Seconds that any one scenario may take.
PATIENCE = 20.0

#: The hosts of the upstreams: plain origins, with TLS, with HTTP/2.
HOSTS = (b"a", b"secure", b"streams")

CUT = "cut"
WHOLE = frozenset({"200"})

#: What may come of a request that meets a fault, by the fault; "cut" is a response that is seen to
#: be incomplete.  A request that may be repeated has 200 beside 502: it was, if its link was old.
ALLOWED: dict[str, frozenset[str]] = {
    "none": WHOLE,
    "hang": frozenset({"504"}),
    "reset": frozenset({"502", "200"}),
    "close": frozenset({"502", "200"}),
    "dribble": WHOLE,
    "garbage": frozenset({"502"}),
    "head-cut": frozenset({"502"}),
    "body-cut": frozenset({CUT}),
    "chunk-cut": frozenset({CUT}),
    "trailer-cut": frozenset({CUT}),
    "idle-close": WHOLE,
    "idle-408": WHOLE,
    "poison": WHOLE,
    "early": frozenset({"413"}),
    "interim": WHOLE,
    "until-close": WHOLE,
    "chunked": WHOLE,
    "refuse": frozenset({"502"}),
    # Of streams: nothing of the request was processed, or nothing that had begun is hurt.
    "refused": WHOLE,
    "goaway": WHOLE,
}
#: What may come besides while an origin is being restarted.
UNDER_RESTART = frozenset({"200", "502", "503", "504", CUT})

Scenario = Callable[["Crowd", random.Random], Awaitable[None]]


class Crowd:
    """All clients of one run: where they connect, what they count."""

    def __init__(self, port: int, origin: Origin, *, tls_port: int = 0, seed: int = 1) -> None:
        """Clients of the plain listener, and with `tls_port` as often of one with TLS.

        Half of the connections ask for what origins with TLS serve.
        """
        self.port = port
        self._tls_port = tls_port
        self._mix = random.Random(seed)
        self.origin = origin
        self.answers: Counter[str] = Counter()
        self.clients: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.stale_posts = 0
        self.moved = 0  # GETs that hung and were answered by another origin
        self.crossings = 0
        self.number = count(1)
        self._doing: dict[trio.lowlevel.Task, tuple[str, float]] = {}

    def doing(self, what: str) -> None:
        """This scenario does this now: told if it does not end."""
        self._doing[trio.lowlevel.current_task()] = what, trio.current_time()

    def unended(self, name: str, patience: float) -> str:
        """What to say of a scenario that has not ended in time."""
        what, since = self._doing[trio.lowlevel.current_task()]
        waited = trio.current_time() - since
        return f"{name}: no end in {patience} s, the last {waited:.1f} s of them: {what}"

    async def connect(self, protocol: str = "http/1.1") -> Peer:
        """A new connection, to any of the listeners and for any of the upstreams."""
        secure = self._tls_port and self._mix.random() < 0.5
        sock = trio.socket.socket()
        await sock.connect(("127.0.0.1", self._tls_port if secure else self.port))
        peer = await secure_client(sock, protocol) if secure else Peer(sock)
        peer.host = self._mix.choice(HOSTS) if self._tls_port else HOSTS[0]
        return peer

    async def work(self, chance: random.Random, until: float) -> None:
        """Play one scenario after the other."""
        names = list(SCENARIOS)
        weights = [SCENARIOS[name][1] for name in names]
        while trio.current_time() < until:
            name = chance.choices(names, weights)[0]
            self.clients[name] += 1
            self.doing("connecting")
            try:
                with trio.fail_after(PATIENCE):
                    await SCENARIOS[name][0](self, chance)
            except trio.TooSlowError:
                self.wrong.append(self.unended(name, PATIENCE))
            except (OSError, EOFError) as error:
                self.note_broken(name, error)

    def fault(self, host: bytes, chance: random.Random) -> str:
        """A fault that the origins of this host can do."""
        faults: tuple[str, ...] = FAULTS_OF_STREAMS if host == b"streams" else FAULTS
        return chance.choice((*faults, "refuse"))

    def note_broken(self, name: str, error: Exception) -> None:
        """A connection ended where it should not, unless an origin was away."""
        if not self.restarting(trio.current_time() - 1.0):
            self.wrong.append(f"{name}: {error!r}"[:200])

    def restarting(self, since: float) -> bool:
        """Whether an origin was away at any moment since then."""
        return any(ended > since for _, ended in self.origin.restarts)

    # -- one request -------------------------------------------------------------------------

    async def ask(self, peer: Peer, fault: str, size: int, *, method: bytes = b"GET") -> bool:
        """Send and check one request; whether the connection can be used again."""
        number = next(self.number)
        asked = method, fault.encode(), number, size, peer.host
        head = b"%b /%b/%d/%d HTTP/1.1\r\nHost: %b\r\n" % asked
        began = trio.current_time()
        self.asked[fault] += 1
        self.doing(f"{method.decode()} {fault} {number} for {peer.host.decode()} on {_port(peer)}")
        body = content(number, size) if method == b"POST" else b""
        if body:
            head += b"Content-Length: %d\r\n" % size
        await peer.send(head + b"\r\n" + body)
        return await self.check(peer, fault, (number, size), began, method=method)

    async def check(
        self, peer: Peer, fault: str, asked: tuple[int, int], began: float, *, method: bytes
    ) -> bool:
        """Read the answer to a request and hold it against what may come of it."""
        number, size = asked
        try:
            message = await final(peer, bodiless=method == b"HEAD")
            seen = str(message.status)
        except (EOFError, ConnectionResetError):
            message, seen = None, CUT
        self.answers[seen] += 1
        allowed = self._allowed(fault, method.decode(), seen, began)
        if method == b"POST" and seen == "502" and seen not in allowed:
            self.stale_posts += 1  # a pooled link died under it, and it must not be sent again
            return message is not None and not message.values(b"connection")
        if seen == "408":
            self.crossings += 1  # held against those that the origins know of
        elif seen not in allowed:
            self.wrong.append(
                f"{method.decode()} {fault} {number} of {peer.host.decode()}: {seen}, "
                f"allowed {sorted(allowed)}"
            )
        elif message is not None and seen == "200":
            self._check_body(message, number, 0 if method == b"HEAD" else size, fault)
        return message is not None and b"close" not in message.values(b"connection")

    def _allowed(self, fault: str, method: str, seen: str, began: float) -> frozenset[str]:
        """What may come of a request that began then, of which this came."""
        allowed = ALLOWED[fault]
        if self.restarting(began):
            allowed |= UNDER_RESTART
        if fault == "hang" and seen == "200" and method != "POST" and seen not in allowed:
            self.moved += 1  # after some failures a GET is a trial, and may go to another origin
            allowed |= WHOLE
        return allowed

    def _check_body(self, message: Message, number: int, size: int, fault: str) -> None:
        if message.body != content(number, size):
            self.wrong.append(f"{fault} {number}: {len(message.body)} bytes, not its {size}")

    def check_stream(self, answer: Answer, asked: Asked, began: float) -> None:
        """As `check`, for the answer on a stream."""
        seen = str(answer.status) if answer.ended else CUT
        self.answers[f"h2 {seen}"] += 1
        allowed = self._allowed(asked.fault, asked.method, seen, began)
        if asked.method == "POST" and seen == "502" and seen not in allowed:
            self.stale_posts += 1
        elif seen == "408":
            self.crossings += 1
        elif seen not in allowed:
            self.wrong.append(f"stream {asked}: {seen} {answer.reset}, allowed {sorted(allowed)}")
        elif seen == "200":
            size = 0 if asked.method == "HEAD" else asked.size
            if answer.body != content(asked.number, size):
                self.wrong.append(f"stream {asked}: {len(answer.body)} bytes, not its {size}")


class Asked(NamedTuple):
    """A request on a stream."""

    method: str
    fault: str
    number: int
    size: int
    host: bytes


def _port(peer: Peer) -> int:
    """The client's port: the proxy's log names connections by it."""
    port: int = peer.sock.getsockname()[1]
    return port


async def final(peer: Peer, *, bodiless: bool = False) -> Message:
    """The next final response."""
    while (message := await peer.message(bodiless=bodiless)).status in (100, 103):
        pass
    return message


# -- scenarios ---------------------------------------------------------------------------------


async def _keep_alive(crowd: Crowd, chance: random.Random) -> None:
    peer = await crowd.connect()
    try:
        for _ in range(chance.randint(1, 12)):
            method = chance.choice((b"GET", b"GET", b"GET", b"HEAD", b"POST"))
            if not await crowd.ask(peer, "none", chance.choice((0, 13, 900, 40000)), method=method):
                break
    finally:
        peer.close()


async def _faulty(crowd: Crowd, chance: random.Random) -> None:
    peer = await crowd.connect()
    fault = crowd.fault(peer.host, chance)
    method = chance.choice((b"GET", b"POST"))
    try:
        if not await crowd.ask(peer, "none", 13):
            return
        with trio.move_on_after(PATIENCE / 2) as patience:
            await crowd.ask(peer, fault, chance.choice((200, 3000)), method=method)
        if patience.cancelled_caught:
            crowd.wrong.append(crowd.unended("faulty", PATIENCE / 2))
    finally:
        peer.close()


async def _pipeline(crowd: Crowd, chance: random.Random) -> None:
    peer = await crowd.connect()
    began = trio.current_time()
    numbers = [next(crowd.number) for _ in range(chance.randint(2, 6))]
    start = b"GET /none/%d/100 HTTP/1.1\r\nHost: %b\r\n\r\n"
    asked = [start % (number, peer.host) for number in numbers]
    try:
        await peer.send(b"".join(asked))
        for number in numbers:
            crowd.asked["none"] += 1
            if not await crowd.check(peer, "none", (number, 100), began, method=b"GET"):
                return
    finally:
        peer.close()


async def _upload(crowd: Crowd, chance: random.Random) -> None:
    """A large body, chunked or not, in pieces and with pauses."""
    peer = await crowd.connect()
    number, size = next(crowd.number), chance.choice((5000, 70000, 700000))
    chunked = chance.random() < 0.5
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    began = trio.current_time()
    try:
        crowd.doing(f"sending {number} for {peer.host.decode()} on {_port(peer)}")
        start = b"POST /none/%d/%d HTTP/1.1\r\nHost: %b\r\n%b\r\n\r\n"
        await peer.send(start % (number, size, peer.host, framing))
        crowd.asked["none"] += 1
        body = content(number, size)
        for at in range(0, size, 30000):
            part = body[at : at + 30000]
            await peer.send(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if chance.random() < 0.2:
                await trio.sleep(0.003)
        if chunked:
            await peer.send(b"0\r\n\r\n")
        crowd.doing(f"reading the answer to {number} for {peer.host.decode()} on {_port(peer)}")
        await crowd.check(peer, "none", (number, size), began, method=b"POST")
    finally:
        peer.close()


async def _slow_reader(crowd: Crowd, chance: random.Random) -> None:
    """A large download that is taken in sips."""
    peer = await crowd.connect()
    number, size, began = next(crowd.number), 400000, trio.current_time()
    try:
        asked = number, size, peer.host
        await peer.send(b"GET /none/%d/%d HTTP/1.1\r\nHost: %b\r\n\r\n" % asked)
        crowd.asked["none"] += 1
        await peer.more()
        while len(peer.unread) < size and peer.unread.startswith(b"HTTP/1.1 200 "):
            await trio.sleep(0.02)  # the head makes up for the last sip
            await peer.more()
        await crowd.check(peer, "none", (number, size), began, method=b"GET")
    finally:
        peer.close()


async def _upgrade(crowd: Crowd, chance: random.Random) -> None:
    peer = await crowd.connect()
    if peer.host == b"streams":  # HTTP/2 has no upgrades
        peer.host = b"a"
    number, began = next(crowd.number), trio.current_time()
    try:
        await peer.send(
            b"GET /upgrade/%d/0 HTTP/1.1\r\nHost: %b\r\n"
            b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n" % (number, peer.host)
        )
        message = await peer.message(bodiless=True)
        crowd.answers[str(message.status)] += 1
        if message.status != 101:
            if message.status == 408:
                crowd.crossings += 1
            elif not (crowd.restarting(began) and str(message.status) in UNDER_RESTART):
                crowd.wrong.append(f"upgrade {number}: {message.status}")
            return
        data = content(number, 50000)
        for at in range(0, len(data), 10000):
            await peer.send(data[at : at + 10000])
            if await peer.exactly(10000) != data[at : at + 10000]:
                crowd.wrong.append(f"upgrade {number}: other bytes came back")
        peer.finish()
        await peer.rest()
    finally:
        peer.close()


async def _abort(crowd: Crowd, chance: random.Random) -> None:
    """Leave in the middle: of a head, an upload, a response, a wait."""
    peer = await crowd.connect()
    number = next(crowd.number)
    host = b"HTTP/1.1\r\nHost: %b\r\n" % peer.host
    start = {
        "head": b"GET /none/%d/0 HTTP/1.1\r\nHo" % number,
        "upload": b"POST /none/%d/9000 %bContent-Length: 9000\r\n\r\nhalf" % (number, host),
        "response": b"GET /none/%d/900000 %b\r\n" % (number, host),
        "wait": b"GET /hang/%d/0 %b\r\n" % (number, host),
    }
    where = chance.choice(list(start))
    crowd.asked[f"abort in {where}"] += 1
    await peer.send(start[where])
    await trio.sleep(chance.choice((0.0, 0.005, 0.03)))
    if chance.random() < 0.5:
        peer.reset()
    else:
        peer.close()


async def _streams(crowd: Crowd, chance: random.Random) -> None:
    """Many requests at once on one connection, for all upstreams; some are called off."""
    client = Client(await crowd.connect(protocol="h2"))
    asked: dict[int, Asked] = {}
    try:
        await client.begin()
        for _ in range(chance.randint(1, 3)):
            began = trio.current_time()
            asked.clear()
            async with trio.open_nursery() as nursery:
                for _ in range(chance.randint(1, 12)):
                    one = _for_a_stream(crowd, chance)
                    body = content(one.number, one.size) if one.method == "POST" else b""
                    target = f"/{one.fault}/{one.number}/{one.size}"
                    fields = fields_of(one.method, target, one.host, chance)
                    stream = await client.ask(fields, body)
                    asked[stream] = one
                    crowd.asked[f"h2 {one.fault}"] += 1
                    if body:
                        nursery.start_soon(client.upload, stream, body)
                    # h2 gives up a connection on which a 103 crosses its own RST_STREAM.
                    if one.fault != "interim" and chance.random() < 0.05:
                        asked.pop(stream)
                        await client.call_off(stream)
                crowd.doing(f"reading {list(asked.values())} on {_port(client.peer)}")
                await client.read(lambda: all(client.answers[one].over for one in asked))
                nursery.cancel_scope.cancel()
            for stream, one in asked.items():
                crowd.check_stream(client.answers[stream], one, began)
            if client.turned_away:
                break
    except* (EOFError, OSError) as errors:
        crowd.note_broken("streams", errors.exceptions[0])
    finally:
        client.peer.close()


def _for_a_stream(crowd: Crowd, chance: random.Random) -> Asked:
    host = chance.choice(HOSTS)
    fault = crowd.fault(host, chance) if chance.random() < 0.2 else "none"
    method = chance.choice(("GET", "GET", "GET", "HEAD", "POST"))
    if fault != "none" and method == "HEAD":
        method = "GET"
    return Asked(method, fault, next(crowd.number), chance.choice((13, 900, 40000, 100000)), host)


async def _nonsense(crowd: Crowd, chance: random.Random) -> None:
    """What must be refused, by its status, and with the connection ended."""
    sent, status = chance.choice(REFUSED)
    peer = await crowd.connect()
    try:
        crowd.asked["nonsense"] += 1
        await peer.send(sent)
        message = await final(peer)
        crowd.answers[str(message.status)] += 1
        closes = message.values(b"connection") == [b"close"]
        if message.status != status or not closes or await peer.rest():
            crowd.wrong.append(f"{sent[:60]!r}: {message.start!r}, close: {closes}")
    finally:
        peer.close()


REFUSED = (
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
)

#: By name: what is played, and how often.
SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "keep-alive": (_keep_alive, 50),
    "faulty origin": (_faulty, 40),
    "pipeline": (_pipeline, 10),
    "upload": (_upload, 8),
    "slow reader": (_slow_reader, 3),
    "upgrade": (_upgrade, 4),
    "abort": (_abort, 10),
    "streams": (_streams, 30),
    "nonsense": (_nonsense, 5),
}
