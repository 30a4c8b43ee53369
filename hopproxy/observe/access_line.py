"""The fields of a line in the JSON access log, and the length of lines of any style."""

from select import PIPE_BUF

import msgspec


class Suffered(msgspec.Struct, gc=False):
    """The upstream link that ended during an exchange, retried or not; `limit` as in `/closes`."""

    owner: str
    reason: str
    age: float
    idle: float
    requests: int
    local_port: int
    limit: float | None
    limit_from: str | None


class Passed(msgspec.Struct, gc=False):
    """A limit that an exchange has exceeded: the setting, and its value in seconds or bytes."""

    limit: str
    value: float


class Line(msgspec.Struct, gc=False):
    """One exchange in the JSON log.

    `time` is when it ended.  Sizes are body bytes.  `first_byte_ms` is null if no response began,
    `upstream_close` is why the upstream link was closed, null if it was kept.  `queue_ms` is how
    long the request waited for a free link, `connect_ms` how long for a new connection.  `passed`
    is the limit that ended it.  `unused` is why a fresh link was opened although there were others.
    `client` is the client's address: named by a trusted proxy, or else the peer's.  `local_port` is
    our port on the upstream link.  Ports are 0 on Unix sockets.  `client_stream` and
    `upstream_stream` are the streams of HTTP/2 links, 0 of others.
    """

    time: str
    client: str
    peer: str
    peer_port: int
    client_link: int
    client_request: int
    method: str
    host: str
    target: str
    status: int
    received: int
    sent: int
    duration_ms: float
    first_byte_ms: float | None
    upstream: str
    origin: str
    upstream_link: int
    local_port: int
    reused: bool
    attempts: int
    cause: str = ""
    detail: str = ""
    upstream_close: str | None = None
    upgraded: bool = False
    unused: str | None = None
    suffered: Suffered | None = None
    passed: Passed | None = None
    failed_origin: str | None = None
    queue_ms: float = 0.0
    connect_ms: float = 0.0
    request_id: str = ""
    client_stream: int = 0
    upstream_stream: int = 0


def whole_lines(lines: bytes, most: int = PIPE_BUF) -> bytes:
    """The lines, those shortened that do not fit in one write to a pipe.

    Of a JSON line the longest values are cut: it is still JSON.
    """
    if max(map(len, lines.splitlines())) < most:
        return lines
    return b"".join([_fitted(line, most) for line in lines.splitlines(keepends=True)])


def _fitted(line: bytes, most: int) -> bytes:
    if len(line) <= most:
        return line
    if not line.startswith(b"{"):
        return line[: most - 4] + b"...\n"
    values = msgspec.json.decode(line)
    for size in (512, 128, 32):
        short = {
            name: f"{value[:size]}..." if isinstance(value, str) and len(value) > size else value
            for name, value in values.items()
        }
        line = msgspec.json.encode(short) + b"\n"
        if len(line) <= most:
            break
    return line
