"""The commands that serve: what they say first, what they forward, how signals end them."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, Server, answering, get, hopproxy, write_settings
from tests.ports import free_port

LISTENING = "listening on"
ANYWHERE = ("--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def test_run_forwards_to_the_origin_of_its_settings(tmp_path: Path) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port)
    with (
        answering(port, b"from the origin"),
        hopproxy("run", "--config", str(file), until=LISTENING),
    ):
        status, fields, body = get(url)
    assert (status, body) == (200, b"from the origin")
    assert fields["via"] == "1.1 hopproxy"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_an_idle_proxy_with_0(tmp_path: Path, number: signal.Signals) -> None:
    file, url = write_settings(tmp_path, free_port(), "drain_timeout: 10s")
    with hopproxy("run", "--config", str(file), until=LISTENING) as command:
        host, _, port = url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as idle:
            begun = time.monotonic()
            assert command.stop(number) == 0
            assert time.monotonic() - begun < 9, "an idle client must not hold it"
            assert idle.recv(1) == b""


class Slow:
    """A request that is under way: it takes the origin `delay` seconds."""

    def __init__(self, url: str, origin: Server, delay: float) -> None:
        origin.delay = delay
        self.answer: tuple[int, dict[str, str], bytes] | None = None
        self._thread = threading.Thread(target=self._ask, args=(url,))
        self._thread.start()
        assert origin.asked.wait(PATIENCE)

    def _ask(self, url: str) -> None:
        try:
            self.answer = get(url)
        except (OSError, http.client.HTTPException):
            self.answer = None

    def join(self) -> None:
        self._thread.join(PATIENCE)


def test_what_is_under_way_ends_before_the_process_does(tmp_path: Path) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port, "drain_timeout: 15s")
    with answering(port, b"whole") as origin:
        with hopproxy("run", "--config", str(file), until=LISTENING) as command:
            request = Slow(url, origin, 0.7)
            assert command.stop() == 0
            request.join()
    assert request.answer is not None
    status, fields, body = request.answer
    assert (status, body, fields["connection"]) == (200, b"whole", "close")


def test_the_drain_timeout_cuts_what_does_not_end(tmp_path: Path) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port, "drain_timeout: 300ms")
    with answering(port) as origin:
        with hopproxy("run", "--config", str(file), until=LISTENING) as command:
            request = Slow(url, origin, 3)
            begun = time.monotonic()
            assert command.stop() == 0
            assert 0.3 <= time.monotonic() - begun < 2.5
            request.join()
    assert request.answer is None


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    port = free_port()
    file, url = write_settings(tmp_path, port, "drain_timeout: 60s")
    with answering(port) as origin:
        with hopproxy("run", "--config", str(file), until=LISTENING) as command:
            request = Slow(url, origin, 3)
            command.process.send_signal(signal.SIGTERM)
            command.wait_for("draining")
            begun = time.monotonic()
            assert command.stop() == 0
            assert time.monotonic() - begun < 2.5
            request.join()


def test_dev_without_an_origin_has_the_demo_behind_it() -> None:
    with hopproxy("dev", *ANYWHERE) as command:
        status, _, body = get(command.url, "/received", X_Mark="1")
        last = command.said.splitlines()[-1]
        assert command.stop() == 0
    head = json.loads(body)["head"]
    assert status == 200
    assert head[0] == "GET /received HTTP/1.1"
    assert "Via: 1.1 hopproxy" in head
    assert re.fullmatch(
        r"hopproxy: open http://127\.0\.0\.1:\d+ \(live page: http://127\.0\.0\.1:\d+\)", last
    )


def test_dev_stands_in_front_of_a_port(tmp_path: Path) -> None:
    port = free_port()
    with answering(port, b"mine"), hopproxy("dev", str(port), *ANYWHERE) as command:
        assert get(command.url)[2] == b"mine"


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_dev_finds_a_server_that_listens_on_ipv6_alone() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    # Bound and never listened on: the same port of IPv4 refuses, and nobody else can take it.
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        port = refusing.getsockname()[1]
        with answering(port, b"six", host="::1"), hopproxy("dev", str(port), *ANYWHERE) as command:
            assert get(command.url)[2] == b"six"


def test_dev_takes_the_next_port_where_the_usual_ones_are_taken() -> None:
    taken = []
    for port in (8080, 9901):
        try:
            taken.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue  # somebody else holds it: as good
    try:
        with hopproxy("dev") as command:
            chosen = command.wait_for(r"open http://127\.0\.0\.1:(\d+) \(live page: .*:(\d+)\)")
            assert 8080 < int(chosen[1]) <= 8100
            assert 9901 < int(chosen[2]) <= 9921
            assert f"port 8080 is taken: listening on 127.0.0.1:{chosen[1]} instead" in command.said
            assert get(command.url, "/received")[0] == 200
    finally:
        for server in taken:
            server.close()


def test_dev_says_to_a_script_in_plain_words_that_the_origin_is_down() -> None:
    port = free_port()
    with hopproxy("dev", str(port), "--hold", "300ms", *ANYWHERE) as command:
        status, fields, body = get(command.url, Accept="application/json")
        page = get(command.url, Accept="text/html")
    assert (status, fields["content-type"]) == (502, "text/plain; charset=utf-8")
    assert b"cannot be reached" in body
    assert page[0] == 502
    assert page[1]["content-type"] == "text/html; charset=utf-8"
    for answer in (fields, page[1]):
        assert answer["proxy-status"].startswith("hopproxy; error=connection_refused;")


def test_dev_ends_with_0_at_once_though_a_stream_is_open() -> None:
    with hopproxy("dev", *ANYWHERE) as command:
        host, _, port = command.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: demo\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            begun = time.monotonic()
            assert command.stop(signal.SIGINT) == 0
            assert time.monotonic() - begun < 5


def test_run_tells_the_ports_that_were_taken_for_port_0(tmp_path: Path) -> None:
    origin = free_port()
    file = tmp_path / "hopproxy.yaml"
    file.write_text(
        "listeners: [{bind: '127.0.0.1:0'}, {bind: ':0'}]\nadmin: {bind: '127.0.0.1:0'}\n"
        f"upstreams: {{app: {{origins: [{origin}]}}}}\n"
    )
    with answering(origin, b"here"), hopproxy("run", str(file), until="admin listener") as command:
        first, second = re.findall(r"listening on (\S*):([1-9]\d*)$", command.said, re.MULTILINE)
        admin = command.wait_for(r"admin listener on 127\.0\.0\.1:([1-9]\d*)\n")[1]
        assert (first[0], second[0]) == ("127.0.0.1", "")
        for host, port in (first, ("127.0.0.1", second[1]), ("[::1]", second[1])):
            if host == "[::1]" and not socket.has_dualstack_ipv6():
                continue
            assert get(f"http://{host.strip('[]')}:{port}")[2] == b"here"
        assert get(f"http://127.0.0.1:{admin}", "/healthz")[0] == 200


def test_run_warns_of_what_check_warns_of(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, free_port(), "trusted_proxies: [0.0.0.0/0]")
    with hopproxy("run", str(file), until=LISTENING) as command:
        assert f"{file}:3:19: warning: trusted_proxies[0]: " in command.said


def test_run_serves_where_every_limit_is_off(tmp_path: Path) -> None:
    """No arithmetic on an endless timeout ends in a fault, on the wire or in what observers say."""
    origin = free_port()
    admin = free_port()
    file = tmp_path / "hopproxy.yaml"
    port = free_port()
    client = ["idle_timeout", "head_timeout", "body_timeout", "write_timeout", "max_requests"]
    client += ["max_age", "max_body_size", "tcp_keepalive"]
    upstream = ["connect_timeout", "response_timeout", "body_timeout", "write_timeout"]
    upstream += ["tunnel_timeout", "tcp_keepalive", "tcp_user_timeout"]
    pool = ["idle_timeout", "max_requests", "max_age", "queue_timeout"]
    off = [", ".join(f"{name}: off" for name in names) for names in (client, upstream, pool)]
    file.write_text(
        f"listeners: [{{bind: 127.0.0.1:{port}}}]\nadmin: {{bind: 127.0.0.1:{admin}}}\n"
        f"client: {{{off[0]}}}\n"
        f"upstreams: {{app: {{origins: [{origin}], {off[1]}, pool: {{{off[2]}}}}}}}\n"
    )
    with answering(origin, b"here"), hopproxy("run", str(file), until="admin listener") as command:
        for _ in range(2):
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            for method, body, status in (("GET", b"", 200), ("GET", b"", 200), ("POST", b"x", 501)):
                link.request(method, "/", body)
                response = link.getresponse()
                assert (response.status, bool(response.read())) == (status, True)
            link.close()
        links = json.loads(get(f"http://127.0.0.1:{admin}", "/links")[2])
        assert links["origins"][0]["limits"]["idle_timeout"] is None
        assert get(f"http://127.0.0.1:{admin}", "/metrics")[0] == 200
        assert get(f"http://127.0.0.1:{admin}", "/closes")[0] == 200
        assert command.stop() == 0
        assert "Traceback" not in command.said


def test_dev_leaves_the_port_that_was_asked_for_to_the_admin_listener() -> None:
    try:
        socket.create_server(("127.0.0.1", 8080)).close()
    except OSError:
        pytest.skip("port 8080 is taken on this machine")
    with hopproxy("dev", "--admin", "8080") as command:
        live_page = command.wait_for(r"live page: (http://[\d.:]+)")[1]
        assert live_page == "http://127.0.0.1:8080"
        assert command.url != live_page
        assert get(live_page, "/healthz")[0] == 200
