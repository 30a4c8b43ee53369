"""Certificates for tests: authorities, what they sign, and what has gone wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
DAY = 86400.0
#: A moment, in Unix time: 2030-01-01.
NOW = 1893456000.0


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    secret: Key

    @property
    def cert(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key(self) -> bytes:
        return self.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def encrypted(self) -> bytes:
        how = BestAvailableEncryption(b"secret")
        return self.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)

    def write(self, folder: Path, name: str, *above: Issued) -> tuple[str, str]:
        """Write both into files; `above` are certificates to append.  Returns their paths."""
        cert, key = folder / f"{name}.crt", folder / f"{name}.key"
        cert.write_bytes(b"".join([self.cert, *(one.cert for one in above)]))
        key.write_bytes(self.key)
        key.chmod(0o600)
        return str(cert), str(key)

    def issue(self, *names: str, **other: object) -> Issued:
        """A certificate for these names, signed by this one."""
        return issue(*names, by=self, **other)  # type: ignore[arg-type]


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key; making one takes a while."""
    return rsa.generate_private_key(65537, bits)


def issue(
    *names: str,
    by: Issued | None = None,
    common: str = "",
    days: tuple[float, float] = (-30, 60),
    now: float = NOW,
    key: Key | None = None,
    authority: bool | None = False,
    usages: Iterable[ObjectIdentifier] = (),
) -> Issued:
    """A certificate, signed by itself unless `by` another; valid from and until `days` from now."""
    secret = key or ec.generate_private_key(ec.SECP256R1())
    subject = _name(common or (names[0] if names else "nobody"))
    start = datetime.fromtimestamp(now, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start + timedelta(days=days[0]))
        .not_valid_after(start + timedelta(days=days[1]))
    )
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
        )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    signer = by.secret if by else secret
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, digest), secret)


def authority(common: str = "Test root", **other: object) -> Issued:
    """An authority that has signed itself."""
    return issue(common=common, authority=True, days=(-100, 1000), **other)  # type: ignore[arg-type]


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
