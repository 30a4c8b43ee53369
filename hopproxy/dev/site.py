"""The origins of `hopproxy dev`, and which requests go to which, from its arguments."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hopproxy.message import RequestHead
from hopproxy.routing.table import Table
from hopproxy.settings.amounts import Misread, parse_duration
from hopproxy.settings.route import Route
from hopproxy.settings.units import OriginAddress, parse_origin
from hopproxy.settings.words import parse_host, parse_prefix

#: The name of an origin without one.
APP = "app"
#: Seconds that requests wait for a server that restarts.
HOLD = 10.0

_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)")


@dataclass(frozen=True, slots=True)
class Site:
    """What is served: `origins` by name.

    `first` is the name of the origin for all other requests, "" if that will be the demo.
    `paths` lead to origins by name.  `hosts` are names under which browsers reach the site.
    `named` if names were given: each of them then is a host too, such as `api.localhost`.  `https`
    if browsers speak TLS.
    """

    origins: Mapping[str, OriginAddress]
    first: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    named: bool = False
    hold: float = HOLD
    rewrites_host: bool = False
    https: bool = False

    def with_demo(self, demo: OriginAddress) -> "Site":
        """The site with the demo for all requests that no other origin gets."""
        return replace(self, origins={APP: demo, **self.origins}, first=APP)

    def hosts_of(self, name: str) -> tuple[str, ...]:
        """The hosts that lead to the origin of this name."""
        if "." in name:
            return (name.lower(),)
        return tuple(f"{name}.{host}".lower() for host in ("localhost", *self.hosts))

    def all_hosts(self) -> tuple[str, ...]:
        """Every name under which browsers reach the site, besides those of this machine."""
        own = [self.hosts_of(name) for name in self.origins if self.named]
        return (*self.hosts, *(host for hosts in own for host in hosts))

    def routes(self) -> tuple[Route, ...]:
        """The routes: longer paths first, then hosts, then everything."""
        longest = sorted(self.paths, key=len, reverse=True)
        routes = [Route(path=path, upstream=self.paths[path]) for path in longest]
        if self.named:
            apart = [name for name in self.origins if name not in self.paths.values()]
            others = [name for name in apart if name != self.first]
            routes += [Route(host=self.hosts_of(name), upstream=name) for name in others]
        return (*routes, Route(upstream=self.first))

    def origin_of(self, request: RequestHead) -> OriginAddress:
        """The origin that a request goes to."""
        routes = [(route, self.origins[str(route.upstream)]) for route in self.routes()]
        return Table(routes).find(request.host, request.target) or self.origins[self.first]


def origin_of(word: str) -> OriginAddress:
    """The origin of `3000`, `:3000`, `localhost:3000`, `http://host:port/` or `unix:/path`.

    Raises Misread.
    """
    if not word.startswith("unix:"):
        word = word.removesuffix("/")
    if re.fullmatch(r"(?![0-9]+$)[^:/]+|\[[^\]]*\]", word):  # a host alone
        word = f"http://{word}"
    return parse_origin(word)


def site_of(
    origins: Sequence[str], routes: Sequence[str], hosts: Sequence[str], hold: str | None
) -> Site:
    """The site for these words: `3000` or `NAME=3000`, `/api=4000` or `/api=NAME`.

    Raises Misread.
    """
    found: dict[str, OriginAddress] = {}
    named = False
    for word in origins:
        match = _NAMED.fullmatch(word)
        named = named or match is not None
        name = match[1] if match else APP
        if name in found:
            hint = "give each its own, like web=3000 api=4000"
            raise Misread(f"`{word}` is another origin named `{name}`", hint)
        found[name] = origin_of(match[2] if match else word)
    first = next(iter(found), "")
    paths: dict[str, str] = {}
    for word in routes:
        path, mark, to = word.partition("=")
        if not mark or not to:
            raise Misread(f"`{word}` is not a route", "write it like /api=4000")
        path = parse_prefix(path)
        if path in paths:
            raise Misread(f"`{path}` has two routes", "keep one")
        if to not in found:
            found[_name_for(path, found)] = origin_of(to)
            to = [*found][-1]
        paths[path] = to
    return Site(
        found,
        first,
        paths,
        tuple(_host(host) for host in hosts),
        named,
        HOLD if hold is None else parse_duration(hold),
    )


def _host(text: str) -> str:
    host = parse_host(text)
    if host.startswith("*"):
        raise Misread(f"`{text}` is not one host", f"write {host.removeprefix('*.')}")
    return host


def _name_for(path: str, taken: Mapping[str, OriginAddress]) -> str:
    """A name for the origin behind this path: `api` for `/api`."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", path).strip("-") or "root"
    while name in taken or name == APP:
        name += "-2"
    return name
