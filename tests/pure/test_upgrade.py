"""Upgrade: what may be honoured, and which 101 is believed (RFC 9110 section 7.8)."""

import pytest

from hopproxy.errors import BadResponse
from hopproxy.reasons import CloseReason
from hopproxy.rules.upgrade import asks_websocket, check_sent, check_switch, declined, switches
from tests.pure.search import answer, get

ASKED = [b"Connection: Upgrade", b"Upgrade: websocket"]


@pytest.mark.parametrize(
    ("lines", "start", "offered"),
    [
        (ASKED, b"GET / HTTP/1.1", b"websocket"),
        ([b"connection: keep-alive, UPGRADE", b"upgrade:A/1 ,, b"], b"GET / HTTP/1.1", b"A/1, b"),
        ([*ASKED, b"Upgrade: x"], b"GET / HTTP/1.1", b"websocket, x"),
        ([*ASKED, b"Content-Length: 0"], b"GET / HTTP/1.1", b"websocket"),
        ([*ASKED, b"Upgrade: h2c"], b"GET / HTTP/1.1", b"websocket"),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: H2"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade", b"Upgrade: ,"], b"GET / HTTP/1.1", None),
        ([b"Connection: Upgrade"], b"GET / HTTP/1.1", None),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", None),
        (ASKED, b"GET / HTTP/1.0", None),
        ([*ASKED, b"Content-Length: 5"], b"POST / HTTP/1.1", b"websocket"),
        ([*ASKED, b"Transfer-Encoding: chunked"], b"POST / HTTP/1.1", b"websocket"),
        ([b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5"], b"POST / HTTP/1.1", None),
    ],
)
def test_an_upgrade_is_honoured_where_it_could_be(
    lines: list[bytes], start: bytes, offered: bytes | None
) -> None:
    assert get(*lines, start=start).upgrade == offered


@pytest.mark.parametrize(
    ("lines", "start", "asks"),
    [
        (ASKED, b"GET / HTTP/1.1", True),
        ([b"Connection: Upgrade", b"Upgrade: x, WebSocket"], b"GET / HTTP/1.1", True),
        ([b"Connection: Upgrade", b"Upgrade: x"], b"GET / HTTP/1.1", False),
        ([b"Upgrade: websocket"], b"GET / HTTP/1.1", False),
        (ASKED, b"HEAD / HTTP/1.1", False),
        ([*ASKED, b"Content-Length: 5"], b"GET / HTTP/1.1", False),
    ],
)
def test_a_websocket_is_asked_for_by_get_without_a_body(
    lines: list[bytes], start: bytes, asks: bool
) -> None:
    assert asks_websocket(get(*lines, start=start)) is asks


@pytest.mark.parametrize("chosen", [b"websocket", b"WebSocket"])
def test_a_switch_to_what_was_offered_is_believed(chosen: bytes) -> None:
    switch = answer(b"Connection: upgrade", b"Upgrade: " + chosen, start=b"HTTP/1.1 101 Switching")
    assert check_switch(get(b"Connection: Upgrade", b"Upgrade: x, websocket"), switch) == chosen


@pytest.mark.parametrize(
    ("asked", "answered", "complaint"),
    [
        ([], ASKED, "without a request"),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], ASKED, "without a request"),
        (ASKED, [b"Connection: Upgrade"], "does not name"),
        (ASKED, [b"Upgrade: websocket"], "does not name"),
        (ASKED, [b"Connection: Upgrade", b"Upgrade: other"], "not offered"),
        (ASKED, [b"Connection: Upgrade", b"Upgrade: websocket, x"], "not offered"),
        (ASKED, [b"Connection: Upgrade", b"Upgrade: "], "not offered"),
    ],
)
def test_any_other_switch_is_refused(
    asked: list[bytes], answered: list[bytes], complaint: str
) -> None:
    with pytest.raises(BadResponse, match=complaint):
        check_switch(get(*asked), answer(*answered, start=b"HTTP/1.1 101 Switching"))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], None),
        ([b"Content-Length: 5"], None),
        (ASKED, None),
        ([*ASKED, b"Content-Length: 5"], CloseReason.UPGRADE_DECLINED),
        ([*ASKED, b"Transfer-Encoding: chunked"], CloseReason.UPGRADE_DECLINED),
    ],
)
def test_a_link_serves_no_more_after_an_upgrade_with_a_body(
    lines: list[bytes], reason: CloseReason | None
) -> None:
    assert declined(get(*lines)) is reason


def test_a_101_to_half_a_request_is_refused() -> None:
    check_sent(True)
    with pytest.raises(BadResponse, match="was not taken"):
        check_sent(False)


def test_a_101_alone_switches() -> None:
    assert switches(answer(*ASKED, start=b"HTTP/1.1 101 Switching"))
    assert not switches(answer(b"Content-Length: 0"))
    assert not switches(None)
