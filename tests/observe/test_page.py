"""The live page in a browser: both hops, what couples them, and what it says when we are gone."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.command import answering, get, hopproxy, write_settings
from tests.dev.browser import Browser
from tests.ports import free_port


@contextmanager
def serving(directory: Path) -> Iterator[tuple[str, str]]:
    """(the site's URL, the page's URL)."""
    origin, admin = free_port(), free_port()
    file, url = write_settings(directory, origin, f"admin: {{bind: 127.0.0.1:{admin}}}")
    with answering(origin), hopproxy("run", "--config", str(file), until="listening"):
        yield url, f"http://127.0.0.1:{admin}"


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """As `serving`, for tests that leave no connection open."""
    with serving(tmp_path_factory.mktemp("site")) as urls:
        yield urls


def connected(url: str) -> http.client.HTTPConnection:
    """A client that has asked once and stays."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/")
    connection.getresponse().read()
    return connection


def test_both_hops_and_why_links_ended(browser: Browser, site: tuple[str, str]) -> None:
    url, page = site
    browser.open(page)
    assert browser.wait_for("#clients", "No connections")
    assert "serving" in browser.text("#state")
    client = connected(url)
    assert "1 request" in browser.wait_for("#clients .row", "idle")
    assert "127.0.0.1" in browser.text("#clients .row .peer")
    assert "1 request" in browser.wait_for("#upstreams .row", "idle")
    assert "0 in use · 1 idle · at most 256" in browser.text("#upstreams .title")
    client.close()
    browser.wait_for("#closes tr", "the peer closed it")
    browser.wait_for("#clients", "No connections")
    assert "client peer_closed 1" in browser.text("#counts")


def test_more_links_than_have_rows(browser: Browser, site: tuple[str, str]) -> None:
    url, page = site
    clients = [connected(url) for _ in range(45)]
    browser.open(page)
    browser.wait_for("#clients .rest", "5 more, without a row")
    assert browser.run("return document.querySelectorAll('#clients .row').length") == 40
    assert browser.run("return document.querySelectorAll('#clients .cells i').length") == 5
    for client in clients:
        client.close()
    browser.wait_for("#clients", "No connections")


def test_a_worker_that_is_gone(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path) as (_, page):
        browser.open(page)
        browser.wait_for("#state", "serving")
        assert browser.text("#gone") == ""
    browser.wait_for("#gone", "The worker cannot be reached since")
    assert browser.text("#state") == "gone"


def test_names_from_outside_are_text(browser: Browser, site: tuple[str, str]) -> None:
    url, page = site
    assert get(url)[0] == 200
    browser.open(page)
    browser.wait_for("#closes tr", "the peer closed it")
    browser.run(
        "showClients({totals: {clients: 1, clients_idle: 0}, clients: [{number: 9, hop: 'client',"
        " peer: '<img src=x onerror=alert(1)>', state: 'busy', age: 1, idle: 0, idle_limit: null,"
        " busy: 0, requests: 1, coupled_to: null}]});"
    )
    assert browser.text("#clients .peer") == "<img src=x onerror=alert(1)>"
    assert browser.run("return document.querySelectorAll('#clients img').length") == 0


def test_certificates_are_reported_with_the_days_that_are_left(
    browser: Browser, site: tuple[str, str]
) -> None:
    browser.open(site[1])
    browser.wait_for("#state", "serving")
    assert browser.run("return document.getElementById('certificates').hidden")
    browser.run(
        "showCertificates([{subject: 'a.example', days_left: -1, not_after: 0, setting: 's',"
        " file: 'f', issuer: 'i'}, {subject: 'b.example', days_left: 60, not_after: 9e9,"
        " setting: 's', file: 'f', issuer: 'i'}]);"
    )
    assert "a.example ended" in browser.text("#ends")
    assert "b.example ends in 60 d" in browser.text("#ends")


#: The text of each element that matches.
ROWS = "return [...document.querySelectorAll('%s')].map(e => e.innerText)"


