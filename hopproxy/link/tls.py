"""TLS on a socket, for both hops: an endpoint whose channel carries plaintext.

OpenSSL never sees the socket.  What arrives is written into one memory BIO, what OpenSSL wants to
send is read from the other.  So a record costs no system call of its own, and the socket stays ours
to watch.

Output is *owed* until the kernel has taken all of the ciphertext of a piece.  Only then its
plaintext counts as sent; the caller comes back with the same bytes, which are not encrypted again.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Self

from hopproxy.link.asked import Asked
from hopproxy.link.endpoint import RECEIVE_SIZE, Plain

#: The largest record on the wire.  A memory BIO never shrinks, so it gets no more than this.
RECORD = 5 + 16384 + 256
#: Plaintext that is encrypted before it is sent.
PIECE = 65536
#: Most ciphertext that may be owed in all, such as answers to KeyUpdates that nobody reads.
MOST_OWED = 4 * PIECE


class Tls:
    """A connected stream socket with TLS on it; its own channel.  See `Endpoint` for the methods.

    Nothing is received or sent until `shake` has returned True.  `tls` is the connection as OpenSSL
    sees it, None before the first `shake`.  `established` once the handshake has ended.  `ended`
    once the stream has; `notified` if the peer said so (close_notify), `cut` if it only sent FIN:
    then whatever is delimited by the close is incomplete.
    """

    __slots__ = (
        "_context", "_fate", "_in", "_inside", "_name", "_out", "_owed", "_owing", "_plain",
        "_read", "_receive", "_rest", "_send", "_server_side", "_session", "_socket", "_told",
        "_write", "cut", "ended", "established", "fd", "notified", "tls",
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
        """`name` and `session` are for our side as a client: whom to expect, what to resume."""
        self._socket = Plain(sock)
        self.fd = self._socket.fd
        self._receive, self._send = sock.recv, sock.send
        self._context, self._server_side = context, server_side
        self._name, self._session = name, session
        self.tls = None
        self.established = self.ended = self.notified = self.cut = False
        self._rest: memoryview | None = None  # received, and not yet in the BIO
        self._inside = False  # records or plaintext may be left inside
        self._plain = b""  # decrypted to look at it
        self._fate: OSError | None = None  # raised once, after all that came before it
        self._owing: memoryview | None = None  # ciphertext that the kernel has not taken
        self._owed = 0  # the plaintext behind it
        self._told = False  # we have sent close_notify

    @property
    def channel(self) -> Self:
        """The endpoint itself: it carries the plaintext."""
        return self

    # -- the handshake -----------------------------------------------------------------------

    def shake(self) -> bool:
        """Take the handshake as far as what has arrived allows; True once it has ended.

        After False wait for the next event, also for room if `owes`; all that had arrived has been
        read.  Raises OSError if the connection breaks, among them ssl.SSLError if the handshake
        fails; the alert has been sent then.
        """
        tls = self.tls or self._begin()
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._pass_on()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._pass_on()
                raise
            else:
                self._pass_on()
                self.established = self._inside = True  # data may have come with the last flight
                return True
            try:
                raw = self._rest or self._receive(RECEIVE_SIZE)
            except BlockingIOError:
                return False
            if not raw:
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the peer left during the handshake")
            if isinstance(tls, Asked):
                tls.note(raw)
            self._feed(raw)

    def _begin(self) -> ssl.SSLObject:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.tls = self._context.wrap_bio(
            self._in,
            self._out,
            server_side=self._server_side,
            server_hostname=self._name,
            session=self._session,
        )
        self._session = None
        self._read, self._write = tls.read, tls.write
        return tls

    @property
    def owes(self) -> bool:
        """Whether ciphertext waits until the kernel takes more."""
        return self._owing is not None

    # -- in ----------------------------------------------------------------------------------

    def recv(self, size: int, /) -> bytes:
        if self._inside:
            return self._collect(size, dry=False)
        if self.ended:
            return self._end()
        if not self.established:
            raise BlockingIOError
        raw = self._receive(RECEIVE_SIZE)
        if not raw:
            self.ended, self.cut = True, not self.notified
            return b""
        self._feed(raw)
        return self._collect(size, dry=len(raw) < RECEIVE_SIZE)

    def _feed(self, raw: bytes | memoryview) -> None:
        """Put a part of what was received into the BIO; the rest follows once that is read."""
        if len(raw) <= RECORD:
            self._in.write(raw)
            self._rest = None
        else:
            view = memoryview(raw)
            self._in.write(view[:RECORD])
            self._rest = view[RECORD:]

    def _collect(self, size: int, *, dry: bool) -> bytes:
        """Up to `size` bytes of what is inside and, unless `dry`, of what the socket has."""
        self._inside = False
        parts = []
        if self._plain:
            parts, self._plain = [self._plain[:size]], self._plain[size:]
            size -= len(parts[0])
        while size:
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
            else:  # also if what came carried no data: the end may be right behind it
                try:
                    raw = self._receive(RECEIVE_SIZE)
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
        else:
            self._inside = True
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        if self.ended:
            return self._end()
        raise BlockingIOError

    def _next(self, size: int) -> bytes:
        """The plaintext of the next record inside; b"" if there is none, or if that is the end."""
        try:
            data = self._read(size)
        except ssl.SSLWantReadError:
            if self._out.pending:  # an answer to a KeyUpdate, a refused renegotiation
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
        if not data:
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
        """As in `Endpoint`.  Only as a client we look into a record: tickets reach idle links."""
        if self._plain or self.ended:
            return True
        some = self._inside or self._socket.has_input()
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
            self._plain, self._inside = data, True
        return True

    def peek(self) -> bytes:
        if not self._plain:
            self._plain = self.recv(1)
            self._inside = bool(self._plain)
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
        while taken < size:
            whole = not taken and size <= PIECE
            piece = data if whole else memoryview(data)[taken : taken + PIECE]
            self._write(piece)
            out = self._out.read()
            try:
                sent = self._send(out)
            except BlockingIOError:
                sent = 0
            if sent < len(out):
                self._owing, self._owed = memoryview(out)[sent:], len(piece)
                break
            taken += len(piece)
        return taken

    def _push(self) -> bool:
        """Send what is owed; True once nothing is."""
        owing = self._owing
        assert owing is not None
        try:
            sent = self._send(owing)
        except BlockingIOError:
            return False
        self._owing = owing[sent:] if sent < len(owing) else None
        return self._owing is None

    def _pass_on(self) -> None:
        """Send what OpenSSL has to say by itself, and what is owed."""
        out = self._out.read()
        if out:
            self._owing = memoryview(out if self._owing is None else bytes(self._owing) + out)
            if len(self._owing) > MOST_OWED:
                raise ConnectionAbortedError("the peer reads nothing, and makes us answer")
        if self._owing is not None:
            self._push()

    def is_taken_up(self) -> bool:
        return self._socket.is_taken_up()

    def acknowledge(self) -> None:
        self._socket.acknowledge()

    # -- ending ------------------------------------------------------------------------------

    def _say_goodbye(self) -> None:
        """Send close_notify, after all that was sent; not if something is still owed."""
        if self._told or not self.established or self._owing is not None:
            return
        self._told = True
        with contextlib.suppress(OSError):  # WantRead among them: the peer has not said it yet
            assert self.tls is not None
            self.tls.unwrap()
        with contextlib.suppress(OSError):
            self._pass_on()

    def shut_down(self) -> None:
        """Send close_notify and FIN."""
        self._say_goodbye()
        self._socket.shut_down()

    def close(self, *, reset: bool) -> None:
        """Close the socket: after close_notify, or with RST and without it."""
        if not reset:
            self._say_goodbye()
        self._socket.close(reset=reset)
        self.fd = -1
