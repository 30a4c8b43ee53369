"""The OpenSSL that `ssl` uses, for what `ssl` has no function for.

Only if the layout of Python's objects is known, and OpenSSL is a library of its own.
"""

from __future__ import annotations

import re
import ssl
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

#: BIO_C_SET_BUF_MEM and BIO_CLOSE of OpenSSL 3.
_SET_BUFFER, _CLOSE = 114, 1
_AES_128 = b"TLS_AES_128_GCM_SHA256"


@cache
def library() -> ctypes.CDLL | None:
    """OpenSSL, None if it cannot be called safely."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 14):
        return None  # the layout of the objects is known up to 3.13
    path = _path()
    if path is None:
        return None
    import ctypes  # only where it is needed: it takes memory

    return ctypes.CDLL(path)


def _path() -> str | None:
    """The library that this process has loaded, None if OpenSSL is part of Python."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = {
        line.split(None, 5)[5] for line in maps.splitlines() if re.search(r"/libssl\S*$", line)
    }
    return found.pop() if len(found) == 1 else None


def pointer_in(held: object) -> int | None:
    """The pointer with which an object of `ssl` begins: what it holds of OpenSSL."""
    import ctypes

    return ctypes.c_void_p.from_address(id(held) + object.__basicsize__).value


def prefer_aes_128(context: ssl.SSLContext) -> None:
    """Prefer AES-128 to AES-256, as Go and BoringSSL do.

    With it comes SHA-256, which processors have instructions for: a handshake takes an eighth less.
    What this machine does not allow is not added.
    """
    older = [one["name"] for one in context.get_ciphers() if one["protocol"] != "TLSv1.3"]
    if older:
        context.set_ciphers(":".join(sorted(older, key=_is_second)))
    order, openssl = _suites(), library()
    if openssl is None or not order.startswith(_AES_128):
        return
    import ctypes

    call = openssl.SSL_CTX_set_ciphersuites
    call.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    call(pointer_in(context), order)


def _is_second(name: str) -> bool:
    """Whether others come before this cipher suite of TLS 1.2."""
    return not (name.startswith("ECDHE-") and "-AES128-GCM-" in name)


@cache
def _suites() -> bytes:
    """The cipher suites of TLS 1.3 that this machine allows, AES-128 first."""
    ciphers = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    names = [one["name"].encode() for one in ciphers if one["protocol"] == "TLSv1.3"]
    return b":".join(sorted(names, key=lambda name: name != _AES_128))


class Shrinking:
    """Frees the buffers of memory BIOs, which only grow, to a third more than they ever held."""

    def __init__(self, openssl: ctypes.CDLL) -> None:
        import ctypes

        self._new = openssl.BUF_MEM_new
        self._new.argtypes = []
        self._new.restype = ctypes.c_void_p
        self._control = openssl.BIO_ctrl
        self._control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._control.restype = ctypes.c_long

    def shrink(self, bio: ssl.MemoryBIO) -> None:
        """Free the buffer of a BIO that is empty."""
        if not bio.pending:
            self._control(pointer_in(bio), _SET_BUFFER, _CLOSE, self._new())


@cache
def shrinking() -> Shrinking | None:
    """None if it cannot be done here."""
    openssl = library() if ssl.OPENSSL_VERSION.startswith("OpenSSL 3") else None
    return None if openssl is None else Shrinking(openssl)
