"""A fault in any stage is found by a short search, and reported with its traceback."""

from __future__ import annotations

import pytest

from hopproxy.link.client import ClientLink
from hopproxy.link.transport import Transport
from hopproxy.link.tunnel import Flow
from hopproxy.link.upstream import UpstreamLink
from hopproxy.link.watch import Watch
from hopproxy.pool import connector
from hopproxy.pool.pool import Pool
from hopproxy.routing.table import Table
from hopproxy.server.connection import Connection
from hopproxy.wire import http1
from hopproxy.wire.chunked import ChunkedReader
from tests.fuzz import corpus, pure_layer, search
from tests.fuzz.search import Result

#: Inputs of a search: as many seeds, the first ones for most stages.
FEW = 40
#: The call that fails.  All others go well, so that what is told is one fault, found once.
FAILS_AT = 4


class Planted(Exception):
    """An unexpected exception."""


def plant(patch: pytest.MonkeyPatch, place: object, name: str) -> None:
    """Have one call of this name fail, and all others go on as before."""
    sound, calls = getattr(place, name), 0

    def planted(*args: object, **more: object) -> object:
        nonlocal calls
        calls += 1
        if calls == FAILS_AT:
            raise Planted
        return sound(*args, **more)

    patch.setattr(place, name, planted)


def found_once(result: Result, said: str) -> None:
    """One finding, which names the fault, with the input that shows it."""
    assert list(result.kinds.values()) == [1], result.kinds
    assert "Planted" in said
    assert len(list(search.FINDINGS.iterdir())) == 1


#: Where a fault is planted, as in tests/links/test_faults_of_ours.py.
WHOLE = [
    pytest.param(Connection, "start", id="accept"),
    pytest.param(ClientLink, "take_request", id="head"),
    pytest.param(Table, "find", id="route"),
    pytest.param(Pool, "acquire_now", id="check-out"),
    pytest.param(connector, "tune", id="dial"),
    pytest.param(UpstreamLink, "write_request", id="send"),
    pytest.param(UpstreamLink, "head_at_hand", id="response head"),
    pytest.param(UpstreamLink, "read_body", id="relay"),
    pytest.param(ClientLink, "_body_of", id="upload"),
    pytest.param(Flow, "pump", id="tunnel"),
    pytest.param(UpstreamLink, "idle_verdict", id="idle event"),
    pytest.param(Transport, "_expired", id="timer"),
    pytest.param(Watch, "_ring", id="what ends the worker"),
]


#: Of these, only other seeds have as many as `FAILS_AT`.
SELDOM = {"_body_of": slice(80, 120), "pump": slice(80, 120), "idle_verdict": slice(104, 144)}


@pytest.mark.parametrize(("place", "name"), WHOLE)
def test_the_whole_path_finds_a_fault(
    place: object,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(monkeypatch, place, name)
    seeds = corpus.seeds()[SELDOM.get(name, slice(FEW))]
    monkeypatch.setattr(corpus, "seeds", lambda: seeds)
    result = search.search_whole(600.0, 7, FEW)
    assert result.inputs == FEW, "the search goes on"
    found_once(result, capsys.readouterr().out)


def test_the_whole_path_finds_nothing_without_a_fault() -> None:
    result = search.search_whole(600.0, 7, FEW)
    assert (result.inputs, result.kinds) == (FEW, {})


PURE = [
    pytest.param(http1, "read_request", id="request head"),
    pytest.param(http1, "read_response", id="response head"),
    pytest.param(http1, "read_hop_fields", id="hop fields"),
    pytest.param(pure_layer, "request_for_upstream", id="next hop"),
    pytest.param(http1, "write_response", id="response out"),
    pytest.param(ChunkedReader, "feed", id="chunked coding"),
]


@pytest.mark.parametrize(("place", "name"), PURE)
def test_the_pure_layer_finds_a_fault(
    place: object,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(monkeypatch, place, name)
    result = search.search_pure(600.0, 7, 100)
    assert result.inputs == 100, "the search goes on"
    found_once(result, capsys.readouterr().out)


def test_the_pure_layer_finds_nothing_without_a_fault() -> None:
    result = search.search_pure(600.0, 7, 100)
    assert (result.inputs, result.kinds) == (100, {})
