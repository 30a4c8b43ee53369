"""Origins that are not trusted, or do not speak TLS: nothing of them reaches the client."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path
from typing import cast

import pytest
import trio

from hopproxy.pool.origin import Origin
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.route import Route
from hopproxy.settings.units import OriginAddress
from hopproxy.settings.upstream import UpstreamSettings
from tests.authority import authority, certificate, files_of
from tests.issued import Issued, issue
from tests.issued import authority as other_authority
from tests.raw_peers import GET, OK, Message, get
from tests.tls_peers import NAME, TlsHops, TlsPeer, ca_file, context_for_origin

#: TLS towards the origins.
HOPS = TlsHops


def server(folder: Path, one: Issued, *above: Issued) -> ssl.SSLContext:
    """A server with this certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*one.write(folder, "server", *above))
    return made


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that speaks one version."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(NAME).configure_cert(made)
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        made.minimum_version = made.maximum_version = version
    made.set_ciphers("ALL:@SECLEVEL=0")
    return made


async def refused(hops: TlsHops, cause: str, what: str, *, shaken: bool = False) -> None:
    """The next request fails with this cause, in the answer, the log and the counters."""
    client = await hops.client()
    await client.send(GET)
    upstream = await hops.origins[0].accept_raw()  # type: ignore[attr-defined]
    if shaken:
        await upstream.shake()
    else:
        await turned_away(upstream)
    check(hops, await client.message(), cause, what)


async def turned_away(upstream: TlsPeer) -> None:
    """We do not take part in the handshake with this origin."""
    with contextlib.suppress(ssl.SSLError):
        await upstream.shake()
        while await upstream.rest():
            pass


def check(hops: TlsHops, answer: Message, cause: str, what: str) -> None:
    """The answer and the record tell it."""
    assert answer.status == 502
    (status,) = answer.values(b"proxy-status")
    assert status.startswith(b"hopproxy; error=" + cause.encode())
    assert what.encode() in status
    record = hops.records.kept[-1]
    assert (record.cause, what in record.detail) == (cause, True), record.detail
    origin = cast("Origin", hops.runtime.pool.ledger.shares[0])
    assert origin.secured is not None
    assert origin.secured.failed == {cause: 1}
    assert origin.reach.failed_at is not None


@pytest.mark.parametrize(
    ("days", "what"),
    [((-30, -10), "its certificate expired on 20"), ((5, 30), "its certificate is not valid bef")],
)
async def test_a_certificate_out_of_its_time(
    hops: TlsHops, directory: Path, days: tuple[float, float], what: str
) -> None:
    root = other_authority(now=time.time())
    (directory / "other.crt").write_bytes(root.cert)
    one = root.issue(NAME, now=time.time(), days=days)
    hops.add_origin(context=server(directory, one))
    await hops.start(upstream={"tls": OriginTls(ca=str(directory / "other.crt"), server_name=NAME)})
    await refused(hops, "tls_certificate_error", what)


async def test_a_certificate_for_another_name(hops: TlsHops, directory: Path) -> None:
    await hops.start(upstream={"tls": OriginTls(ca=ca_file(directory), server_name="b.test")})
    what = "its certificate is for `origin.test`, not for `b.test`"
    await refused(hops, "tls_certificate_error", what)


async def test_a_certificate_of_an_unknown_authority(hops: TlsHops, directory: Path) -> None:
    await hops.start(upstream={"tls": OriginTls(server_name=NAME)})
    await refused(hops, "tls_certificate_error", "its certificate was signed by `")


async def test_a_certificate_that_has_signed_itself(hops: TlsHops, directory: Path) -> None:
    hops.add_origin(context=server(directory, issue(NAME, now=time.time())))
    await hops.start()
    await refused(hops, "tls_certificate_error", "its certificate is self-signed (`origin.test`)")


async def test_a_certificate_that_has_signed_itself_may_be_trusted(
    hops: TlsHops, directory: Path
) -> None:
    one = issue(NAME, now=time.time())
    (directory / "it.crt").write_bytes(one.cert)
    hops.add_origin(context=server(directory, one))
    await hops.start(upstream={"tls": OriginTls(ca=str(directory / "it.crt"), server_name=NAME)})
    await hops.pair()


