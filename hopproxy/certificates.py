"""Reads the certificates that the settings name, and says what is wrong with them.

What is wrong is decided in `settings/chain.py`, which is loaded only if there are certificates.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hopproxy.settings.lint import Risk
from hopproxy.settings.reader import Problem, SettingsErrors, places
from hopproxy.settings.schema import Settings

if TYPE_CHECKING:
    from hopproxy.settings.chain import Facts
    from hopproxy.settings.pem import Finding, Source

#: A longer file is not a certificate.
MAX_SIZE = 1024 * 1024
_NO_FILE = "write the path of a file: a FIFO or a device cannot be read again on a reload"
#: Where systems keep their authorities in one file, besides where OpenSSL looks.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class Pair(NamedTuple):
    """A certificate and its key, as the settings name them.  `server` if clients verify it."""

    path: str
    cert: str
    key: str | None
    server: bool


class Held(NamedTuple):
    """A certificate that is in use: the setting that names its file, and what it says."""

    path: str
    facts: Facts


class Examined(NamedTuple):
    """What all certificates say, and what is wrong; `fatal` if they cannot be used."""

    held: list[Held]
    fatal: list[Risk]
    risks: list[Risk]


def pairs(settings: Settings) -> Iterator[Pair]:
    """The certificates with keys that the settings name."""
    for n, listener in enumerate(settings.listeners):
        for m, one in enumerate(listener.tls.certificates if listener.tls is not None else ()):
            path = f"listeners[{n}].tls.certificates[{m}]"
            yield Pair(path, one.cert, one.key, server=True)
    for name, upstream in settings.upstreams.items():
        if upstream.tls.cert is not None:
            yield Pair(f"upstreams.{name}.tls", upstream.tls.cert, upstream.tls.key, server=False)


def authorities(settings: Settings) -> Iterator[tuple[str, str]]:
    """The files of authorities that the settings name, each with the path of its setting."""
    for n, listener in enumerate(settings.listeners):
        if listener.tls is not None and listener.tls.client_ca is not None:
            yield f"listeners[{n}].tls.client_ca", listener.tls.client_ca
    for name, upstream in settings.upstreams.items():
        if upstream.tls.ca is not None:
            yield f"upstreams.{name}.tls.ca", upstream.tls.ca


def examine(settings: Settings, now: float) -> Examined:
    """Read and examine every certificate.  `now` is Unix time."""
    examined = Examined([], [], [])
    for pair in pairs(settings):
        _examine_pair(pair, now, examined)
    for path, file in authorities(settings):
        _examine_authorities(path, file, now, examined)
    examined.risks.extend(_unnamed_hosts(settings, examined.held))
    return examined


def _unnamed_hosts(settings: Settings, held: list[Held]) -> Iterator[Risk]:
    """Hosts of routes for which no listener has a certificate."""
    names = tuple(
        name for path, facts in held if path.startswith("listeners") for name in facts.names
    )
    if not names:
        return
    from hopproxy.settings.chain import covers

    for n, route in enumerate(settings.routes):
        for host in route.host or ():
            covered = host in names if host.startswith("*") else covers(names, host)
            if not covered:
                message = f"no listener has a certificate for `{host}`: browsers refuse it"
                hint = f"the certificates are for {', '.join(names[:4])}"
                yield Risk(f"routes[{n}].host", message, hint)


def refuse_unusable(settings: Settings, now: float, text: str, file: str) -> None:
    """Raise SettingsErrors for certificates that cannot be used, with their places in `text`.

    Other problems with certificates are reported too.
    """
    examined = examine(settings, now)
    if not examined.fatal:
        return
    place_of = places(text, file=file, environ=os.environ)
    found = [(place_of(path), path, message, hint) for path, message, hint in examined.fatal]
    for path, message, hint in examined.risks:
        found.append((place_of(path), f"warning: {path}", message, hint))
    raise SettingsErrors(
        Problem(file, at.line, at.column, path, message, hint)
        for at, path, message, hint in sorted(found)
    )


def source_of(file: str) -> Source:
    """Read one file."""
    from hopproxy.settings.pem import MISSING, Source

    path = Path(file)
    try:
        with open(file, "rb", opener=open_at_once) as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode):
                return Source(file, error="is not a regular file", hint=_NO_FILE)
            data = opened.read(MAX_SIZE + 1)
    except FileNotFoundError:
        hint = "write the path of an existing file"
        if not path.is_absolute():
            hint = f"it is looked for in the working directory, {Path.cwd()}"
        return Source(file, error=MISSING, hint=hint)
    except PermissionError:
        hint = f"give user {_user()}, as whom hopproxy runs, the right to read it"
        return Source(file, error="may not be read", hint=hint)
    except IsADirectoryError:
        return Source(file, error="is a directory", hint="write the path of a file in it")
    except OSError as error:
        return Source(file, error=error.strerror or str(error), hint="write another file")
    if len(data) > MAX_SIZE:
        return Source(file, error="is too long", hint="a certificate has a few thousand bytes")
    return Source(file, data, mode)


def open_at_once(name: str, flags: int) -> int:
    """An opener for `open` that never waits: opening a FIFO would wait for a writer."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)


