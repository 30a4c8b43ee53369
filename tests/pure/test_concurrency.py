"""How many requests an upstream may have: a fixed limit, and one that follows its latency."""

from __future__ import annotations

from math import inf

from hopproxy.routing.concurrency import FIRST, LEAST, MOST, Gradient, UnderWay


def settled(capacity: int, *, alone: float = 0.01, steps: int = 8000) -> float:
    """The limit found for an origin that serves `capacity` requests at a time, the rest in turn."""
    gradient = Gradient()
    for _ in range(steps):
        under_way = int(gradient.value)
        gradient.add(alone * max(1.0, under_way / capacity), under_way)
    return gradient.value


def test_limit_grows_while_requests_take_as_long_as_ever() -> None:
    gradient = Gradient()
    for _ in range(1000):
        gradient.add(0.01, int(gradient.value))
    assert gradient.value == MOST


def test_limit_shrinks_when_requests_begin_to_take_longer() -> None:
    gradient = Gradient()
    for _ in range(300):
        gradient.add(0.01, int(gradient.value))
    before = gradient.value
    for _ in range(60):
        gradient.add(0.1, int(gradient.value))
    assert gradient.value < before / 2


def test_limit_settles_near_what_an_origin_can_do() -> None:
    assert 40 <= settled(40) <= 100
    assert 16 <= settled(16, alone=2.0) <= 60


def test_limit_has_bounds_and_returns() -> None:
    gradient = Gradient()
    for _ in range(200):
        gradient.add(0.01, 1000)
    for _ in range(60):
        gradient.add(60.0, 1000)
    assert gradient.value >= LEAST
    low = gradient.value
    for _ in range(2000):
        gradient.add(0.01, 1000)
    assert gradient.value > low


def test_a_limit_that_limits_nothing_does_not_move() -> None:
    gradient = Gradient()
    for _ in range(100):
        gradient.add(0.01, 2)
    assert gradient.value == FIRST
    at_once = Gradient()
    at_once.add(0.0, 1000)
    assert at_once.value == FIRST


def test_requests_beyond_a_fixed_limit_do_not_begin() -> None:
    under_way = UnderWay(2)
    assert [under_way.begin(number, 0.0) for number in range(3)] == [True, True, False]
    under_way.end(2, 0.1)
    assert under_way.is_full, "it had not begun"
    under_way.end(0, 0.1)
    assert under_way.begin(3, 0.0)
    under_way.end(1, None)
    under_way.end(3, None)
    assert under_way.count == 0


def test_auto_begins_with_a_few() -> None:
    under_way = UnderWay(None)
    begun = sum(under_way.begin(number, 0.0) for number in range(100))
    assert begun == int(FIRST) == under_way.most
    under_way.end(0, None)
    under_way.end(1, 0.01)
    assert under_way.most >= int(FIRST)


def test_the_pace_of_clients_is_no_latency() -> None:
    under_way = UnderWay(None)
    for seconds in [0.1] * 40 + [60.0] * 40:
        for number in range(under_way.most):
            under_way.begin(number, 0.0 if seconds < 1 else inf)
        for number in range(under_way.count):
            under_way.end(number, seconds)
    assert under_way.most > FIRST


def test_new_settings_go_on_with_what_is_under_way() -> None:
    before = UnderWay(None)
    before.begin(1, 0.0)
    before.begin(2, 0.0)
    auto = UnderWay(None, before)
    assert auto.gradient is before.gradient
    fixed = UnderWay(2, auto)
    assert fixed.is_full
    assert fixed.gradient is None
    assert UnderWay(None, fixed).count == 2


def test_a_latency_below_the_usual_becomes_the_usual() -> None:
    """Also while many requests are under way: nothing queues then."""
    gradient = Gradient()
    for _ in range(60):
        gradient.add(1.0, 1000)
    before = gradient.value
    for _ in range(200):
        gradient.add(0.1, 1000)
    for _ in range(100):
        gradient.add(1.0, 1000)
    assert gradient.value < before
