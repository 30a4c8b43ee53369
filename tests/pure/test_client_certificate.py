"""The fields about a client certificate: one clean line for each word of the setting."""

from __future__ import annotations

import re
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from hopproxy.message import FIELD_LINE
from hopproxy.rules.client_certificate import certificate_lines, distinguished_name

ALL = ("subject", "issuer", "serial", "names", "fingerprint")
FOUND = {
    "subject": ((("countryName", "DE"),), (("organizationName", "A, B"),), (("commonName", "Al"),)),
    "issuer": ((("commonName", "Authority"), ("1.2.3", "x")),),
    "serialNumber": "0A1B",
    "subjectAltName": (
        ("DNS", "al.test"),
        ("email", "al@a.test"),
        ("URI", "spiffe://a/b,c"),
        ("IP Address", "192.0.2.1"),
    ),
}


def test_each_word_is_a_field() -> None:
    lines = certificate_lines(FOUND, b"der", ALL).decode().split("\r\n")
    assert lines == [
        r"X-Client-Cert-Subject: CN=Al,O=A\, B,C=DE",
        "X-Client-Cert-Issuer: CN=Authority+1.2.3=x",
        "X-Client-Cert-Serial: 0A1B",
        r"X-Client-Cert-Names: DNS:al.test, email:al@a.test, URI:spiffe://a/b\,c, IP:192.0.2.1",
        f"X-Client-Cert-Fingerprint: {sha256(b'der').hexdigest()}",
        "",
    ]


def test_the_name_of_an_entry_in_a_directory_is_one_name_too() -> None:
    entry = ((("commonName", "Al, B"),), (("organizationName", "A"),))
    found = {"subjectAltName": (("DirName", entry), ("othername", "<unsupported>"))}
    lines = certificate_lines(found, b"der", ["names"])
    told = rb"DirName:O=A\,CN=Al\\\, B, othername:<unsupported>"
    assert lines == b"X-Client-Cert-Names: " + told + b"\r\n"


def test_what_was_not_asked_for_or_is_not_there_is_not_told() -> None:
    assert certificate_lines(FOUND, b"der", ()) == b""
    assert certificate_lines(FOUND, b"der", ["serial"]) == b"X-Client-Cert-Serial: 0A1B\r\n"
    assert certificate_lines({}, b"der", ("subject", "names", "serial", "issuer")) == b""


def test_a_name_cannot_say_more_than_it_is() -> None:
    forged = ((("commonName", 'x,CN=root\r\nX-Admin: yes\0"\\é '),),)
    assert distinguished_name(forged) == (r"CN=x\,CN\=root\0D\0AX-Admin: yes\00\"\\\C3\A9\ ")


@given(st.lists(st.tuples(st.sampled_from(["commonName", "title"]), st.text()), max_size=4))
def test_any_name_is_one_visible_line(attributes: list[tuple[str, str]]) -> None:
    name = tuple((attribute,) for attribute in attributes)
    found = {"subject": name, "subjectAltName": attributes}
    lines = certificate_lines(found, b"", ("subject", "names")).split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) <= 2
    for line in lines:
        assert FIELD_LINE.fullmatch(line)
        assert re.fullmatch(rb"[ -~]*", line)
