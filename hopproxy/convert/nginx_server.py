"""One server of nginx: where it listens, its names, its locations as routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hopproxy.convert.draft import Draft, Values
from hopproxy.convert.nginx_limits import in_location
from hopproxy.convert.nginx_location import Location
from hopproxy.convert.nginx_proxy import Scope
from hopproxy.convert.nginx_words import Directive
from hopproxy.rules.target import written_path
from hopproxy.settings.amounts import Misread
from hopproxy.settings.units import parse_bind
from hopproxy.settings.words import parse_host, parse_prefix

#: The answer to requests that no route matches.
_NOTHING = {"status": 404}
#: Names that servers without a name of their own have.
_NO_NAMES = ("_", "", "$hostname", "localhost_")


class Server:
    """One server block.

    `names` are its hosts, exact or `*.suffix`; `is_default` if it says so; `address` is where it
    listens first, `binds` is all of it.  `secure` if it does TLS on each; `only_redirects` if it
    does none, and redirects to https.  `is_nameless` if none of its names can be converted.
    """

    def __init__(self, draft: Draft, block: Directive, above: Iterable[Directive] = ()) -> None:
        self._draft = draft
        self._above = tuple(above)
        self.block = block.block or ()
        self.written = block
        self.is_default = False
        self.secure = False
        self.port = "80"
        self.address = ":80"
        self.names = tuple(dict.fromkeys(self._names()))
        self.is_nameless = not self.names and not self._takes_rest()
        self.binds: list[str] = []
        self.only_redirects = False
        self._mixed = False
        self.routes: list[Values] = []
        self._listen()

    @property
    def text(self) -> str:
        """Its name in notes."""
        return f"server on {self.address}"

    # -- names and listeners -----------------------------------------------------------------

    def _takes_rest(self) -> bool:
        """Whether it has no name, or one like `_` that no request can have."""
        names = [name for one in self.block if one.name == "server_name" for name in one.args]
        return not names or any(name in _NO_NAMES for name in names)

    def _names(self) -> Iterator[str]:
        for one in self.block:
            for name in one.args if one.name == "server_name" else ():
                if name in _NO_NAMES:
                    continue
                both = [name[1:], f"*{name}"] if name.startswith(".") else [name]
                for host in both:
                    try:
                        yield parse_host(host)
                    except Misread as misread:
                        why = "the only pattern for a host is *.suffix"
                        self._draft.note(one, why if "~" in name or "*" in name
                                         else misread.wrong)  # fmt: skip

    def _listen(self) -> None:
        listens = [one for one in self.block if one.name == "listen"]
        plain = False
        tls = self._tls()
        everywhere = any((one.name, one.args) == ("ssl", ("on",)) for one in self.block)
        for one in listens or [replace(self.written, name="listen", args=("80",))]:
            place, *options = one.args or ("80",)
            if "quic" in options:
                self._draft.note(one, "hopproxy has no HTTP/3")
                continue
            bind = _bind(place)
            try:
                parse_bind(bind)
            except Misread as misread:
                self._draft.note(one, f"{misread.wrong}: {misread.hint}")
                continue
            listener = self._draft.listen(bind)
            self.binds.append(bind)
            if not plain and not self.secure:
                self.address, self.port = bind, bind.rpartition(":")[2]
            self.is_default = self.is_default or "default_server" in options or "default" in options
            if "ssl" in options or everywhere:
                self.secure = True
                self._secure(listener, tls, one)
            else:
                plain = True
            if "proxy_protocol" in options:
                listener["proxy_protocol"] = True
        self._mixed = self.secure and plain
        self.secure = self.secure and not plain

    def _secure(self, listener: Values, tls: Values, one: Directive) -> None:
        if not tls.get("certificates"):
            self._draft.note(one, "it has no ssl_certificate: write listeners[].tls")
            return
        there = listener.setdefault("tls", {"certificates": []})
        for pair in tls["certificates"]:
            if pair not in there["certificates"]:
                there["certificates"].append(pair)
        there |= {key: value for key, value in tls.items() if key != "certificates"}

    def _tls(self) -> Values:
        """What the ssl_ directives of this server say, or those above it."""
        own = {one.name for one in self.block}
        block = [*(one for one in self._above if one.name not in own), *self.block]
        files = [one for one in block if one.name in ("ssl_certificate", "ssl_certificate_key")]
        for one in files:
            if "$" in one.args[0]:
                self._draft.note(one, "file names cannot have variables")
        certs, keys = (
            [one.args[0] for one in files if one.name == name and "$" not in one.args[0]]
            for name in ("ssl_certificate", "ssl_certificate_key")
        )
        pairs = [{"cert": cert, "key": key} for cert, key in zip(certs, keys, strict=False)]
        tls: Values = {"certificates": pairs}
        for one in block:
            if one.name == "ssl_protocols":
                tls["min_version"] = "1.3" if one.args == ("TLSv1.3",) else "1.2"
                if {"TLSv1", "TLSv1.1", "SSLv3"} & set(one.args):
                    self._draft.note(one, "hopproxy supports TLS 1.2 and 1.3 only")
            elif one.name == "ssl_client_certificate" and one.args:
                tls["client_ca"] = one.args[0]
            elif one.name == "ssl_verify_client" and one.args in (("on",), ("optional",)):
                tls["client_cert"] = "required" if one.args == ("on",) else "optional"
            elif one.name == "ssl_verify_client" and one.args != ("off",):
                self._draft.note(one, "write client_cert: required or optional")
        return tls

    # -- routes ------------------------------------------------------------------------------

    def make_routes(self, scope: Scope) -> None:
        """Make the routes of this server, narrowest first, without its hosts."""
        first = self.names[0] if self.names else ""
        known = {"server_port": self.port} | ({"server_name": first} if first else {})
        named = {
            one.args[0]: one.block or ()
            for one in self.block
            if one.name == "location" and one.args[:1] and one.args[0].startswith("@")
        }
        below = Scope(
            scope.inherited, self.names, self.secure, known, scope.groups, named, scope.zones
        )
        inside = below.below(self.block)
        inside = replace(inside, server=inside.inherited)
        own = tuple(one for one in self.block if one.name != "location")
        outside = Location(self._draft, below, "/", own, exact=False, is_server=True).routes()
        ends = [one for one in outside if "host" not in one and one.get("redirect") != "https"]
        found: list[tuple[bool, int, list[Values]]] = []
        if not any("respond" in one or "redirect" in one for one in ends):
            for exact, path, routes in self._locations(self.block, inside):
                found.append((not exact, -len(path), routes))
        inner = [route for *_, routes in sorted(found, key=lambda one: one[:2]) for route in routes]
        # Directives of the server itself come before its locations, as in nginx.
        whole = [*(one for one in outside if one not in ends), *inner, *ends]
        redirects = any(one.get("redirect") == "https" and "path" not in one for one in whole)
        self.only_redirects = redirects and not self._mixed
        if self.only_redirects:  # another server answers https requests
            self._tell_of_https(whole)
            whole = [one for one in whole if one.get("respond") != _NOTHING]
        elif all({"path", "host"} & one.keys() or one.get("redirect") == "https" for one in whole):
            whole.append({"respond": _NOTHING})
        self.routes = list(self._with_slashes(whole))

    def _tell_of_https(self, routes: list[Values]) -> None:
        """A server that redirects to https also answers some requests by itself."""
        for route in routes:
            if route.get("redirect") != "https" and "path" in route:
                why = f"{route['path']} is answered like this by https, too"
                if route.get("respond") == _NOTHING:
                    why = f"{route['path']} is redirected to https, too"
                self._draft.note(self.written, why, self.text)

    def _locations(
        self, block: tuple[Directive, ...], scope: Scope, taken: tuple[str, ...] = ()
    ) -> Iterator[tuple[bool, str, list[Values]]]:
        """(whether it is exact, its path, its routes) of each location that can be converted.

        nginx looks into the location with the longest prefix alone: requests whose paths begin with
        one of `taken` never come here.
        """
        locations = [
            (one, *_kind_and_path(one))
            for one in block
            if one.name == "location" and one.block is not None
        ]
        prefixes = [path for _, kind, path in locations if kind in ("", "^~")]
        for one, kind, path in locations:
            if path.startswith(taken):
                continue
            if path.startswith("@") and path in _tried(self.block):
                continue
            if kind.startswith("~") or path.startswith("@"):
                named = "it is for internal redirects of nginx"
                why = "patterns for paths are not supported" if kind else named
                self._draft.note(one, why)
                continue
            path = written_path(path.encode()).decode()
            try:
                parse_prefix(path)
            except Misread as misread:
                self._draft.note(one, f"{misread.wrong}: {misread.hint}")
                continue
            exact = kind == "="
            if not exact and not path.endswith("/"):
                why = f"nginx also matches {path}..., hopproxy only whole segments"
                self._draft.note(one, why)
            in_location(self._draft, scope.zones, one.block or ())
            location = Location(self._draft, scope, path, one.block or (), exact=exact)
            routes = location.routes()
            if not routes:
                self._draft.note(one, "nothing in it can be converted: it answers 404")
                routes = [location.nothing()]
            yield exact, path, routes
            longer = [other for other in prefixes if len(other) > len(path)]
            yield from self._locations(one.block or (), scope.below(one.block or ()),
                                       (*taken, *longer))  # fmt: skip

    @staticmethod
    def _with_slashes(routes: list[Values]) -> Iterator[Values]:
        """Add a redirect from /a to /a/ where only /a/ is proxied, as nginx does."""
        paths = {route.get("path") for route in routes}
        for route in routes:
            yield route
            path = route.get("path", "")
            bare = path.removesuffix("/")
            if path.endswith("/") and bare and bare not in paths and "upstream" in route:
                to = f"{{scheme}}://{{authority}}{path}{{query}}"
                yield {"path": bare, "exact": True, "redirect": to, "redirect_status": 301}


def _kind_and_path(one: Directive) -> tuple[str, str]:
    """The modifier of a location, "" for none, and its path, pattern or name."""
    if len(one.args) == 2:
        return one.args
    match = re.match(r"(=|\^~|~\*?|)(.*)", "".join(one.args[:1]))
    assert match is not None
    return match[1], match[2]


def _tried(block: tuple[Directive, ...]) -> set[str]:
    """The last words of all `try_files`: a file, or a named location."""
    found = {one.args[-1] for one in block if one.name == "try_files" and one.args}
    return found.union(*(_tried(one.block) for one in block if one.block is not None))


def _bind(place: str) -> str:
    """Where a listener listens: both families for a port alone."""
    if place.isdecimal():
        return f":{place}"
    place = re.sub(r"^(\*|\[::\]|0\.0\.0\.0):", ":", place)
    if place.startswith(("unix:", ":")) or re.search(r":[0-9]+$", place):
        return place
    return f"{place}:80"
