"""One worker process: its listeners, its runtime, and how it stops."""

import logging
import signal
import socket
from collections.abc import Callable

import trio

from hopproxy.link.tcp import tune
from hopproxy.link.watch import Watch
from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.admin import Admin
from hopproxy.observe.error_log import ErrorLog
from hopproxy.observe.views import Views
from hopproxy.proxy.terms import Page
from hopproxy.reasons import CloseReason
from hopproxy.server.drain import Drain, Report
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.server.listener import Intake, close_listener
from hopproxy.server.place import RETIRING
from hopproxy.server.runtime import Reloads, Runtime
from hopproxy.server.siblings import Siblings
from hopproxy.server.sockets import Sockets, adjust
from hopproxy.settings.amounts import format_duration
from hopproxy.settings.schema import Settings
from hopproxy.signals import SIGNALS, STOP

log = logging.getLogger("hopproxy")


class Worker:
    """Serves until `stop`, then drains.  Raises OSError if a certificate cannot be used."""

    _base: trio.Nursery
    _runtime: Runtime
    _views: Views

    def __init__(
        self,
        settings: Settings,
        sockets: Sockets,
        access_log: AccessLog | None,
        page: Page | None = None,
        error_log: ErrorLog | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.siblings = siblings
        self._settings = self._as_read = settings
        self._sockets = sockets
        self._access_log = access_log
        self._page = page
        self._error_log = error_log
        self._entrances = [Entrance(settings, listener) for listener in settings.listeners]
        self._retired = False
        #: Observers show them.
        self.reloads = Reloads()
        self._gateway: Gateway | None = None
        self._intakes: dict[socket.socket, Intake] = {}
        self._admin_scope = trio.CancelScope()
        self._stop = trio.Event()
        self._stop_now = trio.Event()
        #: What became of the client links; set when it has stopped.
        self.report: Report | None = None

    async def run(self, task_status: trio.TaskStatus[Runtime] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained.  `drain_timeout` or a second `stop` cuts what is left."""
        async with trio.open_nursery() as base:
            self._base = base
            watch = Watch()
            base.start_soon(watch.run)
            board = None if self.siblings is None else self.siblings.board
            runtime = Runtime(self._settings, watch, self._log, self._page, board)
            self._runtime = runtime
            runtime.reloads = self.reloads
            runtime.as_read = self._as_read
            self._views = self._made_views(runtime)
            if self.siblings is not None:
                runtime.join(self.siblings.place, self.siblings.tell_learned)
                self.siblings.teach(runtime.hear)
            if self._access_log is not None:
                base.start_soon(self._access_log.run)
            if self._error_log is not None:
                base.start_soon(self._error_log.run)
            self._serve_admin()
            task_status.started(runtime)
            try:
                await self._serve(runtime, base)
            finally:
                self._sockets.end_clients()
                if self.siblings is not None:
                    self.siblings.report()
                runtime.pool.close_idle(CloseReason.DRAINING)
                runtime.pool.stop()
                runtime.handshakes.close()
                runtime.terms.pipe.close()
            base.cancel_scope.cancel()

    def _made_views(self, runtime: Runtime) -> Views:
        """The views of this worker, for the others too."""
        siblings = self.siblings
        if siblings is None:
            return Views(runtime, self._access_log, self._error_log)
        place = siblings.place if siblings.workers > 1 else None
        return Views(runtime, self._access_log, self._error_log, place)

    def _serve_admin(self) -> None:
        """Serve the admin listener, if there is one, instead of the previous one."""
        self._admin_scope.cancel()
        listener, siblings, views = self._sockets.admin, self.siblings, self._views
        if listener is None:  # nobody asks
            return
        if siblings is not None:
            siblings.answer, siblings.count = views.view, views.lasting
            siblings.stamp = views.stamp
        self._admin_scope = trio.CancelScope()
        self._base.start_soon(_within, self._admin_scope, Admin(views, siblings), listener)

    async def _serve(self, runtime: Runtime, base: trio.Nursery) -> None:
        async with trio.open_nursery() as connections:
            gateway = self._gateway = Gateway(runtime, connections)
            intakes = self._intakes
            try:
                for sock, entrance in zip(self._sockets.clients, self._entrances, strict=True):
                    limits = entrance.limits
                    # Accepted sockets inherit these options, without a system call each.
                    tune(sock, nodelay=limits.tcp_nodelay, keepalive=limits.tcp_keepalive)
                    intakes[sock] = Intake(sock, runtime, gateway, entrance)
                if self.siblings is not None:
                    self.siblings.serving()
                await self._stop.wait()
                drain = Drain(runtime, gateway, self._settings, slowly=self._retired)
                await self._delay()
                self._leave_listeners()
                # First, since `Gateway.stop` below closes every connection that has no task.
                gateway.move_to_tasks()
            finally:
                for intake in intakes.values():
                    intake.close()
                gateway.stop()
            # Idle links of both hops end now; the nursery waits for the exchanges.
            runtime.pool.close_idle(CloseReason.DRAINING)
            log.info("draining: %d connections", len(connections.child_tasks))
            base.start_soon(drain.end_idle)
            base.start_soon(drain.cut_late, self._stop_now, connections.cancel_scope)
        self.report = drain.report
        log.info("%s", self.report)
        if self.siblings is not None:
            self.siblings.tell_report(self.report.ended, self.report.cut, self.report.lost)

    def _leave_listeners(self) -> None:
        """Close the listeners.

        Connections in their queues are accepted first, unless another process serves there.  Every
        copy of a socket must be closed, or it would get connections that nobody accepts.
        """
        passed = _passed(self._settings, self._sockets)
        for sock, intake in self._intakes.items():
            self._leave(sock, intake, passed=sock in passed)
        if self._retired:
            self._admin_scope.cancel()

    def _leave(self, sock: socket.socket, intake: Intake, *, passed: bool) -> None:
        if self._retired or passed:
            intake.close()
        else:
            intake.accept_rest()
        sock.close()

    async def _delay(self) -> None:
        """Still serve for `drain_delay`.  A second stop ends it."""
        delay = self._settings.drain_delay
        if self._retired:
            self._leave_listeners()
            delay = max(delay, RETIRING)
            log.info("others have taken over: still serving for %s", format_duration(delay))
        elif delay:
            log.info("stopping: still serving for %s (drain_delay)", format_duration(delay))
        if delay:
            with trio.move_on_after(delay):
                await self._stop_now.wait()

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop.is_set()

    def apply(self, settings: Settings, sockets: Sockets | None = None) -> None:
        """Use these settings for new requests and connections.

        Requests in progress keep their settings.  `sockets` are the listening sockets for them, as
        `rebound` returns them.  One that is no longer among them is closed, after all that waits in
        its queue has been accepted.  Raises OSError if a certificate cannot be used.
        """
        assert self._gateway is not None, "it serves"
        sockets = sockets or self._sockets
        entrances = self._entrances_for(settings, sockets)
        before, self._settings = self._settings, settings
        self._gateway.apply(settings)
        if self._access_log is not None and settings.access_log != before.access_log:
            self._access_log.write_as(settings.access_log)
            self._runtime.terms.log = self._log
        if sockets is self._sockets:
            return
        passed = _passed(before, self._sockets) + sockets.settle()
        left, self._sockets, self._entrances = self._sockets, sockets, entrances
        adjust(settings, sockets)
        for sock, entrance in zip(sockets.clients, entrances, strict=True):
            if sock not in self._intakes:
                self._intakes[sock] = Intake(sock, self._runtime, self._gateway, entrance)
        for sock in left.clients:
            if sock not in sockets.clients:
                self._leave(sock, self._intakes.pop(sock), passed=sock in passed)
                close_listener(sock)
        if sockets.admin is not left.admin:
            self._serve_admin()

    def _entrances_for(self, settings: Settings, sockets: Sockets) -> list[Entrance]:
        """What the listeners of these settings mean: those that stay are changed in place."""
        before = dict(zip(self._sockets.clients, self._entrances, strict=True))
        entrances = []
        for sock, listener in zip(sockets.clients, settings.listeners, strict=False):
            entrance = before.get(sock)
            if entrance is None:
                entrance = Entrance(settings, listener)
            else:
                entrance.apply(settings, listener)
            entrances.append(entrance)
        return entrances

    @property
    def _log(self) -> AccessLog | None:
        """The access log, unless it is off."""
        return self._access_log if self._settings.access_log != "off" else None

    def has_read(self, settings: Settings) -> None:
        """Settings are in use.  This worker has its share of them; observers show the whole."""
        self._as_read = settings
        if self._gateway is not None:
            self._runtime.as_read = settings

    def retire(self) -> None:
        """Drain, but leave the queues of the listeners to the processes that have taken over."""
        self._retired = True
        self.stop()

    def stop(self) -> None:
        """Drain.  The second call stops at once."""
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    async def obey_signals(
        self,
        reload: Callable[[], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Stop on SIGTERM, SIGINT and SIGQUIT, reload on SIGHUP.  Runs until cancelled.

        Signals received earlier are obeyed first, before `task_status.started`.
        """
        wake = trio.lowlevel.current_trio_token().run_sync_soon

        def obey(number: signal.Signals) -> None:
            if number in STOP:
                self.stop()
            elif number == signal.SIGHUP:
                reload()
            else:
                log.info("%s: received, nothing to do", number.name)

        with SIGNALS.obeyed_by(lambda number: wake(obey, number)):
            task_status.started()
            await trio.sleep_forever()


def _passed(settings: Settings, sockets: Sockets) -> list[socket.socket]:
    """The sockets that this program was started with; other processes serve them afterwards."""
    pairs = zip(settings.listeners, sockets.clients, strict=False)
    return [sock for listener, sock in pairs if listener.bind.kind == "passed"]


async def _within(scope: trio.CancelScope, admin: Admin, listener: socket.socket) -> None:
    with scope:
        await admin.run(listener)
