"""The frames and fields of a connection to an HTTP/2 origin, with what the settings allow."""

from hopproxy.link.h2_reader import TOO_LARGE, Reader
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import H2Client, Settings
from hopproxy.wire.h2_response import ResponseSection
from hopproxy.wire.hpack import Meanings

#: Bytes of a response that the origin may send before the client has taken them.
STREAM_WINDOW = 131072
#: The same for all responses of a connection: one that stalls takes nothing from the others.
LINK_WINDOW = 256 * STREAM_WINDOW

#: Caches of decoded field blocks, by the largest section that the settings allow.
_meanings: dict[int, Meanings[ResponseSection]] = {}
MEANINGS = 8


def new_wire(limits: UpstreamSettings) -> H2Client:
    """Our side of a new connection."""
    ours = Settings()
    ours.table_size = 0  # then equal responses are equal blocks, which are decoded once
    ours.max_head_size = limits.max_head_size
    ours.window = STREAM_WINDOW
    reader = _Reader(_meanings_up_to(limits.max_head_size))
    most = limits.max_head_size * TOO_LARGE
    return H2Client(reader.decode, ours, link_window=LINK_WINDOW, max_block=most)


def _meanings_up_to(limit: int) -> Meanings[ResponseSection]:
    found = _meanings.get(limit)
    if found is None:
        if len(_meanings) >= MEANINGS:
            _meanings.clear()
        found = _meanings[limit] = Meanings(ResponseSection, limit)
    return found


class _Reader(Reader[ResponseSection]):
    """Reads the field blocks of an origin."""

    __slots__ = ()

    def too_large(self) -> ResponseSection:
        return ResponseSection([], too_large=True)
