"""Requests at a given rate, whatever becomes of them, and their origin, each in its own process.

    python -m tests.workers.traffic origin PORT
    python -m tests.workers.traffic clients PORT RATE

Both run until their standard input ends, then print what they have seen as JSON.  All bytes are
prepared by hand: this generator costs less than what it measures.  Half of the requests are POSTs,
half come in HTTP/2, one in seventeen takes 50 ms.  Each has a number, which its answer must repeat.
"""

from __future__ import annotations

import heapq
import json
import math
import os
import select
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from contextlib import suppress
from typing import NamedTuple

from tests.h2_peer import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    number,
)

#: Connections of HTTP/1.1 at most, and of HTTP/2.
SINGLE, MULTIPLEXED = 64, 8
SLOW, SLOW_EVERY = 0.05, 17
#: Seconds to wait for the last answers.
LAST = 5.0
#: Digits of a number; they are the body of its answer.
DIGITS = 10
BODY = b"x" * 64
READ = select.EPOLLIN | select.EPOLLRDHUP
BROKEN = select.EPOLLERR | select.EPOLLHUP

_ANSWER = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: %d\r\n\r\n" % DIGITS
_H1 = {
    method: method + b" /%d/%010d HTTP/1.1\r\nHost: load.test\r\n" + rest
    for method, rest in (
        (b"GET", b"\r\n"),
        (b"POST", b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY),
    )
}


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _block(method: bytes) -> bytes:
    found = _literal(b":method", method) + _literal(b":scheme", b"http")
    return found + _literal(b":authority", b"load.test") + b"\x00\x05:path" + bytes([3 + DIGITS])


_BLOCKS = {method: _block(method) for method in (b"GET", b"POST")}
_LENGTH = _literal(b"content-length", b"%d" % len(BODY))


class Request(NamedTuple):
    """One request: its number, and how long its answer takes."""

    number: int
    method: bytes
    slow: bool

    @property
    def path(self) -> bytes:
        return b"/%d/%010d" % (self.slow, self.number)


# -- clients -----------------------------------------------------------------------------------


class Client(ABC):
    """One connection.  It is `open` once connected; what is sent before waits."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.open = False
        self.unread = b""
        self.unsent = b""
        self.sock = socket.socket()
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.connect_ex(("127.0.0.1", load.port))
        self.fd = self.sock.fileno()
        load.clients[self.fd] = self
        load.epoll.register(self.fd, READ | select.EPOLLOUT)

    def send(self, data: bytes) -> None:
        self.unsent += data
        if self.open:
            self.flush()

    def flush(self) -> None:
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(repr(error))

    def on_event(self, events: int) -> None:
        if not self.open:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.end(os.strerror(error), refused=True)
                return
            self.open = True
            self.load.epoll.modify(self.fd, READ)
            self.flush()
        if events & (READ | BROKEN):
            self.read()

    def read(self) -> None:
        try:
            while self.fd >= 0:
                data = self.sock.recv(65536)
                if not data:
                    self.end("closed")
                    return
                self.unread += data
                self.take()
                if len(data) < 65536:
                    return
        except BlockingIOError:
            pass
        except OSError as error:
            self.end(repr(error))

    def close(self) -> None:
        if self.fd >= 0:
            self.load.epoll.unregister(self.fd)
            del self.load.clients[self.fd]
            self.sock.close()
            self.fd = -1

    def end(self, why: str, *, refused: bool = False) -> None:
        """The server has ended the connection."""
        lost = self.lost()
        announced = self.announced
        self.close()
        self.load.on_end(self, lost, why, refused=refused, announced=announced)

    @property
    @abstractmethod
    def announced(self) -> bool:
        """Whether the server has said before that it would close."""

    @abstractmethod
    def take(self) -> None:
        """Take what is complete of what has been read."""

    @abstractmethod
    def lost(self) -> list[Request]:
        """The requests without an answer."""


class Single(Client):
    """HTTP/1.1: one request at a time."""

    announced = False

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.request: Request | None = None

    def ask(self, request: Request) -> None:
        self.request = request
        self.send(_H1[request.method] % (request.slow, request.number))

    def take(self) -> None:
        head, mark, body = self.unread.partition(b"\r\n\r\n")
        if not mark or (head.startswith(b"HTTP/1.1 200") and len(body) < DIGITS):
            return
        request, self.request, self.unread = self.request, None, b""
        assert request is not None, self.unread
        closes = b"\r\nConnection: close" in head
        self.load.answered(request, head[9:12], body)
        if closes or head[9:12] != b"200":
            self.close()
        else:
            self.load.rested(self)

    def lost(self) -> list[Request]:
        return [] if self.request is None else [self.request]


class Multiplexed(Client):
    """HTTP/2: any number of requests at a time."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self.asked: dict[int, Request] = {}
        self.statuses: dict[int, bytes] = {}
        self.next = 1
        self.leaving = False
        self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, number(1 << 30)))

    @property
    def announced(self) -> bool:
        return self.leaving

    def ask(self, request: Request) -> None:
        stream = self.next
        self.next += 2
        self.asked[stream] = request
        posts = request.method == b"POST"
        flags = END_HEADERS if posts else END_HEADERS | END_STREAM
        block = _BLOCKS[request.method] + request.path
        if posts:
            self.send(
                frame(HEADERS, flags, stream, block + _LENGTH)
                + frame(DATA, END_STREAM, stream, BODY)
            )
        else:
            self.send(frame(HEADERS, flags, stream, block))

    def take(self) -> None:
        data, at = self.unread, 0
        while len(data) - at >= 9:
            end = at + 9 + int.from_bytes(data[at : at + 3], "big")
            if end > len(data):
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[at + 9 : end])
            at = end
        self.unread = data[at:]
        if self.leaving and not self.asked:
            self.close()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:  # `:status: 200` is the eighth line of HPACK's own table
            self.statuses[stream] = b"200" if payload[:1] == b"\x88" else payload[:8]
        elif kind == DATA and flags & END_STREAM:
            self.load.answered(self.asked.pop(stream), self.statuses.pop(stream), payload)
            return
        elif kind == RST_STREAM and (request := self.asked.pop(stream, None)) is not None:
            code = int.from_bytes(payload, "big")
            if code == REFUSED_STREAM:
                self.load.again(request)
            else:
                self.load.failed(request, f"reset with {code}")
        elif kind == GOAWAY:
            self.leaving = True
            last = int.from_bytes(payload[:4], "big")
            for beyond in [one for one in self.asked if one > last]:
                self.load.again(self.asked.pop(beyond))
        elif kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        if kind == HEADERS and flags & END_STREAM:
            self.load.failed(self.asked.pop(stream), "no body")

    def lost(self) -> list[Request]:
        return list(self.asked.values())


