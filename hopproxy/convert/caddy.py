"""A Caddyfile as settings: its sites, in an order in which the same one matches first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hopproxy.convert.caddy_match import Match
from hopproxy.convert.caddy_proxy import time_of
from hopproxy.convert.caddy_site import DIRECTIVES, NO_FILE, PLACES, UNKNOWN, Block
from hopproxy.convert.caddy_words import Line, environment, lines_of, snippets_of, with_imports
from hopproxy.convert.draft import Draft, Values
from hopproxy.settings.amounts import Misread, parse_size
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import parse_bind
from hopproxy.settings.words import parse_host, parse_prefix

_PRIVATE = ["192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "127.0.0.0/8", "fd00::/8", "::1"]
_TIMEOUTS = {"read_body": "body_timeout", "read_header": "head_timeout", "write": "write_timeout",
             "idle": "idle_timeout"}  # fmt: skip
_NEEDLESS = frozenset({"debug", "skip_install_trust", "local_certs", "storage", "persist_config",
                       "default_sni", "fallback_sni", "ocsp_stapling",
                       "log"})  # fmt: skip
_ACME = frozenset({"email", "acme_ca", "acme_ca_root", "acme_dns", "acme_eab", "cert_issuer",
                   "on_demand_tls", "cert_lifetime", "key_type", "renew_interval"})  # fmt: skip
_ADDRESS = re.compile(r"(?:(https?)://)?(\$\{[^}]*\}|\[[^\]]*\]|[^:/]*)(?::([^/]+))?(/.*)?")
_ACME_BELOW = frozenset({"dns", "ca", "issuer", "on_demand", "eab", "resolvers"})
_TLS = {
    "client_auth": "write listeners[].tls.client_ca and client_cert; without them every client is "
    "let in",
    "protocols": "write listeners[].tls.min_version",
    "ciphers": "the standard library's choice is used",
    "curves": "the standard library's choice is used",
}
_CLIENT_NAMED = frozenset({"x-forwarded-for", "forwarded"})
_NO_ACME = "hopproxy does not request certificates: write listeners[].tls with files"


class Address(NamedTuple):
    """One address of a site: its host ("" for every one), its port, whether it does TLS.

    `path` is the one that it serves, "" for all.
    """

    host: str
    port: str
    secure: bool
    path: str


def caddy(text: str, folder: Path) -> Draft:
    """The settings for this Caddyfile; imported files are looked for in `folder`.

    Raises Unreadable.
    """
    draft = Draft()
    found = lines_of(text)
    lines = with_imports(found, snippets_of(found), folder)
    sites = [one for one in lines if one.words and not one.is_snippet]
    if sites and all(one.block is None or one.name in DIRECTIVES for one in sites):
        # A file with one site may leave its braces out.
        sites = [replace(sites[0], block=tuple(sites[1:]))]
    _Conversion(draft).run([one for one in lines if not one.words], sites)
    return draft


class _Conversion:
    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._http, self._https = "80", "443"
        self._redirects = True
        self._binds = [""]

    def run(self, options: Iterable[Line], sites: list[Line]) -> None:
        for block in options:
            for one in block.block or ():
                self._option(one)
        made: list[tuple[int, int, int, list[Values], Line]] = []
        for number, site in enumerate(sites):
            if site.block is None or site.name.startswith("&("):
                named = "named routes are not read" if site.block is not None else UNKNOWN
                self._draft.note(site, NO_FILE if site.name == "import" else named)
                continue
            lines = site.block
            for path, hosts in self._addresses(site, lines).items():
                where: Values = {}
                if hosts:
                    where["host"] = list(hosts) if len(hosts) > 1 else hosts[0]
                if path:
                    below = path.endswith("*")
                    where |= {"path": path.removesuffix("*")} | ({} if below else {"exact": True})
                routes = Block(self._draft, lines, Match(where, ""), {}).routes()
                wild = any(host.startswith("*") for host in hosts)
                rank = 2 if not hosts else 1 if wild else 0
                made.append((rank, -len(path), number, routes, site))
        for _, _, _, routes, site in sorted(made, key=lambda one: one[:3]):
            for route in routes:
                self._draft.add(route, site)

    # -- addresses ---------------------------------------------------------------------------

    def _addresses(self, site: Line, lines: tuple[Line, ...]) -> dict[str, tuple[str, ...]]:
        """Add listeners for the addresses of a site; its hosts for each path, () for all."""
        files = next((one.args for one in lines if one.name == "tls" and len(one.args) == 2), None)
        binds = [word for one in lines if one.name == "bind" for word in one.args] or self._binds
        self._secure_only(lines)
        words = [word for word in re.split(r"[,\s]+", " ".join(site.words)) if word]
        found = [one for word in words if (one := self._address(site, word)) is not None]
        secure = [one for one in found if one.secure]
        for one in found:
            plain = one.secure and files is None and one.port == self._https
            for bind in binds:
                where = _place(bind, self._http if plain else one.port)
                self._listen(site, where, files if one.secure else None)
        if secure and files is None:
            self._draft.note(site, _NO_ACME)
        elif secure and self._redirects and any(one.port == self._https for one in secure):
            for bind in binds:
                self._listen(site, _place(bind, self._http), None)
            names = [one.host for one in secure if one.host]
            host = {"host": names if len(names) > 1 else names[0]} if names else {}
            self._draft.routes.append(host | {"redirect": "https"})
        hosts: dict[str, tuple[str, ...]] = {}
        for path in dict.fromkeys(one.path for one in found):
            named = [one.host for one in found if one.path == path]
            hosts[path] = tuple(dict.fromkeys(named)) if all(named) else ()
        return hosts

    def _secure_only(self, lines: tuple[Line, ...]) -> None:
        """Note the block of a `tls`: only its files are converted."""
        for below in [below for one in lines if one.name == "tls" for below in one.block or ()]:
            why = _NO_ACME if below.name in _ACME_BELOW else _TLS.get(below.name, UNKNOWN)
            self._draft.note(below, why)

    def _address(self, site: Line, word: str) -> Address | None:
        word = environment(word)
        match = _ADDRESS.fullmatch(word)
        if match is None:
            self._draft.note(site, "it is not an address", word)
            return None
        scheme, host, port, path = match.groups()
        path = "" if path in (None, "/", "/*") else path
        try:
            parse_prefix(path.removesuffix("*") or "/")
        except Misread as misread:
            self._draft.note(site, f"{misread.wrong}: {misread.hint}", word)
            return None
        if host and "$" not in host:
            try:
                host = parse_host(host)
            except Misread as misread:
                self._draft.note(site, f"{misread.wrong}: {misread.hint}", word)
                return None
        secure = scheme == "https" or (scheme is None and bool(host) and port != self._http)
        secure = secure or (scheme is None and port == self._https)
        if re.fullmatch(r"[0-9.]+|0\.0\.0\.0", host or ""):
            host = "" if host == "0.0.0.0" else host
        return Address(host or "", port or (self._https if secure else self._http), secure, path)

    def _listen(self, site: Line, bind: str, files: tuple[str, ...] | None) -> None:
        try:
            parse_bind(bind)
        except Misread as misread:
            if "$" not in bind:
                self._draft.note(site, f"{misread.wrong}: {misread.hint}", bind)
                return
        listener = self._draft.listen(bind)
        if files is not None:
            tls = listener.setdefault("tls", {"certificates": []})
            pair = {"cert": environment(files[0]), "key": environment(files[1])}
            if pair not in tls["certificates"]:
                tls["certificates"].append(pair)

    # -- global options ----------------------------------------------------------------------

    def _option(self, one: Line) -> None:
        draft, first = self._draft, one.args[0] if one.args else ""
        if one.name == "http_port":
            self._http = first
        elif one.name == "https_port":
            self._https = first
        elif one.name == "default_bind" and one.args:
            self._binds = list(one.args)
        elif one.name == "auto_https":
            self._redirects = first not in ("off", "disable_redirects")
        elif one.name == "order":
            if first in PLACES:
                draft.note(one, "Caddy's usual order is used")
        elif one.name == "grace_period" and (time := time_of(draft, one)) is not None:
            draft.top["drain_timeout"] = time
        elif one.name == "shutdown_delay" and (time := time_of(draft, one)) is not None:
            draft.top["drain_delay"] = time
        elif one.name == "servers":
            for below in one.block or ():
                self._server(below)
        elif one.name == "admin" and first != "off":
            draft.note(one, "it only shows the state: write admin.bind")
        elif one.name in _ACME:
            draft.note(one, _NO_ACME)
        elif one.name not in _NEEDLESS | {"admin"}:
            draft.note(one, UNKNOWN)

    def _server(self, one: Line) -> None:
        draft = self._draft
        if one.name == "trusted_proxies" and one.args[:1] == ("static",):
            trusted = draft.top.setdefault("trusted_proxies", [])
            for word in one.args[1:]:
                for network in _PRIVATE if word == "private_ranges" else [word]:
                    self._trust(one, network, trusted)
        elif one.name == "timeouts":
            for below in one.block or ():
                name = _TIMEOUTS.get(below.name)
                if name is None:
                    draft.note(below, UNKNOWN)
                elif (time := time_of(draft, below)) is not None:
                    draft.client[name] = time
        elif one.name == "max_header_size" and one.args:
            try:
                parse_size(one.args[0])
            except Misread as misread:
                draft.note(one, f"{misread.wrong}: {misread.hint}")
            else:
                draft.client["max_head_size"] = one.args[0]
        elif one.name == "client_ip_headers" and not _CLIENT_NAMED.issuperset(
            word.lower() for word in one.args
        ):
            draft.note(one, "the client is taken from X-Forwarded-For or Forwarded")
        elif one.name not in ("protocols", "metrics", "log_credentials", "client_ip_headers"):
            draft.note(one, UNKNOWN)

    def _trust(self, one: Line, network: str, trusted: list[str]) -> None:
        try:
            parse_network(network)
        except Misread as misread:
            if network != "127.0.0.0/8":
                self._draft.note(one, f"{misread.wrong}: {misread.hint}")
                return
            network = "127.0.0.0/8"
        if network not in trusted:
            trusted.append(network)


def _place(bind: str, port: str) -> str:
    """Where a listener listens, by a word of `bind`."""
    if bind.startswith("unix/"):
        return "unix:" + bind.removeprefix("unix/")
    return f"[{bind}]:{port}" if bind.count(":") > 1 and "[" not in bind else f"{bind}:{port}"
