"""The frames and fields of a client's HTTP/2 connection, with what the settings allow."""

from typing import NamedTuple

from hopproxy.link.h2_reader import TOO_LARGE, Reader
from hopproxy.settings.client import LinkSettings
from hopproxy.wire.h2 import H2Server, Settings
from hopproxy.wire.h2_request import Section
from hopproxy.wire.hpack import OVERHEAD, Meanings, Table

#: Bytes of a body that a client may send before the origin has taken them.  The window of the
#: connection is the sum for all streams, so one that stalls takes nothing from the others.
STREAM_WINDOW = 65535


class _Terms(NamedTuple):
    """What connections with the same settings share."""

    ours: Settings
    meanings: Meanings[Section]
    link_window: int
    max_block: int


#: By settings, which may differ by listener and after a reload.
_terms: dict[tuple[int, int, int], _Terms] = {}
KEPT = 8


def new_wire(limits: LinkSettings) -> H2Server:
    """Our side of a new connection."""
    ours, meanings, window, most = _terms_for(limits)
    return H2Server(_Reader(meanings).decode, ours, link_window=window, max_block=most)


#: What is kept of a quiet connection: as `Packed`, and its table, in one tuple.
Kept = tuple[Settings, int, int, int, int, int, Table[Section]]


def keep(wire: H2Server, now: float) -> Kept | None:
    """Pack a quiet connection; None if it has more state than can be packed."""
    packed, reader = wire.packed(now), getattr(wire.decode, "__self__", None)
    return None if packed is None or not isinstance(reader, _Reader) else (*packed, reader.table)


def kept_wire(limits: LinkSettings, kept: Kept) -> H2Server:
    """Our side of a connection, unpacked."""
    ours, meanings, window, most = _terms_for(limits)
    decode = _Reader(meanings, kept[6]).decode
    wire = H2Server(decode, ours, link_window=window, max_block=most)
    wire.restore(kept[:6])
    return wire


def _terms_for(limits: LinkSettings) -> _Terms:
    key = limits.max_streams, limits.max_head_size, limits.max_fields
    terms = _terms.get(key)
    if terms is None:
        if len(_terms) >= KEPT:
            _terms.clear()
        terms = _terms[key] = _terms_of(limits)
    return terms


def _terms_of(limits: LinkSettings) -> _Terms:
    ours = Settings()
    ours.max_streams = limits.max_streams
    ours.max_head_size = limits.max_head_size
    ours.window = STREAM_WINDOW
    ours.connect = True
    most = limits.max_head_size + OVERHEAD * limits.max_fields
    meanings = Meanings(Section, most, Section.elsewhere)
    window = STREAM_WINDOW * limits.max_streams
    return _Terms(ours, meanings, window, most * TOO_LARGE)


class _Reader(Reader[Section]):
    """Reads the field blocks of a client."""

    __slots__ = ()

    def too_large(self) -> Section:
        return Section([], too_large=True)
