"""HTTP/2 frames as bytes, error codes and SETTINGS (RFC 9113 sections 4, 6 and 7)."""

from enum import IntEnum
from struct import Struct

from hopproxy.wire.other_protocols import protocol_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The header of a frame: length in two parts, type, flags, stream (section 4.1).
HEADER = Struct(">HBBBI")
HEADER_SIZE = 9

# Types of frames (section 6).
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9

# Flags.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

MAX_NUMBER = MAX_WINDOW = 0x7FFFFFFF
DEFAULT_WINDOW = 65535
MIN_FRAME_SIZE = 16384
MAX_FRAME_SIZE = 0xFFFFFF

#: Size of the fields in front of a block of HEADERS with the priority flag.
PRIORITY_SIZE = 5

_WITH_NUMBER = Struct(">HBBBII")
_TWO_NUMBERS = Struct(">II")
#: One value of SETTINGS; the key of the size of HPACK's table.
SETTING = Struct(">HI")
HEADER_TABLE_SIZE = 1


class Code(IntEnum):
    """Error codes of RST_STREAM and GOAWAY (section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


_NAMES = {code.value: code.name for code in Code}


def code_name(code: int) -> str:
    """The name of an error code, for people; an unknown one as a number."""
    return _NAMES.get(code) or f"error code {code:#x}"


class H2Error(Exception):
    """The peer broke a rule: a connection error, or a stream error (section 5.4).

    `code` is for GOAWAY or RST_STREAM, `detail` one sentence for people, `section` the rule's place
    in RFC 9113 (or "7541 5.2" for another RFC).
    """

    def __init__(self, code: int, section: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.section = section
        self.detail = detail

    @property
    def told(self) -> str:
        """The detail with the place of the rule."""
        rfc, _, section = self.section.rpartition(" ")
        return f"{self.detail} (RFC {rfc or '9113'} section {section})"


def unexpected(expected: int, data: bytes) -> H2Error:
    """The error for a frame of another type than `expected`, or what is no frame at all."""
    if expected == CONTINUATION:
        return H2Error(Code.PROTOCOL_ERROR, "4.3", "a frame inside a field block")
    name = "HTTP/1.1" if data.startswith(b"HTTP/1") else protocol_of(data)
    what = "its first frame is another" if name in ("", "HTTP/2") else f"it speaks {name}"
    return H2Error(Code.PROTOCOL_ERROR, "3.4", f"SETTINGS is missing: {what}")


class Settings:
    """The SETTINGS of one side, with the defaults of section 6.5.2.

    `max_streams` and `max_head_size` are None if unlimited.  `push` is ENABLE_PUSH, `connect`
    ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3).
    """

    __slots__ = (
        "connect", "frame_size", "max_head_size", "max_streams", "push", "table_size", "window",
    )  # fmt: skip

    def __init__(self) -> None:
        self.table_size = 4096
        self.push = True
        self.max_streams: int | None = None
        self.window = DEFAULT_WINDOW
        self.frame_size = MIN_FRAME_SIZE
        self.max_head_size: int | None = None
        self.connect = False

    def followed_by(self, payload: bytes) -> "Settings":
        """A changed copy, after a SETTINGS frame; many connections share the same object.

        Raises H2Error as `read`.
        """
        known = _known.get((self, payload))
        if known is None:
            known = Settings()
            for name in Settings.__slots__:
                setattr(known, name, getattr(self, name))
            known.read(payload)
            if self is DEFAULTS and len(payload) <= MEMO_SETTINGS_SIZE:
                if len(_known) >= MEMO_SETTINGS:
                    _known.clear()
                _known[self, payload] = known
        return known

    def read(self, payload: bytes) -> None:
        """Take over the values of a SETTINGS frame in their order; unknown ones are ignored.

        Raises H2Error for a value that is not allowed.
        """
        for key, value in SETTING.iter_unpack(payload):
            if key == HEADER_TABLE_SIZE:
                self.table_size = value
            elif key == 2:
                self.push = _flag(value, "6.5.2", "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
            elif key == 3:
                self.max_streams = value
            elif key == 4:
                if value > MAX_WINDOW:
                    detail = "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1"
                    raise H2Error(Code.FLOW_CONTROL_ERROR, "6.5.2", detail)
                self.window = value
            elif key == 5:
                if not MIN_FRAME_SIZE <= value <= MAX_FRAME_SIZE:
                    detail = "SETTINGS_MAX_FRAME_SIZE is not between 2^14 and 2^24-1"
                    raise H2Error(Code.PROTOCOL_ERROR, "6.5.2", detail)
                self.frame_size = value
            elif key == 6:
                self.max_head_size = value
            elif key == 8:
                detail = "SETTINGS_ENABLE_CONNECT_PROTOCOL is neither 0 nor 1, or is withdrawn"
                value = _flag(value, "8441 3", detail)
                if self.connect and not value:
                    raise H2Error(Code.PROTOCOL_ERROR, "8441 3", detail)
                self.connect = value

    def write(self) -> bytes:
        """The SETTINGS frame that announces every value which is not the default."""
        pairs = [
            (HEADER_TABLE_SIZE, self.table_size, 4096),
            (2, int(self.push), 1),
            (3, self.max_streams, None),
            (4, self.window, DEFAULT_WINDOW),
            (5, self.frame_size, MIN_FRAME_SIZE),
            (6, self.max_head_size, None),
            (8, int(self.connect), 0),
        ]
        said = [
            SETTING.pack(key, value)
            for key, value, default in pairs
            if value is not None and value != default
        ]
        return frame(SETTINGS, 0, 0, b"".join(said))


#: The values before the peer has sent any; never changed.
DEFAULTS = Settings()
#: The same for our own end of a connection to an origin, which may not push.
WITHOUT_PUSH = Settings()
WITHOUT_PUSH.push = False

#: Bounds of the cache of first SETTINGS, since nearly all clients send one of a few.
MEMO_SETTINGS, MEMO_SETTINGS_SIZE = 64, 96
_known: dict[tuple[Settings, bytes], Settings] = {}


def _flag(value: int, section: str, detail: str) -> bool:
    if value > 1:
        raise H2Error(Code.PROTOCOL_ERROR, section, detail)
    return bool(value)


# -- padding --------------------------------------------------------------------------------


def unpad(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the content of a padded frame is in `data` (sections 6.1 and 6.2)."""
    if start == end:
        raise H2Error(Code.FRAME_SIZE_ERROR, "6.1", "a padded frame without a pad length")
    padding = data[start]
    if start + 1 + padding > end:
        raise H2Error(Code.PROTOCOL_ERROR, "6.1", "padding that is longer than its frame")
    return start + 1, end - padding


