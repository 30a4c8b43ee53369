"""An nginx configuration as settings: servers, in an order in which the same one matches first.

nginx chooses a server by its name (exact, then wildcards), and a location by the longest prefix.
hopproxy takes the first route that matches, so narrow routes are written before wide ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from hopproxy.convert.draft import Draft, Values, filled, fitted
from hopproxy.convert.nginx_limits import INHERITED as LIMITS
from hopproxy.convert.nginx_limits import connections, shared, zones
from hopproxy.convert.nginx_proxy import Scope
from hopproxy.convert.nginx_reasons import NEEDLESS, reason
from hopproxy.convert.nginx_server import Server
from hopproxy.convert.nginx_words import Directive, directives, duration, included
from hopproxy.settings.amounts import KiB, MiB, Misread
from hopproxy.settings.networks import parse_network
from hopproxy.settings.origins import parse_origin_line
from hopproxy.settings.route_agreement import is_within

#: Settings of the client's hop, by the directives of nginx.
_CLIENT_TIMES = {
    "client_body_timeout": "body_timeout",
    "client_header_timeout": "head_timeout",
    "send_timeout": "write_timeout",
    "keepalive_time": "max_age",
}
#: Where a trusted proxy names the client.
_CLIENT_NAMED = frozenset({"x-forwarded-for", "forwarded", "proxy_protocol"})
#: Directives that `_top` understands, or that hold for locations.
_HERE = frozenset(
    {
        "add_header", "client_max_body_size", "http", "include", "keepalive_requests",
        "keepalive_timeout", "large_client_header_buffers", "map", "real_ip_header",
        "real_ip_recursive", "server", "set_real_ip_from", "upstream", "worker_processes",
        "worker_shutdown_timeout", "access_log", "ssl_certificate", "ssl_certificate_key",
        "ssl_protocols", "ssl_client_certificate", "ssl_verify_client",
        "proxy_set_header", "proxy_hide_header", "proxy_redirect",
        "proxy_cookie_path", "proxy_connect_timeout", "proxy_read_timeout", "proxy_send_timeout",
        "events", "limit_req_zone", "limit_conn_zone", *LIMITS,
        *_CLIENT_TIMES, "http2_max_concurrent_streams",
    }
)  # fmt: skip


def nginx(text: str, folder: Path) -> Draft:
    """The settings for this configuration; included files are looked for in `folder`.

    Raises Unreadable.
    """
    draft = Draft()
    found = included(directives(text), folder, draft)
    blocks = [one for one in found if one.name == "http" and one.block is not None]
    outer = [one for one in found if one.name != "http"]
    inner = [one for block in blocks for one in block.block or ()]
    _Conversion(draft, [*outer, *inner]).run()
    return draft


class _Conversion:
    def __init__(self, draft: Draft, found: list[Directive]) -> None:
        self._draft = draft
        self._found = found
        self._groups: dict[str, Values] = {}

    def run(self) -> None:
        draft = self._draft
        for one in self._found:
            if one.name == "upstream" and one.args:
                self._groups[one.args[0]] = self._group(one)
        for one in self._found:
            self._top(one)
        known = zones(self._found, draft)
        scope = Scope({}, (), False, {}, self._groups, zones=known).below(self._found)
        if scope.last("client_max_body_size") is None:
            draft.client["max_body_size"] = "1MiB"  # nginx's default
        blocks = [one for one in self._found if one.name == "server" and one.block is not None]
        servers = [Server(draft, one, self._found) for one in blocks]
        if not servers:
            draft.note(Directive("", (), None, 1), "there is no server block")
        connections(draft, known, self._found)
        for server in servers:
            self._client(server.block, others=len(servers) > 1)
            connections(draft, known, server.block)
        for server in servers:
            server.make_routes(scope)
        chosen = _chosen(servers)
        for server in servers:
            if server.is_nameless and all(server is not one for _, one in chosen):
                why = "none of its names can be converted: it is left out"
                draft.note(server.written, why, server.text)
        for server in servers:
            if not server.only_redirects and any(
                not other.only_redirects and not set(server.binds) & set(other.binds)
                for other in servers
            ):
                why = "routes apply to all listeners, so it answers on each of them"
                draft.note(server.written, why, server.text)
        for hosts, server in chosen:
            for route in server.routes:
                self._add(hosts, dict(route), server)

    def _add(self, hosts: tuple[str, ...], route: Values, server: Server) -> None:
        """One more route, for these hosts; none: for every host."""
        host = route.pop("host", None)
        if host is not None and not is_within((host,), hosts):
            return  # this server gets no requests for it
        if host is not None:
            hosts = (host,)
        matched = {"host": hosts[0] if len(hosts) == 1 else list(hosts)} if hosts else {}
        self._draft.add(matched | route, server.written, server.text)

    # -- above the servers -------------------------------------------------------------------

    def _top(self, one: Directive) -> None:
        draft = self._draft
        if one.name == "worker_processes" and one.args:
            draft.top["workers"] = max(1, int(one.args[0])) if one.args[0].isdecimal() else "auto"
        elif one.name == "worker_shutdown_timeout" and one.args:
            draft.top["drain_timeout"] = duration(one.args[0]) or "30s"
        elif one.name == "access_log" and one.args == ("off",):
            draft.top["access_log"] = False
        elif (one.name == "map" and one.args[:1] == ("$http_upgrade",)) or one.name in (
            "server",
            "upstream",
            "http",
            "events",
        ):
            return
        elif one.name == "access_log":
            draft.note(one, "the access log is on standard output")
        elif one.name not in _HERE - {"map"} and one.name not in NEEDLESS and one.args != ("off",):
            draft.note(one, reason(one.name))
        self._client([one])

    def _client(self, block: Iterable[Directive], *, others: bool = False) -> None:
        """Settings of the client's hop: they hold for every server, also for `others`."""
        draft = self._draft
        for one in block:
            first = one.args[0] if one.args else ""
            known = dict(draft.client)
            times = one.name in _CLIENT_TIMES or one.name == "keepalive_timeout"
            if times and (time := duration(first)) is None:
                draft.note(one, "it is not a time")
            elif one.name in _CLIENT_TIMES:
                draft.client[_CLIENT_TIMES[one.name]] = time
            elif one.name == "keepalive_timeout":
                off = time in ("0s", "0")
                draft.client |= {"max_requests": 1} if off else {"idle_timeout": time}
            elif one.name == "keepalive_requests" and first.isdecimal():
                draft.client["max_requests"] = int(first)
            elif one.name == "http2_max_concurrent_streams" and first.isdecimal():
                draft.client["max_streams"] = int(first)
            elif one.name == "large_client_header_buffers" and _buffers(one.args):
                draft.client |= _buffers(one.args)
            elif one.name in ("keepalive_requests", "large_client_header_buffers"):
                draft.note(one, "it is not a number")
            elif one.name == "set_real_ip_from":
                self._trusted(one, first)
            elif one.name == "real_ip_header" and first.lower() not in _CLIENT_NAMED:
                why = "the client is taken from X-Forwarded-For or Forwarded"
                draft.note(one, why)
            if others and any(draft.client[name] != value for name, value in known.items()):
                draft.note(one, "hopproxy has one value for all servers: the last one is used")

    def _trusted(self, one: Directive, network: str) -> None:
        word = "unix" if network == "unix:" else network
        try:
            parse_network(word)
        except Misread as misread:
            self._draft.note(one, f"{misread.wrong}: {misread.hint}")
            return
        trusted = self._draft.top.setdefault("trusted_proxies", [])
        if word not in trusted:
            trusted.append(word)

    # -- upstreams ---------------------------------------------------------------------------

    def _group(self, block: Directive) -> Values:
        """An upstream block."""
        origins: list[str] = []
        pool: Values = {}
        values: Values = {}
        for one in block.block or ():
            first = one.args[0] if one.args else ""
            if one.name == "server":
                origins += self._origin(one)
            elif one.name == "queue" and first.isdecimal():
                pool["queue"] = int(first)
                times = [word[8:] for word in one.args if word.startswith("timeout=")]
                pool["queue_timeout"] = duration(times[-1]) if times else "60s"
            elif one.name == "keepalive" and first.isdecimal():
                pool["max_idle"] = int(first)
            elif one.name == "keepalive_timeout" and duration(first) is not None:
                pool["idle_timeout"] = duration(first)
            elif one.name == "keepalive_time" and duration(first) is not None:
                pool["max_age"] = duration(first)
            elif one.name == "keepalive_requests" and first.isdecimal():
                pool["max_requests"] = int(first)
            elif balance := _balance(one):
                values["balance"] = balance
            elif one.name not in NEEDLESS:
                self._draft.note(one, reason(one.name))
        if not any(_balance(one) for one in block.block or ()) and len(origins) > 1:
            values["balance"] = "round_robin"
        if not origins:
            self._draft.note(block, "it has no origin that hopproxy can use")
            origins.append("127.0.0.1:9")
        lines = [one for one in block.block or () if one.name == "server"]
        lines = [one for one in lines if not {"down", "backup"} & set(one.args)]
        most, fails = (shared(self._draft, lines, name) for name in ("max_conns", "max_fails"))
        if most.isdecimal() and int(most):
            pool["max_connections"] = int(most)
        if fails.isdecimal() and len(origins) > 1:
            values["health"] = {"failures": int(fails)}
        if (slow := duration(shared(self._draft, lines, "slow_start"))) is not None:
            values["health"] = values.get("health", {}) | {"slow_start": slow}
        return {"origins": origins} | values | filled({"pool": fitted(pool)})

    def _origin(self, one: Directive) -> Iterator[str]:
        place, *options = one.args or ("",)
        if "down" in options:
            return
        origin = place if place.startswith("unix:") else f"http://{place}"
        for option in options:
            name, _, value = option.partition("=")
            word = f"{name}={value}" if name == "weight" else name
            if name in ("weight", "backup") and _is_origin(f"{origin} {word}"):
                origin = f"{origin} {word}"
            elif name not in ("max_conns", "max_fails", "fail_timeout", "resolve", "slow_start"):
                # Names are resolved again anyway, and an origin is out for 5 s, then for longer.
                self._draft.note(one, f"hopproxy has no equivalent for `{name}`")
        if not _is_origin(origin):
            self._draft.note(one, "it is not the address of an origin")
            return
        yield origin


