"""`hopproxy run` in a process that serves: a worker, or without a supervisor the only process.

The first worker reads the settings file and opens the listening sockets; all others inherit both.
"""

import gc
import logging
import marshal
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib import import_module

import trio
from msgspec.structs import replace

from hopproxy import descriptors
from hopproxy.exits import BAD_CONFIGURATION, COULD_NOT_BIND, DONE, Failure
from hopproxy.link import tickets
from hopproxy.link.clock import SteadyClock
from hopproxy.link.link import number_links
from hopproxy.observe.access_log import STDOUT, AccessLog
from hopproxy.observe.error_log import ErrorLog
from hopproxy.server.board import Board, lack_of_room
from hopproxy.server.channel import Channel, Ended, Message, close_all, content
from hopproxy.server.listener import CannotBind, bound, close_listener, open_listener
from hopproxy.server.passed import PASSED
from hopproxy.server.reload import Reloader
from hopproxy.server.siblings import Siblings
from hopproxy.server.sockets import Sockets, hand_over, inherited, names_of
from hopproxy.server.worker import Worker
from hopproxy.settings.descriptors import fitted
from hopproxy.settings.schema import Settings
from hopproxy.settings.shares import share
from hopproxy.settings.units import Bind
from hopproxy.settings_file import SettingsFile, all_risks, count_of, read_text, warnings
from hopproxy.signals import SIGNALS

log = logging.getLogger("hopproxy")

#: Seconds from the start until what only a scrape needs is imported.
PREPARE_AFTER = 0.5


def run(read: Callable[[], SettingsFile], channel: Channel | None, error_log: ErrorLog) -> int:
    """Serve until told to stop; return the exit code.  `read` reads the settings file."""
    if channel is None:
        file = _checked(read)
        SIGNALS.keep()
        with ExitStack() as opened:
            sockets = _listening(file.settings, opened, {})
            return _serve_on(sockets, file, error_log)
    try:
        begin = channel.receive(None)
        while begin.kind != "begin":
            begin = channel.receive(None)
        return _work(begin, read, channel, error_log)
    except (Ended, BrokenPipeError):
        return DONE  # the supervisor has gone


def _work(
    begin: Message, read: Callable[[], SettingsFile], channel: Channel, error_log: ErrorLog
) -> int:
    """Serve as the worker that this message describes."""
    place, workers, names, passed = begin.body
    tells = not workers  # the first worker logs where it listens
    board, *fds = begin.fds
    split = len(fds) - len(passed)
    PASSED.held = dict(zip(passed, fds[split:], strict=True))
    if workers:
        settings_fd, *listeners = fds[:split]
        file = read_text(*marshal.loads(content(settings_fd)))
        os.close(settings_fd)
        held = dict(zip(names, listeners, strict=True))
        nothing = replace(file.settings, listeners=(), admin=None)
        sockets = inherited(nothing, Sockets([], None), file.settings, held)
        close_all(held.values())
    else:
        file = _checked(read)
        workers = count_of(file.settings)
        if lack := lack_of_room(workers):
            raise Failure(f"hopproxy: {lack}", BAD_CONFIGURATION)
        held = dict(zip(names, fds[:split], strict=True))
        with ExitStack() as opened:
            sockets = _listening(file.settings, opened, held)
            close_all(held.values())
            if not hand_over(channel, "opened", file[:2], file.settings, workers, sockets):
                raise BrokenPipeError
            opened.pop_all()
    siblings = Siblings(channel, Board(board, place, workers), place, workers)
    os.close(board)
    return _serve_on(sockets, file, error_log, siblings, tells=tells)


def _checked(read: Callable[[], SettingsFile]) -> SettingsFile:
    file = read()
    for warning in warnings(file, all_risks(file.settings)):
        log.warning("%s", warning)
    return file


# -- listening sockets -----------------------------------------------------------------------


