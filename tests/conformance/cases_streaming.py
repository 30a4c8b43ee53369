"""Rules 125-127 and 131: bytes pass as they come, held back by the slower side, and never mixed."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.wire import Wire

MUCH = 128 << 20


@rule(125, "WHATWG HTML 9.2")
def each_event_of_a_stream_passes_at_once(s: Stage) -> None:
    client = s.client()
    client.get("/", "Accept: text/event-stream")
    link = s.origin.request()
    link.reply("HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
    client.begun()
    delays = []
    for number in range(10):
        event = b"data: %d\n\n" % number
        started = time.monotonic()
        link.send(b"%x\r\n%s\r\n" % (len(event), event))
        client.deadline = time.monotonic() + 1
        client.read_until(event)
        delays.append(time.monotonic() - started)
    assert statistics.median(delays) < 0.1


def resident(s: Stage) -> int:
    """Return the bytes of memory that the proxy's processes hold."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in s.pids)
    return sum(pages) * 4096


def held_back(s: Stage, writer: Wire, reader: Wire) -> None:
    """Write to a peer that reads nothing: the writer is held, memory stays, then all arrives."""
    before = resident(s)
    sent = writer.send_until_stuck(MUCH)
    assert sent < MUCH, "nothing held the sender back"
    assert resident(s) - before < 4 << 20
    reader.deadline = time.monotonic() + 20
    reader.read_exactly(sent)


@each(
    126,
    "RFC 9112 7.1",
    {"sized": b"sized", "until close": b"close"},
    only_http1={"until close": only_http1.VERSION},
)
def client_that_stops_reading_holds_the_origin_back(s: Stage, framing: bytes) -> None:
    client = s.client()
    client.head("GET / HTTP/1.0" if framing == b"close" else "GET / HTTP/1.1")
    link = s.origin.request()
    length = () if framing == b"close" else (f"Content-Length: {MUCH}",)
    link.reply("HTTP/1.1 200 OK", *length)
    client.begun()
    held_back(s, link, client)


@rule(127, "RFC 9112 7.1")
def origin_that_stops_reading_holds_the_client_back(s: Stage) -> None:
    client = s.client()
    client.head("POST / HTTP/1.1", f"Content-Length: {MUCH}")
    link = s.origin.head()
    held_back(s, client, link)
    link.leave()


@rule(131, "hopproxy", group="pool_of_four")
def many_clients_share_four_sockets_without_mixing(s: Stage) -> None:
    clients = [s.client() for _ in range(100)]
    for turn in range(3):
        for number, client in enumerate(clients):
            client.get(f"/{turn}/{number}")
        for _ in clients:
            link = s.origin.request()
            link.answer(link.last.target.encode())
        for number, client in enumerate(clients):
            assert client.response().body == b"/%d/%d" % (turn, number)
    assert len(s.origin.links) <= 4
