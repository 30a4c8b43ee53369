"""The live page in a browser: both hops, what couples them, and what it says when we are gone."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.command import answering, free_port, get, hopproxy, write_settings
from tests.dev.browser import Browser


@pytest.fixture
def site(browser: Browser, tmp_path: Path) -> Iterator[tuple[str, str, ExitStack]]:
    """(the site's URL, the page's URL, what to close to end the worker)."""
    origin, admin = free_port(), free_port()
    file, url = write_settings(tmp_path, origin, f"admin: {{bind: 127.0.0.1:{admin}}}")
    with answering(origin), ExitStack() as worker:
        worker.enter_context(hopproxy("run", "--config", str(file), until="listening"))
        yield url, f"http://127.0.0.1:{admin}", worker


def connected(url: str) -> http.client.HTTPConnection:
    """A client that has asked once and stays."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/")
    connection.getresponse().read()
    return connection


def test_both_hops_and_why_links_ended(browser: Browser, site: tuple[str, str, ExitStack]) -> None:
    url, page, _ = site
    browser.open(page)
    assert browser.wait_for("#clients", "Nobody is connected")
    assert "serving" in browser.text("#state")
    client = connected(url)
    assert "1 request" in browser.wait_for("#clients .row", "idle")
    assert "127.0.0.1" in browser.text("#clients .row .peer")
    assert "1 request" in browser.wait_for("#upstreams .row", "idle")
    assert "0 lent · 1 idle · at most 256" in browser.text("#upstreams .title")
    client.close()
    browser.wait_for("#closes tr", "the peer closed it")
    browser.wait_for("#clients", "Nobody is connected")
    assert "client peer_closed 1" in browser.text("#counts")


def test_more_links_than_have_rows(browser: Browser, site: tuple[str, str, ExitStack]) -> None:
    url, page, _ = site
    clients = [connected(url) for _ in range(45)]
    browser.open(page)
    browser.wait_for("#clients .rest", "5 more, without a row")
    assert browser.run("return document.querySelectorAll('#clients .row').length") == 40
    assert browser.run("return document.querySelectorAll('#clients .cells i').length") == 5
    for client in clients:
        client.close()
    browser.wait_for("#clients", "Nobody is connected")


def test_a_worker_that_is_gone(browser: Browser, site: tuple[str, str, ExitStack]) -> None:
    _, page, worker = site
    browser.open(page)
    browser.wait_for("#state", "serving")
    assert browser.text("#gone") == ""
    worker.close()
    browser.wait_for("#gone", "The worker is gone: it cannot be reached since")
    assert browser.text("#state") == "gone"


def test_names_from_outside_are_text(browser: Browser, site: tuple[str, str, ExitStack]) -> None:
    url, page, _ = site
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
