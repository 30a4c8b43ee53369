"""What is kept of links that have ended."""

from hopproxy.record import CloseReason, CloseRecord, Closes, ExchangeRecord, Hop, Owner


def closed(hop: Hop, reason: CloseReason, requests: int = 0) -> CloseRecord:
    """A link that has ended."""
    return CloseRecord(hop, "peer", reason, (9.0, 5.0, 2.0), requests)


def test_every_reason_has_its_own_name_and_one_owner() -> None:
    labels = [reason.label for reason in CloseReason]
    assert len(set(labels)) == len(labels) == len(CloseReason)
    assert labels == [reason.name.lower() for reason in CloseReason]
    assert {reason.owner for reason in CloseReason} == set(Owner)


def test_a_timeout_is_owned_by_the_clock() -> None:
    for reason in CloseReason:
        assert (reason.owner is Owner.TIMEOUT) is reason.label.endswith("_timeout")


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