def _balance(one: Directive) -> str:
    """How a group chooses an origin, in our words; "" for any other directive."""
    if one.name == "least_conn" or (one.name == "random" and "two" in one.args):
        return "least_requests"
    if one.name == "ip_hash":
        return "hash: client"
    if one.name == "hash" and one.args[:1] in (("$remote_addr",), ("$binary_remote_addr",)):
        return "hash: client"
    match = re.fullmatch(r"\$(http|cookie)_(\w+)", one.args[0]) if one.name == "hash" else None
    if match is not None:
        kind = "header" if match[1] == "http" else "cookie"
        return f"hash: {kind}:{match[2].replace('_', '-') if kind == 'header' else match[2]}"
    return ""


def _is_origin(text: str) -> bool:
    try:
        parse_origin_line(text)
    except Misread:
        return False
    return True


def _buffers(args: tuple[str, ...]) -> Values:
    """The limits of heads: all buffers together, and one of them for the request line."""
    count, size = args if len(args) == 2 else ("", "")
    match = re.fullmatch(r"([0-9]+)([kKmM]?)", size)
    if not count.isdecimal() or match is None:
        return {}
    each = int(match[1]) * {"": 1, "k": KiB, "m": MiB}[match[2].lower()]
    return {"max_head_size": max(int(count) * each, 256), "max_target_size": min(each, 8 * KiB)}


