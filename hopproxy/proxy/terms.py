"""What all exchanges of a worker share."""

import random
import time
from collections.abc import Callable, Sequence
from email.utils import formatdate

from hopproxy.errors import HopError
from hopproxy.link.splice import Pipe
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.proxy.route import RouteTerms
from hopproxy.proxy.tally import Tally
from hopproxy.record import ExchangeRecord
from hopproxy.routing.table import Table
from hopproxy.rules.forwarding import own_via
from hopproxy.rules.hop import Underscores
from hopproxy.settings.route import Route

Log = Callable[[ExchangeRecord], None]
#: Replaces one of our own responses by a page for browsers.
Page = Callable[[RequestHead | None, HopError], tuple[ResponseHead, bytes] | None]


class Terms:
    """What applies to every new exchange: the routes, our name, the fields we add, the log.

    `log` is called for every exchange that ends.  `unrouted` counts those that matched no route, or
    a route without an upstream.  `over_https` are the routes without those that only redirect to
    https.
    """

    def __init__(
        self,
        routes: Sequence[tuple[Route, RouteTerms]],
        pseudonym: bytes,
        *,
        via: str,
        underscores: Underscores,
    ) -> None:
        self.table = Table(routes)
        self.over_https = Table([one for one in routes if one[0].redirect != "https"])
        self.pseudonym = pseudonym
        self.underscores = underscores
        self.rejects_underscores = underscores is Underscores.REJECT
        self.traces = False  # whether TRACE is answered and passed on
        self.unrouted = Tally()
        self.log: Log | None = None
        self.page: Page | None = None
        self.pipe = Pipe()  # for long bodies
        lines = own_via(pseudonym)
        none = (b"",) * len(lines)
        self.via_upstream = lines if via in ("both", "request") else none
        self.via_client = lines if via in ("both", "response") else none
        self._date = b""
        self._date_at = 0

    def succeed(self, before: "Terms") -> None:
        """Keep what outlives a change of settings: the log, the counters, the pipe."""
        self.log = before.log
        self.page = before.page
        self.unrouted = before.unrouted
        self.pipe = before.pipe

    @staticmethod
    def fresh_id(digits: int) -> bytes:
        """`digits` random hexadecimal digits, not all zero."""
        return b"%0*x" % (digits, random.randrange(1, 16**digits))

    def date_line(self) -> bytes:
        """The Date field for a response without one (RFC 9110 section 6.6.1)."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._date
