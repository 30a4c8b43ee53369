"""Bytes out: never blocked, never torn, bounded, and every lost line counted."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from hopproxy.observe.log_writer import BOUND, LogWriter


class Pipe:
    """A pipe of one page, whose reader may be slow."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.reader, False)
        self.taken = b""

    def read(self) -> bytes:
        """All that is in it, added to `taken`."""
        try:
            while data := os.read(self.reader, 65536):
                self.taken += data
        except BlockingIOError:
            pass
        return self.taken


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for fd in (made.reader, made.writer):
        try:
            os.close(fd)
        except OSError:
            continue


def line(number: int) -> bytes:
    return b"%0999d\n" % number


def test_a_slow_reader_gets_whole_lines_later(pipe: Pipe) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    log_writer.add(b"".join(line(number) for number in range(20)), 20)
    log_writer.write()
    rounds = 0
    while pipe.read().count(b"\n") < 20:
        assert pipe.taken.endswith(b"\n"), "pieces end with a line"
        log_writer.write()
        rounds += 1
        assert rounds < 50
    assert pipe.taken == b"".join(line(number) for number in range(20))
    assert rounds > 1
    assert log_writer.dropped == 0


def test_a_blocking_pipe_that_is_full_does_not_block(pipe: Pipe) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    assert os.get_blocking(pipe.writer)
    log_writer.add(line(1) * 100, 100)
    log_writer.write()  # would hang here
    assert os.get_blocking(pipe.writer)


def test_past_the_bound_lines_are_dropped_and_counted(pipe: Pipe) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    batch = line(7) * 100
    added = 0
    while log_writer.dropped == 0:
        log_writer.add(batch, 100)
        added += len(batch)
    assert log_writer.dropped == 100
    assert BOUND < added <= BOUND + 2 * len(batch)


def test_a_reader_that_is_gone_costs_lines_only(pipe: Pipe) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    os.close(pipe.reader)
    log_writer.add(line(1) * 3, 3)
    log_writer.write()
    assert log_writer.dropped == 3
    log_writer.add(line(2), 1)
    log_writer.finish()
    assert log_writer.dropped == 4


def test_the_farewell_is_short(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hopproxy.observe.log_writer.FAREWELL", 0.05)
    log_writer = LogWriter(pipe.writer, "log")
    log_writer.add(line(1) * 100, 100)
    log_writer.finish()
    written = pipe.read().count(b"\n")
    assert 0 < written <= 4
    assert log_writer.dropped == 100 - written


def test_a_line_longer_than_a_piece_goes_out_whole(pipe: Pipe) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    long = b"a" * 10_000 + b"\n"
    log_writer.add(long, 1)
    for _ in range(5):
        log_writer.write()
        pipe.read()
    assert pipe.taken == long


def test_after_a_torn_line_the_next_begins_again(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    log_writer.add(b"b" * 10_000 + b"\n", 1)
    log_writer.write()  # a page of it
    monkeypatch.setattr("hopproxy.observe.log_writer.FAREWELL", 0.0)
    log_writer.finish()
    assert log_writer.dropped == 1
    pipe.read()
    log_writer.add(b"next\n", 1)
    log_writer.write()
    assert pipe.read() == b"b" * 4096 + b"\nnext\n"
    log_writer.add(b"third\n", 1)
    log_writer.write()
    assert pipe.read().endswith(b"\nnext\nthird\n")


def test_a_socket_as_standard_output() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log_writer = LogWriter(ours.fileno(), "log")
        log_writer.add(b"one\n", 1)
        log_writer.write()
        assert theirs.recv(100) == b"one\n"
