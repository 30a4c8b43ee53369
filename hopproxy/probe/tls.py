"""How an origin speaks TLS: versions, certificate, protocols, resumption, how it closes."""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from hopproxy.errors import HopError, TlsFailed
from hopproxy.link.origin_tls import OriginTransport, Secured, Trust
from hopproxy.link.watch import Watch
from hopproxy.probe.asker import Asker, Target

#: Seconds within which an origin closes after a last response.
SOON = 1.0
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: What a Trust offers to an origin by ALPN.
_HTTP1, _BOTH = ("http/1.1",), ("h2", "http/1.1")


async def trusted(target: Target, watch: Watch) -> str:
    """Make one connection; "" if its certificate is trusted, else why it is not.

    In that case the certificate is no longer verified, so that the rest can be measured.  Raises
    HopError.
    """
    try:
        async with Asker(target, watch):
            return ""
    except TlsFailed as error:
        if error.cause != "tls_certificate_error":
            raise
        target.trust = Trust(replace(target.tls, verify=False), _HTTP1)
        return error.detail.partition(" failed: ")[2]


async def tls_habits(target: Target, watch: Watch, distrust: str) -> list[tuple[str, str]]:
    """How this origin speaks TLS, as (name, finding)."""
    found = [("TLS", await _versions(target, watch))]
    found.append(("certificate", distrust or await _certificate(target, watch)))
    found.append(("ALPN", await _protocols(target, watch)))
    for version in _VERSIONS:
        if version in found[0][1]:
            found.append((f"resumes {version}", await _resumes(target, watch, version)))
    found.append(("closes", await _closes(target, watch)))
    return found


@contextmanager
def _changed(target: Target, change: Callable[[ssl.SSLContext], None]) -> Iterator[None]:
    """Within this block the target is spoken to with another context."""
    before = target.trust
    assert before is not None
    target.trust = Trust(before.settings, _HTTP1)
    try:
        change(target.trust.context)
        yield
    finally:
        target.trust = before


async def _versions(target: Target, watch: Watch) -> str:
    spoken: list[str] = []
    last = ""
    for name, version in _VERSIONS.items():

        def only(context: ssl.SSLContext, version: ssl.TLSVersion = version) -> None:
            context.minimum_version = context.maximum_version = version

        with _changed(target, only):
            try:
                async with Asker(target, watch) as asker:
                    spoken.append(name)
                    last = _secured(asker).cipher
            except HopError:
                continue
    return f"{' and '.join(spoken)}, {last}" if spoken else "no version that hopproxy supports"


async def _certificate(target: Target, watch: Watch) -> str:
    # Imported here: it is needed only for TLS.
    from cryptography import x509

    from hopproxy.settings.chain import facts

    async with Asker(target, watch) as asker:
        der = _tls(asker).getpeercert(binary_form=True)
    if der is None:
        return "none"
    held = facts(x509.load_der_x509_certificate(der), "")
    names = ", ".join(held.names[:4]) or "no name"
    return (
        f"{held.key} for {names}, by {held.issuer}, ends in {held.days_left(time.time()):.0f} days"
    )


async def _protocols(target: Target, watch: Watch) -> str:
    with _changed(target, lambda context: context.set_alpn_protocols(list(_BOTH))):
        async with Asker(target, watch) as asker:
            chosen = _secured(asker).alpn
    return f"chooses {chosen} of h2 and http/1.1" if chosen else "is not used: http/1.1"


async def _resumes(target: Target, watch: Watch, version: str) -> str:
    def only(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = _VERSIONS[version]

    with _changed(target, only):
        try:
            async with Asker(target, watch) as asker:
                await asker.get()
                session = _tls(asker).session
            if session is None or not (session.has_ticket or session.id):
                return "no: it gives no ticket"
            async with Asker(target, watch, session=session) as asker:
                if not _tls(asker).session_reused:
                    return "no: it does not accept its own ticket"
        except HopError as error:
            return f"fails: {error.detail}"
    lifetime = f", for {session.ticket_lifetime_hint} s" if session.ticket_lifetime_hint else ""
    return f"yes{lifetime}"


async def _closes(target: Target, watch: Watch) -> str:
    """How the origin ends a connection after the last response."""
    async with Asker(target, watch) as asker:
        await asker.ask(target.request("GET", "Connection: close"))
        ending = await asker.ending(SOON)
    if ending.how == "FIN":
        return "with FIN alone: a body that only the close delimits counts as cut off"
    return f"with {ending.how}" if ending.how else "not within a second of `Connection: close`"


def _secured(asker: Asker) -> Secured:
    assert asker.secured is not None
    return asker.secured


def _tls(asker: Asker) -> ssl.SSLObject:
    transport = asker.link.transport
    assert isinstance(transport, OriginTransport)
    assert transport.within.tls is not None
    return transport.within.tls