def _listening(settings: Settings, opened: ExitStack, held: dict[str, int]) -> Sockets:
    """Open all listening sockets; `opened` closes them.  Raises Failure.

    Sockets in `held` come from the previous program; those that are used are removed from it.
    """
    listen: list[tuple[str, Bind, Callable[[], socket.socket]]] = [
        (
            f"listeners[{n}]",
            one.bind,
            partial(
                open_listener, one.bind, one.backlog, one.client or settings.client, mode=one.mode
            ),
        )
        for n, one in enumerate(settings.listeners)
    ]
    if settings.admin is not None:
        bind = settings.admin.bind
        listen.append(("admin", bind, partial(open_listener, bind, 128)))
    sockets: list[socket.socket] = []
    for (path, bind, start), name in zip(listen, names_of(settings), strict=True):
        try:
            sock = start() if name not in held else socket.socket(fileno=held.pop(name))
        except CannotBind as error:
            message = str(error)
            for owner, other, _ in listen[: len(sockets)]:
                # Two names may mean the same address, which `check` cannot see.
                if error.in_use and (other.kind, other.port) == ("tcp", bind.port):
                    message = f"cannot listen on {bind}: {path} and {owner} share a port"
                    message += " (give each its own)"
            raise Failure(f"hopproxy: {message}", COULD_NOT_BIND) from error
        sock.setblocking(False)
        opened.callback(close_listener, sock)
        sockets.append(sock)
    admin = sockets.pop() if settings.admin is not None else None
    return Sockets(sockets, admin)


# -- serving ---------------------------------------------------------------------------------


def _serve_on(
    sockets: Sockets,
    file: SettingsFile,
    error_log: ErrorLog,
    siblings: Siblings | None = None,
    *,
    tells: bool = True,
) -> int:
    held = descriptors.held()

    def fit(settings: Settings) -> Settings:
        """The settings of this worker: its share of the limits, within its descriptors."""
        if siblings is not None:
            settings = share(settings, siblings.place, siblings.workers)
        return fitted(settings, descriptors.limit(), held)

    access_log = AccessLog(file.settings.access_log, STDOUT)
    if siblings is not None:
        number_links(siblings.place + 1, siblings.workers)
        if siblings.workers > 1:
            tickets.share(siblings.board.ticket_keys)
            access_log.shares = True
    worker = Worker(fit(file.settings), sockets, access_log, error_log=error_log, siblings=siblings)
    reloader = Reloader(worker, file, sockets, fit, siblings)
    settle_memory()
    trio.run(partial(_serve, worker, reloader, error_log, tells=tells), clock=SteadyClock())
    return DONE


def settle_memory() -> None:
    """Tell the garbage collector to ignore what is loaded, and to run seldom.

    Exchanges leave no cycles, and a pass over ten thousand idle links costs more than it finds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _say_where_clients_resume() -> None:
    if not tickets.can_be_shared():
        log.info(
            "TLS: clients resume their sessions only at the worker that they have met: its keys "
            "cannot be shared with this Python, which has an OpenSSL of its own or is too new"
        )


async def _prepare_metrics() -> None:
    """Import soon what only a scrape needs; otherwise the first one takes four times as long."""
    await trio.sleep(PREPARE_AFTER)
    module = "hopproxy.observe.exposition"
    await trio.to_thread.run_sync(import_module, module, abandon_on_cancel=True)


async def _serve(worker: Worker, reloader: Reloader, error_log: ErrorLog, *, tells: bool) -> None:
    """`tells` if this process logs where it listens."""
    siblings, settings, sockets = worker.siblings, reloader.file.settings, reloader.sockets
    async with trio.open_nursery() as nursery:
        if siblings is None:
            await nursery.start(worker.obey_signals, reloader.reload)
        else:
            await nursery.start(siblings.run, reloader)
        if tells:
            # Logged once signals are handled, since a signal may be sent after this line.
            for listener, sock in zip(settings.listeners, sockets.clients, strict=True):
                scheme = "" if listener.tls is None else " (https)"
                log.info("listening on %s%s", bound(listener.bind, sock), scheme)
            if settings.admin is not None and sockets.admin is not None:
                log.info("admin listener on %s", bound(settings.admin.bind, sockets.admin))
            several = siblings is not None and siblings.workers > 1
            if several and any(one.tls for one in settings.listeners):
                _say_where_clients_resume()
        if siblings is not None and siblings.workers > 1:
            error_log.name(f"worker {siblings.place}")
        nursery.start_soon(reloader.run)
        if settings.admin is not None:
            nursery.start_soon(_prepare_metrics)
        await worker.run()
        nursery.cancel_scope.cancel()
