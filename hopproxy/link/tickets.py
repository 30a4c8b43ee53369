"""Keys of TLS session tickets that all workers share, so that clients resume at any of them.

Python's `ssl` has no function for it, so OpenSSL's own is called on the library that `ssl` uses.
If that is not possible, each worker has keys of its own: clients that connect to another worker do
a full handshake.
"""

from __future__ import annotations

import ssl
from functools import cache
from hashlib import blake2b
from typing import TYPE_CHECKING

from hopproxy.link.openssl import library, pointer_in

if TYPE_CHECKING:
    from collections.abc import Callable

#: SSL_CTRL_SET_TLSEXT_TICKET_KEYS, and the size of the keys.
_SET_KEYS, _SIZE = 59, 80

#: The secret of the keys, set before any context is made; empty with a single worker.
_secret = b""


def share(secret: bytes) -> None:
    """Share keys with all workers that have this secret."""
    global _secret
    _secret = secret


def can_be_shared() -> bool:
    """Whether this can be done here."""
    return _control() is not None


def share_keys(context: ssl.SSLContext, demand: bytes) -> bool:
    """Give a context of a listener the shared keys; False if it keeps its own.

    `demand` is what the listener requires of clients.  A listener that requires less has other
    keys, so its tickets are not accepted here.
    """
    control = _control() if _secret else None
    if control is None:
        return False
    halves = [blake2b(demand, key=_secret[:64], salt=b"%d" % n).digest() for n in (1, 2)]
    return control(context, _SET_KEYS, _SIZE, b"".join(halves)[:_SIZE]) == 1


@cache
def _control() -> Callable[[ssl.SSLContext, int, int, bytes], int] | None:
    """SSL_CTX_ctrl of OpenSSL, None if it cannot be called safely."""
    openssl = library()
    if openssl is None:
        return None
    import ctypes

    control = openssl.SSL_CTX_ctrl
    control.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
    control.restype = ctypes.c_long

    def call(context: ssl.SSLContext, command: int, number: int, data: bytes) -> int:
        return int(control(pointer_in(context), command, number, data))

    return call
