"""nginx's proxy_ directives as an upstream and the settings of a route."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hopproxy.convert.draft import Draft, Values, filled
from hopproxy.convert.nginx_limits import INHERITED as LIMITS
from hopproxy.convert.nginx_limits import Limits, Zone
from hopproxy.convert.nginx_words import Directive, duration, value_of
from hopproxy.settings.amounts import Misread, parse_size
from hopproxy.settings.fields import (
    OWN_FORWARDING,
    parse_field_name,
    parse_field_value,
    parse_sent_host,
)
from hopproxy.settings.units import parse_origin

#: Headers of proxy_set_header that hopproxy sends anyway.
_ANYWAY = OWN_FORWARDING | {"connection", "upgrade", "via", "keep-alive", "te", "expect"}
#: Values that mean the same as what hopproxy writes in this field.
_FORWARDED = {
    "x-forwarded-for": ("$proxy_add_x_forwarded_for", "$remote_addr"),
    "x-forwarded-proto": ("$scheme",),
    "x-forwarded-host": ("$host", "$http_host", "$host:$server_port"),
}
#: Values of Host that pass the client's.
_PASSED = {
    "$host", "$http_host", "$host:$server_port", "$http_host:$server_port", "$host:$proxy_port",
    "${host}", "$host:$remote_port",
}  # fmt: skip
#: Directives that blocks below inherit, unless they have the same directive.
INHERITED = frozenset(
    {
        "proxy_set_header", "add_header", "proxy_hide_header", "proxy_redirect",
        "proxy_cookie_path", "proxy_connect_timeout", "proxy_read_timeout", "proxy_send_timeout",
        "client_max_body_size", "default_type", "proxy_ssl_server_name", "proxy_ssl_name",
        "proxy_ssl_verify", "proxy_ssl_trusted_certificate", "proxy_ssl_certificate",
        "proxy_ssl_certificate_key", *LIMITS,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scope:
    """The surroundings of a location: what it inherits, and its server.

    `secure` if the server does TLS on every listener, `names` are its names; `known` are variables
    with fixed values; `groups` are the upstream blocks by name, `named` the locations `@name`,
    `zones` those of limits; `server` is what holds in the whole server.
    """

    inherited: dict[str, tuple[Directive, ...]]
    names: tuple[str, ...]
    secure: bool
    known: dict[str, str]
    groups: dict[str, Values] = field(default_factory=dict)
    named: dict[str, tuple[Directive, ...]] = field(default_factory=dict)
    zones: dict[str, Zone] = field(default_factory=dict)
    server: dict[str, tuple[Directive, ...]] = field(default_factory=dict)

    def below(self, block: Iterable[Directive]) -> Scope:
        """The scope of a block within this one."""
        found: dict[str, tuple[Directive, ...]] = {}
        for one in block:
            if one.name in INHERITED:
                found[one.name] = (*found.get(one.name, ()), one)
        return replace(self, inherited=self.inherited | found)

    def last(self, name: str) -> Directive | None:
        """The directive of this name that applies here."""
        found = self.inherited.get(name, ())
        return found[-1] if found else None


class Proxied:
    """What one location, at `path`, does with requests to an origin and their responses."""

    def __init__(self, draft: Draft, scope: Scope, path: str, *, exact: bool) -> None:
        self._draft = draft
        self._scope = scope
        self._path = path
        self._exact = exact

    def proxy_pass(self, one: Directive, strip: str) -> Values | None:
        url = one.args[0] if one.args else ""
        match = re.fullmatch(r"(?i:(https?))://(unix:[^:]+|[^/$]+)(?::?(/[^$]*))?", url)
        if match is None:
            variables = "an origin has no variables in its address"
            why = variables if "$" in url else "it is not the URL of an origin"
            self._draft.note(one, why)
            return None
        scheme, place, uri = match[1].lower(), match[2], match[3] or ""
        if uri and not strip:
            found = self._stripped(one, uri)
            if found is None:
                return None
            strip = found
        upstream, base = self._origins(one, scheme, place)
        if upstream is None:
            return None
        limits = Limits(self._draft, self._scope.zones, self._scope.inherited)
        if statuses := limits.failures(len(upstream["origins"])):
            upstream["health"] = upstream.get("health", {}) | statuses
        upstream |= limits.in_flight()
        upstream |= self._host(place if place in self._scope.groups else "")
        for name, theirs in (("connect_timeout", "proxy_connect_timeout"),):
            upstream |= self._time(name, theirs)
        upstream |= self._tls(scheme)
        route: Values = {"upstream": self._draft.upstream(base, upstream)}
        if strip:
            route["strip"] = strip
        route |= limits.rate()
        route |= filled({"request_fields": self._request_fields()})
        route |= self.response_fields() | self._locations(strip)
        route |= self._time("response_timeout", "proxy_read_timeout")
        for name in ("body_timeout", "tunnel_timeout"):
            if "response_timeout" in route:
                route[name] = route["response_timeout"]
        route |= self._time("write_timeout", "proxy_send_timeout")
        if (size := self._scope.last("client_max_body_size")) is not None and size.args:
            route |= self._size(size)
        return route

    def _stripped(self, one: Directive, uri: str) -> str | None:
        """The prefix that a URI in proxy_pass removes, "" for none; None if it adds one."""
        path = self._path
        if path == uri:
            return ""
        if path.endswith(uri) and uri.startswith("/"):
            return path.removesuffix(uri)
        if uri == "/":
            if not self._exact:
                why = "nginx would send // before the rest of the path"
                self._draft.note(one, why)
            return path
        why = "hopproxy can remove a prefix from a path, but not add one"
        self._draft.note(one, why)
        return None

    def _origins(self, one: Directive, scheme: str, place: str) -> tuple[Values | None, str]:
        """(the upstream's values, a name for it)."""
        if place in self._scope.groups:
            group = dict(self._scope.groups[place])
            if scheme == "https":
                if any(origin.startswith("unix:") for origin in group["origins"]):
                    why = "hopproxy speaks no TLS on a Unix socket: these origins get plain HTTP"
                    self._draft.note(one, why)
                group["origins"] = [re.sub("^http:", "https:", one) for one in group["origins"]]
            return group, place
        origin = place if place.startswith("unix:") else f"{scheme}://{place}"
        try:
            parse_origin(origin)
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return None, ""
        return {"origins": [origin]}, re.sub(r":80$", "", place).removeprefix("unix:")

    def _host(self, group: str) -> Values:
        """The Host that origins see; nginx's default is that of proxy_pass."""
        found = [
            one for one in self._scope.inherited.get("proxy_set_header", ())
            if one.args and one.args[0].lower() == "host"
        ]  # fmt: skip
        value = found[-1].args[1] if found and len(found[-1].args) > 1 else "$proxy_host"
        if value == "$server_name" and self._scope.names:
            return {"host": self._scope.names[0]}
        if value in _PASSED or value == "$server_name":
            return {}
        if value in ("$proxy_host", "$proxy_host:$proxy_port"):
            return {"host": group or "origin"}
        if "$" in value:
            self._draft.note(found[-1], "hopproxy has no equivalent for its variables")
            return {}
        try:
            return {"host": parse_sent_host(value)}
        except Misread as misread:
            self._draft.note(found[-1], f"{misread.wrong}: {misread.hint}")
            return {}

    def _request_fields(self) -> Values:
        sets: Values = {}
        removes: list[str] = []
        for one in self._scope.inherited.get("proxy_set_header", ()):
            name, value = (*one.args, "", "")[:2]
            low = name.lower()
            if low in OWN_FORWARDING and value not in _FORWARDED.get(low, ()):
                why = "hopproxy writes this field; trusted_proxies says which peers may send it"
                self._draft.note(one, why)
            if low == "host" or low in _ANYWAY or low in ("content-length", "transfer-encoding"):
                continue
            if value == "$request_id" and low == "x-request-id":
                self._draft.top["request_id"] = ["x-request-id"]
                continue
            if not value:
                removes += self._removed(one, name)
                continue
            if value == "$http_" + low.replace("-", "_"):
                continue  # as the client sent it
            found = self._value(one, name, value)
            if found is not None:
                sets[name] = found
        return filled({"set": sets, "remove": removes})

    def _value(self, one: Directive, name: str, value: str) -> str | None:
        found = value_of(value, self._scope.known)
        try:
            parse_field_name(name)
            parse_field_value(found or "")
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return None
        if found is None:
            self._draft.note(one, "hopproxy has no equivalent for its variables")
        return found

    def _removed(self, one: Directive, name: str) -> list[str]:
        try:
            return [parse_field_name(name)]
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return []

    def response_fields(self) -> Values:
        adds: Values = {}
        for one in self._scope.inherited.get("add_header", ()):
            name, value, *rest = (*one.args, "", "")[: max(2, len(one.args))]
            found = self._value(one, name, value) if value else None
            if found is None:
                continue
            if rest != ["always"]:
                why = "it applies to every status here, like `always`"
                self._draft.note(one, why)
            adds[name] = [*adds.get(name, []), found]
        single = {name: values[0] if len(values) == 1 else values for name, values in adds.items()}
        hidden = [
            name
            for one in self._scope.inherited.get("proxy_hide_header", ())
            for name in self._removed(one, one.args[0])
        ]
        fields = filled({"add": single, "remove": hidden})
        return {"response_fields": fields} if fields else {}

    def _locations(self, strip: str) -> Values:
        """The setting for proxy_redirect and proxy_cookie_path."""
        redirect, cookie = self._scope.last("proxy_redirect"), self._scope.last("proxy_cookie_path")
        for name in ("proxy_redirect", "proxy_cookie_path"):
            for one in self._scope.inherited.get(name, ())[:-1]:
                self._draft.note(one, "hopproxy uses only the last one")
        whole = ("/", strip + "/")
        if cookie is not None and strip and cookie.args in (whole, ("/", strip)):
            return {"locations": "all"}
        if cookie is not None and cookie.args != ("off",):
            why = "only the prefix that `strip` removes is added again"
            self._draft.note(cookie, why)
        if redirect is None or redirect.args == ("default",):
            return {}
        if redirect.args == ("off",):
            return {"locations": "off"}
        if strip and redirect.args in (whole, ("/", strip)):
            return {"locations": "all"}
        why = "URLs of the origin are rewritten for the client anyway"
        self._draft.note(redirect, why)
        return {}

    def _time(self, name: str, theirs: str) -> Values:
        one = self._scope.last(theirs)
        found = duration(one.args[0]) if one is not None and one.args else None
        if one is not None and found is None:
            self._draft.note(one, "it is not a time")
        return {name: found} if found is not None else {}

    def _size(self, one: Directive) -> Values:
        try:
            parse_size(one.args[0])
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return {}
        return {"max_body_size": one.args[0]}

    def _tls(self, scheme: str) -> Values:
        """TLS towards the origin.  By default, nginx verifies no certificate."""
        if scheme != "https":
            return {}
        verify, name = self._scope.last("proxy_ssl_verify"), self._scope.last("proxy_ssl_name")
        ca = self._scope.last("proxy_ssl_trusted_certificate")
        cert = self._scope.last("proxy_ssl_certificate")
        key = self._scope.last("proxy_ssl_certificate_key")
        if name is not None and "$" in name.args[0]:
            self._draft.note(name, "hopproxy has no equivalent for its variables")
        values = {
            "verify": None if verify is not None and verify.args == ("on",) else False,
            "ca": ca and ca.args[0],
            "server_name": name.args[0] if name is not None and "$" not in name.args[0] else None,
            "cert": cert and cert.args[0],
            "key": key and key.args[0],
        }
        return {"tls": filled(values)} if filled(values) else {}
