"""The listening sockets of a worker, and how they change with the settings."""

import contextlib
import marshal
import os
import socket
from collections.abc import Iterator

from hopproxy.link.tcp import tune
from hopproxy.server.channel import Channel, in_memory
from hopproxy.server.listener import close_listener, disown, open_listener, pass_on
from hopproxy.settings.addresses import meet
from hopproxy.settings.client import Listener
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Bind

#: The backlog of the admin listener.
ADMIN_BACKLOG = 128


class Sockets:
    """The listening sockets of a worker: one for each listener of the settings, and the admin's.

    `moved` has copies of those that the admin listener has given to clients, or the other way
    round: the ones before, and the copies.
    """

    def __init__(self, clients: list[socket.socket], admin: socket.socket | None) -> None:
        self.clients = clients
        self.admin = admin
        self.moved: list[tuple[socket.socket, socket.socket]] = []

    def take(self, sock: socket.socket, *, admin: bool, was_admin: bool) -> None:
        """Go on with a socket from before, in the same role or in the other one."""
        if admin != was_admin:  # whoever had it is going to close it
            before, sock = sock, sock.dup()
            self.moved.append((before, sock))
        self.add(sock, admin=admin)

    def add(self, sock: socket.socket, *, admin: bool) -> None:
        """Listen there too."""
        if admin:
            self.admin = sock
        else:
            self.clients.append(sock)

    def settle(self) -> list[socket.socket]:
        """Those before that have copies, which are theirs now: the files, and what waits there."""
        for before, sock in self.moved:
            pass_on(before, sock)
        return [before for before, _ in self.moved]

    @property
    def every(self) -> list[socket.socket]:
        """All of them, the admin's last."""
        return [*self.clients, *([] if self.admin is None else [self.admin])]

    def end_clients(self) -> None:
        """Stop listening, and remove the files of Unix sockets."""
        for sock in self.clients:
            close_listener(sock)


def rebound(before: Settings, sockets: Sockets, after: Settings) -> Sockets:
    """The sockets for new settings: those whose address stays, and new ones.

    None is closed: the caller closes those that are not in the result.  If a new one cannot be
    opened, raises CannotBind, and all is as before.
    """
    left = list(zip(_binds(before), sockets.every, strict=True))
    found: list[socket.socket | None] = []
    for bind in _binds(after):
        same = next((pair for pair in left if pair[0] == bind), None)
        if same is not None:
            left.remove(same)
        found.append(same and same[1])
    made = Sockets([], None)
    with closed_on_error(made, sockets):
        for at, (sock, bind) in enumerate(zip(found, _binds(after), strict=True)):
            admin = at == len(after.listeners)
            if sock is not None:
                made.take(sock, admin=admin, was_admin=sock is sockets.admin)
                continue
            with _sharing([old for one, old in left if meet(one, bind)]) as share:
                made.add(_open(after, at, share_port=share), admin=admin)
    return made


@contextlib.contextmanager
def closed_on_error(made: Sockets, before: Sockets) -> Iterator[None]:
    """If the block fails, close the sockets that were not there before."""
    try:
        yield
    except BaseException:
        for sock in made.every:
            if sock not in before.every:
                close_listener(sock)
        raise


def names_of(settings: Settings) -> list[str]:
    """A name for each listening socket, the admin listener's last: its address in the settings."""
    names: list[str] = []
    for bind in _binds(settings):
        name = str(bind)
        names.append(f"{name} ({len(names)})" if name in names else name)  # port 0, twice
    return names


def hand_over(
    channel: Channel,
    kind: str,
    source: tuple[str, str],
    settings: Settings,
    workers: int,
    sockets: Sockets,
) -> bool:
    """Pass settings and their sockets on to the supervisor; False if it has ended.

    `source` is the settings file: its name and its text.  From now on the supervisor removes the
    files of Unix sockets.
    """
    text = in_memory(marshal.dumps(source))
    told = workers, names_of(settings), settings.drain_delay + settings.drain_timeout
    sent = channel.send(kind, told, [text, *(sock.fileno() for sock in sockets.every)])
    os.close(text)
    if sent:
        for sock in sockets.every:
            disown(sock)
    return sent


def inherited(before: Settings, sockets: Sockets, after: Settings, held: dict[str, int]) -> Sockets:
    """As `rebound`, for sockets that another worker has opened; takes them out of `held`."""
    ours = dict(zip(names_of(before), sockets.every, strict=True))
    made = Sockets([], None)
    for at, name in enumerate(names_of(after)):
        admin, sock = at == len(after.listeners), ours.get(name)
        if sock is not None:
            made.take(sock, admin=admin, was_admin=sock is sockets.admin)
        else:
            sock = socket.socket(fileno=held.pop(name))
            sock.setblocking(False)
            made.add(sock, admin=admin)
    return made


def adjust(settings: Settings, sockets: Sockets) -> None:
    """Apply new settings to sockets that were kept: backlog, mode, TCP options."""
    for listener, sock in zip(settings.listeners, sockets.clients, strict=True):
        client = listener.client or settings.client
        if listener.bind.kind != "passed":
            sock.listen(listener.backlog)
        # Accepted sockets inherit these options, without a system call each.
        tune(sock, nodelay=client.tcp_nodelay, keepalive=client.tcp_keepalive)
        if listener.bind.kind == "unix":
            with contextlib.suppress(OSError):
                os.chmod(listener.bind.path, listener.mode)


def _binds(settings: Settings) -> list[Bind]:
    """The address of each listening socket, the admin's last."""
    admin = [] if settings.admin is None else [settings.admin.bind]
    return [listener.bind for listener in settings.listeners] + admin


def _open(settings: Settings, at: int, *, share_port: bool) -> socket.socket:
    if at < len(settings.listeners):
        one: Listener = settings.listeners[at]
        return open_listener(
            one.bind,
            one.backlog,
            one.client or settings.client,
            mode=one.mode,
            share_port=share_port,
        )
    assert settings.admin is not None
    return open_listener(settings.admin.bind, ADMIN_BACKLOG, share_port=share_port)


@contextlib.contextmanager
def _sharing(old: list[socket.socket]) -> Iterator[bool]:
    """Allow a new socket to share the port of these old ones, which are about to be closed.

    So `:8080` can replace `127.0.0.1:8080` while that still accepts.  Only a process of the same
    user with SO_REUSEPORT could join in.
    """
    for sock in old:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield bool(old)
    finally:
        for sock in old:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
