"""Why TLS with an origin failed: a cause of RFC 9209 and one sentence for people."""

import re
from typing import NamedTuple

#: The beginning of OpenSSL's name for an alert of the peer.
_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")
#: Alerts about our certificate, or about a missing one.
_OURS = frozenset(
    {
        "access_denied",
        "bad_certificate",
        "certificate_expired",
        "certificate_revoked",
        "certificate_unknown",
        "unknown_ca",
        "unsupported_certificate",
    }
)
#: OpenSSL's reasons for a first answer that is not TLS.
_NO_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)
_OLD_TLS = frozenset({"UNSUPPORTED_PROTOCOL", "UNSUPPORTED_SSL_VERSION", "WRONG_SSL_VERSION"})
#: Results of a verification (openssl-verification-options): X509_V_ERR_...
_EARLY, _EXPIRED, _SELF_SIGNED, _STRANGE_ROOT = 9, 10, 18, 19
_NO_ISSUER = frozenset({2, 20, 21})
_OTHER_NAME = frozenset({62, 64})
#: What an origin that ends a connection before it has accepted us may want.
NO_CERTIFICATE = "perhaps it requires a client certificate (tls.cert and tls.key)"
#: Most names of a certificate in a message.
_FEW = 4


class Seen(NamedTuple):
    """What is known about a handshake that failed.

    `reason` is OpenSSL's word for it, empty if the connection `broke`; `spoke` if the origin had
    answered in TLS before.  `code` and `message` are the result of the verification, if that
    failed; `chain` are the origin's certificates in DER, `name` the name it should have.
    """

    name: str
    reason: str = ""
    broke: str = ""
    code: int = 0
    message: str = ""
    chain: tuple[bytes, ...] = ()
    spoke: bool = False


class Why(NamedTuple):
    """A cause (RFC 9209 section 2.3), and what happened, after `... failed: `."""

    cause: str
    what: str


def why(seen: Seen, now: float) -> Why:
    """Why a handshake failed.  `now` is Unix time."""
    if seen.code:
        return Why("tls_certificate_error", _certificate(seen, now))
    alert = _ALERT.fullmatch(seen.reason)
    if alert is not None:
        return Why("tls_alert_received", _alert(alert[1].lower(), seen.name))
    if seen.reason in _NO_TLS:
        what = "it does not speak TLS on this port: write http:// if it speaks plain HTTP"
    elif seen.reason in _OLD_TLS:
        what = "it supports only versions of TLS before 1.2"
    elif seen.reason:
        what = seen.reason.replace("_", " ").lower()
    elif seen.spoke:
        what = f"{seen.broke}; {NO_CERTIFICATE}"
    else:
        what = f"{seen.broke}; does it speak TLS on this port?"
    return Why("tls_protocol_error", what)


def alert_in(reason: str) -> bool:
    """Whether OpenSSL's `reason` is an alert that the peer has sent."""
    return _ALERT.fullmatch(reason) is not None


def _alert(alert: str, name: str) -> str:
    said = alert.replace("_", " ")
    if alert == "certificate_required":
        return "it requires a client certificate: write tls.cert and tls.key"
    if alert in _OURS:
        return f"it refuses our certificate ({said})"
    if alert == "protocol_version":
        return "it supports neither TLS 1.2 nor TLS 1.3"
    if alert == "unrecognized_name":
        return f"it has no site named `{name}`: write its name as tls.server_name"
    if alert == "no_application_protocol":
        return "it supports none of the protocols that we offer (ALPN)"
    if alert == "handshake_failure":
        return "it has no cipher suite in common with us, or requires a client certificate"
    return f"it sent the alert `{said}`"


def _certificate(seen: Seen, now: float) -> str:
    """What is wrong with the origin's certificate."""
    from cryptography import x509

    from hopproxy.settings.chain import facts, out_of_time

    chain = [x509.load_der_x509_certificate(one) for one in seen.chain]
    if not chain:
        return f"its certificate: {seen.message}"
    leaf, last = facts(chain[0], ""), facts(chain[-1], "")
    if seen.code in (_EXPIRED, _EARLY):
        for number, one in enumerate(chain):
            if when := out_of_time(one, now):
                return f"{'its issuer' if number else 'its certificate'} {when}"
    if seen.code in _OTHER_NAME:
        names = [f"`{name}`" for name in leaf.names[:_FEW]]
        others = len(leaf.names) - len(names)
        held = ", ".join(names) + (f" and {others} more" if others else "")
        return f"its certificate is for {held or 'no name'}, not for `{seen.name}`"
    if seen.code == _SELF_SIGNED:
        return f"its certificate is self-signed (`{leaf.subject}`): to trust it, write it as tls.ca"
    if seen.code == _STRANGE_ROOT:
        return f"the authority `{last.subject}` is not trusted: to trust it, write it as tls.ca"
    if seen.code in _NO_ISSUER:
        return (
            f"its certificate was signed by `{last.issuer}`, which is not known here: write that "
            "authority as tls.ca, or let the origin send its full chain"
        )
    return f"its certificate: {seen.message}"
