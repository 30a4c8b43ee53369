"""What a case is: a rule, a behaviour, where it comes from, and the trace that shows it."""

from __future__ import annotations

import inspect
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.conformance.origin import Origin
from tests.conformance.strict import Message
from tests.conformance.wire import Client, Silence, Trace, Unexpected

Play = Callable[["Stage"], None]
SERVER_ERRORS = {502, 503, 504}


@dataclass
class Stage:
    """What one case plays on: a proxy in front, an origin behind it, and the record of both wires.

    `ours` says that the proxy is hopproxy: where a rule leaves a choice, its own choice is asked
    of it, and of another proxy only what the rule says.  `speaks` is what its clients speak.
    """

    address: tuple[str, int]
    origin: Origin
    host: str
    ours: bool = False
    pids: tuple[int, ...] = ()
    drain_signal: signal.Signals = signal.SIGTERM
    log: Callable[[], str] = str
    speaks: type[Client] = Client
    trace: Trace = field(default_factory=Trace)
    clients: list[Client] = field(default_factory=list)

    def client(self, source: str = "") -> Client:
        """Open a connection to the proxy, from another address of the loopback net if given."""
        self.clients.append(self.speaks(self.address, self.host, self.trace, source))
        return self.clients[-1]

    @property
    def via(self) -> str:
        """The protocol of the clients, as Via says it."""
        return self.speaks.via

    def let_in(self, client: Client) -> None:
        """Have an origin with TLS take part in its handshake, without which nothing goes on."""
        if self.origin.context is not None and not self.origin.answers_first(client):
            self.origin.accept()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each process of the proxy."""
        for pid in self.pids:
            os.kill(pid, number)

    def drain(self) -> None:
        """Tell the proxy to end, serving what it has begun."""
        os.kill(self.pids[0], self.drain_signal)

    def stop_now(self) -> None:
        """Tell a draining proxy to end at once."""
        os.kill(self.pids[0], signal.SIGTERM)

    def exchange(self, client: Client, *fields: str, body: bytes = b"ok") -> tuple[Message, int]:
        """Let one plain GET through; return the response and the number of the upstream link."""
        client.get("/", *fields)
        link = self.origin.request()
        link.answer(body)
        return client.response(), link.number

    def seen_upstream(self, *fields: str, start: str = "GET / HTTP/1.1") -> Message:
        """Send a request with these fields through a new client; return it as the origin saw it."""
        client = self.client()
        client.head(start, *fields)
        link = self.origin.request()
        link.answer(b"")
        assert client.response(start.split()[0]).status == 200
        return link.last

    def seen_downstream(
        self, answer: bytes, *fields: str, start: str = "GET / HTTP/1.1"
    ) -> Message:
        """Let the origin give this answer to a new client; return it as the client saw it."""
        client = self.client()
        client.head(start, *fields)
        self.origin.request().send(answer)
        return client.response(start.split()[0])

    def refused_or_clean(self, data: bytes, *statuses: int) -> Message | None:
        """Send these bytes: hopproxy refuses them, another proxy may pass on a clean request.

        Returns the request as the origin saw it, None when it was refused; nothing else may
        reach the origin, and a refused client is closed.
        """
        client = self.client()
        client.send(data)
        if not self.ours and not self.origin.answers_first(client):
            link = self.origin.request()
            link.answer(b"")
            client.response(link.last.method)
            return link.last
        self.refused(client, *statuses)
        return None

    def refused(self, client: Client, *statuses: int, closes: bool = True) -> Message:
        """Expect one of these statuses, the connection's end after it, and nothing upstream."""
        if not self.origin.answers_first(client):
            raise Unexpected(f"passed on: {self.origin.head().last.raw_head!r}")
        response = client.response()
        assert response.status in statuses, f"status {response.status}, not {statuses}"
        if closes:
            client.fin()
            client.end()
        assert self.origin.hears_nothing(0.01), f"upstream: {self.origin.links[-1].seen}"
        return response

    def sent_and_refused(self, data: bytes, *statuses: int) -> None:
        """Send these bytes through a new client, and expect them to be refused so."""
        client = self.client()
        client.send(data)
        self.refused(client, *statuses)

    def bad_gateway(self, client: Client, *statuses: int, within: float = 4.0) -> Message:
        """Expect an error that names the origin as its cause; 502 unless said otherwise."""
        try:
            response = client.response(within=within)
        except Silence:
            assert self.origin.hears_nothing(0.01), "the request was sent again"
            raise
        assert response.status in (statuses or (502,)), f"status {response.status}"
        return response

    def named(self, response: Message | None, cause: str) -> None:
        """Expect hopproxy to name a failure's cause in Proxy-Status and in its access log."""
        if not self.ours:
            return
        assert response is None or f"error={cause}" in response.value("proxy-status")
        assert until(lambda: cause in self.log()), f"{cause} is not in the log"

    def close(self) -> None:
        for client in self.clients:
            client.close()


