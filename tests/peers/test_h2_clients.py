"""HTTP/2 as clients in use speak it, over TLS and without: curl, nghttp, h2load, httpx, Node."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.authority import authority, certificate, client_context, files_of
from tests.conftest import needs
from tests.peers.servers import configured, origin
from tests.ports import free_port

pytest.importorskip("h2", reason="needs h2 (pip install h2)")


class Place(NamedTuple):
    """Where hopproxy listens, and the file of the authority that has signed its certificate."""

    plain: str
    tls: str
    ca: Path
    links: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("h2")
    cert, key = files_of(certificate("localhost"), folder)
    ca = folder / "ca.crt"
    ca.write_bytes(authority().cert_pem.bytes())
    plain, tls, admin = free_port(), free_port(), free_port()
    with origin("nginx", folder) as nginx:
        settings = f"""
listeners:
  - bind: 127.0.0.1:{plain}
  - bind: 127.0.0.1:{tls}
    tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}
upstreams: {{app: {{origins: ["http://127.0.0.1:{nginx.port}"]}}}}
admin: {{bind: "127.0.0.1:{admin}"}}
access_log: off
"""
        with configured(settings, plain, folder):
            yield Place(
                f"http://127.0.0.1:{plain}",
                f"https://localhost:{tls}",
                ca,
                f"http://127.0.0.1:{admin}/links",
            )


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_without_tls(place: Place) -> None:
    curl = needs("curl")
    answer = run(
        curl, "-s", "--http2-prior-knowledge", "-w", "|%{http_version}", f"{place.plain}/echo?id=1"
    )
    assert answer.endswith(" 1|2")


def test_curl_with_tls_chooses_http2(place: Place) -> None:
    curl = needs("curl")
    for version, asked in (("2", "--http2"), ("1.1", "--http1.1")):
        answer = run(
            curl, "-s", asked, "--cacert", str(place.ca), "-w", "|%{http_version}",
            f"{place.tls}/echo?id=7",
        )  # fmt: skip
        assert answer.endswith(f" 7|{version}")


def test_curl_sends_a_body(place: Place, tmp_path: Path) -> None:
    curl = needs("curl")
    body = tmp_path / "body"
    body.write_bytes(b"x" * 30_000)
    code = run(
        curl, "-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}",
        "--data-binary", f"@{body}", f"{place.plain}/",
    )  # fmt: skip
    assert code == "200"


def test_nghttp_asks_for_many_at_once(place: Place) -> None:
    nghttp = needs("nghttp", debian="nghttp2-client")
    asked = [f"{place.plain}/echo?id={number}" for number in range(50)]
    answer = run(nghttp, *asked)
    assert len(re.findall(r"\d+ \d+", answer)) >= 25  # one behind the other, without a line end


def test_h2load_loses_nothing(place: Place) -> None:
    h2load = needs("h2load", debian="nghttp2-client")
    answer = run(h2load, "-n3000", "-c3", "-m100", f"{place.plain}/")
    assert "3000 succeeded, 0 failed, 0 errored" in answer


def test_httpx(place: Place) -> None:
    context = client_context(alpn=("h2", "http/1.1"))
    with httpx.Client(http2=True, verify=context) as client:
        for number in range(5):
            answer = client.get(f"{place.tls}/echo?id={number}")
            assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
            assert answer.text.endswith(f" {number}")
        assert client.post(f"{place.tls}/", content=b"x" * 200_000).status_code == 200


NODE = """
const http2 = require("http2"), fs = require("fs");
const client = http2.connect(process.argv[1], {ca: fs.readFileSync(process.argv[2])});
let left = 60, seen = [];
for (let n = 0; n < 60; n++) {
  const stream = client.request({":path": "/echo?id=" + n});
  let body = "";
  stream.setEncoding("utf8");
  stream.on("data", part => body += part);
  stream.on("end", () => {
    seen.push(Number(body.split(" ")[1]));
    if (!--left) { client.close(); console.log(JSON.stringify(seen)); }
  });
  stream.end();
}
"""


def test_node(place: Place) -> None:
    node = needs("node", debian="nodejs")
    seen = json.loads(run(node, "-e", NODE, place.tls, str(place.ca)))
    assert sorted(seen) == list(range(60))


def test_nothing_is_left_under_way(place: Place) -> None:
    links = httpx.get(place.links).json()
    assert [client["streams"] for client in links["clients"] if client["streams"]] == []
    assert sum(origin["lent"] for origin in links["origins"]) == 0
