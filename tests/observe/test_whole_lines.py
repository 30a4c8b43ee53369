"""Lines of several processes in one pipe: each fits in one write, so none is torn."""

from __future__ import annotations

import json
from select import PIPE_BUF

from hopproxy.observe.access_line import whole_lines
from hopproxy.observe.access_log import AccessLog
from hopproxy.record import ExchangeRecord


def record(target: bytes, host: bytes = b"a") -> ExchangeRecord:
    return ExchangeRecord("192.0.2.1:5", 1, 1, 0.0, b"GET", target, host)


def test_short_lines_stay_as_they_are() -> None:
    lines = AccessLog("json", 2)._json([record(b"/a"), record(b"/b")])
    assert whole_lines(lines) is lines


def test_long_lines_are_shortened_and_still_json() -> None:
    log = AccessLog("json", 2)
    lines = log._json([record(b"/a"), record(b"\xff" * 2000, b"\xfe" * 2000), record(b"/b")])
    assert max(map(len, lines.splitlines())) > PIPE_BUF
    first, cut, last = whole_lines(lines).splitlines(keepends=True)
    assert (json.loads(first)["target"], json.loads(last)["target"]) == ("/a", "/b")
    assert len(cut) <= PIPE_BUF
    assert json.loads(cut)["target"].endswith("...")
    assert json.loads(cut)["status"] == 0


def test_a_long_line_of_text_is_cut() -> None:
    line = b"x" * 5000 + b"\n"
    assert whole_lines(line) == b"x" * (PIPE_BUF - 4) + b"...\n"
