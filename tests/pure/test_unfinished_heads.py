"""Heads that come in pieces or are too large: what they may cost before they are refused."""

from __future__ import annotations

import pytest

from hopproxy.errors import BadRequest
from hopproxy.settings.schema import ClientSettings
from hopproxy.wire import http1

START = b"GET / HTTP/1.1\r\nX: " + b"x" * 60 + b"\r"


@pytest.mark.parametrize("read", [0, 19, len(START) - 1, len(START)])
def test_a_bare_line_end_is_found_where_two_pieces_meet(read: int) -> None:
    http1.check_start(START, min(read, len(START) - 1))  # its end may be the first of a CRLF
    http1.check_start(START + b"\n", read)
    with pytest.raises(BadRequest, match="CRLF"):
        http1.check_start(START + b"b", read)


def test_what_was_read_before_is_not_looked_at_again() -> None:
    bare = b"GET / HTTP/1.1\r\nX: \n" + b"x" * 60
    http1.check_start(bare, len(bare) - 1)


def test_too_many_fields_are_refused_before_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise 32 KiB of short fields cost 20 ms only to be refused."""
    read: list[bytes] = []
    monkeypatch.setattr("hopproxy.wire.plain.read_request", read.append)
    head = b"GET / HTTP/1.1\r\nHost: a" + b"\r\nX:y" * 5000
    with pytest.raises(BadRequest, match="max_fields") as refused:
        http1.read_request(head, ClientSettings())
    assert (refused.value.status, read) == (431, [])
