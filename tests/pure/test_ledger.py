"""The ledger event by event: who is served, what is evicted, when somebody is refused."""

import pytest

from hopproxy.pool.ledger import Ledger, QueueFull, Share


class Link:
    """A link, as little of it as the ledger needs."""

    idle_stamp = 0


class Caller:
    """One who waits, and what it was given."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.error: Exception | None = None

    def serve(self, link: Link) -> None:
        """Here is a link."""
        self.link = link

    def fail(self, error: Exception) -> None:
        """There will be none."""
        self.error = error


def ledger_of(total: int, *limits: tuple[int, int, int]) -> tuple[Ledger[Link], list[Share[Link]]]:
    """A ledger with one share for each (max_connections, max_idle, queue_size)."""
    ledger: Ledger[Link] = Ledger(total)
    shares: list[Share[Link]] = [Share(*limit) for limit in limits]
    for share in shares:
        ledger.add(share)
    return ledger, shares


def lend(ledger: Ledger[Link], share: Share[Link]) -> Link:
    """Dial one link for one caller."""
    caller = Caller()
    ledger.enqueue(share, caller)
    assert ledger.start_dial(share)[0]
    ledger.dialled(share)
    link = Link()
    assert ledger.give_back(share, link) is None
    assert caller.link is link
    return link


def wait(ledger: Ledger[Link], share: Share[Link]) -> Caller:
    """One more waiter, for which no dial can be started."""
    caller = Caller()
    ledger.enqueue(share, caller)
    assert ledger.start_dial(share) == (False, None)
    return caller


def test_the_warmest_idle_link_is_lent() -> None:
    ledger, [share] = ledger_of(9, (9, 9, 0))
    cold, warm = lend(ledger, share), lend(ledger, share)
    ledger.give_back(share, cold)
    ledger.give_back(share, warm)
    assert ledger.take_idle(share) is warm
    assert ledger.take_idle(share) is cold
    assert ledger.take_idle(share) is None


def test_past_max_idle_the_coldest_goes() -> None:
    ledger, [share] = ledger_of(9, (9, 1, 0))
    cold, warm = lend(ledger, share), lend(ledger, share)
    assert ledger.give_back(share, cold) is None
    assert ledger.give_back(share, warm) is cold
    assert (ledger.total, list(share.idle)) == (1, [warm])


def test_without_max_idle_nothing_is_kept() -> None:
    ledger, [share] = ledger_of(9, (9, 0, 0))
    link = lend(ledger, share)
    assert ledger.give_back(share, link) is link
    assert (ledger.total, share.size) == (0, 0)


def test_waiters_are_served_in_turn() -> None:
    ledger, [share] = ledger_of(9, (1, 1, 9))
    link = lend(ledger, share)
    first, second = wait(ledger, share), wait(ledger, share)
    ledger.give_back(share, link)
    assert (first.link, second.link) == (link, None)
    ledger.give_back(share, link)
    assert second.link is link


def test_a_released_link_serves_before_the_dial_that_was_started() -> None:
    ledger, [share] = ledger_of(9, (2, 2, 0))
    link, caller = lend(ledger, share), Caller()
    ledger.enqueue(share, caller)
    assert ledger.start_dial(share) == (True, None)
    ledger.give_back(share, link)
    assert caller.link is link
    ledger.dialled(share)
    spare = Link()
    assert ledger.give_back(share, spare) is None
    assert list(share.idle) == [spare]


def test_one_who_leaves_is_passed_over() -> None:
    ledger, [share] = ledger_of(9, (1, 1, 9))
    link = lend(ledger, share)
    gone, patient = wait(ledger, share), wait(ledger, share)
    assert ledger.withdraw(share, gone)
    assert not ledger.withdraw(share, gone)
    ledger.give_back(share, link)
    assert (gone.link, patient.link) == (None, link)
    assert not ledger.withdraw(share, patient)


def test_the_longest_waiter_hears_of_a_failed_dial() -> None:
    ledger, [share] = ledger_of(9, (1, 1, 9))
    first, second = Caller(), Caller()
    ledger.enqueue(share, first)
    assert ledger.start_dial(share) == (True, None)
    ledger.enqueue(share, second)
    ledger.drop_dial(share)
    assert ledger.next_waiter(share) is first
    assert ledger.next_waiter(share) is second
    assert ledger.next_waiter(share) is None
    assert ledger.total == 0


def test_the_queue_bounds_those_who_wait_for_room() -> None:
    ledger, [share] = ledger_of(9, (2, 2, 1))
    for _ in range(2):
        ledger.enqueue(share, Caller())
        assert ledger.start_dial(share) == (True, None)
    wait(ledger, share)
    with pytest.raises(QueueFull):
        ledger.enqueue(share, Caller())


def test_nobody_is_refused_while_an_idle_link_could_make_room() -> None:
    ledger, [busy, other] = ledger_of(1, (1, 1, 0), (1, 1, 0))
    link = lend(ledger, busy)
    with pytest.raises(QueueFull):
        ledger.enqueue(other, Caller())
    ledger.give_back(busy, link)
    ledger.enqueue(other, Caller())
    assert ledger.start_dial(other) == (True, link)


def test_the_coldest_link_of_all_makes_room() -> None:
    ledger, [one, two, three] = ledger_of(3, (2, 2, 0), (1, 1, 0), (1, 1, 0))
    links = [lend(ledger, one), lend(ledger, two), lend(ledger, one)]
    for share, link in ((two, links[1]), (one, links[0]), (one, links[2])):
        ledger.give_back(share, link)
    ledger.enqueue(three, Caller())
    assert ledger.start_dial(three) == (True, links[1])
    assert (two.size, ledger.total) == (0, 3)


@pytest.mark.parametrize("cold", [0, 1])
def test_the_coldest_link_is_found_whichever_origin_has_it(cold: int) -> None:
    ledger, shares = ledger_of(2, (9, 9, 9), (9, 9, 9), (9, 9, 9))
    links = [lend(ledger, share) for share in shares[:2]]
    ledger.give_back(shares[cold], links[cold])
    ledger.give_back(shares[1 - cold], links[1 - cold])
    ledger.enqueue(shares[2], Caller())
    assert ledger.start_dial(shares[2]) == (True, links[cold])


def test_a_link_that_comes_to_rest_makes_room_for_another_origin() -> None:
    ledger, [busy, other] = ledger_of(1, (1, 1, 0), (1, 1, 1))
    link = lend(ledger, busy)
    wait(ledger, other)
    assert ledger.starved() is other
    assert ledger.give_back(busy, link) is link
    assert ledger.start_dial(other) == (True, None)


def test_origins_without_room_are_asked_in_the_order_they_came() -> None:
    ledger, [busy, first, second] = ledger_of(1, (1, 1, 0), (1, 1, 1), (1, 1, 1))
    lend(ledger, busy)
    wait(ledger, first)
    wait(ledger, second)
    assert ledger.starved() is first
    ledger.drop_in_use(busy)
    assert ledger.start_dial(first) == (True, None)
    assert ledger.starved() is second


def test_an_origin_at_its_own_limit_holds_up_no_other() -> None:
    ledger, [busy, greedy, other] = ledger_of(2, (2, 2, 0), (1, 1, 9), (1, 1, 9))
    lend(ledger, busy)
    lend(ledger, busy)
    wait(ledger, greedy)
    wait(ledger, greedy)
    wait(ledger, other)
    ledger.drop_in_use(busy)
    assert ledger.start_dial(greedy) == (True, None)
    assert ledger.start_dial(greedy) == (False, None)
    ledger.drop_in_use(busy)
    assert ledger.starved() is other


@pytest.mark.parametrize("leave", ["withdraw", "served", "failed"])
def test_an_origin_that_nobody_waits_for_is_not_starved(leave: str) -> None:
    ledger, [busy, other] = ledger_of(2, (2, 2, 0), (2, 2, 9))
    lend(ledger, busy)
    link = lend(ledger, other)
    caller = wait(ledger, other)
    assert ledger.starved() is other
    if leave == "withdraw":
        ledger.withdraw(other, caller)
    elif leave == "served":
        ledger.give_back(other, link)
    else:
        assert ledger.next_waiter(other) is caller
    assert ledger.starved() is None
    assert ledger.start_dial(other) == (False, None)


def test_a_repetition_is_given_a_dial_of_its_own() -> None:
    ledger, [share, other] = ledger_of(3, (2, 2, 0), (2, 2, 0))
    assert ledger.start_fresh(share) == (True, None)
    ledger.dialled(share)
    cold = lend(ledger, share)
    ledger.give_back(share, cold)
    assert ledger.start_fresh(share) == (True, cold), "full, but one is idle"
    assert ledger.start_fresh(share) == (False, None), "full of links in use and dials"
    idle = lend(ledger, other)
    ledger.give_back(other, idle)
    assert ledger.start_fresh(other) == (True, idle), "the total is full, but one is idle"
    assert ledger.start_fresh(other) == (False, None), "the total is full"
    assert ledger.total == 3


def test_a_dial_in_place_of_idle_links_takes_the_place_of_one() -> None:
    ledger, [share] = ledger_of(9, (9, 9, 0))
    cold, warm = lend(ledger, share), lend(ledger, share)
    ledger.give_back(share, cold)
    ledger.give_back(share, warm)
    assert ledger.start_fresh(share, in_place=True) == (True, cold)
    assert ledger.total == share.size == 2
    assert ledger.start_fresh(share) == (True, None), "a repetition does not"
    assert ledger.start_fresh(share, in_place=True) == (True, warm)
    assert ledger.start_fresh(share, in_place=True) == (True, None)
    assert ledger.total == share.size == 4


def test_an_idle_link_can_die_once() -> None:
    ledger, [share] = ledger_of(9, (9, 9, 0))
    link = lend(ledger, share)
    assert not ledger.drop_idle(share, link), "it is in use"
    ledger.give_back(share, link)
    assert ledger.drop_idle(share, link)
    assert not ledger.drop_idle(share, link)
    assert ledger.total == 0


def test_a_share_tells_how_it_stands() -> None:
    ledger, [share] = ledger_of(9, (3, 3, 9))
    ledger.give_back(share, lend(ledger, share))
    lend(ledger, share)
    ledger.start_fresh(share)
    wait(ledger, share)
    assert repr(share) == "<Share 1 idle, 1 in use, 1 dialling, 1 waiting>"


# -- links of one client -----------------------------------------------------------------------


def test_a_private_link_is_lent_to_its_client_alone() -> None:
    ledger, [share] = ledger_of(9, (9, 9, 0))
    link = lend(ledger, share)
    assert ledger.keep_bound(share, link) is None
    assert (share.size, share.in_use, ledger.total) == (1, 0, 1)
    assert ledger.take_idle(share) is None
    assert ledger.take_bound(share, link)
    assert not ledger.take_bound(share, link)
    assert (share.size, share.in_use) == (1, 1)


def test_a_private_link_is_given_up_for_a_waiter_at_the_limit_of_its_origin() -> None:
    ledger, [share] = ledger_of(9, (1, 9, 0))
    link = lend(ledger, share)
    ledger.keep_bound(share, link)
    ledger.enqueue(share, Caller())
    assert ledger.start_dial(share) == (True, link)
    assert (share.size, share.dialling, ledger.total) == (1, 1, 1)
    assert not ledger.drop_idle(share, link)


def test_the_coldest_goes_be_it_private_or_not() -> None:
    ledger, [share, other] = ledger_of(3, (9, 2, 0), (9, 9, 0))
    first, second, third = (lend(ledger, share) for _ in range(3))
    ledger.give_back(share, first)
    ledger.keep_bound(share, second)
    assert share.coldest is first
    assert ledger.keep_bound(share, third) is first, "two are as many as may be idle"
    ledger.take_bound(share, third)
    ledger.give_back(share, third)
    assert share.coldest is second
    lend(ledger, other)
    ledger.enqueue(other, Caller())
    assert ledger.start_dial(other) == (True, second), "the coldest of all"


def test_a_private_link_makes_room_for_an_origin_that_waits() -> None:
    ledger, [share, other] = ledger_of(1, (9, 9, 0), (9, 9, 1))
    link = lend(ledger, share)
    wait(ledger, other)
    assert ledger.keep_bound(share, link) is link
    assert ledger.start_dial(other) == (True, None)


def test_a_repetition_takes_the_place_of_a_private_link() -> None:
    ledger, [share] = ledger_of(9, (1, 9, 0))
    link = lend(ledger, share)
    ledger.keep_bound(share, link)
    assert ledger.start_fresh(share) == (True, link)


@pytest.mark.parametrize("max_idle", [0, 1])
def test_the_only_private_link_is_kept_whatever_max_idle_says(max_idle: int) -> None:
    ledger, [share] = ledger_of(9, (9, max_idle, 0))
    link, later = lend(ledger, share), lend(ledger, share)
    assert ledger.keep_bound(share, link) is None
    assert ledger.give_back(share, later) is (link if max_idle else later)


# -- trials ------------------------------------------------------------------------------------


def test_a_waiter_gets_a_dial_of_its_own_beside_a_trial() -> None:
    ledger, share = Ledger[Link](4), Share[Link](2, 2, 4)
    ledger.add(share)
    assert ledger.start_trial(share) == (True, None)
    ledger.enqueue(share, Caller())
    assert ledger.start_dial(share) == (True, None)
    assert (share.size, ledger.total) == (2, 2)


def test_the_link_of_a_trial_goes_to_the_waiter() -> None:
    ledger, share, caller = Ledger[Link](4), Share[Link](1, 2, 4), Caller()
    ledger.add(share)
    ledger.start_trial(share)
    ledger.enqueue(share, caller)
    assert ledger.start_dial(share) == (False, None)
    ledger.end_trial(share, won=True)
    link = Link()
    ledger.give_back(share, link)
    assert caller.link is link
    assert (share.in_use, share.trials, ledger.total) == (1, 0, 1)


def test_a_trial_takes_no_place_that_its_origin_needs() -> None:
    ledger, share = Ledger[Link](4), Share[Link](1, 2, 4)
    ledger.add(share)
    ledger.start_trial(share)
    assert ledger.start_trial(share) == (False, None)
    ledger.end_trial(share, won=False)
    assert (share.size, ledger.total) == (0, 0)
