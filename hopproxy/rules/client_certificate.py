"""Fields that tell the origin about a client's certificate.  No client can send them itself."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

#: Attribute types by their names in OpenSSL (RFC 4514 section 3); others keep theirs.
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
_KINDS = {"IP Address": "IP", "email": "email"}
Name = Iterable[Iterable[tuple[str, str]]]


def certificate_lines(found: Mapping[str, Any], der: bytes, fields: Iterable[str]) -> bytes:
    """The field lines for a verified certificate, each with its CRLF; none for missing parts.

    `found` is what `ssl.SSLObject.getpeercert` returns, `fields` are the words of the setting.
    """
    values = {
        "subject": distinguished_name(found.get("subject", ())),
        "issuer": distinguished_name(found.get("issuer", ())),
        "serial": str(found.get("serialNumber", "")),
        "names": ", ".join(
            f"{_KINDS.get(kind, kind)}:{_escaped(_text(value), ',')}"
            for kind, value in found.get("subjectAltName", ())
        ),
        "fingerprint": sha256(der).hexdigest(),
    }
    lines = [
        f"X-Client-Cert-{field.capitalize()}: {values[field]}\r\n"
        for field in fields
        if values[field]
    ]
    return "".join(lines).encode("ascii")


def distinguished_name(name: Name) -> str:
    """A subject or issuer as RFC 4514 writes it: the last attribute first."""
    sets = [
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value, SPECIAL)}" for kind, value in one)
        for one in name
    ]
    return ",".join(reversed(sets))


def _text(value: str | Name) -> str:
    """A name in a certificate: a string, or rarely a distinguished name."""
    return value if isinstance(value, str) else distinguished_name(value)


#: What RFC 4514 section 2.4 escapes.
SPECIAL = ',+"<>;=#'


def _escaped(value: str, special: str) -> str:
    """Visible ASCII, with `special` characters and all other bytes escaped by a backslash."""
    written = []
    for at, character in enumerate(value):
        edge = character == " " and at in (0, len(value) - 1)
        if character in special or character == "\\" or edge:
            written.append(f"\\{character}")
        elif " " <= character <= "~":
            written.append(character)
        else:
            written += [f"\\{byte:02X}" for byte in character.encode("utf-8", "surrogateescape")]
    return "".join(written)
