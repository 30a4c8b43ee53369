"""What comes before the first request: the PROXY header, the TLS handshake, the choice by ALPN."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.certificate import Certificate
from hopproxy.settings.client import Listener
from hopproxy.settings.units import UNIX
from hopproxy.wire.proxy_protocol import V2
from tests.authority import (
    TlsPeer,
    authority,
    certificate,
    client_context,
    files_of,
    listener_tls,
)
from tests.raw_peers import GET, OK, Origin
from tests.wire_pair import Hops

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


async def start(
    hops: Hops, directory: Path, *names: str, tls: dict[str, Any] | None = None, **settings: Any
) -> Origin:
    """Start the worker with a TLS listener."""
    listener = Listener(tls=listener_tls(directory, *names, **(tls or {})))
    return await hops.start(listeners=(listener,), **settings)


async def tls_client(
    hops: Hops, context: ssl.SSLContext | None = None, name: str | None = "site.test"
) -> TlsPeer:
    """A client that speaks TLS, before its handshake."""
    return TlsPeer(await hops.client(), context or client_context(), name)


async def ask(client: TlsPeer, origin: Origin) -> bytes:
    """One exchange on a new upstream link; the request as the origin saw it."""
    await client.send(GET)
    upstream = await origin.accept()
    head = await upstream.until(b"\r\n\r\n")
    await upstream.send(OK)
    assert (await client.message()).body == b"ok"
    upstream.close()
    return head


@pytest.mark.parametrize("version", [V12, V13])
async def test_a_request_over_tls_is_served_and_its_scheme_told(
    hops: Hops, directory: Path, version: ssl.TLSVersion
) -> None:
    origin = await start(hops, directory)
    client = await tls_client(hops, client_context(version))
    await client.shake()
    head = await ask(client, origin)
    assert b"\r\nX-Forwarded-Proto: https\r\n" in head
    assert b";proto=https" in head
    assert hops.runtime.handshakes.done == {(Hop.CLIENT, client.tls.version(), "full"): 1}


async def test_a_link_over_tls_is_kept_for_the_next_request(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client = await tls_client(hops)
    await client.shake()
    await client.send(GET)
    upstream = await hops.origins[0].accept_and_answer()
    assert (await client.message()).body == b"ok"
    for _ in range(3):
        assert (await hops.again(client, upstream)).body == b"ok"
    assert len(hops.runtime.clients.links) == 1


async def test_a_request_may_come_with_the_end_of_the_handshake(
    hops: Hops, directory: Path
) -> None:
    origin = await start(hops, directory)
    client = await tls_client(hops)
    await client.shake()
    await ask(client, origin)


async def test_a_session_is_resumed(hops: Hops, directory: Path) -> None:
    origin = await start(hops, directory)
    context = client_context(V13)
    first = await tls_client(hops, context)
    await first.shake()
    await ask(first, origin)
    session = first.tls.session
    assert session is not None
    second = await tls_client(hops, context)
    second.resume(session)
    await second.shake()
    assert second.tls.session_reused
    await ask(second, origin)
    assert hops.runtime.handshakes.done == {
        (Hop.CLIENT, "TLSv1.3", "full"): 1,
        (Hop.CLIENT, "TLSv1.3", "resumed"): 1,
    }


async def test_the_certificate_is_that_of_the_name(hops: Hops, directory: Path) -> None:
    certificates = []
    for name in ("a.test", "*.b.test", "c.test"):
        cert, key = files_of(certificate(name), directory, name)
        certificates.append(Certificate(cert=str(cert), key=str(key)))
    tls = listener_tls(directory)
    listener = Listener(tls=type(tls)(certificates=tuple(certificates)))
    await hops.start(listeners=(listener,))
    for asked, shown in (
        ("a.test", "a.test"),
        ("A.TEST", "a.test"),
        ("x.b.test", "*.b.test"),
        ("c.test", "c.test"),
        ("b.test", "a.test"),
        ("y.x.b.test", "a.test"),
        ("other.test", "a.test"),
        (None, "a.test"),
    ):
        context = client_context()
        context.check_hostname = False
        client = await tls_client(hops, context, asked)
        await client.shake()
        found = client.tls.getpeercert()
        assert found is not None
        assert found["subjectAltName"] == (("DNS", shown),), asked
        client.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("spdy/3", "http/1.1"), "http/1.1"), (("http/1.1",), "http/1.1"), ((), None)],
)
async def test_alpn_chooses_what_both_speak(
    hops: Hops, directory: Path, offered: tuple[str, ...], chosen: str | None
) -> None:
    origin = await start(hops, directory)
    client = await tls_client(hops, client_context(alpn=offered))
    await client.shake()
    assert client.tls.selected_alpn_protocol() == chosen
    await ask(client, origin)


@pytest.mark.parametrize("version", [V12, V13])
async def test_a_client_that_shares_no_protocol_is_refused_by_an_alert(
    hops: Hops, directory: Path, version: ssl.TLSVersion
) -> None:
    await start(hops, directory)
    client = await tls_client(hops, client_context(version, alpn=("foo", "bar")))
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        await client.shake()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.NO_PROTOCOL]


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2 + b"\x20\x00\x00\x00"])
@pytest.mark.parametrize("secure", [True, False])
async def test_a_proxy_header_where_none_is_expected_is_named(
    hops: Hops, directory: Path, header: bytes, secure: bool
) -> None:
    listener = Listener(tls=listener_tls(directory) if secure else None)
    await hops.start(listeners=(listener,))
    client = await hops.client()
    await client.send(header + (b"\x16\x03\x01\x02\x00" if secure else GET))
    answer = await client.message()
    assert answer.status == 400
    assert b"a PROXY header on a listener without proxy_protocol" in answer.body


async def test_plain_http_on_a_port_with_tls_is_answered_in_plain_text(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client = await hops.client()
    await client.send(b"GET /a HTTP/1.1\r\nHost: site.test\r\n\r\n")
    answer = await client.message()
    assert answer.status == 400
    assert b"this port speaks TLS: use https://" in answer.body
    assert answer.values(b"connection") == [b"close"]
    assert await client.rest() == b""
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.NOT_TLS]
    [record] = hops.records.kept
    assert (record.status, record.method, record.target) == (400, b"GET", b"/a")


async def test_a_handshake_that_never_goes_on_ends_in_time(hops: Hops, directory: Path) -> None:
    await start(hops, directory, client={"handshake_timeout": 7.0})
    began = trio.current_time()
    silent, half = await hops.client(), await tls_client(hops)
    with pytest.raises(ssl.SSLWantReadError):
        half.tls.do_handshake()
    hello = half.outgoing.read()
    await hops.clients[1].send(hello[:100])
    assert await silent.rest() == b""
    assert trio.current_time() - began == 7.0
    await hops.clients[1].gone()
    assert trio.current_time() - began == 7.0
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_TIMEOUT] * 2
    assert not hops.runtime.clients.openings


async def test_a_hello_may_come_a_byte_at_a_time(hops: Hops, directory: Path) -> None:
    origin = await start(hops, directory)
    client = await tls_client(hops)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    for byte in client.outgoing.read():
        await hops.clients[0].send(bytes([byte]))
        await trio.sleep(0.001)
    await client.shake()
    await ask(client, origin)


async def test_the_handshake_without_progress_for_longest_makes_room(
    hops: Hops, directory: Path
) -> None:
    origin = await start(hops, directory, client={"max_handshakes": 2})
    silent = [await hops.client() for _ in range(3)]
    await hops.quiet()
    assert await silent[0].rest() == b""
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_LIMIT]
    client = await tls_client(hops)
    await client.shake()
    await ask(client, origin)
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_LIMIT] * 2


@pytest.mark.parametrize("demand", ["required", "optional"])
async def test_a_client_without_a_certificate_is_refused_where_one_is_required(
    hops: Hops, directory: Path, demand: str
) -> None:
    origin = await start(hops, directory, tls={"client_ca": True, "client_cert": demand})
    client = await tls_client(hops, client_context(V12))
    if demand == "optional":
        await client.shake()
        await ask(client, origin)
        return
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        await client.shake()
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.CLIENT_CERTIFICATE]
    assert hops.runtime.closes.last[-1].detail == "the client sent no certificate"


async def test_a_refused_client_that_has_sent_its_request_is_told_why(
    tcp_hops: Hops, directory: Path
) -> None:
    hops = tcp_hops
    await start(hops, directory, tls={"client_ca": True, "client_cert": "required"})
    client = await tls_client(hops, client_context(V13))
    await client.shake()  # its own part of the handshake
    await client.send(GET)
    await hops.quiet()
    await client.send(GET)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        await client.message()
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.CLIENT_CERTIFICATE]


async def test_an_authority_below_another_one_is_enough_for_client_certificates(
    hops: Hops, directory: Path
) -> None:
    root = trustme.CA(key_type=trustme.KeyType.ECDSA)
    middle = root.create_child_ca(key_type=trustme.KeyType.ECDSA)
    listener = listener_tls(directory, client_ca=True, client_cert="required")
    (directory / "ca.crt").write_bytes(middle.cert_pem.bytes())
    origin = await hops.start(listeners=(Listener(tls=listener),))
    context = client_context(V12)
    middle.issue_cert("al@site.test", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    client = await tls_client(hops, context)
    await client.shake()
    await ask(client, origin)


async def test_the_origin_is_told_of_the_client_certificate_that_was_verified(
    hops: Hops, directory: Path
) -> None:
    told = ("subject", "names", "fingerprint")
    origin = await start(
        hops,
        directory,
        tls={"client_ca": True, "client_cert": "required", "client_cert_fields": told},
    )
    context = client_context()
    authority().issue_cert("alice@site.test", common_name="Alice").configure_cert(context)
    client = await tls_client(hops, context)
    await client.shake()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Subject: CN=Eve\r\nX_Client_Cert_Issuer: x\r\n"
        b"X-Client-Cert-Serial: 1\r\nClient-Cert: :AA==:\r\n\r\n"
    )
    upstream = await origin.accept()
    message = await upstream.message()
    await upstream.send(OK)
    names = [name for name, _ in message.fields if b"client" in name]
    assert names == [b"x-client-cert-subject", b"x-client-cert-names", b"x-client-cert-fingerprint"]
    [subject] = message.values(b"x-client-cert-subject")
    assert subject.startswith(b"CN=Alice,")
    assert message.values(b"x-client-cert-names") == [b"email:alice@site.test"]


async def test_a_client_certificate_of_another_authority_is_refused(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory, tls={"client_ca": True, "client_cert": "optional"})
    context = client_context(V12)
    trustme.CA().issue_cert("eve@site.test").configure_cert(context)
    client = await tls_client(hops, context)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await client.shake()
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.CLIENT_CERTIFICATE]


async def test_a_client_that_speaks_only_an_older_version_is_refused(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory, tls={"min_version": "1.3"})
    client = await tls_client(hops, client_context(V12))
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await client.shake()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_FAILED]
    assert "min_version" in hops.runtime.closes.last[-1].detail


async def test_a_client_that_does_not_trust_us_has_refused(hops: Hops, directory: Path) -> None:
    await start(hops, directory)
    client = await tls_client(hops, ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        await client.shake()
    await client._flush()
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_REFUSED]


async def test_a_client_that_leaves_in_its_handshake_has_refused(
    hops: Hops, directory: Path
) -> None:
    await start(hops, directory)
    client = await tls_client(hops)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    await client._flush()
    await client.sock.recv(65536)
    client.close()
    await hops.quiet()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_REFUSED]


async def test_a_server_name_that_is_not_ascii_fails_its_handshake_silently(
    hops: Hops, directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await start(hops, directory)
    client = await tls_client(hops)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    hello = client.outgoing.read().replace(b"site.test", b"s\xc3\xa4te.test"[:9])
    await hops.clients[0].send(hello)
    await hops.clients[0].gone()
    assert hops.closes(Hop.CLIENT) == [CloseReason.HANDSHAKE_FAILED]
    assert capfd.readouterr().err == ""


async def test_a_proxy_header_before_tls_names_the_client(hops: Hops, directory: Path) -> None:
    listener = Listener(tls=listener_tls(directory), proxy_protocol=True)
    origin = await hops.start(listeners=(listener,), trusted_proxies=(UNIX,))
    peer = await hops.client()
    await peer.send(b"PROXY TCP4 192.0.2.9 198.51.100.1 4711 443\r\n")
    client = TlsPeer(peer, client_context())
    await client.shake()
    head = await ask(client, origin)
    assert b"\r\nX-Forwarded-For: 192.0.2.9\r\n" in head
    assert hops.records.kept[0].peer == "192.0.2.9:4711"


async def test_a_drain_lets_a_handshake_end_and_answers_its_request(
    hops: Hops, directory: Path
) -> None:
    origin = await start(hops, directory)
    client = await tls_client(hops)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    hello = client.outgoing.read()
    await hops.clients[0].send(hello[:200])
    await hops.quiet()
    hops.worker.stop()
    await hops.quiet()
    await hops.clients[0].send(hello[200:])
    await client.shake()
    await client.send(GET)
    upstream = await origin.accept()
    await upstream.message()
    await upstream.send(OK)
    answer = await client.message()
    assert answer.values(b"connection") == [b"close"]
    assert await client.rest() == b""
