"""Every setting: its name, its kind of value, its limits, its default and its purpose.

The reader, the JSON Schema and the reference use these Structs through `shape.settings_of`, so a
new setting is one new line here.  Times are seconds (infinite if a timeout is off), sizes are
bytes.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings import words
from hopproxy.settings.amounts import KiB, MiB
from hopproxy.settings.units import Bind, Network, OriginAddress

#: Durations for which 0 makes sense: `off` could mean 0 or no limit, and is refused.
Seconds = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION})]
#: Durations for which 0 makes no sense: `0` and `off` mean no limit.
Timeout = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION, "off": math.inf})]
#: `off` means 0.
SecondsOrOff = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION, "off": 0.0})]
SizeOrOff = Annotated[int, Meta(ge=0, extra={"unit": words.SIZE, "off": 0})]
CountOrOff = Annotated[int, Meta(ge=0, extra={"off": 0})]
Size = Annotated[int, Meta(ge=0, extra={"unit": words.SIZE})]
HeadSize = Annotated[int, Meta(ge=256, extra={"unit": words.SIZE})]
TargetSize = Annotated[int, Meta(ge=1, extra={"unit": words.SIZE})]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Token = Annotated[str, Meta(extra={"unit": words.TOKEN})]
BindWord = Annotated[Bind, Meta(extra={"unit": words.BIND})]
#: `off` turns the whole section off.
BindOrOff = Annotated[Bind, Meta(extra={"unit": words.BIND, "off": None})]
OriginWord = Annotated[OriginAddress, Meta(extra={"unit": words.ORIGIN})]
NetworkWord = Annotated[Network, Meta(extra={"unit": words.NETWORK})]
HostWord = Annotated[str, Meta(extra={"unit": words.HOST})]
ModeWord = Annotated[int, Meta(extra={"unit": words.MODE})]
ViaWord = Annotated[str, Meta(extra={"unit": words.VIA})]
Share = Annotated[float, Meta(extra={"unit": words.SHARE})]
PathWord = Annotated[str, Meta(extra={"unit": words.PATH})]
#: Servers and balancers whose idle limits `check` knows.
Server = Literal[
    "gunicorn", "uvicorn", "hypercorn", "aiohttp", "node", "fastify", "bun", "puma", "jetty",
    "kestrel", "apache", "nginx", "varnish", "caddy", "traefik", "envoy",
]  # fmt: skip
Balancer = Literal[
    "aws-alb", "aws-nlb", "gcp", "gae", "nginx", "caddy", "traefik", "go", "envoy", "varnish",
    "aiohttp", "hopproxy",
]  # fmt: skip


def about(description: str) -> Meta:
    """What a setting is for, as the JSON Schema and the reference show it."""
    return Meta(description=description)


class Listener(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One socket that accepts clients."""

    bind: Annotated[
        BindWord,
        about(
            "Address to accept clients on: `host:port`, `:port` (every address) or `unix:/path`."
        ),
    ] = Bind("tcp", "127.0.0.1", 8080)
    backlog: Annotated[
        Positive, about("Most connections that wait in the kernel to be accepted.")
    ] = 1024
    mode: Annotated[
        ModeWord, about("Permissions of a Unix socket's file; whoever may write to it may connect.")
    ] = 0o666


class ClientSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The client-facing hop."""

    idle_timeout: Annotated[Timeout, about("Longest wait for the next request.")] = 75.0
    head_timeout: Annotated[
        Timeout,
        about(
            "Longest time for a request's head, from its first byte; for the first one, from the "
            "connection."
        ),
    ] = 10.0
    body_timeout: Annotated[Timeout, about("Longest pause inside a request's body.")] = 60.0
    write_timeout: Annotated[Timeout, about("Longest time in which the client takes no byte.")] = (
        60.0
    )
    max_requests: Annotated[CountOrOff, about("Most requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[SecondsOrOff, about("Age at which a connection is closed; 0: no limit.")] = (
        0.0
    )
    max_connections: Annotated[
        Positive, about("Most client connections; at the limit the one idle for longest is closed.")
    ] = 4096
    balancer: Annotated[
        Balancer | None,
        about("The load balancer in front; `check` compares its idle timeout with ours."),
    ] = None
    max_head_size: Annotated[HeadSize, about("Largest head of a request.")] = 32 * KiB
    max_fields: Annotated[Positive, about("Most field lines in a request's head.")] = 128
    max_target_size: Annotated[TargetSize, about("Longest target of a request.")] = 8 * KiB
    max_body_size: Annotated[SizeOrOff, about("Largest body of a request; 0: no limit.")] = 0
    linger_timeout: Annotated[
        Seconds, about("How long a closing connection still reads what the client has sent.")
    ] = 5.0
    linger_size: Annotated[Size, about("How much a closing connection still reads.")] = MiB
    tcp_nodelay: Annotated[bool, about("Send small writes at once (TCP_NODELAY).")] = True
    tcp_keepalive: Annotated[
        SecondsOrOff, about("Idle time before TCP keepalive probes; 0: off.")
    ] = 60.0


class Pool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections kept towards each origin of an upstream."""

    max_connections: Annotated[
        Positive, about("Most connections to each origin: idle, in use and being opened.")
    ] = 256
    max_idle: Annotated[CountOrOff, about("Most idle connections to each origin.")] = 64
    idle_timeout: Annotated[
        Timeout,
        about("Longest time a connection stays idle; an origin's own limit only shortens it."),
    ] = 60.0
    max_requests: Annotated[CountOrOff, about("Most requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[SecondsOrOff, about("Age at which a connection is closed; 0: no limit.")] = (
        0.0
    )
    queue: Annotated[CountOrOff, about("Most requests that wait for a connection; 0: none.")] = 1024
    queue_timeout: Annotated[Timeout, about("Longest wait for a connection.")] = 5.0
    learn: Annotated[bool, about("Learn how long the origin keeps idle connections.")] = True
    young_share: Annotated[
        Share,
        about(
            "A request that cannot be sent again takes a connection only up to this part of its "
            "idle limit."
        ),
    ] = 0.5


class UpstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One application: its origins and how they are spoken to."""

    origins: Annotated[
        Annotated[tuple[OriginWord, ...], Meta(min_length=1)],
        about("Where the application is: `http://host:port`, `host:port`, `port` or `unix:/path`."),
    ]
    connect_timeout: Annotated[Timeout, about("Longest time to connect to an origin.")] = 3.0
    response_timeout: Annotated[
        Timeout, about("Longest time from the end of the request to the head of the response.")
    ] = 60.0
    body_timeout: Annotated[Timeout, about("Longest pause inside a response's body.")] = 60.0
    write_timeout: Annotated[Timeout, about("Longest time in which the origin takes no byte.")] = (
        60.0
    )
    continue_timeout: Annotated[
        Seconds,
        about(
            "Longest wait for a 100 before a body that `Expect: 100-continue` held back is sent "
            "anyway."
        ),
    ] = 1.0
    tunnel_timeout: Annotated[
        Timeout, about("Longest silence on an upgraded connection (WebSocket).")
    ] = 3600.0
    max_head_size: Annotated[HeadSize, about("Largest head of a response.")] = 64 * KiB
    max_interim: Annotated[Count, about("Most interim (1xx) responses before the final one.")] = 8
    retry_idempotency_key: Annotated[
        bool, about("Send a request with an `Idempotency-Key` again where a GET would be.")
    ] = False
    tcp_nodelay: Annotated[bool, about("Send small writes at once (TCP_NODELAY).")] = True
    tcp_keepalive: Annotated[
        SecondsOrOff, about("Idle time before TCP keepalive probes; 0: off.")
    ] = 60.0
    tcp_user_timeout: Annotated[
        SecondsOrOff,
        about("Longest time sent data stays unacknowledged; 0: the system's own limit."),
    ] = 30.0
    server: Annotated[
        Server | None,
        about("What the origins run; `check` compares its idle timeout with the pool's."),
    ] = None
    pool: Annotated[Pool, about("The connections to each origin.")] = Pool()


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests go to which upstream; the first that matches wins."""

    upstream: Annotated[Token, about("Name of the upstream.")]
    host: Annotated[HostWord | None, about("Only this host: exact, or `*.suffix`.")] = None
    path: Annotated[
        PathWord | None, about("Only this path and all below it, by whole segments; no patterns.")
    ] = None


class Admin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The listener of metrics, probes and the live page."""

    bind: Annotated[BindOrOff, about("Address of the admin listener; `off`: none.")]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of hopproxy, a reverse proxy."""

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        about("Processes that share every listener. For now one serves, whatever is written."),
    ] = 1
    drain_timeout: Annotated[Seconds, about("How long a stop waits for requests under way.")] = 30.0
    readiness: Annotated[
        Literal["any", "all", "self"],
        about(
            "When `/readyz` says ready: `any` once one upstream has an origin that can be reached, "
            "`all` once each has one, `self` whatever they do."
        ),
    ] = "any"
    max_upstream_connections: Annotated[
        Positive, about("Most connections to all origins: idle, in use and being opened.")
    ] = 4096
    listeners: Annotated[
        Annotated[tuple[Listener, ...], Meta(min_length=1)], about("Where clients are accepted.")
    ] = (Listener(),)
    client: Annotated[ClientSettings, about("The client-facing hop.")] = ClientSettings()
    upstreams: Annotated[
        Annotated[dict[Token, UpstreamSettings], Meta(min_length=1)],
        about("The applications, by name."),
    ]
    routes: Annotated[
        tuple[Route, ...],
        about("Which request goes where; the first match wins. None: all to the only upstream."),
    ] = ()
    admin: Annotated[
        Admin | None, about("Metrics, probes and the live page; absent: no admin listener.")
    ] = None
    access_log: Annotated[
        Literal["json", "text", "off"], about("One line for each request, on standard output.")
    ] = "json"
    trusted_proxies: Annotated[
        tuple[NetworkWord, ...],
        about("Peers whose X-Forwarded-* and Forwarded are believed; `unix`: all on Unix sockets."),
    ] = ()
    forwarding: Annotated[
        tuple[Literal["x-forwarded", "forwarded"], ...],
        about(
            "Fields that tell the origin about the client: X-Forwarded-* and X-Real-IP, Forwarded, "
            "both or none. Those not named are removed. If a trusted proxy sends both, the ones "
            "named first are believed."
        ),
    ] = ("x-forwarded", "forwarded")
    via: Annotated[
        ViaWord,
        about("Messages that get our `Via`. Without it in requests, loops are not noticed."),
    ] = "both"
    pseudonym: Annotated[Token, about("Our name in Via and Proxy-Status.")] = "hopproxy"
    underscore_fields: Annotated[
        Literal["shadow", "drop", "reject", "keep"],
        about(
            "Fields with `_` in their name: `shadow` drops those that a CGI or WSGI application "
            "would take for fields that we write, `drop` drops all, `keep` none, `reject` answers "
            "400."
        ),
    ] = "shadow"
    trace: Annotated[bool, about("Forward TRACE requests; off: 405.")] = False
