"""Lends the streams of HTTP/2 links: many requests on one connection.

A request gets a stream of a link in use that has room, or else of the warmest idle link.  If all
are full, another link is dialled.  If a link was silent for long, a request that cannot be retried
is sent on it only after the origin has answered a PING.
"""

from __future__ import annotations

from hopproxy.link.faults import report
from hopproxy.link.h2_upstream import H2UpstreamLink
from hopproxy.link.h2_upstream_stream import H2UpstreamStream
from hopproxy.link.origin_tls import OriginTransport
from hopproxy.link.pooled import PooledLink
from hopproxy.link.upstream import UpstreamLink
from hopproxy.pool import health
from hopproxy.pool.books import Books
from hopproxy.pool.origin import Origin
from hopproxy.pool.pulse import Pulse
from hopproxy.pool.reach import PATIENCE
from hopproxy.reasons import CloseReason, Unused
from hopproxy.record import CloseRecord
from hopproxy.wire.h2 import Code

#: What the pool lends to a request.
Lent = UpstreamLink | H2UpstreamStream

#: The code for a stream whose exchange has failed.
_CODES = {
    CloseReason.BAD_RESPONSE: Code.PROTOCOL_ERROR,
    CloseReason.INTERNAL_ERROR: Code.INTERNAL_ERROR,
}


