"""One site of a Caddyfile: its directives as routes, in the order in which Caddy runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from hopproxy.convert.caddy_answers import ANSWERS
from hopproxy.convert.caddy_fields import changed_fields
from hopproxy.convert.caddy_limits import limit_rates
from hopproxy.convert.caddy_match import Match, narrowed, placed, where
from hopproxy.convert.caddy_proxy import Proxy
from hopproxy.convert.caddy_words import Line, environment
from hopproxy.convert.draft import Draft, Values
from hopproxy.settings.amounts import Misread, parse_size
from hopproxy.settings.words import parse_prefix

#: Directives in the order in which Caddy sorts them; those of one group are sorted by their path,
#: the longest first.
_ORDER = (("header",), ("request_body",), ("redir",), ("uri",), ("rate_limit",),
          ("handle", "handle_path"), ("route",), ("abort",), ("error",), ("respond",),
          ("reverse_proxy",))  # fmt: skip
PLACES = {name: place for place, names in enumerate(_ORDER) for name in names}
_NEEDLESS = frozenset({"log", "log_skip", "skip_log", "bind", "tls"})
_FILE_SERVERS = ("file_server", "php_fastcgi")
_FILES = "hopproxy serves no files: let an origin do it"
_SECURITY = "hopproxy does not do this: requests that Caddy refuses would pass"
#: The note for an import of something that does not exist.
NO_FILE = "no such snippet or file"
REASONS = {
    **dict.fromkeys(("file_server", "root", "try_files", "php_fastcgi", "templates"), _FILES),
    **dict.fromkeys(("basicauth", "basic_auth", "forward_auth", "jwt"), _SECURITY),
    "encode": "hopproxy does not compress: let the application do it",
    "rewrite": "hopproxy can only remove a prefix (strip), or redirect",
    "handle_errors": "an origin's own error pages are passed on",
    "vars": "hopproxy computes no variables",
    "map": "hopproxy computes no variables",
    "method": "methods are passed on unchanged",
    "push": "hopproxy does not push",
    "tracing": "request_id can make and pass traceparent",
    "acme_server": "hopproxy issues no certificates",
    "request_header": "write request_fields in the route",
    "metrics": "the admin listener has metrics: write admin.bind",
    "invoke": "named routes are not read",
    "import": NO_FILE,
}
#: Words that a line of a site may begin with.
DIRECTIVES = frozenset({*PLACES, *_NEEDLESS, *REASONS})
UNKNOWN = "hopproxy has nothing like it"


class Block:
    """The directives of a site, or of a handle within it.

    `match` are the requests of this block, and the prefix removed from their paths.  `known` are
    the named matchers around it.  `rest` makes the routes for requests that it leaves over: without
    it, Caddy has an empty answer to them.
    """

    def __init__(
        self,
        draft: Draft,
        lines: tuple[Line, ...],
        match: Match,
        known: dict[str, Line],
        rest: Callable[[Match], list[Values]] | None = None,
    ) -> None:
        self._draft = draft
        self._rest = rest
        self._ordered = self._open = False
        self._lines = lines
        self._within, self._strip = match
        self.moved = False  # whether the remaining requests have another path
        own = {one.name: one for one in lines if one.name.startswith("@")}
        self._matchers = known | own
        self._found: list[Values] = []

    def routes(self, *, ordered: bool = False, is_open: bool = False) -> list[Values]:
        """The routes, in the order in which they are tried.

        `ordered` if the directives run as they are written.  With `is_open`, requests that the
        routes leave over go on to those behind them.
        """
        self._ordered, self._open = ordered, is_open
        lines = [one for one in self._lines if one.name in PLACES]
        for one in self._lines:
            if one.name not in _NEEDLESS and one not in lines and not one.name.startswith("@"):
                self._draft.note(one, REASONS.get(one.name, UNKNOWN))
        changes: list[tuple[int, str, Line]] = []
        lines = lines if ordered else self._sorted(lines)
        for place, one in enumerate(lines):
            if one.name in ("header", "request_body", "rate_limit"):
                changes.append((len(self._found), self._strip, one))
            elif one.name == "uri":
                self._uri(one)
            else:
                self._found += self._ends(one, lines[place + 1 :])
        if not is_open and not self._takes_all(self._within, self._found):
            self._found += self._left_over()
        for begin, strip, one in reversed(changes):
            self._strip = strip
            self._found[begin:] = self._changed(one, self._found[begin:])
        return self._found

    def _left_over(self) -> list[Values]:
        """The routes for requests that this block leaves over."""
        files = any(one.name in _FILE_SERVERS for one in self._lines)
        if self._rest is None or files:
            return [self._within | {"respond": {"status": 404 if files else 200}}]
        return self._rest(Match(self._within, self._strip))

    @staticmethod
    def _takes_all(match: Values, routes: list[Values]) -> bool:
        return any(where(route) == match for route in routes)

    def _sorted(self, lines: list[Line]) -> list[Line]:
        """The directives as Caddy sorts them: each goes before those that it `_precedes`."""
        found: list[Line] = []
        for one in lines:
            at = len(found)
            while at and self._precedes(one, found[at - 1]):
                at -= 1
            found.insert(at, one)
        return found

    def _precedes(self, one: Line, other: Line) -> bool:
        """Whether Caddy moves a directive before another: by its name, then by its path.

        Where both have one path, the longer goes first; otherwise one with a matcher does.
        """
        if PLACES[one.name] != PLACES[other.name]:
            return PLACES[one.name] < PLACES[other.name]
        (mine, matched), (its, other_matched) = self._sorted_by(one), self._sorted_by(other)
        if not mine or not its:
            return matched and not other_matched
        if mine.removesuffix("*") == its.removesuffix("*"):
            return len(mine) < len(its)
        return len(mine) > len(its)

    def _sorted_by(self, one: Line) -> tuple[str, bool]:
        """(the path of a directive that has one, whether it has a matcher)."""
        first = one.args[0] if one.args else ""
        paths = [first] if first.startswith("/") else []
        if first in self._matchers:
            tests = self._tests(self._matchers[first])
            paths = [path for test in tests if test.name == "path" for path in test.args]
        return paths[0] if len(paths) == 1 else "", first.startswith(("/", "@"))

    # -- directives that change what follows ---------------------------------------------------

    def _uri(self, one: Line) -> None:
        if one.args[:1] == ("strip_prefix",) and len(one.args) == 2:
            self._strip += "/" + one.args[1].strip("/")
            self.moved = True
        else:
            self._draft.note(one, UNKNOWN)

    def _changed(self, one: Line, routes: list[Values]) -> list[Values]:
        """The routes behind a directive, with what it changes."""
        if one.name == "rate_limit":
            limit_rates(self._draft, one, routes)
            return routes
        args, matches = self._matched(one)
        if one.name == "header":
            change = changed_fields(self._draft, one, args, stripped=bool(self._strip))
        else:
            size = self._size(one)

            def change(route: Values) -> None:
                if size is not None and "upstream" in route:
                    route.setdefault("max_body_size", size)

        hit = False
        for match in matches or ():
            routes, found = narrowed(routes, match.where, change)
            hit = hit or found
        if routes and not hit and matches is not None:
            self._draft.note(one, "no route has this path")
        return routes

    def _size(self, block: Line) -> str | None:
        """The size of a request_body."""
        found: str | None = None
        for one in block.block or ():
            size = one.args[0] if one.name == "max_size" and one.args else ""
            try:
                parse_size(size)
            except Misread:
                self._draft.note(one, UNKNOWN)
            else:
                found = size
        return found

    # -- matchers ----------------------------------------------------------------------------

    def _matched(self, one: Line) -> tuple[tuple[str, ...], list[Match] | None]:
        """(the words after the matcher, what it matches); None if that cannot be converted."""
        first = one.args[0] if one.args else ""
        if not first.startswith(("/", "@")) and first != "*":
            return one.args, self._placed({})
        rest = one.args[1:]
        if first == "*":
            return rest, self._placed({})
        if first.startswith("/"):
            match = self._path(one, first)
            return rest, None if match is None else self._placed(match)
        named = self._matchers.get(first)
        if named is None:
            self._draft.note(one, f"there is no matcher {first}")
            return rest, None
        matches = self._named(named)
        if matches is None:
            self._draft.note(one, f"what {first} matches cannot be converted")
            return rest, None
        return rest, [place for match in matches for place in self._placed(match)]

    def _placed(self, match: Values) -> list[Match]:
        return placed(match, self._within, self._strip)

    def _named(self, named: Line) -> list[Values] | None:
        """What a named matcher matches: paths and hosts only."""
        matches: list[Values] = [{}]
        for test in self._tests(named):
            if test.name == "path":
                found = [self._path(test, path) for path in test.args]
                matches = [one | path for one in matches for path in found if path is not None]
            elif test.name == "host":
                hosts = [environment(host) for host in test.args]
                host = hosts[0] if len(hosts) == 1 else hosts
                matches = [{"host": host} | one for one in matches]
            else:
                self._draft.note(test, "a route is chosen by host and path alone")
                return None
        return matches or None

    @staticmethod
    def _tests(named: Line) -> list[Line]:
        """The lines of a matcher, joined by kind: any of the words may match."""
        tests = list(named.block or ())
        if named.args:
            tests.append(replace(named, words=named.args, block=None))
        found: dict[str, Line] = {}
        for one in tests:
            before = found.get(one.name, replace(one, words=(one.name,)))
            found[one.name] = replace(one, words=(*before.words, *one.args))
        return list(found.values())

    def _path(self, one: Line, pattern: str) -> Values | None:
        """`/x/*` and all below it, `/x` alone, `/x*` by whole segments."""
        if pattern in ("*", "/*"):
            return {}
        path = pattern.removesuffix("*")
        try:
            parse_prefix(path)
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return None
        if not pattern.endswith("*"):
            return {"path": path, "exact": True}
        if not path.endswith("/"):
            why = f"Caddy also matches {path}..., hopproxy only whole segments"
            self._draft.note(one, why)
        return {"path": path}

    # -- directives that end a request -------------------------------------------------------

    def _ends(self, one: Line, later: list[Line]) -> Iterator[Values]:
        args, matches = self._matched(one)
        if matches is None:
            return
        if one.name in ("handle", "handle_path", "route"):
            for match in matches:
                yield from self._inner(one, match, later)
            return
        stripped = any(match.strip for match in matches)
        if one.name in ANSWERS:
            end = ANSWERS[one.name](self._draft, one, args, stripped)
        else:
            end = Proxy(self._draft, one, args, stripped=stripped).route()
        if end is None:
            return
        refuses = 400 <= end.get("respond", {}).get("status", 200) < 500
        if refuses and any(match.where.get("path") for match in matches):
            self._draft.note(one, "Caddy ignores the case of a path, hopproxy does not")
        for match in matches:
            strip = {"strip": match.strip} if match.strip and "upstream" in end else {}
            yield match.where | strip | end

    def _inner(self, one: Line, match: Match, later: list[Line]) -> list[Values]:
        """The routes of a handle or a route, whose requests go on to `later` directives.

        After a handle they pass over the other handles.
        """
        lines = one.block or ()
        if one.name == "route":
            block = Block(self._draft, lines, match, self._matchers)
            routes = block.routes(ordered=True, is_open=True)
            if block.moved and not self._takes_all(match.where, routes):
                self._draft.note(one, "requests that it leaves over keep their whole path here")
            return routes
        if one.name == "handle_path" and "path" in match.where:
            match = Match(match.where, match.where["path"].rstrip("/"))
        passed = ("handle", "handle_path")
        after = [other for other in later if other.name not in passed]
        after += [other for other in self._lines if other.name in _FILE_SERVERS]

        def rest(left: Match) -> list[Values]:
            block = Block(self._draft, tuple(after), left, self._matchers, self._rest)
            return block.routes(ordered=self._ordered, is_open=self._open)

        return Block(self._draft, lines, match, self._matchers, rest).routes()
