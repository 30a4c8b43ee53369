"""Useless frames have a price, and honest traffic of any size stays below it."""

from __future__ import annotations

import pytest

from hopproxy.wire.h2 import FAILED, HEAD, H2Server
from hopproxy.wire.h2_budget import (
    CAPACITY,
    ERROR,
    MOST_UPDATES_FREE,
    PER_SECOND,
    UPDATES_FREE,
    Budget,
)
from hopproxy.wire.h2_frames import Code, H2Error
from tests.pure.h2_peer import (
    CONTINUATION,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    UPDATE,
    client,
    data,
    failure,
    head,
    raw,
    server,
    setting,
    stream_of,
    u32,
)

CALM = Code.ENHANCE_YOUR_CALM


def flood(machine: H2Server, frame: bytes, most: int) -> int:
    """Send a frame again and again; return how many were taken before the connection ended."""
    for count in range(most):
        events = machine.receive(frame, 1.0)
        if events and events[-1][0] == FAILED:
            assert failure(events) == (CALM, "10.5")
            return count
    return most


@pytest.mark.parametrize(
    ("frame", "cost"),
    [
        (raw(PING, 0, 0, bytes(8)), 1),
        (raw(PING, 1, 0, bytes(8)), 1),
        (raw(SETTINGS), 2),
        (raw(SETTINGS, 0, 0, setting(9, 9) * 80), 12),
        (raw(PRIORITY, 0, 1, bytes(5)), 1),
        (raw(0xFA), 1),
        (data(1), 1),
        (data(3), 1),
        (raw(0, 8, 1, b"\0"), 1),
        (raw(UPDATE, 0, 1, u32(1)), 1),
        (raw(UPDATE, 0, 0, u32(1)), 1),
        (head(3), 1),
        (raw(RST_STREAM, 0, 3, u32(8)), 1),
    ],
)
def test_each_useless_frame_has_its_price(frame: bytes, cost: int) -> None:
    machine = server()
    machine.receive(head(1, ended=False), 1.0)
    machine.reset(stream_of(machine.receive(head(3, ended=False), 1.0)), 8)
    machine.level = 0
    assert flood(machine, frame, 2 * CAPACITY) == CAPACITY // cost


@pytest.mark.parametrize("number", [0, 1, 3])
def test_updates_of_a_window_are_free_up_to_a_bound(number: int) -> None:
    """The stream 3 is closed, as it is for updates that come late."""
    machine = server()
    machine.receive(head(1, ended=False) + head(3), 1.0)
    stream = machine.streams[3]
    machine.send_head(stream, b"head", ended=True)
    update = raw(UPDATE, 0, number, u32(1024))
    machine.receive(update * MOST_UPDATES_FREE, 1.0)
    machine.level = 0
    assert flood(machine, update, 2 * CAPACITY) == CAPACITY


def test_what_we_send_makes_more_updates_free() -> None:
    machine = server()
    machine.receive(head(1), 1.0)
    machine.receive(raw(UPDATE, 0, 1, u32(1024)) * MOST_UPDATES_FREE, 1.0)
    machine.level = 0
    machine.take()
    machine.send_data(machine.streams[1], b"body", ended=False)
    machine.take()
    late = raw(UPDATE, 0, 1, u32(1024))
    machine.receive(late * UPDATES_FREE, 1.0)
    assert machine.level == 0


def test_a_client_that_updates_its_windows_for_each_frame_keeps_its_connection() -> None:
    """Many small streams, and updates of both windows that come when each has ended."""
    machine = server()
    for number in range(1, 20000, 2):
        stream = stream_of(machine.receive(head(number), 1.0))
        machine.send_head(stream, b"head", ended=False)
        machine.send_data(stream, b"body", ended=True)
        machine.take()
        late = raw(UPDATE, 0, number, u32(1024)) + raw(UPDATE, 0, 0, u32(1024))
        machine.receive(late * 5, 1.0)
    assert machine.failed is None


def test_data_on_a_closed_stream_is_free_up_to_its_window() -> None:
    machine = server()
    machine.reset(stream_of(machine.receive(head(1, ended=False), 1.0)), 8)
    machine.receive(data(1, b"x" * 16384) * 3 + data(1, b"x" * (65535 - 3 * 16384)), 1.0)
    machine.level = 0
    assert flood(machine, data(1, b"x"), 2 * CAPACITY) == CAPACITY


