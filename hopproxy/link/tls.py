"""TLS on a socket, for both hops: an endpoint whose channel carries plaintext.

Output is *owed* until the kernel has accepted all of the ciphertext of a piece.  Only then its
plaintext counts as sent.  Until then the caller tries again with the same bytes, which are not
encrypted twice.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Self

from hopproxy.link.asked import Asked
from hopproxy.link.ciphertext import PLAIN, RECORD, Ciphertext
from hopproxy.link.endpoint import RECEIVE_SIZE, Plain

#: Plaintext that is encrypted before it is sent.
PIECE = 65536
#: Most ciphertext in a row without data: tickets, KeyUpdates, and a record that is not complete.
MOST_VAIN = RECORD + 8192


class Tls(Ciphertext):
    """A connected stream socket with TLS on it; its own channel.  See `Endpoint` for the methods.

    Nothing is received or sent until `shake` has returned True.  `tls` is OpenSSL's object, None
    before the first `shake`.  `established` once the handshake has ended.  `inside` if there may be
    more to read without an event.  `ended` once the stream has; `notified` if the peer sent
    close_notify, `cut` if it only sent FIN: then a close-delimited body is incomplete.
    """

    __slots__ = (
        "_context", "_fate", "_name", "_owed", "_plain", "_server_side", "_session",
        "_socket", "_told", "cut", "ended", "established", "fd", "inside", "notified", "tls",
    )  # fmt: skip

    may_be_spliced = False
    tls: ssl.SSLObject | None

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """`name` and `session` are for a client: the name to verify, and the session to resume."""
        super().__init__(sock)
        self._socket = Plain(sock)
        self.fd = self._socket.fd
        self._context, self._server_side = context, server_side
        self._name, self._session = name, session
        self.tls = None
        self.established = self.ended = self.notified = self.cut = self.inside = False
        self._plain = b""  # decrypted by `has_input`
        self._fate: OSError | None = None  # raised once, after all earlier data
        self._owed = 0  # the plaintext behind it
        self._told = False  # we have sent close_notify, or never will

    @property
    def channel(self) -> Self:
        """The endpoint itself: it carries the plaintext."""
        return self

    # -- the handshake -----------------------------------------------------------------------

    def shake(self) -> bool:
        """Continue the handshake with what has arrived; True once it has ended.

        After False wait for the next event, and if `owes` for room too.  All bytes at hand have
        been read, but perhaps not a FIN after them.  Raises OSError if the connection breaks, and
        ssl.SSLError if the handshake fails; then the alert has been sent.
        """
        tls, dry = self.tls, self.established
        if tls is None:
            tls = self._begin()
            if not self._server_side:
                self._step(tls)  # our ClientHello
        while not dry:
            raw: bytes | memoryview
            if self._rest is not None:
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
        self._pass_on()
        return True

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

    # -- in ----------------------------------------------------------------------------------

    def recv(self, size: int, /) -> bytes:
        if self.inside:
            return self._collect(size, None, dry=False)
        if self.ended:
            return self._end()
        if not self.established:
            raise BlockingIOError
        raw = self._sock.recv(RECEIVE_SIZE)
        if not raw:
            self.ended, self.cut = True, not self.notified
            return b""
        count = len(raw)
        if count > RECORD:
            self._feed(raw)
            return self._collect(size, None, dry=count < RECEIVE_SIZE)
        self._in.write(raw)  # as `_feed`
        self._vain += count
        data = self._next(size)
        if 0 < len(data) < size and not self._in.pending:  # nearly always
            return data
        return self._collect(size, data, dry=True)

    def _collect(self, size: int, data: bytes | None, *, dry: bool) -> bytes:
        """Up to `size` bytes of what is inside and, unless `dry`, of what the socket has.

        `data` is what was read of the first record, None if nothing was tried.
        """
        self.inside = False
        parts = []
        if self._plain:
            parts, self._plain = [self._plain[:size]], self._plain[size:]
            size -= len(parts[0])
        while size:
            if data is None:
                data = self._next(size)
            if data:
                parts.append(data)
                size -= len(data)
                if size and dry and not (self._in.pending or self._rest):
                    break
            elif self.ended:
                break
            elif self._rest:
                self._feed(self._rest)
            elif dry and parts:
                break
            else:  # also after records without data: the end may follow directly
                try:
                    raw = self._sock.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._fail(error)
                    break
                if not raw:
                    self.ended, self.cut = True, not self.notified
                    break
                dry = len(raw) < RECEIVE_SIZE
                self._feed(raw)
            data = None
        else:
            self.inside = True
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if self.ended:
            return self._end()
        raise BlockingIOError

    def _next(self, size: int) -> bytes:
        """The plaintext of the next record inside; b"" if there is none, or at the end."""
        try:
            data: bytes = self._inner.read(size)
        except ssl.SSLWantReadError:
            if self._vain > MOST_VAIN:  # each KeyUpdate costs us as much as a request
                self._fail(ConnectionAbortedError("the peer sends records without data"))
            elif self._out.pending:  # an answer to a KeyUpdate, a refused renegotiation
                try:
                    self._pass_on()
                except OSError as error:
                    self._fail(error)
            return b""
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLError as error:
            self._fail(error)
            with contextlib.suppress(OSError):
                self._pass_on()
            return b""
        if data:
            self._vain = 0
        else:
            self.ended = self.notified = True
        return data

    def _fail(self, error: OSError) -> None:
        self.ended = True
        self._fate = error.with_traceback(None)

    def _end(self) -> bytes:
        """The end of the stream, or the error that ended it, once."""
        if self._fate is not None:
            try:
                raise self._fate
            finally:
                self._fate = None  # its traceback refers to this frame
        return b""

    def has_input(self) -> bool:
        """As in `Endpoint`.  A client looks into the record, since tickets arrive on idle links."""
        if self._plain or self.ended:
            return True
        some = self.inside or self._socket.has_input()
        if self._server_side or not some:
            return some
        try:
            data = self.recv(RECORD)
        except BlockingIOError:
            return False
        except OSError as error:
            self._fail(error)
            return True
        if data:
            self._plain, self.inside = data, True
        return True

    def peek(self) -> bytes:
        if not self._plain:
            self._plain = self.recv(1)
            self.inside = bool(self._plain)
        return self._plain[:1]

    # -- out ---------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, /) -> int:
        if not self.established:
            return 0
        taken, size = 0, len(data)
        if self._owing is not None and not self._push():
            return 0
        if self._owed:
            taken = min(self._owed, size)
            self._owed -= taken
        elif 0 < size <= PLAIN:  # nearly always
            self._inner.write(data)
            record = self._out.read()
            try:
                sent = self._sock.send(record)
            except BlockingIOError:
                sent = 0
            if sent == len(record):
                return size
            self._owing, self._owed = memoryview(record)[sent:], size
            return 0
        while taken < size:
            piece = memoryview(data)[taken : taken + PIECE]
            if not self._encrypt_and_send(piece):
                self._owed = len(piece)
                break
            taken += len(piece)
        return taken

    def is_taken_up(self) -> bool:
        return self._socket.is_taken_up()

    def acknowledge(self) -> None:
        self._socket.acknowledge()

    # -- ending ------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Send close_notify, unless something is still owed."""
        if self._told or not self.established or self._owing is not None:
            return
        self._told = True
        with contextlib.suppress(OSError):  # e.g. WantRead: no close_notify of the peer yet
            assert self.tls is not None
            self.tls.unwrap()
        with contextlib.suppress(OSError):
            self._pass_on()

    def shut_down(self) -> None:
        """Send close_notify and FIN."""
        self._say_goodbye()
        self._socket.shut_down()

    def cut_short(self) -> None:
        """Never send close_notify."""
        self._told = True

    def close(self, *, reset: bool) -> None:
        """Close the socket: after close_notify, or with RST and without it."""
        if not reset:
            self._say_goodbye()
        self._socket.close(reset=reset)
        self.fd = -1
