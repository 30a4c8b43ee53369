"""Coroutines stepped by events, in a task, or by one after the other: nothing of them is lost."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hopproxy.link.stepper import Stepper, Waker, in_task, wait


class Bell:
    """A wait that ends when the test rings.  `rung` counts how often that woke somebody."""

    def __init__(self) -> None:
        self.waker: Waker | None = None
        self.rung = 0

    def ring(self) -> None:
        """Wake who waits, if somebody does."""
        waker, self.waker = self.waker, None
        if waker is not None:
            self.rung += 1
            waker.wake()


class Noting(Stepper):
    """Notes how its coroutines end."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[object] = []
        self.faults: list[Exception] = []

    def on_end(self, result: object) -> None:
        self.results.append(result)

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)


Work = Coroutine[Any, Any, Any]


class Stage:
    """A stepper and the task that may drive it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.stepper = Noting()
        self.scope = trio.CancelScope()
        self.drives = False

    async def _drive(self) -> None:
        with self.scope:
            await self.stepper.drive()
        self.drives = False

    def move(self) -> None:
        """Go on in a task, which has its first turn later."""
        self.stepper.move_to_task()
        self._start()

    def adopt(self, work: Work) -> None:
        """Begin in a task."""
        self.stepper.adopt(work)
        self._start()

    def _start(self) -> None:
        self.scope = trio.CancelScope()
        self.drives = True
        self.nursery.start_soon(self._drive)


def by_events(stage: Stage, work: Work) -> None:
    stage.stepper.begin(work)


def in_a_task(stage: Stage, work: Work) -> None:
    stage.adopt(work)


def moved(stage: Stage, work: Work) -> None:
    stage.stepper.begin(work)
    if stage.stepper.running:
        stage.move()


Begin = Callable[[Stage, Work], None]
EVERY_DRIVER = pytest.mark.parametrize("begin", [by_events, in_a_task, moved])
DRIVEN = pytest.mark.parametrize("begin", [in_a_task, moved])


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    """After the block its task must end by itself, within the moment."""
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)
        yield stage
        await wait_all_tasks_blocked()
        hung = stage.drives
        nursery.cancel_scope.cancel()
    assert not hung, "the task waits for nothing"


class Watched:
    """What a coroutine has done."""

    def __init__(self) -> None:
        self.steps = 0
        self.caught: list[BaseException] = []
        self.cleaned = 0


async def count(bell: Bell, times: int, seen: Watched) -> str:
    """Wait so often; note each step, what is raised there, and that the end was cleaned up."""
    try:
        for _ in range(times):
            await wait(bell)
            seen.steps += 1
    except BaseException as error:
        seen.caught.append(error)
        raise
    finally:
        seen.cleaned += 1
    return "done"


# -- steps and ends ----------------------------------------------------------------------------


@EVERY_DRIVER
async def test_each_wake_is_a_step_and_the_result_is_reported_once(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        begin(stage, count(bell, 3, seen))
        for number in range(3):
            await wait_all_tasks_blocked()
            assert stage.stepper.waits_for is bell
            assert seen.steps == number
            bell.ring()
        await wait_all_tasks_blocked()
        assert (seen.steps, seen.cleaned, seen.caught) == (3, 1, [])
        assert stage.stepper.results == ["done"]
        assert not stage.stepper.running
        assert stage.stepper.waits_for is None


@EVERY_DRIVER
async def test_a_coroutine_that_waits_for_nothing_ends_at_its_first_step(begin: Begin) -> None:
    seen = Watched()
    async with a_stage() as stage:
        begin(stage, count(Bell(), 0, seen))
        await wait_all_tasks_blocked()
        assert (stage.stepper.results, seen.cleaned) == (["done"], 1)


async def test_events_step_inside_of_the_event_and_a_task_at_its_turn() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.stepper.begin(count(bell, 2, seen))
        bell.ring()
        assert seen.steps == 1
        stage.move()
        await wait_all_tasks_blocked()
        bell.ring()
        assert seen.steps == 1
        await wait_all_tasks_blocked()
        assert seen.steps == 2


async def test_two_wakes_before_the_turn_of_a_task_are_one_step() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.adopt(count(bell, 2, seen))
        await wait_all_tasks_blocked()
        bell.ring()
        stage.stepper.wake()
        await wait_all_tasks_blocked()
        assert seen.steps == 1
        bell.ring()


@pytest.mark.parametrize("begin", [by_events, in_a_task])
async def test_a_stepper_takes_one_coroutine_after_another(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        for number in range(3):
            begin(stage, count(bell, 1, seen))
            await wait_all_tasks_blocked()
            bell.ring()
            await wait_all_tasks_blocked()
            assert seen.cleaned == number + 1
            assert not stage.drives


# -- errors ------------------------------------------------------------------------------------


@EVERY_DRIVER
async def test_a_fault_is_reported_once_and_ends_the_coroutine_alone(begin: Begin) -> None:
    bell = Bell()

    async def faulty() -> None:
        await wait(bell)
        raise TypeError("planted")

    async with a_stage() as stage:
        begin(stage, faulty())
        await wait_all_tasks_blocked()
        bell.ring()
        await wait_all_tasks_blocked()
        assert [type(fault) for fault in stage.stepper.faults] == [TypeError]
        assert not stage.stepper.running
        assert stage.stepper.results == []


async def test_a_stepper_that_does_not_deal_with_faults_passes_them_on() -> None:
    bell = Bell()

    async def faulty() -> None:
        await wait(bell)
        raise TypeError("planted")

    async def call() -> None:
        with pytest.raises(TypeError, match="planted"):
            await in_task(faulty())

    Stepper().begin(faulty())
    with pytest.raises(TypeError, match="planted"):
        bell.ring()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        bell.ring()


@EVERY_DRIVER
async def test_what_is_thrown_is_raised_at_the_wait_which_is_left(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    error = ValueError("thrown")
    async with a_stage() as stage:
        begin(stage, count(bell, 3, seen))
        await wait_all_tasks_blocked()
        assert stage.stepper.throw(error)
        assert bell.waker is None
        await wait_all_tasks_blocked()
        assert seen.caught == [error]
        assert stage.stepper.faults == [error]


@EVERY_DRIVER
async def test_a_coroutine_may_go_on_after_what_was_thrown(begin: Begin) -> None:
    bell, seen = Bell(), Watched()

    async def patient() -> str:
        try:
            await wait(bell)
        except ValueError as error:
            seen.caught.append(error)
        await wait(bell)
        return "went on"

    async with a_stage() as stage:
        begin(stage, patient())
        await wait_all_tasks_blocked()
        stage.stepper.throw(ValueError())
        await wait_all_tasks_blocked()
        assert len(seen.caught) == 1
        bell.ring()
        await wait_all_tasks_blocked()
        assert stage.stepper.results == ["went on"]


async def test_nothing_is_thrown_where_nothing_waits() -> None:
    refused = []

    async def throws_at_itself(stepper: Stepper) -> None:
        refused.append(stepper.throw(ValueError()))

    stepper = Noting()
    assert not stepper.throw(ValueError())
    stepper.begin(throws_at_itself(stepper))
    assert refused == [False]
    assert stepper.faults == []
    assert not stepper.throw(ValueError())


# -- ended from outside ------------------------------------------------------------------------


@EVERY_DRIVER
async def test_closed_a_coroutine_cleans_up_at_once_and_its_task_ends(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        begin(stage, count(bell, 3, seen))
        await wait_all_tasks_blocked()
        stage.stepper.close()
        assert seen.cleaned == 1
        assert bell.waker is None
        assert not stage.stepper.running
        stage.stepper.close()
        await wait_all_tasks_blocked()
        assert (stage.stepper.results, stage.stepper.faults) == ([], [])


async def test_closed_before_its_task_has_begun_a_coroutine_is_not_stepped_any_more() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        moved(stage, count(bell, 3, seen))
        bell.ring()
        stage.stepper.close()
        await wait_all_tasks_blocked()
        assert (seen.steps, seen.cleaned) == (0, 1)


async def test_what_was_thrown_into_a_closed_coroutine_does_not_meet_the_next() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.adopt(count(bell, 1, seen))
        await wait_all_tasks_blocked()
        stage.stepper.throw(ValueError())
        stage.stepper.close()
        await wait_all_tasks_blocked()
        stage.adopt(count(bell, 1, seen))
        await wait_all_tasks_blocked()
        bell.ring()
        await wait_all_tasks_blocked()
        assert stage.stepper.results == ["done"]


@DRIVEN
async def test_cancelled_a_task_raises_cancelled_where_its_coroutine_waits(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        begin(stage, count(bell, 3, seen))
        await wait_all_tasks_blocked()
        stage.scope.cancel()
        await wait_all_tasks_blocked()
        assert [type(error) for error in seen.caught] == [trio.Cancelled]
        assert seen.cleaned == 1
        assert bell.waker is None
        assert stage.scope.cancelled_caught
        assert (stage.stepper.results, stage.stepper.faults) == ([], [])


@DRIVEN
async def test_a_wake_before_the_cancellation_is_still_a_step(begin: Begin) -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        begin(stage, count(bell, 2, seen))
        await wait_all_tasks_blocked()
        bell.ring()
        stage.scope.cancel()
        await wait_all_tasks_blocked()
        assert seen.steps == 1
        assert [type(error) for error in seen.caught] == [trio.Cancelled]


async def test_a_last_wake_before_the_cancellation_ends_the_coroutine_well() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.adopt(count(bell, 1, seen))
        await wait_all_tasks_blocked()
        bell.ring()
        stage.scope.cancel()
        await wait_all_tasks_blocked()
        assert (stage.stepper.results, seen.caught) == (["done"], [])


async def test_cancelled_while_an_error_comes_a_coroutine_still_ends() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.adopt(count(bell, 1, seen))
        await wait_all_tasks_blocked()
        stage.scope.cancel()
        stage.stepper.throw(ValueError())
        await wait_all_tasks_blocked()
        assert seen.cleaned == len(seen.caught) == 1
        assert not stage.stepper.running


@DRIVEN
async def test_a_fault_while_it_cleans_up_is_reported_when_cancelled_too(begin: Begin) -> None:
    bell = Bell()

    async def careless() -> None:
        try:
            await wait(bell)
        finally:
            raise TypeError("planted")

    async with a_stage() as stage:
        begin(stage, careless())
        await wait_all_tasks_blocked()
        stage.scope.cancel()
        await wait_all_tasks_blocked()
        assert [type(fault) for fault in stage.stepper.faults] == [TypeError]


# -- moved into a task -------------------------------------------------------------------------


async def test_a_wake_before_the_first_turn_of_the_task_is_not_lost() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        moved(stage, count(bell, 1, seen))
        bell.ring()
        assert seen.steps == 0
        await wait_all_tasks_blocked()
        assert stage.stepper.results == ["done"]


async def test_an_error_before_the_first_turn_of_the_task_is_not_lost() -> None:
    bell, seen = Bell(), Watched()
    error = ValueError("thrown")
    async with a_stage() as stage:
        moved(stage, count(bell, 1, seen))
        assert stage.stepper.throw(error)
        await wait_all_tasks_blocked()
        assert seen.caught == [error]


async def test_cancelled_before_its_first_turn_a_task_still_ends_its_coroutine() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        moved(stage, count(bell, 1, seen))
        stage.scope.cancel()
        await wait_all_tasks_blocked()
        assert [type(error) for error in seen.caught] == [trio.Cancelled]
        assert bell.waker is None


async def test_a_coroutine_that_ended_before_it_was_moved_gives_its_task_nothing_to_do() -> None:
    bell, seen = Bell(), Watched()
    async with a_stage() as stage:
        stage.stepper.begin(count(bell, 1, seen))
        bell.ring()
        stage.move()
        await wait_all_tasks_blocked()
        assert not stage.drives
        assert stage.stepper.results == ["done"]


@pytest.mark.parametrize("seed", range(20))
async def test_whenever_it_moves_each_wake_is_one_step(seed: int) -> None:
    choose = random.Random(seed)
    bells = [Bell() for _ in range(3)]
    order = [choose.choice(bells) for _ in range(60)]
    passed: list[Bell] = []

    async def wait_in_order() -> str:
        for bell in order:
            await wait(bell)
            passed.append(bell)
        return "done"

    move_at = choose.randrange(60)
    async with a_stage() as stage:
        stage.stepper.begin(wait_in_order())
        for number in range(60):
            if number == move_at:
                stage.move()
                if choose.random() < 0.5:
                    await wait_all_tasks_blocked()
            assert stage.stepper.waits_for is order[number]
            for bell in bells:
                if bell is not order[number]:
                    bell.ring()  # nobody waits for it
            order[number].ring()
            if stage.drives:
                await wait_all_tasks_blocked()
            assert passed == order[: number + 1]
        assert sum(bell.rung for bell in bells) == 60
        assert stage.stepper.results == ["done"]


# -- a coroutine in the task of its caller -----------------------------------------------------


async def test_in_task_returns_what_the_coroutine_returns() -> None:
    bell, seen = Bell(), Watched()
    results = []

    async def call() -> None:
        results.append(await in_task(count(bell, 2, seen)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        for _ in range(2):
            await wait_all_tasks_blocked()
            bell.ring()
    assert results == ["done"]


async def test_in_task_cancelled_ends_the_coroutine() -> None:
    bell, seen = Bell(), Watched()
    with trio.move_on_after(1) as scope:
        await in_task(count(bell, 2, seen))
    assert scope.cancelled_caught
    assert (seen.cleaned, bell.waker) == (1, None)


# -- nothing is held ---------------------------------------------------------------------------


class Held(Exception):
    """An error that something might hold on to."""


@EVERY_DRIVER
async def test_what_was_thrown_is_not_held_by_the_stepper(begin: Begin) -> None:
    bell = Bell()

    async def swallow() -> None:
        with suppress(Held):
            await wait(bell)
        await wait(bell)

    gc.disable()
    try:
        async with a_stage() as stage:
            begin(stage, swallow())
            await wait_all_tasks_blocked()
            error = Held()
            held = weakref.ref(error)
            stage.stepper.throw(error)
            del error
            await wait_all_tasks_blocked()
            assert held() is None, "freed at once, not by a search"
            bell.ring()
    finally:
        gc.enable()
