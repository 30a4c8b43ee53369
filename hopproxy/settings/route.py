"""Settings of routes."""

from typing import Annotated

from msgspec import Struct

from hopproxy.settings.kinds import (
    HostWord,
    PathWord,
    Token,
    about,
)


class Route(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests go to which upstream; the first that matches wins."""

    upstream: Annotated[Token, about("Name of the upstream.")]
    host: Annotated[HostWord | None, about("Only this host: exact, or `*.suffix`.")] = None
    path: Annotated[
        PathWord | None, about("Only this path and all below it, by whole segments; no patterns.")
    ] = None
