"""`hopproxy dev` in a browser."""

from __future__ import annotations

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cli.command import Command, answering, hopproxy
from tests.dev.browser import Browser
from tests.ports import free_port


@pytest.fixture(scope="module")
def demo(browser: Browser) -> Iterator[Command]:
    """`hopproxy dev` without an origin; asks for the browser first, to be skipped at once."""
    with hopproxy("dev", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0") as command:
        yield command


def test_the_page_shows_what_the_origin_received(browser: Browser, demo: Command) -> None:
    browser.open(demo.url)
    head = browser.text("#head")
    place = demo.url.removeprefix("http://")
    assert head.startswith("GET / HTTP/1.1\n")
    assert f"Host: {place}" in head
    assert "X-Forwarded-For: 127.0.0.1" in head
    assert f"X-Forwarded-Host: {place}" in head
    assert "Via: 1.1 hopproxy" in head
    assert browser.run("return document.querySelectorAll('#head .ours').length") == 5
    assert re.search(r"connection \d+, request \d+ on it", browser.text("#where"))


def test_the_page_leads_to_the_live_page(browser: Browser, demo: Command) -> None:
    browser.open(demo.url)
    live = browser.run("return document.querySelector('#live').href")
    assert live == demo.wait_for(r"live page: (http://[\d.:]+)")[1] + "/"


@pytest.mark.parametrize(
    ("what", "status", "said"),
    [
        ("get", "200", "upstream link"),
        ("post", "200", "bytes: a body of this page"),
        ("chunks", "200", "8 chunks, each passed on as it came"),
        ("events", "stream", "6 events, then this page closed the stream"),
        ("websocket", "101", "echo: one, two, three"),
        ("close", "200", "yours stays open"),
        ("drop", "502", "error=connection_terminated"),
        ("error", "500", "the origin's own answer"),
    ],
)
def test_every_button_does_what_it_says(
    browser: Browser, demo: Command, what: str, status: str, said: str
) -> None:
    browser.open(demo.url)
    browser.click(f"[data-try={what}]")
    browser.wait_for("#summary", "1 answer")
    assert browser.text("#results .status") == status
    assert said in browser.text("#results .said")


def test_the_page_of_an_origin_that_is_down_reloads_itself_when_it_is_back(
    browser: Browser,
) -> None:
    port = free_port()
    binds = ("--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with hopproxy("dev", str(port), "--hold", "300ms", *binds) as command:
        browser.open(command.url + "/some/page")
        assert f"Nothing answers at http://localhost:{port}" in browser.text("h1")
        assert "GET /some/page" in browser.text("dl")
        browser.wait_for("#count", "asked 1 time")  # it has asked, and it is still away
        with answering(port, b"<title>back</title><h1>The server is back</h1>"):
            browser.wait_for("h1", "The server is back")


def test_the_cross_of_the_broken_hop_covers_no_word_on_a_narrow_screen(browser: Browser) -> None:
    binds = ("--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with hopproxy("dev", str(free_port()), *binds) as command:
        browser.open(command.url)
        browser.size(360, 800)
        width = browser.run(
            "const hop = document.querySelector('.hop.broken');"
            "return [parseFloat(getComputedStyle(hop, '::after').width), hop.offsetWidth];"
        )
        wide = browser.run("return document.scrollingElement.scrollWidth <= innerWidth")
    browser.size(1280, 900)
    cross, room = width
    assert cross <= room
    assert wide


class _BareLineFeeds(socketserver.BaseRequestHandler):
    """Ends its lines with a bare line feed, and stays connected."""

    def handle(self) -> None:
        answer = b"HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 12\n\n<h1>hey</h1>"
        while self.request.recv(65536):
            self.request.sendall(answer)


@contextmanager
def writing_bare_line_feeds() -> Iterator[int]:
    """An origin for the time of the block; its port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _BareLineFeeds) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_page_of_an_origin_that_writes_bare_line_feeds_is_there_at_once_with_the_way_out(
    browser: Browser,
) -> None:
    with writing_bare_line_feeds() as port:
        binds = ("--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        with hopproxy("dev", f"127.0.0.1:{port}", *binds) as command:
            browser.open(command.url + "/some/page")
            assert r"\r\n: write that" in browser.text(".advice")
            assert "bare line feed" in browser.text("dl")
            browser.click("#direct")
            browser.wait_for("h1", "hey")
            assert browser.run("return location.href") == f"http://127.0.0.1:{port}/some/page"