async def test_an_intermediate_authority_may_be_trusted_alone(
    hops: TlsHops, directory: Path
) -> None:
    root = other_authority(now=time.time())
    middle = root.issue(common="Middle", authority=True, now=time.time())
    (directory / "middle.crt").write_bytes(middle.cert)
    hops.add_origin(context=server(directory, middle.issue(NAME, now=time.time())))
    ca = str(directory / "middle.crt")
    await hops.start(upstream={"tls": OriginTls(ca=ca, server_name=NAME)})
    await hops.pair()


async def test_whoever_answers_is_believed_if_the_settings_say_so(hops: TlsHops) -> None:
    await hops.start(upstream={"tls": OriginTls(verify=False)})
    await hops.pair()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_origin_with_an_old_version_only(hops: TlsHops) -> None:
    hops.add_origin(context=only(ssl.TLSVersion.TLSv1_1))
    await hops.start()
    what = "it supports neither TLS 1.2 nor TLS 1.3"
    await refused(hops, "tls_alert_received", what)


async def test_an_origin_without_tls(hops: TlsHops) -> None:
    """Nor does any byte that comes before the end of the handshake reach the client."""
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    await upstream.send_raw(OK)
    answer = await client.message()
    check(hops, answer, "tls_protocol_error", "it does not speak TLS on this port")


