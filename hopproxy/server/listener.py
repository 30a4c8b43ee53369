"""Listening sockets, and accepting from them when the watch reports an event.

No task accepts: a listening socket is watched like any link, and passes each connection to the
gateway.  All workers accept from the same sockets; one that has more connections than another steps
back for a moment.  If `max_connections` are open, the longest idle one is closed to make room; if
none is idle, new connections wait in the kernel's queue.
"""

import contextlib
import errno
import math
import os
import select
import socket
import stat
from weakref import WeakKeyDictionary

from hopproxy.link.faults import report
from hopproxy.link.shortage import NONE_LEFT
from hopproxy.link.tcp import ignore_newcomers, tune
from hopproxy.reasons import Hop
from hopproxy.server.entrance import Entrance
from hopproxy.server.gateway import Gateway
from hopproxy.server.passed import PASSED
from hopproxy.server.runtime import Runtime
from hopproxy.settings.client import LinkSettings
from hopproxy.settings.units import Bind

#: Most connections accepted in a row (3 ms of work), and seconds until the next ones.
BATCH, TURN = 32, 0.0
#: Seconds for which a worker leaves connections to one that has fewer.
STEP_BACK = 0.001
#: Seconds for which the other may accept none of them.  After that it counts as stopped, and the
#: worker keeps what comes for so many seconds before it leaves one to the other again.
PATIENCE, KEPT = 0.02, 0.01
#: Seconds to wait if no file descriptor is left.
PAUSE = 0.1
#: Seconds to wait if `max_connections` are open and none is idle.
FULL_PAUSE = 0.01


class CannotBind(Exception):
    """An address that we cannot listen on; `in_use` if another process listens there."""

    def __init__(self, message: str, *, in_use: bool = False) -> None:
        super().__init__(message)
        self.in_use = in_use


def bound(bind: Bind, sock: socket.socket) -> Bind:
    """Where `sock`, opened for `bind`, listens: port 0 is replaced by the port chosen for it."""
    if bind.kind == "unix":
        return bind
    if bind.kind == "tcp":
        return Bind("tcp", bind.host, sock.getsockname()[1])
    if sock.family == socket.AF_UNIX:
        return Bind("unix", path=str(sock.getsockname()))
    return Bind("tcp", *sock.getsockname()[:2])


#: The path of each Unix socket we listen on, and the identity of its file.
_files: "WeakKeyDictionary[socket.socket, tuple[str, tuple[int, int]]]" = WeakKeyDictionary()


