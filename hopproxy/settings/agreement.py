"""Settings that contradict each other, although each alone is valid."""

from collections.abc import Iterator

from hopproxy.settings.addresses import meet
from hopproxy.settings.client import LinkSettings, Listener
from hopproxy.settings.route_agreement import Contradiction, route_contradictions
from hopproxy.settings.schema import Settings
from hopproxy.settings.shares import limits
from hopproxy.settings.units import UNIX
from hopproxy.settings.upstream import Pool


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """Every contradiction within `settings`."""
    yield from _addresses(settings)
    yield from _limits(settings)
    yield from _shares(settings)
    yield from _upstream_names(settings)
    yield from _keys_alone(settings)
    yield from _protocols(settings)
    yield from _listeners(settings)
    yield from route_contradictions(settings.routes, list(settings.upstreams))


def _addresses(settings: Settings) -> Iterator[Contradiction]:
    binds = [(f"listeners[{n}].bind", one.bind) for n, one in enumerate(settings.listeners)]
    if settings.admin is not None:
        binds.append(("admin.bind", settings.admin.bind))
    binds = [(path, bind) for path, bind in binds if bind]  # empty: it was not valid
    for n, (path, bind) in enumerate(binds):
        for owner, earlier in binds[:n]:
            if meet(earlier, bind):
                which = owner if earlier == bind else f"{owner}, `{earlier}`"
                message = f"`{bind}` is taken by {which}"
                hint = "give each listener its own port"
                if bind.kind == "unix":
                    hint = "give each listener its own path"
                yield Contradiction(path, message, hint, (owner,))
                break
    for n, listener in enumerate(settings.listeners):
        if listener.bind.kind == "tcp" and listener.mode != Listener().mode:
            path = f"listeners[{n}]"
            message = f"has no meaning for `{listener.bind}`, which has no file"
            hint = "leave it out, or listen on unix:/path"
            yield Contradiction(f"{path}.mode", message, hint, (f"{path}.bind",))
    for name, upstream in settings.upstreams.items():
        for n, origin in enumerate(upstream.origins):
            if origin in upstream.origins[:n]:
                path = f"upstreams.{name}.origins[{n}]"
                yield Contradiction(path, f"`{origin}` is listed twice", "keep one")


def _limits(settings: Settings) -> Iterator[Contradiction]:
    links: list[tuple[str, LinkSettings]] = [("client", settings.client)]
    for n, listener in enumerate(settings.listeners):
        if listener.client is not None:
            links.append((f"listeners[{n}].client", listener.client))
    for path, link in links:
        if link.max_target_size > link.max_head_size:
            yield Contradiction(
                f"{path}.max_target_size",
                f"{link.max_target_size} bytes do not fit in a head",
                f"max_head_size is {link.max_head_size}",
                (f"{path}.max_head_size",),
            )
    for name, upstream in settings.upstreams.items():
        path, pool = f"upstreams.{name}.pool", upstream.pool
        if pool.max_idle > pool.max_connections and pool.max_idle != Pool().max_idle:
            yield Contradiction(
                f"{path}.max_idle",
                f"{pool.max_idle} is more than max_connections, {pool.max_connections}",
                f"write max_idle: {pool.max_connections} or less",
                (f"{path}.max_connections",),
            )


def _shares(settings: Settings) -> Iterator[Contradiction]:
    """Limits are totals, of which every worker needs a share."""
    if settings.workers == "auto":  # starts no more workers than there are shares
        return
    for path, total in limits(settings):
        if total < settings.workers:
            message = f"{total} cannot be divided among {settings.workers} workers"
            hint = f"write {settings.workers} or more, or workers: {total}"
            yield Contradiction(path, message, hint, ("workers",))


def _upstream_names(settings: Settings) -> Iterator[Contradiction]:
    known = list(settings.upstreams)
    if len(known) > 1 and not settings.routes:
        message = f"is missing: nothing says which requests go to {', '.join(known)}"
        hint = f"write routes:, the last one `- upstream: {known[0]}` for all that is left"
        yield Contradiction("routes", message, hint)


def _protocols(settings: Settings) -> Iterator[Contradiction]:
    for name, upstream in settings.upstreams.items():
        h2 = upstream.protocol == "h2" or any(str(one)[:4] == "h2c:" for one in upstream.origins)
        if h2 and upstream.proxy_protocol != "off":
            path = f"upstreams.{name}"
            message = "a connection that serves one client alone speaks HTTP/1.1"
            hint = "leave it out, or write protocol: http/1.1 and no h2c://"
            yield Contradiction(f"{path}.proxy_protocol", message, hint, (f"{path}.protocol",))
        for n, origin in enumerate(upstream.origins):
            scheme, _, place = str(origin).partition("://")
            if scheme == "h2c" and upstream.protocol == "http/1.1":
                path = f"upstreams.{name}"
                message = f"`{origin}` is HTTP/2, and protocol is http/1.1"
                hint = f"write http://{place}, or leave protocol out"
                yield Contradiction(f"{path}.origins[{n}]", message, hint, (f"{path}.protocol",))


def _keys_alone(settings: Settings) -> Iterator[Contradiction]:
    for name, upstream in settings.upstreams.items():
        if upstream.tls.key is not None and upstream.tls.cert is None:
            path = f"upstreams.{name}.tls"
            hint = "write `cert:` too, or leave `key` out"
            yield Contradiction(f"{path}.key", "has no certificate", hint, (f"{path}.cert",))


def _listeners(settings: Settings) -> Iterator[Contradiction]:
    """Listeners that require something of clients which no client can have."""
    for n, listener in enumerate(settings.listeners):
        path, tls = f"listeners[{n}]", listener.tls
        if tls is not None and tls.client_cert != "off" and tls.client_ca is None:
            message = "needs `client_ca`, the authorities that sign these certificates"
            hint = "write client_ca: FILE"
            yield Contradiction(
                f"{path}.tls.client_cert", message, hint, (f"{path}.tls.client_ca",)
            )
        if not listener.proxy_protocol or not listener.bind:
            continue
        peers = "unix" if listener.bind.kind == "unix" else "addresses"
        trusted = [one for one in settings.trusted_proxies if (str(one) == UNIX) == (peers == UNIX)]
        if not trusted:
            message = f"nobody may connect: trusted_proxies names no {peers}"
            hint = "write the addresses of the proxies that send the header"
            if peers == UNIX:
                hint = "write trusted_proxies: [unix]"
            path = f"{path}.proxy_protocol"
            yield Contradiction(path, message, hint, ("trusted_proxies",))