class SharedLinks:
    """The HTTP/2 links of a pool, and their keeper.  `resets` counts resets by origins, by code."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._pulse = Pulse(books.watch, books.links, self._fell_silent)
        self.resets: dict[int, int] = {}

    # -- checking out ------------------------------------------------------------------------

    def take_now(self, origin: Origin, *, look: bool) -> Lent | None:
        """A stream of a link in use, else of the warmest idle link; None if there is none.

        Idle links may speak HTTP/1.1.  `look` is for a request that cannot be retried: it takes no
        link that was silent for long.
        """
        link = self._books.ledger.lend(origin)
        if link is not None:
            assert isinstance(link, H2UpstreamLink)
            if not look or self._books.watch.now() - link.heard_at <= origin.young:
                return self._open(origin, link)
            self._end_stream(origin, link)
            return None
        now = self._books.watch.now()
        while (warmest := next(reversed(origin.idle), None)) is not None:
            if look and not origin.has_young(now):
                return None
            if (lent := self._take_idle(origin, warmest, look=look)) is not None:
                return lent
        return None

    def _take_idle(self, origin: Origin, link: PooledLink, *, look: bool) -> Lent | None:
        """Check out an idle link, the warmest; None if it turns out to have ended."""
        books, transport = self._books, link.transport
        if isinstance(link, H2UpstreamLink):
            if transport.readable or (look and transport.endpoint.has_input()):
                link.on_unawaited(transport.hung_up)
                if link not in origin.idle:
                    return None
            self._check_out(origin, link)
            return self._open(origin, link)
        assert isinstance(link, UpstreamLink)
        books.ledger.take_idle(origin)
        if (look or transport.readable) and transport.endpoint.has_input():
            books.end_dead(origin, link)
            return None
        origin.reused += 1
        link.begin()
        return link

    def _check_out(self, origin: Origin, link: H2UpstreamLink) -> None:
        ledger = self._books.ledger
        ledger.take_idle(origin)
        link.begin()
        ledger.begin(origin, link)
        if not self._pulse.awake:
            self._pulse.wake()

    async def take_proven(self, origin: Origin) -> H2UpstreamStream | None:
        """A stream of a link that was silent for long, after the origin has answered a PING.

        Waits.  None if there is no such link, or no answer; then the link gets no more requests.
        """
        ledger = self._books.ledger
        link = ledger.lend(origin) or next(reversed(origin.idle), None)
        if not isinstance(link, H2UpstreamLink):
            return None
        if link in origin.idle:
            self._check_out(origin, link)
        try:
            alive = await link.pings.answered(PATIENCE)
        except BaseException:
            self._end_stream(origin, link)
            raise
        if alive:
            return self._open(origin, link)
        self._retire(origin, link, CloseReason.PING_TIMEOUT)
        self._end_stream(origin, link)
        if not _is_heard(origin, link):
            health.retire(self._books, origin)
        return None

    def begin(
        self, origin: Origin, link: H2UpstreamLink, why: Unused | None
    ) -> H2UpstreamStream | None:
        """The stream for a request that has waited; None if its link has ended."""
        if link not in origin.lent:
            return None
        if why is not None and not link.reused:
            link.unused = why
            origin.unused[why] = origin.unused.get(why, 0) + 1
        return self._open(origin, link)

    def _open(self, origin: Origin, link: H2UpstreamLink) -> H2UpstreamStream:
        if link.served:
            origin.reused += 1
        stream = link.open()
        if origin.limited:
            pool = origin.settings.pool
            if pool.max_requests and link.served >= pool.max_requests:
                self._retire(origin, link, CloseReason.REQUEST_LIMIT)
            elif origin.counted and link.served >= origin.counted:
                self._retire(origin, link, CloseReason.LEARNED)
            elif self._books.watch.now() >= link.old_at:
                self._retire(origin, link, CloseReason.MAX_AGE)
        return stream

    def _retire(self, origin: Origin, link: H2UpstreamLink, reason: CloseReason) -> None:
        """Give the link no more requests; it closes after those it has."""
        if link.retiring is None:
            link.retiring = reason
            link.measure()
            self._books.ledger.offer(origin, link)

    def _fell_silent(self, origin: Origin, link: H2UpstreamLink) -> None:
        """A link in use is silent, and perhaps others of its address."""
        books, now = self._books, self._books.watch.now()
        self._retire(origin, link, CloseReason.PING_TIMEOUT)
        if not _is_heard(origin, link):
            if origin.peers is not None and origin.peers.has_another(origin, now):
                origin.reach.silent(now)
            health.silent(books, origin, now)
        books.start_dials(origin)  # for those who wait for a stream of this link

    # -- taking back -------------------------------------------------------------------------

    def arrived(self, origin: Origin, link: H2UpstreamLink) -> None:
        """A dial has succeeded: its streams go to those who wait."""
        self.begin_first(origin, link)
        self._end_stream(origin, link)

    def begin_first(self, origin: Origin, link: H2UpstreamLink) -> None:
        """As `arrived`, but one of its streams is for the request that it was dialled for."""
        origin.streamed = True
        origin.each = max(1, link.max_streams)
        link.start()
        self._books.ledger.begin(origin, link)
        if not self._pulse.awake:
            self._pulse.wake()

    def give_back(self, origin: Origin, link: H2UpstreamLink) -> None:
        """The request has left before it used its stream."""
        self._end_stream(origin, link)

    def release(self, origin: Origin, stream: H2UpstreamStream, now: float) -> None:
        """The response has been read.  If the request has not ended, its stream is reset."""
        link = self._done(stream, Code.CANCEL)
        if link.idled > origin.proven:
            origin.outlived(link.idled, now)
        link.idled = -1.0
        if not link.heard:
            link.heard = True
            if isinstance(link.transport, OriginTransport):
                link.transport.secured.keep_session(link.transport)
        self._end_stream(origin, link)

    def discard(
        self, origin: Origin, stream: H2UpstreamStream, reason: CloseReason
    ) -> CloseRecord | None:
        """The exchange has failed: reset its stream.  Returns the record of a link that ended."""
        link = self._done(stream, _CODES.get(reason, Code.CANCEL))
        if reason is CloseReason.RESPONSE_TIMEOUT and not stream.answered:
            now, timeout = self._books.watch.now(), origin.settings.response_timeout
            if link.heard_at <= now - timeout:
                self._retire(origin, link, reason)
                if not _is_heard(origin, link):
                    health.retire(self._books, origin)
        if not stream.answered:
            health.request_ended(self._books, origin, reason, self._books.watch.now())
        self._end_stream(origin, link)
        return link.record

    def _done(self, stream: H2UpstreamStream, code: Code) -> H2UpstreamLink:
        link = stream.carrier
        assert isinstance(link, H2UpstreamLink)
        link.reset(stream, code)
        return link

    def _end_stream(self, origin: Origin, link: H2UpstreamLink) -> None:
        """A stream has ended, or was not used."""
        books = self._books
        if link not in origin.lent:  # the link has ended, with all its streams
            return
        if books.ledger.end(origin, link):
            self._settle(origin, link)
        if origin.waiters or books.ledger.waits_for_room:
            books.start_dials(origin)

    def _settle(self, origin: Origin, link: H2UpstreamLink) -> None:
        """The last stream of a link has ended: keep it idle, or close it."""
        books, now = self._books, self._books.watch.now()
        link.since = now
        reason = self._reason_to_close(origin, link, now)
        if reason is not None:
            link.idled = -1.0  # it ends after its request, not during it
            books.end(origin, link, reason)
            return
        evicted = books.ledger.give_back(origin, link)
        if link in origin.idle:
            link.has_rested = True
            link.transport.rest_until(origin.idle_until(link, now))
        if evicted is not None:
            books.end_evicted(evicted, full=origin)

    def _reason_to_close(
        self, origin: Origin, link: H2UpstreamLink, now: float
    ) -> CloseReason | None:
        if link.retiring is not None:
            return link.retiring
        if link.max_streams < 1:
            return CloseReason.PEER_ASKED
        if self._books.closing:
            return CloseReason.DRAINING
        return origin.limit_reached(link, now) if origin.limited else None

    # -- called by the links -----------------------------------------------------------------

    def on_room(self, link: H2UpstreamLink) -> None:
        """The origin allows more streams than before, or fewer."""
        origin = self._books.links.get(link)
        if origin is None:
            return
        if not link.leaving:
            origin.each = max(1, link.max_streams)
        if link.wire.greeted:
            origin.connects = link.wire.peer.connect
        if link in origin.lent:
            self._books.ledger.offer(origin, link)
        self._books.start_dials(origin)

    def on_end(self, link: H2UpstreamLink, reason: CloseReason) -> None:
        """A link has ended by itself: learn from it."""
        books, now = self._books, self._books.watch.now()
        origin = books.links[link]
        if link in origin.lent:
            sign = origin.died_idle(link, reason, now)
            books.ledger.drop(origin, link)
            link.record = books.end(origin, link, reason, counted=False)
            link.record.under_request(link.idled)
            if sign is not None:
                origin.saw_close(link, link.idled, now, sign)
            silence = now - max(link.heard_at, link.begun_at)
            if 0 < origin.settings.tcp_user_timeout <= silence and not _is_heard(origin, link):
                health.retire(books, origin)  # no ACK for so long
        elif books.ledger.drop_idle(origin, link):
            books.end(origin, link, reason, counted=False)
            if reason in (CloseReason.PEER_CLOSED, CloseReason.PEER_RESET):
                origin.saw_close(link, now - link.since, now)
        books.start_dials(origin)

    def on_reset(self, code: int) -> None:
        """An origin has reset a stream."""
        self.resets[code] = self.resets.get(code, 0) + 1

    def on_idle_event(self, link: PooledLink, hung_up: bool) -> None:
        """Not used: a link reads its events itself."""

    def on_idle_lapsed(self, link: PooledLink) -> None:
        """An idle link has reached its limit."""
        self._books.on_idle_lapsed(link)

    def on_hint(self, link: PooledLink, timeout: float) -> None:
        """Not used: HTTP/2 has no Keep-Alive field."""

    def on_fault(self, link: PooledLink, error: Exception) -> None:
        """A callback of a link raised an unexpected exception."""
        report(error, f"a connection to {link.origin}")
        assert isinstance(link, H2UpstreamLink)
        link.end(CloseReason.INTERNAL_ERROR, None)


def _is_heard(origin: Origin, silent: H2UpstreamLink) -> bool:
    """Whether anything was received from an origin on other links since one fell silent."""
    since = max(silent.heard_at, silent.begun_at)
    return any(
        isinstance(link, H2UpstreamLink) and link.heard_at > since
        for link in (*origin.lent, *origin.idle)
    )
