"""Many keep-alive clients from one thread: raw sockets, one request at a time on each."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

SILENCE = 10.0
"""Seconds without any response after which the load gives up."""


@dataclass
class Answer:
    """One request of the load and what came back for it."""

    client: int
    number: int
    status: int
    body: bytes
    seconds: float


@dataclass
class _Client:
    sock: socket.socket
    index: int
    number: int = -1
    started: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def load(
    port: int, clients: int, requests: int, target: Callable[[int], str] = lambda _: "/"
) -> list[Answer]:
    """Send `requests` GETs over `clients` connections; `target` names each by its number.

    Raises AssertionError when a client is closed or nothing comes for SILENCE seconds.
    """
    answers: list[Answer] = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
        for index in range(min(clients, requests)):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            client = _Client(sock, index)
            selector.register(client.sock, selectors.EVENT_READ, client)
            _ask(client, index, target(index))
        following = min(clients, requests)
        while len(answers) < requests:
            ready = selector.select(SILENCE)
            assert ready, f"silence after {len(answers)} answers"
            for key, _ in ready:
                answer = _read(key.data)
                if answer is None:
                    continue
                answers.append(answer)
                if following < requests:
                    _ask(key.data, following, target(following))
                    following += 1
    return answers


def paced(port: int, clients: int, seconds: float, pause: float, target: str = "/") -> list[Answer]:
    """Send a GET every `pause` seconds on each connection; times count from when it was due.

    A client whose answer is late asks again at once, so that a stall shows in every request it
    held up.  Raises as `load`.
    """
    answers: list[Answer] = []
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
        began = time.monotonic()
        waiting: list[_Client] = []
        for index in range(clients):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            client = _Client(sock, index, started=began + pause * index / clients)
            selector.register(client.sock, selectors.EVENT_READ, client)
            waiting.append(client)
        asked = 0
        while waiting or asked:
            now = time.monotonic()
            for client in [one for one in waiting if one.started <= now]:
                waiting.remove(client)
                due = client.started
                _ask(client, client.number + 1, target)
                client.started = due
                asked += 1
            next_due = min((client.started for client in waiting), default=now + SILENCE)
            ready = selector.select(max(0.0, min(next_due - now, SILENCE)))
            assert ready or waiting, f"silence after {len(answers)} answers"
            for key, _ in ready:
                client = key.data
                answer = _read(client)
                if answer is None:
                    continue
                answers.append(answer)
                asked -= 1
                client.started += pause
                if client.started < began + seconds:
                    waiting.append(client)
    return answers


def _ask(client: _Client, number: int, target: str) -> None:
    client.number, client.started = number, time.monotonic()
    client.sock.sendall(f"GET {target} HTTP/1.1\r\nHost: peers.test\r\n\r\n".encode())


def _read(client: _Client) -> Answer | None:
    """Take what has come; return the answer once its body is whole."""
    data = client.sock.recv(65536)
    assert data, f"client {client.index} was closed"
    client.received += data
    head, separator, body = bytes(client.received).partition(b"\r\n\r\n")
    if not separator or len(body) < _length(head):
        return None
    client.received.clear()
    seconds = time.monotonic() - client.started
    return Answer(client.index, client.number, int(head[9:12]), body, seconds)


def _length(head: bytes) -> int:
    """Return the Content-Length of a head; the load asks only for bodies that have one."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise AssertionError(f"no Content-Length in {head!r}")
