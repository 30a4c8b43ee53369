"""The idle limit of an origin, out of what it says and shows."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.pool.idle_timeout import (
    AGAIN,
    BURST,
    COUNTED,
    ONCE,
    SAFE,
    IdleTimeout,
    Sign,
    margin,
    usable,
)
from hopproxy.reasons import Limit, Source
from tests.learn.simulation import Rule, Simulation

ages = st.floats(0.0, 200.0)


SETTING = 60.0


def learning() -> IdleTimeout:
    """A learner for upstreams that keep idle links for up to a minute."""
    return IdleTimeout(SETTING)


def limit_of(learner: IdleTimeout, now: float) -> Limit:
    """When a link is retired."""
    return learner.limit(now, SETTING)


def young_of(learner: IdleTimeout, now: float, share: float = 0.5) -> float:
    """Up to when a link may carry a request that cannot be sent again."""
    return learner.young(now, SETTING, share)


def seen(*ages: float, apart: float = 10.0, sign: Sign = Sign.SILENT) -> tuple[IdleTimeout, float]:
    """A learner that has seen links of an origin end at these ages, and the time of the last."""
    learner, now = learning(), 0.0
    for age in ages:
        now += apart
        learner.closed_idle(age, 7, now, sign)
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
    assert limit_of(learning(), 0.0) == (60.0, Source.SETTING)


@pytest.mark.parametrize(("hint", "limit"), [(5.0, 4.0), (2.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_a_hint_is_a_limit(hint: float, limit: float) -> None:
    learner = learning()
    learner.hinted(hint)
    assert limit_of(learner, 0.0) == (limit, Source.HINT)


def test_of_several_hints_the_shortest_counts_until_a_restart() -> None:
    learner = learning()
    for hint in (75.0, 5.0, 20.0):
        learner.hinted(hint)
    assert limit_of(learner, 0.0).value == 4.0
    learner.restarted()
    assert limit_of(learner, 0.0) == (60.0, Source.SETTING)


def test_the_shortest_of_hint_and_close_counts() -> None:
    learner, now = seen(30.0)
    learner.hinted(5.0)
    assert limit_of(learner, now) == (4.0, Source.HINT)
    learner.closed_idle(3.0, 1, now, Sign.SILENT)
    assert limit_of(learner, now) == (2.0, Source.LEARNED)


def test_a_single_request_each_time_is_no_count() -> None:
    learner = learning()
    for now in range(5):
        learner.closed_idle(0.0, 1, now * 10.0)
    assert learner.requests(50.0) is None


def test_the_first_silent_end_is_believed() -> None:
    learner, now = seen(5.0)
    assert limit_of(learner, now) == (4.0, Source.LEARNED)
    assert not learner.silent.certain


def test_a_close_that_told_bars_only_what_cannot_be_sent_again() -> None:
    for ages in ((5.0,), (5.0, 5.0)):
        learner, now = seen(*ages, sign=Sign.TOLD)
        assert limit_of(learner, now) == (SETTING, Source.SETTING)
        assert young_of(learner, now) == 2.0


def test_a_reset_under_a_request_bars_the_same_and_is_silence_the_second_time() -> None:
    learner, now = seen(5.0, sign=Sign.RESET)
    assert limit_of(learner, now) == (SETTING, Source.SETTING)
    assert young_of(learner, now) == 2.0
    learner.closed_idle(5.1, 3, now + 20, Sign.RESET)
    assert limit_of(learner, now + 20) == (4.0, Source.LEARNED)
    learner.closed_idle(3.0, 3, now + 40, Sign.RESET)
    assert limit_of(learner, now + 40) == (2.0, Source.LEARNED)


def test_resets_that_are_far_apart_in_age_or_time_are_no_silence() -> None:
    learner, now = seen(5.0, 20.0, sign=Sign.RESET)
    assert limit_of(learner, now).source is Source.SETTING
    learner.closed_idle(20.0, 3, now + 3600.0, Sign.RESET)
    assert limit_of(learner, now + 3600.0).source is Source.SETTING


def test_the_second_close_makes_it_certain() -> None:
    learner, _ = seen(5.0, 5.1)
    assert learner.silent.certain


def test_links_that_end_together_are_one_sign() -> None:
    learner, _ = seen(5.0, 5.1, 5.0, apart=0.01)
    assert learner.silent.age == 5.0
    assert not learner.silent.certain


def test_a_limit_of_a_second_or_less_is_not_pooled_once_it_is_certain() -> None:
    learner, now = seen(0.8)
    assert limit_of(learner, now).value == 0.4
    learner.closed_idle(0.8, 3, now + 5, Sign.SILENT)
    assert limit_of(learner, now + 5) == (0.0, Source.LEARNED)


def test_a_close_that_a_reuse_contradicts_needs_a_second() -> None:
    learner = learning()
    learner.reused_well(30.0)
    learner.closed_idle(2.0, 1, 10.0, Sign.SILENT)
    assert limit_of(learner, 10.0) == (60.0, Source.SETTING)
    learner.closed_idle(2.1, 1, 20.0, Sign.SILENT)
    assert limit_of(learner, 20.0) == (1.0, Source.LEARNED)
    assert learner.silent.certain


def test_a_reuse_beyond_a_close_seen_once_takes_it_back() -> None:
    learner, now = seen(3.0)
    learner.reused_well(10.0)
    assert limit_of(learner, now).source is Source.SETTING


def test_a_reuse_just_beyond_a_close_seen_once_is_the_same_limit() -> None:
    learner, now = seen(3.0)
    learner.reused_well(3.004)
    learner.reused_well(4.6)
    assert limit_of(learner, now) == (2.0, Source.LEARNED)
    assert young_of(learner, now + 60.0, 0.9) == pytest.approx(1.8)


def test_a_limit_that_was_forgotten_leaves_a_margin_below_what_was_proven() -> None:
    learner, now = seen(3.0)
    learner.reused_well(2.99)
    assert limit_of(learner, now + 10 * ONCE).source is Source.SETTING
    assert learner.silent.age is None
    assert young_of(learner, now + 10 * ONCE, 0.5) == pytest.approx(1.99)


def test_a_later_close_takes_back_one_seen_once_but_not_a_certain_one() -> None:
    assert seen(0.7, 30.0)[0].silent.age == 30.0
    assert seen(2.0, 2.0, 30.0)[0].silent.age == 2.0


def test_what_a_longer_life_took_back_is_certain_when_it_is_seen_again() -> None:
    told = seen(0.7, 30.0, 0.7, sign=Sign.TOLD)[0].told
    assert (told.age, told.certain) == (0.7, True)
    learner, now = seen(0.7, sign=Sign.TOLD)
    learner.reused_well(5.0)
    assert young_of(learner, now) > SAFE
    learner.closed_idle(0.75, 1, now + 60.0)
    assert (learner.told.age, learner.told.certain) == (0.7, True)
    learner.reused_well(50.0)
    assert young_of(learner, now + 60.0) == 0.0


def test_a_limit_that_was_forgotten_is_certain_when_it_is_seen_again() -> None:
    learner, now = seen(55.0)
    later = now + 5 * ONCE
    assert limit_of(learner, later).source is Source.SETTING
    learner.closed_idle(55.0, 1, later + ONCE, Sign.SILENT)
    assert learner.silent.certain


def test_what_was_seen_relaxes_fast_when_once_and_slowly_when_again() -> None:
    for ages, time in (((5.0,), ONCE), ((5.0, 5.0), AGAIN)):
        learner, now = seen(*ages)
        assert limit_of(learner, now + time).value == pytest.approx(9.0)
        assert limit_of(learner, now + 10 * time) == (60.0, Source.SETTING)
        assert learner.silent.age is None


def test_a_request_sent_but_once_goes_by_the_unrelaxed_limit() -> None:
    learner, now = seen(5.0, 5.0)
    assert young_of(learner, now, 0.5) == 2.0
    assert young_of(learner, now + AGAIN, 0.5) == 2.0


def test_towards_an_unknown_origin_only_what_was_proven_is_young() -> None:
    learner = learning()
    assert young_of(learner, 0.0, 0.5) == SAFE
    learner.reused_well(12.0)
    assert young_of(learner, 0.0, 0.5) == pytest.approx(10.8)
    learner.reused_well(50.0)
    assert young_of(learner, 0.0, 0.5) == 30.0


def test_a_burst_of_closes_at_all_ages_is_a_restart() -> None:
    learner, now = seen(5.0, 5.0)
    for age in (0.05, 1.2, 3.9, 2.0, 1.5):
        learner.closed_idle(age, 9, now + 20)
    assert limit_of(learner, now + 20) == (60.0, Source.SETTING)
    assert learner.requests(now + 20) is None


def test_links_that_time_out_together_are_no_restart() -> None:
    learner, now = seen(2.0, 2.4, 2.9, 2.2, apart=0.1)  # an origin that looks once a second
    assert limit_of(learner, now) == (1.0, Source.LEARNED)


def test_the_same_count_three_times_is_a_limit_of_requests_and_not_of_time() -> None:
    learner, now = learning(), 0.0
    for count in (100, 100, 100):
        assert learner.requests(now) is None
        now += 30
        learner.closed_idle(0.001, count, now)
    assert learner.requests(now) == 100
    assert limit_of(learner, now).source is Source.SETTING
    assert learner.requests(now + 2 * AGAIN) is None


def test_closes_after_various_counts_are_no_limit() -> None:
    learner = learning()
    for now, count in enumerate((3, 7, 7, 3, 7, 2, 3)):
        learner.closed_idle(0.0, count, now * 30.0)
    assert learner.requests(300.0) is None


def test_a_count_that_other_links_have_passed_is_none() -> None:
    learner = learning()
    for turn in range(10):
        learner.closed_idle(0.001, 2, 30.0 * turn, longest=3)
    assert learner.requests(300.0) is None
    for turn in range(10, 20):
        learner.closed_idle(0.001, 2, 30.0 * turn)
        learner.passed(2 if turn % 2 else 1)
    assert learner.requests(600.0) is None
    for turn in range(20, 20 + COUNTED):
        learner.closed_idle(0.001, 2, 30.0 * turn, longest=2)
        learner.passed(1)
    assert learner.requests(700.0) == 2


def test_an_upstream_that_does_not_learn_goes_by_its_setting_and_by_hints() -> None:
    learner, now = seen(2.0, 2.0)
    assert learner.limit(now, 60.0, learns=False) == (60.0, Source.SETTING)
    assert learner.young(now, 60.0, 0.5, learns=False) == 30.0
    learner.hinted(5.0)
    assert learner.limit(now, 60.0, learns=False) == (4.0, Source.HINT)


def test_two_upstreams_share_what_is_learned_and_not_what_is_set() -> None:
    learner, now = seen(5.0, 5.0)
    assert learner.limit(now, 1.0) == (1.0, Source.SETTING)
    assert learner.limit(now, 50.0) == (4.0, Source.LEARNED)
    later = now + 2 * AGAIN  # past the shorter of the two settings, not past the longer
    assert learner.limit(later, 1.0) == (1.0, Source.SETTING)
    assert learner.limit(later, 50.0).source is Source.LEARNED


signs = st.sampled_from(Sign)
events = st.one_of(
    st.tuples(st.just("closed"), ages, st.integers(1, 5), signs),
    st.tuples(st.just("reused"), ages, st.just(0), signs),
    st.tuples(st.just("hinted"), ages, st.just(0), signs),
    st.tuples(st.just("restarted"), ages, st.just(0), signs),
)


@given(st.floats(0.1, 100.0), st.floats(0.0, 1.0), st.lists(st.tuples(events, ages), max_size=40))
def test_whatever_is_seen_the_limit_stays_within_its_bounds(
    setting: float, share: float, story: list[tuple[tuple[str, float, int, Sign], float]]
) -> None:
    learner, now = IdleTimeout(setting), 0.0
    for (event, age, count, sign), gap in story:
        now += gap
        match event:
            case "closed":
                learner.closed_idle(age, count, now, sign)
            case "reused":
                learner.reused_well(age)
            case "hinted":
                learner.hinted(age)
            case "restarted":
                learner.restarted()
        limit = learner.limit(now, setting)
        young = learner.young(now, setting, share)
        assert 0.0 <= limit.value <= setting
        assert 0.0 <= young <= max(limit.value, setting * share)
        assert young <= limit.value or limit.value == 0.0
        assert learner.proven >= SAFE
        if learner.silent.age is None:
            assert limit.source is not Source.LEARNED
        if learner.hint is not None:
            assert limit.value <= max(0.0, learner.hint - margin(learner.hint, 0.0))


@given(st.floats(1.2, 50.0), st.lists(st.floats(BURST * 2, 1000.0), min_size=1, max_size=20))
def test_a_fixed_limit_is_found_at_its_first_close_and_kept(
    limit: float, gaps: list[float]
) -> None:
    learner, now = learning(), 0.0
    for gap in gaps:
        now += gap
        learner.closed_idle(limit, 3, now, Sign.SILENT)
        assert limit_of(learner, now).source is Source.LEARNED
        assert limit_of(learner, now).value < limit


# -- whole lives -----------------------------------------------------------------------------


def with_and_without(rule: Rule, seed: int) -> tuple[Simulation, Simulation]:
    """The same origin before a pool that learns and before one that does not."""
    return Simulation(rule, seed=seed), Simulation(rule, seed=seed, learns=False)


def reuse(life: Simulation) -> float:
    """The part of its GETs that went by a link that had served before."""
    return life.reused / (life.reused + life.dials)


@pytest.mark.parametrize("limit", [0.5, 1.0, 2.0, 3.0, 5.0, 20.0, 55.0])
@pytest.mark.parametrize("seed", range(3))
def test_fixed_limit(limit: float, seed: int) -> None:
    life = Simulation(lambda _, __: limit, seed=seed)
    life.live(20 * limit + 60, gap=2 * limit)
    life.forget_counts()
    life.race(400, at=limit)
    assert life.lost == 0


@pytest.mark.parametrize("limit", [1.5, 3.0, 5.0, 20.0, 55.0])
@pytest.mark.parametrize("seed", range(3))
def test_fixed_limit_that_is_kept_in_silence(limit: float, seed: int) -> None:
    life = Simulation(lambda _, __: limit, seed=seed, silent=True)
    life.live(20 * limit + 60, gap=2 * limit)
    life.forget_counts()
    life.race(400, at=limit)
    assert life.lost == 0
    assert life.repeated <= 2 + life.now // 600  # what a limit that relaxes costs


@pytest.mark.parametrize("seed", range(5))
def test_limit_with_jitter(seed: int) -> None:
    life = Simulation(lambda rng, _: rng.uniform(2.0, 3.0), seed=seed)
    life.live(300.0, gap=6.0)
    life.forget_counts()
    life.race(200, at=2.0)
    life.race(200, at=2.5, within=0.5)
    assert life.lost == 0


@pytest.mark.parametrize("seed", range(5))
def test_two_limits_behind_one_address(seed: int) -> None:
    life = Simulation(lambda rng, _: rng.choice([2.0, 5.0]), seed=seed)
    life.live(600.0, gap=6.0)
    assert life.young == pytest.approx(0.5, abs=0.4)
    life.forget_counts()
    life.race(200, at=2.0)
    life.race(200, at=5.0)
    assert life.lost == 0


def one_in_eight(short: float, long: float = 75.0) -> Rule:
    """One of eight servers behind one address gives idle links up soon."""
    return lambda rng, _: short if rng.random() < 1 / 8 else long


@pytest.mark.parametrize("short", [0.35, 1.2, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(5))
def test_no_request_is_lost_where_links_end_unevenly(short: float, seed: int) -> None:
    life = Simulation(one_in_eight(short), seed=seed)
    life.live(120 * short + 60, gap=3 * short)
    life.forget_counts()
    life.race(400, at=short)
    life.race(400, at=1.5 * short)
    assert life.lost == 0


def always(limit: float) -> Rule:
    """Every link ends at this age."""
    return lambda _, __: limit


EVEN = [always(limit) for limit in (0.4, 1.0, 2.0, 5.0, 75.0)]
UNEVEN: list[Rule] = [
    *(one_in_eight(short) for short in (0.2, 0.35, 1.2, 2.0, 5.0)),
    one_in_eight(0.35, 5.0),
    lambda rng, _: rng.choice([2.0, 5.0, 75.0]),
    lambda rng, _: rng.expovariate(0.2),
    lambda rng, served: 0.0 if served == 2 and rng.random() < 1 / 8 else 75.0,
    lambda rng, served: 0.0 if rng.random() < 1 / 20 else 75.0,
]


@pytest.mark.parametrize("rule", EVEN + UNEVEN)
@pytest.mark.parametrize("gap", [0.5, 3.0])
@pytest.mark.parametrize("posts", [0.0, 0.3])
def test_gets_reuse_links_as_often_with_learning_as_without(
    rule: Rule, gap: float, posts: float
) -> None:
    on, off = with_and_without(rule, seed=3)
    for life in (on, off):
        life.live(1000 * gap, gap=2 * gap, posts=posts)
    assert on.reused + on.dials > 500
    assert reuse(on) >= 0.9 * reuse(off)


@pytest.mark.parametrize("rule", EVEN + UNEVEN)
def test_clients_that_ask_together_reuse_links_as_often_with_learning(rule: Rule) -> None:
    on, off = with_and_without(rule, seed=5)
    for life in (on, off):
        for _ in range(200):
            life.ask_together(8)
            life.wait(0.5)
    assert reuse(on) >= 0.9 * reuse(off)


def test_limit_of_requests() -> None:
    life = Simulation(lambda _, served: 0.0 if served >= 100 else 75.0)
    life.live(600.0, gap=0.2, posts=0.0)
    life.forget_counts()
    life.live(600.0, gap=0.2)
    assert (life.lost, life.repeated) == (0, 0)
    assert life.limit == SETTING
    assert life.reused > 45 * life.dials


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_restarts_do_not_cripple_the_pool(seed: int, silent: bool) -> None:
    life = Simulation(lambda _, __: 75.0, seed=seed, silent=silent)
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
        assert life.limit > 20.0
        assert life.young > 8.0


def test_a_limit_that_was_raised_is_found_out() -> None:
    limit = [2.0]
    life = Simulation(lambda _, __: limit[0], silent=True)
    life.live(300.0, gap=6.0)
    assert life.learner.silent.certain
    limit[0] = 75.0
    life.live(12 * 3600.0, gap=40.0)
    assert life.limit > 30.0


def test_a_limit_that_was_lowered_is_found_out() -> None:
    limit = [75.0]
    life = Simulation(lambda _, __: limit[0], silent=True)
    life.live(3600.0, gap=80.0)
    limit[0] = 3.0
    life.live(600.0, gap=8.0)
    assert 2.0 <= life.limit < 2.6
    life.forget_counts()
    life.race(200, at=3.0)
    assert (life.lost, life.repeated) == (0, 0)


@pytest.mark.parametrize("setting", [60.0, math.inf])
def test_no_link_is_young_where_no_share_of_the_limit_may_be_used_up(setting: float) -> None:
    assert IdleTimeout().young(0.0, setting, 0.0) == 0.0


def test_limit_that_is_off_is_only_shortened_by_the_origin() -> None:
    learned = IdleTimeout()
    assert learned.limit(0.0, math.inf) == Limit(math.inf, Source.SETTING)
    learned.hinted(10.0)
    assert learned.limit(0.0, math.inf) == Limit(9.0, Source.HINT)


def test_it_is_blank_until_something_is_known() -> None:
    learner = learning()
    assert learner.blank
    for learn in (
        lambda it: it.hinted(5),
        lambda it: it.reused_well(20),
        lambda it: it.closed_idle(9, 1, 100.0),
        lambda it: it.closed_idle(9, 1, 100.0, Sign.SILENT),
        lambda it: [it.closed_by_count(7, 100.0 + at) for at in range(COUNTED)],
    ):
        known = learning()
        learn(known)
        assert not known.blank
        known.restarted()
        assert known.blank
