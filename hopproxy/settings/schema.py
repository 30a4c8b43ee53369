"""Every setting: its name, its kind of value, its limits, its default and its purpose.

The reader, the JSON Schema and the reference use these Structs through `shape.settings_of`, so a
new setting is one new line here or in the files of its section.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from hopproxy.settings.client import ClientSettings, Listener
from hopproxy.settings.kinds import (
    BindOrOff,
    Interval,
    NetworkWord,
    Positive,
    Seconds,
    Token,
    ViaWord,
    about,
)
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import UpstreamSettings

#: The default of `drain_timeout`, in seconds.
DRAIN_TIMEOUT = 30.0


class Admin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The listener of metrics, probes and the live page."""

    bind: Annotated[BindOrOff, about("Address of the admin listener; `off`: none.")]


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of hopproxy, a reverse proxy."""

    workers: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        about(
            "Processes that share every listener; all limits are totals. `auto`: as many as the "
            "CPUs, or the CPU quota of the container, allow."
        ),
    ] = 1
    drain_delay: Annotated[
        Seconds,
        about(
            "How long hopproxy still serves after a stop signal: `/readyz` answers 503, and each "
            "response closes its connection."
        ),
    ] = 0.0
    drain_timeout: Annotated[Seconds, about("How long it then waits for requests under way.")] = (
        DRAIN_TIMEOUT
    )
    watch: Annotated[
        bool, about("Reload when this file, or a certificate or key that it names, has changed.")
    ] = False
    readiness: Annotated[
        Literal["any", "all", "self"],
        about(
            "When `/readyz` answers 200: if one upstream has an origin that can be reached "
            "(`any`), if each has one (`all`), or independent of the upstreams (`self`)."
        ),
    ] = "any"
    dns_interval: Annotated[
        Interval,
        about(
            "How often names of origins are looked up again; SRV records also as their TTL says."
        ),
    ] = 10.0
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
    request_id: Annotated[
        tuple[Literal["x-request-id", "traceparent"], ...],
        about(
            "Fields that tell the origin and the access log which request it is. Those of trusted "
            "proxies are passed on, others are replaced. Empty: they pass as any other field."
        ),
    ] = ()
    via: Annotated[
        ViaWord,
        about("Messages that get our `Via`. Without it in requests, loops are not detected."),
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
