"""The Dockerfile does what it says, as far as this can be seen without Docker."""

from __future__ import annotations

import re
import signal
import socketserver
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.command import PATIENCE, STEP, answering, children_of, get
from tests.conftest import needs
from tests.dockerfile import Image, instructions
from tests.peers.servers import listens
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built by every step of the Dockerfile."""
    built = Image(ROOT, tmp_path_factory.mktemp("image"))
    try:
        built.build(TEXT)
    except subprocess.CalledProcessError as error:
        pytest.fail(f"{error.cmd}:\n{error.stdout}{error.stderr}")
    return built


@contextmanager
def echoing() -> Iterator[int]:
    """An origin that answers with the head it got; its port."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            head = b""
            while (line := self.rfile.readline()) not in (b"", b"\r\n"):
                head += line
            if head:  # else the proxy only tried whether a connection can be made
                self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + head)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(STEP,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE)


class Container:
    """A process started as `docker run` would start it."""

    def __init__(self, image: Image, origin: int, **environ: str) -> None:
        self.port, self.admin = free_port(), free_port()
        self.image = image
        self.environ = image.environment(
            HOPPROXY_PORT=str(self.port),
            HOPPROXY_ORIGIN=str(origin),
            HOPPROXY_DRAIN_TIMEOUT="4s",
            **{"HOPPROXY_ADMIN": f"127.0.0.1:{self.admin}", **environ},
        )
        command = image.command("ENTRYPOINT") + image.command("CMD")
        self.process = subprocess.Popen(
            command,
            env=self.environ,
            cwd=image.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def is_healthy(self) -> bool:
        """Whether the HEALTHCHECK's command succeeds."""
        command = self.image.command("HEALTHCHECK")
        return subprocess.run(command, env=self.environ, capture_output=True).returncode == 0


@contextmanager
def running(image: Image, origin: int, **environ: str) -> Iterator[Container]:
    container = Container(image, origin, **environ)
    limit = time.monotonic() + PATIENCE
    try:
        while not (listens(container.port) and container.is_healthy()):
            assert container.process.poll() is None
            assert time.monotonic() < limit, "it did not become healthy"
            time.sleep(STEP)
        yield container
    finally:
        if container.process.poll() is None:
            container.process.kill()
        container.process.wait(PATIENCE)


def test_the_image_holds_every_file_of_the_package(image: Image) -> None:
    (installed,) = image.root.glob("opt/hopproxy/lib/python*/site-packages/hopproxy")
    kinds = ("*.py", "*.html", "py.typed")
    ours = {
        file.relative_to(ROOT / "hopproxy")
        for kind in kinds
        for file in (ROOT / "hopproxy").rglob(kind)
    }
    assert {file for file in ours if not (installed / file).exists()} == set()


def test_the_image_holds_no_tests_and_no_pip(image: Image) -> None:
    (site,) = image.root.glob("opt/hopproxy/lib/python*/site-packages")
    assert not any((site / name).exists() for name in ("tests", "benchmarks", "pip"))
    assert not (image.root / "src").exists()


def test_nobody_is_root_in_it(image: Image) -> None:
    user = image.settings["USER"].partition(":")[0]
    assert int(user) > 0


def test_what_it_exposes_is_where_its_settings_listen(image: Image) -> None:
    text = image.below("/etc/hopproxy/hopproxy.yaml").read_text()
    for port in image.settings["EXPOSE"].split():
        assert f":-{port}}}" in text or f":{port}}}" in text
    assert image.settings["STOPSIGNAL"] == "SIGTERM"


def test_its_base_images_are_the_same(image: Image) -> None:
    bases = {rest.split()[0] for name, rest in instructions(TEXT) if name == "FROM"}
    assert len(bases) == 1, "a venv works with the Python it was made by"


def test_it_serves_is_healthy_and_ends_within_the_drain_timeout(image: Image) -> None:
    origin = free_port()
    with answering(origin, b"the application"), running(image, origin) as container:
        assert get(f"http://127.0.0.1:{container.port}")[2] == b"the application"
        begun = time.monotonic()
        container.process.send_signal(signal.SIGTERM)
        assert container.process.wait(PATIENCE) == 0
        assert time.monotonic() - begun < 4
        assert not container.is_healthy()


def test_it_is_healthy_without_an_admin_listener(image: Image) -> None:
    origin = free_port()
    with (
        answering(origin, b"the application"),
        running(image, origin, HOPPROXY_ADMIN="off", HOPPROXY_TRUSTED_PROXIES="") as container,
    ):
        assert get(f"http://127.0.0.1:{container.port}")[2] == b"the application"
        with pytest.raises(ConnectionRefusedError):
            get(f"http://127.0.0.1:{container.admin}")


@pytest.mark.parametrize(
    ("trusted", "believed"),
    [("", b"127.0.0.1"), ("10.0.0.0/8, 127.0.0.0/8", b"203.0.113.7, 127.0.0.1")],
)
def test_it_believes_the_proxies_of_its_environment(
    image: Image, trusted: str, believed: bytes
) -> None:
    with (
        echoing() as origin,
        running(image, origin, HOPPROXY_TRUSTED_PROXIES=trusted) as container,
    ):
        url = f"http://127.0.0.1:{container.port}"
        _, _, head = get(url, "/", **{"X-Forwarded-For": "203.0.113.7"})
    assert b"\r\nx-forwarded-for: " + believed + b"\r\n" in head.lower()


# -- in a root of its own ------------------------------------------------------------------------

#: As process 1 of a root file system that has nothing but Python and the image: read-only, and as
#: the user of the image.
EMPTY_ROOT = """
set -e
mount -t tmpfs tmpfs "$ROOT"
cd "$ROOT"
mkdir -p usr proc dev opt/hopproxy etc/hopproxy
for name in bin sbin lib lib64; do [ -e /$name ] && ln -s usr/$name $name; done
mount --rbind /usr usr
for path in $PYTHON; do mkdir -p "$ROOT$path"; mount --rbind "$path" "$ROOT$path"; done
mount --bind "$IMAGE/opt/hopproxy" opt/hopproxy
cp "$IMAGE/etc/hopproxy/hopproxy.yaml" etc/hopproxy
cp /etc/ld.so.cache etc
mount -t proc proc proc
touch dev/null
mount --bind /dev/null dev/null
mount -o remount,ro "$ROOT"
(sleep 1.5 &)
exec chroot --userspec="$USER_OF_IMAGE" "$ROOT" "$@"
"""


def test_the_image_serves_in_an_empty_root_as_process_1(image: Image, tmp_path: Path) -> None:
    unshare = needs("unshare", debian="util-linux")
    words = (unshare, "--mount", "--pid", "--fork", "--kill-child", "--propagation=private", "--")
    if subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("no right to make namespaces")
    port, admin, origin = free_port(), free_port(), free_port()
    script, *arguments = image.settings_of("ENTRYPOINT") + image.settings_of("CMD")
    # Its first line names the Python of the folder where the image was built.
    command = ("/opt/hopproxy/bin/python", f"/opt/hopproxy/bin/{script}", *arguments)
    environ = image.environment(
        ROOT=str(tmp_path / "root"),
        IMAGE=str(image.root),
        PYTHON=" ".join({sys.base_prefix, sysconfig.get_path("purelib")} - {"/usr"}),
        USER_OF_IMAGE=image.settings["USER"],
        HOPPROXY_PORT=str(port),
        HOPPROXY_ADMIN=f"127.0.0.1:{admin}",
        HOPPROXY_ORIGIN=str(origin),
    )
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    with log.open("w") as said:
        outer = subprocess.Popen(
            [*words, "sh", "-c", EMPTY_ROOT, "sh", *command], env=environ, stderr=said
        )
    try:
        with answering(origin, b"the application"):
            limit = time.monotonic() + PATIENCE
            while not listens(port):
                assert outer.poll() is None, log.read_text()
                assert time.monotonic() < limit
                time.sleep(STEP)
            assert get(f"http://127.0.0.1:{port}")[2] == b"the application"
            [pid] = children_of(outer.pid)
            status = Path(f"/proc/{pid}/status").read_text()
            assert "\nUid:\t65532\t65532" in status
            assert re.search(r"^NSpid:.*\t1$", status, re.MULTILINE), "it is process 1"
            while any("(zombie)" in state for state in map(state_of, children_of(pid))):
                assert time.monotonic() < limit, "an orphan is not reaped"
                time.sleep(STEP)
            time.sleep(1.5)  # until the other one has ended
            assert not any("(zombie)" in state for state in map(state_of, children_of(pid)))
            subprocess.run(["kill", str(pid)], check=True)
            assert outer.wait(PATIENCE) == 0
    finally:
        outer.kill()
        outer.wait(PATIENCE)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text().partition("State:")[2].partition("\n")[0]
    except OSError:
        return "ended"
