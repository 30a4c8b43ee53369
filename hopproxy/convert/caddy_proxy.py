"""Caddy's reverse_proxy as an upstream and a route's settings."""

from __future__ import annotations

import re

from hopproxy.convert.caddy_fields import edit_field
from hopproxy.convert.caddy_words import Line, environment
from hopproxy.convert.draft import Draft, Values, filled, fitted
from hopproxy.settings.amounts import Misread, parse_duration
from hopproxy.settings.fields import OWN_FORWARDING, parse_sent_host
from hopproxy.settings.units import parse_origin

_BALANCE = {
    "round_robin": "round_robin",
    "least_conn": "least_requests",
    "ip_hash": "hash: client",
    "client_ip_hash": "hash: client",
}
#: Where a setting of `transport http` belongs: "" is the upstream, "pool" or "route".
_TRANSPORT = {
    "dial_timeout": ("", "connect_timeout"),
    "response_header_timeout": ("route", "response_timeout"),
    "read_timeout": ("route", "body_timeout"),
    "write_timeout": ("route", "write_timeout"),
    "keepalive": ("pool", "idle_timeout"),
}
#: Numbers of passes and failures in a row, by Caddy's names.
_ROWS = {"health_passes": "rise", "health_fails": "fall"}
_COUNTS = {"keepalive_idle_conns": "max_idle", "keepalive_idle_conns_per_host": "max_idle",
           "max_conns_per_host": "max_connections"}  # fmt: skip
#: Values of Host that name the origin itself.
_OWN_HOST = frozenset({"{upstream_hostport}", "{http.reverse_proxy.upstream.hostport}",
                       "{http.reverse_proxy.upstream.host}"})  # fmt: skip
_CLIENTS_HOST = frozenset({"{host}", "{hostport}", "{http.request.host}",
                           "{http.request.hostport}"})  # fmt: skip
#: Values that mean the same as what hopproxy writes in this field.
_FORWARDED = {
    "x-forwarded-for": (("{remote_host}",), ("{client_ip}",), ("{http.request.remote.host}",)),
    "x-forwarded-proto": (("{scheme}",), ("{http.request.scheme}",)),
    "x-forwarded-host": (("{host}",), ("{hostport}",), ("{http.request.host}",),
                         ("{http.request.hostport}",)),
}  # fmt: skip
#: What hopproxy does anyway, or what has no meaning here.
_NEEDLESS = frozenset({"flush_interval", "stream_close_delay"})


def origin_of(word: str) -> str:
    """An upstream's address as hopproxy writes it."""
    word = environment(word)
    if word.startswith("unix/"):
        return "unix:" + word.removeprefix("unix/")
    word = word.removesuffix("/")
    word = f"localhost{word}" if word.startswith(":") else word
    if "://" not in word:
        word = f"http://{word}" if "$" not in word else word
    host = word.partition("://")[2] or word
    if re.search(r":[0-9]+$|\$|\]$", host) or "://" not in word:
        return word
    return word if word.startswith("https://") else f"{word}:80"


