"""Descriptors that are written to and never waited for."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

from hopproxy.observe import sink as sink_module
from hopproxy.observe.log_writer import LogWriter
from hopproxy.observe.sink import Sink, open_sink
from tests.observe.test_log_writer import Pipe, line, pipe

__all__ = ["pipe"]


@pytest.fixture
def cannot_reopen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As without /proc, or on a pipe or terminal that belongs to another user."""
    monkeypatch.setattr(sink_module, "DESCRIPTORS", str(tmp_path))


def within(seconds: float, log_writer: LogWriter, pipe: Pipe, expected: bytes) -> None:
    late = time.monotonic() + seconds
    while pipe.read() != expected:
        assert time.monotonic() < late, pipe.taken
        log_writer.write()
        time.sleep(0.001)


def test_what_cannot_be_reopened_is_written_to_all_the_same(
    pipe: Pipe, cannot_reopen: None
) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    log_writer.add(b"one\n", 1)
    log_writer.write()
    log_writer.add(b"two\n", 1)
    within(20, log_writer, pipe, b"one\ntwo\n")
    log_writer.finish()
    assert log_writer.dropped == 0


def test_what_cannot_be_reopened_and_is_full_does_not_block(
    pipe: Pipe, cannot_reopen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_writer = LogWriter(pipe.writer, "log")
    everything = b"".join(line(number) for number in range(20))
    log_writer.add(everything, 20)
    assert log_writer.write()
    log_writer.add(b"later\n", 1)
    begun = time.monotonic()
    assert not log_writer.write(), "a thread waits with what came before"
    assert time.monotonic() - begun < 5
    assert os.get_blocking(pipe.writer)
    within(20, log_writer, pipe, everything + b"later\n")
    assert log_writer.dropped == 0


def test_the_farewell_counts_what_a_thread_could_not_write(
    pipe: Pipe, cannot_reopen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopproxy.observe.log_writer.FAREWELL", 0.2)
    log_writer = LogWriter(pipe.writer, "log")
    log_writer.add(line(1) * 20, 20)
    log_writer.write()
    log_writer.add(line(2), 1)
    log_writer.finish()
    assert 17 <= log_writer.dropped <= 21, "at most four of these lines fit"


def test_a_reader_that_is_gone_ends_no_thread(
    pipe: Pipe, cannot_reopen: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hopproxy.observe.log_writer.FAREWELL", 20.0)
    begun = time.monotonic()
    log_writer = LogWriter(pipe.writer, "log")
    os.close(pipe.reader)
    for expected in (1, 2):
        log_writer.add(b"lost\n", 1)
        log_writer.finish()
        assert log_writer.dropped == expected
    assert time.monotonic() - begun < 15, "there is nothing to wait for"


def fill(sink: Sink) -> None:
    """Put bytes until no more are taken."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sink.put(b"x" * 100 + b"\n")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_full_socket_does_not_block_and_stays_as_it_is(kind: socket.SocketKind) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        sink = open_sink(ours.fileno())
        fill(sink)
        assert os.get_blocking(ours.fileno())
        theirs.close()
        with pytest.raises(OSError, match=r"Broken pipe|reset by peer|refused"):
            sink.put(b"x")


def test_a_terminal_that_is_not_read_does_not_block() -> None:
    ours, theirs = os.openpty()
    try:
        sink = open_sink(theirs)
        fill(sink)
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_master_of_a_terminal_is_not_opened_again() -> None:
    """Each open of its device makes another terminal, which is not read."""
    ours, theirs = os.openpty()
    try:
        sink = open_sink(ours)
        sink.put(b"typed\n")
        assert os.read(theirs, 100) == b"typed\n"
    finally:
        os.close(theirs)
        os.close(ours)


def test_a_file_is_shared_with_those_who_write_to_it_too(tmp_path: Path) -> None:
    """Its position is: standard output and standard error may be one file."""
    with (tmp_path / "log").open("wb") as file:
        open_sink(file.fileno()).put(b"one\n")
        os.write(file.fileno(), b"two\n")
        open_sink(file.fileno()).put(b"three\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n"
