"""What a client asks for in its ClientHello."""

import ssl

#: Bytes of a ClientHello that are looked at; OpenSSL accepts twice as many.
MOST = 65536


class Asked(ssl.SSLObject):
    """A connection of a TLS listener, as the callback for its ClientHello sees it.

    `hello` is the part that has arrived, None once it was examined.  `shares_no_protocol` if ALPN
    has refused it.
    """

    hello: bytes | None = b""
    shares_no_protocol = False

    def note(self, raw: bytes | memoryview) -> None:
        """More of the handshake has come."""
        if self.hello is not None and len(self.hello) < MOST:
            self.hello += raw
