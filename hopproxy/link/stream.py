"""What an exchange needs of its two sides, whatever protocol each of them speaks.

A *client stream* brings one request in and takes its response out; an *upstream stream* does the
reverse.  In HTTP/1.1 a stream is a whole link (`ClientLink`, `UpstreamLink`), which serves one
exchange after another.  A protocol with many exchanges on one link has a stream of its own for each
of them, beside these two.

Behind a stream stand the framing of its hop and the persistence of its connection.  An exchange
never writes `Transfer-Encoding` or `Connection`, and neither side knows what the other one speaks.
"""

from __future__ import annotations

from typing import Protocol

from hopproxy.link.link import Link
from hopproxy.link.stepper import Stepper, Wait
from hopproxy.message import Head, RequestHead, ResponseHead
from hopproxy.record import CloseReason
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.hop import Underscores
from hopproxy.settings.schema import ClientSettings

#: What the gateway adds to a request's head: lines of who is asking, Via, and what becomes of
#: field names with `_`; and the authority, for a request that names none.
Added = tuple[bytes, bytes, Underscores, bytes]


class Bound(Protocol):
    """An upstream link that is bound to one client, and ends with it."""

    def end(self) -> None: ...


class Stream(Protocol):
    """What both sides have.  Writing only queues; all that waits raises LinkError."""

    number: int

    #: The link of its own that a stream of HTTP/1.1 is; a tunnel and a splice need one.
    @property
    def link(self) -> Link: ...
    @property
    def at_hand(self) -> bool:
        """Whether bytes of the body have come that nobody has read."""

    @property
    def trailers(self) -> list[bytes]:
        """The trailers of the body that has been read."""

    def now(self) -> float: ...
    def take_content(self, head: Head) -> bytes | None:
        """The whole body of this head, if it is at hand; else nothing is taken."""

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end."""

    def write_content(self, data: bytes) -> None:
        """Queue bytes of the body that goes out."""

    def end_content(self, trailers: list[bytes]) -> None:
        """Queue its end."""

    async def flush(self) -> None:
        """Send what is queued."""


class ClientStream(Stream, Protocol):
    """The client's side of one exchange.

    `peer`, `served` (which request of its link this is) and `since` (when it began) are for the
    record.  `driver` steps the exchange: an error can be thrown into it there.  `gone` once the
    client has left.  `closing` is why its connection closes after this exchange; what is set
    before the response's head is written is said there.
    """

    peer: str
    served: int
    since: float
    sender: Sender
    limits: ClientSettings
    driver: Stepper | None
    gone: bool
    closing: CloseReason | None
    partner: Link | None
    bound: Bound | None
    request: RequestHead

    def name_by(self, request: RequestHead) -> str:
        """The client that a trusted proxy names in this request."""

    async def send_interim(self, head: ResponseHead) -> None:
        """Send an interim response, where the client's protocol has them."""

    def respond(self, head: ResponseHead, added: bytes, content: bytes) -> None:
        """Queue a whole response, with the lines `added` by the gateway."""

    def begin_response(self, head: ResponseHead, added: bytes) -> None:
        """Queue the head of a response whose body follows."""

    def send_last(self) -> bool:
        """The response has been queued to its end.  False where `finish` must wait for it."""

    async def finish(self) -> None:
        """Wait until the response has been sent."""

    async def switch(self, head: ResponseHead, added: bytes, protocol: bytes) -> None:
        """Send a 101: another protocol begins."""


class UpstreamStream(Stream, Protocol):
    """The origin's side of one attempt."""

    def write_request(self, head: RequestHead, added: Added, body: bytes) -> None:
        """Queue the request's head, and the body at hand."""

    def send_soon(self) -> None:
        """Send what is queued at the end of this batch of events."""

    def expect_head(self, deadline: float) -> Wait:
        """Set the deadline of the response's head; what to wait for until something comes."""

    def head_at_hand(self, method: bytes) -> ResponseHead | None:
        """The response's head if it has come whole; None leaves everything to `read_head`."""

    async def read_head(self, method: bytes) -> ResponseHead:
        """The next head, interim ones included.  Raises BadResponse as well."""

    def take_at_hand(self) -> bytes:
        """What of the body has come.  Raises BadResponse."""

    def end_cycle(self, head: ResponseHead, request_sent: bool) -> None:
        """The response has been read: settle whether the connection may serve again."""
