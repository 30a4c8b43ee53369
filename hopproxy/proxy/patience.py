"""Whether a request waits for an upstream that is down."""

from hopproxy.errors import ConnectFailed, LocalShortage
from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.upstream import Upstream


async def waits(attempt: Attempt, upstream: Upstream, error: ConnectFailed) -> bool:
    """Wait while the upstream is down; False if the request has waited for long enough.

    Does not wait for a browser that gets an error page, since that page waits and reloads.
    """
    hold, record, terms = upstream.settings.hold, attempt.record, attempt.terms
    if not hold or isinstance(error, LocalShortage):
        return False
    if terms.page is not None and terms.page(attempt.request, error) is not None:
        return False
    began = attempt.client.now()
    left = hold - record.queued - record.connecting  # the wait for a body does not count
    try:
        return await upstream.hold.turn(began + left, upstream.is_reached)
    finally:
        record.note_wait(began, attempt.client.now(), None)
