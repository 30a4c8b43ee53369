"""One line for each exchange, as JSON or as text, written in batches."""

import os

import trio

from hopproxy.record import ExchangeRecord


class AccessLog:
    def __init__(self, style: str, fd: int) -> None:
        self._fd = fd

    def __call__(self, record: ExchangeRecord) -> None:
        os.write(self._fd, f"{record.status} {record.cause} {record.detail}\n".encode())

    async def run(self) -> None:
        await trio.sleep_forever()
