"""The beginning of a body is read before its request takes an upstream link.

Otherwise a few hundred clients that send a byte now and then could hold all links.
"""

from __future__ import annotations

from hopproxy.errors import PoolExhausted
from hopproxy.message import SIZED, RequestHead, name_of
from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.upload import KEPT, KEPT_PIECES
from hopproxy.proxy.upstream import Upstream
from hopproxy.rules.framing import check_size

#: Seconds until a request takes a link although little of its body has arrived.
PATIENCE = 1.0


async def gather(attempt: Attempt, upstream: Upstream) -> None:
    """Wait for the whole body, for 64 KiB of it, or for a second.

    Bodies that arrive slowly get at most half of the links, so the wait may be longer than a
    second; `body_timeout` and `body_rate` bound it.  A client that waits for the origin (`Expect`,
    gRPC) does not wait here.  Raises PoolExhausted, BadRequest, LinkError.
    """
    if attempt.upload is not None or waits_for_origin(attempt.request):
        return
    if upstream.is_full():
        raise PoolExhausted("too many requests wait for their bodies")
    upstream.gathering += 1
    try:
        await _gather(attempt, upstream)
    finally:
        upstream.gathering -= 1


async def _gather(attempt: Attempt, upstream: Upstream) -> None:
    client, record, request = attempt.client, attempt.record, attempt.request
    upload = attempt.upload = attempt.new_upload()
    pieces: list[bytes] = []
    upload.kept = pieces
    limit = attempt.route.largest_body(client.limits)
    patience = min(PATIENCE, client.limits.body_timeout / 2)
    until = client.now() + patience
    while record.received < KEPT:
        data = await upload.read_first(until)
        if data is None:
            if upstream.has_room_for_upload():
                upstream.slow_uploads += 1
                upload.counted = True
                return
            until = client.now() + patience
        elif data:
            record.received += len(data)
            check_size(record.received, limit)
            pieces.append(data)
            if len(pieces) > KEPT_PIECES:
                pieces[:] = [b"".join(pieces)]
        else:
            if request.body is SIZED:
                attempt.body = b"".join(pieces)
                attempt.upload = None
            return


def end_gathered(attempt: Attempt, upstream: Upstream | None) -> None:
    """The exchange of a body that had not arrived completely has ended."""
    if attempt.upload is not None and attempt.upload.counted and upstream is not None:
        attempt.upload.counted = False
        upstream.slow_uploads -= 1


def waits_for_origin(request: RequestHead) -> bool:
    """Whether the client may wait for the origin before it sends its body."""
    if request.expects or request.upgrade is not None:
        return True
    # A gRPC stream: each side may wait for the other's messages.
    return any(
        name_of(line) == b"content-type" and b"application/grpc" in line for line in request.lines
    )
