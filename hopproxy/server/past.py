"""What outlives a worker: counters, learned limits, and when settings were read."""

import marshal

from hopproxy.server.channel import Channel, content

#: Most origins whose learned limits are kept for new workers.
MOST_LEARNED = 4096
#: Counters are numbers by a key of plain values.
Counters = dict[object, float]

#: Counters as `observe/families.py` has them: workers that ended, and their client links.
ENDS = ("hopproxy_worker_ends", "hopproxy_worker_ends_total", ())
LOST = (
    "hopproxy_link_closes",
    "hopproxy_link_closes_total",
    (("hop", "client"), ("reason", "worker_ended"), ("owner", "us")),
)


class Past:
    """Sums over the workers that have ended; they only grow."""

    def __init__(self) -> None:
        self.counters: Counters = {}
        self._learned: dict[object, object] = {}
        #: When settings were read last, when those in use were, and whether the last ones were bad.
        self._reload: tuple[float, float, bool] | None = None

    def add(self, report: int) -> None:
        """A worker has ended: add its last report, a file in memory."""
        mine = self.counters
        for key, count in marshal.loads(content(report)).items():
            mine[key] = mine.get(key, 0) + count

    def lose(self, connections: int) -> None:
        """A worker has crashed or was killed, and has lost `connections`."""
        for key, count in ((ENDS, 1), (LOST, connections)):
            self.counters[key] = self.counters.get(key, 0) + count

    def dump(self) -> bytes:
        """The counters, encoded."""
        return marshal.dumps(self.counters)

    def dump_all(self) -> bytes:
        """Everything, for the supervisor after this one."""
        return marshal.dumps((self.counters, self._learned))

    def take_over(self, past: int) -> None:
        """Take over what another supervisor has left, a file in memory."""
        self.counters, self._learned = marshal.loads(content(past))

    def learn(self, origin: object, found: object) -> None:
        """A worker has learned something about an origin."""
        if origin in self._learned or len(self._learned) < MOST_LEARNED:
            self._learned[origin] = found

    def note_reload(self, *, done: bool, at: float) -> None:
        """Settings were read at this time (Unix time), with or without success."""
        since = at if done or self._reload is None else self._reload[1]
        self._reload = at, since, not done

    def tell_reload(self, channel: Channel) -> None:
        """Tell a worker when settings were read."""
        if self._reload is not None:
            channel.send("last_reload", self._reload)

    def tell(self, channel: Channel) -> None:
        """Send a new worker what the others have learned and read."""
        self.tell_reload(channel)
        for origin, found in self._learned.items():
            channel.send("learned", (origin, found))
