"""What both ends of an HTTP/2 run do: made at random, changed at random, kept in a file."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

from tests.fuzz.corpus import CHUNKED, FIN, OK, ORIGIN
from tests.fuzz.h2_strokes import PAIRS
from tests.h2_peer import Fields, frame, number

#: What a request is known by on both hops.
MARK = b"x-mark"
MOST_STREAMS = 5


class Act(NamedTuple):
    """One thing that an end does: `what` it is, and on the stream of which request.

    `number` is padding of DATA, where HEADERS are split, the code of a reset, the value of a
    setting or a window, or the size of the pieces in which all so far is sent.  A client may begin
    with a smaller window for its streams.
    """

    what: str
    mark: int = 0
    fields: tuple[tuple[bytes, bytes], ...] = ()
    data: bytes = b""
    number: int = 0
    end: bool = False


class Script(NamedTuple):
    """One run: what the client does, and what the origin does with each request, by its mark.

    `h2_origin` tells whether the origin speaks HTTP/2.  If not, each of its acts is a piece of a
    reply.
    """

    h2_origin: bool
    client: tuple[Act, ...]
    origin: tuple[tuple[Act, ...], ...]

    def to_json(self) -> str:
        """As kept in a file."""
        client = [_plain(act) for act in self.client]
        origin = [[_plain(act) for act in acts] for acts in self.origin]
        return json.dumps({"h2_origin": self.h2_origin, "acts": client, "origin": origin})

    @classmethod
    def from_json(cls, text: str) -> Script:
        """From a file."""
        read = json.loads(text)
        origin = tuple(tuple(_act(one) for one in acts) for acts in read["origin"])
        return cls(read["h2_origin"], tuple(_act(one) for one in read["acts"]), origin)


def _plain(act: Act) -> list[object]:
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in act.fields]
    return [act.what, act.mark, fields, act.data.decode("latin-1"), act.number, act.end]


def _act(plain: Sequence[object]) -> Act:
    what, mark, fields, data, number, end = plain
    pairs = tuple((n.encode("latin-1"), v.encode("latin-1")) for n, v in fields)  # type: ignore[attr-defined]
    return Act(what, mark, pairs, data.encode("latin-1"), number, end)  # type: ignore[arg-type, attr-defined]


# -- requests ----------------------------------------------------------------------------------

_METHODS = (b"GET", b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH")
_PATHS = (b"/", b"/a?b=c", b"/%2F//x;y?z=%zz", b"/a/../b")
_CONTENT = (b"", b"x", b"hello", b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n", b"0\r\n\r\n", b"y" * 700)
_TRAILERS: Fields = [
    (b"x-sum", b"9"), (b"grpc-status", b"0"), (b"content-length", b"5"), (b"host", b"b"),
    (b"transfer-encoding", b"chunked"), (b":path", b"/t"), (b"x", b"a\r\nb: c"), (b"X-Up", b"1"),
    (b"authorization", b"x"), (b"trailer", b"x-sum"), (b"x-empty", b""),
]  # fmt: skip
#: Sizes of payloads that some frame must have, and others.
_SIZES = (0, 1, 4, 4, 5, 6, 8, 10)
#: Frames without a meaning for any request.
_OTHER = (
    frame(0xBE, 0xFF, 0, b"x"),
    frame(0xBE, 0, 1, b""),
    frame(2, 0, 99, b"\0\0\0\0\x10"),
    frame(6, 0, 0, b"12345678"),
)


def made(chance: random.Random, h2_origin: bool) -> Script:
    """A new run."""
    count = chance.choice((1, 1, 2, 3, MOST_STREAMS))
    streams = [_request(chance, mark) for mark in range(count)]
    acts = [Act("begin", number=chance.choice((0, 1, 30)))] if chance.random() < 0.15 else []
    breaks = 0.3 if chance.random() < 0.25 else 0.0
    while streams:
        stream = chance.choice(streams)
        acts.append(stream.pop(0))
        if not stream:
            streams.remove(stream)
        if chance.random() < 0.4:
            acts.append(_aside(chance))
        if chance.random() < breaks:
            acts += [Act("wait"), _raw(chance)]
    make = response if h2_origin else _reply
    return Script(h2_origin, tuple(acts), tuple(make(chance, mark) for mark in range(count)))


def _request(chance: random.Random, mark: int) -> list[Act]:
    fields: Fields = [
        (b":method", chance.choice(_METHODS)),
        (b":scheme", chance.choice((b"http", b"http", b"https"))),
        (b":path", chance.choice(_PATHS)),
        (b":authority", chance.choice((b"a", b"a", b"a:80", b"b.test:8080"))),
    ]
    more = chance.choices(PAIRS, k=chance.choice((0, 0, 1, 2, 4)))
    if chance.random() < 0.7:
        more = [pair for pair in more if pair[0][:1] != b":"]
    fields += more
    fields.insert(chance.randint(4, len(fields)), (MARK, b"%d" % mark))
    if chance.random() < 0.12:
        _malform(chance, fields)
    content = [chance.choice(_CONTENT) for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3)))]
    if content and chance.random() < 0.5:
        length = len(b"".join(content)) + chance.choice((0, 0, 0, 0, -1, 1))
        fields.append((b"content-length", b"%d" % length))
    return _message(chance, mark, fields, content)


def _malform(chance: random.Random, fields: Fields) -> None:
    """Leave out, repeat, move or change a field, but not the mark."""
    at = chance.choice([at for at, pair in enumerate(fields) if pair[0] != MARK] or [-1])
    if at < 0:
        return
    name, value = fields[at]
    chance.choice(
        (
            lambda: fields.pop(at),
            lambda: fields.insert(at, (name, value)),
            lambda: fields.append(fields.pop(at)),
            lambda: fields.__setitem__(at, (name.upper(), value)),
            lambda: fields.__setitem__(at, (name + b" ", value)),
            lambda: fields.__setitem__(at, (name, value + chance.choice((b"\r\n", b"\0", b" ")))),
            lambda: fields.__setitem__(at, (name, b"")),
        )
    )()


def _message(chance: random.Random, mark: int, fields: Fields, content: list[bytes]) -> list[Act]:
    """HEADERS, DATA and trailers; now and then they are not all."""
    trailers = chance.choices(_TRAILERS, k=chance.choice((1, 2))) if chance.random() < 0.2 else []
    if trailers and chance.random() < 0.6:
        trailers = [pair for pair in trailers if pair[0] in (b"x-sum", b"grpc-status", b"x-empty")]
    split = chance.choice((0, 0, 0, 1, 5, 30))
    acts = [Act("head", mark, tuple(fields), b"", split, not content and not trailers)]
    for at, piece in enumerate(content):
        ends = at + 1 == len(content) and not trailers
        acts.append(Act("data", mark, (), piece, chance.choice((0, 0, 1, 9, 255)), ends))
    if trailers:
        acts.append(Act("trailers", mark, tuple(trailers), b"", split, True))
    if chance.random() < 0.15:
        del acts[chance.randint(1, len(acts)) :]
        if chance.random() < 0.7:
            acts.append(Act("reset", mark, number=chance.choice((0, 2, 7, 8, 99))))
    return acts


def _aside(chance: random.Random) -> Act:
    """Something that is about no request."""
    return chance.choice(
        (
            Act("wait", number=chance.choice((0, 0, 0, 1, 7, 9))),
            Act("wait"),
            Act("other", data=chance.choice(_OTHER)),
            Act("table", number=chance.choice((0, 64, 200, 4096))),
            Act("setting", data=b"1", number=chance.choice((0, 100, 4096, 9000))),
            Act("setting", data=b"4", number=chance.choice((0, 1, 10, 65535, 1 << 20))),
            Act("setting", data=b"5", number=chance.choice((16384, 20000))),
            Act("window", number=chance.choice((1, 1000, 100000))),
        )
    )


def _raw(chance: random.Random) -> Act:
    """A frame that the library would not send, or not now."""
    stream = chance.choice((0, 1, 1, 1, 3, 3, 5, 7, 9, 11))
    kind = chance.choice((0, 1, 1, 3, 8, chance.randrange(11)))
    flags = chance.choice((0, 1, 4, 5, 5, chance.randrange(256)))
    payload = chance.randbytes(chance.choice(_SIZES))
    if kind in (1, 9) and chance.random() < 0.8:
        pairs = chance.choices([pair for pair in PAIRS if len(pair[1]) < 127], k=2)
        payload = b"".join(literal(*pair) for pair in pairs)
    elif kind in (3, 8) and chance.random() < 0.8:
        payload = number(chance.choice((0, 1, 8, 0x7FFFFFFF)))
    made = frame(kind, flags, stream, payload)
    return Act("raw", data=made[: chance.randrange(len(made))] if chance.random() < 0.05 else made)


def literal(name: bytes, value: bytes) -> bytes:
    """A field line of HPACK that no table has a part in."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


