"""`hopproxy dev` in front of servers that restart, and of several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.cli.command import answering, get, hopproxy
from tests.ports import free_port


def test_dev_waits_for_a_server_that_starts_and_has_routes_to_others() -> None:
    site, api = free_port(), free_port()
    arguments = ["--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--rewrite-host"]
    with hopproxy(
        "dev", f"web={site}", f"--route=/api={api}", "--hold=15s", "--host=app.localhost",
        *arguments,
    ) as command, ThreadPoolExecutor() as pool:  # fmt: skip
        assert command.url.startswith("http://app.localhost:")
        assert f"in front of http://localhost:{api} at /api" in command.said
        url = command.url.replace("app.localhost", "127.0.0.1")
        waiting = pool.submit(get, url)
        page = get(url, Accept="text/html")  # a browser gets a page that waits, at once
        assert page[0] == 502
        assert not waiting.done()
        with answering(site, b"site"), answering(api, b"api"):
            assert waiting.result(20)[::2] == (200, b"site")
            assert get(url, "/api/x")[2] == b"api"
