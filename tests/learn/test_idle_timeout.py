"""The idle limit of an origin, out of what it says and shows."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.pool.idle_timeout import AGAIN, BURST, ONCE, SAFE, IdleTimeout, margin, usable
from hopproxy.record import Source
from tests.learn.simulation import Simulation

ages = st.floats(0.0, 200.0)


def seen(*ages: float, apart: float = 10.0, setting: float = 60.0) -> tuple[IdleTimeout, float]:
    """A learner that has seen an origin close at these ages, and the time of the last close."""
    learner, now = IdleTimeout(setting), 0.0
    for age in ages:
        now += apart
        learner.closed_idle(age, 7, now)
    return learner, now


@pytest.mark.parametrize(
    ("limit", "rtt", "expected"),
    [(2.0, 0.0, 1.0), (5.0, 0.0, 4.0), (75.0, 0.0, 67.5), (5.0, 0.9, 3.2), (1.0, 0, 0), (0, 0, 0)],
)
def test_a_link_is_let_go_a_margin_before_the_limit(
    limit: float, rtt: float, expected: float
) -> None:
    assert usable(limit, rtt) == pytest.approx(expected)


def test_without_knowledge_the_setting_is_the_limit() -> None:
    assert IdleTimeout(60.0).limit(0.0) == (60.0, Source.SETTING)


@pytest.mark.parametrize(("hint", "limit"), [(5.0, 4.0), (2.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_hint_is_a_limit(hint: float, limit: float) -> None:
    learner = IdleTimeout(60.0)
    learner.hinted(hint)
    assert learner.limit(0.0) == (limit, Source.HINT)


def test_of_several_hints_the_shortest_counts_until_a_restart() -> None:
    learner = IdleTimeout(60.0)
    for hint in (75.0, 5.0, 20.0):
        learner.hinted(hint)
    assert learner.limit(0.0).value == 4.0
    learner.restarted()
    assert learner.limit(0.0) == (60.0, Source.SETTING)


def test_the_shortest_of_hint_and_close_counts() -> None:
    learner, now = seen(30.0)
    learner.hinted(5.0)
    assert learner.limit(now) == (4.0, Source.HINT)
    learner.closed_idle(3.0, 1, now)
    assert learner.limit(now) == (2.0, Source.LEARNED)


def test_a_single_request_each_time_is_no_count() -> None:
    learner = IdleTimeout(60.0)
    for now in range(5):
        learner.closed_idle(0.0, 1, now * 10.0)
    assert learner.requests(50.0) is None


def test_the_first_close_is_believed() -> None:
    learner, now = seen(5.0)
    assert learner.limit(now) == (4.0, Source.LEARNED)
    assert not learner.certain


def test_the_second_close_makes_it_certain() -> None:
    learner, _ = seen(5.0, 5.1)
    assert learner.certain


def test_links_that_end_together_are_one_sign() -> None:
    learner, _ = seen(5.0, 5.1, 5.0, apart=0.01)
    assert learner.seen == 5.0
    assert not learner.certain


def test_a_limit_of_a_second_or_less_is_not_pooled_once_it_is_certain() -> None:
    learner, now = seen(0.8)
    assert learner.limit(now).value == 0.4
    learner.closed_idle(0.8, 3, now + 5)
    assert learner.limit(now + 5) == (0.0, Source.LEARNED)


def test_a_close_that_a_reuse_contradicts_needs_a_second() -> None:
    learner = IdleTimeout(60.0)
    learner.reused_well(30.0)
    learner.closed_idle(2.0, 1, 10.0)
    assert learner.limit(10.0) == (60.0, Source.SETTING)
    learner.closed_idle(2.1, 1, 20.0)
    assert learner.limit(20.0) == (1.0, Source.LEARNED)
    assert learner.certain


def test_a_reuse_beyond_a_close_seen_once_takes_it_back() -> None:
    learner, now = seen(3.0)
    learner.reused_well(10.0)
    assert learner.limit(now).source is Source.SETTING


def test_a_reuse_just_beyond_a_close_seen_once_is_the_same_limit() -> None:
    learner, now = seen(3.0)
    learner.reused_well(3.004)
    learner.reused_well(4.6)
    assert learner.limit(now) == (2.0, Source.LEARNED)
    assert learner.young(now + 60.0, 0.9) == pytest.approx(1.8)


def test_a_limit_that_was_forgotten_leaves_a_margin_below_what_was_proven() -> None:
    learner, now = seen(3.0)
    learner.reused_well(2.99)
    assert learner.limit(now + 10 * ONCE).source is Source.SETTING
    assert learner.seen is None
    assert learner.young(now + 10 * ONCE, 0.5) == pytest.approx(1.99)


def test_a_later_close_takes_back_one_seen_once_but_not_a_certain_one() -> None:
    assert seen(0.7, 30.0)[0].seen == 30.0
    assert seen(2.0, 2.0, 30.0)[0].seen == 2.0


def test_what_was_seen_relaxes_fast_when_once_and_slowly_when_again() -> None:
    for ages, time in (((5.0,), ONCE), ((5.0, 5.0), AGAIN)):
        learner, now = seen(*ages)
        assert learner.limit(now + time).value == pytest.approx(9.0)
        assert learner.limit(now + 10 * time) == (60.0, Source.SETTING)
        assert learner.seen is None


def test_a_request_sent_but_once_goes_by_the_unrelaxed_limit() -> None:
    learner, now = seen(5.0, 5.0)
    assert learner.young(now, 0.5) == 2.0
    assert learner.young(now + AGAIN, 0.5) == 2.0


def test_towards_an_unknown_origin_only_what_was_proven_is_young() -> None:
    learner = IdleTimeout(60.0)
    assert learner.young(0.0, 0.5) == SAFE
    learner.reused_well(12.0)
    assert learner.young(0.0, 0.5) == pytest.approx(10.8)
    learner.reused_well(50.0)
    assert learner.young(0.0, 0.5) == 30.0


def test_a_burst_of_closes_at_all_ages_is_a_restart() -> None:
    learner, now = seen(5.0, 5.0)
    for age in (0.05, 1.2, 3.9, 2.0):
        learner.closed_idle(age, 9, now + 20)
    assert learner.limit(now + 20) == (60.0, Source.SETTING)
    assert learner.requests(now + 20) is None


def test_links_that_time_out_together_are_no_restart() -> None:
    learner, now = seen(2.0, 2.4, 2.9, 2.2, apart=0.1)  # an origin that looks once a second
    assert learner.limit(now) == (1.0, Source.LEARNED)


def test_the_same_count_three_times_is_a_limit_of_requests_and_not_of_time() -> None:
    learner, now = IdleTimeout(60.0), 0.0
    for count in (100, 100, 100):
        assert learner.requests(now) is None
        now += 30
        learner.closed_idle(0.001, count, now)
    assert learner.requests(now) == 100
    assert learner.limit(now).source is Source.SETTING
    assert learner.requests(now + 2 * AGAIN) is None


def test_closes_after_various_counts_are_no_limit() -> None:
    learner = IdleTimeout(60.0)
    for now, count in enumerate((3, 7, 7, 3, 7, 2, 3)):
        learner.closed_idle(0.0, count, now * 30.0)
    assert learner.requests(300.0) is None


def test_learning_can_be_switched_off_and_hints_stay() -> None:
    learner = IdleTimeout(60.0, learns=False)
    learner.closed_idle(2.0, 1, 1.0)
    learner.closed_idle(2.0, 1, 9.0)
    learner.reused_well(70.0)
    assert learner.limit(9.0) == (60.0, Source.SETTING)
    assert learner.young(9.0, 0.5) == 30.0
    learner.hinted(5.0)
    assert learner.limit(9.0) == (4.0, Source.HINT)


events = st.one_of(
    st.tuples(st.just("closed"), ages, st.integers(1, 5)),
    st.tuples(st.just("reused"), ages, st.just(0)),
    st.tuples(st.just("hinted"), ages, st.just(0)),
    st.tuples(st.just("restarted"), ages, st.just(0)),
)


@given(st.floats(0.1, 100.0), st.floats(0.0, 1.0), st.lists(st.tuples(events, ages), max_size=40))
def test_whatever_is_seen_the_limit_stays_within_its_bounds(
    setting: float, share: float, story: list[tuple[tuple[str, float, int], float]]
) -> None:
    learner, now = IdleTimeout(setting), 0.0
    for (event, age, count), gap in story:
        now += gap
        match event:
            case "closed":
                learner.closed_idle(age, count, now)
            case "reused":
                learner.reused_well(age)
            case "hinted":
                learner.hinted(age)
            case "restarted":
                learner.restarted()
        limit = learner.limit(now)
        assert 0.0 <= limit.value <= setting
        assert 0.0 <= learner.young(now, share) <= max(limit.value, setting * share)
        assert learner.young(now, share) <= limit.value or limit.value == 0.0
        assert learner.proven >= SAFE
        if learner.hint is not None:
            assert limit.value <= max(0.0, learner.hint - margin(learner.hint, 0.0))


@given(st.floats(1.2, 50.0), st.lists(st.floats(BURST * 2, 1000.0), min_size=1, max_size=20))
def test_a_fixed_limit_is_found_at_its_first_close_and_kept(
    limit: float, gaps: list[float]
) -> None:
    learner, now = IdleTimeout(60.0), 0.0
    for gap in gaps:
        now += gap
        learner.closed_idle(limit, 3, now)
        assert learner.limit(now).source is Source.LEARNED
        assert learner.limit(now).value < limit


# -- whole lives -----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.5, 1.0, 2.0, 3.0, 5.0, 20.0, 55.0])
@pytest.mark.parametrize("seed", range(3))
def test_fixed_limit(limit: float, seed: int) -> None:
    life = Simulation(lambda _, __: limit, seed=seed)
    life.live(20 * limit + 60, gap=2 * limit)
    life.lost_posts = life.lost_gets = 0
    life.race(400, at=limit)
    assert life.lost_posts == 0
    assert life.lost_gets <= life.now // AGAIN  # what a limit that relaxes costs, and is repeated


@pytest.mark.parametrize("seed", range(5))
def test_limit_with_jitter(seed: int) -> None:
    life = Simulation(lambda rng, _: rng.uniform(2.0, 3.0), seed=seed)
    life.live(300.0, gap=6.0)
    life.lost_posts = life.lost_gets = 0
    life.race(200, at=2.0)
    life.race(200, at=2.5, within=0.5)
    assert life.lost_posts == 0
    assert life.lost_gets <= 1


@pytest.mark.parametrize("seed", range(5))
def test_two_limits_behind_one_address(seed: int) -> None:
    life = Simulation(lambda rng, _: rng.choice([2.0, 5.0]), seed=seed)
    life.live(600.0, gap=6.0)
    assert life.learner.limit(life.now).value == pytest.approx(1.0, abs=0.7)
    life.lost_posts = life.lost_gets = 0
    life.race(200, at=2.0)
    life.race(200, at=5.0)
    assert life.lost_posts == 0
    assert life.lost_gets <= 1


def test_limit_of_requests() -> None:
    life = Simulation(lambda _, served: 0.0 if served >= 100 else 75.0)
    life.live(600.0, gap=0.2, posts=0.0)
    life.lost_gets = life.dials = 0
    life.live(600.0, gap=0.2)
    assert (life.lost_posts, life.lost_gets) == (0, 0)
    assert life.learner.limit(life.now) == (60.0, Source.SETTING)
    assert life.reused > 95 * life.dials


@pytest.mark.parametrize("seed", range(5))
def test_restarts_do_not_cripple_the_pool(seed: int) -> None:
    life = Simulation(lambda _, __: 75.0, seed=seed)
    rng = random.Random(seed)
    for _ in range(20):
        for _ in range(rng.randrange(1, 12)):
            life.ask()  # several at once: each gets a link of its own
            life.idle, held = [], life.idle
            life.wait(rng.uniform(0.0, 4.0))
            life.idle += held
        life.live(120.0, gap=1.0)
        life.restart()
        life.live(3600.0, gap=10.0)
        assert life.learner.limit(life.now).value > 20.0


def test_a_limit_that_was_raised_is_found_out() -> None:
    limit = [2.0]
    life = Simulation(lambda _, __: limit[0])
    life.live(300.0, gap=6.0)
    assert life.learner.certain
    limit[0] = 75.0
    life.live(12 * 3600.0, gap=40.0)
    assert life.learner.limit(life.now).value > 30.0


def test_a_limit_that_was_lowered_is_found_out() -> None:
    limit = [75.0]
    life = Simulation(lambda _, __: limit[0])
    life.live(3600.0, gap=80.0)
    limit[0] = 3.0
    life.live(600.0, gap=8.0)
    assert 2.0 <= life.learner.limit(life.now).value < 2.6
    life.lost_posts = life.lost_gets = 0
    life.race(200, at=3.0)
    assert (life.lost_posts, life.lost_gets) == (0, 0)
