"""Locations of nginx as routes: what they do with a request."""

from __future__ import annotations

import re
from dataclasses import replace

from hopproxy.convert.draft import Draft, Values, filled, plain
from hopproxy.convert.nginx_limits import INHERITED as LIMITS
from hopproxy.convert.nginx_proxy import INHERITED, Proxied, Scope
from hopproxy.convert.nginx_reasons import NEEDLESS, OFF, reason
from hopproxy.convert.nginx_words import Directive, value_of
from hopproxy.settings.amounts import Misread
from hopproxy.settings.fields import parse_redirect
from hopproxy.settings.words import parse_host

_HTTPS = re.compile(
    r"https://(\$host|\$server_name|\$http_host|[A-Za-z0-9.-]+)(\$request_uri|/?\$1)?"
)
_TO_HTTPS = re.compile(r"\^(/?\(\.\*\)\$?|/)?")
#: Directives of a server that do not concern requests.
_SERVER = frozenset(
    {
        "listen", "server_name", "access_log", "ssl_certificate", "ssl_certificate_key",
        "ssl_protocols", "ssl_client_certificate", "ssl_verify_client", "keepalive_timeout",
        "keepalive_requests", "client_body_timeout", "client_header_timeout", "send_timeout",
        "large_client_header_buffers", "set_real_ip_from", "real_ip_header", "real_ip_recursive",
        "upstream", "server", "http", "worker_processes", "worker_shutdown_timeout", "include",
        "keepalive_time", "ssl", "http2_max_concurrent_streams", "limit_req_zone",
        "limit_conn_zone",
    }
)  # fmt: skip
#: Directives that nginx applies before all others.
_REWRITTEN = ("return", "rewrite", "if")
#: Limits that nginx applies before a named location.
_OUTER = frozenset({"client_max_body_size", *LIMITS})


