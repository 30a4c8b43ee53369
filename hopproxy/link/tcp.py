"""TCP options, and what the kernel knows about a TCP connection.

On systems other than Linux, and on Unix sockets, the answers are zeros.
"""

import contextlib
import socket
import struct

#: The kernel's maximum for TCP_KEEPIDLE (seconds) and TCP_USER_TIMEOUT (milliseconds).
_MOST_KEEPALIVE, _MOST_MILLISECONDS = 32767, 2**31 - 1
_INFO = getattr(socket, "TCP_INFO", None)
#: Offsets into `struct tcp_info` (linux/tcp.h), unchanged since Linux 2.6.
_UNACKED, _RTT, _INFO_SIZE = 24, 68, 104


def tune(sock: socket.socket, *, nodelay: bool, keepalive: float) -> None:
    """Set TCP_NODELAY and TCP keep-alive (first probe after `keepalive` seconds, 0: none)."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):  # already closed: the first read will show it
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
        # Urgent data stays in the stream, in its place.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        if keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                idle = min(max(1, int(keepalive)), _MOST_KEEPALIVE)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 4))


def break_after(sock: socket.socket, seconds: float) -> None:
    """Break the connection if data stays unacknowledged for `seconds`; 0: the system's default.

    By default the kernel retransmits for a quarter of an hour (RFC 5482).  A peer that keeps its
    window closed for so long counts too.
    """
    if not seconds or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):  # already closed: the first read will show it
            milliseconds = min(max(1, int(seconds * 1000)), _MOST_MILLISECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def local_port(sock: socket.socket) -> int:
    """Our port, to find the connection in `ss` or in a packet capture; 0: none."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    with contextlib.suppress(OSError):
        return int(sock.getsockname()[1])
    return 0


def round_trip(sock: socket.socket) -> float:
    """The smoothed round trip time in seconds."""
    return _field(sock, _RTT) / 1e6


def unacknowledged(fd: int) -> int:
    """Segments not yet acknowledged: more than 0 after a while means that the peer is gone."""
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
