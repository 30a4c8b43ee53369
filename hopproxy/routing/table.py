"""Which route a request takes: by host, then by path prefix; the first match wins.

The cost does not grow with the number of routes: hosts are looked up in a dict, and so are the
prefixes of the path.  A path is compared as most applications understand it, since they would serve
`/%61dmin` or `//admin` as `/admin`.
"""

from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Generic, Protocol, TypeVar

from hopproxy.rules.target import plain_path

#: Hosts whose routes are cached.
MEMO_HOSTS = 1024


class Rule(Protocol):
    """What a route matches: any of `host`, exact or `*.suffix`; `path`, a prefix unless `exact`.

    None matches everything.
    """

    @property
    def host(self) -> Sequence[str] | None: ...
    @property
    def path(self) -> str | None: ...
    @property
    def exact(self) -> bool: ...


T = TypeVar("T")


class Table(Generic[T]):
    """Routes in the order of the settings, each with its goal."""

    def __init__(self, routes: Sequence[tuple[Rule, T]]) -> None:
        self._routes = [(rule, goal) for rule, goal in routes]
        self._by_host: dict[bytes, _Paths[T]] = {}
        self._only = routes[0][1] if len(routes) == 1 and _takes_all(routes[0][0]) else None

    def find(self, host: bytes, target: bytes) -> T | None:
        """The goal of the route for this authority and target, None if no route matches."""
        if self._only is not None:
            return self._only
        paths = self._by_host.get(host)
        if paths is None:
            if len(self._by_host) >= MEMO_HOSTS:
                self._by_host.clear()
            paths = self._by_host[host] = self._paths_for(_name(host))
        return paths.find(target)

    def _paths_for(self, host: str) -> "_Paths[T]":
        paths = _Paths[T]()
        for order, (rule, goal) in enumerate(self._routes):
            if rule.host is None or any(_host_matches(one, host) for one in rule.host):
                paths.add(order, rule, goal)
        return paths


class _Paths(Generic[T]):
    """The routes that match one host, by path prefix."""

    def __init__(self) -> None:
        self._prefixes: dict[bytes, tuple[int, T]] = {}
        self._exact: dict[bytes, tuple[int, T]] = {}

    def add(self, order: int, rule: Rule, goal: T) -> None:
        if rule.exact and rule.path:
            self._exact.setdefault(plain_path(rule.path.encode()), (order, goal))
        else:
            self._prefixes.setdefault(_prefix(rule), (order, goal))

    def find(self, target: bytes) -> T | None:
        """The first route whose prefix ends where a segment of the path ends."""
        best = self._prefixes.get(b"")
        if len(self._prefixes) == (best is not None) and not self._exact:
            return best[1] if best else None
        path = plain_path(target.partition(b"?")[0])
        exact = self._exact.get(path)
        if exact is not None and (best is None or exact[0] < best[0]):
            best = exact
        end = len(path)
        while end > 0:
            found = self._prefixes.get(path[:end])
            if found is not None and (best is None or found[0] < best[0]):
                best = found
            # "/a/b" is tried as "/a/b", "/a/" and "/a": a prefix may end with a slash.
            end = end - 1 if path[end - 1 : end] == b"/" else path.rfind(b"/", 0, end) + 1
        return best[1] if best else None


def _takes_all(rule: Rule) -> bool:
    return rule.host is None and not rule.exact and not _prefix(rule)


def _prefix(rule: Rule) -> bytes:
    """A route's prefix.  `/` matches everything, `*` too."""
    path = plain_path((rule.path or "").encode())
    return b"" if path == b"/" else path


def _name(host: bytes) -> str:
    """The host of an authority in lower case, without port and final dot, IPv6 in one spelling."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
        with suppress(ValueError):  # it has a zone
            name = str(IPv6Address(name))
        return f"[{name}]"
    return name.partition(":")[0].rstrip(".")


def _host_matches(pattern: str, host: str) -> bool:
    pattern = pattern.lower()
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern
