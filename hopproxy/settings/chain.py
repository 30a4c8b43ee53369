"""Whether a certificate can be used: its key, its time, its names, the chain to its authority."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hopproxy.settings.pem import Finding, Source, Unusable, certificates, private_key

#: A certificate expires soon with this many days left, or with a fifth of its life.
SOON_DAYS, SOON_SHARE = 14.0, 0.2
DAY = 86400.0
#: The smallest keys that TLS accepts, in bits.
LEAST_RSA, LEAST_EC = 2048, 224
_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
#: The authorities of this machine, by their names in DER; read only when they are needed.
Roots = Callable[[], frozenset[bytes]]


@dataclass(frozen=True, slots=True)
class Facts:
    """One certificate: its names, its issuer, and when it is valid (Unix time)."""

    file: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    since: float
    until: float
    key: str

    def days_left(self, now: float) -> float:
        """Days until it ends; negative once it has."""
        return (self.until - now) / DAY


def examine(
    cert: Source, key: Source | None, now: float, roots: Roots, *, server: bool
) -> tuple[Facts | None, list[Finding]]:
    """Examine a certificate with its key, which is in the same file if `key` is None.

    `server` if clients verify it, else it is ours as a client.  The facts are None if it cannot be
    read.
    """
    found: list[Finding] = []
    chain: list[x509.Certificate] = []
    try:
        chain = certificates(cert)
        found += _own(chain[0], cert.file, now, server=server)
        found += _above(chain, cert.file, now, roots if server else None)
    except Unusable as unusable:
        found.append(unusable.finding)
    try:
        if key is not None or chain:  # otherwise the same file would be reported twice
            found += _keys(chain, key or cert)
            found += open_to_others(key or cert, of_key=key is not None)
    except Unusable as unusable:
        found.append(unusable.finding)
    return facts(chain[0], cert.file) if chain else None, found


def examine_authorities(source: Source, now: float) -> tuple[list[Facts], list[Finding]]:
    """Examine a file of authorities: an expired one is of no use."""
    try:
        held = certificates(source)
    except Unusable as unusable:
        return [], [unusable.finding]
    found: list[Finding] = []
    for one in held:
        name, until = named(one.subject), _until(one)
        if until <= now:
            message = f"{source.file}: the authority `{name}` ended on {_date(until)}"
            found.append(Finding("expired", message, "ask it for its new certificate"))
        elif _signs_nobody(one) and not _signs_itself(one):
            message = f"{source.file}: `{name}` is not an authority: it trusts this one alone"
            hint = "write the certificate of the authority that has signed it"
            found.append(Finding("no_authority", message, hint))
    return [facts(one, source.file) for one in held], found


def facts(one: x509.Certificate, file: str) -> Facts:
    """What is shown of a certificate."""
    return Facts(
        file,
        named(one.subject),
        named(one.issuer),
        names_of(one),
        _since(one),
        _until(one),
        _kind_of_key(one),
    )


def names_of(one: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses for which a certificate is valid (RFC 9525: never its subject)."""
    try:
        names = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = [name.lower().removesuffix(".") for name in names.get_values_for_type(x509.DNSName)]
    return (*hosts, *map(str, names.get_values_for_type(x509.IPAddress)))


