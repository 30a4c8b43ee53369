"""Real clients over TLS: curl, OpenSSL's own, Python, Node."""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.authority import authority, certificate, client_context, files_of
from tests.cli.command import PATIENCE, answering, get, hopproxy
from tests.conftest import needs
from tests.ports import free_port

PAGE = b"over TLS"


class Served(NamedTuple):
    """A hopproxy with a TLS listener on localhost."""

    port: int
    admin: int
    ca: str

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    def handshakes(self) -> dict[tuple[str, str], float]:
        """How many there were, by version and outcome."""
        _, _, body = get(f"http://127.0.0.1:{self.admin}", "/metrics")
        found = re.findall(
            r'hopproxy_tls_handshakes_total\{hop="client",'
            r'outcome="(\w+)",version="([\w.]*)"\} (\S+)',
            body.decode(),
        )
        return {(version, outcome): float(count) for outcome, version, count in found}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One for all tests of this file."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = files_of(certificate("localhost"), folder)
    ca = folder / "ca.crt"
    ca.write_bytes(authority().cert_pem.bytes())
    origin, port, admin = free_port(), free_port(), free_port()
    settings = folder / "hopproxy.yaml"
    settings.write_text(
        f"listeners:\n  - bind: 127.0.0.1:{port}\n    tls:\n      certificates:\n"
        f"        - {{cert: {cert}, key: {key}}}\n"
        f"upstreams: {{app: {{origins: [{origin}]}}}}\nadmin: {{bind: '127.0.0.1:{admin}'}}\n"
    )
    with ExitStack() as stack:
        stack.enter_context(answering(origin, PAGE))
        stack.enter_context(hopproxy("run", str(settings), until=rf"{port} \(https\)"))
        yield Served(port, admin, str(ca))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_is_served_and_resumes(served: Served, version: str) -> None:
    curl = needs("curl")
    before = served.handshakes()
    done = subprocess.run(
        [curl, "-sS", "--http1.1", "--cacert", served.ca, f"--tlsv{version}", "--tls-max", version,
         "-H", "Connection: close", served.url, served.url],
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert done.stdout == PAGE * 2
    after = served.handshakes()
    for outcome in ("full", "resumed"):
        key = f"TLSv{version}", outcome
        assert after[key] - before.get(key, 0) == 1


def test_curl_without_tls_is_told_to_use_it(served: Served) -> None:
    done = subprocess.run(
        [needs("curl"), "-sS", f"http://localhost:{served.port}/"],
        capture_output=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    assert b"400 Bad Request" in done.stdout
    assert b"https://" in done.stdout


def s_client(served: Served, *options: str, said: tuple[str, ...] = ()) -> str:
    """What `openssl s_client` prints; it is told these lines, one after the other."""
    process = subprocess.Popen(
        [needs("openssl"), "s_client", "-connect", f"127.0.0.1:{served.port}", "-servername",
         "localhost", "-CAfile", served.ca, *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        for line in said:
            time.sleep(0.3)  # it takes a line as a command only if it comes alone
            process.stdin.write(line.encode())
            process.stdin.flush()
        time.sleep(0.3 * bool(said))  # it leaves at the end of its input
    output, _ = process.communicate(timeout=PATIENCE)
    return output.decode(errors="replace")


GET = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def test_versions_that_are_too_old_are_refused(served: Served) -> None:
    said = s_client(served, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in said


def test_a_renegotiation_is_refused(served: Served) -> None:
    said = s_client(served, "-tls1_2", said=("R\n", GET))
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said or PAGE.decode() in said


def test_a_key_update_is_no_request(served: Served) -> None:
    said = s_client(served, "-tls1_3", said=("K\n", "k\n", GET))
    assert said.count("KEYUPDATE") == 2
    assert "200 OK" in said
    assert PAGE.decode() in said


def test_openssl_resumes_from_a_file(served: Served, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    assert "New, TLSv1.3" in s_client(served, "-sess_out", kept, said=(GET,))
    assert "Reused, TLSv1.3" in s_client(served, "-sess_in", kept, said=(GET,))


def test_python_keeps_its_connection(served: Served) -> None:
    context = client_context()
    connection = http.client.HTTPSConnection(
        "localhost", served.port, timeout=PATIENCE, context=context
    )
    before = served.handshakes()
    for _ in range(5):
        connection.request("GET", "/")
        assert connection.getresponse().read() == PAGE
    assert isinstance(connection.sock, ssl.SSLSocket)
    connection.close()
    key = "TLSv1.3", "full"
    assert served.handshakes()[key] - before.get(key, 0) == 1


NODE = """
const https = require('https'), fs = require('fs');
const agent = new https.Agent({keepAlive: true, ca: fs.readFileSync(process.argv[2])});
const ask = () => new Promise((done, failed) => https.get(process.argv[1], {agent}, answer => {
  let body = ''; answer.on('data', part => body += part);
  const version = answer.socket.getProtocol();
  answer.on('end', () => done(body + ' ' + version));
}).on('error', failed));
(async () => { for (let n = 0; n < 3; n++) console.log(await ask()); agent.destroy(); })();
"""


def test_node_is_served(served: Served) -> None:
    done = subprocess.run(
        [needs("node", debian="nodejs"), "-e", NODE, served.url, served.ca],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["over TLS TLSv1.3"] * 3, done.stderr
