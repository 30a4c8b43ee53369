"""Caddy's rate_limit (the module of that name) as `limits` of routes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hopproxy.convert.caddy_words import Line
from hopproxy.convert.draft import Draft, Values
from hopproxy.settings.amounts import Misread, parse_duration
from hopproxy.settings.rates import parse_by, parse_rate

_CLIENT = frozenset({"{remote_host}", "{client_ip}", "{http.request.remote.host}",
                     "{http.vars.client_ip}"})  # fmt: skip
_HEADER = re.compile(r"\{(?:header\.|http\.request\.header\.)([^{}]+)\}")


def limit_rates(draft: Draft, block: Line, routes: Sequence[Values]) -> None:
    """The zones of a rate_limit: each of these routes gets the lowest rate."""
    found: list[tuple[float, Line, Values]] = []
    for one in block.block or ():
        if one.name != "zone":
            draft.note(one, "hopproxy has nothing like it")
        elif (values := _zone(draft, one)) is not None:
            found.append((parse_rate(values["rate"]), one, values))
    if block.args:
        draft.note(block, "it applies to every route here")
    found.sort(key=lambda pair: pair[0])
    for _, one, _ in found[1:]:
        draft.note(one, "a route has one rate: the lowest is taken")
    led = [route for route in routes if "upstream" in route]
    if len(led) > 1 and found:
        draft.note(found[0][1], "each route counts for itself")
    for route in led:
        for _, _, values in found[:1]:
            route.setdefault("limits", dict(values))


def _zone(draft: Draft, zone: Line) -> Values | None:
    """One zone: `events` in a `window` for each `key`; None if it cannot be converted."""
    words = {one.name: one for one in zone.block or ()}
    key, events, window = (" ".join(words[name].args) if name in words else ""
                           for name in ("key", "events", "window"))  # fmt: skip
    try:
        by, seconds = _by(key), parse_duration(window)
        count = int(events)
    except (Misread, ValueError):
        draft.note(zone, "requests are counted by client, by field, or all")
        return None
    for name in words.keys() - {"key", "events", "window"}:
        draft.note(words[name], "hopproxy has nothing like it")
    for unit, length in (("s", 1), ("m", 60), ("h", 3600)):
        rate = count * length / seconds if seconds else 0
        if rate >= 1 and rate == int(rate):
            values: Values = {"rate": f"{int(rate)}/{unit}", "burst": count}
            return values | ({} if by == "client" else {"by": by})
    draft.note(zone, "a rate is a whole number a second, a minute or an hour")
    return None


def _by(key: str) -> str:
    """What is counted for this key, as in `limits.by`.  Raises Misread."""
    if key in _CLIENT:
        return "client"
    if "{" not in key:
        return "all"
    match = _HEADER.fullmatch(key)
    return parse_by(f"header:{match[1]}" if match else key)
