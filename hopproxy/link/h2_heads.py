"""Responses as field blocks of HTTP/2."""

from hopproxy.message import ResponseHead, name_of
from hopproxy.rules.hop import response_lines
from hopproxy.wire.hpack_encoder import encode_field, encode_lines

_OK = encode_field(b":status", b"200")


def encoded(head: ResponseHead, added: bytes) -> bytes:
    """The field block of a response's head; `added` are whole lines, added by the gateway."""
    memo = head.encoded
    if memo is not None and memo[0] == added:
        return memo[1]
    status = encode_field(b":status", b"%d" % head.status)
    block = status + encode_lines(response_lines(head) + _lines_of(added))
    head.encoded = (added, block)
    return block


def encoded_switch(head: ResponseHead, added: bytes) -> bytes:
    """The answer to an extended CONNECT after the origin's 101 (RFC 8441 section 5)."""
    lines = [line for line in response_lines(head) if name_of(line) != b"sec-websocket-accept"]
    return _OK + encode_lines(lines + _lines_of(added))


def _lines_of(added: bytes) -> list[bytes]:
    return added[:-2].split(b"\r\n") if added else []
