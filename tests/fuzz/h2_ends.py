"""The far ends of the gateway's HTTP/2 connections: the library `h2`, made to say anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from tests.fuzz.ends import End
from tests.fuzz.h2_script import Act
from tests.fuzz.h11_reader import Disagreement
from tests.h2_peer import (
    CONTINUATION,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PREFACE,
    Fields,
    frame,
    frames_of,
    number,
)

#: What a window is raised by when nothing else moves.
ROOM = 1 << 17


class Half:
    """What one side has said on a stream, or what the other one has heard.

    `heads` are field sections in order: interim ones, the final one; `reset` is the code of a
    reset.
    """

    def __init__(self) -> None:
        self.heads: list[Fields] = []
        self.content = b""
        self.trailers: Fields | None = None
        self.ended = False
        self.reset: int | None = None

    def __repr__(self) -> str:
        return f"{self.heads} {self.content!r} {self.trailers} {self.ended} {self.reset}"


class H2End:
    """One connection.  `said` and `heard` by the number of the stream.

    `begun` and `ended` are streams whose other side has begun and ended, in order.  An origin that
    `connects` allows extended CONNECT; `leaves` once it has sent GOAWAY.
    """

    def __init__(
        self, end: End, *, client: bool, window: int | None = None, connects: bool = False
    ) -> None:
        self.end = end
        self.client = client
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            normalize_inbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.decoder.max_header_list_size = 1 << 20
        if window is not None:
            code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
            self.h2.local_settings = h2.settings.Settings(client, {code: window})
        if connects:
            code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
            self.h2.local_settings = h2.settings.Settings(client, {code: 1})
        self.h2.initiate_connection()
        self.said: dict[int, Half] = {}
        self.heard: dict[int, Half] = {}
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.leaves = self.finished = False
        self.leaving: list[tuple[int, int]] = []  # the last stream and the code of each GOAWAY
        self._out = self.h2.data_to_send()
        self._read = 0
        self._rest = b""
        self._greeted = False
        self.broken = False  # it has said what its library would not say
        self.deaf = False  # so the library has given up
        self._unanswered = 1  # SETTINGS that are not acknowledged

    # -- out ---------------------------------------------------------------------------------

    def perform(self, act: Act, stream: int) -> bool:
        """Do this; False if the library does not let its user do so.

        What a connection does not allow in its state ends it in the library: so it is not tried.
        """
        anyhow = act.what in ("other", "raw")
        if self.finished or act.what == "begin" or not (anyhow or self._may(act, stream)):
            return False
        try:
            self._perform(act, stream)
        except (h2.exceptions.ProtocolError, ValueError, KeyError):
            self._out += self.h2.data_to_send()
            return False
        return True

    def _may(self, act: Act, stream: int) -> bool:
        half = self.said.get(stream)
        if act.what in ("head", "trailers") and not act.fields:
            return False
        if act.what == "head" and half is None:
            return self.client or stream in self.heard
        if act.what in ("head", "trailers", "data", "reset"):
            again = act.what == "head" and self.client
            return half is not None and not half.ended and half.reset is None and not again
        if act.what == "setting" and self._unanswered:
            return False  # it takes each acknowledgment for that of the latest one
        return bool(self.said or self.heard)

    def _perform(self, act: Act, stream: int) -> None:
        self._out += self.h2.data_to_send()
        half = self.said.get(stream) or Half()
        if act.what in ("head", "trailers"):
            self.h2.send_headers(stream, list(act.fields), end_stream=act.end)
            self._out += b"".join(_split(self.h2.data_to_send(), act.number))
            if act.what == "head":
                half.heads.append(list(act.fields))
            else:
                half.trailers = list(act.fields)
        elif act.what == "data":
            pad = act.number or None
            self.h2.send_data(stream, act.data, end_stream=act.end, pad_length=pad)
            half.content += act.data
        elif act.what == "reset":
            self.h2.reset_stream(
                stream, h2.errors.ErrorCodes(act.number) if act.number < 14 else 99
            )
            half.reset = act.number
        elif act.what == "table":
            size = min(act.number, self.h2.remote_settings.header_table_size)
            if size != self.h2.encoder.header_table_size:  # else the library forgets to say so
                self.h2.encoder.header_table_size = size
        elif act.what == "setting":
            code = h2.settings.SettingCodes(int(act.data))
            self.h2.update_settings({code: act.number})
            self._unanswered += 1
        elif act.what == "window":
            self.h2.increment_flow_control_window(act.number)
        elif act.what in ("other", "raw"):
            self._out += act.data
            self.broken = self.broken or act.what == "raw"
        elif act.what == "leave":
            self.leaves = True
            self._out += frame(GOAWAY, 0, 0, number(max(0, stream - act.number)) + number(0))
        if act.what in ("head", "data", "trailers", "reset"):
            half.ended = half.ended or act.end
            self.said[stream] = half
        self._out += self.h2.data_to_send()

    def take_out(self) -> bytes:
        """What is to be sent."""
        data, self._out = self._out + self.h2.data_to_send(), b""
        return data

    def flush(self) -> None:
        """Send all of it."""
        if data := self.take_out():
            self.end.send(data)

    def give_room(self) -> bool:
        """Let the gateway send on where a window keeps it from that; False if none does."""
        if self.deaf:
            return False
        given = False
        for stream in self.said if self.client else self.heard:
            heard = self.heard.get(stream)
            if heard is not None and (heard.ended or heard.reset is not None):
                continue
            try:
                if self.h2.remote_flow_control_window(stream) < ROOM:
                    self.h2.increment_flow_control_window(ROOM, stream)
                    given = True
            except h2.exceptions.ProtocolError:
                continue
        if self.h2.inbound_flow_control_window < ROOM:
            self.h2.increment_flow_control_window(ROOM)
            given = True
        return given

    def finish(self) -> None:
        """Send FIN: nothing can be said behind it."""
        self.finished = True
        self.end.finish()

    # -- in ----------------------------------------------------------------------------------

    def hear(self) -> None:
        """Read what has come.  Raises Disagreement where the library refuses it."""
        if self.deaf:
            return
        data = self._rest + self.end.came[self._read :]
        self._read = len(self.end.came)
        if not self.client and not self._greeted and len(data) >= len(PREFACE):
            self.h2.receive_data(data[: len(PREFACE)])
            data, self._greeted = data[len(PREFACE) :], True
        for one in frames_of(data):
            data = data[len(one) :]
            if one[3] == GOAWAY:  # after which it would read no more
                self.leaving.append((int.from_bytes(one[9:13]), int.from_bytes(one[13:17])))
                continue
            try:
                events = self.h2.receive_data(one)
            except h2.exceptions.ProtocolError as error:
                if self.broken:  # it does not know what it is answered to
                    self.deaf = True
                    return
                raise Disagreement(
                    f"h2 refuses what we sent: {type(error).__name__}: {error}: {one[:300]!r}"
                ) from error
            for event in events:
                self._note(event)
        self._rest = data

    def _note(self, event: Any) -> None:
        if isinstance(event, h2.events.SettingsAcknowledged):
            self._unanswered -= 1
        stream = getattr(event, "stream_id", None)
        if not stream:
            return
        half = self.heard.setdefault(stream, Half())
        if isinstance(
            event,
            h2.events.RequestReceived
            | h2.events.ResponseReceived
            | h2.events.InformationalResponseReceived,
        ):
            half.heads.append(_pairs(event.headers))
            self.begun.append(stream)
        elif isinstance(event, h2.events.TrailersReceived):
            half.trailers = _pairs(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            half.content += event.data or b""
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.StreamEnded):
            half.ended = True
            self.ended.append(stream)
        elif isinstance(event, h2.events.StreamReset):
            half.reset = int(event.error_code or 0)


def _pairs(headers: Any) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in headers]


def _split(data: bytes, at: int) -> Iterator[bytes]:
    """The same frames, but HEADERS in two, of which the first has so many bytes of the block."""
    for one in frames_of(data):
        if one[3] == HEADERS and one[4] & END_HEADERS and 0 < at < len(one) - 9:
            stream = int.from_bytes(one[5:9])
            yield frame(HEADERS, one[4] & ~END_HEADERS, stream, one[9 : 9 + at])
            yield frame(CONTINUATION, END_HEADERS, stream, one[9 + at :])
        else:
            yield one
