"""Routes that contradict themselves, each other, or the upstreams."""

from collections.abc import Iterator
from typing import NamedTuple

from hopproxy.message import Kind, kind_of
from hopproxy.rules.target import plain_path
from hopproxy.settings.route import TIMEOUTS, FieldEdits, Route
from hopproxy.settings.suggest import nearest


class Contradiction(NamedTuple):
    """What is wrong with the setting at `path`, if those that it `rests_on` are valid."""

    path: str
    message: str
    hint: str
    rests_on: tuple[str, ...] = ()


#: Settings of a route that only apply if it has an upstream.
_ON_THE_WAY = ("strip", "request_fields", "locations", *TIMEOUTS)


def route_contradictions(
    routes: tuple[Route, ...], upstreams: list[str]
) -> Iterator[Contradiction]:
    """Every contradiction of these routes."""
    for n, route in enumerate(routes):
        path = f"routes[{n}]"
        yield from _ends(path, route, upstreams)
        yield from _paths(path, route)
        for name in ("request_fields", "response_fields"):
            yield from _fields(f"{path}.{name}", getattr(route, name))
    yield from _hidden(routes)


def _ends(path: str, route: Route, upstreams: list[str]) -> Iterator[Contradiction]:
    """The goal of the route: exactly one, without settings that have no effect for it."""
    ends = _ends_of(route)
    if not ends:
        hint = "write upstream: NAME, or redirect, or respond"
        others = tuple(f"{path}.{name}" for name in Route.ONE_OF)
        yield Contradiction(f"{path}.upstream", "is missing", hint, others)
        return
    if len(ends) > 1:
        message = f"has `{ends[0]}` and `{ends[1]}`"
        yield Contradiction(path, message, "keep one of them")
    if route.upstream is not None and route.upstream not in upstreams:
        message = f"no upstream is named `{route.upstream}`"
        yield Contradiction(f"{path}.upstream", message, nearest(route.upstream, upstreams))
    for name in () if "upstream" in ends else _ON_THE_WAY:
        if getattr(route, name) != getattr(Route(), name):
            message = f"has no effect: `{ends[0]}` asks no origin"
            yield Contradiction(f"{path}.{name}", message, "leave it out")
    if route.redirect is None and route.redirect_status != Route().redirect_status:
        message = "has no effect without `redirect`"
        yield Contradiction(f"{path}.redirect_status", message, "leave it out")
    if route.respond is not None and route.respond.status in (204, 205, 304) and route.respond.body:
        message = f"a {route.respond.status} has no body"
        yield Contradiction(f"{path}.respond.body", message, "leave it out")


def _ends_of(route: Route) -> list[str]:
    return [name for name in Route.ONE_OF if getattr(route, name) is not None]


def _paths(path: str, route: Route) -> Iterator[Contradiction]:
    if route.exact and route.path is None:
        yield Contradiction(f"{path}.exact", "has no effect without `path`", "write a path")
    if route.host == ():
        hint = "leave it out: the route then takes every host"
        yield Contradiction(f"{path}.host", "names no host", hint)
    strip, below = (route.strip or "").rstrip("/") + "/", (route.path or "") + "/"
    if route.strip and route.upstream is not None and not below.startswith(strip):
        message = f"`{route.strip}` is not the beginning of every path of this route"
        hint = f"write path: {route.strip}"
        yield Contradiction(f"{path}.strip", message, hint, (f"{path}.path",))


def _fields(path: str, edits: FieldEdits) -> Iterator[Contradiction]:
    for name in edits.add:
        if kind_of(name.lower().encode()) not in (Kind.ORDINARY, Kind.CREDENTIALS):
            message = "is removed from requests by its name"
            yield Contradiction(f"{path}.add.{name}", message, "write `set`")
    named: dict[str, str] = {}
    for how, names in (("set", edits.set), ("remove", edits.remove)):
        for n, name in enumerate(names):
            low = name.lower()
            if low in named:
                at = f"{path}.remove[{n}]" if how == "remove" else f"{path}.set.{name}"
                first = named[low]
                hint = "`set` alone replaces it" if first != how else "keep one"
                yield Contradiction(at, f"`{name}` is named twice, here and in `{first}`", hint)
            named[low] = how


def _hidden(routes: tuple[Route, ...]) -> Iterator[Contradiction]:
    for n, route in enumerate(routes):
        for earlier in range(n):
            if takes_all_of(routes[earlier], route):
                owner = f"routes[{earlier}]"
                message = f"can never match: {owner} takes all of it first"
                hint = f"put it above {owner}"
                if takes_all_of(route, routes[earlier]):
                    hint = "keep one of them"
                yield Contradiction(f"routes[{n}]", message, hint, (owner,))
                break


def takes_all_of(wide: Route, narrow: Route) -> bool:
    """Whether every request that matches `narrow` also matches `wide`."""
    if not _ends_of(narrow) or (wide.redirect == "https" != narrow.redirect):
        return False  # `https` leaves the requests that came by https
    if wide.exact and not (narrow.exact and _plain(narrow) == _plain(wide)):
        return False
    return is_within(narrow.host, wide.host) and _path_within(narrow, wide)


def is_within(narrow: tuple[str, ...] | None, wide: tuple[str, ...] | None) -> bool:
    """Whether the hosts `wide` include all of `narrow`; none means every host."""
    if not wide:
        return True
    return all(any(_within(one, other) for other in wide) for one in narrow) if narrow else False


def _within(narrow: str, wide: str) -> bool:
    return narrow == wide or (wide.startswith("*.") and narrow.endswith(wide[1:]))


def _path_within(narrow: Route, wide: Route) -> bool:
    inner, outer = _plain(narrow), _plain(wide)
    if inner == outer or not outer:
        return True
    if outer == b"/":
        return not wide.exact
    return inner.startswith(outer.rstrip(b"/") + b"/")


def _plain(route: Route) -> bytes:
    """The path of a route as it is compared, empty if it takes every path."""
    return plain_path((route.path or "").encode())
