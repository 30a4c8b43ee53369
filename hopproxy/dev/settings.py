"""Settings for a development machine, from the arguments of `hopproxy dev`."""

import re
import socket
from collections.abc import Iterator

from hopproxy.server.listener import CannotBind, bound, open_listener
from hopproxy.settings.addresses import reaches
from hopproxy.settings.amounts import KiB
from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.schema import Admin, Settings
from hopproxy.settings.units import Bind, OriginAddress, parse_bind, parse_origin
from hopproxy.settings.upstream import UpstreamSettings

#: Where to listen by default.
SITE = Bind("tcp", "127.0.0.1", 8080)
ADMIN = Bind("tcp", "127.0.0.1", 9901)
#: How many ports are tried, from the default one upwards.
PORTS = 20

#: Seconds.  A debugger may stop either end; a WebSocket for hot reload stays open.
PATIENCE = 3600.0
TUNNEL = 24 * 3600.0
CONNECT = 1.0
DRAIN = 1.0


def origin_of(word: str) -> OriginAddress:
    """The origin of `3000`, `:3000`, `localhost:3000`, `http://host:port/` or `unix:/path`.

    Raises Misread.
    """
    if not word.startswith("unix:"):
        word = word.removesuffix("/")
    if re.fullmatch(r"(?![0-9]+$)[^:/]+|\[[^\]]*\]", word):  # a host alone
        word = f"http://{word}"
    return parse_origin(word)


def bind_of(word: str) -> Bind:
    """The address of `8080`, `:8080`, `host:8080` or `unix:/path`.  Raises Misread."""
    if re.fullmatch(r":?[0-9]+", word):
        word = f"{SITE.host}:{word.removeprefix(':')}"
    return parse_bind(word)


def dev_settings(origin: OriginAddress, site: Bind, admin: Bind) -> Settings:
    """One upstream behind one listener, with timeouts long enough for debugging."""
    return Settings(
        drain_timeout=DRAIN,
        listeners=(Listener(bind=site),),
        # Each request has the cookies of everything ever served on localhost.
        client=ClientSettings(
            max_head_size=64 * KiB, body_timeout=PATIENCE, write_timeout=PATIENCE
        ),
        upstreams={
            "app": UpstreamSettings(
                origins=(origin,),
                connect_timeout=CONNECT,
                response_timeout=PATIENCE,
                body_timeout=PATIENCE,
                write_timeout=PATIENCE,
                tunnel_timeout=TUNNEL,
                tcp_user_timeout=0.0,  # a process at a breakpoint reads nothing
            )
        },
        admin=Admin(bind=admin),
        access_log="text",
    )


def open_at(bind: Bind | None, default: Bind, origin: OriginAddress) -> tuple[socket.socket, Bind]:
    """A listening socket and its address: `bind`, or the first free port from `default`.

    The origin's own port is never used: the proxy would connect to itself.  Raises CannotBind.
    """
    if bind is not None:
        if reaches(origin, bind):
            raise CannotBind(f"cannot listen on {bind}: that is the origin; choose another port")
        return _opened(bind)
    refused: CannotBind | None = None
    for candidate in _candidates(default):
        if reaches(origin, candidate):
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
