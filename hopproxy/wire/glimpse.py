"""The parts of a refused head that can be read, for the log."""

import re

_START = re.compile(rb"(?:\r?\n)*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([^ \r\n]*)")
_HOST = re.compile(rb"\n(?i:host)[ \t]*:[ \t]*([^\r\n]{0,255})")


def glimpse(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """(method, target, host) as far as they can be read; else empty."""
    start = _START.match(raw)
    if start is None:
        return b"", b"", b""
    host = _HOST.search(raw, start.end())
    return start[1], start[2], host[1].strip(b" \t") if host is not None else b""
