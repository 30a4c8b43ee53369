"""What is in files of certificates and keys, and the messages for wrong files."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from hopproxy.settings.pem import MISSING, Source, Unusable, certificates, private_key
from tests.issued import authority

ROOT = authority()
SITE = ROOT.issue("a.example")


def said(parse: object, data: bytes) -> str:
    assert callable(parse)
    with pytest.raises(Unusable) as caught:
        parse(Source("F", data))
    finding = caught.value.finding
    assert finding.fatal
    assert finding.of_key is (parse is private_key)
    return f"{finding.kind}: {finding.message} ({finding.hint})"


def test_certificates_come_in_the_order_of_the_file() -> None:
    found = certificates(Source("F", b"# comment\r\n" + SITE.cert + b"\n" + ROOT.cert))
    assert found == [SITE.certificate, ROOT.certificate]


def test_lines_may_end_in_other_ways() -> None:
    both = b"\xef\xbb\xbf" + SITE.cert + ROOT.cert.rstrip()
    for data in (both, both.replace(b"\n", b"\r\n"), both.replace(b"-----\n", b"----- \n")):
        assert certificates(Source("F", data)) == [SITE.certificate, ROOT.certificate]


@pytest.mark.parametrize("label", [b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"])
def test_a_certificate_with_another_label_is_read(label: bytes) -> None:
    data = SITE.cert.replace(b" CERTIFICATE", b" " + label)
    assert certificates(Source("F", data)) == [SITE.certificate]


@pytest.mark.parametrize(
    "data",
    [
        SITE.key,
        SITE.cert + SITE.key,
        SITE.secret.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
    ],
)
def test_a_key_is_read_in_each_format(data: bytes) -> None:
    assert private_key(Source("F", data)).public_key() == SITE.secret.public_key()


ENCRYPTED = SITE.secret.private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x")
)
SSH = SITE.secret.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
PUBLIC = SITE.secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
STORE = pkcs12.serialize_key_and_certificates(
    b"a", SITE.secret, SITE.certificate, None, NoEncryption()
)
REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n"
CRL = b"-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n"
PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nAA==\n-----END EC PARAMETERS-----\n"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b" \n", "empty: F is empty (did the program that writes it run?)"),
        (
            SITE.certificate.public_bytes(Encoding.DER),
            "format: F is DER, not PEM (convert it: openssl x509 -inform der -in F -out F.pem)",
        ),
        (
            STORE,
            "format: F is PKCS#12, not PEM (convert it: openssl pkcs12 -in F -nodes -out F.pem)",
        ),
        (
            b"\xfe\xed\xfe\xed\0",
            "format: F is a Java key store, not PEM (convert it: keytool -importkeystore "
            "-srckeystore F -destkeystore F.p12)",
        ),
        (
            b"hello",
            "format: F is not PEM (it begins with -----BEGIN CERTIFICATE----- or "
            "-----BEGIN PRIVATE KEY-----)",
        ),
        pytest.param(
            SITE.cert[:100],
            "damaged: F is cut off, or damaged (copy the file again, whole)",
            id="cut off",  # its bytes are other ones in each run
        ),
        pytest.param(
            SITE.cert + ROOT.cert[:100],
            "damaged: F is cut off, or damaged (copy the file again, whole)",
            id="the second one cut off",
        ),
        *(
            pytest.param(
                data,
                "damaged: F: a BEGIN or END of PEM does not have a line of its own (were two "
                "files joined without a line end? Add a line break there)",
                id=what,
            )
            for what, data in {
                "two files joined": SITE.cert.rstrip() + ROOT.cert,
                "indented below": SITE.cert + b"  " + ROOT.cert,
                "ends of lines of old": SITE.cert.replace(b"\n", b"\r"),
                "in one line": SITE.cert.replace(b"\n", b""),
            }.items()
        ),
        (
            SITE.key,
            "content: F holds a private key, not a certificate (write it as `key`, the other as "
            "`cert`)",
        ),
        (
            REQUEST,
            "content: F holds a request for a certificate, not a certificate (write the file that "
            "the authority has sent back)",
        ),
        (
            CRL,
            "content: F holds a list of revoked certificates (write the file of the certificate)",
        ),
        (
            PUBLIC,
            "content: F holds `PUBLIC KEY`, not a certificate (write the file of the certificate)",
        ),
    ],
)
def test_file_without_a_certificate(data: bytes, problem: str) -> None:
    assert said(certificates, data) == problem


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty: F is empty (did the program that writes it run?)"),
        (
            SITE.secret.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            "format: F is DER, not PEM (convert it: openssl pkey -inform der -in F -out F.pem)",
        ),
        (
            SITE.cert,
            "content: F holds a certificate and no private key (write the file of the key as "
            "`key`)",
        ),
        (
            PUBLIC,
            "content: F holds a public key, not a private one (write the file of the private key)",
        ),
        (
            PARAMETERS,
            "content: F holds `EC PARAMETERS`, not a private key (write the file of the private "
            "key)",
        ),
        (
            SSH,
            "format: F is a key for SSH (convert it: ssh-keygen -p -N '' -m pem -f F)",
        ),
        (
            SITE.encrypted(),
            "encrypted: F is encrypted, and hopproxy cannot ask for its passphrase (decrypt it: "
            "openssl pkey -in F -out plain.key)",
        ),
        (
            ENCRYPTED,
            "encrypted: F is encrypted, and hopproxy cannot ask for its passphrase (decrypt it: "
            "openssl pkey -in F -out plain.key)",
        ),
    ],
)
def test_file_without_a_usable_key(data: bytes, problem: str) -> None:
    assert said(private_key, data) == problem


def flipped(data: bytes) -> bytes:
    """PEM of which the middle line is lost."""
    lines = data.splitlines(keepends=True)
    del lines[len(lines) // 2]
    return b"".join(lines)


def test_a_damaged_file_is_reported_with_the_number_of_the_certificate() -> None:
    assert said(certificates, flipped(SITE.cert)).startswith(
        "damaged: F: the certificate cannot be read: "
    )
    assert said(certificates, SITE.cert + flipped(ROOT.cert)).startswith(
        "damaged: F: certificate 2 cannot be read: "
    )
    assert said(private_key, flipped(SITE.key)).startswith(
        "damaged: F: the private key cannot be read: "
    )


@pytest.mark.parametrize(
    ("error", "kind"), [(MISSING, "missing"), ("may not be read", "unreadable")]
)
def test_a_file_that_could_not_be_read(error: str, kind: str) -> None:
    with pytest.raises(Unusable) as caught:
        certificates(Source("F", error=error, hint="do this"))
    assert caught.value.finding[:3] == (kind, f"F: {error}", "do this")
