"""What every exchange of a worker has in common."""

import time
from email.utils import formatdate

from hopproxy.link.splice import Pipe
from hopproxy.rules.hop import Underscores


class Terms:
    """What holds for every exchange of a worker: our name, what we write, whether we drain."""

    def __init__(self, pseudonym: bytes, *, via: str, underscores: Underscores) -> None:
        self.pseudonym = pseudonym
        self.underscores = underscores
        self.rejects_underscores = underscores is Underscores.REJECT
        self.draining = False
        self.pipe = Pipe()  # for long bodies
        lines = b"Via: 1.0 %b\r\n" % pseudonym, b"Via: 1.1 %b\r\n" % pseudonym
        #: Our Via line by the minor version a message came with: for upstream, for clients.
        self.via_upstream = lines if via in ("both", "request") else (b"", b"")
        self.via_client = lines if via in ("both", "response") else (b"", b"")
        self._date = b""
        self._date_at = 0

    def date_line(self) -> bytes:
        """Date, for a response whose origin sent none (RFC 9110 section 6.6.1)."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._date
