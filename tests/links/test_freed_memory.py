"""Memory that is freed stays with the process, so that the next piece costs no page faults."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")

PIECES = """
import resource, sys
from hopproxy.link.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def pieces():
    for _ in range(100):
        held = [bytearray(b"x") * size for size in (262144, 65536, 262144, 65536, 90000)]
pieces()
before = faults()
pieces()
print(faults() - before)
"""


def faults(word: str) -> int:
    ended = subprocess.run(
        [sys.executable, "-c", PIECES, word], check=True, capture_output=True, timeout=30
    )
    return int(ended.stdout)


def test_pieces_of_long_bodies_cost_no_page_faults() -> None:
    assert faults("keep") < 500
    assert faults("leave") > 2000
