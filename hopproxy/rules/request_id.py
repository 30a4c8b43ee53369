"""The id of a request: X-Request-ID, and traceparent (W3C Trace Context).

The id of a trusted proxy is passed on; any other is replaced, since it ends up in logs.  If one
field is made from the other, both have the same id.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from hopproxy.message import RequestHead, name_of

X_REQUEST_ID, TRACEPARENT = "x-request-id", "traceparent"

#: Ids of other proxies: UUIDs, ULIDs, Envoy's, AWS's.
_ID = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._:;=/+@-]{0,127}")
#: Versions above 00 may have more parts.
_TRACE = re.compile(
    rb"(?!ff|00.{53}.)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)
_HEX = re.compile(rb"(?!0{32})[0-9a-f]{32}")


class Identity(NamedTuple):
    """The id of a request, the names of fields to remove, and the lines to add."""

    id: bytes
    names: tuple[bytes, ...]
    lines: list[bytes]


def identify(
    head: RequestHead, fields: tuple[str, ...], *, trusted: bool, fresh: Callable[[int], bytes]
) -> Identity:
    """The id of a request.  `fields` are those that we send; `fresh` makes hexadecimal digits."""
    given = _given(head, b"x-request-id", _ID) if trusted else b""
    trace = _given(head, b"traceparent", _TRACE) if trusted else b""
    in_trace = trace.split(b"-")[1] if trace else b""
    bare = given.replace(b"-", b"").lower()
    own = in_trace or (bare if _HEX.fullmatch(bare) else fresh(32))
    found = given or own
    names: list[bytes] = []
    lines: list[bytes] = []
    if X_REQUEST_ID in fields:
        names.append(b"x-request-id")
        lines.append(b"X-Request-ID: " + found)
    if TRACEPARENT in fields:
        names.append(b"traceparent")
        if not trace:
            names.append(b"tracestate")  # it belongs to the trace that is replaced
            trace = b"00-%b-%b-01" % (own, fresh(16))
        lines.append(b"traceparent: " + trace)
    return Identity(found if X_REQUEST_ID in fields else own, tuple(names), lines)


def _given(head: RequestHead, name: bytes, pattern: re.Pattern[bytes]) -> bytes:
    """The only value of this field if it is a valid one, else empty."""
    values = [line[len(name) + 1 :].strip() for line in head.lines if name_of(line) == name]
    return values[0] if len(values) == 1 and pattern.fullmatch(values[0]) else b""
