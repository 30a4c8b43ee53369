"""HTTP/2 without sockets: frames, field blocks and what they mean, for both roles.

One input is what a peer sends after its preface.  It is read by `wire/` and by the library `h2`,
which uses `hpack`; then each message is written for the other hop and read there.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple, cast

from hopproxy.link import h2_origin_wire, h2_wire
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import (
    BROKEN,
    CONTENT,
    FAILED,
    HEAD,
    LEAVING,
    RESET,
    H2Client,
    H2Server,
)
from hopproxy.wire.h2_frames import PREFACE
from tests.conformance import h2_rows
from tests.fuzz import h2_meant
from tests.fuzz.edges import Edges
from tests.fuzz.h2_reader import ASKED, Event, Trouble, library_events, settings_frame
from tests.fuzz.h2_strokes import LONGEST, stroke
from tests.fuzz.h11_reader import Disagreement
from tests.fuzz.search import TRACED, Result
from tests.h2_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    Fields,
    H2Peer,
    frame,
    number,
)

LIMITS = LinkSettings()
UPSTREAM = UpstreamSettings(origins=(OriginAddress("unix", path="/fuzz"),))
#: From a client or not, and the bytes.
Input = tuple[bool, bytes]


class Read(NamedTuple):
    """What `wire/` has read: events, each head, and why it stopped, "" if it has not."""

    events: list[Event]
    sections: list[Any]
    stopped: str


def seeds() -> list[Input]:
    """What the table of wire cases sends, and responses as origins send them."""
    found = []
    for row in h2_rows.TABLE.values():
        sent = row.send(H2Peer(cast("Any", None)))
        if len(sent) <= LONGEST:
            found.append((True, settings_frame() + sent))
    found.append((True, settings_frame() + _evicting()))
    return found + [(False, settings_frame() + sent) for sent in _responses()]


def _evicting() -> bytes:
    """Two requests, of which the second names lines that are old enough to be forgotten."""
    first = H2Peer(cast("Any", None)).head([*GET, *[(b"x-%d" % n, b"v" * 300) for n in range(15)]])
    again = b"\x82\x86\x84" + bytes(range(0xBE, 0xCE))
    return first + frame(HEADERS, END_HEADERS | END_STREAM, 3, again)


def _responses() -> Iterator[bytes]:
    """For the streams 1, 3 and 5, of which the last asks with HEAD."""
    ok: Fields = [(b":status", b"200")]
    sized: Fields = [*ok, (b"content-length", b"5"), (b"server", b"x")]
    interim: Fields = [(b":status", b"103"), (b"link", b"</a.css>")]
    peer = H2Peer(cast("Any", None))

    def head(fields: Fields, stream: int = 1, *, end: bool = False) -> bytes:
        return peer.head(fields, stream=stream, end=end)

    hello = frame(DATA, END_STREAM, 1, b"hello")
    yield head(sized) + hello
    yield head(ok) + frame(DATA, 0, 1, b"hel") + frame(DATA, END_STREAM, 1, b"lo")
    yield head(interim) + head(sized) + hello
    yield head(ok) + frame(DATA, 0, 1, b"hello") + head([(b"grpc-status", b"0")], end=True)
    yield head([(b":status", b"204")], end=True) + head(sized, 5, end=True)
    yield head(sized) + frame(DATA, 0, 1, b"he") + frame(RST_STREAM, 0, 1, number(2))
    yield head(sized, 3) + head(ok) + hello + frame(DATA, END_STREAM, 3, b"12345")
    yield head(sized) + frame(GOAWAY, 0, 0, number(1) + number(0)) + hello
    yield head([(b":status", b"304"), (b"content-length", b"9"), (b"etag", b'"a"')], end=True)
    yield head([*ok, (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")], end=True)
    yield head([(b":status", b"100")]) + head([(b":status", b"101")], end=True)
    block = peer.encoder.encode(sized)
    yield frame(HEADERS, 0, 1, block[:4]) + frame(9, END_HEADERS, 1, block[4:]) + hello


def mutated(chance: random.Random, one: Input, others: list[Input]) -> Input:
    """Near `one`."""
    return one[0], stroke(chance, one[1], chance.choice(others)[1])


def check(one: Input, chance: random.Random) -> None:
    """Read in all ways, write again, judge.  Raises Disagreement, or a fault of hopproxy's own."""
    from_client, data = one
    ours = understand(from_client, [data])
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 9)))
    ends = zip([0, *places], [*places, len(data)], strict=True)
    cut = understand(from_client, [data[start:end] for start, end in ends])
    if (cut.events, cut.stopped) != (ours.events, ours.stopped):
        raise Disagreement(f"read otherwise when cut at {places}: {ours} and {cut}")
    library, trouble = library_events(from_client, data)
    _compare(ours, library, trouble)
    for (what, stream, fields, ended), section in zip(_heads(ours), ours.sections, strict=True):
        assert what == "head"
        if from_client:
            h2_meant.check_request(section, cast("Fields", fields), LIMITS, ended=ended)
        else:
            method = ASKED.get(stream, b"GET")
            h2_meant.check_response(section, cast("Fields", fields), method)


