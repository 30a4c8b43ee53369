"""The head of a request for an HTTP/2 origin, as a field block (RFC 9113 section 8.3.1).

It is made from the head that an HTTP/1.1 origin would get, so both mean the same.
"""

from hopproxy.wire.hpack_encoder import encode_field, encode_lines

#: Bounds of the cache of blocks: how many, and the bytes of each head.
MEMO_HEADS = 512
MEMO_HEAD_SIZE = 4096

#: About the connection and the framing of HTTP/1.1 (section 8.2.2); Host becomes `:authority`.
_LEFT_OUT = frozenset(
    {
        b"host",
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)


_NOT_ASKED = (b"sec-websocket-key:", b"content-length:")


def request_block(written: bytes, scheme: bytes) -> bytes:
    """The field block that means the same as `written`, the head of an HTTP/1.1 request.

    `scheme` is that of the origin, http or https.
    """
    memo = _blocks.get(written)
    if memo is not None and memo[0] == scheme:
        return memo[1]
    block = _block(written, scheme)
    if len(written) <= MEMO_HEAD_SIZE:
        if len(_blocks) >= MEMO_HEADS:
            _blocks.clear()
        _blocks[written] = scheme, block
    return block


_blocks: dict[bytes, tuple[bytes, bytes]] = {}


def websocket_block(written: bytes, scheme: bytes) -> bytes:
    """The extended CONNECT that means the same as `written`, the head of a WebSocket's handshake.

    HTTP/2 needs no key, and what follows is not content (RFC 8441 section 5).
    """
    start, *lines = written.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(_NOT_ASKED)]
    return encode_field(b":protocol", b"websocket") + _fields(b"CONNECT", start, kept, scheme)


def _block(written: bytes, scheme: bytes) -> bytes:
    start, *lines = written.removesuffix(b"\r\n\r\n").split(b"\r\n")
    return _fields(start.split(b" ")[0], start, lines, scheme)


def _fields(method: bytes, start: bytes, lines: list[bytes], scheme: bytes) -> bytes:
    _, target, _ = start.split(b" ")
    authority = b""
    kept = []
    for line in lines:
        name, _, value = line.partition(b": ")
        name = name.lower()
        if name == b"host":
            authority = value
        elif name not in _LEFT_OUT:
            kept.append(line)
    pseudo = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    if authority:
        pseudo.insert(2, (b":authority", authority))
    return b"".join([encode_field(*pair) for pair in pseudo]) + encode_lines(kept)
