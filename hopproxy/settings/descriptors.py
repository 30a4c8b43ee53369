"""How the file descriptors of a process are divided.

Clients never get those needed by dials, the admin listener, the logs and name look-ups.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from hopproxy.settings.lint import Risk
from hopproxy.settings.schema import Settings

#: Kept for the admin listener's connections (32), for dials that try several addresses at once,
#: for name look-ups, for the pipe of long bodies, and for files that are open only for a moment.
RESERVED = 128
#: Descriptors of an idle process, without its listeners.
AT_REST = 16

_HINT = "raise the limit of open files to {} (ulimit -n, LimitNOFILE=, --ulimit nofile=)"


def fitted(settings: Settings, limit: int, held: int = 0) -> Settings:
    """The settings with limits on connections that fit the descriptors.

    `limit` is how many descriptors the process may have, `held` how many of them are open already.
    """
    clients, upstream = _shares(settings, limit, held)
    if upstream == _upstream_demand(settings):  # more than that is never opened
        upstream = settings.max_upstream_connections
    client = replace(settings.client, max_connections=clients)
    return replace(settings, client=client, max_upstream_connections=upstream)


def admin_share(limit: int) -> int:
    """How many connections the admin listener may have, if there are `limit` descriptors."""
    return max(1, limit // 8)


def shortfalls(settings: Settings, limit: int, held: int = 0) -> Iterator[Risk]:
    """The settings that allow more connections than there are descriptors."""
    clients, upstream = _shares(settings, limit, held)
    most_clients, most_upstream = settings.client.max_connections, _upstream_demand(settings)
    hint = _HINT.format(_at_rest(settings, held) + RESERVED + most_clients + most_upstream)
    if clients < most_clients:
        message = f"{most_clients} do not fit in {limit} file descriptors: {clients} are served"
        yield Risk("client.max_connections", f"{message} at once", hint)
    if upstream < most_upstream:
        message = f"{most_upstream} connections to origins do not fit in {limit} file descriptors"
        yield Risk("max_upstream_connections", f"{message}: {upstream} are opened at most", hint)


def _shares(settings: Settings, limit: int, held: int) -> tuple[int, int]:
    """(for clients, for origins): as in the settings, or if that does not fit about half each."""
    available = max(0, limit - _at_rest(settings, held))
    rest = available - min(RESERVED, available // 2)
    most = settings.client.max_connections
    upstream = min(_upstream_demand(settings), max(1, rest // 2, rest - most))
    return min(most, max(1, rest - upstream)), upstream


def _upstream_demand(settings: Settings) -> int:
    every = sum(len(one.origins) * one.pool.max_connections for one in settings.upstreams.values())
    return min(settings.max_upstream_connections, every)


def _at_rest(settings: Settings, held: int) -> int:
    return max(held, AT_REST + len(settings.listeners))
