"""Links that carry many requests: streams are counted, shared out in order, and never lost."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hopproxy.pool.ledger import QueueFull, Share
from hopproxy.pool.lending import Lending
from tests.pure.search import search


class Link:
    """A link to an origin that allows so many streams."""

    def __init__(self, max_streams: int) -> None:
        self.idle_stamp = 0
        self.max_streams = max_streams


class Caller:
    """One request that waits; `link` is what it got."""

    def __init__(self, queue: deque[Caller]) -> None:
        self._queue = queue
        self.link: Link | None = None
        queue.append(self)

    def serve(self, link: Link) -> None:
        assert self._queue.popleft() is self, "served out of turn"
        self.link = link

    def fail(self, error: Exception) -> None:
        assert self._queue.popleft() is self, "failed out of turn"


WHICH = st.integers(0, 30)


class Streams(RuleBasedStateMachine):
    """Two origins under one total; requests come and go, links are dialled, end and change."""

    @initialize(
        limits=st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 6)),
        total=st.integers(1, 4),
        each=st.integers(1, 3),
    )
    def begin(self, limits: tuple[int, int, int], total: int, each: int) -> None:
        self.ledger: Lending[Link] = Lending(total)
        self.shares: list[Share[Link]] = [Share(*limits), Share(2, 2, 9)]
        for share in self.shares:
            share.each = each
            self.ledger.add(share)
        self.queues: list[deque[Caller]] = [deque(), deque()]
        self.callers: list[list[Caller]] = [[], []]  # those with a stream
        self.waiting: list[list[Caller]] = [[], []]
        self.dials = [0, 0]
        self.links: list[set[Link]] = [set(), set()]

    # -- the pool's part ---------------------------------------------------------------------

    def settle(self) -> None:
        """Callers that were served have a stream now."""
        for number in (0, 1):
            served = [caller for caller in self.waiting[number] if caller.link is not None]
            self.callers[number] += served
            self.waiting[number] = [
                caller for caller in self.waiting[number] if caller.link is None
            ]

    def close(self, link: Link | None) -> None:
        if link is not None:
            owner = 0 if link in self.links[0] else 1
            assert link not in self.shares[owner].lent, "closed in use"
            self.links[owner].remove(link)

    def start_dials(self, number: int) -> None:
        turn: Share[Link] | None = self.shares[number]
        while turn is not None:
            due, evicted = self.ledger.start_dial(turn)
            self.close(evicted)
            if due:
                assert not turn.roomy, "dialled, though a link has room"
                self.dials[self.shares.index(turn)] += 1
            else:
                following = self.ledger.starved()
                turn = None if following is turn else following

    def end_stream(self, number: int, link: Link) -> None:
        share = self.shares[number]
        if link in share.lent and self.ledger.end(share, link):
            if link.max_streams < 1:
                self.ledger.drop_in_use(share)
                self.links[number].remove(link)
            else:
                self.close(self.ledger.give_back(share, link))
        self.start_dials(number)

    # -- what happens ------------------------------------------------------------------------

    @rule(number=st.integers(0, 1))
    def a_request_comes(self, number: int) -> None:
        share = self.shares[number]
        link = self.ledger.lend(share)
        if link is None and (link := self.ledger.take_idle(share)) is not None:
            self.ledger.begin(share, link)
        caller = Caller(self.queues[number])
        if link is not None:
            self.queues[number].pop()
            caller.link = link
            self.callers[number].append(caller)
            return
        try:
            self.ledger.enqueue(share, caller)
        except QueueFull:
            self.queues[number].pop()
        else:
            self.waiting[number].append(caller)
            self.start_dials(number)
        self.settle()

    @precondition(lambda self: any(self.dials))
    @rule(which=WHICH, most=st.integers(1, 4), works=st.booleans())
    def a_dial_ends(self, which: int, most: int, works: bool) -> None:
        number = which % 2 if self.dials[which % 2] else 1 - which % 2
        share = self.shares[number]
        self.dials[number] -= 1
        if works:
            link = Link(most)
            self.links[number].add(link)
            self.ledger.dialled(share)
            self.ledger.begin(share, link)
            self.end_stream(number, link)  # the place it was dialled for: to a waiter, or idle
        else:
            self.ledger.drop_dial(share)
            waiter = self.ledger.next_waiter(share)
            if waiter is not None:
                waiter.fail(OSError())
                self.waiting[number].pop(0)
            self.start_dials(number)
        self.settle()

    @precondition(lambda self: any(self.callers))
    @rule(which=WHICH)
    def a_request_ends(self, which: int) -> None:
        number = which % 2 if self.callers[which % 2] else 1 - which % 2
        caller = self.callers[number].pop(which % len(self.callers[number]))
        assert caller.link is not None
        self.end_stream(number, caller.link)
        self.settle()

    @precondition(lambda self: any(self.waiting))
    @rule(which=WHICH)
    def a_waiter_leaves(self, which: int) -> None:
        number = which % 2 if self.waiting[which % 2] else 1 - which % 2
        caller = self.waiting[number].pop(which % len(self.waiting[number]))
        assert self.ledger.withdraw(self.shares[number], caller)
        self.queues[number].remove(caller)

    @precondition(lambda self: any(share.lent for share in self.shares))
    @rule(which=WHICH, most=st.integers(0, 4))
    def the_origin_changes_its_limit(self, which: int, most: int) -> None:
        number = which % 2 if self.shares[which % 2].lent else 1 - which % 2
        links = list(self.shares[number].lent)
        link = links[which % len(links)]
        link.max_streams = most
        self.ledger.offer(self.shares[number], link)
        self.settle()

    @precondition(lambda self: any(share.lent for share in self.shares))
    @rule(which=WHICH)
    def a_link_dies(self, which: int) -> None:
        number = which % 2 if self.shares[which % 2].lent else 1 - which % 2
        links = list(self.shares[number].lent)
        link = links[which % len(links)]
        self.ledger.drop(self.shares[number], link)
        self.links[number].remove(link)
        self.callers[number] = [
            caller for caller in self.callers[number] if caller.link is not link
        ]
        self.start_dials(number)
        self.settle()

    # -- what always holds -------------------------------------------------------------------

    @invariant()
    def every_stream_is_counted(self) -> None:
        for number, share in enumerate(self.shares):
            carried: dict[Link, int] = {}
            for caller in self.callers[number]:
                assert caller.link is not None
                carried[caller.link] = carried.get(caller.link, 0) + 1
            assert share.lent == carried
            assert share.streams == sum(carried.values())
            assert share.in_use == len(carried)
            assert share.in_use + len(share.idle) == len(self.links[number])
            assert share.dialling == self.dials[number]
            assert share.size <= share.max_connections
        assert self.ledger.total == sum(share.size for share in self.shares)
        assert self.ledger.total <= self.ledger.max_total

    @invariant()
    def nobody_waits_where_there_is_room(self) -> None:
        for share in self.shares:
            with_room = {link for link, count in share.lent.items() if count < link.max_streams}
            assert set(share.roomy) == with_room
            if share.waiters:
                assert not share.roomy
                assert not share.idle
                enough = len(share.waiters) <= share.dialling * share.each
                full = share.size >= share.max_connections
                assert enough or full or self.ledger.total >= self.ledger.max_total


Streams.TestCase.settings = settings(search, max_examples=150, stateful_step_count=40)
TestStreams = Streams.TestCase


def test_a_burst_costs_as_few_dials_as_links_are_needed() -> None:
    ledger: Lending[Link] = Lending(100)
    share: Share[Link] = Share(50, 8, 1000)
    share.each = 100
    ledger.add(share)
    queue: deque[Caller] = deque()
    for _ in range(250):
        ledger.enqueue(share, Caller(queue))
    while ledger.start_dial(share)[0]:
        pass
    assert share.dialling == 3
    for _ in range(3):
        ledger.dialled(share)
        link = Link(100)
        ledger.begin(share, link)
        ledger.end(share, link)
    assert not share.waiters
    assert sorted(share.lent.values()) == [50, 100, 100]


def test_requests_fill_the_oldest_link_first() -> None:
    ledger: Lending[Link] = Lending(9)
    share: Share[Link] = Share(9, 9, 9)
    ledger.add(share)
    first, second = Link(2), Link(2)
    for link in (first, second):
        ledger.start_fresh(share)
        ledger.dialled(share)
        ledger.begin(share, link)
    assert [ledger.lend(share), ledger.lend(share), ledger.lend(share)] == [first, second, None]
    assert ledger.end(share, first) is False
    assert ledger.lend(share) is first
