"""The certificates of a TLS listener, and which of them a client gets.

One context lasts as long as the listener.  Its keys encrypt the session tickets, so clients resume
sessions after a change of certificates.  When a ClientHello has arrived, a callback replaces this
context by the one for the name in it.  So all contexts have the same ALPN and the same authorities
of client certificates.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hopproxy.link.asked import Asked
from hopproxy.link.freed_memory import keep_freed_memory
from hopproxy.link.openssl import prefer_aes_128
from hopproxy.link.tickets import share_keys
from hopproxy.wire.client_hello import offers_other

#: The alert no_application_protocol (RFC 7301 section 3.2), which `ssl` does not name.
_NO_PROTOCOL = 120
_OLDEST = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"off": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def _ignore_names_that_are_none() -> None:
    """Print no traceback if a server name is not ASCII; its handshake fails anyway.

    Any client can send such a name, and standard error is our log.
    """
    before = sys.unraisablehook
    if getattr(before, "ignores_names", False):
        return

    def hook(found: sys.UnraisableHookArgs) -> None:
        name = isinstance(found.exc_value, UnicodeDecodeError) and isinstance(found.object, bytes)
        if not name:
            before(found)

    hook.ignores_names = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


class Identity(NamedTuple):
    """One of our certificates: its files, the names in it, and the kind of its key."""

    cert: str
    key: str | None
    names: Sequence[str]
    kind: str


class Demand(NamedTuple):
    """What a listener requires of its clients, as the settings say.

    `protocols` are ALPN names, the preferred one first.
    """

    protocols: tuple[str, ...]
    min_version: str = "1.2"
    client_cert: str = "off"
    client_ca: str | None = None


class Front:
    """The certificates of one listener.

    The first one is for clients that send no name, or a name that no certificate has.  Certificates
    for the same names with different kinds of key (ECDSA and RSA) are offered together.  Raises
    OSError (or its subclass ssl.SSLError) if a file cannot be used.
    """

    #: For `Tls`.  Replaced only if the listener begins to ask for other client certificates.
    context: ssl.SSLContext

    def __init__(self, identities: Sequence[Identity], demand: Demand) -> None:
        _ignore_names_that_are_none()
        self._asked: object = None
        self._table = _Table(identities, demand)
        self._renew(demand)
        self._table.spare(self.context)

    def swap(self, identities: Sequence[Identity], demand: Demand) -> None:
        """Use these from the next handshake on.  Links stay, and sessions can still be resumed.

        Raises as the constructor; then nothing has changed.
        """
        table = _Table(identities, demand)
        self._renew(demand)
        self._table.take(table)

    def _renew(self, demand: Demand) -> None:
        """Keep the lasting context, unless its tickets could admit clients that are refused now."""
        authorities = Path(demand.client_ca).read_bytes() if demand.client_ca else b""
        asked = demand.client_cert, authorities
        if asked != self._asked:
            context = _context(demand)
            share_keys(context, repr(asked).encode())
            context.sni_callback = self._table.choose
            self._asked, self.context = asked, context
        self.context.minimum_version = _OLDEST[demand.min_version]


class _Table:
    """Contexts by name, and the callback of the lasting context."""

    def __init__(self, identities: Sequence[Identity], demand: Demand) -> None:
        self._protocols = tuple(name.encode() for name in demand.protocols)
        self._by_name: dict[str, ssl.SSLContext] = {}
        together: dict[object, dict[str, Identity]] = {}
        for identity in identities:
            kinds = together.setdefault(frozenset(identity.names) or identity.cert, {})
            kinds.setdefault(identity.kind, identity)
        contexts = []
        for kinds in together.values():
            context = _context(demand)
            contexts.append(context)
            for identity in kinds.values():
                context.load_cert_chain(identity.cert, identity.key)
                for name in identity.names:
                    self._by_name.setdefault(name, context)
        self._first = contexts[0]
        self._first_ones = list(next(iter(together.values())).values())
        self._spared: ssl.SSLContext | None = None

    def take(self, other: _Table) -> None:
        """Take over the contexts of another table."""
        self._protocols, self._by_name = other._protocols, other._by_name
        self._first, self._spared = other._first, None

    def spare(self, context: ssl.SSLContext) -> None:
        """Give the lasting context the first certificate, until there are new ones.

        Then most handshakes need no other context, which would cost some time.
        """
        for one in self._first_ones:
            context.load_cert_chain(one.cert, one.key)
        self._spared = self._first

    def choose(self, tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        """Choose the context for a ClientHello; an alert if it names none of our protocols."""
        assert isinstance(tls, Asked)
        hello, tls.hello = tls.hello, None
        if hello is not None and offers_other(hello, self._protocols):
            tls.shares_no_protocol = True
            return _NO_PROTOCOL
        chosen = self._context_for((name or "").lower().rstrip("."))
        if chosen is not self._spared:
            tls.context = chosen
        return None

    def _context_for(self, name: str) -> ssl.SSLContext:
        found = self._by_name.get(name)
        if found is None:
            found = self._by_name.get("*." + name.partition(".")[2])
        return found or self._first


def _context(demand: Demand) -> ssl.SSLContext:
    """A context without a certificate, with what all contexts have."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Asked
    context.minimum_version = _OLDEST[demand.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1
    prefer_aes_128(context)
    keep_freed_memory()
    context.set_alpn_protocols(list(demand.protocols))
    context.verify_mode = _VERIFY[demand.client_cert]
    if demand.client_ca is not None:
        # Every certificate in this file is trusted, even if it is not a root.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(demand.client_ca)
    return context
