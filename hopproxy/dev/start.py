"""`hopproxy dev`: a proxy in front of one origin, or of the demo, without a settings file."""

import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from hopproxy import descriptors
from hopproxy.dev.demo import Demo
from hopproxy.dev.down import page_for
from hopproxy.dev.settings import ADMIN, HTTPS, SITE, dev_settings, open_at
from hopproxy.dev.site import Site
from hopproxy.link.clock import SteadyClock
from hopproxy.observe.access_log import STDOUT, AccessLog
from hopproxy.observe.error_log import ErrorLog
from hopproxy.server.listener import CannotBind, open_listener
from hopproxy.server.sockets import Sockets
from hopproxy.server.worker import Worker
from hopproxy.settings.addresses import meet
from hopproxy.settings.descriptors import fitted
from hopproxy.settings.units import Bind, OriginAddress
from hopproxy.signals import SIGNALS

if TYPE_CHECKING:
    from hopproxy.dev.authority import Made

log = logging.getLogger("hopproxy")


class NoAuthority(Exception):
    """The local authority for `--https` could not be made or read."""


def start(site: Site, bind: Bind | None, admin: Bind | None, error_log: ErrorLog) -> None:
    """Serve until stopped by a signal.  Without an origin for all paths, serve the demo.

    If `bind` or `admin` is None, use its default port or the next free one.  Raises CannotBind
    and NoAuthority.
    """
    SIGNALS.keep()
    demo_socket = None
    if not site.first:
        demo_socket = open_listener(Bind("tcp", "127.0.0.1", 0), 128)
        site = site.with_demo(OriginAddress("tcp", "127.0.0.1", demo_socket.getsockname()[1]))
    origins = list(site.origins.values())
    if bind is not None and admin is not None and meet(bind, admin):
        message = "--bind and --admin name the same port (give each its own)"
        raise CannotBind(f"cannot listen on {admin}: {message}")
    # A port that was given comes first, so that no default takes it.
    if admin is not None:
        admin_socket, admin_bind = open_at(admin, ADMIN, origins)
    made = _certificate(site) if site.https else None
    client_socket, site_bind = open_at(bind, HTTPS if site.https else SITE, origins)
    if admin is None:
        admin_socket, admin_bind = open_at(admin, ADMIN, origins)
    settings = dev_settings(site, site_bind, admin_bind, made and made.certificate)
    settings = fitted(settings, descriptors.limit(), descriptors.held())
    worker = Worker(
        settings,
        Sockets([client_socket], admin_socket),
        AccessLog(settings.access_log, STDOUT),
        page_for(site.origin_of, settings.pseudonym.encode()),
        error_log,
    )
    live_page = url(admin_bind)
    demo = None if demo_socket is None else (Demo(live_page), demo_socket)
    tell = partial(
        _tell, site, (bind, site_bind), (admin, admin_bind), demo=demo is not None, made=made
    )
    trio.run(_serve, worker, demo, tell, clock=SteadyClock())


def _certificate(site: Site) -> "Made":
    # Imported here: it is needed only with `--https`.
    from hopproxy.dev.authority import certificate_for, data_folder

    folder = data_folder()
    try:
        return certificate_for(site.all_hosts(), folder)
    except OSError as error:
        raise NoAuthority(f"{folder} cannot be used: {error.strerror}") from error


def _tell_trust(made: "Made") -> None:
    """Log how to trust the authority, if this machine does not trust it yet."""
    from hopproxy.certificates import machine_trusts
    from hopproxy.dev.authority import trust

    if machine_trusts(str(made.ca)):
        return
    what = "made a certificate authority" if made.new else "the certificate authority is"
    log.info("%s: %s", what, made.ca)
    log.info("to make browsers trust it, run the line for yours, once:")
    for line in trust(made.ca):
        log.info("  %s", line)


def _tell(
    site: Site,
    bind: tuple[Bind | None, Bind],
    admin: tuple[Bind | None, Bind],
    *,
    demo: bool,
    made: "Made | None",
) -> None:
    """Log what was chosen; the last line says what to open."""
    if made is not None:
        _tell_trust(made)
    usual = SITE if made is None else HTTPS
    for (asked, chosen), default in ((bind, usual), (admin, ADMIN)):
        if asked is None and chosen != default:
            log.info("port %d is taken: listening on %s instead", default.port, chosen)
    log.info("in front of %s%s", site.origins[site.first], " (the demo)" if demo else "")
    for name in site.origins.keys() - {site.first}:
        paths = [path for path, to in site.paths.items() if to == name]
        where = " and ".join(paths) or url(bind[1], site.hosts_of(name)[0], https=site.https)
        log.info("in front of %s at %s", site.origins[name], where)
    host = site.hosts[0] if site.hosts else "localhost" if site.https else ""
    log.info("open %s (live page: %s)", url(bind[1], host, https=site.https), url(admin[1]))


def url(bind: Bind, host: str = "", *, https: bool = False) -> str:
    """The URL of a listener by this name; by default, if it listens on every address, loopback."""
    if bind.kind == "unix":
        return str(bind)
    known = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    host = host.strip("[]") or known.get(bind.host, bind.host)
    return str(OriginAddress("tcp", host, bind.port, scheme="https" if https else "http"))


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
