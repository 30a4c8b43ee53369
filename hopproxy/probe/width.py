"""How many connections an origin serves at a time.

Connections are opened one after another and kept.  If one gets no response until another one is
closed, the limit is found.
"""

from contextlib import AsyncExitStack

import trio

from hopproxy.errors import HopError
from hopproxy.link.watch import Watch
from hopproxy.probe.asker import Asker, Target
from hopproxy.reasons import CloseReason

#: Most connections to open.
MOST_AT_ONCE = 10
#: Least seconds of silence, and how many times longer than a response it must be.
SILENT, LONGER = 1.0, 3.0
#: How often it must be seen: one slow response looks the same.
TIMES = 2


async def at_once(target: Target, watch: Watch) -> int | None:
    """Connections served at a time, `MOST_AT_ONCE` if not fewer; None if that cannot be found.

    Raises HopError if the origin cannot be reached.
    """
    async with AsyncExitStack() as opened:
        began = trio.current_time()
        held = [await opened.enter_async_context(Asker(target, watch))]
        await held[0].get()
        patience = max(SILENT, LONGER * (trio.current_time() - began))
        shown = 0
        while len(held) < MOST_AT_ONCE:
            asker = await _asked(opened, target, watch)
            if asker is not None and await _is_answered(asker, patience):
                held.append(asker)
                shown = 0
                continue
            width = len(held)
            held.pop(0).link.close(CloseReason.STOPPED)
            asker = asker or await _asked(opened, target, watch)  # refused: try again
            if asker is None or not await _is_answered(asker, patience):
                return None
            held.append(asker)
            shown += 1
            if shown == TIMES:
                return width
    return MOST_AT_ONCE


async def _asked(opened: AsyncExitStack, target: Target, watch: Watch) -> Asker | None:
    """A new connection with a request on it, None if it cannot be opened."""
    try:
        asker = await opened.enter_async_context(Asker(target, watch))
        await asker.send(target.request())
    except HopError:
        return None
    return asker


async def _is_answered(asker: Asker, patience: float) -> bool:
    """Whether the response arrives in time."""
    try:
        head = await asker.head(b"GET", patience)
        while head is not None and head.status < 200:
            head = await asker.head(b"GET", patience)
        while head is not None and await asker.read_body():
            pass
    except HopError:
        return False
    return head is not None
