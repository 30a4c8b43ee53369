"""The messages of a worker to and from the others, which all go through the supervisor.

A question reaches every other worker together with a pipe for the answer.  A stopped worker does
not answer in time; if a worker ends, its pipe closes.
"""

import contextlib
import marshal
import os
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import trio

from hopproxy.server.board import Board
from hopproxy.server.channel import Channel, Ended, Message, content, in_memory
from hopproxy.server.sockets import Sockets, hand_over
from hopproxy.settings.schema import Settings

#: Seconds in which the others must answer.
PATIENCE = 1.0
#: Seconds between two reports of what is counted.
REPORT = 2.0
#: Bytes read at once from a pipe.
PIECE = 256 * 1024

#: Questions and answers are plain values.
Question = Any


class Part(NamedTuple):
    """The answer of one other worker; None if there is none."""

    place: int
    pid: int
    answer: Any


class Whole(NamedTuple):
    """The answers of all other workers, and the counts of ended and silent ones."""

    parts: list[Part]
    past: dict[Any, float]


class Unheard(Exception):
    """The supervisor does not answer: nobody knows what the other workers have counted."""


class Member(Protocol):
    """The worker, as messages see it."""

    def stop(self) -> None:
        """Drain; stop at once if called a second time."""

    def retire(self) -> None:
        """Drain, and leave the listening sockets to others, which already accept."""

    def reload(self) -> None:
        """Read the settings file anew."""

    def change(self, message: Message) -> None:
        """Take over the settings and sockets of another worker, which this message brings."""

    def note_reload(self, *, done: bool, at: float) -> None:
        """Another worker has read the settings file again, with or without success."""

    def recall_reload(self, last_at: float, in_use_since: float, *, failed: bool) -> None:
        """When settings were last read, perhaps before this worker was started."""


