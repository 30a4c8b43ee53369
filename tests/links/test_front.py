"""The certificates of a listener: by name, by kind of key, and changed while it serves."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from hopproxy.link.front import Demand, Front, Identity
from hopproxy.link.openssl import library
from tests.authority import authority, client_context, files_of

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
PLAIN = Demand(("http/1.1",))


def identity(folder: Path, *names: str, kind: str = "ECDSA", serial: str = "") -> Identity:
    """A new certificate for these names."""
    key_type = trustme.KeyType[kind]
    issued = authority().issue_cert(*names, key_type=key_type)
    cert, key = files_of(issued, folder, f"{names[0].strip('*.')}-{kind}{serial}")
    return Identity(str(cert), str(key), names, kind)


def rsa_client() -> ssl.SSLContext:
    """A client that accepts only certificates with an RSA key."""
    client = client_context(V12)
    client.set_ciphers("aRSA")
    return client


class Met:
    """What a client has seen of a handshake with a front.  Raises ssl.SSLError if it fails."""

    def __init__(
        self,
        front: Front,
        client: ssl.SSLContext,
        name: str = "a.test",
        session: ssl.SSLSession | None = None,
    ) -> None:
        ways = [ssl.MemoryBIO() for _ in range(4)]
        near = front.context.wrap_bio(ways[0], ways[1], server_side=True)
        far = client.wrap_bio(ways[2], ways[3], server_hostname=name, session=session)
        done = [False, False]
        for _ in range(4):
            for end, side in enumerate((far, near)):
                try:
                    side.do_handshake()
                    done[end] = True
                except ssl.SSLWantReadError:
                    pass
                ways[0].write(ways[3].read())
                ways[2].write(ways[1].read())
        assert all(done)
        with pytest.raises(ssl.SSLWantReadError):  # its ticket, nothing else
            far.read(1)
        self.serial = str(far.getpeercert()["serialNumber"])  # type: ignore[index]
        self.cipher = far.cipher()
        self.session = far.session
        self.resumed = far.session_reused


def serials(front: Front, names: Sequence[str]) -> list[str]:
    client = client_context()
    client.check_hostname = False
    return [Met(front, client, name).serial for name in names]


def suites(context: ssl.SSLContext, version: str = "TLSv1.3") -> list[str]:
    """Those of one version, in order."""
    return [one["name"] for one in context.get_ciphers() if one["protocol"] == version]


def test_aes_128_is_preferred_in_tls_12_too(tmp_path: Path) -> None:
    front = Front([identity(tmp_path, "a.test")], PLAIN)
    allowed = suites(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "TLSv1.2")
    assert sorted(suites(front.context, "TLSv1.2")) == sorted(allowed)
    client = client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    cipher = Met(front, client).cipher
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-")
    assert cipher[0].endswith("-AES128-GCM-SHA256")


@pytest.mark.skipif(library() is None, reason="missing: OpenSSL 3 as a library")
def test_aes_128_is_preferred_and_nothing_is_added_that_the_machine_does_not_allow(
    tmp_path: Path,
) -> None:
    front = Front([identity(tmp_path, "a.test")], PLAIN)
    allowed = suites(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    assert sorted(suites(front.context)) == sorted(allowed)
    if "TLS_AES_128_GCM_SHA256" in allowed:
        cipher = Met(front, client_context()).cipher  # whose order is that of `allowed`
        assert cipher is not None
        assert cipher[0] == suites(front.context)[0] == "TLS_AES_128_GCM_SHA256"


def test_a_name_in_two_certificates_is_the_first_ones(tmp_path: Path) -> None:
    first, second = identity(tmp_path, "a.test"), identity(tmp_path, "b.test", "a.test")
    front = Front([first, second], PLAIN)
    a, b, other = serials(front, ["a.test", "b.test", "c.test"])
    assert a == other != b


def test_the_first_of_two_for_the_same_names_is_shown_before_and_after_a_change(
    tmp_path: Path,
) -> None:
    """With the same kind of key; a client that takes RSA alone gets the third one."""
    both = [identity(tmp_path, "a.test", serial=one) for one in "12"]
    both.append(identity(tmp_path, "a.test", kind="RSA"))
    (first,) = serials(Front(both[:1], PLAIN), ["a.test"])
    front = Front(both, PLAIN)
    old = client_context(V12)
    old.set_ciphers("ECDHE+aRSA")
    for _ in range(2):
        assert serials(front, ["a.test", "other.test"]) == [first, first]
        assert Met(front, old).serial != first
        front.swap(both, PLAIN)


def test_certificates_without_names_have_nothing_in_common(tmp_path: Path) -> None:
    nameless = [identity(tmp_path, "a.test")._replace(names=())]
    nameless.append(identity(tmp_path, "b.test", kind="RSA")._replace(names=()))
    with pytest.raises(ssl.SSLError):
        Met(Front(nameless, PLAIN), rsa_client())


def test_an_exact_name_goes_before_a_wildcard(tmp_path: Path) -> None:
    wild, exact = identity(tmp_path, "*.a.test"), identity(tmp_path, "x.a.test")
    front = Front([wild, exact], PLAIN)
    x, y, bare, deep = serials(front, ["x.a.test", "y.a.test", "a.test", "z.y.a.test"])
    assert x != y
    assert bare == deep == y  # the first one, for names that none has


@pytest.mark.parametrize("version", [V12, V13])
def test_both_kinds_of_key_are_offered_for_the_same_names(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    both = [identity(tmp_path, "a.test"), identity(tmp_path, "a.test", kind="RSA")]
    front = Front(both, PLAIN)
    modern, old = client_context(version), client_context(V12)
    old.set_ciphers("ECDHE+aRSA")
    assert Met(front, modern).serial != Met(front, old).serial


@pytest.mark.parametrize("version", [V12, V13])
def test_a_new_certificate_is_shown_and_clients_still_resume(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    front = Front([identity(tmp_path, "a.test")], PLAIN)
    client = client_context(version)
    before = Met(front, client)
    front.swap([identity(tmp_path, "a.test", serial="2")], PLAIN)
    after = Met(front, client)
    assert not after.resumed
    assert after.serial != before.serial
    assert Met(front, client, session=before.session).resumed


def test_a_bad_certificate_leaves_the_old_one(tmp_path: Path) -> None:
    front = Front([identity(tmp_path, "a.test")], PLAIN)
    before = Met(front, client_context()).serial
    good, other = identity(tmp_path, "a.test", serial="2"), identity(tmp_path, "b.test")
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        front.swap([good, other._replace(key=good.key)], PLAIN._replace(min_version="1.3"))
    with pytest.raises(FileNotFoundError):
        front.swap([good._replace(cert=str(tmp_path / "none"))], PLAIN)
    assert Met(front, client_context(V12)).serial == before


def test_the_oldest_version_may_change(tmp_path: Path) -> None:
    here = [identity(tmp_path, "a.test")]
    front = Front(here, PLAIN)
    Met(front, client_context(V12))
    front.swap(here, PLAIN._replace(min_version="1.3"))
    with pytest.raises(ssl.SSLError, match=r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"):
        Met(front, client_context(V12))
    front.swap(here, PLAIN)
    Met(front, client_context(V12))


def test_no_session_lets_in_whom_the_listener_asks_no_more(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.crt"
    authorities.write_bytes(authority().cert_pem.bytes())
    demand = PLAIN._replace(client_cert="required", client_ca=str(authorities))
    here = [identity(tmp_path, "a.test")]
    front = Front(here, demand)
    client = client_context(V12)
    authority().issue_cert("alice@a.test").configure_cert(client)
    session = Met(front, client).session
    front.swap(here, demand)
    assert Met(front, client, session=session).resumed
    stranger = trustme.CA()
    authorities.write_bytes(stranger.cert_pem.bytes())
    front.swap(here, demand)
    with pytest.raises(ssl.SSLError):
        Met(front, client, session=session)