def _heads(read: Read) -> list[Event]:
    return [event for event in read.events if event[0] == "head"]


def understand(from_client: bool, pieces: list[bytes]) -> Read:
    """What `wire/` reads, each piece in a call of its own."""
    wire: H2Server | H2Client
    if from_client:
        wire = h2_wire.new_wire(LIMITS)
        wire.receive(PREFACE, 0.0)
    else:
        wire = h2_origin_wire.new_wire(UPSTREAM)
        for stream, method in ASKED.items():
            opened = wire.open(h2_meant.asking(method), ended=True)
            assert opened.number == stream
    wire.take()
    read: list[Event] = []
    sections = []
    for piece in pieces:
        for what, of, payload, ended in wire.receive(piece, 0.0):
            at = of.number if of is not None else 0
            if what == HEAD:
                sections.append(payload)
                lines = [(line.name, line.value) for line in payload.lines]
                read.append(("head", at, lines, ended))
            elif what == CONTENT:
                read.append(("data", at, payload, ended))
            elif what == RESET:
                read.append(("reset", at, None, True))
            elif what == BROKEN:
                return Read(_joined(read), sections, f"stream {at}: {payload}")
            elif what == FAILED:
                return Read(_joined(read), sections, str(payload))
            elif what == LEAVING:
                while not from_client and read[-1:] and read[-1][0] == "reset":
                    if read[-1][1] <= payload[0]:
                        break
                    read.pop()  # that the origin has not begun with
                read.append(("goaway", 0, payload[0], False))
                return Read(_joined(read), sections, "GOAWAY")
    return Read(_joined(read), sections, "")


def _joined(events: list[Event]) -> list[Event]:
    """Without DATA that says nothing."""
    return [event for event in events if event[0] != "data" or event[2] or event[3]]


def _compare(ours: Read, library: list[Event], trouble: Trouble | None) -> None:
    """Both must have read the same, up to where one of them stopped."""
    both = min(len(ours.events), len(library))
    if ours.events[:both] != library[:both]:
        raise Disagreement(f"read {ours.events}, h2 reads {library}")
    if len(ours.events) > both and (trouble is None or not trouble.is_stricter):
        raise Disagreement(f"read {ours.events[both:]}, h2 does not: {trouble}")
    if len(library) > both and not ours.stopped:
        raise Disagreement(f"h2 reads {library[both:]}, and ours does not")
    if trouble is not None and not ours.stopped and not trouble.is_stricter:
        raise Disagreement(f"h2 refuses what we have read: {trouble}")
    if ours.stopped and trouble is None and not h2_meant.is_stricter(ours.stopped):
        raise Disagreement(f"h2 accepts what we refuse: {ours.stopped}")


def search_h2(seconds: float, seed: int, most: float = inf) -> Result:
    """Frames and field blocks, until the time is over."""
    chance, edges, result = random.Random(seed), Edges(), Result("h2")
    start = seeds()
    pool = list(start)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds and result.inputs < most:
        fresh = result.inputs < len(start)
        one = pool[result.inputs] if fresh else mutated(chance, chance.choice(pool), pool)
        result.inputs += 1
        try:
            if fresh or result.inputs % TRACED == 0:
                with edges:
                    check(one, random.Random(result.inputs))
            else:
                check(one, random.Random(result.inputs))
        except Exception as error:
            shown = {"client": one[0], "bytes": one[1].hex(), "cut": result.inputs}
            result.found(error, json.dumps(shown, indent=1))
        if edges.news():
            pool.append(one)
    result.edges, result.kept, result.seconds = len(edges.seen), len(pool), passed
    return result
