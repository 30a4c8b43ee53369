"""What routes match, while a Caddyfile is converted: paths as clients send them, and hosts."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

from hopproxy.convert.draft import Values

#: The settings of a route that say what it matches.
KEYS = ("host", "path", "exact")


class Match(NamedTuple):
    """What is matched, as settings of a route, and the prefix removed from the path by then."""

    where: Values
    strip: str


def where(route: Values) -> Values:
    """What a route matches."""
    return {key: route[key] for key in KEYS if key in route}


def both(one: Values, other: Values) -> Values | None:
    """What matches both; None if nothing does."""
    found: Values = {}
    if "host" in one and "host" in other:
        hosts = _common(_list(one["host"]), _list(other["host"]))
        if not hosts:
            return None
        found["host"] = hosts[0] if len(hosts) == 1 else hosts
    elif "host" in one or "host" in other:
        found["host"] = one.get("host") or other.get("host")
    narrow = next((a for a, b in ((one, other), (other, one)) if _path_within(a, b)), None)
    if narrow is None:
        return None
    return found | {key: narrow[key] for key in ("path", "exact") if key in narrow}


def placed(match: Values, within: Values, strip: str) -> list[Match]:
    """The paths, as clients send them, for a matcher of paths without the prefix `strip`.

    Paths that do not begin with `strip` are seen as they are.
    """
    if not strip:
        found = [Match(match, "")]
    else:
        found = [Match(match | {"path": strip + match.get("path", "")}, strip)]
        if not is_below(within.get("path", "/"), strip):
            rest = match.get("path") is not None and is_below(match["path"], strip)
            found += [] if rest else [Match(match, "")]
    pairs = [(both(one.where, within), one.strip) for one in found]
    return [Match(one, taken) for one, taken in pairs if one is not None]


def narrowed(
    routes: list[Values], match: Values, change: Callable[[Values], None]
) -> tuple[list[Values], bool]:
    """(the routes, changed where they match; whether anything has changed).

    A route that takes more than that is split in two.
    """
    found: list[Values] = []
    hit = done = False
    for route in routes:
        common = None if done else both(where(route), match)
        if common is not None:
            hit, done = True, common == match
            own = common == where(route)
            part = route if own else common | deepcopy(_rest(route))
            change(part)
            found += [] if own else [part]
        found.append(route)
    return found, hit


def is_below(path: str, prefix: str) -> bool:
    """Whether a path is at a prefix or below it, by whole segments."""
    return f"{path}/".startswith(prefix.rstrip("/") + "/")


def _rest(route: Values) -> Values:
    return {key: value for key, value in route.items() if key not in KEYS}


def _path_within(narrow: Values, wide: Values) -> bool:
    inner, outer = narrow.get("path"), wide.get("path")
    if outer is None or (inner == outer and narrow.get("exact", False) >= wide.get("exact", False)):
        return True
    if inner is None or wide.get("exact"):
        return False
    return str(inner).startswith(outer.rstrip("/") + "/")


def _list(hosts: str | list[str]) -> list[str]:
    return [hosts] if isinstance(hosts, str) else hosts


def _common(one: list[str], other: list[str]) -> list[str]:
    """The hosts of both lists; one with a variable may be any of the other list."""
    found = [a for a in one if "$" in a or any(_host_within(a, b) for b in other)]
    found += [b for b in other if "$" in b or any(_host_within(b, a) for a in one)]
    return list(dict.fromkeys(found))


def _host_within(narrow: str, wide: str) -> bool:
    return narrow == wide or (wide.startswith("*.") and narrow.endswith(wide[1:]))
