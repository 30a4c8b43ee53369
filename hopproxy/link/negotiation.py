"""The handshake of one TLS connection, without a wait."""

from __future__ import annotations

import contextlib
import socket
import ssl

from hopproxy.link.asked import Asked
from hopproxy.link.ciphertext import Ciphertext
from hopproxy.link.endpoint import RECEIVE_SIZE


class Negotiation(Ciphertext):
    """A socket on which TLS begins.

    `tls` is OpenSSL's object: None before the first `shake`, and None again after
    `forget_handshake` (servers only).  `established` once the handshake has ended.  `inside` if
    there may be more to read without an event.
    """

    __slots__ = (
        "_context", "_name", "_server_side", "_session", "established", "inside", "tls",
    )  # fmt: skip

    _name: str | None
    _session: ssl.SSLSession | None

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        super().__init__(sock)
        self._context, self._server_side = context, server_side
        self.tls: ssl.SSLObject | None = None
        self.established = self.inside = False

    def shake(self, first: bytes = b"") -> bool:
        """Continue the handshake with what has arrived; True once it has ended.

        `first` has been received already, RECEIVE_SIZE bytes at most.  After False wait for the
        next event, and if `owes` for room too.  All bytes at hand have been read, but perhaps not a
        FIN after them.  Raises OSError if the connection breaks, and ssl.SSLError if the handshake
        fails; then the alert has been sent.
        """
        tls, dry = self.tls, self.established
        if tls is None:
            tls = self._begin()
            if not self._server_side:
                self._step(tls)  # our ClientHello
        while not dry:
            raw: bytes | memoryview
            if first:
                raw, first = first, b""
                dry = len(raw) < RECEIVE_SIZE
            elif self._rest is not None:
                raw = self._rest
            else:
                try:
                    raw = self._sock.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    break
                dry = len(raw) < RECEIVE_SIZE
            if not raw:
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer left during the handshake")
            if isinstance(tls, Asked):
                tls.note(raw)
            self._feed(raw)
            dry = dry and self._rest is None
            if self._step(tls):
                self.established = True
                self.inside = not dry or self._in.pending > 0  # it came with the last flight
                self._vain = 0
                return True
        if self._owing is not None:
            self._push()
        return self.established

    def _step(self, tls: ssl.SSLObject) -> bool:
        """Continue with what is in the BIO; True once the handshake has ended."""
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._pass_on()
            return False
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._pass_on()
            raise
        # In TLS 1.3 all that a server still has to send is a session ticket.  It leaves together
        # with the first response; without one, when the link has been quiet for a while (`shed`).
        if not self._server_side or tls.version() != "TLSv1.3":
            self._pass_on()
        return True

    def forget_handshake(self) -> None:
        """After the handshake, once nobody needs `tls` any more: free it."""
        if self.tls is not self._inner:
            self.tls = None
            # `_inner` keeps a weak reference to its owner, which would outlive it.  A weak
            # reference to a class exists only once, for all links.
            self._inner.owner = Negotiation

    def _begin(self) -> ssl.SSLObject:
        tls = self.tls = self._context.wrap_bio(
            *self._bios(),
            server_side=self._server_side,
            server_hostname=self._name,
            session=self._session,
        )
        self._session = None
        self._inner = getattr(tls, "_sslobj", tls)
        return tls
