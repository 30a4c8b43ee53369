"""The share of each worker in the limits of the settings, which are totals."""

from msgspec.structs import replace

from hopproxy.settings.schema import Settings
from hopproxy.settings.upstream import UpstreamSettings


def limits(settings: Settings) -> list[tuple[str, int]]:
    """Each limit of which every worker needs a share of 1 at least, by its path."""
    found = [
        ("client.max_connections", settings.client.max_connections),
        ("client.max_total_streams", settings.client.max_total_streams),
        ("client.max_handshakes", settings.client.max_handshakes),
        ("max_upstream_connections", settings.max_upstream_connections),
    ]
    for name, upstream in settings.upstreams.items():
        path = f"upstreams.{name}.pool.max_connections"
        found.append((path, upstream.pool.max_connections))
        if isinstance(upstream.max_requests_in_flight, int) and upstream.max_requests_in_flight:
            path = f"upstreams.{name}.max_requests_in_flight"
            found.append((path, upstream.max_requests_in_flight))
    return found


def most_workers(settings: Settings) -> int:
    """How many workers there can be at most, so that each has a share of every limit."""
    return min(total for _, total in limits(settings))


def share(settings: Settings, place: int, workers: int) -> Settings:
    """The settings of the worker at `place` (from 0) of so many: all shares add up to the totals.

    Each gets at least 1, unless a limit is off; `settings.agreement` refuses smaller totals.
    """
    if workers == 1:
        return settings

    def part(total: int) -> int:
        return min(total, max(1, total // workers + (place < total % workers)))

    def of_upstream(upstream: UpstreamSettings) -> UpstreamSettings:
        pool = replace(
            upstream.pool,
            max_connections=part(upstream.pool.max_connections),
            max_idle=part(upstream.pool.max_idle),
            queue=part(upstream.pool.queue),
        )
        most = upstream.max_requests_in_flight
        if isinstance(most, int):
            most = part(most)
        return replace(upstream, pool=pool, max_requests_in_flight=most)

    return replace(
        settings,
        max_upstream_connections=part(settings.max_upstream_connections),
        client=replace(
            settings.client,
            max_connections=part(settings.client.max_connections),
            max_total_streams=part(settings.client.max_total_streams),
            max_handshakes=part(settings.client.max_handshakes),
        ),
        upstreams={name: of_upstream(one) for name, one in settings.upstreams.items()},
    )