class Faulty(ThreadingHTTPServer):
    """An origin that answers 500 to every eighth request; `/hold` waits until `released`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked = 0
        self.released = threading.Event()


class Answer(BaseHTTPRequestHandler):
    """One connection to it."""

    protocol_version = "HTTP/1.1"
    server: Faulty

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.path == "/hold":
            self.server.released.wait(30)
        self.send_response(200 if self.server.asked % 8 else 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


ROUTES = "[{upstream: gone, path: /gone}, {upstream: shop}]"


@contextmanager
def faulty(
    directory: Path, pool: str = "{}", routes: str = ROUTES
) -> Iterator[tuple[Faulty, str, str]]:
    """(the origin, the site's URL, the page's URL)."""
    site, admin = free_port(), free_port()
    file = directory / "hopproxy.yaml"
    with Faulty() as origin, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))  # it never listens, and nobody else takes its port
        thread = threading.Thread(target=origin.serve_forever, args=(0.01,))
        thread.start()
        file.write_text(
            f"listeners: [{{bind: 127.0.0.1:{site}}}]\n"
            f"admin: {{bind: 127.0.0.1:{admin}}}\n"
            "upstreams:\n"
            f"  shop: {{origins: [http://127.0.0.1:{origin.server_port}], pool: {pool}}}\n"
            f"  gone: {{origins: [http://127.0.0.1:{refusing.getsockname()[1]}]}}\n"
            f"routes: {routes}\n"
        )
        try:
            with hopproxy("run", "--config", str(file), until="listening"):
                yield origin, f"http://127.0.0.1:{site}", f"http://127.0.0.1:{admin}"
        finally:
            origin.released.set()
            origin.shutdown()
            thread.join()


def test_an_origin_that_answers_500_is_seen(browser: Browser, tmp_path: Path) -> None:
    with faulty(tmp_path) as (_, url, page):
        client = connected(url)
        for _ in range(39):
            client.request("GET", "/")
            client.getresponse().read()
        browser.open(page)
        browser.wait_for("#minute", "500 5")
        assert "200 35" in browser.text("#minute .outcome")
        assert "shop 40 requests" in browser.text("#minute .outcome")
        assert browser.text("#state") == "shop: 12.5 % answered 5xx"
        assert browser.run("return document.querySelector('#state').className") == "bad"
        assert "5\nanswered 5xx" in browser.text("#tiles")
        assert "0\nfailed" in browser.text("#tiles")
        client.close()


def test_failures_are_reported_by_cause(browser: Browser, tmp_path: Path) -> None:
    with faulty(tmp_path) as (_, url, page):
        browser.open(page)
        browser.wait_for("#minute", "No requests")
        assert get(url)[0] == 200
        assert get(url, "/gone")[0] == 502
        browser.wait_for("#minute", "connection_refused 1")
        rows = browser.run(ROWS % ".outcome")
        assert [" ".join(row.split()) for row in rows] == [
            "shop 1 request 200 1",
            "gone 1 request 502 1 connection_refused 1",
        ]
        browser.wait_for("#state", "gone")
        assert browser.run("return document.querySelector('#state').className") == "bad"


def test_a_full_queue_is_not_green(browser: Browser, tmp_path: Path) -> None:
    pool = "{max_connections: 1, queue: 1, queue_timeout: 20s}"
    with faulty(tmp_path, pool) as (origin, url, page):
        browser.open(page)
        assert browser.wait_for("#state", "serving") == "serving"
        waiting = [threading.Thread(target=get, args=(url, "/hold")) for _ in range(2)]
        for thread in waiting:
            thread.start()
        browser.wait_for("#state", "shop: the queue is full")
        assert browser.run("return document.querySelector('#state').className") == "bad"
        assert "1 waiting: the queue is full" in browser.text("#upstreams .title")
        assert get(url)[0] == 503
        origin.released.set()
        for thread in waiting:
            thread.join()
        browser.wait_for("#state", "33.3 % failed")


def test_ordinary_closes_of_clients_are_one_line(browser: Browser, tmp_path: Path) -> None:
    with faulty(tmp_path) as (_, url, page):
        assert get(url, "/gone")[0] == 502
        with http_client(url) as client:
            client.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
            client.sock.recv(1000)
        for _ in range(60):
            assert get(url)[0] in (200, 500)
        browser.open(page)
        browser.wait_for("#closes tr", "the peer closed it (61)")
        rows = browser.run(ROWS % "#closes tr")
        assert sum("the peer closed it" in row and "client" in row for row in rows) == 1
        assert any("bad_request" in row for row in rows)


@contextmanager
def http_client(url: str) -> Iterator[http.client.HTTPConnection]:
    """A connection to write bytes on."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()


def test_refused_requests_are_told_and_are_no_alarm(browser: Browser, tmp_path: Path) -> None:
    with faulty(tmp_path) as (_, url, page):
        for _ in range(3):
            with http_client(url) as client:
                client.send(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")
                assert client.sock.recv(1000).startswith(b"HTTP/1.1 400 ")
        browser.open(page)
        browser.wait_for("#minute", "http_request_error 3")
        assert browser.text("#state") == "serving"
        assert "3\nfailed" in browser.text("#tiles")


def test_requests_that_no_route_takes_are_no_alarm(browser: Browser, tmp_path: Path) -> None:
    """Scanners of the internet send requests for unknown hosts."""
    with faulty(tmp_path, routes="[{host: shop.test, upstream: shop}]") as (_, url, page):
        for _ in range(3):
            assert get(url)[0] == 404
        browser.open(page)
        browser.wait_for("#minute", "destination_not_found 3")
        assert browser.text("#state") == "serving"


def test_one_request_that_waits_is_reported_as_one(browser: Browser, tmp_path: Path) -> None:
    pool = "{max_connections: 1, queue: 9, queue_timeout: 20s}"
    with faulty(tmp_path, pool) as (origin, url, page):
        browser.open(page)
        asking = [threading.Thread(target=get, args=(url, "/hold")) for _ in range(2)]
        for thread in asking:
            thread.start()
        browser.wait_for("#tiles", "1 request waiting")
        origin.released.set()
        for thread in asking:
            thread.join()
