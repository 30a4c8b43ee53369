"""Origins that are names: they are looked up every `dns_interval`, in the background.

Each address is an origin of its own.  Before the first answer the name itself is one, so that
requests can wait for it.  If a look-up fails or is empty, the last addresses are kept for a while;
`pool.reach` finds out whether they still serve.
"""

import logging
import math
import socket
from collections.abc import Callable
from dataclasses import replace

from hopproxy.link.faults import report
from hopproxy.link.watch import Watch
from hopproxy.pool.resolver import Answer, Resolver
from hopproxy.pool.service_records import Records
from hopproxy.settings.units import OriginAddress

log = logging.getLogger("hopproxy")

#: Seconds for which the last good answer is kept.
KEPT = 300.0
#: The shortest time between two look-ups of one name, in seconds.
LEAST = 1.0
#: Most addresses of one name; the others are not used.
MOST = 256
#: Priorities of SRV records that fit between two priorities of the settings.
PRIORITIES = 65536

Changed = Callable[[list[OriginAddress]], None]


class Name:
    """One name: looked up every `interval` seconds, or as its records say.

    `changed` is called with its addresses when they have changed, and with none once the last good
    answer is too old.  `failure` is why the last look-up failed, "" if it did not; `good_at` is
    when the last good answer came.
    """

    def __init__(
        self,
        entry: OriginAddress,
        resolver: Resolver,
        watch: Watch,
        interval: float,
        changed: Changed,
    ) -> None:
        self.entry = entry
        self.interval = interval
        self.timer_at = math.inf
        self.addresses: list[OriginAddress] = []
        self.failure = ""
        self.good_at = -math.inf
        self._resolver = resolver
        self._watch = watch
        self._changed: Changed | None = changed
        self._asking = False
        self._asked_at = -math.inf
        self._targets: dict[tuple[str, bool], float] = {}  # when they were last answered
        watch.wake_at(self, watch.now())

    def hurry(self) -> None:
        """A dial has failed: look up again soon, since the addresses may have changed."""
        if self._changed is not None:
            self._watch.wake_at(self, max(self._watch.now(), self._asked_at + LEAST))

    def stop(self) -> None:
        """Look up no more, and ignore an answer that is still to come."""
        self._changed = None
        self._watch.forget_deadline(self)

    # -- time --------------------------------------------------------------------------------

    def on_time(self, now: float) -> float:
        """Look up, unless a look-up is under way; forget addresses that are too old."""
        if self._changed is None:
            return math.inf
        if not self._asking:
            self._asking = True
            self._asked_at = now
            self._resolver.look_up(self.entry, self._answered)
        self._expire(now)
        return now + self.interval

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: look up again later."""
        report(error, f"a look-up of {self.entry}")
        self._asking = False
        self._watch.wake_at(self, self._watch.now() + self.interval)

    def _answered(self, answer: Answer) -> None:
        """An answer has come, or the look-up has failed."""
        self._asking = False
        if self._changed is None:
            return
        now, holds = self._watch.now(), self.interval
        found: list[OriginAddress] = []
        if isinstance(answer, Records):
            holds = min(self.interval, max(LEAST, answer.ttl))
            found = self._of_records(answer)
        elif isinstance(answer, list):
            found = self._of_rows(answer)
        self._watch.forget_deadline(self)
        self._watch.wake_at(self, now + holds)
        if found:
            self.failure, self.good_at = "", now
            self._use(found)
            return
        failure = str(answer) if isinstance(answer, Exception) else "it has no address"
        if not self.failure:
            kept = "; its last addresses are kept" if self.addresses else ""
            log.warning("%s cannot be resolved: %s%s", self.entry, failure, kept)
        self.failure = failure
        self._expire(now)

    def _expire(self, now: float) -> None:
        if self.addresses and now - self.good_at >= KEPT:
            log.warning(
                "%s was not resolved for %g s: its addresses are no longer used", self.entry, KEPT
            )
            self._use([])

    def _use(self, found: list[OriginAddress]) -> None:
        """Report addresses, weights and priorities that have changed."""
        before = {(one, one.weight, one.priority) for one in self.addresses}
        if before == {(one, one.weight, one.priority) for one in found}:
            return
        self.addresses = found
        if found:
            log.info("%s is at %s", self.entry, ", ".join(one.place for one in found))
        assert self._changed is not None
        self._changed(found)

    # -- answers -----------------------------------------------------------------------------

    def _of_rows(self, rows: list[tuple[object, ...]]) -> list[OriginAddress]:
        """The addresses in an answer of `getaddrinfo`, each once."""
        hosts = {str(row[4][0]): None for row in rows if isinstance(row[4], tuple)}
        used = {address.host for address in self.addresses}
        # Answers come in any order.  If there are too many addresses, those in use stay.
        found = sorted(_routable(list(hosts)), key=lambda host: host not in used)[:MOST]
        return [replace(self.entry, host=host, name=self.entry.host) for host in found]

    def _of_records(self, answer: Records) -> list[OriginAddress]:
        routable = set(_routable([record.address for record in answer.records]))
        found: dict[OriginAddress, OriginAddress] = {}
        for record in answer.records:
            if record.address in routable and record.port:
                address = replace(
                    self.entry,
                    kind="tcp",
                    host=record.address,
                    port=record.port,
                    weight=self.entry.weight * record.weight,
                    priority=self.entry.priority * PRIORITIES + record.priority,
                    name=record.target.lower(),
                )
                found.setdefault(address, address)
        for kept in self._of_failed(answer):
            found.setdefault(kept, kept)
        return list(found)[:MOST]

    def _of_failed(self, answer: Records) -> list[OriginAddress]:
        """The last addresses of targets whose own look-up failed, unless they are too old."""
        now = self._watch.now()
        known = {(record.target.lower(), ":" in record.address): now for record in answer.records}
        for target in answer.failed:
            if now - self._targets.get(target, -math.inf) < KEPT:
                known[target] = self._targets[target]
        self._targets = known
        failed = answer.failed & known.keys()
        return [one for one in self.addresses if (one.name, ":" in one.host) in failed]


def _routable(hosts: list[str]) -> list[str]:
    """The hosts without the family that this machine has no route for, if there are both."""
    if len({":" in host for host in hosts}) < 2:
        return hosts
    return [host for host in hosts if _has_route(host)] or hosts


def _has_route(host: str) -> bool:
    """Whether this machine can send to an address.  Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
    except OSError:
        return False
    return True
