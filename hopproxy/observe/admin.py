import socket

import trio

from hopproxy.observe.access_log import AccessLog
from hopproxy.runtime import Runtime


class Admin:
    def __init__(self, runtime: Runtime, access_log: AccessLog | None) -> None:
        self._runtime = runtime

    async def run(self, listener: socket.socket) -> None:
        await trio.sleep_forever()
