"""A stop under load: no POST is lost with a second of drain_delay, on kept or new connections."""

from __future__ import annotations

import http.client
import re
import threading
import time
from pathlib import Path

from tests.cli.command import PATIENCE, answering, hopproxy
from tests.ports import free_port


class Posting(threading.Thread):
    """A client that POSTs in a loop, until it is refused: on one connection, or each on its own."""

    def __init__(self, port: int, *, keeps: bool) -> None:
        super().__init__()
        self.answers = 0
        self.lost: list[str] = []
        self._fields = {} if keeps else {"Connection": "close"}
        self._port = port
        self.start()

    def run(self) -> None:
        while self._connection():
            time.sleep(0.002)

    def _connection(self) -> bool:
        """POST on a new connection until it ends; False if there is none."""
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        link.auto_open = 0
        try:
            link.connect()
        except OSError:
            return False
        try:
            while link.sock is not None:
                link.request("POST", "/", b"x", self._fields)
                link.getresponse().read()
                self.answers += 1
                time.sleep(0.002)
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(repr(error))
        finally:
            link.close()
        return True


def test_no_post_is_lost_over_a_stop(tmp_path: Path) -> None:
    port, origin = free_port(), free_port()
    file = tmp_path / "hopproxy.yaml"
    file.write_text(
        f"workers: 2\ndrain_delay: 1s\ndrain_timeout: 8s\naccess_log: off\n"
        f"listeners: [{{bind: 127.0.0.1:{port}}}]\nupstreams: {{app: {{origins: [{origin}]}}}}\n"
    )
    with answering(origin, b"here"), hopproxy("run", str(file), until="listening") as command:
        clients = [Posting(port, keeps=keeps) for keeps in (True, False) for _ in range(12)]
        limit = time.monotonic() + PATIENCE
        while sum(client.answers for client in clients) <= 100:
            assert time.monotonic() < limit
            time.sleep(0.05)
        began = time.monotonic()
        assert command.stop() == 0
        assert time.monotonic() - began >= 1
        for client in clients:
            client.join(PATIENCE)
    assert [error for client in clients for error in client.lost] == []
    [total] = re.findall(
        r"all workers: (\d+) connections ended, 0 cut, 0 requests lost", command.said
    )
    ended = re.findall(r"worker \d: drained in .*: (\d+) connections ended", command.said)
    assert int(total) == sum(map(int, ended))
