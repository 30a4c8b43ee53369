"""The frames and fields of a client's HTTP/2 connection, with what the settings allow."""

from functools import partial

from hopproxy.settings.client import LinkSettings
from hopproxy.wire.h2 import Code, H2Error, H2Server, Settings
from hopproxy.wire.h2_request import Section
from hopproxy.wire.hpack import (
    OVERHEAD,
    Bomb,
    CompressionError,
    Decoder,
    FieldSectionTooLarge,
    Meanings,
)

#: Bytes of its body that a request may send ahead of what the origin takes.  The window of the
#: connection is that of all streams together: one that stalls takes nothing from the others.
STREAM_WINDOW = 65535

#: What field blocks mean, by the largest section that is read: settings may differ.
_meanings: dict[int, Meanings[Section]] = {}
MEANINGS = 8


def new_wire(limits: LinkSettings) -> H2Server:
    """Our side of a new connection."""
    ours = Settings()
    ours.max_streams = limits.max_streams
    ours.max_head_size = limits.max_head_size
    ours.window = STREAM_WINDOW
    ours.connect = True
    most = limits.max_head_size + OVERHEAD * limits.max_fields
    return H2Server(
        partial(_decode, Decoder(_meanings_up_to(most))),
        ours,
        link_window=STREAM_WINDOW * limits.max_streams,
        max_block=most,
    )


def _meanings_up_to(limit: int) -> Meanings[Section]:
    found = _meanings.get(limit)
    if found is None:
        if len(_meanings) >= MEANINGS:
            _meanings.clear()
        found = _meanings[limit] = Meanings(Section, limit)
    return found


def _decode(decoder: Decoder[Section], block: bytes) -> Section:
    try:
        return decoder.decode(block)
    except FieldSectionTooLarge:
        return Section([], too_large=True)
    except Bomb as error:
        raise H2Error(Code.ENHANCE_YOUR_CALM, error.section, error.detail) from error
    except CompressionError as error:
        raise H2Error(Code.COMPRESSION_ERROR, error.section, error.detail) from error
