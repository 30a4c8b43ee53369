"""What the connections of one listener have in common."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hopproxy.certificates import identity
from hopproxy.link.front import Demand, Front, Identity
from hopproxy.rules.forwarding import Sender
from hopproxy.settings.certificate import ListenerTls
from hopproxy.settings.client import LinkSettings, Listener
from hopproxy.settings.schema import Settings

#: The protocols of clients, by their ALPN names.
HTTP1, H2 = "http/1.1", "h2"

log = logging.getLogger("hopproxy")

#: Client addresses for which a `Sender` is cached.
SENDERS = 1024


class Entrance:
    """One listener: limits and TLS of its connections, and what origins are told about them.

    `direct` if HTTP/1.1 begins with the first byte, so no opening is needed.  `speaks_h2`
    if a client may choose HTTP/2.  `limits` are for new connections.

    Raises OSError if a certificate cannot be used.
    """

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self.front: Front | None = None
        self.apply(settings, listener)

    def apply(self, settings: Settings, listener: Listener) -> None:
        """Use these settings for new connections, and read the certificates again.

        Raises OSError if a certificate cannot be used; then nothing has changed.
        """
        tls = listener.tls
        if tls is None:
            self.front = None
        else:
            self._read(tls, listener.protocols)
        self.limits: LinkSettings = listener.client or settings.client
        self.listener = listener
        self.scheme = b"http" if tls is None else b"https"
        self.direct = tls is None and not listener.proxy_protocol and HTTP1 in listener.protocols
        self.speaks_h2 = H2 in listener.protocols
        self._settings = settings
        self._senders: dict[str, Sender] = {}

    def _read(self, tls: ListenerTls, protocols: Sequence[str]) -> None:
        demand = Demand(tuple(protocols), tls.min_version, tls.client_cert, tls.client_ca)
        identities = [Identity(one.cert, one.key, *identity(one.cert)) for one in tls.certificates]
        if self.front is None:
            self.front = Front(identities, demand)
        else:
            self.front.swap(identities, demand)

    def sender(self, address: str, certificate: bytes = b"") -> Sender:
        """The `Sender` for this address: its forwarding fields are the same for all its links.

        One with the lines of a client `certificate` is for one link only.
        """
        sender = None if certificate else self._senders.get(address)
        if sender is None:
            settings = self._settings
            sender = Sender(
                address, self.scheme, settings.trusted_proxies, settings.forwarding, certificate
            )
            if not certificate:
                if len(self._senders) >= SENDERS:
                    self._senders.clear()
                self._senders[address] = sender
        return sender
