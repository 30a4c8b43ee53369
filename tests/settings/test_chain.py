"""Whether a certificate can be used, and the messages if it cannot."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from hopproxy.settings.chain import (
    Facts,
    _weak,
    covers,
    examine,
    examine_authorities,
    facts,
    named,
)
from hopproxy.settings.pem import Source
from tests.issued import DAY, NOW, Issued, authority, issue, rsa_key

ROOT = authority()
MIDDLE = ROOT.issue(common="Middle", authority=True)
SITE = MIDDLE.issue("a.example", "*.b.example", "10.0.0.7")


def roots(*known: Issued) -> frozenset[bytes]:
    return frozenset(one.certificate.subject.public_bytes() for one in known)


def said(*chain: Issued, key: bytes | None = None, server: bool = True, mode: int = 0o600) -> str:
    """What is found in a file with this chain, and in the file K of its key."""
    cert = Source("C", b"".join(one.cert for one in chain))
    secret = Source("K", chain[0].key if key is None else key, mode)
    _, found = examine(cert, secret, NOW, lambda: roots(ROOT), server=server)
    return "\n".join(
        f"{one.kind}{' key' if one.of_key else ''}{' fatal' if one.fatal else ''}: "
        f"{one.message} ({one.hint})"
        for one in found
    )


@pytest.mark.parametrize(
    "chain",
    [(SITE, MIDDLE), (SITE, MIDDLE, ROOT), (ROOT.issue("a.example"),)],
    ids=["to a known root", "with its root", "signed by a known root"],
)
def test_a_good_certificate_has_no_finding(chain: tuple[Issued, ...]) -> None:
    assert said(*chain) == ""


def test_what_is_shown_of_a_certificate() -> None:
    assert facts(SITE.certificate, "C") == Facts(
        "C",
        "a.example",
        "Middle",
        ("a.example", "*.b.example", "10.0.0.7"),
        NOW - 30 * DAY,
        NOW + 60 * DAY,
        "ECDSA secp256r1",
    )
    assert facts(SITE.certificate, "C").days_left(NOW) == 60
    assert facts(issue(key=rsa_key(2048)).certificate, "C").key == "RSA 2048"
    one, _ = examine(Source("C", SITE.cert), Source("K", SITE.key), NOW, frozenset, server=True)
    assert one == facts(SITE.certificate, "C")


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        ((-90, -10), "expired: C: the certificate expired on 2029-12-22, 10 days ago (renew it)"),
        (
            (-90, -0.05),
            "expired: C: the certificate expired on 2029-12-31, an hour ago (renew it)",
        ),
        ((-80, 10), "expires_soon: C ends in 10 days, on 2030-01-11 (renew it)"),
        ((-4.8, 1), "expires_soon: C ends in 24 hours, on 2030-01-02 (renew it)"),
        ((-4, 2), ""),
        ((-90, 14.1), ""),
        (
            (5, 90),
            "not_yet_valid: C: the certificate is not valid before 2030-01-06, in 5 days (is the "
            "clock of this machine right?)",
        ),
    ],
)
def test_time_of_a_certificate(days: tuple[float, float], problem: str) -> None:
    assert said(ROOT.issue("a.example", days=days)) == problem


def test_a_chain_that_is_not_complete() -> None:
    assert said(SITE) == (
        "incomplete: C: the certificate of its issuer `Middle` is missing (append it, or write "
        "the file with the full chain; clients that have it need nothing)"
    )


def test_an_issuer_that_has_expired() -> None:
    old = ROOT.issue(common="Old", authority=True, days=(-90, -2))
    assert said(old.issue("a.example"), old) == (
        "expired: C: the issuer `Old` expired on 2029-12-30, 2 days ago (renew it)"
    )


def test_certificates_in_the_wrong_order() -> None:
    assert said(SITE, ROOT, MIDDLE) == (
        "order: C: its certificates are not in order (put `Middle` directly below `a.example`)"
    )
    found = said(MIDDLE, SITE, key=SITE.key).splitlines()
    assert found[-1] == (
        "order fatal: the key belongs to certificate 2 of the file, not to the first one "
        "(put the certificate of the site first, its issuers below)"
    )


def test_a_certificate_that_does_not_belong_to_the_chain() -> None:
    assert said(SITE, MIDDLE, authority("Other")) == (
        "stranger: C: `Other` does not belong to its chain (take it out)"
    )


def test_a_certificate_that_has_signed_itself() -> None:
    assert said(issue("a.example")) == (
        "self_signed: C is self-signed: only clients that were given it by hand trust it "
        "(get one from an authority that the peers trust)"
    )


def test_our_certificate_as_a_client_may_have_any_issuer() -> None:
    assert said(issue("a.example"), server=False) == ""
    assert said(SITE, server=False) == ""
    assert said(ROOT.issue(common="me"), server=False) == ""


def test_a_certificate_without_a_name() -> None:
    assert said(ROOT.issue(common="a.example")) == (
        "no_name: C has no name that clients look at (subject alternative name) (have it issued "
        "for the host names of the site)"
    )


@pytest.mark.parametrize(
    ("usages", "server", "problem"),
    [
        ([ExtendedKeyUsageOID.SERVER_AUTH], True, ""),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], True, ""),
        ([ExtendedKeyUsageOID.CLIENT_AUTH], False, ""),
        (
            [ExtendedKeyUsageOID.CLIENT_AUTH],
            True,
            "purpose: C is not for a server: clients refuse it (have it issued for server "
            "authentication (extended key usage))",
        ),
        (
            [ExtendedKeyUsageOID.SERVER_AUTH],
            False,
            "purpose: C is not for a client: origins refuse it (have it issued for client "
            "authentication (extended key usage))",
        ),
    ],
)
def test_purpose_of_a_certificate(
    usages: list[x509.ObjectIdentifier], server: bool, problem: str
) -> None:
    assert said(ROOT.issue("a.example", usages=usages), server=server) == problem


def test_a_key_that_does_not_fit() -> None:
    assert said(SITE, MIDDLE, key=ROOT.key) == (
        "mismatch key fatal: K is not the key of the certificate `a.example` (write the key that "
        "the certificate was requested with)"
    )


def test_a_key_that_cannot_be_read() -> None:
    assert said(SITE, MIDDLE, key=SITE.encrypted()).startswith("encrypted key fatal: K is")


def test_both_files_are_told_where_both_are_wrong() -> None:
    _, found = examine(Source("C", b"x"), Source("K", b"x"), NOW, frozenset, server=True)
    assert [(one.kind, one.of_key) for one in found] == [("format", False), ("format", True)]


def test_a_good_key_without_its_certificate_is_not_compared() -> None:
    one, found = examine(Source("C", b"x"), Source("K", SITE.key), NOW, frozenset, server=True)
    assert one is None
    assert [each.kind for each in found] == ["format"]


def test_certificate_and_key_in_one_file() -> None:
    both = Source("C", SITE.cert + MIDDLE.cert + SITE.key)
    assert examine(both, None, NOW, lambda: roots(ROOT), server=True)[1] == []
    missing = examine(Source("C", error="x"), None, NOW, frozenset, server=True)[1]
    assert [one.kind for one in missing] == ["unreadable"]


@pytest.mark.parametrize(("mode", "right"), [(0o644, "read"), (0o666, "change"), (0o640, "")])
def test_a_key_that_others_can_read(mode: int, right: str) -> None:
    told = f"open_key key: K: every user of this machine can {right} this key (chmod 600 K)"
    assert said(SITE, MIDDLE, mode=mode) == (told if right else "")
    both = Source("C", SITE.cert + MIDDLE.cert + SITE.key, mode)
    found = examine(both, None, NOW, lambda: roots(ROOT), server=True)[1]
    assert [one.of_key for one in found] == [False] * bool(right)


def test_a_key_that_tls_refuses() -> None:
    small = ROOT.issue("a.example", key=rsa_key(1024))
    assert said(small) == (
        "weak fatal: C: `a.example` has an RSA key of 1024 bits, which TLS refuses (make a new "
        "one with an ECDSA key (P-256))"
    )


@pytest.mark.parametrize(
    ("make", "digest", "problem"),
    [
        (
            lambda: ec.generate_private_key(ec.SECP192R1()),
            hashes.SHA256(),
            "a key on the curve secp192r1",
        ),
        (lambda: dsa.generate_private_key(1024), hashes.SHA256(), "a DSA key"),
        (lambda: SITE.secret, hashes.SHA1(), "signed with SHA1"),
        (lambda: SITE.secret, hashes.MD5(), "signed with MD5"),
    ],
)
def test_what_no_library_makes_any_more(
    make: Callable[[], Any], digest: hashes.HashAlgorithm, problem: str
) -> None:
    one = SimpleNamespace(
        public_key=make().public_key,
        subject=SITE.certificate.subject,
        issuer=ROOT.certificate.subject,
        signature_hash_algorithm=digest,
    )
    (found,) = _weak(cast("x509.Certificate", one), "C")
    assert found.fatal
    assert problem in found.message


def test_a_key_that_browsers_refuse() -> None:
    assert said(ROOT.issue("a.example", key=ed25519.Ed25519PrivateKey.generate())) == (
        "uncommon: C: `a.example` has an Ed25519 key, which browsers refuse (make a new one with "
        "an ECDSA key (P-256))"
    )


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("a.example", True),
        ("x.a.example", False),
        ("x.b.example", True),
        ("b.example", False),
        ("x.y.b.example", False),
        ("10.0.0.7", True),
        ("10.0.0.8", False),
        ("[::1]", False),
    ],
)
def test_names_cover_a_host(host: str, covered: bool) -> None:
    assert covers(facts(SITE.certificate, "C").names, host) is covered


def test_an_ipv6_address_is_covered_in_each_spelling() -> None:
    names = facts(issue("::1").certificate, "C").names
    assert covers(names, "[::1]")
    assert covers(names, "0::1")


def test_a_name_without_a_common_name_is_shown_whole() -> None:
    country = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE")
    assert named(x509.Name([country])) == "C=DE"
    assert named(x509.Name([])) == "(no name)"


def told(*held: Issued) -> list[str]:
    source = Source("A", b"".join(one.cert for one in held))
    shown, found = examine_authorities(source, NOW)
    assert [one.subject for one in shown] == [named(one.certificate.subject) for one in held]
    return [f"{one.kind}: {one.message} ({one.hint})" for one in found]


def test_authorities() -> None:
    assert told(ROOT, MIDDLE) == []
    assert told(ROOT, issue(common="Ended", authority=True, days=(-9, -3))) == [
        "expired: A: the authority `Ended` ended on 2029-12-29 (ask it for its new certificate)"
    ]
    assert told(SITE) == [
        "no_authority: A: `a.example` is not an authority: it trusts this one alone (write the "
        "certificate of the authority that has signed it)"
    ]
    assert told(issue(common="Version 1", authority=None)) == []
    assert told(issue("a.example")) == []  # self-signed: there is no authority to trust instead
    assert [one.kind for one in examine_authorities(Source("A", b""), NOW)[1]] == ["empty"]
    assert told(ROOT.issue(common="Bare", authority=None))[0].startswith("no_authority")
