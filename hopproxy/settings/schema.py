"""Every setting, once: its name, its kind of word, its limits, its default and what it is for.

The reader, the JSON Schema and the reference walk these Structs through `settings_of`, so a new
setting is one new line here.  Times are seconds, sizes bytes; 0 means "no limit" only where the
description says so.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, inspect

from hopproxy.settings import words
from hopproxy.settings.units import Bind, KiB, MiB, Network, OriginAddress
from hopproxy.settings.words import Unit

Seconds = Annotated[float, Meta(ge=0, extra={"unit": words.DURATION})]
Timeout = Annotated[float, Meta(gt=0, extra={"unit": words.DURATION})]
Size = Annotated[int, Meta(ge=0, extra={"unit": words.SIZE})]
HeadSize = Annotated[int, Meta(ge=256, extra={"unit": words.SIZE})]
TargetSize = Annotated[int, Meta(ge=1, extra={"unit": words.SIZE})]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Token = Annotated[str, Meta(extra={"unit": words.TOKEN})]
BindWord = Annotated[Bind, Meta(extra={"unit": words.BIND})]
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

    bind: Annotated[BindWord, about("Address to accept clients on.")] = Bind(
        "tcp", "127.0.0.1", 8080
    )
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
    max_requests: Annotated[Count, about("Requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[Seconds, about("Age of a connection past which it closes; 0: none.")] = 0.0
    max_connections: Annotated[
        Positive, about("Client connections; past it the longest idle one makes room.")
    ] = 4096
    balancer: Annotated[
        Balancer | None, about("What stands in front; absent: unknown. `check` compares timeouts.")
    ] = None
    max_head_size: Annotated[HeadSize, about("Bytes of a request's head.")] = 32 * KiB
    max_fields: Annotated[Positive, about("Field lines of a request's head.")] = 128
    max_target_size: Annotated[TargetSize, about("Bytes of a request's target.")] = 8 * KiB
    max_body_size: Annotated[Size, about("Bytes of a request's body; 0: no limit.")] = 0
    linger_timeout: Annotated[
        Seconds, about("How long a closing connection still reads what was on its way.")
    ] = 5.0
    linger_size: Annotated[Size, about("Bytes a closing connection still reads.")] = MiB
    tcp_nodelay: Annotated[bool, about("Send small writes at once (TCP_NODELAY).")] = True
    tcp_keepalive: Annotated[Seconds, about("Idle time before TCP probes; 0: off.")] = 60.0


class Pool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections kept towards each origin of an upstream."""

    max_connections: Annotated[
        Positive, about("Connections for each origin: idle, lent and being dialled.")
    ] = 256
    max_idle: Annotated[Count, about("Idle connections kept for each origin.")] = 64
    idle_timeout: Annotated[
        Timeout, about("Longest idle time; what an origin shows or says only shortens it.")
    ] = 60.0
    max_requests: Annotated[Count, about("Requests on one connection; 0: no limit.")] = 0
    max_age: Annotated[Seconds, about("Age past which a connection is retired; 0: none.")] = 0.0
    queue: Annotated[Count, about("Requests that may wait for a connection; 0: none.")] = 1024
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
        about("Where it answers: `http://host:port` or `unix:/path`."),
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
    tcp_keepalive: Annotated[Seconds, about("Idle time before TCP probes; 0: off.")] = 60.0
    tcp_user_timeout: Annotated[
        Seconds, about("Data unacknowledged for so long breaks the connection; 0: as the system.")
    ] = 30.0
    server: Annotated[
        Server | None, about("What the origins run; absent: unknown. `check` compares timeouts.")
    ] = None
    pool: Annotated[Pool, about("The connections kept towards each origin.")] = Pool()


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests go to which upstream; the first that matches wins."""

    upstream: Annotated[Token, about("Name of the upstream.")]
    host: Annotated[HostWord | None, about("Only this host: exact, or `*.suffix`.")] = None
    path: Annotated[PathWord | None, about("Only targets whose path begins so.")] = None


class Admin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The listener of metrics, probes and the live page."""

    bind: Annotated[BindWord, about("Address of the admin listener.")]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of hopproxy, a reverse proxy."""

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        about("Processes sharing every listener; `auto`: one for each CPU. For now one serves."),
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


@dataclass(frozen=True, slots=True)
class Word:
    """One scalar: one of `choices`, or what `unit` reads within the bounds."""

    unit: Unit | None
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with fixed keys: those of `struct`."""

    struct: type[Struct]


@dataclass(frozen=True, slots=True)
class Several:
    """A list of `item`, at least `least` of them."""

    item: Word | Section
    least: int


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping whose keys the operator chooses, at least `least` of them."""

    key: Word
    item: Section
    least: int


Shape = Word | Section | Several | Named


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a section; `optional` ones may be left empty, which means absent."""

    name: str
    description: str
    required: bool
    default: Any
    optional: bool
    shape: Shape


@cache
def settings_of(struct: type[Struct]) -> tuple[Setting, ...]:
    """The keys of one section, in the order they are written above."""
    found = inspect.type_info(struct)
    assert isinstance(found, inspect.StructType)
    return tuple(_setting(field) for field in found.fields)


def _setting(field: inspect.Field) -> Setting:
    assert isinstance(field.type, inspect.Metadata), f"{field.name} has no description"
    described = field.type
    inner = described.type
    optional = isinstance(inner, inspect.UnionType) and inner.includes_none
    default = None if field.required else field.default
    description = (described.extra_json_schema or {})["description"]
    return Setting(field.name, description, field.required, default, optional, _shape(described))


def _shape(kind: inspect.Type, unit: Unit | None = None) -> Shape:
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            return _shape(inner, (extra or {}).get("unit", unit))
        case inspect.StructType(cls=struct):
            return Section(struct)
        case inspect.VarTupleType(item_type=item, min_length=least):
            listed = _shape(item)
            assert isinstance(listed, Word | Section)
            return Several(listed, least or 0)
        case inspect.DictType(key_type=key, value_type=item, min_length=least):
            name, named = _shape(key), _shape(item)
            assert isinstance(name, Word)
            assert isinstance(named, Section)
            return Named(name, named, least or 0)
        case inspect.UnionType(types=types):
            return _union([_shape(one) for one in types if not isinstance(one, inspect.NoneType)])
        case inspect.LiteralType(values=values):
            return Word(None, tuple(str(value) for value in values))
        case inspect.BoolType():
            return Word(words.SWITCH)
        case inspect.IntType(ge=least, gt=above, le=most):
            return Word(unit or words.COUNT, (), least, above, most)
        case inspect.FloatType(ge=least, gt=above, le=most):
            return Word(unit, (), least, above, most)
    assert unit is not None, f"{kind} has no unit to be read by"
    return Word(unit)


def _union(shapes: list[Shape]) -> Shape:
    """One shape, or a word that may also be one of a few fixed ones."""
    if len(shapes) == 1:
        return shapes[0]
    free, fixed = shapes
    assert isinstance(free, Word)
    assert isinstance(fixed, Word)
    return replace(free, choices=fixed.choices)