def open_listener(
    bind: Bind,
    backlog: int,
    client: LinkSettings | None = None,
    *,
    mode: int | None = None,
    share_port: bool = False,
) -> socket.socket:
    """Open a listening, non-blocking socket.  Raises CannotBind, which says what to do.

    Connections inherit the TCP settings of `client` from it.  `mode` is the mode of a Unix socket's
    file, None for what the umask leaves.  With `share_port` another socket
    with SO_REUSEPORT may have the same port.  Close it with `close_listener`.
    """
    if bind.kind == "passed":
        return _open_passed(bind, client)
    family = socket.AF_UNIX
    target: str | tuple[str, int] = bind.path
    if bind.kind == "tcp":
        every = not bind.host and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if ":" in bind.host or every else socket.AF_INET
        target = (bind.host, bind.port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if bind.kind == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6 and bind.host in ("", "::"):
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4 as well
            sock.bind(target)
        else:
            _bind_file(sock, bind.path, mode)
        if client is not None:
            tune(sock, nodelay=client.tcp_nodelay, keepalive=client.tcp_keepalive)
        sock.listen(backlog)
        if share_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    except OSError as error:
        close_listener(sock)
        message = f"cannot listen on {bind}: {_explained(bind, error)}"
        raise CannotBind(message, in_use=error.errno == errno.EADDRINUSE) from error
    sock.setblocking(False)
    return sock


def _open_passed(bind: Bind, client: LinkSettings | None) -> socket.socket:
    sock = PASSED.open(str(bind))
    if sock is None:
        there = ", ".join(PASSED.collect()) or "none was"
        message = f"cannot listen on {bind}: no such listening socket was passed to this process"
        raise CannotBind(f"{message} ({there})")
    if client is not None:
        tune(sock, nodelay=client.tcp_nodelay, keepalive=client.tcp_keepalive)
    sock.setblocking(False)
    return sock


def close_listener(sock: socket.socket) -> None:
    """Close a listening socket and remove its file, unless another process has replaced the file.

    Also removes the file of a socket that is closed already.
    """
    path, own = _files.pop(sock, ("", None))
    with contextlib.suppress(OSError):
        if path and own == _identity(path):
            os.unlink(path)
    sock.close()


def disown(sock: socket.socket) -> None:
    """Another process removes the file of this Unix socket."""
    _files.pop(sock, None)


def pass_on(sock: socket.socket, copy: socket.socket) -> None:
    """This copy of a listening socket removes its file from now on."""
    if sock in _files:
        _files[copy] = _files.pop(sock)


def _bind_file(sock: socket.socket, path: str, mode: int | None) -> None:
    """Bind to a path.  The file is created with its final mode, never with a wider one."""
    _remove_stale(path)
    before = None if mode is None else os.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    finally:
        if before is not None:
            os.umask(before)
    _files[sock] = path, _identity(path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _remove_stale(path: str) -> None:
    """Remove the socket file of a process that is gone.  If it is in use, it stays."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog would block
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
        except OSError:
            pass


_TCP_HINTS = {
    errno.EADDRINUSE: "another process listens there: stop it, or choose another port",
    errno.EACCES: "not permitted: take a port above 1023, or grant the capability",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
}
_UNIX_HINTS = {
    errno.EADDRINUSE: "another process listens there, or the file is not a socket, or we may not "
    "remove it: stop the process, or choose another path",
    errno.EACCES: "not permitted to create a file in its directory",
    errno.ENOENT: "its directory does not exist",
}


def _explained(bind: Bind, error: OSError) -> str:
    hints = _TCP_HINTS if bind.kind == "tcp" else _UNIX_HINTS
    return hints.get(error.errno or 0, error.strerror or str(error))


class Intake:
    """Accepts from one listening socket, which its owner closes."""

    def __init__(
        self, listener: socket.socket, runtime: Runtime, gateway: Gateway, entrance: Entrance
    ) -> None:
        self._listener = listener
        #: Its family and type as plain numbers: `socket.accept` makes two Enum members each time.
        self._kind = int(listener.family), int(socket.SOCK_STREAM)
        self._entrance = entrance
        self._runtime = runtime
        self._gateway = gateway
        board = runtime.board
        self._board = board if board is not None and board.is_shared else None
        self._paused = False
        self._stepped_back = False
        #: When it stepped back first and nobody accepted, if nobody has since.
        self._alone_since = math.inf
        self._keeps_until = -math.inf  # the other counts as stopped until then
        self.fd = listener.fileno()
        self.closed = self.readable = self.urgent = False
        self.timer_at = math.inf
        self._queue = select.poll()
        self._queue.register(listener, select.POLLIN)
        runtime.watch.add(self)

    def close(self) -> None:
        """Stop accepting."""
        if not self.closed:
            self.closed = True
            self._runtime.watch.remove(self)

    def accept_rest(self) -> None:
        """Accept every connection that waits in the kernel's queue, then stop accepting.

        Closing a socket resets the connections in its queue, so new ones are prevented first.
        Where that is not possible, the queue is made as short as possible.
        """
        ignore_newcomers(self._listener)
        with contextlib.suppress(OSError):
            self._listener.listen(0)
        while not self.closed and self._accept() in (TURN, STEP_BACK):
            pass
        self.close()

    def on_fault(self, error: Exception) -> None:
        """An unexpected exception: that connection is closed; accepting goes on."""
        report(error, "a connection that was accepted")
        self._runtime.closes.add_fault(Hop.CLIENT, "", self._runtime.watch.now())
        self._pause_for(TURN)

    def on_ready(self, hung_up: bool) -> None:
        """There are connections to accept."""
        if not self._paused:
            self._pause_for(self._accept())

    def on_time(self, now: float) -> float:
        """A pause is over."""
        self._paused = False
        self._pause_for(self._accept())
        return math.inf

    def _pause_for(self, seconds: float | None) -> None:
        if seconds == TURN:
            self._runtime.watch.look_again(self)
        elif seconds is not None:
            self._paused = True
            self._runtime.watch.wake_at(self, self._runtime.watch.now() + seconds)

    def _accept(self) -> float | None:
        """Accept connections; return after how many seconds to continue, None if none is left."""
        gateway, clients, board = self._gateway, self._runtime.clients, self._board
        entrance, now = self._entrance, self._runtime.watch.now
        for _ in range(BATCH):
            if board is not None and not self._stepped_back:
                if not board.is_ahead():
                    self._relieved()
                elif now() >= self._keeps_until:
                    self._stepped_back = True
                    return STEP_BACK
            if len(clients.links) >= clients.limit:
                if not self._queue.poll(0):
                    return None
                gateway.shed()
                if len(clients.links) >= clients.limit:
                    return FULL_PAUSE
            try:
                number, address = self._listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                if self._stepped_back:  # another worker has accepted it
                    self._stepped_back = False
                    self._relieved()
                return None
            except OSError as error:
                if error.errno in NONE_LEFT:
                    gateway.shed()
                    return PAUSE
                continue  # the client has left already
            if self._stepped_back:  # no other worker has
                self._stepped_back = False
                self._unrelieved(now())
            sock = socket.socket(*self._kind, 0, number)
            try:
                if self._kind[0] == socket.AF_UNIX:
                    gateway.admit(sock, entrance)
                else:
                    gateway.admit(sock, entrance, address[0], address[1])
            except BaseException:
                sock.close()
                raise
        return TURN

    def _relieved(self) -> None:
        """Another worker accepts as well."""
        self._alone_since = math.inf
        self._keeps_until = -math.inf

    def _unrelieved(self, now: float) -> None:
        """It stepped back, and no other worker accepted."""
        self._alone_since = min(self._alone_since, now)
        if now >= self._alone_since + PATIENCE:
            self._keeps_until = now + KEPT
