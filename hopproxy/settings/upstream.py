"""Settings of the upstream hop."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings.amounts import KiB
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.kinds import (
    BalanceWord,
    Count,
    CountOrOff,
    HeadSize,
    Interval,
    OriginWord,
    Positive,
    Protocol,
    Seconds,
    SecondsOrOff,
    SentHost,
    Server,
    Share,
    SizeOrOff,
    Status,
    TargetWord,
    Timeout,
    about,
)
from hopproxy.settings.origins import Balance


class Pool(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The connections kept towards each origin of an upstream."""

    max_connections: Annotated[
        Positive, about("Most connections to each origin: idle, in use and being opened.")
    ] = 256
    max_idle: Annotated[CountOrOff, about("Most idle connections to each origin.")] = 256
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


class Check(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request that is sent to each origin now and then."""

    path: Annotated[
        TargetWord, about("Path to GET, maybe with a query; a status below 400 passes.")
    ]
    interval: Annotated[Interval, about("How often each origin is checked.")] = 5.0
    timeout: Annotated[Interval, about("Longest time to the head of the response.")] = 2.0
    fall: Annotated[Positive, about("Failures in a row after which an origin is out.")] = 3
    rise: Annotated[Positive, about("Passes in a row after which it is back.")] = 2


class Health(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When one of several origins gets no requests, and how it comes back."""

    failures: Annotated[
        CountOrOff,
        about(
            "Failures in a row (no valid response, or a status listed below) after which an origin "
            "is out for 5 s, at most 30 s if it goes on; 0: never."
        ),
    ] = 3
    statuses: Annotated[
        tuple[Status, ...], about("Statuses of responses that count as failures, like 503.")
    ] = ()
    check: Annotated[Check | None, about("Active checks of the origins.")] = None
    slow_start: Annotated[
        SecondsOrOff, about("How long an origin that is back gets fewer requests; 0: off.")
    ] = 10.0


class UpstreamSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One application: its origins, and the connections to them."""

    origins: Annotated[
        Annotated[tuple[OriginWord, ...], Meta(min_length=1)],
        about(
            "Where the application is: `http://host:port`, `https://host:port`, "
            "`h2c://host:port` (HTTP/2 without TLS), `port`, `unix:/path` or `srv://name`; behind "
            "it `weight=2` and `backup`."
        ),
    ]
    balance: Annotated[
        BalanceWord,
        about(
            "Which origin is next: the one with the fewest requests, each in turn (`round_robin`), "
            "or by `hash: client`, `hash: header:NAME` or `hash: cookie:NAME`."
        ),
    ] = Balance()
    protocol: Annotated[
        Protocol,
        about(
            "The protocol towards origins. `auto`: with `https://` HTTP/2 if the origin chooses "
            "it (ALPN), else HTTP/1.1; `h2c://` is always HTTP/2."
        ),
    ] = "auto"
    host: Annotated[
        SentHost | Literal["pass", "origin"],
        about(
            "The Host that origins see: `pass` the client's, `origin` the origin's own, or a name."
        ),
    ] = "pass"
    max_requests_in_flight: Annotated[
        CountOrOff | Literal["auto"],
        about(
            "Most requests under way, waiting ones included; others get 503 at once. `auto`: found "
            "from the latency; 0: no limit."
        ),
    ] = 0
    hold: Annotated[
        Seconds,
        about("How long a request waits for an upstream that is down, such as during a restart."),
    ] = 0.0
    buffer_request: Annotated[
        SizeOrOff,
        about(
            "Chunked uploads up to this size are collected, and reach the origin with a "
            "Content-Length, as WSGI servers need it; larger ones are forwarded as they arrive."
        ),
    ] = 0
    connect_timeout: Annotated[Timeout, about("Longest time to connect to an origin.")] = 3.0
    response_timeout: Annotated[
        Timeout, about("Longest time from the end of the request to the head of the response.")
    ] = 60.0
    body_timeout: Annotated[Timeout, about("Longest pause inside a response's body.")] = 60.0
    write_timeout: Annotated[
        Timeout, about("Longest time in which the origin accepts no byte.")
    ] = 60.0
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
        bool, about("Send a request with an `Idempotency-Key` again where a GET is.")
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
    proxy_protocol: Annotated[
        Literal["off", "v1", "v2"],
        about(
            "Begin each connection with a PROXY header that names the client. Then it serves that "
            "client alone: clients share no connections to the origins, and nothing waits for one."
        ),
    ] = "off"
    health: Annotated[Health, about("When an origin gets no requests.")] = Health()
    tls: Annotated[OriginTls, about("TLS towards `https://` origins.")] = OriginTls()