def test_requests_after_the_last_one_have_their_price() -> None:
    machine = server()
    machine.receive(head(1, ended=False), 1.0)
    machine.go_away()
    machine.level = 0
    for number in range(3, 4 * CAPACITY, 2):
        machine.receive(head(number, ended=False) + data(number, b"x"), 1.0)
        if machine.failed is not None:
            break
    assert number == 3 + 2 * CAPACITY
    assert machine.failed is not None


def test_continuation_has_its_price() -> None:
    machine = server()
    machine.receive(raw(HEADERS, 0, 1), 1.0)
    machine.level = 0
    assert flood(machine, raw(CONTINUATION, 0, 1), 2 * CAPACITY) == CAPACITY


@pytest.mark.parametrize(
    ("after", "code", "most"),
    [
        (raw(RST_STREAM, 0, 1, u32(8)), None, 250),  # CVE-2023-44487
        (raw(UPDATE, 0, 1, u32(0)), 1, 95),  # CVE-2025-8671
        (raw(UPDATE, 0, 1, u32(0x7FFFFFFF)), 3, 100),
        (data(1, b"x"), 5, 100),
    ],
)
def test_streams_that_end_at_once_soon_end_the_connection(
    after: bytes, code: int | None, most: int
) -> None:
    machine = server()
    begun = 0
    for number in range(1, 4000, 2):
        events = machine.receive(head(number) + after[:5] + u32(number) + after[9:], 1.0)
        begun += sum(event[0] == HEAD for event in events)
        if machine.failed is not None:
            break
        assert events[0][1] is not None
        assert events[0][1].reset is not None
        assert code in (None, events[0][1].reset)
    assert abs(begun - most) <= 5
    assert machine.failed is not None
    assert machine.failed.code == CALM


def test_refused_streams_have_their_price() -> None:
    machine = server(max_streams=0)
    for number in range(1, 999, 2):
        machine.receive(head(number), 1.0)
    assert machine.failed is not None
    assert machine.failed.code == CALM


def test_malformed_requests_have_their_price() -> None:
    machine = server()
    calm = [machine.malformed(1.0) for _ in range(CAPACITY // ERROR)]
    assert calm == [None] * len(calm)
    error = machine.malformed(1.0)
    assert error is not None
    assert error is machine.failed
    assert (error.code, error.section) == (CALM, "10.5")
    assert machine.malformed(1.0) is None  # it is said once


def test_a_client_that_gives_up_half_of_its_requests_keeps_its_connection() -> None:
    machine = server()
    for number in range(1, 8000, 4):
        events = machine.receive(head(number) + head(number + 2), number / 400)
        machine.send_head(stream_of(events), b"head", ended=True)
        machine.receive(raw(RST_STREAM, 0, number + 2, u32(8)), number / 400)
    assert machine.failed is None


def test_a_client_may_answer_each_response_with_small_updates_and_a_ping() -> None:
    machine = server()
    for number in range(1, 8000, 2):
        stream = stream_of(machine.receive(head(number), 1.0))
        machine.send_head(stream, b"head", ended=False)
        machine.send_data(stream, b"some", ended=False)
        machine.send_data(stream, b"body", ended=True)
        answer = raw(UPDATE, 0, 0, u32(8)) + raw(UPDATE, 0, number, u32(8))
        machine.receive(answer + raw(PING, 0, 0, bytes(8)), 1.0)
    assert machine.failed is None


def test_an_origin_may_go_on_for_long_on_streams_that_we_gave_up() -> None:
    machine = client(link_window=1 << 24)
    for number in range(1, 4000, 2):
        stream = machine.open(b"request", ended=True)
        machine.reset(stream, 8)
        machine.receive(head(number, ended=False) + data(number, b"message") * 20, 1.0)
    assert machine.failed is None


def test_time_and_work_lower_the_level() -> None:
    budget = Budget()
    budget.spend(CAPACITY, 100.0, "test")
    with pytest.raises(H2Error, match="test"):
        budget.spend(1, 100.0, "test")
    budget.spend(5, 102.0, "test")
    left = CAPACITY + 1 - 2 * PER_SECOND + 5
    assert budget.level == left
    budget.earn(left - 2)
    assert budget.level == 2
    budget.earn(4)
    assert budget.level == 0
