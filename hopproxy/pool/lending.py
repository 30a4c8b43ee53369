"""The ledger for links that carry many requests at a time, each as a stream (HTTP/2).

Such a link is idle or in use, and counts against the limits, like any other.  While it is in use it
is *lent* several times, at most `max_streams`, which the origin may change.  A request takes a
stream of a link in use before it takes an idle link; a link is dialled only if all are full.
"""

from typing import Protocol, TypeVar

from hopproxy.pool.ledger import Ledger, Pooled, Share


class Multiplexed(Pooled, Protocol):
    """A link that carries up to `max_streams` requests at a time."""

    max_streams: int


M = TypeVar("M", bound=Multiplexed)


class Lending(Ledger[M]):
    """The shares of all origins, their links and the streams of these."""

    def lend(self, share: Share[M]) -> M | None:
        """Take a stream of a link in use; None if all are full.  The oldest link comes first."""
        for link in share.roomy:
            self._take(share, link)
            return link
        return None

    def begin(self, share: Share[M], link: M) -> None:
        """A link was checked out for its first stream.  Its other streams go to those who wait."""
        share.lent[link] = 1
        share.streams += 1
        self.offer(share, link)

    def offer(self, share: Share[M], link: M) -> None:
        """A link in use may have room: serve those who wait, and note whether room is left.

        Call it as well when its `max_streams` has changed.
        """
        while share.waiters and share.lent.get(link, link.max_streams) < link.max_streams:
            self._take(share, link)
            self._serve_next(share, link)
        if share.lent.get(link, link.max_streams) < link.max_streams:
            share.roomy[link] = None
        else:
            share.roomy.pop(link, None)

    def end(self, share: Share[M], link: M) -> bool:
        """A stream has ended, or was not used: its place goes to the longest waiter, if any.

        True if it was the last of its link.  The link still counts as in use then: `give_back` or
        `drop_in_use` must follow.
        """
        count = share.lent[link]
        if share.waiters and count <= link.max_streams:
            self._serve_next(share, link)
            return False
        share.streams -= 1
        if count > 1:
            share.lent[link] = count - 1
            if link not in share.roomy:
                self.offer(share, link)
            return False
        del share.lent[link]
        share.roomy.pop(link, None)
        return True

    def drop(self, share: Share[M], link: M) -> None:
        """A link in use has ended, with all its streams."""
        share.streams -= share.lent.pop(link)
        share.roomy.pop(link, None)
        self.drop_in_use(share)

    def _take(self, share: Share[M], link: M) -> None:
        share.streams += 1
        count = share.lent[link] = share.lent[link] + 1
        if count >= link.max_streams:
            share.roomy.pop(link, None)

    def _serve_next(self, share: Share[M], link: M) -> None:
        waiter = self.next_waiter(share)
        assert waiter is not None
        waiter.serve(link)