def covers(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate with these names is valid for `host`, a name or an address."""
    try:
        return str(ip_address(host.strip("[]"))) in names
    except ValueError:
        return host in names or f"*.{host.partition('.')[2]}" in names


def named(name: x509.Name) -> str:
    """A subject or an issuer in one line: its common name, or all of it."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[-1].value) if common else name.rfc4514_string() or "(no name)"


def open_to_others(source: Source, *, of_key: bool) -> list[Finding]:
    """The rights that others have to the file of a key."""
    if not source.mode & 0o006:
        return []
    right = "change" if source.mode & 0o002 else "read"
    message = f"{source.file}: every user of this machine can {right} this key"
    return [Finding("open_key", message, f"chmod 600 {source.file}", of_key)]


def _own(one: x509.Certificate, file: str, now: float, *, server: bool) -> list[Finding]:
    """What is wrong with the first certificate of a file itself, without its key and its chain."""
    found = [*_weak(one, file), *_time(one, file, "the certificate", now)]
    since, until = _since(one), _until(one)
    soon = min(SOON_DAYS * DAY, (until - since) * SOON_SHARE)
    if since <= now < until and until - now < soon:
        message = f"{file} ends in {_days(until - now)}, on {_date(until)}"
        found.append(Finding("expires_soon", message, "renew it"))
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    if not _may_be_used(one, usage):
        role, other = ("server", "clients") if server else ("client", "origins")
        message = f"{file} is not for a {role}: {other} refuse it"
        hint = f"have it issued for {role} authentication (extended key usage)"
        found.append(Finding("purpose", message, hint))
    if server and not names_of(one):
        message = f"{file} has no name that clients look at (subject alternative name)"
        found.append(Finding("no_name", message, "have it issued for the host names of the site"))
    return found


def _above(
    chain: list[x509.Certificate], file: str, now: float, roots: Roots | None
) -> list[Finding]:
    """What is wrong with the issuers in the file, which must lead to one that the peers have.

    `roots` is None if it is not known whom the peers trust.
    """
    found: list[Finding] = []
    last, rest = chain[0], chain[1:]
    if _signs_itself(last) and roots is not None:
        message = f"{file} is self-signed: only clients that were given it by hand trust it"
        return [Finding("self_signed", message, "get one from an authority that the peers trust")]
    while not _signs_itself(last):
        issuer = next((one for one in rest if one.subject == last.issuer), None)
        if issuer is None:
            break
        if issuer is not rest[0]:
            message = f"{file}: its certificates are not in order"
            hint = f"put `{named(issuer.subject)}` directly below `{named(last.subject)}`"
            found.append(Finding("order", message, hint))
        rest.remove(issuer)
        found += _time(issuer, file, f"the issuer `{named(issuer.subject)}`", now)
        if not _signs_itself(issuer):  # the signature of the authority itself is not verified
            found += _weak(issuer, file)
        last = issuer
    for stranger in rest:
        message = f"{file}: `{named(stranger.subject)}` does not belong to its chain"
        found.append(Finding("stranger", message, "take it out"))
    if roots is not None and not _signs_itself(last) and last.issuer.public_bytes() not in roots():
        message = f"{file}: the certificate of its issuer `{named(last.issuer)}` is missing"
        hint = "append it, or write the file with the full chain; clients that have it need nothing"
        found.append(Finding("incomplete", message, hint))
    return found


def _keys(chain: list[x509.Certificate], source: Source) -> list[Finding]:
    """Whether the key fits the first certificate.  Raises Unusable."""
    key = private_key(source).public_key()
    if not chain:
        return []
    fits = [
        number
        for number, one in enumerate(chain, 1)
        if one.public_key().public_bytes(*_PUBLIC) == key.public_bytes(*_PUBLIC)
    ]
    if 1 in fits:
        return []
    name = named(chain[0].subject)
    if fits:
        message = f"the key belongs to certificate {fits[0]} of the file, not to the first one"
        hint = "put the certificate of the site first, its issuers below"
        return [Finding("order", message, hint, fatal=True)]
    message = f"{source.file} is not the key of the certificate `{name}`"
    hint = "write the key that the certificate was requested with"
    return [Finding("mismatch", message, hint, of_key=True, fatal=True)]


def _weak(one: x509.Certificate, file: str) -> list[Finding]:
    """Keys and signatures that TLS or browsers refuse."""
    key, name = one.public_key(), named(one.subject)
    weak = ""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA:
        weak = f"an RSA key of {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < LEAST_EC:
        weak = f"a key on the curve {key.curve.name}"
    elif isinstance(key, dsa.DSAPublicKey):
        weak = "a DSA key"
    if weak:
        message = f"{file}: `{name}` has {weak}, which TLS refuses"
        return [Finding("weak", message, "make a new one with an ECDSA key (P-256)", fatal=True)]
    algorithm = one.signature_hash_algorithm
    if algorithm is not None and algorithm.name in ("md5", "sha1") and not _signs_itself(one):
        message = f"{file}: `{name}` is signed with {algorithm.name.upper()}, which TLS refuses"
        hint = "have it issued again: authorities sign with SHA-256 today"
        return [Finding("weak", message, hint, fatal=True)]
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        message = f"{file}: `{name}` has an {_kind_of_key(one)} key, which browsers refuse"
        return [Finding("uncommon", message, "make a new one with an ECDSA key (P-256)")]
    return []


def _time(one: x509.Certificate, file: str, what: str, now: float) -> list[Finding]:
    when = out_of_time(one, now)
    if not when:
        return []
    early = now < _since(one)
    hint = "is the clock of this machine right?" if early else "renew it"
    return [Finding("not_yet_valid" if early else "expired", f"{file}: {what} {when}", hint)]


def out_of_time(one: x509.Certificate, now: float) -> str:
    """`expired on ...` or `is not valid before ...`; empty if it is valid now."""
    since, until = _since(one), _until(one)
    if now >= until:
        return f"expired on {_date(until)}, {_days(now - until)} ago"
    if now < since:
        return f"is not valid before {_date(since)}, in {_days(since - now)}"
    return ""


def _signs_itself(one: x509.Certificate) -> bool:
    return one.subject == one.issuer


def _signs_nobody(one: x509.Certificate) -> bool:
    """Whether it cannot be an authority; old certificates do not say."""
    try:
        return not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return not _signs_itself(one)


def _may_be_used(one: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    try:
        usages = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def _kind_of_key(one: x509.Certificate) -> str:
    key = one.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def _since(one: x509.Certificate) -> float:
    return one.not_valid_before_utc.timestamp()


def _until(one: x509.Certificate) -> float:
    return one.not_valid_after_utc.timestamp()


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def _days(seconds: float) -> str:
    days = math.floor(seconds / DAY)
    hours = math.floor(seconds / 3600)
    if days > 1:
        return f"{days} days"
    return f"{hours} hours" if hours > 1 else "an hour"
