"""`hopproxy dev`: a proxy in front of one origin, or of the demo, without a settings file."""

import logging
import socket
from collections.abc import Callable
from functools import partial

import trio

from hopproxy import descriptors
from hopproxy.dev.demo import Demo
from hopproxy.dev.down import page_for
from hopproxy.dev.settings import ADMIN, SITE, dev_settings, open_at
from hopproxy.link.clock import SteadyClock
from hopproxy.observe.access_log import STDOUT, AccessLog
from hopproxy.observe.error_log import ErrorLog
from hopproxy.server.listener import CannotBind, open_listener
from hopproxy.server.worker import Sockets, Worker
from hopproxy.settings.addresses import meet
from hopproxy.settings.descriptors import fitted
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.signals import SIGNALS

log = logging.getLogger("hopproxy")


def start(
    origin: OriginAddress | None, site: Bind | None, admin: Bind | None, error_log: ErrorLog
) -> None:
    """Serve until stopped by a signal; without an origin, serve the demo.

    If `site` or `admin` is None, use its default port or the next free one.  Raises CannotBind.
    """
    SIGNALS.keep()
    demo_socket = None
    if origin is None:
        demo_socket = open_listener(Bind("tcp", "127.0.0.1", 0), 128)
        origin = OriginAddress("tcp", "127.0.0.1", demo_socket.getsockname()[1])
    if site is not None and admin is not None and meet(site, admin):
        message = "--bind and --admin name the same port (give each its own)"
        raise CannotBind(f"cannot listen on {admin}: {message}")
    # A port that was given comes first, so that no default takes it.
    if admin is not None:
        admin_socket, admin_bind = open_at(admin, ADMIN, origin)
    client_socket, site_bind = open_at(site, SITE, origin)
    if admin is None:
        admin_socket, admin_bind = open_at(admin, ADMIN, origin)
    settings = dev_settings(origin, site_bind, admin_bind)
    settings = fitted(settings, descriptors.limit(), descriptors.held())
    worker = Worker(
        settings,
        Sockets([client_socket], admin_socket),
        AccessLog(settings.access_log, STDOUT),
        page_for(origin, settings.pseudonym.encode()),
        error_log,
    )
    live_page = url(admin_bind)
    demo = None if demo_socket is None else (Demo(live_page), demo_socket)
    tell = partial(_tell, origin, (site, site_bind), (admin, admin_bind), demo=demo is not None)
    trio.run(_serve, worker, demo, tell, clock=SteadyClock())


def _tell(
    origin: OriginAddress,
    site: tuple[Bind | None, Bind],
    admin: tuple[Bind | None, Bind],
    *,
    demo: bool,
) -> None:
    """Print what was chosen, and as the last line what to open."""
    for (asked, chosen), default in ((site, SITE), (admin, ADMIN)):
        if asked is None and chosen != default:
            log.info("port %d is taken: listening on %s instead", default.port, chosen)
    log.info("in front of %s%s", origin, " (the demo)" if demo else "")
    log.info("open %s (live page: %s)", url(site[1]), url(admin[1]))


def url(bind: Bind) -> str:
    """The URL of a listener; if it listens on every address, with the loopback address."""
    if bind.kind == "unix":
        return str(bind)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind.host, bind.host)
    return str(OriginAddress("tcp", host, bind.port))


async def _serve(
    worker: Worker, demo: tuple[Demo, socket.socket] | None, tell: Callable[[], None]
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.obey_signals, _nothing_to_reload)
        tell()
        if demo is not None:
            nursery.start_soon(demo[0].run, demo[1])
        await worker.run()
        nursery.cancel_scope.cancel()


def _nothing_to_reload() -> None:
    log.warning("SIGHUP: there is no settings file to read again")
