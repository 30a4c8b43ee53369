"""One site of a Caddyfile: its directives as routes, in the order in which Caddy runs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

from hopproxy.convert.caddy_limits import limit_rates
from hopproxy.convert.caddy_proxy import Proxy, edit_field, joined
from hopproxy.convert.caddy_words import Line, environment, value_of
from hopproxy.convert.draft import Draft, Values, filled
from hopproxy.settings.amounts import Misread, parse_size
from hopproxy.settings.fields import parse_redirect
from hopproxy.settings.words import parse_prefix

#: Directives that answer a request, in Caddy's order; those of one group are sorted by path, the
#: longest first.
_ORDER = (("redir",), ("handle", "handle_path"), ("route",), ("abort",), ("error",), ("respond",),
          ("reverse_proxy",))  # fmt: skip
_ENDS = frozenset(name for group in _ORDER for name in group)
_NEEDLESS = frozenset({"log", "log_skip", "skip_log", "bind", "tls", "header", "request_body",
                       "uri", "import", "rate_limit"})  # fmt: skip
_FILES = "hopproxy serves no files: let an origin do it"
_SECURITY = "hopproxy does not do this: requests that Caddy refuses would pass"
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
}
NO_FILE = "no such snippet or file"
UNKNOWN = "hopproxy has nothing like it"
_CODES = {"permanent": 301, "temporary": 302}


class Block:
    """The directives of a site, or of a handle in it; `within` is what the handle matches."""

    def __init__(self, draft: Draft, lines: tuple[Line, ...], within: Values, strip: str) -> None:
        self._draft = draft
        self._lines = lines
        self._within = within
        self._strip = strip
        self._matchers: dict[str, Line] = {}

    def routes(self, known: dict[str, Line], *, in_order: bool = False) -> list[Values]:
        """The routes, narrowest first; `known` are the named matchers of the site."""
        own = {one.name: one for one in self._lines if one.name.startswith("@")}
        self._matchers = known | own
        for one in self._lines:
            if one.name == "uri" and one.args[:1] == ("strip_prefix",) and len(one.args) == 2:
                self._strip = one.args[1]
            elif one.name == "uri" or (
                one.name not in _ENDS | _NEEDLESS and not one.name.startswith("@")
            ):
                self._draft.note(one.line, one.text, REASONS.get(one.name, UNKNOWN))
            elif one.name == "import":
                self._draft.note(one.line, one.text, NO_FILE)
        found: list[Values] = []
        groups = (tuple(_ENDS),) if in_order else _ORDER
        for names in groups:
            group = [one for one in self._lines if one.name in names]
            routes = [route for one in group for route in self._ends(one)]
            found += routes if in_order else sorted(routes, key=_narrow)
        self._finish(found)
        return found

    def _finish(self, routes: list[Values]) -> None:
        """Apply directives that change routes; the last header of a name wins."""
        for one in self._lines:
            if one.name == "rate_limit":
                limit_rates(self._draft, one, routes)
        for one in reversed(self._lines):
            if one.name == "request_body":
                for route in routes:
                    self._body(one, route)
            elif one.name == "header":
                self._headers(one, routes)

    def _body(self, block: Line, route: Values) -> None:
        for one in block.block or ():
            size = one.args[0] if one.name == "max_size" and one.args else ""
            try:
                parse_size(size)
            except Misread:
                self._draft.note(one.line, one.text, UNKNOWN)
            else:
                if "upstream" in route:
                    route.setdefault("max_body_size", size)

    def _headers(self, one: Line, routes: list[Values]) -> None:
        args, matches = self._matched(one)
        lines = one.block if one.block is not None else (Line(("header", *args), None, one.line),)
        edits: Values = {}
        for line in lines:
            if line.name != "defer" and line.words:
                edit_field(self._draft, line, edits)
        hit = [one for one in routes if any(_covers(match, one) for match in matches or ())]
        if routes and not hit and matches is not None:
            self._draft.note(one.line, one.text, "write a route of its own for this path")
        for route in hit:
            fields = route.setdefault("response_fields", {})
            for how, values in edits.items():
                if isinstance(values, list):
                    there = fields.setdefault(how, [])
                    there += [name for name in values if name not in there]
                else:
                    there = fields.setdefault(how, {})
                    for name, value in values.items():
                        both = name in there and how == "add"
                        there[name] = joined(value, there[name]) if both else there.get(name, value)

    # -- matchers ----------------------------------------------------------------------------

    def _matched(self, one: Line) -> tuple[tuple[str, ...], list[Values] | None]:
        """(the words after the matcher, what it matches); None if that cannot be converted."""
        first = one.args[0] if one.args else ""
        if not first.startswith(("/", "@")) and first != "*":
            return one.args, [dict(self._within)]
        rest = one.args[1:]
        if first == "*":
            return rest, [dict(self._within)]
        if first.startswith("/"):
            match = self._path(one, first)
            return rest, None if match is None else [self._within | match]
        named = self._matchers.get(first)
        if named is None:
            self._draft.note(one.line, one.text, f"there is no matcher {first}")
            return rest, None
        return rest, self._named(named)

    def _named(self, named: Line) -> list[Values] | None:
        """What a named matcher matches: paths and hosts only."""
        tests = list(named.block or ())
        if named.args:
            tests.append(Line(named.args, None, named.line))
        matches: list[Values] = [dict(self._within)]
        for test in _joined(tests):
            if test.name == "path":
                found = [self._path(test, path) for path in test.args]
                matches = [one | path for one in matches for path in found if path is not None]
            elif test.name == "host":
                hosts = [environment(host) for host in test.args]
                matches = [one | {"host": hosts} for one in matches]
            else:
                why = "a route is chosen by host and path alone"
                self._draft.note(test.line, test.text, why)
                return None
        return matches or None

    def _path(self, one: Line, pattern: str) -> Values | None:
        """`/x/*` and all below it, `/x` alone, `/x*` by whole segments."""
        if pattern in ("*", "/*"):
            return {}
        path = pattern.removesuffix("*")
        try:
            parse_prefix(path)
        except Misread as misread:
            self._draft.note(one.line, one.text, f"{misread.wrong}: {misread.hint}")
            return None
        if not pattern.endswith("*"):
            return {"path": path, "exact": True}
        if not path.endswith("/"):
            why = f"Caddy also takes {path}..., here a path ends where a segment ends"
            self._draft.note(one.line, one.text, why)
        return {"path": path}

    # -- directives that end a request -------------------------------------------------------

    def _ends(self, one: Line) -> Iterator[Values]:
        args, matches = self._matched(one)
        if matches is None:
            return
        if one.name in ("handle", "handle_path", "route"):
            for match in matches:
                yield from self._inner(one, match)
            return
        end = {
            "redir": self._redir, "respond": self._respond, "error": self._error,
            "abort": self._abort,
        }.get(one.name, self._proxy)(one, args)  # fmt: skip
        if end is not None:
            for match in matches:
                yield from _where_it_strips(match, end)

    def _inner(self, one: Line, match: Values) -> Iterator[Values]:
        strip = self._strip
        if one.name == "handle_path" and "path" in match:
            strip = match["path"].rstrip("/")
        block = Block(self._draft, one.block or (), match, strip)
        routes = block.routes(self._matchers, in_order=one.name == "route")
        if one.name == "route":
            yield from routes
            return
        yield from routes
        if not any(_same(route, match) for route in routes):
            files = any(line.name == "file_server" for line in one.block or ())
            yield match | {"respond": {"status": 404 if files else 200}}

    def _redir(self, one: Line, args: tuple[str, ...]) -> Values | None:
        to, code = (*args, "temporary", "")[:2] if args else ("", "")
        status = _CODES.get(code) or (int(code) if re.fullmatch(r"30[12378]", code) else 0)
        url = value_of(to)
        if url is None or not status:
            self._draft.note(one.line, one.text, "hopproxy has no equivalent")
            return None
        if url.endswith("{path}{query}"):
            url = url.removesuffix("{query}")
        try:
            parse_redirect(url)
        except Misread as misread:
            self._draft.note(one.line, one.text, f"{misread.wrong}: {misread.hint}")
            return None
        return {"redirect": url, "redirect_status": status}

    def _respond(self, one: Line, args: tuple[str, ...]) -> Values | None:
        body, status = "", "200"
        for word in args:
            if re.fullmatch(r"[1-9][0-9][0-9]", word):
                status = word
            else:
                body = word
        for line in one.block or ():
            if line.name == "body" and line.args:
                body = line.args[0]
        if not 200 <= int(status) <= 599:
            self._draft.note(one.line, one.text, "it is not the status of a final response")
            return None
        if re.search(r"\{[a-z][\w.]*\}", body):
            self._draft.note(one.line, one.text, "a fixed response has no variables")
        if int(status) in (204, 205, 304):  # Caddy sends none either
            body = ""
        kind = "application/json" if _is_json(body) else None
        values = filled({"body": environment(body), "type": kind})
        return {"respond": {"status": int(status)} | values}

    def _error(self, one: Line, args: tuple[str, ...]) -> Values | None:
        """`error [message] [status]`: the message is for handle_errors only."""
        status = args[-1] if args and re.fullmatch(r"[45][0-9][0-9]", args[-1]) else "500"
        return {"respond": {"status": int(status)}}

    def _abort(self, one: Line, args: tuple[str, ...]) -> Values | None:
        why = "hopproxy answers before it closes a connection: here with 404"
        self._draft.note(one.line, one.text, why)
        return {"respond": {"status": 404}}

    def _proxy(self, one: Line, args: tuple[str, ...]) -> Values | None:
        route = Proxy(self._draft, one, args).route()
        if route is not None and self._strip:
            route = {"strip": self._strip} | route
        return route


def _joined(tests: list[Line]) -> list[Line]:
    """The lines of a matcher, joined by kind: any of the words may match."""
    found: dict[str, Line] = {}
    for one in tests:
        before = found.get(one.name, Line((one.name,), None, one.line))
        found[one.name] = replace(one, words=(*before.words, *one.args))
    return list(found.values())


def _where_it_strips(match: Values, end: Values) -> Iterator[Values]:
    """The routes for one match: Caddy removes a prefix only from paths that have it."""
    strip, path = end.get("strip"), match.get("path", "/")
    if strip is None or _is_below(path, strip):
        yield match | end
        return
    if _is_below(strip, path) and not match.get("exact"):
        yield match | {"path": strip} | end
    yield match | {key: value for key, value in end.items() if key != "strip"}


def _is_json(body: str) -> bool:
    """Whether Caddy calls this body JSON: an object or an array."""
    try:
        return isinstance(json.loads(body), dict | list)
    except ValueError:
        return False


def _is_below(path: str, prefix: str) -> bool:
    return f"{path}/".startswith(prefix.rstrip("/") + "/")


def _narrow(route: Values) -> tuple[bool, int]:
    """How narrow a route is: exact before others, longer paths before shorter."""
    path = route.get("path", "")
    return not route.get("exact", False), -len(path)


def _same(route: Values, match: Values) -> bool:
    keys = ("host", "path", "exact")
    return all(route.get(key) == match.get(key) for key in keys)


def _covers(match: Values, route: Values) -> bool:
    """Whether a header with this matcher applies to all of a route."""
    if "host" in match and match["host"] != route.get("host"):
        return False
    path, own = match.get("path"), str(route.get("path", "/"))
    if path is None:
        return True
    if match.get("exact"):
        return bool(route.get("exact")) and own == path
    return _is_below(own, path)
