"""TLS towards origins: trust, our own certificate, and session resumption."""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hopproxy.errors import HopError, LinkError, TlsFailed
from hopproxy.link.freed_memory import keep_freed_memory
from hopproxy.link.handshake import Handshakes, TlsTransport
from hopproxy.link.openssl import prefer_aes_128
from hopproxy.link.own_copy import own_copy
from hopproxy.link.stepper import Stepper
from hopproxy.link.tls import Tls
from hopproxy.link.watch import Watch
from hopproxy.pool.distrust import NO_CERTIFICATE, Seen, Why, alert_in, why
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.units import OriginAddress


class Trust:
    """The certificates for one upstream: those that we trust, and our own.

    `protocols` are offered by ALPN.  `mark` changes when one of the files does.  Raises OSError if
    a file cannot be used.
    """

    __slots__ = ("context", "mark", "settings")

    def __init__(self, settings: OriginTls, protocols: tuple[str, ...]) -> None:
        self.settings = settings
        self.mark = mark_of(settings)
        made = self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        made.hostname_checks_common_name = False
        prefer_aes_128(made)
        keep_freed_memory()
        made.set_alpn_protocols(list(protocols))
        if not settings.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        elif settings.ca is None:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            # Every certificate in this file is trusted, even if it is not a root.
            made.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
            made.load_verify_locations(settings.ca)
        if settings.cert is not None:
            made.load_cert_chain(settings.cert, settings.key)
            made.post_handshake_auth = True


def mark_of(settings: OriginTls) -> tuple[bytes, ...]:
    """The current content of the files in these settings.  Raises OSError."""
    files = (settings.ca, settings.cert, settings.key)
    return tuple(hashlib.sha256(Path(one).read_bytes()).digest() for one in files if one)


class Secured:
    """TLS with one origin.

    `full` and `resumed` count the handshakes that succeeded, `failed` the others by their cause.
    `version`, `cipher` and `alpn` are those of the last one.
    """

    __slots__ = (
        "alpn", "cipher", "failed", "full", "handshakes", "label", "name", "resumed",
        "session", "trust", "version",
    )  # fmt: skip

    def __init__(self, address: OriginAddress, trust: Trust, handshakes: Handshakes) -> None:
        self.label = str(address)
        self.name = trust.settings.server_name or address.server_name
        self.trust = trust
        self.handshakes = handshakes
        self.full = self.resumed = 0
        self.failed: dict[str, int] = {}
        self.version = self.cipher = self.alpn = ""
        self.session: ssl.SSLSession | None = None

    def renew(self, trust: Trust) -> None:
        """Use other certificates for new connections.  Their first handshake is a full one."""
        self.trust = trust
        self.session = None

    def transport(self, sock: socket.socket, watch: Watch) -> OriginTransport:
        """A transport on a connected socket; its handshake follows.  Raises OSError."""
        tls = Tls(sock, self.trust.context, server_side=False, name=self.name, session=self.session)
        return OriginTransport(tls, watch, self)

    def established(self, tls: ssl.SSLObject) -> None:
        """A handshake has succeeded."""
        if tls.session_reused:
            self.resumed += 1
        else:
            self.full += 1
        self.version = tls.version() or ""
        cipher = tls.cipher()
        self.cipher = cipher[0] if cipher is not None else ""
        self.alpn = tls.selected_alpn_protocol() or ""

    def keep_session(self, transport: OriginTransport) -> None:
        """The first response has arrived, and tickets too: keep the session of a full handshake.

        It is resumed until the origin refuses it.  OpenSSL copies a session each time it is read,
        which costs as much as three requests.
        """
        tls = transport.within.tls
        if tls is None or tls.session_reused or tls.context is not self.trust.context:
            return
        session = tls.session
        if session is not None and (session.has_ticket or session.id):
            self.session = session

    def refused(self, error: Exception, transport: OriginTransport) -> HopError:
        """Count a handshake that failed, and say why."""
        found = self._why(error, transport.within.tls)
        self.failed[found.cause] = self.failed.get(found.cause, 0) + 1
        failure = TlsFailed(f"TLS with {self.label} failed: {found.what}", 502, found.cause)
        if found.cause == "connection_timeout":
            failure.status, failure.limit = 504, "connect_timeout"
        return failure

    def _why(self, error: Exception, tls: ssl.SSLObject | None) -> Why:
        if isinstance(error, LinkError):
            return Why("connection_timeout", "the handshake did not end in time")
        if isinstance(error, ssl.SSLCertVerificationError):
            chain = _chain_of(tls)
            seen = Seen(self.name, "VERIFY", "", error.verify_code, error.verify_message, chain)
        elif isinstance(error, ssl.SSLEOFError | ConnectionError):
            spoke = tls is not None and tls.version() == "TLSv1.3" and tls.cipher() is not None
            seen = Seen(self.name, broke="it closed the connection", spoke=spoke)
        elif isinstance(error, ssl.SSLError):
            seen = Seen(self.name, error.reason or str(error))
        else:
            broke = getattr(error, "strerror", None) or str(error)
            seen = Seen(self.name, broke=f"the connection broke ({broke})")
        return why(seen, time.time())


