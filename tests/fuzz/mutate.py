"""Strokes that turn one case into another."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.fuzz.corpus import FIN, LINES, OK, ORIGIN, WORDS, Case

#: A mutated script is cut to this many bytes, so that inputs stay quick.
LONGEST = 2048
MOST_PIECES = 6

Stroke = Callable[[random.Random, bytes], bytes]


def _insert_word(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randint(0, len(raw))
    return raw[:at] + chance.choice(WORDS) + raw[at:]


def _insert_line(chance: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(chance.randint(1, len(lines)), chance.choice(LINES))
    return b"\r\n".join(lines)


def _replace_byte(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([chance.randrange(256)]) + raw[at + 1 :]


def _flip_bit(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :]


def _delete(chance: random.Random, raw: bytes) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + raw[at + chance.choice((1, 1, 2, 4, 16)) :]


def _double(chance: random.Random, raw: bytes) -> bytes:
    start = chance.randrange(len(raw))
    piece = raw[start : start + chance.choice((1, 2, 8, 32))]
    at = chance.randint(0, len(raw))
    return raw[:at] + piece + raw[at:]


def _move_line(chance: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(chance.randrange(len(lines)), lines.pop(chance.randrange(len(lines))))
    return b"\r\n".join(lines)


def _double_line(chance: random.Random, raw: bytes) -> bytes:
    lines = raw.split(b"\r\n")
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return b"\r\n".join(lines)


def _change_number(chance: random.Random, raw: bytes) -> bytes:
    places = [at for at, byte in enumerate(raw) if 48 <= byte <= 57]
    if not places:
        return raw
    at = chance.choice(places)
    return raw[:at] + b"%d" % chance.choice((0, 1, 3, 4, 6, 9, 16, 300)) + raw[at + 1 :]


STROKES: tuple[Stroke, ...] = (
    _insert_word,
    _insert_word,
    _insert_line,
    _insert_line,
    _replace_byte,
    _flip_bit,
    _delete,
    _double,
    _move_line,
    _double_line,
    _change_number,
)


def stroke(chance: random.Random, raw: bytes, other: bytes) -> bytes:
    """`raw` after a few strokes; now and then its end is that of `other`."""
    if chance.random() < 0.1:
        raw = raw[: chance.randint(0, len(raw))] + other[chance.randint(0, len(other)) :]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        if raw:
            raw = chance.choice(STROKES)(chance, raw)
    return raw[:LONGEST]


def cut(chance: random.Random, raw: bytes) -> tuple[bytes, ...]:
    """The same bytes in other pieces."""
    if len(raw) < 2 or chance.random() < 0.5:
        return (raw,) if raw else ()
    places = sorted(chance.sample(range(1, len(raw)), min(chance.randint(1, 3), len(raw) - 1)))
    ends = [*places, len(raw)]
    return tuple(raw[start:end] for start, end in zip([0, *places], ends, strict=True))


def mutated(chance: random.Random, case: Case, others: Sequence[Case]) -> Case:
    """A case near `case`; `others` lend it parts."""
    other = chance.choice(others)
    ends = case.client[-1:] == (FIN,)
    client, replies = case.client[:-1] if ends else case.client, case.replies
    choice = chance.random()
    if choice < 0.45:
        client = cut(
            chance, stroke(chance, b"".join(client), b"".join(other.client).removesuffix(FIN))
        )
    elif choice < 0.55:
        client = tuple(piece for piece in (*client, *other.client) if piece != FIN)[:MOST_PIECES]
    else:
        changed = list(replies) or [(OK,)]
        at = chance.randrange(len(changed))
        changed[at] = _reply(chance, changed[at], other)
        replies = tuple(changed)
    if chance.random() < 0.1:
        replies = (*replies, *other.replies)[:MOST_PIECES]
    if chance.random() < 0.1:
        ends = not ends
    return Case((*client, FIN) if ends else client, replies)


def _reply(chance: random.Random, pieces: tuple[bytes, ...], other: Case) -> tuple[bytes, ...]:
    ends = bool(pieces) and pieces[-1] == FIN
    raw = b"".join(pieces[:-1] if ends else pieces)
    if chance.random() < 0.1:
        ends = not ends
    donor = b"".join(chance.choice(other.replies)) if other.replies else chance.choice(ORIGIN)
    if chance.random() < 0.1:
        raw = chance.choice(ORIGIN)
    made = cut(chance, stroke(chance, raw, donor))
    return (*made, FIN) if ends else made