async def test_plain_bytes_within_the_handshake(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    await upstream._pull()
    with pytest.raises(ssl.SSLWantReadError):
        upstream.tls.do_handshake()
    await upstream.send_raw(upstream.sealed() + OK)
    answer = await client.message()
    assert answer.status == 502
    assert b"error=tls_protocol_error" in answer.values(b"proxy-status")[0]


async def test_an_origin_that_closes_within_the_handshake(hops: TlsHops) -> None:
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    upstream.close()
    what = "it closed the connection; does it speak TLS on this port?"
    check(hops, await client.message(), "tls_protocol_error", what)


async def test_an_origin_that_does_not_go_on_with_the_handshake(hops: TlsHops) -> None:
    origin = await hops.start(upstream={"connect_timeout": 2.0, "tls": OriginTls(verify=False)})
    client = await hops.client()
    began = trio.current_time()
    await client.send(GET)
    await origin.accept_raw()
    answer = await client.message()
    assert trio.current_time() - began == pytest.approx(2.0, abs=0.01)
    assert answer.status == 504
    assert b"error=connection_timeout" in answer.values(b"proxy-status")[0]
    record = hops.records.kept[-1]
    assert record.passed == ("connect_timeout", 2.0)
    assert record.detail.endswith("failed: the handshake did not end in time")


def asking(*, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that wants a certificate of ours."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(NAME).configure_cert(made)
    authority().configure_trust(made)
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = made.maximum_version = version
    return made


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
async def test_our_own_certificate(hops: TlsHops, directory: Path, version: ssl.TLSVersion) -> None:
    cert, key = files_of(certificate("me.test"), directory, "me")
    hops.add_origin(context=asking(version=version))
    tls = OriginTls(ca=ca_file(directory), server_name=NAME, cert=str(cert), key=str(key))
    await hops.start(upstream={"tls": tls})
    await hops.pair()


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_origin_that_wants_a_certificate_of_ours(
    hops: TlsHops, version: ssl.TLSVersion
) -> None:
    """In TLS 1.3 we learn that only after the handshake."""
    hops.add_origin(context=asking(version=version))
    await hops.start()
    what = "requires a client certificate"
    await refused(hops, "tls_alert_received", what)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
async def test_an_origin_that_resets_after_the_handshake(hops: TlsHops, said: bytes) -> None:
    """Some do that instead of sending the alert, or so soon that the alert is lost."""
    hops.tcp = True
    origin = await hops.start()
    client = await hops.client()
    await client.send(GET)
    upstream = await origin.accept_raw()
    await upstream.shake(tickets=False)
    if said:
        await upstream.send(said)
    await hops.quiet()
    upstream.reset()
    assert (await client.message()).status == 502
    hint = "perhaps it requires a client certificate (tls.cert and tls.key)"
    assert (hint in hops.records.kept[-1].detail) is not bool(said)


async def test_another_origin_is_taken(hops: TlsHops, directory: Path) -> None:
    hops.add_origin(context=server(directory, issue(NAME)))
    hops.add_origin(context=context_for_origin())
    await hops.start()
    client = await hops.client()
    await client.send(GET)
    bad = await hops.origins[0].accept_raw()  # type: ignore[attr-defined]
    await turned_away(bad)
    good = await hops.origins[1].accept()
    await good.message()
    await good.send(OK)
    assert (await client.message()).status == 200


async def test_an_origin_is_tried_again_and_up_once_it_is_trusted(
    hops: TlsHops, directory: Path
) -> None:
    origin = await hops.start()
    origin.context = server(directory, issue(NAME))
    await refused(hops, "tls_certificate_error", "its certificate")
    origin.context = context_for_origin()
    trial = await origin.accept_raw()
    await trial.shake(tickets=False)  # it closes at once
    assert await trial.rest() == b""
    assert trial.notified
    await hops.quiet()
    assert cast("Origin", hops.runtime.pool.ledger.shares[0]).reach.reached


async def test_new_certificates_are_used_from_the_next_link_on(
    hops: TlsHops, directory: Path
) -> None:
    """A reload of the same settings reads the files again; open links stay."""
    cert, key = files_of(certificate("me.test"), directory, "me")
    context = asking(version=ssl.TLSVersion.TLSv1_3)
    hops.add_origin(context=context)
    tls = OriginTls(ca=ca_file(directory), server_name=NAME, cert=str(cert), key=str(key))
    await hops.start(upstream={"tls": tls})
    client, upstream = await hops.pair()
    files_of(certificate("new.test"), directory, "me")
    hops.runtime.apply(hops.runtime.settings)
    assert (await hops.again(client, upstream)).status == 200
    upstream.close()
    await hops.quiet()
    await client.send(GET)
    fresh = await hops.origins[0].accept()
    await fresh.message()
    await fresh.send(OK)
    await client.message()
    found = fresh.tls.getpeercert()  # type: ignore[attr-defined]
    assert found["subjectAltName"] == (("DNS", "new.test"),)
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.PEER_CLOSED]


async def test_an_address_is_verified_and_is_no_server_name(hops: TlsHops) -> None:
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate("127.0.0.1").configure_cert(context)
    context.sni_callback = lambda _, name, __: names.append(name)
    clock = trio.lowlevel.current_clock()
    clock.autojump_threshold = 0.03  # type: ignore[attr-defined]
    hops.tcp = True
    origin = hops.add_origin(context=context)
    assert origin.address == OriginAddress("tcp", "127.0.0.1", origin.address.port, scheme="https")
    await hops.start(upstream={"tls": OriginTls(ca=ca_file(hops._directory))})
    client = await hops.client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    upstream = await origin.accept()
    request = await upstream.message()
    assert request.values(b"host") == [b"127.0.0.1:%d" % origin.address.port]
    await upstream.send(OK)
    await client.message()
    assert names == [None]


async def test_upstreams_that_trust_others_share_no_link(hops: TlsHops, directory: Path) -> None:
    """The same address, in one upstream verified, in the other not: each has links of its own."""
    origin = hops.add_origin(context=server(directory, issue(NAME, now=time.time())))
    trusting = UpstreamSettings(origins=(origin.address,), tls=OriginTls(verify=False))
    strict = UpstreamSettings(
        origins=(origin.address,), tls=OriginTls(ca=ca_file(directory), server_name=NAME)
    )
    await hops.start(
        upstreams={"a": trusting, "b": strict},
        routes=(Route(upstream="a", path="/a"), Route(upstream="b", path="/b")),
    )
    client = await hops.client()
    await client.send(get(b"/a"))
    await origin.accept_and_answer()
    assert (await client.message()).status == 200
    await hops.quiet()
    await client.send(get(b"/b"))
    await turned_away(await origin.accept_raw())
    assert (await client.message()).status == 502
