"""What is kept of links that have ended."""

from typing import NamedTuple

import pytest

from hopproxy.reasons import UNUSED_AFTER, CloseReason, Hop, Limit, Owner, Source, setting_behind
from hopproxy.record import CloseRecord, Closes, ExchangeRecord


def closed(hop: Hop, reason: CloseReason, requests: int = 0) -> CloseRecord:
    """A link that has ended."""
    return CloseRecord(hop, "peer", reason, 9.0, 5.0, 2.0, requests)


def test_every_reason_has_its_own_name_and_one_owner() -> None:
    labels = [reason.label for reason in CloseReason]
    assert len(set(labels)) == len(labels) == len(CloseReason)
    assert labels == [reason.name.lower() for reason in CloseReason]
    assert {reason.owner for reason in CloseReason} == set(Owner)


def test_a_timeout_is_owned_by_the_clock() -> None:
    for reason in CloseReason:
        assert (reason.owner is Owner.TIMEOUT) is reason.label.endswith(("_timeout", "body_rate"))


def test_a_record_keeps_its_times() -> None:
    record = closed(Hop.CLIENT, CloseReason.IDLE_TIMEOUT, 3)
    assert (record.at, record.age, record.idle, record.requests) == (9.0, 5.0, 2.0, 3)
    assert (record.hop, record.peer, record.reason) == (
        Hop.CLIENT,
        "peer",
        CloseReason.IDLE_TIMEOUT,
    )


def test_closes_are_counted_by_hop_and_reason() -> None:
    closes = Closes()
    for hop in (Hop.CLIENT, Hop.CLIENT, Hop.UPSTREAM):
        closes.add(closed(hop, CloseReason.PEER_CLOSED))
    closes.add(closed(Hop.CLIENT, CloseReason.PEER_RESET))
    assert closes.counts == {
        (Hop.CLIENT, CloseReason.PEER_CLOSED): 2,
        (Hop.UPSTREAM, CloseReason.PEER_CLOSED): 1,
        (Hop.CLIENT, CloseReason.PEER_RESET): 1,
    }


def test_only_the_last_closes_are_kept() -> None:
    closes = Closes()
    for number in range(Closes.KEPT + 3):
        closes.add(closed(Hop.CLIENT, CloseReason.PEER_CLOSED, number))
    assert [record.requests for record in closes.last] == list(range(3, Closes.KEPT + 3))
    assert sum(closes.counts.values()) == Closes.KEPT + 3


def test_an_exchange_begins_with_nothing_known() -> None:
    record = ExchangeRecord("peer", 7, 2, 1.5)
    assert (record.peer, record.link_number, record.link_request, record.started) == (
        "peer",
        7,
        2,
        1.5,
    )
    assert (record.status, record.attempts, record.upstream_close, record.cause) == (0, 0, None, "")


class PoolSettings(NamedTuple):
    """The settings of a hop, as little of them as is asked for."""

    idle_timeout: float = 60.0
    max_requests: int = 100
    max_idle: int = 8
    max_age: float = 900.0


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        (CloseReason.IDLE_TIMEOUT, 60.0),
        (CloseReason.PEER_CLOSED, 60.0),
        (CloseReason.REQUEST_LIMIT, 100),
        (CloseReason.POOL_FULL, 8),
        (CloseReason.MAX_AGE, 900.0),
    ],
)
def test_a_close_names_the_setting_behind_it(reason: CloseReason, value: float) -> None:
    assert setting_behind(reason, PoolSettings()) == Limit(value, Source.SETTING)


@pytest.mark.parametrize("reason", [CloseReason.PEER_ASKED, CloseReason.BAD_REQUEST])
def test_a_close_that_no_setting_speaks_of_names_none(reason: CloseReason) -> None:
    assert setting_behind(reason, PoolSettings()) is None