class Siblings:
    """The other workers."""

    def __init__(self, channel: Channel, board: Board, place: int, workers: int) -> None:
        self.board = board
        self.place = place
        self.workers = workers
        #: Answers a question of another worker, and makes the report of our counters.
        self.answer: Callable[[Question], Awaitable[Any]] | None = None
        self.count: Callable[[], dict[Any, float]] | None = None
        #: Changes whenever a counter does.
        self.stamp: Callable[[], object] | None = None
        self._learn: Callable[[Any, Any], None] | None = None
        self._learned: list[Any] = []  # received before `teach` was called
        self._channel = channel
        self._asked = 0
        self._open: dict[int, trio.MemorySendChannel[Message]] = {}

    async def run(
        self, member: Member, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Obey messages until cancelled.  If the supervisor has ended, drain."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            task_status.started()
            while True:
                try:
                    message = self._channel.receive()
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._channel.fileno())
                except Ended:
                    member.stop()
                    nursery.cancel_scope.cancel()
                    return
                else:
                    self._take(message, member, nursery)

    def _take(self, message: Message, member: Member, nursery: trio.Nursery) -> None:
        kind, body, fds = message.kind, message.body, message.fds
        if kind == "stop":
            member.stop()
        elif kind == "retire":
            member.retire()
        elif kind == "reload":
            self._channel.send("reading")
            member.reload()
        elif kind == "changed":
            member.change(message)
            return
        elif kind == "reloaded":
            member.note_reload(done=body[0], at=body[1])
        elif kind == "last_reload":
            member.recall_reload(body[0], body[1], failed=body[2])
        elif kind == "learned":
            if self._learn is None:
                self._learned.append(body)
            else:
                self._learn(*body)
        elif kind == "question":
            nursery.start_soon(self._answer, body, fds.pop())
        elif kind == "parts" and (waiting := self._open.pop(body[0], None)) is not None:
            waiting.send_nowait(message)
            return
        message.close()

    async def _answer(self, question: Question, pipe: int) -> None:
        async with trio.lowlevel.FdStream(pipe) as stream:
            if self.answer is not None:
                answer = marshal.dumps(await self.answer(question))
                self.report()  # what was counted must not be lost
                with trio.move_on_after(PATIENCE):
                    # Perhaps nobody waits for the answer any more.
                    with contextlib.suppress(trio.BrokenResourceError):
                        await stream.send_all(answer)

    async def ask(self, question: Question) -> Whole:
        """Ask all others; waits at most PATIENCE seconds for those that do not answer.

        Raises Unheard.
        """
        self.report()
        self._asked = number = self._asked + 1
        send, receive = trio.open_memory_channel[Message](1)
        self._open[number] = send
        answers: dict[int, Any] = {}
        heard = False
        with trio.move_on_after(PATIENCE):
            self._channel.send("ask", (number, question))
            message = await receive.receive()
            heard = True
            roster, reported = message.body[1:]
            counted = [_taken(fd) for fd in message.fds[: 1 + len(reported)]]
            asked = [place for place, _, was_asked in roster if was_asked]
            async with trio.open_nursery() as nursery:
                for place, pipe in zip(asked, message.fds[len(counted) :], strict=True):
                    nursery.start_soon(_read, pipe, place, answers)
        self._open.pop(number, None)
        if not heard:
            raise Unheard
        past, reports = counted[0], dict(zip(reported, counted[1:], strict=True))
        parts = [Part(at, pid, answers.get(at)) for at, pid, _ in roster]
        for part in parts:
            if part.answer is None:  # its last report still counts
                for key, count in reports.get(part.place, {}).items():
                    past[key] = past.get(key, 0) + count
        return Whole(parts, past)

    def teach(self, learn: Callable[[Any, Any], None]) -> None:
        """Pass on to `learn` what other workers learn about origins, and have learned so far."""
        self._learn = learn
        for origin, found in self._learned:
            learn(origin, found)
        self._learned = []

    def tell_learned(self, origin: Any, found: Any) -> None:  # noqa: ANN401
        """Send the others what was learned about an origin."""
        self._channel.send("learned", (origin, found))

    async def _report(self) -> None:
        """Report changes now and then, so that little is lost if this worker is killed."""
        before = None
        while True:
            await trio.sleep(REPORT)
            if self.stamp is not None and (now := self.stamp()) != before:
                before = now
                self.report()

    def report(self) -> None:
        """Send our counters to the supervisor, so that they outlive this worker."""
        if self.count is not None:
            fd = in_memory(marshal.dumps(self.count()))
            self._channel.send("report", None, [fd])
            os.close(fd)

    def publish(self, source: tuple[str, str], settings: Settings, sockets: Sockets) -> None:
        """Make the others take over these settings, read from `source`, and their sockets."""
        hand_over(self._channel, "changed", source, settings, self.workers, sockets)

    def tell_reload(self, *, done: bool, at: float) -> None:
        """Tell the others that the settings file was read again, with or without success."""
        self._channel.send("reloaded", (done, at))

    def tell_report(self, ended: int, cut: int, lost: int) -> None:
        """Send the supervisor the result of this worker's drain."""
        self._channel.send("drained", (ended, cut, lost))

    def serving(self) -> None:
        """This worker serves now."""
        self.board.serve()
        self._channel.send("serving")


def _taken(fd: int) -> dict[Any, float]:
    """The counters in a file in memory, which is closed."""
    try:
        found: dict[Any, float] = marshal.loads(content(fd))
    finally:
        os.close(fd)
    return found


async def _read(pipe: int, place: int, answers: dict[int, Any]) -> None:
    """Read the answer of one worker; leaves none if it ends before its answer is complete."""
    read: list[bytes] = []
    async with trio.lowlevel.FdStream(pipe) as stream:
        while piece := await stream.receive_some(PIECE):
            read.append(piece)
    try:
        answers[place] = marshal.loads(b"".join(read))
    except (EOFError, ValueError, TypeError):
        return
