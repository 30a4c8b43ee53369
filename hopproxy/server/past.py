"""What outlives a worker: what those that have ended had counted, and what was learned."""

import marshal

from hopproxy.server.channel import Channel, content

#: Most origins whose learned limits are kept for workers to come.
MOST_LEARNED = 4096
#: Counters are numbers by a key of plain values.
Counters = dict[object, float]

#: Client links that ended with their worker.
LOST = "lost"


class Past:
    """Sums over the workers that have ended; nothing in it ever falls."""

    def __init__(self) -> None:
        self.counters: Counters = {}
        self._learned: dict[object, object] = {}

    def add(self, report: int) -> None:
        """A worker has ended: add its last report, a file in memory."""
        mine = self.counters
        for key, count in marshal.loads(content(report)).items():
            mine[key] = mine.get(key, 0) + count

    def lose(self, connections: int) -> None:
        """Connections have ended with their worker."""
        if connections:
            self.counters[LOST] = self.counters.get(LOST, 0) + connections

    def dump(self) -> bytes:
        """The counters, encoded."""
        return marshal.dumps(self.counters)

    def learn(self, origin: object, found: object) -> None:
        """A worker has learned something about an origin."""
        if origin in self._learned or len(self._learned) < MOST_LEARNED:
            self._learned[origin] = found

    def tell(self, channel: Channel) -> None:
        """Tell a new worker what the others have learned."""
        for origin, found in self._learned.items():
            channel.send("learned", (origin, found))
