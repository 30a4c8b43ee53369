"""The fuzzer itself: seeds pass, a planted fault is found, past findings stay mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hopproxy.link.link import Link
from hopproxy.link.upstream import UpstreamLink
from hopproxy.message import Body, Head, Kind, RequestHead, ResponseHead
from hopproxy.rules import hop
from hopproxy.wire import chunked, http1
from tests.fuzz import corpus, pure_layer, search, tls_layer, whole_path
from tests.fuzz.corpus import Case
from tests.fuzz.edges import Edges

FINDINGS = Path(__file__).parent / "findings"
MENDED = sorted({*FINDINGS.glob("*.json")} - {*FINDINGS.glob("h[12]-*.json")})


async def play(cases: list[Case]) -> str:
    """The first thing that the whole path does wrong with these cases; empty if it is right."""
    for case in cases:
        async with whole_path.stage() as stage:
            try:
                await stage.run(case)
            except AssertionError as error:
                return f"{case}: {type(error).__name__}: {error}"
    return ""


def whole(cases: list[Case]) -> str:
    """The same, in a trio run whose clock is pushed."""
    return trio.run(play, cases, clock=MockClock())


def pure(inputs: list[pure_layer.Input]) -> None:
    """Understand and judge."""
    for one in inputs:
        for message in pure_layer.understand(one):
            pure_layer.judge(message)


def test_no_seed_fails_on_either_layer() -> None:
    pure(pure_layer.seeds())
    assert whole(corpus.seeds()) == ""


def test_a_short_search_finds_nothing_and_reaches_new_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FINDINGS", tmp_path)
    for run, most in ((search.search_pure, 1500), (search.search_whole, 150)):
        result = run(600.0, 7, most)
        assert result.inputs == most
        assert result.kinds == {}, list(tmp_path.iterdir())
        assert result.edges > 400
        assert result.kept > 60


def _ignore_what_follows(link: UpstreamLink, head: ResponseHead, request_sent: bool) -> None:
    link.ending = head.ending


def _believe_a_fin(link: Link) -> None:
    link.body = Body.NONE


_take_content = Link.take_content


def _forget_a_byte(link: Link, head: Head) -> bytes | None:
    taken = _take_content(link, head)
    return taken[:-1] + b"?" if taken else taken


PLANTED: list[tuple[object, str, Callable[..., object] | frozenset[Kind]]] = [
    (UpstreamLink, "end_cycle", _ignore_what_follows),
    (Link, "_end_of_stream", _believe_a_fin),
    (Link, "take_content", _forget_a_byte),
    (hop, "_REQUEST_OWN", frozenset({Kind.CONNECTION, Kind.VIA, Kind.FORWARDING})),
    (hop, "_RESPONSE_OWN", frozenset({Kind.HOP})),
]


@pytest.mark.parametrize("planted", PLANTED, ids=[name for _, name, _ in PLANTED])
def test_a_planted_fault_is_found_by_the_seeds(
    planted: tuple[object, str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, fault = planted
    monkeypatch.setattr(owner, name, fault)
    if owner is hop:  # heads that were written before are remembered
        monkeypatch.setattr(http1, "_requests", http1._Memo[RequestHead]())
        monkeypatch.setattr(http1, "_responses", http1._Memo[ResponseHead]())
    assert whole(corpus.seeds()) != ""


def test_a_coding_that_depends_on_the_cut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = chunked.ChunkedReader.feed

    def careless(reader: chunked.ChunkedReader, data: bytes) -> tuple[bytes, bytes]:
        body, rest = feed(reader, data)
        return (b"" if len(data) == 1 and body == b"l" else body), rest

    monkeypatch.setattr(chunked.ChunkedReader, "feed", careless)
    with pytest.raises(AssertionError, match="when cut"):
        pure(pure_layer.seeds())


def test_edges_are_those_of_hopproxy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "_requests", http1._Memo[RequestHead]())
    edges = Edges()
    with edges:
        json.dumps([1])
    assert edges.news() == 0
    with edges:
        pure_layer.understand((True, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    first = edges.news()
    assert first > 40
    with edges:
        pure_layer.understand((True, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert edges.news() < first


def test_what_was_found_once_stays_mended() -> None:
    for file in MENDED:
        kept = json.loads(file.read_text())
        if file.name.startswith("pure"):
            pure([(kept["request"], kept["bytes"].encode("latin-1"))])
        else:
            assert whole([Case.from_json(file.read_text())]) == "", file.name


def test_a_short_search_over_tls_finds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FINDINGS", tmp_path)
    result = tls_layer.search_tls(600.0, 7, 150)
    assert result.inputs == 150
    assert result.kinds == {}, list(tmp_path.iterdir())