@pytest.mark.parametrize(
    ("dialled", "queued", "connecting"),
    [
        (None, 3.0, 0.0),  # a link came free
        (10.0, 0.0, 3.0),  # a dial of its own
        (10.0004, 0.0, 3.0),  # as much as it takes to begin one
        (12.0, 2.0, 1.0),  # a dial that could not begin at once
        (7.0, 0.0, 3.0),  # a dial that was under way for another
        (14.0, 3.0, 0.0),  # the clock of another turn
    ],
)
def test_a_wait_is_for_room_or_for_a_connection(
    dialled: float | None, queued: float, connecting: float
) -> None:
    record = ExchangeRecord("", 1, 1, 10.0)
    record.note_wait(10.0, 13.0, dialled)
    assert record.has_waited
    assert (record.queued, record.connecting) == pytest.approx((queued, connecting))
    record.note_wait(20.0, 21.0, None)
    assert record.queued == pytest.approx(queued + 1.0)


def test_who_has_not_waited_has_waited_for_nothing() -> None:
    record = ExchangeRecord("", 1, 1, 10.0)
    assert (record.has_waited, record.queued, record.connecting) == (False, 0.0, 0.0)


@pytest.mark.parametrize("reason", [r for r in CloseReason if r.owner is Owner.US])
def test_what_we_end_ourselves_is_no_failure_of_the_last_link(reason: CloseReason) -> None:
    at_fault = {
        CloseReason.BAD_REQUEST, CloseReason.BAD_RESPONSE, CloseReason.INTERNAL_ERROR,
        CloseReason.NEVER_OPENED, CloseReason.BODY_UNREAD, CloseReason.NO_LENGTH,
        CloseReason.RESPONSE_CUT, CloseReason.DRAINING, CloseReason.STOPPED,
        CloseReason.ORIGIN_REMOVED, CloseReason.WORKER_ENDED, CloseReason.ADDRESS_LIMIT,
        CloseReason.ORIGIN_OUT, CloseReason.WENT_ELSEWHERE, CloseReason.CHECKED,
        CloseReason.PROTOCOL_ERROR, CloseReason.FLOODED,
        # Of a client's connection that was never open.
        CloseReason.UNTRUSTED_PROXY, CloseReason.PROXY_HEADER, CloseReason.HANDSHAKE_LIMIT,
        CloseReason.HANDSHAKE_FAILED, CloseReason.CLIENT_CERTIFICATE, CloseReason.NO_PROTOCOL,
        CloseReason.NOT_TLS,
        # Of a client's HTTP/2 connection.
        CloseReason.PROTOCOL_ERROR, CloseReason.FLOODED,
    }  # fmt: skip
    assert (reason in UNUSED_AFTER) is not (reason in at_fault)


@pytest.mark.parametrize(("idled", "idle", "busy"), [(20.0, 20.0, 5.0), (-1.0, 0.0, 25.0)])
def test_a_link_that_ends_under_a_request_was_idle_before_it(
    idled: float, idle: float, busy: float
) -> None:
    record = CloseRecord(Hop.UPSTREAM, "", CloseReason.PEER_RESET, 100.0, 60.0, 25.0, 2)
    assert record.busy == 0.0
    record.under_request(idled)
    assert (record.idle, record.busy) == (idle, busy)


def test_a_connection_that_a_fault_ended_before_it_was_a_link_is_on_record() -> None:
    closes = Closes()
    closes.add_fault(Hop.UPSTREAM, "http://a:80", 7.0)
    assert closes.counts == {(Hop.UPSTREAM, CloseReason.INTERNAL_ERROR): 1}
    [record] = closes.last
    assert (record.peer, record.at, record.age, record.requests) == ("http://a:80", 7.0, 0.0, 0)


def test_a_refused_connection_is_counted_and_hides_no_close() -> None:
    closes = Closes()
    for _ in range(3):
        closes.count(Hop.CLIENT, CloseReason.ADDRESS_LIMIT)
    assert closes.counts == {(Hop.CLIENT, CloseReason.ADDRESS_LIMIT): 3}
    assert not closes.last
