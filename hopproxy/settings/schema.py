"""Every setting, once: its name, its kind of word, its limits, its default and what it is for.

The reader, the JSON Schema and the reference walk these Structs through `shape.settings_of`, so a
new setting is one new line here.  Times are seconds (infinite for a timeout that is off), sizes
are bytes.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings import words
from hopproxy.settings.amounts import KiB, MiB
from hopproxy.settings.units import Bind, Network, OriginAddress

#: A wait of no time makes sense: `off` could mean that as well as no limit, and is refused.
Seconds = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION})]
#: A wait of no time makes none: `0` and `off` mean no limit.
Timeout = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION, "off": math.inf})]
#: Nothing at 0, and so at `off`.
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
#: `off` leaves the whole section out.
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
    backlog: Annotated[Positive, about("Connections the kernel may hold before we accept.")] = 1024
    mode: Annotated[
        ModeWord, about("Permissions of a Unix socket's file; who may write to it may connect.")
    ] = 0o666


class ClientSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The client-facing hop."""

    idle_timeout: Annotated[Timeout, about("Longest wait for the next request.")] = 75.0
    head_timeout: Annotated[
        Timeout, about("From a head's first byte to its last, and for a new connection.")
    ] = 10.0
    body_timeout: Annotated[Timeout, about("Between two reads of a request's body.")] = 60.0
    write_timeout: Annotated[Timeout, about("The client accepts no byte for so long.")] = 60.0
    max_requests: Annotated[CountOrOff, about("Requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[SecondsOrOff, about("Age at which a connection is closed; 0: no limit.")] = (
        0.0
    )
    max_connections: Annotated[
        Positive, about("Client connections; past it the longest idle one makes room.")
    ] = 4096
    balancer: Annotated[
        Balancer | None, about("What stands in front; absent: unknown. `check` compares timeouts.")
    ] = None
    max_head_size: Annotated[HeadSize, about("Bytes of a request's head.")] = 32 * KiB
    max_fields: Annotated[Positive, about("Field lines of a request's head.")] = 128
    max_target_size: Annotated[TargetSize, about("Bytes of a request's target.")] = 8 * KiB
    max_body_size: Annotated[SizeOrOff, about("Bytes of a request's body; 0: no limit.")] = 0
    linger_timeout: Annotated[
        Seconds, about("How long a closing connection still reads what was on its way.")
    ] = 5.0
    linger_size: Annotated[Size, about("Bytes a closing connection still reads.")] = MiB
    tcp_nodelay: Annotated[bool, about("Send small writes at once (TCP_NODELAY).")] = True
    tcp_keepalive: Annotated[SecondsOrOff, about("Idle time before TCP probes; 0: off.")] = 60.0


class Pool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections kept towards each origin of an upstream."""

    max_connections: Annotated[
        Positive, about("Connections for each origin: idle, lent and being dialled.")
    ] = 256
    max_idle: Annotated[CountOrOff, about("Idle connections kept for each origin.")] = 64
    idle_timeout: Annotated[
        Timeout, about("Longest idle time; what an origin shows or says only shortens it.")
    ] = 60.0
    max_requests: Annotated[CountOrOff, about("Requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[
        SecondsOrOff, about("Age at which a connection is retired; 0: no limit.")
    ] = 0.0
    queue: Annotated[CountOrOff, about("Requests that may wait for a connection; 0: none.")] = 1024
    queue_timeout: Annotated[Timeout, about("Longest wait for a connection.")] = 5.0
    learn: Annotated[bool, about("Learn how long the origin keeps idle connections.")] = True
    young_share: Annotated[
        Share,
        about("How much of the idle limit a request that cannot be sent again may find used up."),
    ] = 0.5


class Upstream(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One application: its origins and how they are spoken to."""

    origins: Annotated[
        Annotated[tuple[OriginWord, ...], Meta(min_length=1)],
        about("Where it answers: `http://host:port`, `host:port`, `port` or `unix:/path`."),
    ]
    connect_timeout: Annotated[Timeout, about("Longest time to connect to an origin.")] = 3.0
    response_timeout: Annotated[
        Timeout, about("From the request sent to the head of the response.")
    ] = 60.0
    body_timeout: Annotated[Timeout, about("Between two reads of a response's body.")] = 60.0
    write_timeout: Annotated[Timeout, about("The origin accepts no byte for so long.")] = 60.0
    continue_timeout: Annotated[
        Seconds, about("How long a request's body held back by Expect waits for a 100.")
    ] = 1.0
    tunnel_timeout: Annotated[Timeout, about("Longest silence of an upgraded connection.")] = 3600.0
    max_head_size: Annotated[HeadSize, about("Bytes of a response's head.")] = 64 * KiB
    max_interim: Annotated[Count, about("Interim (1xx) responses before the final one.")] = 8
    retry_idempotency_key: Annotated[
        bool, about("Treat a request with an Idempotency-Key as safe to send again.")
    ] = False
    tcp_nodelay: Annotated[bool, about("Send small writes at once (TCP_NODELAY).")] = True
    tcp_keepalive: Annotated[SecondsOrOff, about("Idle time before TCP probes; 0: off.")] = 60.0
    tcp_user_timeout: Annotated[
        SecondsOrOff,
        about("Data unacknowledged for so long breaks the connection; 0: as the system."),
    ] = 30.0
    server: Annotated[
        Server | None, about("What the origins run; absent: unknown. `check` compares timeouts.")
    ] = None
    pool: Annotated[Pool, about("The connections kept towards each origin.")] = Pool()


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
    drain_timeout: Annotated[Seconds, about("How long a stopping process lets exchanges end.")] = (
        30.0
    )
    max_upstream_connections: Annotated[
        Positive, about("Connections to all origins: idle, lent and being dialled.")
    ] = 4096
    listeners: Annotated[
        Annotated[tuple[Listener, ...], Meta(min_length=1)], about("Where clients are accepted.")
    ] = (Listener(),)
    client: Annotated[ClientSettings, about("The client-facing hop.")] = ClientSettings()
    upstreams: Annotated[
        Annotated[dict[Token, Upstream], Meta(min_length=1)], about("The applications, by name.")
    ]
    routes: Annotated[
        tuple[Route, ...],
        about("Which request goes where, first match wins; none: all to the only upstream."),
    ] = ()
    admin: Annotated[
        Admin | None, about("Metrics, probes and the live page; absent: no admin listener.")
    ] = None
    access_log: Annotated[Literal["json", "text", "off"], about("One line for each exchange.")] = (
        "json"
    )
    trusted_proxies: Annotated[
        tuple[NetworkWord, ...],
        about("Peers whose X-Forwarded-* and Forwarded are believed; `unix`: all on Unix sockets."),
    ] = ()
    forwarding: Annotated[
        tuple[Literal["x-forwarded", "forwarded"], ...],
        about(
            "Fields that tell the origin who asks: X-Forwarded-* and X-Real-IP, Forwarded, both "
            "or none. What is not named is removed. Of a trusted proxy that sends both, the first "
            "named is believed."
        ),
    ] = ("x-forwarded", "forwarded")
    via: Annotated[
        ViaWord,
        about("Messages we write Via into. Without it in requests, loops are not noticed."),
    ] = "both"
    pseudonym: Annotated[Token, about("Our name in Via and Proxy-Status.")] = "hopproxy"
    underscore_fields: Annotated[
        Literal["shadow", "drop", "reject", "keep"],
        about(
            "Field names with `_`: `shadow` drops those a CGI-like application would take for "
            "one that we write, `drop` all, `reject` answers 400, `keep` none."
        ),
    ] = "shadow"
    trace: Annotated[bool, about("Forward TRACE requests; off: 405.")] = False
