"""A link for one client alone: the origin authenticates it, and not its requests (NTLM)."""

from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.record import CloseReason


class BoundLink:
    """What a client link holds of the upstream link that is bound to it, between two requests."""

    __slots__ = ("_link", "_pool", "origin")

    def __init__(self, pool: Pool, origin: Origin, link: UpstreamLink) -> None:
        self._pool = pool
        self.origin = origin
        self._link = link

    def resume(self) -> UpstreamLink | None:
        """Lend the link to its client again; None where it is no more.  Call it once."""
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
        """The client has left, or has another such link."""
        if not self._link.transport.closed:
            self._pool.drop_idle(self._link, CloseReason.PRIVATE)
