"""Settings for a development machine, from the arguments of `hopproxy dev`."""

import re
import socket
from collections.abc import Collection, Iterator

from msgspec.structs import replace

from hopproxy.dev.site import Site
from hopproxy.server.listener import CannotBind, bound, open_listener
from hopproxy.settings.addresses import reaches
from hopproxy.settings.amounts import KiB
from hopproxy.settings.certificate import Certificate, ListenerTls, OriginTls
from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.schema import Admin, Settings
from hopproxy.settings.units import Bind, OriginAddress, parse_bind
from hopproxy.settings.upstream import UpstreamSettings

#: Where to listen by default.
SITE = Bind("tcp", "127.0.0.1", 8080)
HTTPS = Bind("tcp", "127.0.0.1", 8443)
ADMIN = Bind("tcp", "127.0.0.1", 9901)
#: How many ports are tried, from the default one upwards.
PORTS = 20

#: Seconds.  A debugger may stop either end; a WebSocket for hot reload stays open.
PATIENCE = 3600.0
TUNNEL = 24 * 3600.0
CONNECT = 1.0
DRAIN = 1.0


def bind_of(word: str) -> Bind:
    """The address of `8080`, `:8080`, `host:8080` or `unix:/path`.  Raises Misread."""
    if re.fullmatch(r":?[0-9]+", word):
        word = f"{SITE.host}:{word.removeprefix(':')}"
    return parse_bind(word)


def dev_settings(
    site: Site, bind: Bind, admin: Bind, certificate: Certificate | None = None
) -> Settings:
    """An upstream for each origin, with timeouts long enough for debugging.

    Browsers speak TLS if there is a `certificate`.
    """
    app = UpstreamSettings(
        origins=(),
        host="origin" if site.rewrites_host else "pass",
        hold=site.hold,
        connect_timeout=CONNECT,
        response_timeout=PATIENCE,
        body_timeout=PATIENCE,
        write_timeout=PATIENCE,
        tunnel_timeout=TUNNEL,
        tcp_user_timeout=0.0,  # a process at a breakpoint reads nothing
    )
    tls = None if certificate is None else ListenerTls(certificates=(certificate,))
    return Settings(
        drain_timeout=DRAIN,
        listeners=(Listener(bind=bind, tls=tls),),
        # Each request has the cookies of every application that was ever served on localhost.
        client=ClientSettings(
            max_head_size=64 * KiB, body_timeout=PATIENCE, write_timeout=PATIENCE
        ),
        upstreams={
            name: replace(app, origins=(origin,), tls=OriginTls(verify=not _is_home_made(origin)))
            for name, origin in site.origins.items()
        },
        routes=site.routes(),
        admin=Admin(bind=admin),
        access_log="text",
    )


def _is_home_made(origin: OriginAddress) -> bool:
    """Whether its certificate may be self-signed: it is on this machine."""
    local = origin.host in ("localhost", "::1") or origin.host.startswith("127.")
    return local and origin.scheme == "https"


def open_at(
    bind: Bind | None, default: Bind, origins: Collection[OriginAddress]
) -> tuple[socket.socket, Bind]:
    """A listening socket and its address: `bind`, or the first free port from `default`.

    The port of an origin is never used: the proxy would connect to itself.  Raises CannotBind.
    """
    if bind is not None:
        if any(reaches(origin, bind) for origin in origins):
            raise CannotBind(f"cannot listen on {bind}: that is the origin; choose another port")
        return _opened(bind)
    refused: CannotBind | None = None
    for candidate in _candidates(default):
        if any(reaches(origin, candidate) for origin in origins):
            continue
        try:
            return _opened(candidate)
        except CannotBind as error:
            refused = error
    raise CannotBind(f"{refused} (nor on the {PORTS} ports above {default})") from refused


def _candidates(default: Bind) -> Iterator[Bind]:
    for port in range(default.port, default.port + PORTS + 1):
        yield Bind("tcp", default.host, port)


def _opened(bind: Bind) -> tuple[socket.socket, Bind]:
    sock = open_listener(bind, 1024, ClientSettings())
    return sock, bound(bind, sock)
