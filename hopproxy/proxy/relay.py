"""The body of a response, from the origin to the client as it arrives.

If it has a connection to itself on both hops and a known length, the kernel moves it
(`link.splice`), or it is copied in long pieces.
"""

from __future__ import annotations

from hopproxy.link.endpoint import LONG
from hopproxy.link.splice import Pipe
from hopproxy.link.stream import ClientStream, UpstreamStream
from hopproxy.record import ExchangeRecord


async def relay(
    stream: UpstreamStream,
    client: ClientStream,
    record: ExchangeRecord,
    data: bytes,
    pipe: Pipe | None,
) -> None:
    """Pass on a whole body, which begins with `data`.  Waits for both sides.

    `pipe` is for a body of known length.  Raises HopError.
    """
    source, sink = stream.link, client.link
    while True:
        if data:
            record.sent += len(data)
            client.write_content(data)
        if not stream.at_hand:
            await client.flush()
        if client.gone:
            raise client.gone_error()
        if pipe is None or source is None or sink is None:
            data = await stream.read_body()
        elif pipe.suits(source, sink):
            record.sent += await pipe.carry(source, sink)
            data = b""
            continue
        else:
            data = await source.read_body(LONG)
        if not data:
            return
