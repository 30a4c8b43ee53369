"""A WebSocket that leaves on a stream of an HTTP/2 connection: an extended CONNECT (RFC 8441).

The client's handshake has the form of HTTP/1.1.  Here it becomes one of HTTP/2, and a 2xx answer
becomes the 101 that the client waits for.  The origin's SETTINGS say whether it allows this, so on
a new connection the request waits for them.
"""

from __future__ import annotations

import binascii
from abc import abstractmethod
from base64 import b64decode

from hopproxy.errors import BadRequest, HopError, LinkError
from hopproxy.link.h2_outbound import Outbound
from hopproxy.link.h2_tunnel import StreamEnd, accept_of
from hopproxy.link.stream import Added
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.reasons import CloseReason, Hop
from hopproxy.rules.hop import request_for_upstream
from hopproxy.wire.h2_asking import websocket_block
from hopproxy.wire.h2_response import switched


class OutboundTunnel(Outbound):
    """The request of one stream, which may be a WebSocket's.

    `tunnel` is the origin's end of it, once the origin has agreed.  `unprocessed` if the origin has
    done nothing with the request, `http11_required` if it is to be sent in HTTP/1.1.
    """

    __slots__ = ("_asked", "_key", "http11_required", "tunnel", "unprocessed")

    unprocessed: bool
    http11_required: bool
    tunnel: StreamEnd | None
    _asked: bytes | None  # the head that waits for the origin's SETTINGS
    _key: bytes

    @abstractmethod
    def fail(self, error: HopError) -> None:
        """Nothing more will come."""

    def ask_websocket(self, head: RequestHead, added: Added) -> None:
        """Ask for a WebSocket, now or when it is known whether the origin allows it.

        Raises BadRequest if the client's handshake has no valid key.
        """
        keys = head.values(b"sec-websocket-key")
        if len(keys) != 1 or not _is_key(keys[0]):
            raise BadRequest("a WebSocket needs one Sec-WebSocket-Key (RFC 6455 section 4.1)")
        self._key = keys[0]
        self._asked = request_for_upstream(head, *added)
        self.on_settings()

    def on_settings(self) -> bool:
        """The origin's SETTINGS may have arrived: send the request.  True if it cannot be sent."""
        carrier, asked = self.carrier, self._asked
        machine = carrier.wire
        if asked is None or not machine.greeted or self.error is not None:
            return False
        self._asked = None
        if not machine.peer.connect:
            self._give_up()
        elif len(machine.streams) >= machine.max_streams:
            self.unprocessed = True
            detail = "the origin allows fewer streams than were assumed"
            self.fail(LinkError(Hop.UPSTREAM, CloseReason.STREAM_REFUSED, detail))
        else:
            block = websocket_block(asked, carrier.scheme)
            self.wire = machine.open(block, ended=False)
            self.wire.owner = self
            carrier.output.stir()
        return self.error is not None

    def _give_up(self) -> None:
        detail = "the origin's HTTP/2 allows no WebSocket (RFC 8441 section 3)"
        reason = CloseReason.UPGRADE_DECLINED
        if self.carrier.speaks_http1:  # on another connection
            self.unprocessed = self.http11_required = True
            reason = CloseReason.STREAM_REFUSED
        error = LinkError(Hop.UPSTREAM, reason, detail)
        error.cause = "http_upgrade_failed"
        self.fail(error)

    def _switched(self, head: ResponseHead) -> ResponseHead:
        """The answer to a CONNECT for the client: a 2xx becomes a 101."""
        if not 200 <= head.status < 300:
            return head
        self.tunnel = StreamEnd(self, Hop.UPSTREAM)
        if self.error is not None:  # it was reset right after this head
            self.cut_tunnel(self.error)
        return switched(head, accept_of(self._key))

    # -- the tunnel --------------------------------------------------------------------------

    def tunnel_end(self) -> StreamEnd:
        """After a 101: the origin's end of the tunnel."""
        assert self.tunnel is not None
        return self.tunnel

    def cut_tunnel(self, error: HopError) -> None:
        """End the tunnel, if there is one, with what has ended the stream."""
        if self.tunnel is not None:
            cut = error
            if not isinstance(cut, LinkError):
                cut = LinkError(Hop.UPSTREAM, error.reason, error.detail)
                cut.cause = error.cause
            self.tunnel.failed = cut

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the origin has ended its side."""

    @property
    @abstractmethod
    def at_hand(self) -> bool:
        """Whether unread bytes have arrived."""

    @abstractmethod
    def take_bytes(self) -> bytes:
        """Take what has arrived; the origin may send as much more."""

    def send_bytes(self, data: bytes) -> None:
        """Queue bytes, and begin to send them."""
        self._out = data
        self.carrier.output.offer(self)

    def send_end(self) -> None:
        """End our side."""
        self._end = True
        self.carrier.output.offer(self)

    def wake_at(self, deadline: float) -> None:
        """Make sure that the tunnel's `on_time` is called by then."""
        self.carrier.wake_by(deadline)

    def wake_writer(self) -> None:
        """Everything queued is in frames, or the stream has ended: wake the writer."""
        if self.tunnel is not None:
            self.tunnel.wake()
        else:
            super().wake_writer()


def _is_key(value: bytes) -> bool:
    """Whether this is a Sec-WebSocket-Key: 16 bytes in base64 (RFC 6455 section 4.2.1)."""
    try:
        return len(b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False
