"""What the library `h2` reads on a connection, frame by frame."""

from __future__ import annotations

from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.h2_peer import PREFACE, SETTINGS, Fields, frame, frames_of

#: (head, data, reset or goaway; its stream; fields, bytes or number; whether the stream ends)
Event = tuple[str, int, Any, bool]

#: The requests that wait for a response when an origin's bytes arrive.
ASKED = {1: b"GET", 3: b"POST", 5: b"HEAD"}


class Trouble(NamedTuple):
    """Why the library stopped.  `is_stricter` where it refuses what RFC 9113 permits."""

    error: str
    is_stricter: bool


def settings_frame() -> bytes:
    """The first frame of any peer."""
    return frame(SETTINGS, 0, 0)


def connection(*, from_client: bool, strict: bool = False) -> h2.connection.H2Connection:
    """The library as the receiver; `strict` if it looks at fields too."""
    config = h2.config.H2Configuration(
        client_side=not from_client,
        header_encoding=None,
        validate_inbound_headers=strict,
        normalize_inbound_headers=False,
        validate_outbound_headers=False,
    )
    made = h2.connection.H2Connection(config)
    made.decoder.max_header_list_size = 1 << 20
    made.initiate_connection()
    if from_client:
        made.receive_data(PREFACE)
    else:
        for stream, method in ASKED.items():
            made.send_headers(stream, asked(method), end_stream=True)
    made.increment_flow_control_window(1 << 22)
    made.data_to_send()
    return made


def asked(method: bytes) -> Fields:
    """A request."""
    return [(b":method", method), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")]


def library_events(from_client: bool, data: bytes) -> tuple[list[Event], Trouble | None]:
    """Everything it reads, and why it stopped."""
    receiver = connection(from_client=from_client)
    read: list[Event] = []
    for one in frames_of(data):
        try:
            events = receiver.receive_data(one)
        except h2.exceptions.ProtocolError as error:
            return _without_empty(read), _trouble(error, one)
        for event in events:
            trouble = _note(read, event)
            if trouble is not None:
                return _without_empty(read), trouble
        receiver.data_to_send()
    return _without_empty(read), None


def _note(read: list[Event], event: h2.events.Event) -> Trouble | None:
    if isinstance(
        event,
        h2.events.RequestReceived
        | h2.events.ResponseReceived
        | h2.events.InformationalResponseReceived
        | h2.events.TrailersReceived,
    ):
        fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        read.append(("head", event.stream_id, fields, _ends(event)))
    elif isinstance(event, h2.events.DataReceived):
        read.append(("data", event.stream_id, event.data, _ends(event)))
    elif isinstance(event, h2.events.StreamReset):
        if not event.remote_reset:
            return Trouble(f"stream {event.stream_id} reset: {event.error_code}", False)
        read.append(("reset", event.stream_id, None, True))
    elif isinstance(event, h2.events.ConnectionTerminated):
        read.append(("goaway", 0, (event.last_stream_id or 0) & 0x7FFFFFFF, False))
        return Trouble("GOAWAY", True)
    return None


def _ends(event: Any) -> bool:
    return getattr(event, "stream_ended", None) is not None


def _trouble(error: h2.exceptions.ProtocolError, sent: bytes) -> Trouble:
    text = f"{type(error).__name__}: {error}"
    # HEADERS that are nothing but padding: only padding that exceeds them is an error (6.2).
    bare = "invalid padding" in text and sent[9] == len(sent) - 10
    return Trouble(text, bare or any(words in text for words in STRICTER))


#: What it refuses although RFC 9113 lets us go on: the reserved bit of WINDOW_UPDATE, streams above
#: the limit (an error of the stream here), frames of types that RFC 9113 does not have, priorities.
#: The order of messages, and their length, are looked at with their fields.
STRICTER = (
    "content-length header",
    "InvalidBodyLength",
    "INFORMATIONAL_HEADERS",
    "nformational response",
    "data before headers",
    "Trailers must have END_STREAM",
    "non-compliant data",
    "FrameDataMissing",
    "Max inbound streams",
    "depend on itself",
    "flow control window past",  # of a stream that is closed
)


def _without_empty(read: list[Event]) -> list[Event]:
    return [event for event in read if event[0] != "data" or event[2] or event[3]]


def refuses(fields: Fields, block: bytes, *, from_client: bool, ended: bool) -> str:
    """Why it refuses a message that begins with these fields, "" if it does not."""
    receiver = connection(from_client=from_client, strict=True)
    receiver.receive_data(settings_frame())
    try:
        receiver.receive_data(frame(1, 5 if ended else 4, 1, block))
    except h2.exceptions.ProtocolError as error:
        return f"{type(error).__name__}: {error}"
    return ""
