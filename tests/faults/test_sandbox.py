"""A real process whose sandbox denies system calls that it could do without."""

from __future__ import annotations

import ctypes
import errno
import platform
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import answering, get, hopproxy, write_settings
from tests.ports import free_port

#: The numbers of `splice`, `pipe2`, `prlimit64` and `memfd_create`, by machine.
CALLS = {"x86_64": (275, 293, 302, 319), "aarch64": (76, 59, 261, 279)}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in CALLS, reason="needs seccomp of Linux"
)

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
DENY, ALLOW = 0x00050000, 0x7FFF0000


class Program(ctypes.Structure):
    """`struct sock_fprog`: a length, and where the instructions are."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def deny(call: int, number: int) -> None:
    """From now on this process gets the error `number` for one system call."""
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD_NUMBER, 0, 0, 0),
            (JUMP_IF_EQUAL, 0, 1, call),
            (RETURN, 0, 0, DENY | number),
            (RETURN, 0, 0, ALLOW),
        )
    )
    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(4, code)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(
        SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no filter could be set")


@pytest.mark.parametrize(
    "number", [errno.EPERM, errno.EACCES, errno.ENOSYS], ids=errno.errorcode.get
)
@pytest.mark.parametrize("which", [0, 1], ids=["splice", "pipe2"])
def test_long_bodies_pass_whole_where_a_filter_denies(
    tmp_path: Path, which: int, number: int
) -> None:
    call = CALLS[platform.machine()][which]
    page = random.Random(1).randbytes(3_000_000)
    port = free_port()
    file, url = write_settings(tmp_path, port)
    with (
        answering(port, page),
        hopproxy(
            "run",
            "--config",
            str(file),
            until="listening on",
            preexec_fn=lambda: deny(call, number),
        ) as command,
    ):
        for _ in range(2):
            status, _fields, body = get(url)
            assert (status, body == page) == (200, True)
        assert command.said.count("splice is not available") == 1, command.said
        assert "Traceback" not in command.said


def serves_and_ends(folder: Path, limit: Callable[[], None]) -> None:
    """A process that `limit` is called in before it starts."""
    port = free_port()
    file, url = write_settings(folder, port)
    with (
        answering(port),
        hopproxy("run", "--config", str(file), until="listening on", preexec_fn=limit) as command,
    ):
        assert get(url)[0] == 200
        assert command.stop() == 0
        assert "Traceback" not in command.said


@pytest.mark.parametrize("which", [2, 3], ids=["prlimit64", "memfd_create"])
def test_it_serves_and_ends_where_a_filter_denies(tmp_path: Path, which: int) -> None:
    call = CALLS[platform.machine()][which]
    serves_and_ends(tmp_path, lambda: deny(call, errno.EPERM))


@pytest.mark.parametrize(("most", "workers"), [(0, 1), (1024, 1), (1_150_000, 1), (1_200_000, 4)])
def test_it_tells_where_files_may_not_be_large_enough(
    tmp_path: Path, most: int, workers: int
) -> None:
    file, _ = write_settings(tmp_path, free_port())
    file.write_text(f"workers: {workers}\n{file.read_text()}")
    done = subprocess.run(
        [sys.executable, "-m", "hopproxy", "run", str(file)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "LimitFSIZE=" in done.stderr


def test_it_serves_where_files_may_not_be_large(tmp_path: Path) -> None:
    most = 16 * 1024 * 1024
    serves_and_ends(tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)))
