"""Settings of the client-facing hop."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings.amounts import KiB, MiB
from hopproxy.settings.certificate import ListenerTls
from hopproxy.settings.kinds import (
    Balancer,
    BindWord,
    CountOrOff,
    HeadSize,
    ModeWord,
    Positive,
    Seconds,
    SecondsOrOff,
    Size,
    SizeOrOff,
    TargetSize,
    Timeout,
    about,
)
from hopproxy.settings.units import Bind

#: The protocols that clients may speak, by their ALPN names.
Protocol = Literal["h2", "http/1.1"]


class LinkSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of each client connection; they may differ from listener to listener."""

    idle_timeout: Annotated[Timeout, about("Longest wait for the next request.")] = 75.0
    head_timeout: Annotated[
        Timeout,
        about(
            "Longest time for a request's head, from its first byte; for the first one, from the "
            "connection."
        ),
    ] = 10.0
    handshake_timeout: Annotated[
        Timeout, about("Longest time for a TLS handshake, with the PROXY header before it.")
    ] = 10.0
    body_timeout: Annotated[Timeout, about("Longest pause inside a request's body.")] = 60.0
    body_rate: Annotated[
        SizeOrOff,
        about(
            "Bytes of a request's body that must arrive each second, after 5 s of grace; 0: no "
            "limit. Waits for the origin do not count."
        ),
    ] = 240
    write_timeout: Annotated[
        Timeout, about("Longest time in which the client accepts no byte.")
    ] = 60.0
    max_requests: Annotated[CountOrOff, about("Most requests on one connection; 0: no limit.")] = 0
    max_streams: Annotated[
        Positive, about("HTTP/2: most requests under way on one connection at a time.")
    ] = 100
    max_age: Annotated[SecondsOrOff, about("Age at which a connection is closed; 0: no limit.")] = (
        0.0
    )
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


class ClientSettings(LinkSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The client-facing hop."""

    max_connections: Annotated[
        Positive, about("Most client connections; at the limit the one idle for longest is closed.")
    ] = 4096
    max_total_streams: Annotated[
        Positive,
        about(
            "HTTP/2: most requests under way on all connections together; further ones are "
            "refused, and clients send them again."
        ),
    ] = 8192
    max_connections_per_address: Annotated[
        CountOrOff,
        about(
            "Most connections of one client address (an IPv6 network of 64 bits is one); 0: no "
            "limit. Not counted: `trusted_proxies`, unless a PROXY header names the client."
        ),
    ] = 0
    max_handshakes: Annotated[
        Positive,
        about(
            "Most connections whose TLS handshake or PROXY header is not complete; at the limit "
            "the one without progress for longest is closed."
        ),
    ] = 1024
    balancer: Annotated[
        Balancer | None,
        about("The load balancer in front; `check` compares its idle timeout with ours."),
    ] = None


class Listener(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One socket that accepts clients."""

    bind: Annotated[
        BindWord,
        about(
            "Address to accept clients on: `host:port`, `:port` (every address) or `unix:/path`; "
            "or a listening socket that hopproxy is started with: `fd:3` or `systemd:NAME`."
        ),
    ] = Bind("tcp", "127.0.0.1", 8080)
    backlog: Annotated[
        Positive, about("Most connections that wait in the kernel to be accepted.")
    ] = 1024
    mode: Annotated[
        ModeWord, about("Permissions of a Unix socket's file; who may write to it may connect.")
    ] = 0o666
    tls: Annotated[ListenerTls | None, about("TLS; absent: plain HTTP.")] = None
    protocols: Annotated[
        Annotated[tuple[Protocol, ...], Meta(min_length=1)],
        about(
            "Protocols that clients may use. With `tls` they choose by ALPN; without it, HTTP/2 "
            "begins with its preface (prior knowledge)."
        ),
    ] = ("h2", "http/1.1")
    proxy_protocol: Annotated[
        bool,
        about(
            "Every connection begins with a PROXY header, version 1 or 2, that names the client. "
            "Only `trusted_proxies` may connect then."
        ),
    ] = False
    client: Annotated[
        LinkSettings | None,
        Meta(extra={"like": "client"}),
        about("Settings of `client` that differ on this listener."),
    ] = None
