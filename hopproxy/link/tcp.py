"""TCP options, and what the kernel knows about a TCP connection.

On systems other than Linux, and on Unix sockets, the answers are zeros.
"""

import array
import contextlib
import socket
import struct
import sys
from functools import lru_cache

#: The kernel's maximum for TCP_KEEPIDLE (seconds) and TCP_USER_TIMEOUT (milliseconds).
_MOST_KEEPALIVE, _MOST_MILLISECONDS = 32767, 2**31 - 1
_INFO = getattr(socket, "TCP_INFO", None)
#: Offsets into `struct tcp_info` (linux/tcp.h), unchanged since Linux 2.6.
_REPEATS, _UNACKED, _RTT, _INFO_SIZE = 2, 24, 68, 104
_SOCKET = socket.SOL_SOCKET
#: SO_ATTACH_FILTER (asm-generic/socket.h), and a program for it (linux/filter.h): load the flags of
#: the TCP header, keep SYN and ACK, drop the packet if it is SYN alone.
_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
)  # fmt: skip
_IP = (socket.AF_INET, socket.AF_INET6)
#: The family as a number: `sock.family` makes an Enum of it, which takes half a microsecond.
_family = socket.SocketType.family.__get__


def tune(
    sock: socket.socket, *, nodelay: bool, keepalive: float, user_timeout: float = 0.0
) -> None:
    """Set TCP_NODELAY, TCP keep-alive (first probe after `keepalive` seconds, 0: none), and how
    long sent data may stay unacknowledged (`user_timeout` seconds, 0: the system's default).

    By default the kernel retransmits for a quarter of an hour (RFC 5482).  The limit also applies
    to a peer that keeps its window closed.
    """
    if _family(sock) not in _IP:
        return
    with contextlib.suppress(OSError):  # already closed: the first read will show it
        for level, option, value in _options(nodelay, keepalive, user_timeout):
            sock.setsockopt(level, option, value)


@lru_cache(256)
def _options(
    nodelay: bool, keepalive: float, user_timeout: float
) -> tuple[tuple[int, int, int], ...]:
    tcp = socket.IPPROTO_TCP
    # Urgent data stays in the stream, in its place (SO_OOBINLINE).
    options = [(tcp, socket.TCP_NODELAY, int(nodelay)), (_SOCKET, socket.SO_OOBINLINE, 1)]
    if keepalive:
        options.append((_SOCKET, socket.SO_KEEPALIVE, 1))
        if hasattr(socket, "TCP_KEEPIDLE"):
            idle = min(max(1, int(keepalive)), _MOST_KEEPALIVE)
            options += [(tcp, socket.TCP_KEEPIDLE, idle)]
            options += [(tcp, socket.TCP_KEEPINTVL, max(1, idle // 4))]
    if user_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = min(max(1, int(user_timeout * 1000)), _MOST_MILLISECONDS)
        options.append((tcp, socket.TCP_USER_TIMEOUT, milliseconds))
    return tuple((int(level), option, value) for level, option, value in options)


def local_port(sock: socket.socket) -> int:
    """Our port, to find the connection in `ss` or in a packet capture; 0: none."""
    if _family(sock) not in _IP:
        return 0
    with contextlib.suppress(OSError):
        return int(sock.getsockname()[1])
    return 0


def ignore_newcomers(listener: socket.socket) -> None:
    """Drop the first packet (SYN) of every new connection, until the listener is closed.

    Otherwise a connection made between the last `accept` and the close would be reset.  The client
    tries again a second later, and is refused then.  Connections in the queue are not affected.
    Linux only; elsewhere, and where a filter is forbidden, nothing changes.
    """
    if sys.platform != "linux" or _family(listener) not in _IP:
        return
    program = array.array("B", b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    address, _ = program.buffer_info()
    with contextlib.suppress(OSError):
        listener.setsockopt(_SOCKET, _ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), address))


def round_trip(sock: socket.socket) -> float:
    """The smoothed round trip time in seconds."""
    return _field(sock, _RTT) / 1e6


def unacknowledged(fd: int) -> int:
    """Segments not yet acknowledged: more than 0 after a while means that the peer is gone."""
    with contextlib.suppress(OSError), _socket_of(fd) as sock:
        return _field(sock, _UNACKED)
    return 0


def repeats(fd: int) -> int:
    """How often in a row the oldest segment was sent again without an ACK."""
    with contextlib.suppress(OSError), _socket_of(fd) as sock:
        return _info(sock)[_REPEATS]
    return 0


def _socket_of(fd: int) -> socket.socket:
    return socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM)


def _field(sock: socket.socket, offset: int) -> int:
    (value,) = struct.unpack_from("=I", _info(sock), offset)
    return int(value)


def _info(sock: socket.socket) -> bytes:
    """The beginning of `struct tcp_info`, zeros where the kernel has no value."""
    raw = b""
    if _INFO is not None:
        with contextlib.suppress(OSError):
            raw = sock.getsockopt(socket.IPPROTO_TCP, _INFO, _INFO_SIZE)
    return raw.ljust(_INFO_SIZE, b"\0")