class Proxy:
    """One reverse_proxy directive."""

    def __init__(self, draft: Draft, line: Line, to: tuple[str, ...], *, stripped: bool) -> None:
        self._draft = draft
        self._stripped = stripped
        self._line = line
        self._to = list(to)
        self._first = False
        self._upstream: Values = {}
        self._pool: Values = {}
        self._check: Values = {}
        self._health: Values = {}
        self._route: Values = {}
        self._request: Values = {}
        self._response: Values = {}

    def route(self) -> Values | None:
        """The route's settings; None if there is no origin that hopproxy can use."""
        for one in self._line.block or ():
            self._setting(one)
        found = [origin for word in self._to for origin in self._origin(word)]
        if not found:
            return None
        origins = list(dict.fromkeys(found))
        if len(origins) < len(found):
            self._note(self._line, "each origin is listed only once")
        if self._first:
            origins[1:] = [f"{origin} backup" for origin in origins[1:]]
        if self._check.get("path"):
            self._health["check"] = self._check
        if self._health:
            self._upstream["health"] = self._health
        if len(origins) > 1:
            self._upstream.setdefault("balance", "round_robin")
        upstream = {"origins": origins} | self._upstream | filled({"pool": fitted(self._pool)})
        first = re.sub(r"^\w+://|^unix:", "", origins[0])
        name = self._draft.upstream(re.sub(r":80$", "", first), upstream)
        return (
            {"upstream": name}
            | self._route
            | filled({"request_fields": self._request, "response_fields": self._response})
        )

    def _origin(self, word: str) -> list[str]:
        try:
            origin = origin_of(word)
            if "${" not in origin:
                parse_origin(origin)
        except Misread as misread:
            self._draft.note(self._line, f"{misread.wrong}: {misread.hint}")
            return []
        return [origin]

    def _setting(self, one: Line) -> None:
        name, args = one.name, one.args
        if name == "to":
            self._to += args
        elif name in ("header_up", "header_down"):
            self._field(one, up=name == "header_up")
        elif name == "lb_policy" and args == ("first",):
            self._first = True
        elif name == "lb_policy" and (balance := _balance(args)):
            self._upstream["balance"] = balance
            if args[0] == "cookie":
                self._note(one, "hopproxy sets no cookie: it uses one of the application's")
        elif name == "lb_try_duration":
            self._upstream |= filled({"hold": self._time(one)})
        elif name in ("health_uri", "health_path") and args:
            self._check["path"] = args[0]
        elif name in ("health_interval", "health_timeout"):
            self._check |= filled({name.removeprefix("health_"): self._time(one)})
        elif name in _ROWS and args and args[0].isdecimal():
            self._check[_ROWS[name]] = int(args[0])
        elif name == "max_fails" and args and args[0].isdecimal():
            self._health["failures"] = int(args[0])
        elif name == "unhealthy_status" and (statuses := _statuses(args)):
            self._health["statuses"] = statuses
        elif name == "fail_duration":
            self._note(one, "an origin that fails is out for 5s, then for longer")
        elif name == "transport":
            self._transport(one)
        elif name not in _NEEDLESS:
            self._note(one, _REASONS.get(name, "hopproxy has nothing like it"))

    def _transport(self, block: Line) -> None:
        if block.args[:1] != ("http",):
            self._note(block, "origins must speak HTTP")
            return
        for one in block.block or ():
            if one.name in _TRANSPORT and one.args == ("off",):
                self._pool["max_idle"] = 0
            elif one.name in _TRANSPORT:
                where, ours = _TRANSPORT[one.name]
                values = {"": self._upstream, "pool": self._pool, "route": self._route}[where]
                values |= filled({ours: self._time(one)})
            elif one.name in _COUNTS and one.args and one.args[0].isdecimal():
                self._pool[_COUNTS[one.name]] = int(one.args[0])
            elif one.name in ("tls", "tls_insecure_skip_verify"):
                self._to = [word if "://" in word else f"https://{word}" for word in self._to]
                if one.name == "tls_insecure_skip_verify":
                    self._upstream.setdefault("tls", {})["verify"] = False
            elif one.name == "proxy_protocol" and one.args in (("v1",), ("v2",)):
                self._upstream["proxy_protocol"] = one.args[0]
            elif one.name == "tls_client_auth" and len(one.args) == 2:
                tls = self._upstream.setdefault("tls", {})
                tls |= {"cert": environment(one.args[0]), "key": environment(one.args[1])}
            elif one.name == "versions" and one.args[:1] == ("h2c",):
                self._to = [word if "://" in word else f"h2c://{word}" for word in self._to]
            elif one.name == "tls_server_name" and one.args:
                self._upstream.setdefault("tls", {})["server_name"] = one.args[0]
            elif one.name in ("tls_trusted_ca_certs", "tls_trust_pool") and one.args:
                self._upstream.setdefault("tls", {})["ca"] = one.args[-1]
            elif one.name not in ("compression", "versions"):
                self._note(one, "hopproxy has nothing like it")

    def _field(self, one: Line, *, up: bool) -> None:
        """header_up and header_down."""
        name, *rest = one.args or ("",)
        low = name.lstrip("+-").lower()
        if up and low == "host" and rest:
            self._host(one, rest[0])
            return
        if up and low in OWN_FORWARDING and tuple(rest) not in _FORWARDED.get(low, ()):
            why = "hopproxy writes this field; trusted_proxies says which peers may send it"
            self._note(one, why)
        if up and low in OWN_FORWARDING | {"connection", "upgrade"}:
            return
        edits = self._request if up else self._response
        edit_field(self._draft, one, edits, stripped=self._stripped)

    def _host(self, one: Line, value: str) -> None:
        if value in _OWN_HOST:
            self._upstream["host"] = "origin"
        elif value not in _CLIENTS_HOST:
            try:
                host = environment(value)
                self._upstream["host"] = host if "${" in host else parse_sent_host(host)
            except Misread as misread:
                self._note(one, f"{misread.wrong}: {misread.hint}")

    def _time(self, one: Line) -> str | None:
        return time_of(self._draft, one)

    def _note(self, one: Line, why: str) -> None:
        self._draft.note(one, why)


def _statuses(args: tuple[str, ...]) -> list[int]:
    """`503`, `5xx`; those that origins send in practice."""
    found: list[int] = []
    for word in args:
        if re.fullmatch(r"[1-5][0-9][0-9]", word):
            found.append(int(word))
        elif word == "5xx":
            found += [500, 502, 503, 504]
        else:
            return []
    return sorted(set(found))


def _balance(args: tuple[str, ...]) -> str:
    """How an origin is chosen, in our words; "" if there is no such choice."""
    if args[:1] in (("header",), ("cookie",)) and len(args) > 1:
        return f"hash: {args[0]}:{args[1]}"
    return _BALANCE.get(args[0], "") if args else ""


_REASONS = {
    "trusted_proxies": "write trusted_proxies for all of the settings",
    "stream_timeout": "write tunnel_timeout, which is for connections that are silent",
    "lb_policy": "hopproxy cannot choose origins like this",
    "lb_retries": "a request is sent again once, if that is safe",
    "lb_retry_match": "a request is sent again once, if that is safe",
    "lb_try_interval": "it is 200ms",
    "unhealthy_request_count": "write max_requests_in_flight",
    "unhealthy_latency": "a slow origin gets fewer requests",
    "handle_response": "an origin's response is passed on as it is",
    "replace_status": "an origin's response is passed on as it is",
    "rewrite": "hopproxy can only remove a prefix from a path (strip)",
    "method": "methods are passed on unchanged",
    "dynamic": "write the name as an origin: it is looked up every dns_interval",
    "buffer_requests": "write buffer_request for chunked uploads",
    "request_buffers": "write buffer_request for chunked uploads",
    "response_buffers": "bodies are passed on as they arrive",
    "health_status": "any response below 400 counts",
    "health_body": "any response below 400 counts",
    "health_headers": "a health check sends no fields of its own",
    "health_port": "a health check goes to the origin's own port",
}


def time_of(draft: Draft, one: Line) -> str | None:
    """The time on this line; None if it is not a time."""
    text = one.args[0] if one.args else ""
    try:
        parse_duration(text)
    except Misread as misread:
        draft.note(one, f"{misread.wrong}: {misread.hint}")
        return None
    return text
