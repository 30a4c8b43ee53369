"""What is in a file of certificates or in a file of a key, and what is wrong with it.

The files were read before: each is a `Source`.  Problems are `Finding`s.
"""

import re
import warnings
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
#: OpenSSL sees only lines that begin with BEGIN or END, and have nothing else.
_MARK = re.compile(rb"-----(?:BEGIN|END) [A-Z0-9 ]+-----")
_MARK_LINE = re.compile(rb"^" + _MARK.pattern + rb"[ \t\r]*$", re.MULTILINE)
_BYTE_ORDER = b"\xef\xbb\xbf"
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE")
_REQUESTS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
#: PKCS#12 is a sequence that begins with version 3, and a certificate one that begins with another.
_PKCS12 = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...)\x02\x01\x03", re.DOTALL)
_DER = re.compile(rb"\x30[\x80-\x84]")
_JAVA = b"\xfe\xed\xfe\xed"


class Source(NamedTuple):
    """A file as it was read: its content and its permissions, or why it could not be read."""

    file: str
    data: bytes = b""
    mode: int = 0o600
    error: str = ""
    hint: str = ""


class Finding(NamedTuple):
    """Something wrong with a certificate or its key.

    `kind` is a word for it.  `of_key` if the problem is at the setting of the key, not of the
    certificate.  With a `fatal` one the certificate cannot be used.
    """

    kind: str
    message: str
    hint: str
    of_key: bool = False
    fatal: bool = False


class Unusable(Exception):
    """A file that cannot be used; `finding` says why."""

    def __init__(self, kind: str, message: str, hint: str, *, of_key: bool = False) -> None:
        super().__init__(message)
        self.finding = Finding(kind, message, hint, of_key, fatal=True)


def certificates(source: Source) -> list[x509.Certificate]:
    """The certificates in a file, in its order, at least one.  Raises Unusable."""
    found = _blocks(source, of_key=False)
    blocks = [block for label, block in found if label in _CERTIFICATES]
    if not blocks:
        raise _no_certificate(source.file, [label for label, _ in found])
    read: list[x509.Certificate] = []
    for number, block in enumerate(blocks, 1):
        try:
            with warnings.catch_warnings():  # about old authorities with serial number 0
                warnings.simplefilter("ignore")
                one = x509.load_pem_x509_certificate(_as_plain(block))
                # Parsed only when they are asked for.
                _ = one.subject, one.issuer, one.extensions, one.public_key()
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
            which = f"certificate {number}" if len(blocks) > 1 else "the certificate"
            raise Unusable(
                "damaged",
                f"{source.file}: {which} cannot be read: {_first_line(error)}",
                "copy the file again, whole",
            ) from error
        read.append(one)
    return read


def private_key(source: Source) -> PrivateKeyTypes:
    """The private key in a file.  Raises Unusable."""
    found = _blocks(source, of_key=True)
    keys = [(label, block) for label, block in found if label.endswith("PRIVATE KEY")]
    if not keys:
        raise _no_key(source.file, [label for label, _ in found])
    label, block = keys[0]
    if label.startswith("OPENSSH"):
        raise Unusable(
            "format",
            f"{source.file} is a key for SSH",
            f"convert it: ssh-keygen -p -N '' -m pem -f {source.file}",
            of_key=True,
        )
    if label.startswith("ENCRYPTED") or b"Proc-Type: 4,ENCRYPTED" in block:
        raise Unusable(
            "encrypted",
            f"{source.file} is encrypted, and hopproxy cannot ask for its passphrase",
            f"decrypt it: openssl pkey -in {source.file} -out plain.key",
            of_key=True,
        )
    try:
        return load_pem_private_key(block, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unusable(
            "damaged",
            f"{source.file}: the private key cannot be read: {_first_line(error)}",
            "copy the file again, whole",
            of_key=True,
        ) from error


def _blocks(source: Source, *, of_key: bool) -> list[tuple[str, bytes]]:
    """The blocks of PEM in a file, with their labels.  Raises Unusable if there is none."""
    file, data = source.file, source.data.removeprefix(_BYTE_ORDER)
    if source.error:
        kind = "missing" if source.error == MISSING else "unreadable"
        raise Unusable(kind, f"{file}: {source.error}", source.hint, of_key=of_key)
    found = [(match[1].decode(), match[0]) for match in _BLOCK.finditer(data)]
    marks = len(_MARK.findall(data))
    if marks != len(_MARK_LINE.findall(data)):
        message = f"{file}: a BEGIN or END of PEM does not have a line of its own"
        raise Unusable("damaged", message, _LINES, of_key=of_key)
    if found and marks == 2 * len(found):
        return found
    what = "pkey" if of_key else "x509"
    if not data.strip():
        raise Unusable("empty", f"{file} is empty", _EMPTY, of_key=of_key)
    if _PKCS12.match(data):
        message, hint = "is PKCS#12, not PEM", f"openssl pkcs12 -in {file} -nodes -out {file}.pem"
    elif _DER.match(data):
        message, hint = "is DER, not PEM", f"openssl {what} -inform der -in {file} -out {file}.pem"
    elif data.startswith(_JAVA):
        message = "is a Java key store, not PEM"
        hint = f"keytool -importkeystore -srckeystore {file} -destkeystore {file}.p12"
    elif b"-----BEGIN" in data:
        raise Unusable(
            "damaged", f"{file} is cut off, or damaged", "copy the file again, whole", of_key=of_key
        )
    else:
        raise Unusable("format", f"{file} is not PEM", _PEM, of_key=of_key)
    raise Unusable("format", f"{file} {message}", f"convert it: {hint}", of_key=of_key)


_LINES = "were two files joined without a line end? Add a line break there"
#: The error of a `Source` whose file does not exist.
MISSING = "no such file"
_EMPTY = "did the program that writes it run?"
_PEM = "it begins with -----BEGIN CERTIFICATE----- or -----BEGIN PRIVATE KEY-----"


def _no_certificate(file: str, labels: list[str]) -> Unusable:
    """The error for a file without a certificate: what it holds instead."""
    if any(label.endswith("PRIVATE KEY") for label in labels):
        held, hint = "a private key, not a certificate", "write it as `key`, the other as `cert`"
    elif any(label in _REQUESTS for label in labels):
        held = "a request for a certificate, not a certificate"
        hint = "write the file that the authority has sent back"
    elif "X509 CRL" in labels:
        held, hint = "a list of revoked certificates", "write the file of the certificate"
    else:
        held, hint = f"`{labels[0]}`, not a certificate", "write the file of the certificate"
    return Unusable("content", f"{file} holds {held}", hint)


def _no_key(file: str, labels: list[str]) -> Unusable:
    """The error for a file without a private key: what it holds instead."""
    if any(label in _CERTIFICATES for label in labels):
        held, hint = "a certificate and no private key", "write the file of the key as `key`"
    elif "PUBLIC KEY" in labels:
        held, hint = "a public key, not a private one", "write the file of the private key"
    else:
        held, hint = f"`{labels[0]}`, not a private key", "write the file of the private key"
    return Unusable("content", f"{file} holds {held}", hint, of_key=True)


def _as_plain(block: bytes) -> bytes:
    """The block with the usual label."""
    return re.sub(rb"(-----(?:BEGIN|END) )(?:X509 |TRUSTED )", rb"\1", block)


def _first_line(error: Exception) -> str:
    return (
        str(error).partition("\n")[0].partition(" - ")[0].partition(": ParseError")[0].rstrip(".")
        or type(error).__name__
    )
