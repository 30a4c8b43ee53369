"""HTTP/1.1 with origins that would choose HTTP/2, for requests that HTTP/2 cannot carry.

These are: upgrades, except WebSockets that the origin allows in HTTP/2; credentials that
authenticate a connection (NTLM), since many clients share an HTTP/2 connection; and requests that
the origin has refused with HTTP_1_1_REQUIRED (RFC 9113 section 7).
"""

from collections.abc import Iterator

from msgspec.structs import replace

from hopproxy.link.origin_tls import Secured, Trust
from hopproxy.message import RequestHead
from hopproxy.pool import change
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.rules.upgrade import asks_websocket
from hopproxy.settings.upstream import UpstreamSettings

PROTOCOL = "http/1.1"


class Twins:
    """The twin of each origin that chooses its protocol: the same address, in HTTP/1.1 only.

    A twin has connections and limits of its own.  It is made when it is needed.
    """

    def __init__(self, settings: UpstreamSettings, pool: Pool) -> None:
        self._settings = replace(settings, protocol=PROTOCOL)
        self._pool = pool
        self._trust: Trust | None = None
        self._twins: dict[Origin, Origin] = {}

    def __iter__(self) -> Iterator[Origin]:
        return iter(self._twins.values())

    def suit(self, origin: Origin, request: RequestHead, *, refused: bool) -> Origin:
        """The origin for a request, or its twin.  `refused` after HTTP_1_1_REQUIRED."""
        if origin.protocol != "auto":
            return origin
        upgrades = request.upgrade is not None
        if upgrades and asks_websocket(request) and origin.connects is not False:
            upgrades = False  # goes as an extended CONNECT, or is refused later
        if not (refused or upgrades or request.binds):
            return origin
        twin = self._twins.get(origin)
        if twin is None:
            twin = self._twins[origin] = self._pool.add(origin.address, self._settings)
            twin.reach = origin.reach
            if origin.secured is not None:
                self._trust = self._trust or Trust(self._settings.tls, (PROTOCOL,))
                twin.secured = Secured(origin.address, self._trust, origin.secured.handshakes)
        return twin

    def origin_of(self, twin: Origin) -> Origin:
        """The origin of a twin; any other origin itself."""
        for origin, other in self._twins.items():
            if other is twin:
                return origin
        return twin

    def renew(self) -> None:
        """Read the certificates again.  Raises OSError."""
        if self._trust is not None:
            self._trust = Trust(self._settings.tls, (PROTOCOL,))
            for twin in self:
                if twin.secured is not None:
                    twin.secured.renew(self._trust)

    def remove(self, origin: Origin) -> None:
        """Remove the twin of an origin that is removed."""
        twin = self._twins.pop(origin, None)
        if twin is not None:
            change.remove(self._pool, twin)

    def drain(self) -> None:
        """Give no twin new requests."""
        twins, self._twins = self._twins, {}
        for twin in twins.values():
            change.drain(self._pool, twin)
