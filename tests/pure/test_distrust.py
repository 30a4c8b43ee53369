"""Why TLS with an origin failed, in one sentence."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from hopproxy.pool.distrust import Seen, Why, alert_in, why
from tests.issued import NOW, Issued, authority, issue

ROOT = authority()
SITE = ROOT.issue("a.example")
MANY = ROOT.issue("a.example", "b.example", "*.c.example", "10.0.0.7", "e.example", "f.example")
OLD = ROOT.issue(common="Old", authority=True, days=(-90, -2))


def told(code: int, *chain: Issued, message: str = "said so", name: str = "api.example") -> str:
    ders = tuple(one.certificate.public_bytes(Encoding.DER) for one in chain)
    cause, what = why(Seen(name, "CERTIFICATE_VERIFY_FAILED", "", code, message, ders), NOW)
    assert cause == "tls_certificate_error"
    return what


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (
            told(10, ROOT.issue("a.example", days=(-90, -10))),
            "its certificate expired on 2029-12-22, 10 days ago",
        ),
        (told(10, OLD.issue("a.example"), OLD), "its issuer expired on 2029-12-30, 2 days ago"),
        (told(10, SITE), "its certificate: said so"),
        (
            told(9, ROOT.issue("a.example", days=(5, 90))),
            "its certificate is not valid before 2030-01-06, in 5 days",
        ),
        (told(62, SITE), "its certificate is for `a.example`, not for `api.example`"),
        (
            told(64, MANY, name="10.0.0.8"),
            "its certificate is for `a.example`, `b.example`, `*.c.example`, `e.example` and 2 "
            "more, not for `10.0.0.8`",
        ),
        (told(62, ROOT.issue()), "its certificate is for no name, not for `api.example`"),
        (
            told(18, issue("a.example")),
            "its certificate is self-signed (`a.example`): to trust it, write it as tls.ca",
        ),
        (
            told(19, SITE, ROOT),
            "the authority `Test root` is not trusted: to trust it, write it as tls.ca",
        ),
        (
            told(20, SITE),
            "its certificate was signed by `Test root`, which is not known here: write that "
            "authority as tls.ca, or let the origin send its full chain",
        ),
        (told(26, SITE, message="unsupported purpose"), "its certificate: unsupported purpose"),
        (
            told(20, message="unable to get local issuer"),
            "its certificate: unable to get local issuer",
        ),
    ],
)
def test_a_certificate_that_is_not_trusted(what: str, sentence: str) -> None:
    assert what == sentence


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        (
            "TLSV13_ALERT_CERTIFICATE_REQUIRED",
            "it requires a client certificate: write tls.cert and tls.key",
        ),
        ("TLSV1_ALERT_UNKNOWN_CA", "it refuses our certificate (unknown ca)"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "it refuses our certificate (bad certificate)"),
        (
            "TLSV1_ALERT_PROTOCOL_VERSION",
            "it supports neither TLS 1.2 nor TLS 1.3",
        ),
        (
            "TLSV1_UNRECOGNIZED_NAME",
            "it has no site named `api.example`: write its name as tls.server_name",
        ),
        (
            "TLSV1_ALERT_NO_APPLICATION_PROTOCOL",
            "it supports none of the protocols that we offer (ALPN)",
        ),
        (
            "SSLV3_ALERT_HANDSHAKE_FAILURE",
            "it has no cipher suite in common with us, or requires a client certificate",
        ),
        ("TLSV1_ALERT_INTERNAL_ERROR", "it sent the alert `internal error`"),
    ],
)
def test_an_alert_of_the_origin(reason: str, what: str) -> None:
    assert alert_in(reason)
    assert why(Seen("api.example", reason), NOW) == Why("tls_alert_received", what)


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (
            Seen("a", "WRONG_VERSION_NUMBER"),
            "it does not speak TLS on this port: write http:// if it speaks plain HTTP",
        ),
        (Seen("a", "UNSUPPORTED_PROTOCOL"), "it supports only versions of TLS before 1.2"),
        (Seen("a", "DH_KEY_TOO_SMALL"), "dh key too small"),
        (
            Seen("a", broke="it closed the connection", spoke=True),
            "it closed the connection;"
            " perhaps it requires a client certificate (tls.cert and tls.key)",
        ),
        (
            Seen("a", broke="it closed the connection"),
            "it closed the connection; does it speak TLS on this port?",
        ),
    ],
)
def test_a_handshake_that_is_none(seen: Seen, what: str) -> None:
    assert not alert_in(seen.reason)
    assert why(seen, NOW) == Why("tls_protocol_error", what)