@dataclass(frozen=True)
class Case:
    """One row of the table: the rule's number, the behaviour's name, its source, and its trace.

    `only_http1` says why it has no meaning for a client of HTTP/2, "" if it has one.
    """

    rule: int
    name: str
    source: str
    group: str
    variant: str
    play: Play
    only_http1: str = ""

    @property
    def id(self) -> str:
        """The name in reports and in pytest, such as `002-client_close_...[variant]`."""
        return f"{self.rule:03d}-{self.name}" + (f"-{self.variant}" if self.variant else "")

    @property
    def host(self) -> str:
        """A Host of its own, so that the proxy can give the case an upstream of its own."""
        return f"{abs(hash_of(self.id)):x}.test"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: pass, fail or n/a, and what was seen."""

    case: Case
    verdict: str
    seen: str
    trace: str = ""


CASES: list[Case] = []


def hash_of(text: str) -> int:
    """Hash a text the same way in every process."""
    total = 7
    for byte in text.encode():
        total = (total * 31 + byte) % 0xFFFFFFF1
    return total


def rule(
    number: int, source: str, *, group: str = "base", only_http1: str = ""
) -> Callable[[Play], Play]:
    """Enter a behaviour into the table under a rule's number."""

    def enter(play: Play) -> Play:
        CASES.append(Case(number, play.__name__, source, group, "", play, only_http1))
        return play

    return enter


def each(
    number: int,
    source: str,
    table: Mapping[str, bytes],
    *,
    group: str = "base",
    only_http1: str | Mapping[str, str] = "",
) -> Callable[[Callable[[Stage, bytes], None]], Callable[[Stage, bytes], None]]:
    """Enter a behaviour once for each row of a table of bytes.

    `only_http1` may be said of single rows, by their names.
    """
    assert isinstance(only_http1, str) or only_http1.keys() <= table.keys()

    def enter(play: Callable[[Stage, bytes], None]) -> Callable[[Stage, bytes], None]:
        for variant, data in table.items():

            def one(stage: Stage, data: bytes = data) -> None:
                play(stage, data)

            why = only_http1 if isinstance(only_http1, str) else only_http1.get(variant, "")
            CASES.append(Case(number, play.__name__, source, group, variant, one, why))
        return play

    return enter


def run(case: Case, stage: Stage) -> Outcome:
    """Play a case on a stage; a failure carries the line that did not hold and both wires."""
    stage.origin.trace = stage.trace
    try:
        case.play(stage)
    except (AssertionError, OSError, LookupError, ValueError) as broken:
        return Outcome(case, "fail", f"{_said(broken)}; {stage.trace.summary()}", str(stage.trace))
    finally:
        stage.close()
        stage.origin.forget()
    return Outcome(case, "pass", stage.trace.summary())


def _said(broken: BaseException) -> str:
    """Say what did not hold: the message, or else the source of the line that asked for it."""
    if str(broken):
        return f"{type(broken).__name__}: {str(broken).splitlines()[0]}"
    frames = inspect.getinnerframes(broken.__traceback__) if broken.__traceback__ else []
    lines = frames[-1].code_context if frames else None
    return (lines or ["?"])[0].strip()


def in_background(work: Callable[[], object]) -> threading.Thread:
    """Run a blocking write beside the case; the caller joins it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(true: Callable[[], bool], within: float = 4.0) -> bool:
    """Wait for something that the other process is about to do."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