class OriginTransport(TlsTransport):
    """A transport to an origin.  `alerted` once an alert of the origin has ended it.

    `within` is its TLS.
    """

    __slots__ = ("alerted", "secured", "within")

    def __init__(self, tls: Tls, watch: Watch, secured: Secured) -> None:
        super().__init__(tls, watch, Hop.UPSTREAM)
        self.secured = secured
        self.alerted = False
        self.within = tls

    @property
    def alpn(self) -> str:
        """The protocol that the origin has chosen, "" if none."""
        tls = self.within.tls
        return (tls.selected_alpn_protocol() or "") if tls is not None else ""

    on_ready = own_copy(TlsTransport.on_ready)
    receive_now = own_copy(TlsTransport.receive_now)
    send_now = own_copy(TlsTransport.send_now)
    rest_until = own_copy(TlsTransport.rest_until)
    wait_until = own_copy(TlsTransport.wait_until)

    async def secure(self, handshakes: Handshakes, deadline: float) -> HopError | None:
        """The handshake.  Waits.  Returns the error if it fails."""
        try:
            await self.shake(handshakes, deadline, CloseReason.NEVER_OPENED)
        except (LinkError, OSError, ValueError) as error:
            return self.secured.refused(error, self)
        assert self.within.tls is not None
        self.secured.established(self.within.tls)
        return None

    def broken(self, error: Exception) -> LinkError:
        """As in `Transport`.  In TLS 1.3 an origin refuses our certificate after the handshake."""
        failure = super().broken(error)
        reason = getattr(error, "reason", None)
        if isinstance(error, ConnectionError) and self._unaccepted:
            failure.detail += f"; {NO_CERTIFICATE}"
        if isinstance(error, ssl.SSLError) and reason:
            found = why(Seen(self.secured.name, reason), time.time())
            failure.detail = f"TLS with {self.secured.label} failed: {found.what}"
            failure.cause = found.cause
            if alert_in(reason) and not self.alerted:
                self.alerted = True
                failed = self.secured.failed
                failed[found.cause] = failed.get(found.cause, 0) + 1
        return failure

    @property
    def _unaccepted(self) -> bool:
        """Whether a full handshake of TLS 1.3 was all that came: no ticket followed."""
        tls = self.within.tls
        if self.received or tls is None or tls.version() != "TLSv1.3" or tls.session_reused:
            return False
        return tls.session is not None and not tls.session.has_ticket


class Shaking(Stepper):
    """The handshake of one new connection to an origin."""

    __slots__ = ("_done", "_transport")

    def __init__(self, transport: OriginTransport) -> None:
        super().__init__()
        self._transport = transport
        self._done: Callable[[Exception | None], None] | None = None

    def start(
        self,
        handshakes: Handshakes,
        deadline: float,
        done: Callable[[Exception | None], None],
    ) -> None:
        """Begin.  `done` is called once, with the error, None if there is none, unless called off.

        After an error the connection is closed.
        """
        self._done = done
        self.begin(self._transport.secure(handshakes, deadline))

    def on_end(self, result: object) -> None:
        done, self._done = self._done, None
        if result is not None:
            self._transport.close()
        if done is not None:
            done(result if isinstance(result, Exception) else None)

    def on_fault(self, error: Exception) -> None:
        self.on_end(error)

    def call_off(self) -> None:
        """End it, and do not call `done`."""
        self._done = None
        self.close()
        self._transport.close()


def _chain_of(tls: ssl.SSLObject | None) -> tuple[bytes, ...]:
    """The certificates that the peer has sent, in DER, also if they were refused."""
    inner = getattr(tls, "_sslobj", None)
    chain: list[Any] | None = getattr(inner, "get_unverified_chain", list)()
    return tuple(one.public_bytes(2) for one in chain or ())  # 2: DER
