"""The first part of a client connection: whatever comes before its first request.

In this order: a PROXY header, a TLS handshake, and the choice of a protocol, by ALPN or by the
first bytes.  A listener that speaks HTTP/1.1 without TLS has no opening: the preface of HTTP/2 is
noticed as a request that cannot be read (`server.connection`).
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

from hopproxy.errors import BadRequest, LinkError
from hopproxy.link.asked import Asked
from hopproxy.link.client import GLIMPSE, ClientLink
from hopproxy.link.endpoint import RECEIVE_SIZE, Plain
from hopproxy.link.faults import contain, report
from hopproxy.link.handshake import Handshakes, TlsTransport
from hopproxy.link.stepper import Stepper
from hopproxy.proxy.exchange import refuse
from hopproxy.proxy.terms import Terms
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.client_certificate import certificate_lines
from hopproxy.server.entrance import H2, HTTP1, Entrance
from hopproxy.settings.units import authority
from hopproxy.wire.h2_frames import PREFACE
from hopproxy.wire.proxy_protocol import MOST_V2, V1, V2, BadHeader, read_header

_LATE = CloseReason.HANDSHAKE_TIMEOUT


class Owner(Protocol):
    """What owns the connections: the gateway, as an opening sees it."""

    terms: Terms
    handshakes: Handshakes

    def may_stay(self, client: ClientLink, address: str) -> bool:
        """Whether a client that a PROXY header names may have this connection too."""

    def opened(self, opening: Opening, protocol: str) -> None:
        """The connection is open: serve it in this protocol."""

    def close(self, connection: Opening, reason: CloseReason, detail: str = "") -> None:
        """The connection has ended."""


class Opening(Stepper):
    """Opens one client connection.  `in_task` once a task drives it."""

    __slots__ = ("client", "detail", "entrance", "in_task", "owner")

    #: No request is under way.
    under_way = 0

    def __init__(self, client: ClientLink, owner: Owner, entrance: Entrance) -> None:
        super().__init__()
        self.client = client
        self.owner = owner
        self.entrance = entrance
        self.in_task = False
        self.detail = ""

    def start(self) -> None:
        """Wait for the first bytes."""
        self.client.driver = self
        self.begin(self._open())

    def on_end(self, result: object) -> None:
        """The connection is open (`result` is the protocol) or has failed (it is the reason)."""
        if isinstance(result, CloseReason):
            self.owner.close(self, result, self.detail)
        else:
            assert isinstance(result, str)
            self.owner.opened(self, result)

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: end this link, and nothing else."""
        report(error, f"the opening of a connection from {self.client.peer}")
        self.close()
        self.owner.close(self, CloseReason.INTERNAL_ERROR)

    def announce_close(self) -> None:
        """The worker is about to stop: the first response will say so."""

    def end_idle(self) -> None:
        """Not used: a connection is idle only once it is open."""

    def move_to_task(self) -> None:
        """Stop stepping from events: `run_in_task` follows."""
        self.in_task = True
        super().move_to_task()

    async def run_in_task(self) -> None:
        """Open this connection in the calling task.  Closes it when cancelled."""
        try:
            await self.drive()
        except Exception as error:  # as the watch does with an event
            contain(self, error)
        finally:
            self.owner.close(self, CloseReason.STOPPED)

    # -- the steps ---------------------------------------------------------------------------

    async def _open(self) -> CloseReason | str:
        client, entrance = self.client, self.entrance
        deadline = client.opened + client.limits.handshake_timeout
        try:
            if entrance.listener.proxy_protocol:
                await self._read_proxy_header(deadline)
            if entrance.front is None:
                return await self._choose_by_preface(deadline)
            await client.transport.until_readable(deadline, _LATE)
            self._has_moved()
            await self.owner.handshakes.turn()
            first = await self._look(b"", RECEIVE_SIZE, deadline, taken=True)
            if first.startswith((V1, V2)):
                detail = "a PROXY header on a listener without proxy_protocol"
                return await self._refuse(CloseReason.NOT_TLS, detail, first)
            if first[:1].isupper():  # a TLS record never begins with a letter, a method always does
                detail = "this port speaks TLS: use https://"
                return await self._refuse(CloseReason.NOT_TLS, detail, first)
            return await self._shake(entrance.front.context, deadline, first)
        except LinkError as error:
            self.detail = error.detail
            return error.reason

    def _has_moved(self) -> None:
        """There is progress: move this opening behind the others, which are closed first."""
        openings = self.client.clients.openings
        if openings.pop(self.client, True) is None:
            openings[self.client] = None

    async def _look(self, seen: bytes, most: int, deadline: float, *, taken: bool = False) -> bytes:
        """The first bytes, up to `most` and more than were `seen`; left there unless `taken`."""
        transport = self.client.transport
        assert isinstance(transport.endpoint, Plain)
        if seen:
            transport.readable = transport.hung_up
        while True:
            await transport.until_readable(deadline, _LATE)
            try:
                data = transport.endpoint.channel.recv(most, 0 if taken else socket.MSG_PEEK)
            except BlockingIOError:
                transport.readable = False
                continue
            except OSError as error:
                raise transport.broken(error) from error
            if len(data) > len(seen):
                return data
            if transport.hung_up or not data:
                detail = "the client left before its first request"
                raise LinkError(Hop.CLIENT, CloseReason.PEER_CLOSED, detail)
            transport.readable = False

    async def _read_proxy_header(self, deadline: float) -> None:
        client, entrance = self.client, self.entrance
        if not client.sender.trusted:
            detail = f"{client.sender.peer} is not one of trusted_proxies"
            raise LinkError(Hop.CLIENT, CloseReason.UNTRUSTED_PROXY, detail)
        seen, header = b"", None
        while header is None:
            seen = await self._look(seen, MOST_V2, deadline)
            try:
                header = read_header(seen)
            except BadHeader as error:
                raise LinkError(Hop.CLIENT, CloseReason.PROXY_HEADER, str(error)) from error
        assert isinstance(client.transport.endpoint, Plain)
        client.transport.endpoint.channel.recv(header.size)
        if header.address:
            if not self.owner.may_stay(client, header.address):
                detail = f"{header.address} has too many connections"
                raise LinkError(Hop.CLIENT, CloseReason.ADDRESS_LIMIT, detail)
            client.sender = entrance.sender(header.address)
            client.peer = authority(client.sender.peer, header.port)

    async def _choose_by_preface(self, deadline: float) -> CloseReason | str:
        """Without TLS: HTTP/2 if the client begins as RFC 9113 section 3.4 says."""
        protocols, seen = self.entrance.listener.protocols, b""
        while H2 in protocols and seen != PREFACE:
            seen = await self._look(seen, len(PREFACE), deadline)
            if not PREFACE.startswith(seen):
                break
        if seen == PREFACE:
            return H2
        if HTTP1 in protocols:
            return HTTP1
        return await self._refuse(CloseReason.NO_PROTOCOL, "this port serves HTTP/2 only")

    async def _shake(self, context: ssl.SSLContext, deadline: float, first: bytes) -> str:
        """The TLS handshake; the protocol that ALPN has chosen."""
        client, listener, handshakes = self.client, self.entrance.listener, self.owner.handshakes
        transport = client.transport
        assert isinstance(transport, TlsTransport)
        below = transport.endpoint
        assert isinstance(below, Plain)
        end = transport.begin_tls(context)
        try:
            await transport.shake(handshakes, deadline, _LATE, first)
        except OSError as error:
            no_protocol = isinstance(end.tls, Asked) and end.tls.shares_no_protocol
            failure = handshake_error(error, no_protocol=no_protocol)
            if failure.reason is CloseReason.CLIENT_CERTIFICATE:
                # In TLS 1.3 its request has been sent by now: a reset would destroy the alert.
                transport.end_tls(below)
                await client.linger(client.limits.linger_timeout, client.limits.linger_size)
            raise failure from error
        tls = end.tls
        assert tls is not None
        assert listener.tls is not None
        if listener.tls.client_cert_fields and (der := tls.getpeercert(binary_form=True)):
            found = tls.getpeercert()
            assert found is not None
            lines = certificate_lines(found, der, listener.tls.client_cert_fields)
            client.sender = self.entrance.sender(client.sender.address.decode(), lines)
        protocol = tls.selected_alpn_protocol() or HTTP1
        end.forget_handshake()
        if protocol not in listener.protocols:
            detail = "the client offered no protocol by ALPN, and HTTP/1.1 is not served here"
            raise LinkError(Hop.CLIENT, CloseReason.NO_PROTOCOL, detail)
        if protocol == HTTP1 and not transport.readable:
            # With Nagle's algorithm a client keeps its request back until the end of its handshake
            # is acknowledged.  Nothing that we send carries this ACK: the kernel would delay it by
            # 40 ms.
            end.acknowledge()
        return protocol

    async def _refuse(self, reason: CloseReason, detail: str, taken: bytes = b"") -> CloseReason:
        """Answer 400 without TLS, whatever was requested.  `taken` has been received already."""
        client = self.client
        error = BadRequest(detail)
        error.reason = reason
        error.read = (taken or client.transport.receive_now() or b"")[:GLIMPSE]
        await refuse(client, error, self.owner.terms)
        await client.linger(client.limits.linger_timeout, client.limits.linger_size)
        self.detail = detail
        return reason