# -- what the origin does ----------------------------------------------------------------------


def _reply(chance: random.Random, mark: int) -> tuple[Act, ...]:
    """Pieces of a reply in HTTP/1.1, of which FIN is the last one now and then."""
    whole = chance.choice((OK, CHUNKED, *ORIGIN)) if chance.random() < 0.6 else OK
    pieces = [whole]
    if chance.random() < 0.3:
        at = chance.randrange(len(whole))
        pieces = [whole[:at], whole[at:]] if chance.random() < 0.7 else [whole[:at], FIN]
    if chance.random() < 0.15 and pieces[-1] != FIN:
        pieces.append(FIN)
    return tuple(Act("piece", mark, data=piece) for piece in pieces)


def response(chance: random.Random, mark: int) -> tuple[Act, ...]:
    """HEADERS, DATA and trailers of a response; now and then a reset or GOAWAY instead."""
    status = chance.choice((b"200", b"200", b"200", b"404", b"204", b"304", b"503"))
    more = chance.choices(PAIRS, k=chance.choice((0, 0, 1, 2, 3)))
    if chance.random() < 0.7:
        more = [pair for pair in more if pair[0][:1] != b":"]
    fields: Fields = [(b":status", status), *more]
    if chance.random() < 0.1:
        _malform(chance, fields)
    content = [chance.choice(_CONTENT) for _ in range(chance.choice((0, 1, 1, 2, 3)))]
    if chance.random() < 0.4:
        length = len(b"".join(content)) + chance.choice((0, 0, 0, 0, -1, 1))
        fields.append((b"content-length", b"%d" % length))
    acts = _message(chance, mark, fields, content)
    if chance.random() < 0.15:
        interim = (b":status", chance.choice((b"103", b"100", b"101", b"102")))
        acts.insert(0, Act("head", mark, (interim, (b"link", b"</a.css>"))))
    if chance.random() < 0.07:
        acts.insert(chance.randint(0, len(acts)), Act("leave", mark, number=chance.choice((0, 2))))
    if chance.random() < 0.07:
        acts.insert(chance.randint(0, len(acts)), Act("fin", mark))
    for at in range(len(acts), 0, -1):
        if chance.random() < 0.2:
            acts.insert(at, _aside(chance))
    return tuple(acts)


# -- changes -----------------------------------------------------------------------------------


def mutated(chance: random.Random, one: Script, others: Sequence[Script]) -> Script:
    """Near `one`: acts moved, doubled, dropped, or taken from another run."""
    client = list(one.client)
    other = chance.choice(others)
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(len(client)) if client else 0
        kind = chance.randrange(6)
        if kind == 0 and len(client) > 1:
            client.pop(at)
        elif kind == 1 and client:
            client.insert(chance.randint(0, len(client)), client[at])
        elif kind == 2 and client:
            client.insert(chance.randint(0, len(client) - 1), client.pop(at))
        elif kind == 3:
            client.insert(at, _aside(chance))
        elif kind == 4 and other.client:
            client.insert(at, chance.choice(other.client))
        elif client and client[at].fields:
            fields = list(client[at].fields)
            _malform(chance, fields)
            client[at] = client[at]._replace(fields=tuple(fields))
    origin = list(one.origin)
    if other.h2_origin == one.h2_origin and other.origin and chance.random() < 0.4:
        origin[chance.randrange(len(origin))] = chance.choice(other.origin)
    return Script(one.h2_origin, tuple(client[:40]), tuple(origin))
