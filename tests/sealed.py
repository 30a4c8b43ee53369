"""Records of TLS 1.3 sealed by hand, for what no library sends: KeyUpdates in any number."""

from __future__ import annotations

import hashlib
import hmac
import struct
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HANDSHAKE = 22
#: The hash and the size of the key by the size of a secret: of TLS_AES_128_GCM_SHA256, which we
#: prefer, and TLS_AES_256_GCM_SHA384, which `ssl` prefers.
_SUITES = {32: (hashlib.sha256, 16), 48: (hashlib.sha384, 32)}


class Sealer:
    """What one side sends from now on; `log` is the key log of its connection.

    `label` is CLIENT_TRAFFIC_SECRET_0 or SERVER_TRAFFIC_SECRET_0, `sent` how many records that side
    has sent since its handshake.
    """

    def __init__(self, log: Path, label: str, sent: int = 0) -> None:
        [secret] = [line.split()[2] for line in log.read_text().splitlines() if label in line]
        self._secret = bytes.fromhex(secret)
        self._begin()
        self._number = sent

    def key_update(self, *, answer: bool) -> bytes:
        """A KeyUpdate (RFC 8446 section 4.6.3); with `answer` the peer must update its keys too."""
        record = self._seal(bytes((24, 0, 0, 1, answer)), _HANDSHAKE)
        self._secret = _expand(self._secret, b"traffic upd", len(self._secret))
        self._begin()
        return record

    def data(self, data: bytes) -> bytes:
        """A record of application data."""
        return self._seal(data, 23)

    def _begin(self) -> None:
        _, size = _SUITES[len(self._secret)]
        self._cipher = AESGCM(_expand(self._secret, b"key", size))
        self._iv = _expand(self._secret, b"iv", 12)
        self._number = 0

    def _seal(self, data: bytes, kind: int) -> bytes:
        head = struct.pack(">BHH", 23, 0x0303, len(data) + 1 + 16)
        number = self._number.to_bytes(12, "big")
        self._number += 1
        nonce = bytes(a ^ b for a, b in zip(self._iv, number, strict=True))
        return head + self._cipher.encrypt(nonce, data + bytes((kind,)), head)


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1, for no more than one block."""
    label = b"tls13 " + label
    told = struct.pack(">HB", size, len(label)) + label + b"\0"
    kind, _ = _SUITES[len(secret)]
    return hmac.digest(secret, told + b"\1", kind)[:size]
