"""Settings that are valid but probably a mistake: unused ones, loops, idle limits.

Idle limits: on each hop the connecting side must close first.  If the accepting side does, a
request that is sent at that moment is lost.  So `pool.idle_timeout` must be shorter than the
origin's limit, and `client.idle_timeout` longer than the limit of the balancer that connects to us.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from hopproxy.pool.idle_timeout import usable
from hopproxy.rules.template import VARIABLES
from hopproxy.settings.addresses import reaches
from hopproxy.settings.amounts import format_duration
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.kinds import Balancer, Server
from hopproxy.settings.route import FieldEdits
from hopproxy.settings.schema import DRAIN_TIMEOUT, Settings
from hopproxy.settings.units import PORTS, UNIX, authority
from hopproxy.settings.upstream import Pool, UpstreamSettings

#: Seconds for which each server keeps an idle connection by default.
SERVERS: dict[Server, float] = {
    "gunicorn": 2.0,
    "uvicorn": 5.0,
    "hypercorn": 5.0,
    "aiohttp": 3630.0,
    "node": 5.0,
    "fastify": 72.0,
    "bun": 10.0,
    "puma": 20.0,
    "jetty": 30.0,
    "kestrel": 130.0,
    "apache": 5.0,
    "nginx": 75.0,
    "varnish": 5.0,
    "caddy": 300.0,
    "traefik": 180.0,
    "envoy": 3600.0,
}

#: Seconds for which each balancer keeps an idle connection to us by default.
BALANCERS: dict[Balancer, float] = {
    "aws-alb": 60.0,
    "gcp": 610.0,
    "gae": 650.0,
    "nginx": 60.0,
    "caddy": 120.0,
    "traefik": 90.0,
    "go": 90.0,
    "envoy": 3600.0,
    "varnish": 60.0,
    "aiohttp": 15.0,
    "hopproxy": Pool().idle_timeout,
}

#: Seconds after which a middlebox (NAT, packet filter) silently forgets an idle connection.
FLOWS: dict[Balancer, float] = {"aws-nlb": 350.0}


#: Seconds from Docker's SIGTERM to its SIGKILL.
DOCKER_GRACE = 10.0

_FOREIGN = re.compile(r"\$[a-z][a-z0-9_]*\b|\{[a-z]+(?:\.[A-Za-z0-9_-]+)+\}")


class Risk(NamedTuple):
    """What is probably wrong with the setting at `path`, and what to write."""

    path: str
    message: str
    hint: str


def risks(settings: Settings) -> Iterator[Risk]:
    """Every risk that can be seen in `settings` alone."""
    yield from _grace(settings)
    yield from _unused(settings)
    yield from _loops(settings)
    yield from _endless_redirects(settings)
    yield from _foreign_variables(settings)
    yield from _origin_tls(settings)
    yield from _listener_tls(settings)
    for name, upstream in settings.upstreams.items():
        if upstream.server is not None:
            keeps = SERVERS[upstream.server]
            yield from against_origin(
                name, upstream, keeps, f"{upstream.server}'s default idle timeout"
            )
    yield from _against_balancer(settings)
    yield from _against_forgers(settings)
    compressing = [name for name, one in settings.upstreams.items() if one.server == "nginx"]
    if compressing:
        yield from against_via(settings, f"by default nginx ({', '.join(compressing)})")


def _endless_redirects(settings: Settings) -> Iterator[Risk]:
    """Redirects to https although no request can arrive by https."""
    if settings.trusted_proxies or any(one.tls is not None for one in settings.listeners):
        return
    for n, route in enumerate(settings.routes):
        if route.redirect == "https":
            yield Risk(
                f"routes[{n}].redirect",
                "no listener does TLS and no proxy in front is trusted: behind a proxy that does "
                "TLS, clients are redirected for ever",
                "list that proxy in trusted_proxies, or write tls in a listener",
            )


def _foreign_variables(settings: Settings) -> Iterator[Risk]:
    """Variables as nginx or Caddy write them: here they are plain text."""
    for n, route in enumerate(settings.routes):
        values = [("redirect", route.redirect or "")]
        for part in ("request_fields", "response_fields"):
            edits: FieldEdits = getattr(route, part)
            values += [(f"{part}.set.{name}", value) for name, value in edits.set.items()]
            values += [
                (f"{part}.add.{name}", value) for name, all_of in edits.add.items()
                for value in all_of
            ]  # fmt: skip
        for path, value in values:
            if found := _FOREIGN.search(value):
                known = ", ".join(f"{{{name}}}" for name in VARIABLES)
                yield Risk(
                    f"routes[{n}].{path}",
                    f"`{found[0]}` is sent unchanged: it is not a variable",
                    f"there are {known}",
                )


def _against_forgers(settings: Settings) -> Iterator[Risk]:
    """Everybody on the network, or on this machine, is trusted."""
    for n, network in enumerate(settings.trusted_proxies):
        if network.first and not any(network.first) and min(network.last) == 255:
            yield Risk(
                f"trusted_proxies[{n}]",
                f"`{network}` is every address: any client can forge its own",
                "list the addresses of your own proxies only",
            )
    if not any(str(network) == UNIX for network in settings.trusted_proxies):
        return
    for n, listener in enumerate(settings.listeners):
        if listener.bind.kind == "unix" and listener.mode & 0o002:
            yield Risk(
                f"listeners[{n}].mode",
                f"every user of this machine may connect to {listener.bind}, and trusted_proxies "
                "believes whatever they say about the client",
                'write mode: "0660" and give the proxy the group, or let its directory keep others '
                "out",
            )


def against_via(settings: Settings, who: str) -> Iterator[Risk]:
    """Via in requests to an origin that does not compress for proxies."""
    if settings.via in ("both", "request"):
        yield Risk(
            "via",
            f"{who} does not compress its response to a request that has Via",
            "write via: response, or gzip_proxied any; in nginx",
        )


def _grace(settings: Settings) -> Iterator[Risk]:
    """A stop that takes longer than the platform waits; the defaults are not warned of."""
    most = settings.drain_delay + settings.drain_timeout
    set_here = settings.drain_delay or settings.drain_timeout != DRAIN_TIMEOUT
    if most > DOCKER_GRACE and set_here:
        seconds = math.ceil(most) + 2
        yield Risk(
            "drain_timeout" if settings.drain_timeout > DOCKER_GRACE else "drain_delay",
            f"a stop may take {format_duration(most)} with drain_delay: Docker and Compose kill "
            f"after {format_duration(DOCKER_GRACE)}, Kubernetes after 30s",
            f"write less, or allow more: docker stop -t {seconds}, stop_grace_period: {seconds}s, "
            f"terminationGracePeriodSeconds: {seconds}",
        )


def _unused(settings: Settings) -> Iterator[Risk]:
    used = {route.upstream for route in settings.routes}
    for name in settings.upstreams:
        if name not in used:
            hint = "add a route with `upstream: " + name + "`, or remove the upstream"
            yield Risk(f"upstreams.{name}", "no route leads to it", hint)


def _loops(settings: Settings) -> Iterator[Risk]:
    for name, upstream in settings.upstreams.items():
        for n, origin in enumerate(upstream.origins):
            for m, listener in enumerate(settings.listeners):
                if reaches(origin, listener.bind):
                    message = f"`{origin}` is this proxy itself: listeners[{m}], `{listener.bind}`"
                    hint = "write the address of the application, or listen elsewhere"
                    yield Risk(f"upstreams.{name}.origins[{n}]", message, hint)
                    break


def _origin_tls(settings: Settings) -> Iterator[Risk]:
    """Origins that are not verified, TLS settings without effect, and a scheme on a wrong port."""
    for name, upstream in settings.upstreams.items():
        path, tls = f"upstreams.{name}", upstream.tls
        if not any(origin.scheme == "https" for origin in upstream.origins):
            if tls != OriginTls():
                hint = "write https:// in front of the origins, or leave `tls` out"
                yield Risk(f"{path}.tls", "has no effect: no origin of it is https://", hint)
        elif not tls.verify:
            message = "any server is trusted, and can read and change everything"
            hint = "write verify: on, and ca: with the authority's certificate or the origin's own"
            yield Risk(f"{path}.tls.verify", message, hint)
            if tls.ca is not None:
                yield Risk(f"{path}.tls.ca", "has no effect with verify: off", "leave it out")
        for n, origin in enumerate(upstream.origins):
            other = "http" if origin.scheme == "https" else "https"
            if origin.kind == "tcp" and origin.port == PORTS[other]:
                yield Risk(
                    f"{path}.origins[{n}]",
                    f"port {origin.port} is the port of {other}://",
                    f"write {other}://{authority(origin.host, origin.port)}, unless it does speak "
                    f"{origin.scheme} there",
                )


def _listener_tls(settings: Settings) -> Iterator[Risk]:
    """Settings of client certificates without effect, and TLS on the port of plain HTTP."""
    for n, listener in enumerate(settings.listeners):
        path, tls, bind = f"listeners[{n}]", listener.tls, listener.bind
        if bind.kind == "tcp" and bind.port == PORTS["http" if tls is not None else "https"]:
            scheme = "https" if tls is None else "http"
            hint = "leave `tls` out, or take port 443"
            if tls is None:
                hint = "write `tls` with its certificates, or take port 80"
            yield Risk(f"{path}.bind", f"port {bind.port} is the port of {scheme}://", hint)
        if tls is None or tls.client_cert != "off":
            continue
        for name in ("client_ca", "client_cert_fields"):
            if getattr(tls, name):
                hint = "write client_cert: required, or optional"
                yield Risk(f"{path}.tls.{name}", "has no effect: no client is asked", hint)


def against_origin(
    name: str, upstream: UpstreamSettings, keeps: float, whose: str
) -> Iterator[Risk]:
    """The pool, compared with an origin that keeps idle connections for `keeps` seconds.

    `whose` is the owner of that limit, as a noun.
    """
    pool, path = upstream.pool, f"upstreams.{name}.pool.idle_timeout"
    safe = usable(keeps)
    if pool.idle_timeout <= safe or pool.max_idle == 0:
        return
    written = format_duration(pool.idle_timeout)
    limit = f"{whose}, {format_duration(keeps)}"
    message = f"{written} is longer than {limit}"
    if pool.idle_timeout <= keeps:
        message = f"{written} leaves no margin to {limit}"
    elif pool.idle_timeout <= 2 * keeps:
        message += "; it must be shorter: here the pool has to close first"
    if pool.learn:
        message += "; until hopproxy has learned that, requests may fail"
    yield Risk(path, message, _write_pool(safe))


def against_width(name: str, upstream: UpstreamSettings, serves: int, who: str) -> Iterator[Risk]:
    """The pool, compared with an origin that serves `serves` connections at a time."""
    most = upstream.pool.max_connections
    if most > serves:
        yield Risk(
            f"upstreams.{name}.pool.max_connections",
            f"{most} is more than {who} serves at a time, {serves}: while we keep connections "
            "idle, new ones have to wait",
            f"write max_connections: {serves}",
        )


def _write_pool(safe: float) -> str:
    return f"write {format_duration(safe)} or less" if safe else "write max_idle: 0"


def _against_balancer(settings: Settings) -> Iterator[Risk]:
    client, balancer = settings.client, settings.client.balancer
    path = "client.idle_timeout"
    if balancer in FLOWS:
        forgets = FLOWS[balancer]
        silent = client.tcp_keepalive == 0 or client.tcp_keepalive >= forgets
        if client.idle_timeout >= forgets and silent:
            yield Risk(
                path,
                f"{format_duration(client.idle_timeout)} is too long: {balancer} forgets a silent "
                f"connection after {format_duration(forgets)}",
                "write less, or tcp_keepalive: 60s",
            )
    elif balancer is not None:
        keeps = BALANCERS[balancer]
        if usable(client.idle_timeout) >= keeps:
            return
        written = format_duration(client.idle_timeout)
        message = f"{written} is too short: {balancer} keeps idle connections to us for"
        message += f" {format_duration(keeps)}"
        if keeps / 2 <= client.idle_timeout <= keeps:
            message += "; it must be longer: here the balancer has to close first"
        yield Risk(path, message, f"write {format_duration(_outlasting(keeps))} or more")


def _outlasting(keeps: float) -> float:
    """The lowest whole number of seconds above `keeps` plus the margin."""
    longer = float(int(keeps) + 1)
    while usable(longer) < keeps:
        longer += 1
    return longer
