"""The search in HTTP/2: it finds nothing, and a fault that is planted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

pytest.importorskip("h2", reason="needs h2 (pip install h2)")

from hopproxy.link import h2_origin_wire, h2_wire
from hopproxy.wire import h2_asking, h2_fields, h2_input, h2_request, hpack
from hopproxy.wire.h2_fields import Checked
from hopproxy.wire.hpack import FieldLine
from tests.fuzz import h2_layer
from tests.fuzz.h2_reader import settings_frame
from tests.fuzz.h11_reader import Disagreement
from tests.h2_peer import END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, frame, number


def test_a_short_search_finds_nothing_and_reaches_new_edges() -> None:
    result = h2_layer.search_h2(600.0, 7, 300)
    assert result.inputs == 300
    assert result.kinds == {}
    assert result.edges > 400
    assert result.kept > 180


def test_a_clients_goaway_says_nothing_of_its_own_streams() -> None:
    begun = frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x82\x86\x41\x81\x1f\x84")
    left = frame(RST_STREAM, 0, 1, number(8)) + frame(GOAWAY, 0, 0, number(0) + number(0))
    h2_layer.check((True, settings_frame() + begun + left), random.Random(1))


def _any_host(scheme: bytes, authority: bytes, host: bytes) -> bool:
    return True


_check = h2_fields._check


def _any_value(name: bytes, value: bytes) -> Checked:
    found = _check(name, value)
    if found.role == h2_fields.MALFORMED and name == b"x":
        found = Checked(h2_fields.ORDINARY, name + b": " + value)
    return found


_fit = hpack._fit


def _never_evict(
    dynamic: tuple[FieldLine, ...], used: int, capacity: int
) -> tuple[tuple[FieldLine, ...], int]:
    return dynamic, used


def _read_padding(data: bytes, start: int, end: int) -> tuple[int, int]:
    return start + 1, end


def _search_untraced() -> None:
    chance, pool = random.Random(7), h2_layer.seeds()
    mutated = (h2_layer.mutated(chance, chance.choice(pool), pool) for _ in range(1500))
    for one in itertools.chain(pool, mutated):
        h2_layer.check(one, chance)


PLANTED: list[tuple[object, str, Callable[..., object] | frozenset[bytes]]] = [
    (h2_request, "_agree", _any_host),
    (h2_fields, "_check", _any_value),
    (h2_fields, "_OF_CONNECTIONS", frozenset()),
    (hpack, "_fit", _never_evict),
    (h2_input, "unpad", _read_padding),
    (h2_asking, "_LEFT_OUT", frozenset({b"host"})),
]


@pytest.mark.parametrize("planted", PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_fault_is_found(
    planted: tuple[object, str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, fault = planted
    monkeypatch.setattr(owner, name, fault)
    monkeypatch.setattr(h2_wire, "_terms", {})  # what was read before is known
    monkeypatch.setattr(h2_origin_wire, "_meanings", {})
    monkeypatch.setattr(h2_asking, "_blocks", {})
    with pytest.raises(Disagreement):
        _search_untraced()
