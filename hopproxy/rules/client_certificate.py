"""What the origin is told of a client's certificate, in fields that no client can send itself."""

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
    """The field lines for a verified certificate, each with its CRLF; none for what it lacks.

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
    """A name in a certificate: nearly always a string, else the name of a directory's entry."""
    return value if isinstance(value, str) else distinguished_name(value)


#: What RFC 4514 section 2.4 escapes.
SPECIAL = ',+"<>;=#'


def _escaped(value: str, special: str) -> str:
    """Visible ASCII, with a backslash before what is `special` and in place of all other bytes."""
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
