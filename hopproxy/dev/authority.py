"""A certificate authority on the developer's machine, and the certificates it signs for `dev`.

Its key never leaves the user's data folder.  With it, anyone could imitate any site for this user's
browsers.  So only the user can read it, and the authority may not sign another authority.
"""

import hashlib
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hopproxy.settings.certificate import Certificate

#: Every certificate is valid for these.  Some tools refuse `*.localhost`, so names are added too.
ALWAYS = ("localhost", "*.localhost", "127.0.0.1", "::1")
#: Days for which the authority and what it signs are valid; below `RENEW` it is signed anew.
AUTHORITY_DAYS, SITE_DAYS, RENEW = 3650, 90, 30


class Made(NamedTuple):
    """The files of the authority and of a site's certificate; `new` if the authority is."""

    ca: Path
    certificate: Certificate
    new: bool


def data_folder() -> Path:
    """Where this user's programs keep their data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "hopproxy"
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    # A relative path counts as absent (XDG Base Directory Specification).
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "hopproxy"


def certificate_for(hosts: Iterable[str], folder: Path, now: datetime | None = None) -> Made:
    """A certificate for this machine's names and `hosts`; a valid one is used again.

    Raises OSError if the folder cannot be used.
    """
    now = now or datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca, secret, new = _authority(folder, now)
    names = tuple(dict.fromkeys([*ALWAYS, *(host.strip("[]") for host in hosts)]))
    mark = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    cert, key = folder / f"{mark}.crt", folder / f"{mark}.key"
    if not _is_usable(cert, key, ca, now):
        _sign(names, ca, secret, (cert, key), now)
    return Made(folder / "ca.crt", Certificate(cert=str(cert), key=str(key)), new)


def trust(ca: Path) -> list[str]:
    """Commands that make systems and browsers trust this authority, one line for each."""
    file = f"'{ca}'" if " " in str(ca) else str(ca)
    return [
        f"Debian: sudo cp {file} /usr/local/share/ca-certificates/hopproxy.crt && "
        "sudo update-ca-certificates",
        "macOS: security add-trusted-cert -r trustRoot -k "
        f"~/Library/Keychains/login.keychain-db {file}",
        "Firefox: for d in ~/.mozilla/firefox/*/; do certutil -A -d sql:$d -n hopproxy -t C,, "
        f"-i {file}; done",
        "Chromium: mkdir -p $HOME/.pki/nssdb && "
        f"certutil -A -d sql:$HOME/.pki/nssdb -n hopproxy -t C,, -i {file}",
    ]


def _authority(
    folder: Path, now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, bool]:
    """(certificate, key, whether they were made now)."""
    cert, key = folder / "ca.crt", folder / "ca.key"
    try:
        one = x509.load_pem_x509_certificate(cert.read_bytes())
        secret = _key_of(one, key)
    except (FileNotFoundError, ValueError):
        pass
    else:
        if one.not_valid_after_utc > now + timedelta(days=SITE_DAYS):
            return one, secret, False
    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hopproxy dev"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"hopproxy dev of {_whose()}"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    one = (
        _builder(name, name, secret.public_key(), now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(secret, hashes.SHA256())
    )
    _write(key, _pem(secret))
    _write(cert, one.public_bytes(Encoding.PEM), mode=0o644)
    return one, secret, True


def _key_of(one: x509.Certificate, file: Path) -> ec.EllipticCurvePrivateKey:
    """The key of a certificate.  Raises FileNotFoundError, ValueError: it is not in this file."""
    try:
        secret = load_pem_private_key(file.read_bytes(), None)
    except (TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise ValueError(str(error)) from error
    if not isinstance(secret, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an EC key")
    if secret.public_key() != one.public_key():
        raise ValueError("the key is not that of the certificate")
    return secret


def _is_usable(cert: Path, key: Path, ca: x509.Certificate, now: datetime) -> bool:
    try:
        one = x509.load_pem_x509_certificate(cert.read_bytes())
        one.verify_directly_issued_by(ca)
        _key_of(one, key)
    except Exception:  # whatever is wrong with it, a new one is made
        return False
    return one.not_valid_after_utc > now + timedelta(days=RENEW)


def _sign(
    names: tuple[str, ...],
    ca: x509.Certificate,
    secret: ec.EllipticCurvePrivateKey,
    files: tuple[Path, Path],
    now: datetime,
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    cert = (
        _builder(subject, ca.subject, own.public_key(), now, SITE_DAYS)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(secret, hashes.SHA256())
    )
    _write(files[1], _pem(own))
    _write(files[0], cert.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM), mode=0o644)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(secret: ec.EllipticCurvePrivateKey) -> bytes:
    return secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(file: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file in one step: a reader sees the old one or the new one."""
    part = file.with_suffix(f".{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as opened:
        opened.write(data)
    part.replace(file)


def _whose() -> str:
    return f"{os.environ.get('USER') or os.geteuid()}@{os.uname().nodename}"[:48]