class Load:
    """All clients of one process, and what has become of their requests."""

    def __init__(self, port: int, rate: float) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.resting: list[Single] = []
        self.waiting: deque[Request] = deque()
        self.begun: dict[int, float] = {}
        self.times: list[float] = []
        self.asked_again = 0
        self.failures: list[tuple[float, int, str, str]] = []
        self.ends: list[tuple[float, int, str]] = []  # of connections, without a word before
        self.down_at: float | None = None
        self._rate = rate
        self._sent = 0

    def run(self) -> None:
        """Ask until standard input ends, then wait for the answers still to come."""
        self.epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
        began, over_at = time.monotonic(), math.inf
        while over_at == math.inf or (self.begun and time.monotonic() < over_at):
            if over_at == math.inf and self.down_at is None:
                due = int((time.monotonic() - began) * self._rate)
                while self._sent < due:
                    self._ask_next()
            for fd, events in self.epoll.poll(0.001):
                if not fd:
                    over_at = time.monotonic() + LAST
                    self.epoll.unregister(0)
                elif (client := self.clients.get(fd)) is not None:
                    client.on_event(events)

    def _ask_next(self) -> None:
        count = self._sent = self._sent + 1
        # One process numbers its requests apart from all others.
        found = Request(
            os.getpid() % 1000 * 10_000_000 + count,
            b"POST" if count & 2 else b"GET",
            count % SLOW_EVERY == 0,
        )
        self.begun[found.number] = time.monotonic()
        self._give(found)

    def _give(self, request: Request) -> None:
        if request.number & 1:
            ready = [one for one in self.clients.values() if isinstance(one, Multiplexed)]
            ready = [one for one in ready if not one.leaving]
            if len(ready) < MULTIPLEXED:
                ready.append(Multiplexed(self))
            ready[self._sent // 2 % len(ready)].ask(request)
        elif self.resting:
            self.resting.pop().ask(request)
        elif len(self.clients) < SINGLE + MULTIPLEXED:
            Single(self).ask(request)
        else:
            self.waiting.append(request)

    def rested(self, client: Single) -> None:
        if self.waiting:
            client.ask(self.waiting.popleft())
        else:
            self.resting.append(client)

    def answered(self, request: Request, status: bytes, body: bytes) -> None:
        if status != b"200" or body != b"%010d" % request.number:
            self.failed(request, f"{status!r} {body[:40]!r}")
        else:
            self.times.append(time.monotonic() - self.begun.pop(request.number))

    def again(self, request: Request) -> None:
        """The server has said that it did nothing with a request."""
        self.asked_again += 1
        self._give(request)

    def failed(self, request: Request, why: str) -> None:
        protocol = "h2" if request.number & 1 else "http/1.1"
        method = f"{request.method.decode()} in {protocol}"
        self.failures.append((time.monotonic(), request.number, method, why))
        del self.begun[request.number]

    def on_end(
        self, client: Client, lost: list[Request], why: str, *, refused: bool, announced: bool
    ) -> None:
        if client in self.resting:
            self.resting.remove(client)
        if refused:
            self.down_at = self.down_at or time.monotonic()
            for request in (*lost, *self.waiting):  # never sent
                del self.begun[request.number]
            self.waiting.clear()
            return
        if not announced or lost:
            self.ends.append((time.monotonic(), len(lost), why))
        for request in lost:
            self.failed(request, why)

    def told(self) -> dict[str, object]:
        """What has become of the requests, and of connections that ended without a word."""
        times = sorted(self.times)
        return {
            "answered": len(times),
            "again": self.asked_again,
            "unanswered": len(self.begun),
            "failures": self.failures,
            "ends": self.ends,
            "down_at": self.down_at,
            "median": times[len(times) // 2] if times else None,
            "p99": times[len(times) * 99 // 100] if times else None,
            "cpu": time.process_time(),
        }


# -- the origin --------------------------------------------------------------------------------


class Origin:
    """Answers each request with its number; after an upgrade it repeats what it gets."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._unread: dict[int, bytes] = {}
        self._socks: dict[int, socket.socket] = {}
        self._upgraded: set[int] = set()
        self._late: list[tuple[float, int, bytes]] = []
        self._posts: Counter[int] = Counter()

    def run(self) -> None:
        """Serve until standard input ends."""
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(0, select.EPOLLIN | select.EPOLLHUP)
        while True:
            wait = self._late[0][0] - time.monotonic() if self._late else 1.0
            for fd, _ in self._epoll.poll(max(0.0, wait)):
                if not fd:
                    return
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._read(fd)
            while self._late and self._late[0][0] <= time.monotonic():
                _, fd, answer = heapq.heappop(self._late)
                self._send(fd, answer)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socks[sock.fileno()] = sock
        self._unread[sock.fileno()] = b""
        self._epoll.register(sock, select.EPOLLIN)

    def _read(self, fd: int) -> None:
        try:
            data = self._socks[fd].recv(65536)
        except OSError:
            data = b""
        if not data:
            self._late = [late for late in self._late if late[1] != fd]
            heapq.heapify(self._late)
            self._upgraded.discard(fd)
            self._socks.pop(fd).close()
        elif fd in self._upgraded:
            self._send(fd, data)
        else:
            self._take(fd, self._unread[fd] + data)

    def _take(self, fd: int, data: bytes) -> None:
        head, mark, body = data.partition(b"\r\n\r\n")
        posts = head.startswith(b"POST")
        self._unread[fd] = data
        if not mark or (posts and len(body) < len(BODY)):
            return
        self._unread[fd] = b""
        if b"\nUpgrade:" in head:
            self._upgraded.add(fd)
            self._send(fd, b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            return
        _, slow, digits = head.split(b" ", 2)[1].split(b"/")
        self._posts[int(digits)] += posts
        answer = _ANSWER + digits
        if slow == b"1":
            heapq.heappush(self._late, (time.monotonic() + SLOW, fd, answer))
        else:
            self._send(fd, answer)

    def _send(self, fd: int, data: bytes) -> None:
        with suppress(OSError):  # it shows at the next read
            self._socks[fd].send(data)

    def told(self) -> dict[str, object]:
        """The POSTs that came, and those that came more than once."""
        twice = [number for number, seen in self._posts.items() if seen > 1]
        return {"posts": sum(self._posts.values()), "twice": twice, "cpu": time.process_time()}


def main(what: str, port: str, rate: str = "0") -> None:
    """Run one of the two, and print what it has seen."""
    made = Origin(int(port)) if what == "origin" else Load(int(port), float(rate))
    print("ready", flush=True)
    made.run()
    print(json.dumps(made.told()))


if __name__ == "__main__":
    main(*sys.argv[1:])
