"""The search from HTTP/1.1 to HTTP/2: it finds nothing, and each fault planted on that way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

pytest.importorskip("h2", reason="needs h2 (pip install h2)")

from hopproxy.link import h2_origin_wire, h2_upstream_stream
from hopproxy.link.client import ClientLink
from hopproxy.link.h2_outbound import Outbound
from hopproxy.link.h2_tunnel import StreamEnd
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.message import ResponseHead
from hopproxy.wire import h2_asking
from tests.fuzz import corpus, h1_to_h2
from tests.fuzz.h1_to_h2 import Run
from tests.fuzz.search import Result

MENDED = sorted(Path(__file__).parent.glob("findings/h1-to-h2-*.json"))


def test_a_short_search_finds_nothing_and_reaches_new_edges() -> None:
    result = h1_to_h2.search_mixed(600.0, 7, 100)
    assert (result.inputs, result.kinds) == (100, {})
    assert result.edges > 2000


def _always(*_: object, **__: object) -> bool:
    return True


_on_content = H2UpstreamStream.on_content


def _swap_bytes(stream: H2UpstreamStream, data: bytes, *, ended: bool) -> None:
    _on_content(stream, data[::-1], ended=ended)


_write_content, _end_content = Outbound.write_content, Outbound.end_content


def _forget_a_byte(stream: Outbound, data: bytes) -> None:
    _write_content(stream, data[:-1])


def _no_trailers(stream: Outbound, trailers: list[bytes]) -> None:
    _end_content(stream, [])


_receive, _send = StreamEnd.receive_now, StreamEnd.send_now


def _receive_less(end: StreamEnd) -> bytes | None:
    data = _receive(end)
    return data[1:] if data else data


def _send_twice(end: StreamEnd, data: bytes | memoryview) -> int:
    count = _send(end, bytes(data) + bytes(data))
    return min(count, len(data))


_begin_response = ClientLink.begin_response


def _say_more(link: ClientLink, head: ResponseHead, added: bytes) -> None:
    _begin_response(link, head, added + b"X-Who: knows\r\n")


PLANTED: list[tuple[object, str, object]] = [
    (h2_asking, "_LEFT_OUT", frozenset({b"host"})),
    (h2_upstream_stream, "adds_up", _always),
    (H2UpstreamStream, "on_content", _swap_bytes),
    (Outbound, "write_content", _forget_a_byte),
    (Outbound, "end_content", _no_trailers),
    (StreamEnd, "receive_now", _receive_less),
    (StreamEnd, "send_now", _send_twice),
    (ClientLink, "begin_response", _say_more),
]


@pytest.mark.parametrize(("owner", "name", "fault"), PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_fault_is_found(
    owner: object, name: str, fault: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, fault)
    monkeypatch.setattr(h2_origin_wire, "_meanings", {})
    monkeypatch.setattr(h2_asking, "_blocks", {})
    result = Result("h1-to-h2")
    while not result.kinds and result.inputs < 400:
        seed, most = result.inputs, result.inputs + 10
        trio.run(h1_to_h2.search_until, result, (600.0, most), seed, clock=MockClock())
    assert result.kinds, f"not found by {result.inputs} inputs"


def test_a_run_is_kept_as_it_is() -> None:
    run = h1_to_h2.made(random.Random(4), corpus.seeds())
    assert Run.from_json(run.to_json()) == run


async def play(run: Run) -> None:
    async with h1_to_h2.stage() as stage:
        await stage.play(run)


@pytest.mark.parametrize("file", MENDED, ids=[file.stem for file in MENDED])
def test_what_was_found_once_stays_mended(file: Path) -> None:
    trio.run(play, Run.from_json(file.read_text()), clock=MockClock())
