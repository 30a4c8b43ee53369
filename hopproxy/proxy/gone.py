"""Upstreams that were removed from the settings: their counters stay."""

from collections.abc import Iterator

from hopproxy.proxy.tally import Tally
from hopproxy.proxy.upstream import Upstream

#: Most upstreams whose counters are kept separately, and the name for the sums of earlier ones.
#: No upstream of the settings can have it.
MOST, EARLIER = 50, "(removed)"


class Gone:
    """The last MOST removed upstreams, and the sums of earlier ones."""

    def __init__(self) -> None:
        self._upstreams: dict[str, Upstream] = {}
        self._earlier: Tally | None = None
        self._opened = self._reused = 0

    def add(self, upstream: Upstream) -> None:
        """This upstream was removed from the settings."""
        upstream.tally.notable.clear()
        self._upstreams[upstream.name] = upstream
        if len(self._upstreams) > MOST:
            oldest = self._upstreams.pop(next(iter(self._upstreams)))
            opened, reused = oldest.links_counted()
            self._opened += opened
            self._reused += reused
            self._earlier = self._earlier or Tally()
            self._earlier.absorb(oldest.tally)

    def take(self, name: str) -> Upstream | None:
        """Take back the upstream of this name, if it is kept: it is in the settings again."""
        return self._upstreams.pop(name, None)

    def tallies(self) -> Iterator[tuple[str, Tally]]:
        """The counters, by upstream."""
        if self._earlier is not None:
            yield EARLIER, self._earlier
        for name, upstream in self._upstreams.items():
            yield name, upstream.tally

    def links_counted(self) -> tuple[int, int]:
        """How many links all of them have opened, and how many requests took an idle one."""
        found = [upstream.links_counted() for upstream in self._upstreams.values()]
        opened = self._opened + sum(opened for opened, _ in found)
        return opened, self._reused + sum(reused for _, reused in found)
