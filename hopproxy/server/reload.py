"""Reloading: the settings file is read and checked again, and applied while the worker serves.

Nothing changes unless the whole file is valid and every new address can be listened on.  New
addresses are opened before old ones are closed.  Links stay.  Requests under way keep the settings
that they began with.
"""

import logging
import marshal
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

from hopproxy.exits import BAD_CONFIGURATION, Failure
from hopproxy.server.channel import Message, close_all, content
from hopproxy.server.listener import CannotBind, bound
from hopproxy.server.siblings import Siblings
from hopproxy.server.sockets import Sockets, closed_on_error, inherited, rebound
from hopproxy.server.worker import Worker
from hopproxy.settings.amounts import format_duration
from hopproxy.settings.changes import changes
from hopproxy.settings.reader import places
from hopproxy.settings.schema import Settings
from hopproxy.settings.shares import limits
from hopproxy.settings_file import SettingsFile, all_risks, read_file, read_text, warnings
from hopproxy.watched_files import WatchedFiles

log = logging.getLogger("hopproxy")

#: Seconds between two looks at the files, with `watch: on`.
INTERVAL = 0.5
#: Seconds that each worker waits longer than the one before it.
IN_TURN = 2.0
#: Seconds until a worker that could not take over settings tries again.
AGAIN = 1.0
#: Tries, within AGAIN, to listen on an address that is in use.
TRIES = 10
#: Settings that a process cannot change while it runs.
_AT_START = ("workers",)

Fit = Callable[[Settings], Settings]


