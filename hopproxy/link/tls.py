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

from hopproxy.link.ciphertext import RECORD
from hopproxy.link.endpoint import RECEIVE_SIZE, Plain
from hopproxy.link.negotiation import Negotiation

#: Most plaintext that is encrypted before it is sent, as four records.
PIECE = 65536
#: Most ciphertext in a row without data: tickets, KeyUpdates, and a record that is not complete.
MOST_VAIN = RECORD + 8192


class Tls(Negotiation):
    """A connected stream socket with TLS on it; its own channel.  See `Endpoint` for the methods.

    Nothing is received or sent until `shake` has returned True.  `ended` once the stream has;
    `notified` if the peer sent close_notify, `cut` if it only sent FIN: then a close-delimited body
    is incomplete.
    """

    __slots__ = (
        "_fate", "_last", "_owed", "_plain", "_socket", "_told", "cut", "ended", "fd", "notified",
    )  # fmt: skip

    may_be_spliced = False
    tells_end = True

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
        below: Plain | None = None,
    ) -> None:
        """`name` and `session` are for a client: the name to verify, and the session to resume.

        `below` is the endpoint that the socket has had without TLS.
        """
        super().__init__(sock, context, server_side=server_side)
        self._name, self._session = name, session
        self._socket = below or Plain(sock)
        self.fd = self._socket.fd
        self.ended = self.notified = self.cut = False
        self._plain = b""  # decrypted by `has_input`
        self._fate: OSError | None = None  # raised once, after all earlier data
        self._owed = 0  # the plaintext behind it
        self._last = False  # the next `send` is the last one
        self._told = False  # we have sent close_notify, or never will

    @property
    def channel(self) -> Self:
        """The endpoint itself: it carries the plaintext."""
        return self

    # -- in ----------------------------------------------------------------------------------

    def recv(self, size: int, /) -> bytes:
        if self.inside:
            return self._collect(size, None, dry=False)
        if self.ended:
            return self._end()
        if not self.established:
            raise BlockingIOError
        raw = self._sock.recv(RECEIVE_SIZE)
        count = len(raw)
        if not 0 < count <= RECORD:
            if not raw:
                self.ended, self.cut = True, not self.notified
                return b""
            self._feed(raw)
            return self._collect(size, None, dry=count < RECEIVE_SIZE)
        self._in.write(raw)  # as `_feed`
        try:
            data: bytes = self._inner.read(size)  # as `_next`
        except ssl.SSLError as error:
            self._vain += count
            data = self._without_data(error)
        else:
            if data:
                self._vain = 0
                if len(data) < size and not self._in.pending:  # nearly always
                    return data
            else:
                self.ended = self.notified = True
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
        except ssl.SSLError as error:
            return self._without_data(error)
        if data:
            self._vain = 0
        else:
            self.ended = self.notified = True
        return data

    def _without_data(self, error: ssl.SSLError) -> bytes:
        """What was inside held no data: b"", as it is the result of the read."""
        if isinstance(error, ssl.SSLZeroReturnError):
            self.ended = self.notified = True
        elif not isinstance(error, ssl.SSLWantReadError):
            self._fail(error)
            with contextlib.suppress(OSError):
                self._pass_on()
        elif self._vain > MOST_VAIN:  # each KeyUpdate costs us as much as a request
            self._fail(ConnectionAbortedError("the peer sends records without data"))
        elif self._out.pending:  # an answer to a KeyUpdate, a refused renegotiation
            try:
                self._pass_on()
            except OSError as failure:
                self._fail(failure)
        return b""

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
        if self._owing is not None and not self._push():
            return 0
        left = data
        if self._owed:
            left = memoryview(data)[self._owed :]
            self._owed -= len(data) - len(left)
        while left:
            piece = left if len(left) <= PIECE else memoryview(left)[:PIECE]
            self._inner.write(piece)
            if self._last and piece is left:
                self._end_stream()
            records = self._out.read()
            try:
                sent = self._sock.send(records)
            except BlockingIOError:
                sent = 0
            if sent < len(records):
                self._owing, self._owed = memoryview(records)[sent:], len(piece)
                return len(data) - len(left)
            if piece is left:  # nearly always
                break
            left = memoryview(left)[PIECE:]
        return len(data)

    def is_taken_up(self) -> bool:
        return self._socket.is_taken_up()

    def acknowledge(self) -> None:
        self._socket.acknowledge()

    # -- ending ------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Send close_notify, unless something is still owed."""
        if self._told or not self.established or self._owing is not None:
            return
        self._end_stream()
        with contextlib.suppress(OSError):
            self._pass_on()

    def _end_stream(self) -> None:
        """Have OpenSSL write close_notify."""
        if not self._told:
            self._told = True
            with contextlib.suppress(OSError):  # e.g. WantRead: no close_notify of the peer yet
                self._unwrap()

    def _unwrap(self) -> None:
        if self.tls is not None:
            self.tls.unwrap()
        else:
            self._inner.shutdown()

    def end_with_next(self) -> None:
        """As in `Endpoint`: close_notify goes with the end of them."""
        self._last = True

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
