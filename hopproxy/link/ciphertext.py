"""The ciphertext of one TLS connection, between the kernel and OpenSSL.

OpenSSL never sees the socket.  What arrives is written into one memory BIO, and what OpenSSL wants
to send is read from the other.  So a record needs no system call of its own, and we can watch the
socket.
"""

import contextlib
import socket
import ssl
from typing import Any

from hopproxy.link.openssl import shrinking

#: The largest record on the wire.  A memory BIO only grows, so it gets no more than this.
RECORD = 5 + 16384 + 256
#: Most ciphertext that may wait to be sent, such as answers to KeyUpdates.
MOST_OWED = 128 * 1024


class Ciphertext:
    """Both BIOs, and what is on its way to them and from them."""

    # No bound methods are kept: they would be a hundredth of an idle link's memory.
    __slots__ = ("_in", "_inner", "_out", "_owing", "_rest", "_sock", "_vain")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest: memoryview | None = None  # received, and not yet in the BIO
        self._owing: memoryview | None = None  # ciphertext that the kernel has not taken
        self._inner: Any = None  # what an SSLObject wraps, called once for each record
        self._vain = 0  # bytes put into the BIO since data came out last

    def _bios(self) -> tuple[ssl.MemoryBIO, ssl.MemoryBIO]:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        return self._in, self._out

    def shed(self) -> None:
        """As in `Endpoint`: the BIOs never shrink by themselves."""
        if self._inner is not None and self._out.pending:  # a ticket, without a response till now
            with contextlib.suppress(OSError):  # a broken connection shows at the next receive
                self._pass_on()
        buffers = shrinking()
        if buffers is not None and self._inner is not None:
            buffers.shrink(self._in)
            buffers.shrink(self._out)

    @property
    def owes(self) -> bool:
        """Whether ciphertext waits until the kernel takes more."""
        return self._owing is not None

    def _feed(self, raw: bytes | memoryview) -> None:
        """Put a part of what was received into the BIO; the rest follows when that was read."""
        size = len(raw)
        if size <= RECORD:
            self._in.write(raw)
            self._rest = None
            self._vain += size
        else:
            view = memoryview(raw)
            self._in.write(view[:RECORD])
            self._rest = view[RECORD:]
            self._vain += RECORD

    def _push(self) -> bool:
        """Send what is owed; True if nothing is left."""
        owing = self._owing
        assert owing is not None
        try:
            sent = self._sock.send(owing)
        except BlockingIOError:
            return False
        self._owing = owing[sent:] if sent < len(owing) else None
        return self._owing is None

    def _pass_on(self) -> None:
        """Send what is owed, and OpenSSL's own records."""
        out = self._out.read()
        if out:
            if self._owing is None:
                try:
                    sent = self._sock.send(out)
                except BlockingIOError:
                    sent = 0
                if sent == len(out):  # nearly always
                    return
                self._owing = memoryview(out)[sent:]
            else:
                self._owing = memoryview(bytes(self._owing) + out)
                self._push()
            if self._owing is not None and len(self._owing) > MOST_OWED:
                raise ConnectionAbortedError("the peer reads nothing, but makes us answer")
        elif self._owing is not None:
            self._push()