def _chosen(servers: list[Server]) -> list[tuple[tuple[str, ...], Server]]:
    """(hosts, server), in the order in which nginx would choose: names, wildcards, the defaults.

    Those that only redirect to https come first, since their routes leave requests by https alone.
    """
    defaults: dict[str, Server] = {}
    for server in servers:
        for bind in server.binds:
            if bind not in defaults or (server.is_default and not defaults[bind].is_default):
                defaults[bind] = server
    last = [one for one in servers if not one.names or one in defaults.values()]
    last = [one for one in last if not one.is_nameless or one in defaults.values()]
    last.sort(key=lambda one: one not in defaults.values())
    others = [one for one in last if not one.only_redirects]
    exact: list[tuple[tuple[str, ...], Server]] = []
    wild: list[tuple[tuple[str, ...], Server]] = []
    for server in servers:
        names = tuple(name for name in server.names if not name.startswith("*."))
        exact += [(names, server)] if names else []
        wild += [((name,), server) for name in server.names if name.startswith("*.")]
    wild.sort(key=lambda pair: -len(pair[0][0]))
    shadowed = any(server not in last for _, server in wild)
    # A default server also takes all other hosts: alone it need not name its own.
    found = [
        (hosts, server)
        for hosts, server in [*exact, *wild]
        if server not in last or (server in others and (shadowed or len(others) > 1))
    ]
    found += [((), server) for server in last]
    redirects = any(server.only_redirects for server in last)

    def rank(pair: tuple[tuple[str, ...], Server]) -> int:
        hosts, server = pair
        if server.only_redirects:
            return 1 if not hosts else 0
        return 0 if redirects and hosts and not server.secure else 2

    return sorted(found, key=rank)
