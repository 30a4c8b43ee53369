"""Settings of routes."""

from typing import Annotated, ClassVar, Literal

from msgspec import Struct

from hopproxy.settings.kinds import (
    ByWord,
    FieldName,
    FieldNames,
    FieldValue,
    FieldValues,
    Hosts,
    PathWord,
    Positive,
    RateWord,
    RedirectStatus,
    RedirectWord,
    SizeOrOff,
    Status,
    Text,
    Timeout,
    Token,
    about,
)

#: Settings of an upstream that a route may replace.
TIMEOUTS = ("response_timeout", "body_timeout", "write_timeout", "tunnel_timeout")


class FieldEdits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields to set, add and remove."""

    set: Annotated[
        dict[FieldName, FieldValue],
        about("Fields to send with this value, instead of all others of the same name."),
    ] = {}
    add: Annotated[
        dict[FieldName, FieldValues],
        about("Fields to send with this value, beside others of the same name."),
    ] = {}
    remove: Annotated[FieldNames, about("Fields to leave out.")] = ()


class Respond(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A response without an origin."""

    status: Annotated[Status, about("Its status.")] = 200
    body: Annotated[Text, about("Its body.")] = ""
    type: Annotated[FieldValue, about("Its Content-Type, if it has a body.")] = (
        "text/plain; charset=utf-8"
    )


class RouteLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many requests pass; the others get 429 with Retry-After."""

    rate: Annotated[RateWord, about("Requests that pass: `100/s`, `600/m` or `1000/h`.")]
    burst: Annotated[
        Positive | None,
        about("Most requests that pass at once; absent: those of a quarter of a second."),
    ] = None
    by: Annotated[
        ByWord,
        about(
            "What is counted separately: each `client` (an IPv6 network of 64 bits is one), each "
            "value of a `header:NAME`, or `all` requests together."
        ),
    ] = "client"


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What happens to which requests; the first route that matches is taken."""

    #: A route has exactly one of these.
    ONE_OF: ClassVar[tuple[str, ...]] = ("upstream", "redirect", "respond")

    upstream: Annotated[
        Token | None,
        about("Name of the upstream; a route has this, or `redirect`, or `respond`."),
    ] = None
    redirect: Annotated[
        RedirectWord | None,
        about(
            "Where to send the client: `https` (requests that came by https go on to the next "
            "route), or a URL or a path, in which `{host}`, `{path}` and other variables are "
            "filled in. If it ends with `{path}`, the query follows."
        ),
    ] = None
    redirect_status: Annotated[
        RedirectStatus, about("Status of the redirect: 308 is permanent, 307 is not.")
    ] = 308
    respond: Annotated[Respond | None, about("A fixed response.")] = None
    host: Annotated[
        Hosts | None, about("Only these hosts, one or a list: exact, or `*.suffix`.")
    ] = None
    path: Annotated[
        PathWord | None, about("Only this path and all below it, by whole segments; no patterns.")
    ] = None
    exact: Annotated[bool, about("Only this path, nothing below it.")] = False
    strip: Annotated[
        PathWord | None,
        about("Prefix to remove from the path that the origin gets: `/api/x` becomes `/x`."),
    ] = None
    request_fields: Annotated[
        FieldEdits, about("Changes of the request's fields on the way to the origin.")
    ] = FieldEdits()
    response_fields: Annotated[
        FieldEdits, about("Changes of the response's fields on the way to the client.")
    ] = FieldEdits()
    locations: Annotated[
        Literal["origin", "all", "off"],
        about(
            "What is rewritten for the client in Location, Content-Location and Refresh, with "
            "`strip` or if the upstream changes `host`. `origin`: URLs that name the origin "
            "itself; `all`: also paths, and the Path of cookies; `off`: nothing."
        ),
    ] = "origin"
    limits: Annotated[RouteLimits | None, about("How many requests pass; absent: all.")] = None
    max_body_size: Annotated[
        SizeOrOff | None,
        about("Largest body of a request; 0: no limit. Absent: `client.max_body_size`."),
    ] = None
    response_timeout: Annotated[Timeout | None, about("Instead of the upstream's.")] = None
    body_timeout: Annotated[Timeout | None, about("Instead of the upstream's.")] = None
    write_timeout: Annotated[Timeout | None, about("Instead of the upstream's.")] = None
    tunnel_timeout: Annotated[Timeout | None, about("Instead of the upstream's.")] = None
