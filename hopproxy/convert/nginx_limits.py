"""Limits of nginx on rates and connections, and when an origin has failed, as settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hopproxy.convert.draft import Draft, Values, filled
from hopproxy.convert.nginx_words import Directive
from hopproxy.settings.amounts import Misread
from hopproxy.settings.rates import parse_by, parse_rate

#: Directives of this file that blocks below inherit.
INHERITED = frozenset(
    {
        "limit_conn", "limit_conn_status", "limit_req", "limit_req_dry_run", "limit_req_status",
        "proxy_next_upstream", "proxy_next_upstream_timeout", "proxy_next_upstream_tries",
    }
)  # fmt: skip
#: Keys that name the client, and keys that are the same for all requests of a server.
_CLIENT = frozenset({"$binary_remote_addr", "$remote_addr", "$proxy_add_x_forwarded_for"})
_SERVER = frozenset({"$server_name", "$server_port", "$server_addr"})
#: Failures after which nginx asks another origin unless it is told otherwise.
_ANYWAY = frozenset({"error", "timeout", "invalid_header"})


@dataclass(slots=True)
class Zone:
    """What is counted (`limits.by`, "" if that cannot be converted), and the rate, if any."""

    by: str
    rate: str = ""
    used: bool = False


def zones(found: Iterable[Directive], draft: Draft) -> dict[str, Zone]:
    """The zones of rates and of connections, by their names."""
    named: dict[str, Zone] = {}
    for one in found:
        if one.name in ("limit_req_zone", "limit_conn_zone") and one.args:
            words = dict(word.split("=", 1) for word in one.args[1:] if "=" in word)
            zone = Zone(_by(one.args[0]), _rate(words.get("rate", "")))
            if not zone.by:
                draft.note(one, "requests are counted by client, by field, or all")
            elif one.name == "limit_req_zone" and not zone.rate:
                draft.note(one, "it is not a rate")
            else:
                named[words.get("zone", "").partition(":")[0]] = zone
    return named


def _by(key: str) -> str:
    """What is counted for this key, as in `limits.by`; "" if hopproxy cannot count that."""
    if key in _CLIENT:
        return "client"
    if key in _SERVER or "$" not in key:
        return "all"
    match = re.fullmatch(r"\$(?:http_(\w+)|(host))", key)
    try:
        return parse_by(f"header:{(match[1] or match[2]).replace('_', '-')}") if match else ""
    except Misread:
        return ""


def _rate(text: str) -> str:
    """`10r/s` as a rate of hopproxy; "" if it is not a rate."""
    match = re.fullmatch(r"([0-9]+)r/([sm])", text)
    rate = f"{match[1]}/{match[2]}" if match else ""
    try:
        parse_rate(rate)
    except Misread:
        return ""
    return rate


class Limits:
    """The limits on the requests of one location; `inherited` are the directives that apply."""

    def __init__(
        self, draft: Draft, zones: dict[str, Zone], inherited: dict[str, tuple[Directive, ...]]
    ) -> None:
        self._draft = draft
        self._zones = zones
        self._inherited = inherited

    def _all(self, name: str) -> tuple[Directive, ...]:
        return self._inherited.get(name, ())

    def _last(self, name: str) -> tuple[str, ...]:
        found = self._all(name)
        return found[-1].args if found else ()

    def rate(self) -> Values:
        """The lowest of the rates that apply, as `limits` of a route."""
        found: list[tuple[float, Directive, Values]] = []
        for one in self._all("limit_req"):
            words = dict(word.split("=", 1) for word in one.args if "=" in word)
            zone = self._zones.get(words.get("zone", ""))
            if zone is None or not zone.rate:
                self._draft.note(one, "no zone of this name could be converted")
            elif self._last("limit_req_dry_run") == ("on",):
                self._draft.note(one, "it only logs what it would refuse")
            else:
                burst = words.get("burst", "0")
                # nginx lets one request pass in addition to the burst.
                most = int(burst) + 1 if burst.isdecimal() else 1
                values = {"rate": zone.rate, "burst": most} | filled(
                    {"by": zone.by if zone.by != "client" else None}
                )
                found.append((parse_rate(zone.rate), one, values))
                self._tell(one, zone)
        if not found:
            return {}
        found.sort(key=lambda pair: pair[0])
        for _, one, _ in found[1:]:
            self._draft.note(one, "a route has one rate: the lowest is taken")
        return {"limits": found[0][2]}

    def _tell(self, one: Directive, zone: Zone) -> None:
        """What differs here."""
        why: list[str] = []
        if "nodelay" not in one.args and any(word.startswith("burst=") for word in one.args):
            why.append("no request is delayed: those of the burst pass at once")
        if self._last("limit_req_status") != ("429",):
            why.append("requests above the limit get 429")
        if zone.used:
            why.append("each route counts for itself")
        zone.used = True
        if why:
            self._draft.note(one, "; ".join(why))

    def in_flight(self) -> Values:
        """The limit on all requests under way, as a setting of the upstream."""
        found = [
            int(count)
            for name, count in _pairs(self._all("limit_conn"))
            if (zone := self._zones.get(name)) is not None and zone.by == "all"
        ]
        for one in self._all("limit_conn_status"):
            if found and one.args != ("503",):
                self._draft.note(one, "requests above the limit get 503")
        return {"max_requests_in_flight": min(found)} if found else {}

    def failures(self, origins: int) -> Values:
        """Which responses count as failures of one of several origins."""
        if origins < 2:
            return {}
        for one in self._all("proxy_next_upstream_tries"):
            if one.args not in (("0",), ("2",)):
                why = "a request is sent again once, if that is safe"
                self._draft.note(one, why)
        for one in self._all("proxy_next_upstream_timeout"):
            self._draft.note(one, "a request is sent again once, and at once")
        found = self._all("proxy_next_upstream")[-1:]
        for one in found:
            words = set(one.args) - _ANYWAY
            statuses = [int(word[5:]) for word in words if re.fullmatch(r"http_(5\d\d|429)", word)]
            differs = []
            if words - {f"http_{status}" for status in statuses}:
                differs.append("a request is sent again once, if that is safe")
            if statuses:
                differs.append("these are passed on, and count as failures of their origin")
            if differs:
                self._draft.note(one, "; ".join(differs))
            if statuses:
                return {"statuses": sorted(statuses)}
        return {}


def _pairs(found: Iterable[Directive]) -> Iterator[tuple[str, str]]:
    """(zone, number) of `limit_conn`."""
    for one in found:
        if len(one.args) == 2 and one.args[1].isdecimal() and int(one.args[1]):
            yield one.args[0], one.args[1]


def connections(draft: Draft, zones: dict[str, Zone], block: Iterable[Directive]) -> None:
    """Limits on the connections of each client, from a server or from the http block."""
    own = [one for one in block if one.name == "limit_conn"]
    for one in own:
        zone = zones.get(one.args[0]) if one.args else None
        if zone is None or zone.by not in ("client", "all"):
            draft.note(one, "connections are counted by client, or all requests")
        elif zone.by == "client":
            for _, count in _pairs([one]):
                name = "max_connections_per_address"
                draft.client[name] = max(int(count), draft.client.get(name, 0))
                draft.note(one, "idle connections count too, for every server")


def in_location(draft: Draft, zones: dict[str, Zone], block: Iterable[Directive]) -> None:
    """Note limits on connections in a location: hopproxy has them for a whole listener."""
    for one in block:
        zone = zones.get(one.args[0]) if one.name == "limit_conn" and one.args else None
        if one.name == "limit_conn" and (zone is None or zone.by != "all"):
            draft.note(one, "write client.max_connections_per_address")


def shared(draft: Draft, lines: list[Directive], option: str) -> str:
    """The value of an option of `server` that all origins of a group have; "" if they differ."""
    found: dict[str, Directive] = {}
    for one in lines:
        values = [word.partition("=")[2] for word in one.args if word.startswith(f"{option}=")]
        found.setdefault(values[-1] if values else "", one)
    if len(found) > 1:
        for value, one in found.items():
            if value:
                draft.note(one, f"{option} is the same for all origins here")
        return ""
    return next(iter(found), "")
