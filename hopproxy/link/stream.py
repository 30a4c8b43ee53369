"""What an exchange needs of the client's side and of the origin's, whatever protocol they speak.

A *client stream* carries one request in and its response out; an *upstream stream* does the
reverse.  In HTTP/1.1 a stream is a whole link (`ClientLink`, `UpstreamLink`), which serves one
exchange after another.  In HTTP/2 there is one object per exchange (`H2Stream` on the client's
side).

The framing of the hop and the persistence of its connection are hidden behind a stream.  An
exchange never writes `Transfer-Encoding` or `Connection`, and neither side knows which protocol the
other one speaks.
"""

from __future__ import annotations

from typing import Protocol

from hopproxy.errors import HopError, LinkError
from hopproxy.link.clients import Bound
from hopproxy.link.link import Link
from hopproxy.link.stepper import Stepper, Wait
from hopproxy.link.tunnel import TunnelEnd
from hopproxy.message import Head, RequestHead, ResponseHead
from hopproxy.reasons import CloseReason, Unused
from hopproxy.rules.forwarding import Sender
from hopproxy.rules.hop import Underscores
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.upstream import UpstreamSettings

#: What the gateway adds to a request: the forwarding fields, Via, what to do with field names that
#: contain `_`, and the Host to send if the request has none.
Added = tuple[bytes, bytes, Underscores, bytes]


class Stream(Protocol):
    """What both sides have.  Writing only queues.  Everything that waits may raise LinkError.

    `number` is the number of its connection in the logs.
    """

    number: int

    @property
    def link(self) -> Link | None:
        """The link that carries this stream alone (HTTP/1.1); None if others share it.

        Only a splice needs it, and the origin's end of a tunnel.
        """

    @property
    def at_hand(self) -> bool:
        """Whether unread bytes of the body have arrived."""

    @property
    def trailers(self) -> list[bytes]:
        """The trailers of the body that has been read."""

    def now(self) -> float: ...
    def take_content(self, head: Head) -> bytes | None:
        """Take the body of this head if all of it has arrived; else None, and nothing is taken."""

    async def read_body(self) -> bytes:
        """The next bytes of the body, b"" at its end."""

    def write_content(self, data: bytes) -> None:
        """Queue bytes of the body to send."""

    def end_content(self, trailers: list[bytes]) -> None:
        """Queue the end of the body to send."""

    async def flush(self) -> None:
        """Send what is queued."""


class ClientStream(Stream, Protocol):
    """The client's side of one exchange.

    `peer` (the client's address), `served` (the number of this request on its connection) and
    `stream_id` (in HTTP/2 its stream, else 0) are for the log.  `since` is when the request began;
    after the exchange, since when the connection is idle.  `sender` knows what to tell the origin
    about the client.  `limits` are the settings of its connection.  `driver` steps the exchange;
    errors are thrown into the exchange through it.  `gone` once the client has left.

    `closing` is why this exchange is the last of its connection, None if others may follow.  If it
    is set before the response's head is written, the head announces the close.  If it is set later,
    the response was cut off, or a tunnel has ended.  HTTP/1.1 closes the link in both cases; in
    HTTP/2 only the second has an effect, and it resets the stream.

    `body_by` is when `read_body` gives up (BODY_RATE), however little has arrived since.

    `fd` is the descriptor of its connection, -1 once that is closed.

    `partner` is the upstream link that this exchange uses now, None if none.  `bound` is an
    upstream link kept for this client from an earlier exchange (NTLM).
    """

    peer: str
    served: int
    stream_id: int
    since: float
    sender: Sender
    limits: LinkSettings
    gone: bool
    closing: CloseReason | None
    body_by: float
    partner: Link | None
    bound: Bound | None
    request: RequestHead

    @property
    def driver(self) -> Stepper | None: ...
    @property
    def fd(self) -> int: ...

    def gone_error(self) -> LinkError:
        """The error for a client that has left during its exchange."""

    def glimpse(self, error: HopError) -> tuple[bytes, bytes, bytes]:
        """(method, target, host) of a request that was refused with `error`, as far as known."""

    def name_by(self, request: RequestHead) -> str:
        """Return and remember the client that a trusted proxy names in this request, "" if none."""

    async def send_interim(self, head: ResponseHead) -> None:
        """Send an interim response, if the client's protocol has them."""

    def respond(self, head: ResponseHead, added: bytes, content: bytes) -> None:
        """Queue a complete response, with the field lines `added` by the gateway."""

    def begin_response(self, head: ResponseHead, added: bytes) -> None:
        """Queue the head of a response whose body follows."""

    def send_last(self) -> bool:
        """Call when all of the response is queued: sends it.  False: await `finish`."""

    async def finish(self) -> None:
        """After `send_last` has returned False: wait until all of the response has been sent."""

    async def switch(self, head: ResponseHead, added: bytes, protocol: bytes) -> None:
        """Tell the client that its connection, or stream, switches to another protocol."""

    def tunnel_end(self) -> TunnelEnd:
        """After `switch`: the client's end of the tunnel."""


class UpstreamStream(Stream, Protocol):
    """The origin's side of one attempt, as the pool has lent it.

    `number`, `local_port`, `since`, `served`, `unused` and `dialled_at` are its connection's (see
    `link.pooled`); `served` counts this request.  `multiplexed` if others share the connection.
    `ending` is why its connection is not used again, None if it is; `bound` and `greeting` are for
    connections that only one client may use.  `uploading` while a body is being sent.

    About a retry: `reused` if the connection may have died before this request, `written` are bytes
    sent, `answered` if anything of a response has arrived, `unprocessed` if the origin has said
    that it did nothing with the request, `http11_required` if it wants it in HTTP/1.1.

    `body_timeout` and `write_timeout` are those of the upstream, unless a route has its own.
    """

    body_timeout: float
    write_timeout: float
    multiplexed: bool
    local_port: int
    since: float
    idled: float
    served: int
    limits: UpstreamSettings
    ending: CloseReason | None
    bound: bool
    greeting: bool
    uploading: bool
    unprocessed: bool
    http11_required: bool

    @property
    def unused(self) -> Unused | None: ...
    @property
    def dialled_at(self) -> float: ...
    @property
    def reused(self) -> bool: ...
    @property
    def written(self) -> int: ...
    @property
    def answered(self) -> bool: ...

    def write_request(self, head: RequestHead, added: Added, body: bytes) -> None:
        """Queue the request's head, and the part of the body that has arrived."""

    def send_soon(self) -> None:
        """Send what is queued at the end of this batch of events."""

    def expect_head(self, deadline: float) -> Wait | None:
        """Set the deadline for the response's head; return what to wait for until bytes arrive.

        None if they may have arrived already, or if the request could not be sent completely.
        """

    def head_at_hand(self, method: bytes) -> ResponseHead | None:
        """The response's head if all of it has arrived.  After None, call `read_head`."""

    def begin_response(self, head: ResponseHead) -> None:
        """From here on `read_body` returns the body of a head that was at hand."""

    async def read_head(self, method: bytes) -> ResponseHead:
        """The next head, interim ones included.  Raises BadResponse as well."""

    def take_at_hand(self) -> bytes:
        """Take the part of the body that has arrived.  Raises BadResponse."""

    def tunnel_end(self) -> TunnelEnd:
        """After a 101: the origin's end of the tunnel."""

    def end_cycle(self, head: ResponseHead, request_sent: bool) -> None:
        """The response has been read: decide whether the connection may be used again."""
