"""Messages between the supervisor and a worker: whole, in order, with their descriptors."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from hopproxy.server.channel import AT_ONCE, Channel, Ended, close_all, content, in_memory, pair


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_messages_arrive_in_their_order(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    assert ours.send("first", (1, ["a"], {"b": None}))
    assert ours.send("second")
    first, second = theirs.receive(), theirs.receive()
    assert (first.kind, first.body) == ("first", (1, ["a"], {"b": None}))
    assert (second.kind, second.body) == ("second", None)
    with pytest.raises(BlockingIOError):
        theirs.receive()


@pytest.mark.parametrize("count", [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 7])
def test_any_number_of_descriptors_comes_along(ends: tuple[Channel, Channel], count: int) -> None:
    ours, theirs = ends
    files = [in_memory(b"%d" % number) for number in range(count)]
    assert ours.send("files", count, files)
    close_all(files)
    message = theirs.receive()
    assert [content(fd) for fd in message.fds] == [b"%d" % number for number in range(count)]
    assert not any(os.get_inheritable(fd) for fd in message.fds)
    message.close()


def test_descriptors_of_a_message_given_up_do_not_join_the_next(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    stray, meant = in_memory(b"stray"), in_memory(b"meant")
    ours._put(("", None, 0), [stray])  # the first packet of a message whose rest never comes
    ours.send("next", None, [meant])
    close_all([stray, meant])
    message = theirs.receive()
    assert [content(fd) for fd in message.fds] == [b"meant"]
    message.close()


def test_the_end_of_the_other_side_is_reported(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    theirs.send("last")
    theirs.close()
    assert ours.receive().kind == "last"
    with pytest.raises(Ended):
        ours.receive()
    assert not ours.send("too late")


def test_nobody_waits_for_a_side_that_takes_nothing(ends: tuple[Channel, Channel]) -> None:
    ours, theirs = ends
    sent = 0
    while ours.send("much", "x" * 10_000):
        sent += 1
        assert sent < 10_000
    for _ in range(sent):
        assert theirs.receive().kind == "much"
    assert ours.send("again")


def test_both_ends_are_sockets_of_this_process_alone() -> None:
    ours, theirs = pair()
    assert not os.get_inheritable(ours.fileno())
    assert isinstance(theirs, socket.socket)
    assert not theirs.get_inheritable()
    theirs.close()
    ours.close()


def test_a_message_with_more_descriptors_than_there_may_be_is_lost_alone(
    ends: tuple[Channel, Channel],
) -> None:
    here, there = ends
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    read, write = os.pipe()
    here.send("many", None, [read] * 500)
    here.send("next", None, [read])
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))
    try:
        message = there.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (message.kind, len(message.fds)) == ("next", 1)
    message.close()
    close_all([read, write])
