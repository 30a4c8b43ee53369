"""Short deadlines behind one entry of the watch's heap."""

from __future__ import annotations

import math

import trio

from hopproxy.link.watch import Watch


class Timed:
    """Notes when it was called; asks to be called again after `again` seconds."""

    def __init__(self, again: float = math.inf) -> None:
        self.timer_at = math.inf
        self.called: list[float] = []
        self.faults: list[Exception] = []
        self.again = again

    def on_time(self, now: float) -> float:
        self.called.append(round(now, 3))
        again, self.again = self.again, math.inf
        return now + again

    def on_fault(self, error: Exception) -> None:
        self.faults.append(error)


async def told(watch: Watch, seconds: float) -> None:
    """Let time pass."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


async def test_each_is_called_at_its_own_time(autojump_clock: trio.testing.MockClock) -> None:
    watch = Watch()
    late, early, twice = Timed(), Timed(), Timed(again=3)
    watch.brief.wake_at(late, 9)
    watch.brief.wake_at(early, 2)
    watch.brief.wake_at(twice, 4)
    await told(watch, 20)
    assert (early.called, twice.called, late.called) == ([2], [4, 7], [9])


async def test_a_deadline_moves_only_to_an_earlier_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = Watch()
    moved, kept = Timed(), Timed()
    for one, times in ((moved, (9, 2)), (kept, (2, 9, math.inf))):
        for at in times:
            watch.brief.wake_at(one, at)
    await told(watch, 20)
    assert moved.called == kept.called == [2]


async def test_what_was_dropped_is_not_called(autojump_clock: trio.testing.MockClock) -> None:
    watch = Watch()
    dropped, left = Timed(), Timed()
    watch.brief.wake_at(dropped, 2)
    watch.brief.wake_at(left, 3)
    watch.brief.forget_deadline(dropped)
    watch.brief.forget_deadline(dropped)
    await told(watch, 20)
    assert (dropped.called, left.called) == ([], [3])


async def test_one_that_is_due_may_drop_another_that_is_due(
    autojump_clock: trio.testing.MockClock,
) -> None:
    watch = Watch()
    other = Timed()

    class Dropping(Timed):
        def on_time(self, now: float) -> float:
            watch.brief.forget_deadline(other)
            return super().on_time(now)

    first = Dropping()
    watch.brief.wake_at(first, 2)
    watch.brief.wake_at(other, 2)
    await told(watch, 20)
    assert (first.called, other.called) == ([2], [])


async def test_a_fault_of_one_keeps_no_other_from_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Faulty(Timed):
        def on_time(self, now: float) -> float:
            raise ZeroDivisionError

    watch = Watch()
    faulty, sound, later = Faulty(), Timed(), Timed()
    for one, at in ((faulty, 2), (sound, 2), (later, 5)):
        watch.brief.wake_at(one, at)
    await told(watch, 20)
    assert [type(fault) for fault in faulty.faults] == [ZeroDivisionError]
    assert (sound.called, later.called) == ([2], [5])


async def test_many_take_one_entry_of_the_heap(autojump_clock: trio.testing.MockClock) -> None:
    watch = Watch()
    waiting = [Timed() for _ in range(1000)]
    for place, one in enumerate(waiting):
        watch.brief.wake_at(one, 5 + place / 1000)
        watch.brief.forget_deadline(one)
    assert len(watch._heap) == 1