def handshake_error(error: OSError, *, no_protocol: bool) -> LinkError:
    """The error for a client's handshake that failed."""
    if no_protocol:
        detail = "the client offered protocols by ALPN, but none that is served here"
        return LinkError(Hop.CLIENT, CloseReason.NO_PROTOCOL, detail)
    said: str = getattr(error, "reason", None) or ""
    if not said:
        detail = "the client left during the TLS handshake"
        return LinkError(Hop.CLIENT, CloseReason.HANDSHAKE_REFUSED, detail)
    words = said.lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"the client's certificate is not accepted: {error.verify_message}"
        return LinkError(Hop.CLIENT, CloseReason.CLIENT_CERTIFICATE, detail)
    if said == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        detail = "the client sent no certificate"
        return LinkError(Hop.CLIENT, CloseReason.CLIENT_CERTIFICATE, detail)
    if "ALERT_" in said:
        alert = words.partition("alert ")[2]
        detail = f"the client ended the TLS handshake: {alert}"
        return LinkError(Hop.CLIENT, CloseReason.HANDSHAKE_REFUSED, detail)
    detail = _FAILURES.get(said, f"the TLS handshake has failed: {words}")
    return LinkError(Hop.CLIENT, CloseReason.HANDSHAKE_FAILED, detail)


_TOO_OLD = "the client supports only versions of TLS older than min_version"
_FAILURES = {
    "UNSUPPORTED_PROTOCOL": _TOO_OLD,
    "VERSION_TOO_LOW": _TOO_OLD,
    "NO_SHARED_CIPHER": "the client and our certificate have no cipher suite in common",
    "WRONG_VERSION_NUMBER": "the client does not speak TLS",
}