class Location:
    """One location, or a server with its directives outside of locations."""

    def __init__(
        self,
        draft: Draft,
        scope: Scope,
        path: str,
        block: tuple[Directive, ...],
        *,
        exact: bool,
        is_server: bool = False,
    ) -> None:
        self._draft = draft
        self._is_server = is_server
        self._scope = scope.below(block)
        self._proxied = Proxied(draft, self._scope, path, exact=exact)
        self._path = path
        self._block = block
        self._exact = exact

    def routes(self) -> list[Values]:
        """The routes for this location; none if nothing in it can be converted."""
        if any(one.name == "internal" for one in self._block):
            return [self.nothing()]
        first, end, strip = self._rewritten()
        for one in self._block:
            if one.args == ("off",) and one.name in OFF:
                self._draft.note(one, OFF[one.name])
            if one.name in INHERITED or one.name in ("location", *_REWRITTEN):
                continue
            if one.name == "proxy_pass":
                end = end or self._proxied.proxy_pass(one, strip)
            elif one.name == "try_files" and one.args and one.args[-1] in self._scope.named:
                why = f"hopproxy serves no files: every request goes to {one.args[-1]}"
                self._draft.note(one, why)
                end = end or self._named(one.args[-1])
            elif one.name in _SERVER and self._is_server:
                if one.name == "access_log":
                    self._draft.note(one, reason(one.name))
            elif one.args not in (("off",), ("1.1",)) and one.name not in NEEDLESS:
                self._draft.note(one, reason(one.name))
        if end is None:
            return first
        return [*first, self._here() | end]

    def _rewritten(self) -> tuple[list[Values], Values | None, str]:
        """(routes of conditions, the answer to all other requests, the prefix that is removed).

        nginx does this before anything else, in the order of the file.
        """
        first: list[Values] = []
        strip = ""
        for one in self._block:
            if one.name == "return":
                end = self._return(one)
                if end is None:
                    self._draft.note(one, "it answers 404")
                return first, end or {"respond": {"status": 404}}, ""
            if one.name == "if":
                first += self._if(one)
            elif one.name == "rewrite":
                found = self._rewrite(one)
                if isinstance(found, str):
                    strip = found
                elif found is not None:
                    return first, found, ""
        return first, None, strip

    def _named(self, name: str) -> Values | None:
        """The route for a named location, with the path and the limits of this one."""
        block = tuple(one for one in self._scope.named[name] if one.name not in _OUTER)
        own = {name: one for name, one in self._scope.inherited.items() if name in _OUTER}
        scope = replace(self._scope, inherited=self._scope.server | own)
        routes = Location(self._draft, scope, self._path, block, exact=self._exact).routes()
        return routes[-1] if routes else None

    def nothing(self) -> Values:
        """A route that answers 404, so that no other route gets the requests of this location."""
        return self._here() | {"respond": {"status": 404}}

    def _here(self) -> Values:
        """What the route of this location matches."""
        return filled({"path": self._path if self._path != "/" or self._exact else None,
                       "exact": self._exact or None})  # fmt: skip

    # -- answers -----------------------------------------------------------------------------

    def _return(self, one: Directive, names: tuple[str, ...] | None = None) -> Values | None:
        """`return 301 URL`, `return URL`, `return 404`, `return 200 text`."""
        code, *rest = one.args or ("",)
        if not code.isdecimal():
            code, rest = "302", [code]
        status = int(code)
        if status in (301, 302, 303, 307, 308) and rest:
            return self._redirect(one, rest[0], status, names=names)
        if status == 444 or not 200 <= status <= 599:
            closed = "hopproxy answers before it closes a connection"
            why = closed if status == 444 else "it is not the status of a final response"
            self._draft.note(one, why)
            return None
        body = rest[0] if rest else ""
        if "$" in body:
            self._draft.note(one, "a fixed response cannot have variables")
        if status in (204, 205, 304):  # nginx sends none either
            body = ""
        values: Values = {"status": status} | filled({"body": plain(body)})
        kind = self._scope.last("default_type")
        if body:
            values["type"] = kind.args[0] if kind is not None and kind.args else "text/plain"
        return {"respond": values} | self._proxied.response_fields()

    def _redirect(
        self,
        one: Directive,
        url: str,
        status: int,
        *,
        adds: bool = False,
        names: tuple[str, ...] | None = None,
    ) -> Values | None:
        """A redirect of requests for these names.

        `adds` if nginx adds the query, as for a rewrite.
        """
        names = self._scope.names if names is None else names
        match = _HTTPS.fullmatch(url)
        own = match is not None and (match[1].startswith("$") or match[1] in names)
        if match is not None and match[2] and own and not self._scope.secure:
            to = "https"
            if not match[1].startswith(("$host", "$http_host")) and len(names) > 1:
                why = "each host is redirected to its own name"
                self._draft.note(one, why)
        else:
            known = dict(self._scope.known)
            whole = value_of(re.sub(r"\$(request_uri|uri\$is_args\$args)$", "$uri", url), known)
            ends = whole is not None and whole.endswith("{path}")
            found = whole if ends else value_of(url, known)
            if found is None:
                self._draft.note(one, "hopproxy has no equivalent for its variables")
                return None
            to = found + "{query}" * (adds and not ends and "?" not in found)
            if adds and not ends and "?" in found:
                self._draft.note(one, "nginx would add the query")
            if ends and url.endswith("$uri"):
                self._draft.note(one, "hopproxy keeps the query")
        if to.startswith("/"):  # nginx makes it absolute
            to = "{scheme}://{authority}" + to
        try:
            parse_redirect(to)
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return None
        return {"redirect": to, "redirect_status": status} | self._proxied.response_fields()

    def _rewrite(self, one: Directive) -> Values | str | None:
        """A redirect, or the prefix that a rewrite removes."""
        pattern, to, *flags = (*one.args, "", "")[: max(2, len(one.args))]
        permanent = "permanent" in flags
        if permanent or "redirect" in flags or to.startswith(("http://", "https://")):
            url = re.sub(r"/?\$1(\?)?$", r"$request_uri\1", to)
            if _TO_HTTPS.fullmatch(pattern):
                if url.endswith("$request_uri?") and url != to:
                    self._draft.note(one, "hopproxy keeps the query")
                return self._redirect(
                    one, url.rstrip("?"), 301 if permanent else 302, adds=not to.endswith("?")
                )
        elif flags == ["break"] and to in ("/$1", "$1"):
            match = re.fullmatch(r"\^(/[A-Za-z0-9/._~-]+?)/?\((/?\.\*)\)\$?", pattern)
            inside = match is not None and (self._path + "/").startswith(match[1] + "/")
            if match is not None and inside:
                return match[1]
        self._draft.note(one, reason("rewrite"))
        return None

    def _if(self, one: Directive) -> list[Values]:
        """`if ($host = a) { return ... }`, `if ($scheme = http) { return ... }`."""
        words = " ".join(one.args).strip("()").split()
        returns = [two for two in one.block or () if two.name == "return"]
        if (
            len(words) == 3
            and words[1] in ("=", "!=")
            and len(one.block or ()) == len(returns) == 1
        ):
            what, how, value = words[0], words[1], words[2].strip("\"'")
            host = what in ("$host", "$http_host") and how == "="
            end = self._return(returns[0], (value,) if host else None)
            if end is None:
                return []
            http = (what, how, value) in (
                ("$scheme", "=", "http"), ("$scheme", "!=", "https"),
                ("$http_x_forwarded_proto", "=", "http"),
                ("$http_x_forwarded_proto", "!=", "https"), ("$https", "!=", "on"),
            )  # fmt: skip
            if http and end.get("redirect", "").startswith("https"):
                if what == "$http_x_forwarded_proto":
                    hint = "list the proxy in front in trusted_proxies"
                    self._draft.note(one, hint)
                return [self._here() | end | {"redirect": "https"}]
            if host:
                try:
                    return [{"host": parse_host(value)} | self._here() | end]
                except Misread as misread:
                    self._draft.note(one, f"{misread.wrong}: {misread.hint}")
                    return []
        self._draft.note(one, reason("if"))
        return []
