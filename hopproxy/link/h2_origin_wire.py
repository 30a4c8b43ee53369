"""The frames and fields of a connection to an HTTP/2 origin, with what the settings allow."""

from functools import partial

from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire.h2 import Code, H2Client, H2Error, Settings
from hopproxy.wire.h2_response import ResponseSection
from hopproxy.wire.hpack import Bomb, CompressionError, Decoder, FieldSectionTooLarge, Meanings

#: Bytes of a response that its origin may send ahead of what the client takes.
STREAM_WINDOW = 131072
#: Bytes of all responses: so that one which stalls takes nothing from the others.
LINK_WINDOW = 256 * STREAM_WINDOW

#: What field blocks mean, by the largest section that is read: settings may differ.
_meanings: dict[int, Meanings[ResponseSection]] = {}
MEANINGS = 8


def new_wire(limits: UpstreamSettings) -> H2Client:
    """Our side of a new connection."""
    ours = Settings()
    ours.table_size = 0  # the same response is the same block then, and is decoded once
    ours.max_head_size = limits.max_head_size
    ours.window = STREAM_WINDOW
    decoder = Decoder(_meanings_up_to(limits.max_head_size))
    return H2Client(
        partial(_decode, decoder), ours, link_window=LINK_WINDOW, max_block=limits.max_head_size
    )


def _meanings_up_to(limit: int) -> Meanings[ResponseSection]:
    found = _meanings.get(limit)
    if found is None:
        if len(_meanings) >= MEANINGS:
            _meanings.clear()
        found = _meanings[limit] = Meanings(ResponseSection, limit)
    return found


def _decode(decoder: Decoder[ResponseSection], block: bytes) -> ResponseSection:
    try:
        return decoder.decode(block)
    except FieldSectionTooLarge:
        return ResponseSection([], too_large=True)
    except Bomb as error:
        raise H2Error(Code.ENHANCE_YOUR_CALM, error.section, error.detail) from error
    except CompressionError as error:
        raise H2Error(Code.COMPRESSION_ERROR, error.section, error.detail) from error
