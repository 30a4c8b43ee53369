"""Links bound to one client, because the origin authenticates the connection (NTLM)."""

from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.pool.shared import Lent
from hopproxy.reasons import CloseReason


class BoundLink:
    """The upstream link bound to a client; the client's link keeps it between two requests."""

    __slots__ = ("_link", "_pool", "origin")

    def __init__(self, pool: Pool, origin: Origin, link: UpstreamLink) -> None:
        self._pool = pool
        self.origin = origin
        self._link = link

    def resume(self) -> UpstreamLink | None:
        """Check the link out for its client; None if it has ended.  Call it once."""
        pool, origin, link = self._pool, self.origin, self._link
        if link.transport.closed:
            return None
        pool.ledger.take_bound(origin, link)
        if link.transport.endpoint.has_input():
            pool.end_dead(origin, link)
            pool.start_dials(origin)
            return None
        origin.reused += 1
        link.begin()
        return link

    def end(self) -> None:
        """Close the link: its client has left, or has another bound link."""
        if not self._link.transport.closed:
            self._pool.drop_idle(self._link, CloseReason.PRIVATE)


def authenticated(origin: Origin, link: Lent, status: int, *, binds: bool) -> None:
    """The origin has answered a request with credentials (`binds`), or a later one of a login."""
    if not isinstance(link, UpstreamLink):
        return
    if binds:
        origin.bind(link, status)
    elif status != 401:
        link.greeting = False  # accepted with another scheme
