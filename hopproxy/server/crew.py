"""The workers, and what they inherit: sockets, settings, counts."""

import contextlib
import math
import os
import select
import socket
from collections.abc import Sequence

from hopproxy.server.board import clear, new_board
from hopproxy.server.channel import Channel, close_all, in_memory
from hopproxy.server.passed import PASSED
from hopproxy.server.past import Past
from hopproxy.server.place import Place
from hopproxy.server.socket_files import SocketFiles
from hopproxy.server.takeover import Inheritance, inherited_from


class Crew:
    """`places` have the workers; `retiring` has the workers of the previous program, which serve
    until new ones do.

    `held` are the listening sockets by address, `settings` is the descriptor of the settings, -1
    until a worker has read them, and `grace` how long a drain may take, `grace_before` one of those
    that retire.  The channels of all workers are in `poll`.
    """

    def __init__(self, left: Inheritance | None) -> None:
        self.places = [Place(0)]
        self.retiring: list[Place] = []
        self.held: dict[str, int] = {}
        self.settings = -1
        self.grace = self.grace_before = 0.0
        self.board = new_board() if left is None else new_board(left.board)
        self.past = Past()
        self.files = SocketFiles()
        self.poll = select.poll()
        if left is not None:
            self._follow(left)
        self._passed = PASSED.collect()

    def _follow(self, left: Inheritance) -> None:
        """Take over from the previous program."""
        PASSED.held, self.held = left.passed, left.held
        self.grace = self.grace_before = left.grace
        self.files = SocketFiles(left.files)
        self.past.take_over(left.past)
        close_all([left.past, left.board])
        self.retiring = left.places()
        for place in self.retiring:
            assert place.channel is not None
            self.poll.register(place.channel, select.POLLIN)

    def estate(self) -> Inheritance:
        """What the next program takes over."""
        past = in_memory(self.past.dump_all())
        files = self.files.known
        return inherited_from(
            self.every, self.held, self._passed, files, past, self.board, self.grace
        )

    @property
    def is_beginning(self) -> bool:
        """Whether a worker is about to read the settings and to open the sockets."""
        return self.settings < 0 and self.places[0].pid > 0

    @property
    def every(self) -> list[Place]:
        """The places of all workers, the old ones last."""
        return [*self.places, *self.retiring]

    def name(self, place: Place) -> str:
        """The name of a worker for the log."""
        which = f"worker {place.number}" if len(self.places) > 1 else "the worker"
        return f"{'the old worker' if place in self.retiring else which} (pid {place.pid})"

    # -- one worker --------------------------------------------------------------------------

    def start(self, place: Place) -> None:
        """Start a worker.  Raises OSError."""
        channel = place.start()
        self.poll.register(channel, select.POLLIN)
        first = self.settings < 0
        passed = self._passed
        told = channel.send(
            "begin",
            (place.number, 0 if first else len(self.places), list(self.held), list(passed)),
            [
                self.board,
                *([] if first else [self.settings]),
                *self.held.values(),
                *passed.values(),
            ],
        )
        if told:
            self.past.tell(channel)
        else:
            place.kill()

    def forget(self, place: Place) -> None:
        """A worker has ended: its place is free."""
        self.let_go(place)
        clear(self.board, place.number)

    def let_go(self, place: Place) -> None:
        """A worker has ended: keep what it had counted."""
        if place.channel is not None:
            with contextlib.suppress(KeyError):  # it could not be started
                self.poll.unregister(place.channel)
            place.channel.close()
        place.channel, place.pid, place.serving_since = None, 0, None
        place.kill_at = math.inf
        if place.report >= 0:
            self.past.add(place.report)
            place.take_report(-1)

    # -- all workers ------------------------------------------------------------------------

    def adopt(self, names: list[str], fds: list[int]) -> None:
        """Settings were read and their sockets opened: keep these, and close the earlier ones."""
        close_all([*([self.settings] if self.settings >= 0 else []), *self.held.values()])
        self.settings, *sockets = fds
        self.held = dict(zip(names, sockets, strict=True))
        fds.clear()  # they are ours now
        self.files.note(self.held)

    def give_up_sockets(self) -> None:
        """Close our copies of the sockets: each closes with the last worker that has it."""
        close_all(self.held.values())
        self.held = {}

    def tell_others(
        self, place: Place, kind: str, body: object, fds: Sequence[int] = ()
    ) -> list[Place]:
        """Send a message to all workers except this one and the old ones.

        Returns those that cannot receive it, because they do not read their messages.
        """
        others = [one for one in self.places if one is not place and one.channel is not None]
        return [one for one in others if one.channel and not one.channel.send(kind, body, fds)]

    def ask(self, asker: Place, channel: Channel, number: int, question: object) -> None:
        """Send a question of one worker to all others.

        Each answers on a socket whose other end the asker gets.  The asker also gets the last
        report of each, for workers that do not answer.
        """
        roster: list[tuple[int, int, bool]] = []
        reported = [place for place in self.every if place.report >= 0 and place is not asker]
        past = in_memory(self.past.dump())
        ends: list[int] = []
        for place in self.every:
            if place is asker:
                continue
            asked = False
            if place.channel is not None and place.serving_since is not None:
                theirs, ours = connected()
                asked = place.channel.send("question", question, [ours])
                os.close(ours)
                if asked:
                    ends.append(theirs)
                else:
                    os.close(theirs)
            roster.append((place.number, place.pid, asked))
        counted = [past, *(place.report for place in reported)]
        body = number, roster, [place.number for place in reported]
        channel.send("parts", body, [*counted, *ends])
        close_all([past, *ends])


def connected() -> tuple[int, int]:
    """The descriptors of two connected sockets; some sandboxes forbid pipes."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends[0].detach(), ends[1].detach()
