"""The search in HTTP/2 on the whole path: it finds nothing, and a fault planted on either hop."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

pytest.importorskip("h2", reason="needs h2 (pip install h2)")

from hopproxy.link import h2_origin_wire, h2_upstream_stream, h2_wire
from hopproxy.link.h2 import H2Link
from hopproxy.link.h2_inbound import Inbound
from hopproxy.link.h2_stream import H2Stream
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.wire import h2_asking, h2_fields, h2_request
from hopproxy.wire.h2 import Stream
from hopproxy.wire.h2_request import Section
from tests.fuzz import h2_whole
from tests.fuzz.h2_script import Script, made, mutated
from tests.fuzz.search import Result

MENDED = sorted(Path(__file__).parent.glob("findings/h2-whole-*.json"))


def test_a_short_search_finds_nothing_and_reaches_new_edges() -> None:
    result = h2_whole.search_h2_whole(600.0, 7, 60)
    assert result.inputs == 60
    assert result.kinds == {}
    assert result.edges > 2000
    assert result.kept > 45


def _any_host(scheme: bytes, authority: bytes, host: bytes) -> bool:
    return True


def _no_trailers(stream: Inbound, section: Section) -> None:
    stream._fed(ended=True)


_joined = Inbound._joined


def _forget_a_byte(stream: Inbound) -> bytes:
    return _joined(stream)[:-1]


def _end_well(link: H2Link, wire: Stream, code: int) -> None:
    link.wire.send_data(wire, b"", ended=True)


def _always(*_: object, **__: object) -> bool:
    return True


_on_content = H2UpstreamStream.on_content


def _swap_bytes(stream: H2UpstreamStream, data: bytes, *, ended: bool) -> None:
    _on_content(stream, data[::-1], ended=ended)


_respond = H2Stream.begin_response


def _say_more(stream: H2Stream, head: object, added: bytes) -> None:
    _respond(stream, head, added + b"X-Who: knows\r\n")  # type: ignore[arg-type]


def _fail(*_: object, **__: object) -> None:
    raise KeyError("what nobody has thought of")


CLIENTS: list[tuple[object, str, object]] = [
    (Inbound, "_refuse_body", _fail),
    (H2Stream, "on_reset", _fail),
    (h2_request, "_agree", _any_host),
    (h2_fields, "_OF_CONNECTIONS", frozenset()),
    (Inbound, "feed_trailers", _no_trailers),
    (Inbound, "_joined", _forget_a_byte),
    (H2Link, "_reset", _end_well),
    (H2Stream, "begin_response", _say_more),
]
ORIGINS: list[tuple[object, str, object]] = [
    (h2_asking, "_LEFT_OUT", frozenset({b"host"})),
    (h2_upstream_stream, "adds_up", _always),
    (H2UpstreamStream, "on_content", _swap_bytes),
]


@pytest.mark.parametrize(
    ("planted", "h2_origin"),
    [(one, False) for one in CLIENTS] + [(one, True) for one in ORIGINS],
    ids=[name for _, name, _ in [*CLIENTS, *ORIGINS]],
)
def test_a_planted_fault_is_found(
    planted: tuple[object, str, object], h2_origin: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, fault = planted
    monkeypatch.setattr(owner, name, fault)
    monkeypatch.setattr(h2_wire, "_terms", {})  # what was read before is known
    monkeypatch.setattr(h2_origin_wire, "_meanings", {})
    monkeypatch.setattr(h2_asking, "_blocks", {})
    result = Result("h2-whole")
    while not result.kinds and result.inputs < 400:
        most = result.inputs + 10
        seed = result.inputs
        trio.run(
            h2_whole.search_until, result, (600.0, most), seed, (h2_origin,), clock=MockClock()
        )
    assert result.kinds, f"not found by {result.inputs} inputs"


def test_a_script_is_kept_as_it_is_and_found_by_its_seed() -> None:
    scripts = [made(random.Random(seed), seed > 3) for seed in (3, 3, 4)]
    assert scripts[0] == scripts[1] != scripts[2]
    changed = mutated(random.Random(5), scripts[0], scripts)
    for script in (*scripts, changed):
        assert Script.from_json(script.to_json()) == script


async def play(script: Script) -> None:
    async with h2_whole.stage(h2_origin=script.h2_origin) as stage:
        await stage.play(script)


@pytest.mark.parametrize("file", MENDED, ids=[file.stem for file in MENDED])
def test_what_was_found_once_stays_mended(file: Path) -> None:
    trio.run(play, Script.from_json(file.read_text()), clock=MockClock())
