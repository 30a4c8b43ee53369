"""Opening a connection to an origin: every address it has, within one bound."""

import errno
import os
import socket

import trio

from hopproxy.errors import ConnectFailed
from hopproxy.settings.units import OriginAddress

_CAUSES = {
    errno.ECONNREFUSED: "connection_refused",
    errno.EHOSTUNREACH: "destination_ip_unroutable",
    errno.ENETUNREACH: "destination_ip_unroutable",
    errno.ETIMEDOUT: "connection_timeout",
}


#: Seconds between two looks at the full backlog of a Unix socket.
BACKLOG_PAUSE = 0.01


async def dial(address: OriginAddress, timeout: float) -> socket.socket:
    """A connected, non-blocking socket.

    `timeout` seconds bound name resolution and all attempts together.  Raises ConnectFailed: 504
    when the time ran out, 502 else.  Cancelled, it leaves no socket behind.
    """
    with trio.move_on_after(timeout):
        failure: ConnectFailed | None = None
        for family, target in await _resolve(address):
            try:
                return await _connect(family, target)
            except OSError as error:
                failure = failure or _failed(address, error)
        raise failure or ConnectFailed(f"{address} has no address", 502, "dns_error")
    raise ConnectFailed(f"{address} did not accept a connection in time", 504, "connection_timeout")


def _failed(address: OriginAddress, error: OSError) -> ConnectFailed:
    text = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ConnectFailed(
            f"no file descriptor left to connect to {address}", 503, "proxy_internal_error"
        )
    cause = _CAUSES.get(error.errno or 0, "destination_unavailable")
    return ConnectFailed(f"{address} cannot be reached: {text}", 502, cause)


async def _resolve(
    address: OriginAddress,
) -> list[tuple[socket.AddressFamily, tuple[str, int] | str]]:
    if address.path:
        return [(socket.AF_UNIX, address.path)]
    numeric = _numeric(address.host)
    if numeric is not None:
        return [(numeric, (address.host, address.port))]
    if address.host == "localhost":
        # Servers listen on one of the two or on both (RFC 6761 section 6.3: never ask a resolver).
        return [
            (socket.AF_INET, ("127.0.0.1", address.port)),
            (socket.AF_INET6, ("::1", address.port)),
        ]
    try:
        found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise ConnectFailed(
            f"the name of {address} cannot be resolved: {reason}", 502, "dns_error"
        ) from error
    return [(family, (str(target[0]), int(target[1]))) for family, _, _, _, target in found]


def _numeric(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address, which needs no resolver and no thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family
    return None


async def _connect(family: socket.AddressFamily, target: tuple[str, int] | str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            while not _accepted(sock, target):  # noqa: ASYNC110 - no event tells of room
                await trio.sleep(BACKLOG_PAUSE)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _accepted(sock: socket.socket, target: tuple[str, int] | str) -> bool:
    """Begin to connect; False where a Unix listener has no room for now."""
    try:
        sock.connect(target)
    except BlockingIOError as error:
        if error.errno == errno.EAGAIN and sock.family is socket.AF_UNIX:
            return False
        raise
    return True
