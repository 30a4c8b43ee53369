"""Standard streams that are closed, or whose reader has left: no traceback, and no mix-up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import HOPPROXY, PATIENCE, STEP, answering, get, write_settings
from tests.peers.servers import listens
from tests.ports import free_port

CLOSED = {
    "input": "<&-",
    "output": ">&-",
    "error": "2>&-",
    "output and error": ">&- 2>&-",
    "all": "<&- >&- 2>&-",
}


def shell(redirection: str, *arguments: str) -> list[str]:
    """The command with streams as a shell redirects them."""
    return ["sh", "-c", f'exec "$@" {redirection}', "sh", *HOPPROXY, *arguments]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("redirection", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("command", ["run", "dev"])
def test_a_closed_stream_does_not_hinder_serving(
    tmp_path: Path, command: str, redirection: str
) -> None:
    origin = free_port()
    file, url = write_settings(tmp_path, origin)
    arguments = ["run", "--config", str(file)]
    if command == "dev":
        arguments = ["dev", str(origin), "--bind", url[7:], "--admin", "127.0.0.1:0"]
    process = subprocess.Popen(
        shell(redirection, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        limit = time.monotonic() + PATIENCE
        while not listens(int(url.rpartition(":")[2])):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(STEP)
        with answering(origin, b"here"):
            assert [get(url)[2] for _ in range(3)] == [b"here"] * 3
            process.send_signal(signal.SIGUSR1)  # which writes to standard error
            assert get(url)[2] == b"here"
            standard = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2)]
            process.terminate()
            said = b"".join(process.communicate(timeout=PATIENCE))
    finally:
        process.kill()
    assert not any(target.startswith(("socket:", "anon_inode:")) for target in standard)
    assert process.returncode == 0
    assert b"Traceback" not in said
    assert b"HTTP/1.1" not in said


@pytest.mark.parametrize("redirection", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("command", ["check", "schema", "--version"])
def test_a_closed_stream_does_not_hinder_other_commands(
    tmp_path: Path, command: str, redirection: str
) -> None:
    file, _ = write_settings(tmp_path, free_port())
    arguments = ["check", "--config", str(file)] if command == "check" else [command]
    done = subprocess.run(
        shell(redirection, *arguments), capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_failure_that_cannot_be_told_still_has_its_exit_code(
    tmp_path: Path, redirection: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("upstreams: 3\n")
    for command in ("check", "run"):
        done = subprocess.run(
            shell(redirection, command, "--config", str(file)),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, b"")


def test_a_reader_that_leaves_ends_a_command_quietly() -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" | true; echo "${PIPESTATUS[0]}"', "bash", *HOPPROXY, "--version"],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"0\n", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["check", "schema"])
def test_a_full_disk_is_named(tmp_path: Path, command: str) -> None:
    file, _ = write_settings(tmp_path, free_port())
    arguments = ["check", "--config", str(file)] if command == "check" else [command]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*HOPPROXY, *arguments], stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    assert done.returncode == 1
    assert re.fullmatch(rb"hopproxy: standard output: No space left on device\n", done.stderr)