def identity(file: str) -> tuple[tuple[str, ...], str]:
    """The names in the certificate of a file, and the kind of its key.  Raises OSError."""
    from hopproxy.settings.chain import facts
    from hopproxy.settings.pem import Unusable, certificates

    try:
        found = facts(certificates(source_of(file))[0], file)
    except Unusable as unusable:
        raise OSError(unusable.finding.message) from unusable
    return found.names, found.key.partition(" ")[0]


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        return str(os.geteuid())


def _examine_pair(pair: Pair, now: float, examined: Examined) -> None:
    from hopproxy.settings import chain

    key = None if pair.key is None else source_of(pair.key)
    facts, found = chain.examine(source_of(pair.cert), key, now, machine_roots, server=pair.server)
    if facts is not None:
        examined.held.append(Held(f"{pair.path}.cert", facts))
    for one in found:
        of_key = one.of_key and pair.key is not None
        _note(examined, f"{pair.path}.{'key' if of_key else 'cert'}", one)
    if not any(one.fatal for one in found):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.cert, pair.key)
        except OSError as error:  # ssl.SSLError is one
            examined.fatal.append(_refused(f"{pair.path}.cert", pair.cert, error))


def _examine_authorities(path: str, file: str, now: float, examined: Examined) -> None:
    from hopproxy.settings import chain

    facts, found = chain.examine_authorities(source_of(file), now)
    examined.held.extend(Held(path, one) for one in facts)
    for one in found:
        _note(examined, path, one)
    if not any(one.fatal for one in found):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except OSError as error:
            examined.fatal.append(_refused(path, file, error))


def unusable_authorities(file: str) -> str:
    """Why a file of authorities cannot be used, and what to do; empty if it can."""
    examined = Examined([], [], [])
    _examine_authorities("", file, time.time(), examined)
    return "; ".join(f"{one.message} ({one.hint})" for one in examined.fatal)


def _note(examined: Examined, path: str, one: Finding) -> None:
    risks = examined.fatal if one.fatal else examined.risks
    risks.append(Risk(path, one.message, one.hint))


def _refused(path: str, file: str, error: OSError) -> Risk:
    """OpenSSL's error for a file in which we have found nothing wrong."""
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    said = re.sub(r"\[\w+\] | \(_ssl\.c:\d+\)", "", reason).replace("_", " ").lower()
    hint = "copy the file again, or have it issued anew"
    return Risk(path, f"{file}: OpenSSL refuses it: {said}", hint)


def machine_trusts(file: str) -> bool:
    """Whether this machine trusts the first certificate in this file as an authority."""
    from hopproxy.settings.pem import Unusable, certificates

    try:
        (first, *_) = certificates(source_of(file))
    except Unusable:
        return False
    return first.subject.public_bytes() in machine_roots()


@cache
def machine_roots() -> frozenset[bytes]:
    """The names of the authorities that this machine trusts, in DER."""
    from hopproxy.settings.pem import Unusable, certificates

    paths = ssl.get_default_verify_paths()
    for file in (paths.cafile, paths.openssl_cafile, *_BUNDLES):
        if file and Path(file).exists():
            try:
                return frozenset(
                    one.subject.public_bytes() for one in certificates(source_of(file))
                )
            except Unusable:
                continue
    return frozenset()
