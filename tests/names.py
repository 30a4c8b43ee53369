"""Names that resolve as a test says, in the time of its trio run: no thread, no resolver."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from hopproxy.pool.resolver import Answer, LookUp, Resolver
from hopproxy.pool.service_records import Records


class Names:
    """Answers each look-up after `delay` seconds: `addresses`, or `failure`.

    `delays` is for single names, `records` the answer for a service.  `asked` are the names of all
    look-ups, in order.
    """

    def __init__(self, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nursery = nursery
        self.addresses: Sequence[str] = ("127.0.0.1",)
        self.failure: Exception | None = None
        self.delay = 0.0
        self.delays: dict[str, float] = {}
        self.asked: list[str] = []
        self.records = Records([], 0.0)
        monkeypatch.setattr(Resolver, "_start", self._started)

    @property
    def _started(self) -> Any:
        def start(resolver: Resolver, look_up: LookUp) -> None:
            self.asked.append(look_up.host)
            self._nursery.start_soon(self._answer, resolver, look_up)

        return start

    async def _answer(self, resolver: Resolver, look_up: LookUp) -> None:
        await trio.sleep(self.delays.get(look_up.host, self.delay))
        answer: Answer = self.failure or [self._row(a, look_up.port) for a in self.addresses]
        if look_up.service:
            answer = self.failure or self.records
        resolver._ended(look_up, answer)

    @staticmethod
    def _row(address: str, port: int) -> tuple[Any, ...]:
        if ":" in address:
            return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
        return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)
