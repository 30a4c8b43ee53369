"""The ledger under any order of events: limits hold, waiters are served, no link is lost.

The machine plays the shell: it starts dials and closes links as `pool.Pool` does, one event at a
time, and after each event looks at everything.
"""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hopproxy.pool.ledger import Ledger, QueueFull, Share
from tests.pure.search import search


class Link:
    """A link, as little of it as the ledger needs."""

    idle_stamp = 0


class Caller:
    """One who waits: what became of it."""

    def __init__(self, queue: "deque[Caller]", lent: dict[Link, int], number: int) -> None:
        self._queue = queue
        self._lent = lent
        self._number = number

    def serve(self, link: Link) -> None:
        """It is this caller's turn and no other's."""
        assert self._queue.popleft() is self, "served out of turn"
        self._lent[link] = self._number

    def fail(self, error: Exception) -> None:
        """The longest waiter gets the error of a dial."""
        assert self._queue.popleft() is self, "failed out of turn"


LIMITS = st.tuples(st.integers(1, 4), st.sampled_from([2, 3, 1, 0]), st.integers(0, 3))
WHICH = st.integers(0, 10)


class Lending(RuleBasedStateMachine):
    """Three origins under one total."""

    @initialize(limits=st.lists(LIMITS, min_size=3, max_size=3), total=st.integers(1, 5))
    def open(self, limits: list[tuple[int, int, int]], total: int) -> None:
        """The settings are read."""
        self.ledger: Ledger[Link] = Ledger(total)
        self.shares: list[Share[Link]] = [Share(*limit) for limit in limits]
        for share in self.shares:
            self.ledger.add(share)
        self.queues: list[deque[Caller]] = [deque() for _ in self.shares]
        self.dials = [0] * len(self.shares)
        self.fresh = [0] * len(self.shares)
        self.trials = [0] * len(self.shares)
        self.lent: dict[Link, int] = {}
        self.idle: dict[Link, int] = {}
        self.bound: set[Link] = set()  # those of `idle` that one client alone may use

    # -- the shell ---------------------------------------------------------------------------

    def close(self, link: Link | None) -> None:
        """The ledger gave up an idle link: it is the coldest, and never one in use."""
        if link is not None:
            number = self.idle.pop(link)
            self.bound.discard(link)
            others = [other for other, owner in self.idle.items() if owner == number]
            assert all(link.idle_stamp < other.idle_stamp for other in others), "not the coldest"

    def start_dials(self, number: int) -> None:
        """What `pool.Pool` does whenever room may have come free."""
        turn: Share[Link] | None = self.shares[number]
        while turn is not None:
            full = turn.size >= turn.max_connections
            due, evicted = self.ledger.start_dial(turn)
            if evicted is not None:
                own = self.shares.index(turn)
                rivals = [link for link, owner in self.idle.items() if owner == own or not full]
                assert all(evicted.idle_stamp <= link.idle_stamp for link in rivals)
            self.close(evicted)
            if due:
                self.dials[self.shares.index(turn)] += 1
                assert turn.dialling <= len(turn.waiters), "dialled for nobody"
            elif turn is self.shares[number] and self.ledger.starved() is not turn:
                turn = self.ledger.starved()
            else:
                return

    def settle(self, number: int, link: Link) -> None:
        """A link in use becomes free."""
        share = self.shares[number]
        del self.lent[link]
        evicted = self.ledger.give_back(share, link)
        if link not in self.lent:
            assert not self.queues[number], "idle beside a waiter"
            assert link in share.idle or evicted is link
            self.idle[link] = number
        if evicted is link and not share.max_idle:  # be it the coldest or not
            del self.idle[link]
        else:
            self.close(evicted)
        if self.ledger.starved() is not None:
            self.start_dials(number)

    def shared(self, number: int) -> set[Link]:
        """The idle links of an origin that anybody may use."""
        return {o for o, owner in self.idle.items() if owner == number} - self.bound

    def one_of(self, counts: list[int], which: int) -> int:
        """One of the origins for which `counts` is not zero."""
        numbers = [number for number, count in enumerate(counts) if count]
        return numbers[which % len(numbers)]

    # -- events ------------------------------------------------------------------------------

    @rule(which=WHICH, callers=st.integers(1, 3))
    def acquire(self, which: int, callers: int) -> None:
        """Requests ask for links of one origin."""
        for _ in range(callers):
            self.ask(which % len(self.shares))

    def ask(self, number: int) -> None:
        """One request: the warmest idle link, or a place in the queue."""
        share, queue = self.shares[number], self.queues[number]
        link = self.ledger.take_idle(share)
        if link is not None:
            stamps = [other.idle_stamp for other in self.shared(number)]
            assert link.idle_stamp == max(stamps), "not the warmest"
            del self.idle[link]
            self.lent[link] = number
            return
        caller = Caller(queue, self.lent, number)
        try:
            self.ledger.enqueue(share, caller)
        except QueueFull:
            assert len(queue) - share.dialling >= share.queue_size
            assert not self.has_room(share), "refused beside a free slot"
            return
        queue.append(caller)
        self.start_dials(number)
        assert len(queue) - share.dialling <= share.queue_size, "the queue is too long"

    @precondition(lambda self: any(self.dials))
    @rule(which=WHICH)
    def dial_succeeds(self, which: int) -> None:
        """A dial has succeeded: the longest waiter gets its link."""
        number = self.one_of(self.dials, which)
        self.dials[number] -= 1
        self.ledger.dialled(self.shares[number])
        link = Link()
        self.lent[link] = number
        self.settle(number, link)

    @precondition(lambda self: any(self.dials))
    @rule(which=WHICH)
    def dial_fails(self, which: int) -> None:
        """One dial fails, and one waiter gets the error."""
        number = self.one_of(self.dials, which)
        self.dials[number] -= 1
        share = self.shares[number]
        self.ledger.drop_dial(share)
        waiter = self.ledger.next_waiter(share)
        assert (waiter is None) == (not self.queues[number])
        if waiter is not None:
            waiter.fail(ConnectionRefusedError())
        self.start_dials(number)

    @rule()
    def all_goes_well(self) -> None:
        """Every dial brings a link, then every exchange ends: a short way to idle links."""
        while any(self.dials):
            self.dial_succeeds(0)
        for link, number in list(self.lent.items()):
            self.settle(number, link)

    @precondition(lambda self: self.lent)
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        """An exchange ends, and its link may serve again."""
        link = list(self.lent)[which % len(self.lent)]
        self.settle(self.lent[link], link)

    @precondition(lambda self: self.lent)
    @rule(which=WHICH)
    def rest_private(self, which: int) -> None:
        """An exchange ends, and its link is kept for its client."""
        link = list(self.lent)[which % len(self.lent)]
        number = self.lent.pop(link)
        share = self.shares[number]
        self.idle[link] = number
        self.bound.add(link)
        evicted = self.ledger.keep_bound(share, link)
        assert evicted is not link or self.ledger.total + 1 >= self.ledger.max_total
        self.close(evicted)
        self.start_dials(number)

    @precondition(lambda self: self.bound)
    @rule(which=WHICH)
    def resume_private(self, which: int) -> None:
        """The client of a private link asks again."""
        link = sorted(self.bound, key=lambda link: link.idle_stamp)[which % len(self.bound)]
        self.bound.remove(link)
        number = self.lent[link] = self.idle.pop(link)
        assert self.ledger.take_bound(self.shares[number], link)
        assert not self.ledger.take_bound(self.shares[number], link)

    @precondition(lambda self: self.lent)
    @rule(which=WHICH)
    def discard(self, which: int) -> None:
        """An exchange ends, and its link with it."""
        link = list(self.lent)[which % len(self.lent)]
        number = self.lent.pop(link)
        self.ledger.drop_in_use(self.shares[number])
        self.start_dials(number)

    @precondition(lambda self: any(self.queues))
    @rule(which=WHICH, place=WHICH)
    def withdraw(self, which: int, place: int) -> None:
        """A waiter's client has gone."""
        number = self.one_of([len(queue) for queue in self.queues], which)
        queue = self.queues[number]
        caller = queue[place % len(queue)]
        assert self.ledger.withdraw(self.shares[number], caller)
        queue.remove(caller)
        assert not self.ledger.withdraw(self.shares[number], caller)

    @precondition(lambda self: self.idle)
    @rule(which=WHICH)
    def idle_link_dies(self, which: int) -> None:
        """The origin closes a link at rest."""
        link = list(self.idle)[which % len(self.idle)]
        number = self.idle.pop(link)
        self.bound.discard(link)
        assert self.ledger.drop_idle(self.shares[number], link)
        assert not self.ledger.drop_idle(self.shares[number], link)
        self.start_dials(number)

    @rule(which=WHICH, in_place=st.booleans())
    def repeat(self, which: int, in_place: bool) -> None:
        """A retry needs a new link, or a POST needs a younger one."""
        number = which % len(self.shares)
        share = self.shares[number]
        room = self.has_room(share) or bool(share.idle or share.bound_idle)
        idle, size = set(share.idle), share.size
        due, evicted = self.ledger.start_fresh(share, in_place=in_place)
        assert due == room
        assert due or evicted is None
        assert not (in_place and idle) or (evicted in idle and share.size == size)
        self.close(evicted)
        if due:
            self.ledger.dialled(share)  # in use from now on: no waiter may count on this dial
            self.fresh[number] += 1

    @precondition(lambda self: any(self.fresh))
    @rule(which=WHICH, opened=st.booleans())
    def fresh_dial_ends(self, which: int, opened: bool) -> None:
        """It is the one caller's own, be it made or failed."""
        number = self.one_of(self.fresh, which)
        self.fresh[number] -= 1
        if opened:
            self.lent[Link()] = number
        else:
            self.ledger.drop_in_use(self.shares[number])
            self.start_dials(number)

    @rule(which=WHICH)
    def trial(self, which: int) -> None:
        """A trial dial to an origin that is down."""
        number = which % len(self.shares)
        share = self.shares[number]
        room = share.size < share.max_connections and self.has_room(share)
        due, evicted = self.ledger.start_trial(share)
        assert due == room
        assert due or evicted is None
        self.close(evicted)
        self.trials[number] += due

    @precondition(lambda self: any(self.trials))
    @rule(which=WHICH, opened=st.booleans())
    def trial_ends(self, which: int, opened: bool) -> None:
        """Its link, if it has one, goes to the longest waiter."""
        number = self.one_of(self.trials, which)
        self.trials[number] -= 1
        if opened:
            self.ledger.end_trial(self.shares[number], won=True)
            link = Link()
            self.lent[link] = number
            self.settle(number, link)
        else:
            self.ledger.end_trial(self.shares[number], won=False)
            self.start_dials(number)

    # -- what always holds -------------------------------------------------------------------

    def has_room(self, share: Share[Link]) -> bool:
        """Whether one more dial could be made, be it in the place of an idle link."""
        if share.size >= share.max_connections:
            return bool(share.bound_idle)
        return self.ledger.total < self.ledger.max_total or bool(self.idle)

    @invariant()
    def every_link_is_in_one_place(self) -> None:
        """The counters are what a recount finds."""
        assert not self.idle.keys() & self.lent.keys()
        for number, share in enumerate(self.shares):
            assert set(share.idle) == self.shared(number)
            assert set(share.bound_idle) == {
                link for link in self.bound if self.idle[link] == number
            }
            lent = sum(owner == number for owner in self.lent.values())
            assert (share.in_use, share.dialling) == (lent + self.fresh[number], self.dials[number])
            assert share.trials == self.trials[number]
            assert list(share.waiters) == list(self.queues[number])
        assert self.ledger.total == sum(share.size for share in self.shares)

    @invariant()
    def no_limit_is_passed(self) -> None:
        """Idle, in use and dialling together."""
        assert 0 <= self.ledger.total <= self.ledger.max_total
        for share in self.shares:
            assert share.size <= share.max_connections
            assert len(share.idle) + len(share.bound_idle) <= max(share.max_idle, 1)
            assert len(share.idle) <= share.max_idle

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Who waits has a dial under way, or there is no room for one."""
        for share in self.shares:
            if share.waiters:
                assert not share.idle, "waits beside an idle link"
            if len(share.waiters) > share.dialling:
                assert not self.has_room(share), "waits beside a free slot"


TestLending = Lending.TestCase
TestLending.settings = settings(search, max_examples=80, stateful_step_count=40)
