"""Standard error while serving: whole lines, never waiting, lost ones told in their place."""

from __future__ import annotations

import os
import threading

import pytest
import trio
import trio.testing

from hopproxy.observe.error_log import INTERVAL, ErrorLog
from hopproxy.observe.log_writer import BOUND
from tests.observe.test_log_writer import Pipe, pipe

__all__ = ["pipe"]


def test_a_line_is_written_at_once_and_whole(pipe: Pipe) -> None:
    error_log = ErrorLog(pipe.writer)
    print("half a line", end="", file=error_log)
    assert pipe.read() == b""
    print(", and the rest\nthe next \udcff", file=error_log)
    assert pipe.read() == b"half a line, and the rest\nthe next \\udcff\n"
    print("no end", end="", file=error_log)
    error_log.finish()
    assert pipe.read().endswith(b"no end\n")


async def test_what_was_not_taken_at_once_is_written_later(
    pipe: Pipe, autojump_clock: trio.testing.MockClock
) -> None:
    error_log = ErrorLog(pipe.writer)
    lines = [f"{number:0999}" for number in range(20)]
    for line in lines:
        print(line, file=error_log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(error_log.run)
        for _ in range(20):
            await trio.sleep(INTERVAL)
            pipe.read()
        nursery.cancel_scope.cancel()
    assert pipe.taken.decode().splitlines() == lines
    assert error_log.dropped == 0


def test_lost_lines_are_reported_once_it_is_read_again(pipe: Pipe) -> None:
    error_log = ErrorLog(pipe.writer)
    for _ in range(BOUND // 1000 + 100):
        print("x" * 999, file=error_log)
    assert error_log.dropped >= 90
    while b"dropped" not in pipe.taken[-200:]:
        before = len(pipe.taken)
        pipe.read()
        assert len(pipe.taken) > before, "nothing more comes"
        print("on", file=error_log)
    told = f"hopproxy: standard error: {error_log.dropped} lines dropped so far\n".encode()
    assert told + b"on\n" in pipe.read()
    print("as before", file=error_log)
    assert pipe.read().endswith(told + b"on\nas before\n"), "told once"


def test_a_reader_that_is_gone_costs_lines_only(pipe: Pipe) -> None:
    os.close(pipe.reader)
    error_log = ErrorLog(pipe.writer)
    for _ in range(3):
        print("nobody", file=error_log)
    error_log.finish()
    assert error_log.dropped == 3


def test_threads_do_not_mix_their_lines(pipe: Pipe) -> None:
    error_log = ErrorLog(pipe.writer)

    def speak(letter: str) -> None:
        for _ in range(10):
            error_log.write(letter * 10 + "\n")

    threads = [threading.Thread(target=speak, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pipe.read().split()) == sorted(
        letter * 10 for letter in [b"a", b"b", b"c", b"d"] * 10
    )


def test_it_names_its_descriptor(pipe: Pipe) -> None:
    assert ErrorLog(pipe.writer).fileno() == pipe.writer
    assert ErrorLog(pipe.writer).writable()


def test_a_descriptor_that_is_closed_is_refused() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        ErrorLog(writer)