def unpadded(number: int, flags: int, payload: bytes) -> bytes:
    """The field block of HEADERS with padding or a priority, which is ignored (section 5.3.2)."""
    start, end = 0, len(payload)
    if flags & PADDED:
        start, end = unpad(payload, start, end)
    if flags & PRIORITIZED:
        start += PRIORITY_SIZE
        if start > len(payload):
            raise H2Error(Code.FRAME_SIZE_ERROR, "6.2", "HEADERS too short for its priority")
        if start > end:
            raise H2Error(Code.PROTOCOL_ERROR, "6.2", "padding in the place of a priority")
        check_priority(number, payload, start - PRIORITY_SIZE)
    return payload[start:end]


def check_priority(number: int, payload: bytes, at: int = 0) -> None:
    """A stream that depends on itself is an error to those who still send priorities (RFC 7540)."""
    if int.from_bytes(payload[at : at + 4], "big") & MAX_NUMBER == number:
        raise H2Error(Code.PROTOCOL_ERROR, "7540 5.3.1", "a stream that depends on itself")


# -- frames to send --------------------------------------------------------------------------


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """One frame; `number` is its stream, 0 for the connection."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 255, kind, flags, number) + payload


SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")


def window_update(number: int, increment: int) -> bytes:
    """Allow the peer to send `increment` more bytes of DATA."""
    return _WITH_NUMBER.pack(0, 4, WINDOW_UPDATE, 0, number, increment)


def rst_stream(number: int, code: int) -> bytes:
    """Abort one stream."""
    return _WITH_NUMBER.pack(0, 4, RST_STREAM, 0, number, code)


def go_away(last: int, code: int, debug: bytes = b"") -> bytes:
    """Take no streams above `last`."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last, code) + debug)


def long_head(number: int, block: bytes, ended: bool, frame_size: int) -> list[bytes]:
    """HEADERS with a field block that is too long for a frame, and CONTINUATION with the rest."""
    size = len(block)
    frames = [frame(HEADERS, END_STREAM if ended else 0, number, block[:frame_size])]
    for at in range(frame_size, size, frame_size):
        flags = END_HEADERS if at + frame_size >= size else 0
        frames.append(frame(CONTINUATION, flags, number, block[at : at + frame_size]))
    return frames
