"""What the kernel knows of a TCP connection, and when it gives one up.

Elsewhere than on Linux, and on Unix sockets, nothing is known: zeros.
"""

import contextlib
import socket
import struct

#: What the kernel takes at most: seconds of TCP_KEEPIDLE, milliseconds of TCP_USER_TIMEOUT.
_MOST_KEEPALIVE, _MOST_MILLISECONDS = 32767, 2**31 - 1
_ANY = socket.AF_INET  # of no consequence where options of TCP are asked
_INFO = getattr(socket, "TCP_INFO", None)
#: Offsets into `struct tcp_info` (linux/tcp.h): both fields stand where they stood since 2.6.
_UNACKED, _RTT, _INFO_SIZE = 24, 68, 104


def tune(sock: socket.socket, *, nodelay: bool, keepalive: float) -> None:
    """Set TCP_NODELAY and TCP keep-alive (first probe after `keepalive` seconds, 0: none)."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # it may be gone already: the first read will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        # Urgent data is read in its turn, as the byte that it is.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        if keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                idle = min(max(1, int(keepalive)), _MOST_KEEPALIVE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 4))


def break_after(sock: socket.socket, seconds: float) -> None:
    """Break the connection once data has been unacknowledged for so long; 0: as the system does.

    The kernel alone would try again for a quarter of an hour (RFC 5482).  A peer that announces no
    window for so long counts as well.
    """
    if not seconds or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # it may be gone already: the first read will tell
            milliseconds = min(max(1, int(seconds * 1000)), _MOST_MILLISECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def local_port(sock: socket.socket) -> int:
    """Our own port, by which a person finds the connection in `ss` or in a capture; 0: none."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    with contextlib.suppress(OSError):
        return int(sock.getsockname()[1])
    return 0


def round_trip(sock: socket.socket) -> float:
    """The smoothed round trip time in seconds."""
    return _field(sock, _RTT) / 1e6


def unacknowledged(fd: int) -> int:
    """Segments sent and not acknowledged: more than 0 after a while means that nobody is there."""
    with (
        contextlib.suppress(OSError),
        socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as sock,
    ):
        return _field(sock, _UNACKED)
    return 0


def _field(sock: socket.socket, offset: int) -> int:
    if _INFO is None:
        return 0
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, _INFO, _INFO_SIZE)
    except OSError:
        return 0
    if len(raw) < offset + 4:
        return 0
    (value,) = struct.unpack_from("=I", raw, offset)
    return int(value)
