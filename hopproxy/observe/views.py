"""The answers of one worker to the questions of the admin listener.

A question is (view, arguments).  It may come from another worker, which adds up all answers, so
questions and answers are plain values.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.error_log import ErrorLog
from hopproxy.observe.families import Plain, lasting
from hopproxy.observe.metrics import Metrics
from hopproxy.observe.recent import Recent
from hopproxy.observe.snapshot import closes_of, links_of, summary, unready
from hopproxy.server.runtime import Runtime
from hopproxy.settings.shown import shown

Question = tuple[Any, ...]


class Views:
    """The views of one runtime.  `place` is the worker's number, None if it is the only one."""

    def __init__(
        self,
        runtime: Runtime,
        access_log: AccessLog | None,
        error_log: ErrorLog | None = None,
        place: int | None = None,
    ) -> None:
        self.runtime = runtime
        self.recent = Recent(runtime.tallies)
        self._metrics = Metrics(runtime, access_log, error_log)
        self._access_log = access_log
        self._place = place
        self._views: dict[str, Callable[..., Awaitable[Any]]] = {
            "links": self._links,
            "closes": self._closes,
            "requests": self._requests,
            "config": self._config,
            "metrics": self._families,
            "unready": self._unready,
        }

    async def view(self, question: Question) -> Any:  # noqa: ANN401
        """Answer a question."""
        view, *arguments = question
        return await self._views[view](*arguments)

    def lasting(self) -> dict[Any, float]:
        """The counters and totals, which must not be lost when this worker ends."""
        found: dict[Any, float] = dict(lasting(self._metrics.collect()))
        totals = summary(self.runtime, trio.current_time())["totals"]
        found.update((("total", name), totals[name]) for name in _ONLY_GROW)
        return found

    def stamp(self) -> object:
        """Changes with every request, connection and close."""
        runtime = self.runtime
        requests = sum(sum(tally.statuses.values()) for tally in runtime.tallies.values())
        return requests, runtime.clients.accepted, sum(runtime.closes.counts.values())

    async def _links(self, most: int | None) -> dict[str, Any]:
        rows = await links_of(self.runtime, most)
        rows["last_minute"] = self.recent.row()
        if self._place is not None:
            for link in (*rows["clients"], *rows["upstreams"]):
                link["worker"] = self._place
        return rows

    async def _closes(self, most: int | None, fold: bool) -> dict[str, Any]:
        return closes_of(self.runtime, most, fold=fold)

    async def _requests(self, most: int | None) -> list[dict[str, Any]]:
        """The last failed and slow requests, as the JSON log has them, the newest first."""
        log = self._access_log
        records = [record for tally in self.runtime.tallies.values() for record in tally.notable]
        records.sort(key=lambda record: -record.ended)
        if log is None:
            return []
        return [msgspec.to_builtins(log.line(record)) for record in records[:most]]

    async def _config(self) -> dict[str, Any]:
        since = self.runtime.reloads.in_use_since
        return {"in_use_since": round(since, 3), "settings": shown(self.runtime.as_read)}

    async def _families(self) -> list[Plain]:
        # Imported on first use, since it takes a tenth of the start-up time.
        from hopproxy.observe.exposition import process

        return self._metrics.collect() + process()

    async def _unready(self) -> str:
        return unready(self.runtime)


#: The totals that only grow.
_ONLY_GROW = (
    "requests", "failures", "repeated", "received", "sent", "accepted", "opened", "reused",
    "closed",
)  # fmt: skip
