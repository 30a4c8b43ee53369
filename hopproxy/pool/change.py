"""Changes to a pool that serves: remove an origin, change the total limit."""

from hopproxy.errors import OriginRemoved
from hopproxy.pool.origin import Origin
from hopproxy.pool.pool import Pool
from hopproxy.reasons import CloseReason

#: Most addresses that no upstream names any more whose learned limits are kept.
REMEMBERED = 64


def drain(pool: Pool, origin: Origin) -> None:
    """Begin no more requests on this origin, which was removed from its balancer.

    Its idle links close as ORIGIN_REMOVED, those in use when they become free.  Requests that
    wait for one of its links are still served.
    """
    origin.remove()
    pool.ledger.shares.remove(origin)
    pool.connector.plans.pop(origin, None)
    for link in (*origin.idle, *origin.bound_idle):
        pool.drop_idle(link, CloseReason.ORIGIN_REMOVED)
    _forget(pool)


def _forget(pool: Pool) -> None:
    """Forget what is known of addresses that no upstream names any more, except the last few."""
    unused = [address for address, known in pool.known.items() if not known.origins]
    for address in unused[: max(0, len(unused) - REMEMBERED)]:
        del pool.known[address]


def remove(pool: Pool, origin: Origin) -> None:
    """As `drain`, but requests that wait for one of its links go to another origin."""
    waiting = len(origin.waiters)
    for _ in range(waiting):
        waiter = pool.ledger.next_waiter(origin)
        if waiter is not None:
            waiter.fail(OriginRemoved(f"{origin.label} was removed while this request waited"))
    drain(pool, origin)


def resize(pool: Pool, max_total: int) -> None:
    """Set the total limit.  If there are more links, idle ones are evicted when room is needed."""
    pool.ledger.max_total = max_total
    starved = pool.ledger.starved()
    if isinstance(starved, Origin):
        pool.start_dials(starved)
