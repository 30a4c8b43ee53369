"""How many connections each client address has, in all workers together."""

import contextlib
import logging
import socket
import time
from hashlib import blake2b

from hopproxy.errors import HopError
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.answer import answer_to
from hopproxy.server.board import Board
from hopproxy.server.entrance import Entrance
from hopproxy.wire.http1 import write_response

log = logging.getLogger("hopproxy")

#: Bytes to read of a request that is refused unread.
GLANCE = 65536
#: Seconds between two messages about refused connections.
QUIET = 60.0


class TooMany(HopError):
    """The client's address has `max_connections_per_address` connections already."""

    status = 503
    cause = "connection_limit_reached"
    reason = CloseReason.ADDRESS_LIMIT
    at = Hop.CLIENT


class Addresses:
    """The counts of this worker, and through the board those of the others."""

    def __init__(self, board: Board | None) -> None:
        self._board = board
        self._own: dict[str, int] = {}

    def enter(self, address: str, most: int) -> bool:
        """Count one more connection; False if the address would have more than `most`."""
        own = self._own[address] = self._own.get(address, 0) + 1
        others = 0
        if self._board is not None:
            name = self._name(address, self._board)
            self._board.publish(name, own)
            others = self._board.published(name)
        if own + others > most:
            self.leave(address)
            return False
        return True

    def leave(self, address: str) -> None:
        """A connection of this address has ended."""
        left = self._own.pop(address) - 1
        if left:
            self._own[address] = left
        if self._board is not None:
            self._board.publish(self._name(address, self._board), left)

    @staticmethod
    def _name(address: str, board: Board) -> int:
        digest = blake2b(address.encode(), digest_size=6, key=board.secret).digest()
        return int.from_bytes(digest, "little") or 1


class Refusals:
    """Logs refused connections, once a minute."""

    def __init__(self) -> None:
        self._count = 0
        self._told_at = -QUIET

    def note(self, network: str) -> None:
        """A connection of this client was refused."""
        self._count += 1
        now = time.monotonic()
        if now - self._told_at >= QUIET:
            self._told_at = now
            message = "client.max_connections_per_address: %d refused so far, the last one of %s"
            log.warning(message, self._count, network)


def turn_away(sock: socket.socket, entrance: Entrance, pseudonym: bytes) -> None:
    """Answer 503 and close, without reading a request.  Over TLS it only closes."""
    if entrance.direct:
        error = TooMany("this address has too many connections")
        head, body = answer_to(error, pseudonym)
        answer = write_response(head, b"Connection: close\r\n") + body
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.recv(GLANCE)  # unread bytes would make the close a reset
        with contextlib.suppress(OSError):
            sock.send(answer)
    sock.close()
