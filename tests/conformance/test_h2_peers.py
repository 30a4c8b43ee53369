"""The judge of other proxies: it asks what a rule says, and no less; its table is up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from tests.conformance.h2_peers import PEERS, Seen, flaw
from tests.conformance.h2_rows import LIMIT, TABLE
from tests.h2_peer import (
    CANCEL,
    GOAWAY,
    NO_ERROR,
    PROTOCOL_ERROR,
    RST_STREAM,
    Answer,
    Frame,
    number,
)
from tests.h2_peer import H2Peer as Peer
from tests.raw_peers import Message


def seen(
    *, status: int = 0, goaway: int = -1, reset: int = -1, asked: int = 0, alive: bool = True
) -> Seen:
    """What both hops have seen."""
    h2 = Peer(cast("Any", None))
    if status:
        answer = h2.answers[1] = Answer()
        answer.heads, answer.ended = [[(b":status", b"%d" % status)]], True
    if goaway >= 0:
        h2.frames.append(Frame(GOAWAY, 0, 0, number(0) + number(goaway)))
    if reset >= 0:
        h2.frames.append(Frame(RST_STREAM, 0, 1, number(reset)))
    return Seen(h2, [cast("Message", None)] * asked, not alive, alive, "")


CONNECTION = "5.1 DATA on an idle stream"
STREAM = "6.9 WINDOW_UPDATE by 0 of a stream"
MALFORMED = "malformed 8.2.1 LF in a value"
SERVED = "4.1 unknown type is ignored"
LOOP = "RFC 9110 7.6.3 a loop"

ALLOWED = [
    (CONNECTION, seen(goaway=PROTOCOL_ERROR, alive=False)),
    (CONNECTION, seen(alive=False)),
    (STREAM, seen(reset=CANCEL)),
    (STREAM, seen(goaway=PROTOCOL_ERROR, alive=False)),
    (MALFORMED, seen(status=400)),
    (MALFORMED, seen(reset=PROTOCOL_ERROR)),
    (MALFORMED, seen(alive=False)),
    (SERVED, seen(status=200, asked=1)),
    (LOOP, seen(status=200, asked=1)),
    (LOOP, seen(status=508)),
]
FORBIDDEN = [
    (CONNECTION, seen(), "lives"),
    (STREAM, seen(status=200, asked=1), "lives"),
    (MALFORMED, seen(status=200, asked=1), "passed on"),
    (MALFORMED, seen(reset=PROTOCOL_ERROR, asked=1), "passed on"),
    (MALFORMED, seen(), "neither"),
    (MALFORMED, seen(status=200), "neither"),
    (SERVED, seen(status=200, asked=2), "not served"),
    (SERVED, seen(status=400), "not served"),
    (SERVED, seen(status=200, asked=1, alive=False), "does not live"),
    (LOOP, seen(status=200, asked=0, alive=True)._replace(malformed=", x"), "no HTTP"),
]


@pytest.mark.parametrize(("title", "found"), ALLOWED)
def test_a_peer_may_choose_what_a_rule_allows(title: str, found: Seen) -> None:
    assert flaw(TABLE[title], found, ours=False) == ""


@pytest.mark.parametrize(("title", "found", "why"), FORBIDDEN)
def test_a_peer_may_not_do_what_a_rule_forbids(title: str, found: Seen, why: str) -> None:
    assert why in flaw(TABLE[title], found, ours=False)


@pytest.mark.parametrize(
    ("title", "found"),
    [
        (CONNECTION, seen(goaway=NO_ERROR, alive=False)),
        (STREAM, seen(reset=CANCEL)),
        (MALFORMED, seen(reset=PROTOCOL_ERROR)),
        (SERVED, seen(status=200, asked=1, goaway=NO_ERROR)),
        (LOOP, seen(status=200, asked=1)),
    ],
)
def test_hopproxy_is_held_to_its_own_choice(title: str, found: Seen) -> None:
    assert flaw(TABLE[title], found, ours=True)


def test_the_written_table_has_every_row_and_hopproxy_passes_them_all() -> None:
    lines = Path(__file__).with_name("RESULTS-H2.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert rows[0] == ["rule", *PEERS]
    assert [row[0] for row in rows[1:]] == list(TABLE)
    assert {row[1] for row in rows[1:]} == {"pass"}
    limits = {title for title, row in TABLE.items() if row.choice == LIMIT}
    assert {row[0] for row in rows[1:] if row[2] == row[3] == row[4] == "n/a"} >= limits
