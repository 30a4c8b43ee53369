"""`hopproxy explain`: a request in, what each hop is sent out.  The wire agrees: tests/links."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from hopproxy.cli import COMMANDS
from hopproxy.command_line import parser
from hopproxy.exits import Failure
from hopproxy.explain.request import made, raw_message
from hopproxy.settings.amounts import Misread

SETTINGS = """
upstreams: {app: {origins: [3000], host: origin}}
trusted_proxies: [10.0.0.0/8]
routes:
  - path: /api
    upstream: app
    strip: /api
    request_fields: {set: {X-Env: prod}, remove: X-Debug}
  - {host: old.example, redirect: "https://new.example{path}"}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "hopproxy.yaml"
    file.write_text(SETTINGS)
    return str(file)


def explained(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    options = parser().parse_args(["explain", *words])
    assert COMMANDS[options.command](options) == 0
    return capsys.readouterr().out


def test_each_field_has_its_verdict_and_its_rule(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = explained(
        "--config", config, "-H", "X-Debug: 1", "-H", "Connection: X-A", "-H", "X-A: 1",
        "http://a.example/api/x?y", capsys=capsys,
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "request GET /api/x?y HTTP/1.1",
        "route routes[0]: path /api",
        "origin http://localhost:3000 (upstream app)",
        "~ GET /x?y HTTP/1.1 routes[0].strip; it was GET /api/x?y HTTP/1.1",
        "~ Host: localhost:3000 upstreams.app.host, RFC 9112 section 3.2; it was Host: a.example",
        "- X-Debug: 1 routes[0].request_fields",
        "- Connection: X-A about one connection only, RFC 9110 section 7.6.1",
        "- X-A: 1 named in Connection, RFC 9110 section 7.6.1",
        "+ X-Env: prod routes[0].request_fields",
        "+ Via: 1.1 hopproxy via: our entry is added, RFC 9110 section 7.6.3",
        "client link persists: HTTP/1.1 persists by default, RFC 9112 section 9.3",
    ):
        assert line in lines


def test_json_says_the_same(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(explained(
        "--config", config, "--json", "-d", "hi", "--from", "10.1.1.1",
        "-H", "X-Forwarded-For: 1.2.3.4", "http://a.example/api", capsys=capsys,
    ))  # fmt: skip
    assert (told["client"], told["route"], told["upstream"]) == ("1.2.3.4", "routes[0]", "app")
    assert told["to_origin"]["head"].startswith("POST / HTTP/1.1\r\nHost: localhost:3000\r\n")
    assert {"verdict", "line", "sent", "rule", "rfc"} == told["to_origin"]["fields"][0].keys()
    assert told["upstream_link"]["why"].startswith("a young idle one (young_share: 50%)")


UPGRADE = ("-H", "Connection: Upgrade", "-H", "Upgrade: {}")


@pytest.mark.parametrize(
    ("origin", "more", "asked", "told"),
    [
        ("http://127.0.0.1:9", "protocol: h2", "websocket", "extended CONNECT"),
        ("h2c://127.0.0.1:9", "", "websocket", "extended CONNECT"),
        ("h2c://127.0.0.1:9", "", "chat/2", "it is left out"),
        ("http://127.0.0.1:9", "", "websocket", "it is a tunnel"),
    ],
)
def test_an_upgrade_is_told_as_the_origins_protocol_has_it(
    origin: str, more: str, asked: str, told: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text(f"upstreams:\n  app:\n    origins: [{origin}]\n    {more}\n")
    words = [word.format(asked) for word in UPGRADE]
    text = explained("--config", str(file), *words, "http://a.example/", capsys=capsys)
    assert told in text.splitlines()[-1]


def test_a_redirect_and_a_refusal_are_answers_of_our_own(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(explained("--config", config, "--json", "old.example/x", capsys=capsys))
    assert told["to_origin"] is None
    assert "\r\nLocation: https://new.example/x\r\n" in told["to_client"][0]["head"]
    text = explained("--config", config, "-0", "-I", "http://other.example/", capsys=capsys)
    assert "refused        destination_not_found: no route matches this host and path" in text
    assert "closes (peer_http10): HTTP/1.0 without Connection: keep-alive" in text


def test_requests_and_responses_come_from_files_and_standard_input(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    response = tmp_path / "response"
    response.write_bytes(
        b"HTTP/1.1 200 OK\nX-A: " + b"y" * 99 + b"\nConnection: X-B, close\nX-B: 1\n\n"
    )
    raw = io.TextIOWrapper(io.BytesIO(b"GET /api HTTP/1.1\nHost: a\nX: \x01\n"))
    monkeypatch.setattr(sys, "stdin", raw)
    text = explained("--config", config, "--raw", "-", capsys=capsys)
    assert "400 Bad Request" in text
    assert "closes (bad_request)" in text
    text = explained("--config", config, "/api", "-H", "Host: a", "--response", str(response),
                     capsys=capsys)  # fmt: skip
    assert "upstream link  closes (close_delimited)" in text
    assert "X-A: yyy" in text
    assert "named in Connection" in text


@pytest.mark.parametrize(
    "words",
    [[], ["--raw", "x", "http://a/"], ["http://a/", "-H", "nonsense"], ["a b"], ["--raw", "/none"],
     ["http://a/", "--response", "/none"], ["ftp://a/"], ["http://a/", "--from", "nonsense"]],
)  # fmt: skip
def test_what_is_not_a_request_is_reported(config: str, words: list[str]) -> None:
    options = parser().parse_args(["explain", "--config", config, *words])
    with pytest.raises(Failure) as failure:
        COMMANDS[options.command](options)
    assert failure.value.code in (1, 2)


@pytest.mark.parametrize(
    ("url", "named", "raw"),
    [
        ("https://a:1/x?y#z", {}, b"GET /x?y HTTP/1.1\r\nHost: a:1\r\n\r\n"),
        ("a", {}, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("a?x", {}, b"GET /?x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("/x", {"fields": ["host:b", "Accept:", "X;"]},
         b"GET /x HTTP/1.1\r\nhost: b\r\nX: \r\n\r\n"),
        ("a", {"data": "é"}, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\né".encode()),
        ("a", {"data": "x", "method": "PUT", "fields": ["Transfer-Encoding: chunked"], "minor": 0},
         b"PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx"),
    ],
)  # fmt: skip
def test_a_request_as_curl_would_send_it(url: str, named: dict[str, object], raw: bytes) -> None:
    plain: dict[str, object] = {"method": "", "fields": [], "data": None, "minor": 1}
    request, scheme = made(url, **(plain | named))  # type: ignore[arg-type]
    assert request == raw
    assert scheme == (b"https" if url.startswith("https") else b"http")


def test_no_url_is_misread() -> None:
    with pytest.raises(Misread):
        made("http://", method="", fields=[], data=None, minor=1)


def test_a_message_that_a_person_wrote_gets_its_line_ends() -> None:
    assert raw_message(b"GET / HTTP/1.1\nHost: a\n\nbo\n\ndy") == (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbo\n\ndy"
    )
    assert raw_message(b"GET / HTTP/1.1\n") == b"GET / HTTP/1.1\r\n\r\n"
    assert raw_message(b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
