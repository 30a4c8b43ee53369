"""One HTTP/2 stream: its state and its two flow-control windows (RFC 9113 sections 5.1, 5.2)."""

from types import MappingProxyType
from typing import Any, cast


class Stream:
    """One request and its response on an HTTP/2 connection.

    `number` is the stream identifier.  `owner` is whatever the link above wants to find here.

    `ended` once the peer has sent END_STREAM, `finished` once we have; both: closed.  `reset` is
    the error code of the RST_STREAM (sent or received) that ended it, None if there was none.  Of a
    closed or reset stream nothing is sent or received any more.

    `send_window` is how many bytes of DATA we may still send (below 0 after the peer has lowered
    its setting), `receive_window` how many the peer may.  `blocked` if `send_data` could not send
    all: a ROOM event follows.  `unclaimed` are received bytes for which nobody has called `credit`;
    `owed` are credited bytes that the peer has not been told of.
    """

    __slots__ = (
        "blocked", "ended", "finished", "number", "owed", "owner", "receive_window", "reset",
        "send_window", "unclaimed",
    )  # fmt: skip

    def __init__(self, number: int, send_window: int, receive_window: int) -> None:
        self.number = number
        self.owner: Any = None
        self.ended = False
        self.finished = False
        self.reset: int | None = None
        self.send_window = send_window
        self.receive_window = receive_window
        self.blocked = False
        self.unclaimed = 0
        self.owed = 0

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent or received any more."""
        return self.reset is not None or (self.ended and self.finished)

    def __repr__(self) -> str:
        return f"<Stream {self.number} ended={self.ended} finished={self.finished} {self.reset}>"


#: The streams of a connection that has none; it takes no memory, and none can be put into it.
NO_STREAMS = cast("dict[int, Stream]", MappingProxyType({}))
#: Trailers and content of streams that have none; nothing can be added.
NO_LINES = cast("list[bytes]", ())
