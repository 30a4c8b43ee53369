"""Collecting a chunked body, so that the origin gets a Content-Length."""

import math

from hopproxy.proxy.attempt import Attempt
from hopproxy.proxy.upload import KEPT_PIECES
from hopproxy.rules.answer import CONTINUE
from hopproxy.rules.edits import with_length
from hopproxy.rules.framing import check_size


async def collect(attempt: Attempt, size: int) -> None:
    """Read a body of unknown length, up to `size` bytes, before anything is sent upstream.

    If the body ends within them, the request gets a Content-Length, and has no trailers.  Otherwise
    the upload begins with what was read.  A client that waits for a 100 gets one.  Waits for the
    client; raises BadRequest (413, or for a malformed body) and LinkError.
    """
    client, record, request = attempt.client, attempt.record, attempt.request
    limit = attempt.route.largest_body(client.limits)
    told = request.expects and not client.at_hand
    if told:
        await client.send_interim(CONTINUE)
    upload = attempt.new_upload()
    pieces: list[bytes] = []
    fresh = 0  # join them, since two bytes take forty in memory
    while record.received <= size:
        data = await upload.read_first(math.inf)
        if not data:
            attempt.body = b"".join(pieces)
            attempt.request = with_length(request, record.received)
            return
        pieces.append(data)
        fresh += 1
        if fresh == KEPT_PIECES:
            pieces[-fresh:] = [b"".join(pieces[-fresh:])]
            fresh = 0
        record.received += len(data)
        check_size(record.received, limit)
    attempt.upload = upload
    upload.kept = pieces
    upload.told_to_continue = told