class Reloader:
    """Reloads one worker when it is asked to, and with `watch: on` when a file has changed.

    `sockets` are those of `file.settings`.  `fit` makes the worker's own settings from those in the
    file.  With several workers one reads the file, and the others take over its result.
    """

    def __init__(
        self,
        worker: Worker,
        file: SettingsFile,
        sockets: Sockets,
        fit: Fit,
        siblings: Siblings | None = None,
    ) -> None:
        self.file = file
        self.sockets = sockets
        self._worker = worker
        self._fit = fit
        self._siblings = siblings
        self._files = WatchedFiles(file)
        self._read_by_others: deque[Message] = deque()
        self._asked = False
        self._heard = 0  # reloads of other workers
        self._woken = trio.Event()
        self._changed = trio.Event()
        worker.has_read(file.settings)

    # -- what is asked for -------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the worker."""
        self._worker.stop()

    def retire(self) -> None:
        """Stop the worker, and leave its listening sockets to others."""
        self._worker.retire()

    def reload(self) -> None:
        """Reload soon.  A call during a reload causes one more."""
        self._asked = True
        self._woken.set()

    def change(self, message: Message) -> None:
        """Take over soon the settings and sockets of another worker."""
        self._read_by_others.append(message)
        self._woken.set()

    def note_reload(self, *, done: bool, at: float) -> None:
        """Another worker has read the settings again, with or without success."""
        self._heard += 1
        if not done:
            self._files.accept()  # that they are bad need not be logged twice
        self._worker.reloads.note(done=done, at=at, counted=False)

    def recall_reload(self, last_at: float, in_use_since: float, *, failed: bool) -> None:
        """When settings were last read, perhaps before this worker was started."""
        self._worker.reloads.recall(last_at, in_use_since, failed=failed)

    async def run(self) -> None:
        """Carry out reloads and changes, one after the other, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                while self._read_by_others:
                    await self._take_over(self._read_by_others.popleft())
                if self._asked:
                    self._asked = False
                    await self.reload_now()

    # -- reloading ---------------------------------------------------------------------------

    async def reload_now(self) -> bool:
        """Reload; returns whether that succeeded.  Errors are in the log."""
        name, began = self.file.name, time.perf_counter()
        self._files.accept()
        try:
            # In a thread: a long file takes a while.
            read, files = await trio.to_thread.run_sync(_read, name, abandon_on_cancel=True)
            if self._worker.stopping:
                log.info("%s: not reloaded: hopproxy is stopping", name)
                return False
            self._refuse_small_limits(read)
            sockets = await self._rebound(read.settings)
            before = self.file.settings, self.sockets
            renewed = files.renewed_since(self._files)
            with closed_on_error(sockets, self.sockets):
                self._apply(read, files, sockets)
        except (Failure, CannotBind, OSError) as failure:
            for line in str(failure).splitlines():
                log.error("%s", line)
            log.error("%s: not reloaded: the current settings stay in use", name)
            self._note(done=False)
            return False
        _tell(*before, read, sockets)
        for file in renewed:
            log.info("%s: has new content", file)
        count = len(changes(before[0], read.settings)) + len(renewed)
        if self._siblings is not None:
            self._siblings.publish(read[:2], read.settings, sockets)
        self._note(done=True)
        taken = format_duration(round(time.perf_counter() - began, 3))
        log.info("%s: reloaded in %s, %d change%s", name, taken, count, "s" * (count != 1))
        return True

    async def _rebound(self, settings: Settings) -> Sockets:
        """As `rebound`, but waits for an address that another worker is about to give up."""
        several = self._siblings is not None and self._siblings.workers > 1
        tries = TRIES if several else 1
        while True:
            tries -= 1
            try:
                return rebound(self.file.settings, self.sockets, settings)
            except CannotBind as error:
                if not tries or not error.in_use or self._worker.stopping:
                    raise
            await trio.sleep(AGAIN / TRIES)

    def _refuse_small_limits(self, read: SettingsFile) -> None:
        """Refuse totals below the number of workers, which stays as it is."""
        workers = 1 if self._siblings is None else self._siblings.workers
        for path, total in limits(read.settings):
            if total < workers:
                at = places(read.text, file=read.name, environ=os.environ)(path)
                raise Failure(
                    f"{read.name}:{at.line}:{at.column}: {path}: {total} cannot be divided among "
                    f"the {workers} workers that serve (write {workers} or more, or change "
                    "`workers` and send SIGUSR2)",
                    BAD_CONFIGURATION,
                )

    async def _take_over(self, message: Message) -> None:
        """Apply the settings and sockets of another worker."""
        names, (settings, *fds) = message.body, message.fds
        source = marshal.loads(content(settings))
        os.close(settings)
        held = dict(zip(names, fds, strict=True))
        try:
            while not await self._took_over(source, held):
                if self._asked or self._read_by_others or self._worker.stopping:
                    break  # newer ones come, or none are wanted
                await trio.sleep(AGAIN)
        finally:
            close_all(held.values())

    async def _took_over(self, source: tuple[str, str], held: dict[str, int]) -> bool:
        """Use these settings; False if a certificate is just being replaced."""
        try:
            read, files = await trio.to_thread.run_sync(_reread, source)
            if not self._worker.stopping:
                sockets = inherited(self.file.settings, self.sockets, read.settings, held)
                self._apply(read, files, sockets)
        except (Failure, OSError) as failure:
            log.error("%s", failure)
            return False
        return True

    def _apply(self, read: SettingsFile, files: WatchedFiles, sockets: Sockets) -> None:
        self._worker.apply(self._fit(read.settings), sockets)
        self.file, self.sockets, self._files = read, sockets, files
        self._worker.has_read(read.settings)
        self._changed.set()

    def _note(self, *, done: bool) -> None:
        at = time.time()
        self._worker.reloads.note(done=done, at=at)
        if self._siblings is not None:
            self._siblings.tell_reload(done=done, at=at)

    async def _watch(self) -> None:
        """With `watch: on`, reload when the content of a file has changed.

        Of several workers the first one does this; if it is stopped, the next one.
        """
        place = 0 if self._siblings is None else self._siblings.place
        while True:
            if self.file.settings.watch:
                await trio.sleep(INTERVAL)
                files, heard = self._files, self._heard
                if files.have_changed():
                    await trio.sleep(place * IN_TURN)
                    if self._files is files and self._heard == heard:
                        self.reload()
            else:
                self._changed = trio.Event()
                await self._changed.wait()


def _read(name: str) -> tuple[SettingsFile, WatchedFiles]:
    if Path(name).is_fifo() or Path(name).is_char_device():
        message = f"{name}: cannot be read again: it is not a regular file"
        raise Failure(message, BAD_CONFIGURATION)
    file = read_file(name)
    return file, WatchedFiles(file)


def _reread(source: tuple[str, str]) -> tuple[SettingsFile, WatchedFiles]:
    file = read_text(*source)
    return file, WatchedFiles(file)


def _tell(before: Settings, left: Sockets, read: SettingsFile, sockets: Sockets) -> None:
    """Log what has changed, and new warnings."""
    known = {(risk.path, risk.message) for risk in all_risks(before)}
    found = [risk for risk in all_risks(read.settings) if risk[:2] not in known]
    for warning in warnings(read, found):
        log.warning("%s", warning)
    for line in changes(before, read.settings):
        at_start = line.partition(":")[0] in _AT_START
        log.info("%s%s", line, " (from the next start on, or after SIGUSR2)" * at_start)
    for listener, sock in zip(read.settings.listeners, sockets.clients, strict=True):
        if sock not in left.clients:
            log.info("listening on %s", bound(listener.bind, sock))
    admin = sockets.admin
    if read.settings.admin is not None and admin is not None and admin is not left.admin:
        log.info("admin listener on %s", bound(read.settings.admin.bind, admin))
