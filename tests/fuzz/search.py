"""The search: change an input, run it, keep it if it reached something new; note what failed."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from math import inf
from pathlib import Path
from typing import TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fuzz import corpus, pure_layer, whole_path
from tests.fuzz.corpus import Case
from tests.fuzz.edges import Edges
from tests.fuzz.h11_reader import Disagreement
from tests.fuzz.mutate import mutated

FINDINGS = Path(__file__).parent / "findings"
#: One input in so many is traced: tracing costs as much as the run itself.
TRACED = 3

S = TypeVar("S")
#: Failures of one kind that are kept.
OF_ONE_KIND = 2


class Result:
    """What a search has done and found."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.inputs = 0
        self.edges = 0
        self.kept = 0
        self.seconds = 0.0
        self.kinds: dict[str, int] = {}

    def __str__(self) -> str:
        return (
            f"{self.layer}: {self.inputs} inputs in {self.seconds:.0f} s "
            f"({self.inputs / max(self.seconds, 0.001):.0f}/s), {self.edges} edges, "
            f"{self.kept} inputs kept, {sum(self.kinds.values())} findings of "
            f"{len(self.kinds)} kinds"
        )

    def found(self, error: Exception, shown: str) -> None:
        """Keep a failing input in a file, the first few of each kind."""
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, ExceptionGroup):
            text += f", {error.exceptions}"
        kind = re.sub(r"\d+|b'.*|b\".*|<.*", "", text)[:60]
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] <= OF_ONE_KIND:
            FINDINGS.mkdir(exist_ok=True)
            name = hashlib.sha256(shown.encode()).hexdigest()[:12]
            (FINDINGS / f"{self.layer}-{name}.json").write_text(shown + "\n")
            if len(text) > 1000:  # both ends of a traceback tell the most
                text = f"{text[:400]} [...] {text[-600:]}"
            print(f"{self.layer}-{name}: {text}", flush=True)


def search_pure(seconds: float, seed: int, most: float = inf) -> Result:
    """Bytes through wire/ and rules/."""
    chance, edges, result = random.Random(seed), Edges(), Result("pure")
    seeds = pure_layer.seeds()
    pool = list(seeds)
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds and result.inputs < most:
        fresh = result.inputs < len(seeds)
        one = pool[result.inputs] if fresh else _near_pure(chance, pool)
        result.inputs += 1
        try:
            if fresh or result.inputs % TRACED == 0:
                with edges:
                    written = pure_layer.understand(one)
            else:
                written = pure_layer.understand(one)
            for message in written:
                pure_layer.judge(message)
        except Exception as error:
            shown = {"request": one[0], "bytes": one[1].decode("latin-1")}
            result.found(error, json.dumps(shown, indent=1))
        if edges.news():
            pool.append(one)
    result.edges, result.kept, result.seconds = len(edges.seen), len(pool), passed
    return result


def _near_pure(chance: random.Random, pool: list[pure_layer.Input]) -> pure_layer.Input:
    return pure_layer.mutated(chance, chance.choice(pool), pool)


def search_whole(seconds: float, seed: int, most: float = inf) -> Result:
    """Both wires of a gateway in this process."""
    result = Result("whole")
    trio.run(_search_whole, result, (seconds, most), seed, clock=MockClock())
    return result


async def tried(
    result: Result,
    edges: Edges,
    stage: AbstractAsyncContextManager[S],
    play: Callable[[S], Awaitable[None]],
    text: str,
) -> bool:
    """Play one input, kept as `text` if something is found, on a stage of its own.

    Returns whether it reached new edges; every third one is traced.
    """
    result.inputs += 1
    traced = result.inputs % TRACED == 0
    try:
        async with stage as one:
            try:
                with edges if traced else nullcontext():
                    await play(one)
            except Exception as error:
                result.found(error, text)
                await wait_all_tasks_blocked()  # the ends have gone: all links go too
    except* Exception as fatal:  # what would have ended the worker
        result.found(fatal, text)
    return traced and edges.news() > 0


async def _search_whole(result: Result, bounds: tuple[float, float], seed: int) -> None:
    seconds, most = bounds
    chance, edges = random.Random(seed), Edges()
    seeds = corpus.seeds()
    pool = list(seeds)
    began = time.monotonic()
    passed = 0.0
    case = pool[0]
    while passed < seconds and result.inputs < most:
        try:
            async with whole_path.stage() as stage:
                sound = True
                while sound and passed < seconds and result.inputs < most:
                    passed = time.monotonic() - began
                    fresh = result.inputs < len(seeds)
                    case = pool[result.inputs] if fresh else _near(chance, pool)
                    result.inputs += 1
                    traced = edges if fresh or result.inputs % TRACED == 0 else None
                    sound = await _run(stage, case, traced, result)
                    if edges.news():
                        pool.append(case)
        except* Exception as fatal:  # what would have ended the worker
            result.found(fatal, case.to_json())
    result.edges, result.kept, result.seconds = len(edges.seen), len(pool), passed


def _near(chance: random.Random, pool: list[Case]) -> Case:
    return mutated(chance, chance.choice(pool), pool)


async def _run(stage: whole_path.Stage, case: Case, edges: Edges | None, result: Result) -> bool:
    """One case; False if the stage can no longer be trusted after it."""
    try:
        if edges is None:
            await stage.run(case)
        else:
            with edges:
                await stage.run(case)
    except Exception as error:
        result.found(error, case.to_json())
        return isinstance(error, Disagreement)
    return True
