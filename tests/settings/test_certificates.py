"""Bad certificates in a settings file: each is reported with its place and a hint."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from hopproxy.certificates import examine, machine_roots, refuse_unusable, source_of
from hopproxy.exits import Failure
from hopproxy.settings.lint import Risk, risks
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings_file import read_text
from tests.issued import authority, rsa_key

NOW = time.time()
ROOT = authority(now=NOW)
ME = ROOT.issue("me.example", now=NOW)

TEXT = """\
upstreams:
  api:
    origins: [https://api.example]
    tls:
      cert: {folder}/me.crt
      key: {folder}/me.key
      ca: {folder}/ca.crt
"""


def text_of(folder: Path) -> str:
    """Settings with good files in `folder`, to be spoilt."""
    ME.write(folder, "me")
    ROOT.write(folder, "ca")
    return TEXT.format(folder=folder)


def told(folder: Path, text: str) -> list[str]:
    """What is said of the certificates in these settings: what is fatal, then the rest."""
    settings = read(text, file="F", environ={})
    lines: list[str] = []
    try:
        refuse_unusable(settings, NOW, text, "F")
    except SettingsErrors as errors:
        lines = str(errors).splitlines()
    lines += [
        f"warning: {path}: {message} ({hint})"
        for path, message, hint in examine(settings, NOW).risks
    ]
    return [line.replace(f"{folder}/", "") for line in lines]


def test_good_certificates_are_shown_and_nothing_is_said(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    assert told(tmp_path, text) == []
    held = examine(read(text, file="F", environ={}), NOW).held
    assert [(one.path, one.facts.subject) for one in held] == [
        ("upstreams.api.tls.cert", "me.example"),
        ("upstreams.api.tls.ca", "Test root"),
    ]
    assert held[0].facts.days_left(NOW) == pytest.approx(60, abs=0.01)


CERT = "F:5:13: upstreams.api.tls.cert: "
KEY = "F:6:12: upstreams.api.tls.key: "
CA = "F:7:11: upstreams.api.tls.ca: "
WARNED = "warning: upstreams.api.tls."
MENDED = "(copy the file again, whole)"


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("me.crt", None, CERT + "me.crt: no such file (write the path of an existing file)"),
        ("me.crt", b"", CERT + "me.crt is empty (did the program that writes it run?)"),
        ("me.crt", ME.cert[:-30], CERT + f"me.crt is cut off, or damaged {MENDED}"),
        (
            "me.crt",
            ME.key,
            CERT + "me.crt holds a private key, not a certificate (write it as `key`, the other "
            "as `cert`)",
        ),
        (
            "me.crt",
            ROOT.issue("me.example", now=NOW, key=rsa_key(1024)).cert,
            CERT + "me.crt: `me.example` has an RSA key of 1024 bits, which TLS refuses (make a "
            "new one with an ECDSA key (P-256))",
        ),
        (
            "me.crt",
            ROOT.cert + ME.cert,
            CERT + "the key belongs to certificate 2 of the file, not to the first one (put the "
            "certificate of the site first, its issuers below)",
        ),
        ("me.key", None, KEY + "me.key: no such file (write the path of an existing file)"),
        (
            "me.key",
            ROOT.key,
            KEY + "me.key is not the key of the certificate `me.example` (write the key that the "
            "certificate was requested with)",
        ),
        (
            "me.key",
            ME.encrypted(),
            KEY + "me.key is encrypted, and hopproxy cannot ask for its passphrase (decrypt it: "
            "openssl pkey -in me.key -out plain.key)",
        ),
        (
            "me.key",
            ME.cert,
            KEY + "me.key holds a certificate and no private key (write the file of the key as "
            "`key`)",
        ),
        ("ca.crt", None, CA + "ca.crt: no such file (write the path of an existing file)"),
        (
            "ca.crt",
            b"CA",
            CA + "ca.crt is not PEM (it begins with -----BEGIN CERTIFICATE----- or -----BEGIN "
            "PRIVATE KEY-----)",
        ),
        (
            "ca.crt",
            ME.cert,
            WARNED + "ca: ca.crt: `me.example` is not an authority: it trusts this one alone "
            "(write the certificate of the authority that has signed it)",
        ),
    ],
)
def test_a_bad_file(tmp_path: Path, name: str, data: bytes | None, line: str) -> None:
    text = text_of(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    assert line in told(tmp_path, text)


@pytest.mark.parametrize(("name", "place"), [("me.crt", CERT), ("me.key", KEY), ("ca.crt", CA)])
@pytest.mark.parametrize("kind", ["FIFO", "device", "link to a FIFO"])
def test_a_file_that_is_not_regular_is_refused_without_waiting(
    tmp_path: Path, name: str, place: str, kind: str
) -> None:
    text = text_of(tmp_path)
    file, fifo = tmp_path / name, tmp_path / "fifo"
    file.unlink()
    os.mkfifo(fifo)
    if kind == "FIFO":
        fifo.rename(file)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else fifo)
    refused = f"{place}{name}: is not a regular file (write the path of a file: a FIFO or a device "
    assert f"{refused}cannot be read again on a reload)" in told(tmp_path, text)


def test_a_certificate_behind_symbolic_links_is_read_as_kubernetes_mounts_it(
    tmp_path: Path,
) -> None:
    text = text_of(tmp_path)
    for name in ("me.crt", "me.key", "ca.crt"):
        (tmp_path / "..2026_11_26").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "..2026_11_26" / name)
        (tmp_path / name).symlink_to(f"..data/{name}")
    (tmp_path / "..data").symlink_to("..2026_11_26")
    assert told(tmp_path, text) == []


@pytest.mark.parametrize(
    ("days", "problem"),
    [
        ((-90, -10), r"the certificate expired on [\d-]+, 10 days ago \(renew it\)"),
        ((-90, 10.5), r"ends in 10 days, on [\d-]+ \(renew it\)"),
        ((5.5, 90), r"the certificate is not valid before [\d-]+, in 5 days"),
    ],
)
def test_a_certificate_out_of_its_time_is_warned_of(
    tmp_path: Path, days: tuple[float, float], problem: str
) -> None:
    text = text_of(tmp_path)
    ROOT.issue("me.example", now=NOW, days=days).write(tmp_path, "me")
    (line,) = told(tmp_path, text)
    assert re.match(re.escape(WARNED) + "cert: me.crt:? " + problem, line), line


def test_a_key_that_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    (tmp_path / "me.key").chmod(0o644)
    assert told(tmp_path, text) == [
        WARNED + "key: me.key: every user of this machine can read this key (chmod 600 me.key)"
    ]


def test_what_is_only_warned_of_is_reported_along_with_what_is_fatal(tmp_path: Path) -> None:
    text = text_of(tmp_path)
    (tmp_path / "ca.crt").unlink()
    (tmp_path / "me.key").chmod(0o644)
    with pytest.raises(SettingsErrors) as errors:
        refuse_unusable(read(text, file="F", environ={}), NOW, text, "F")
    first, second = str(errors.value).splitlines()
    assert first.startswith("F:6:12: warning: upstreams.api.tls.key: ")
    assert second.startswith(CA)


def test_one_file_with_certificate_and_key(tmp_path: Path) -> None:
    text = "".join(text_of(tmp_path).splitlines(keepends=True)[:5])
    assert told(tmp_path, text) == [
        CERT + "me.crt holds a certificate and no private key (write the file of the key as `key`)"
    ]
    (tmp_path / "me.crt").write_bytes(ME.cert + ME.key)
    (tmp_path / "me.crt").chmod(0o600)
    assert told(tmp_path, text) == []


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = source_of("none.crt")
    assert there.hint == f"it is looked for in the working directory, {tmp_path}"
    (tmp_path / "long").write_bytes(b"x" * (1024 * 1024 + 1))
    assert source_of("long").error == "is too long"
    assert source_of(str(tmp_path)).error == "is a directory"
    (tmp_path / "loop").symlink_to("loop")
    assert source_of("loop").error == "Too many levels of symbolic links"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "me.key").write_bytes(ME.key)
    (tmp_path / "me.key").chmod(0)
    assert source_of(str(tmp_path / "me.key")).error == "may not be read"


def test_openssl_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(tmp_path)
    monkeypatch.setattr("hopproxy.settings.chain.examine", lambda *_, **__: (None, []))
    (tmp_path / "me.key").write_bytes(ROOT.key)
    assert told(tmp_path, text) == [
        CERT + "me.crt: OpenSSL refuses it: key values mismatch (copy the file again, or have it "
        "issued anew)"
    ]
    broken = b"-----BEGIN DH PARAMETERS-----\nMEYCQQD\n-----END DH PARAMETERS-----\n"
    (tmp_path / "me.crt").write_bytes(broken + ME.cert)
    assert told(tmp_path, text) == [
        CERT + "me.crt: OpenSSL refuses it: pem lib (copy the file again, or have it issued anew)"
    ]
    monkeypatch.setattr("hopproxy.settings.chain.examine_authorities", lambda *_: ([], []))
    (tmp_path / "ca.crt").write_bytes(b"")
    assert told(tmp_path, text)[1].startswith(CA + "ca.crt: OpenSSL refuses it: ")


def test_this_machine_has_authorities() -> None:
    assert all(isinstance(name, bytes) for name in machine_roots())


def advice(app: str) -> list[Risk]:
    return list(risks(read(f"upstreams: {{app: {{{app}}}}}\n", file="F", environ={})))


@pytest.mark.parametrize(
    ("app", "found"),
    [
        ("origins: [https://a]", []),
        (
            "origins: [https://a], tls: {verify: off}",
            [("tls.verify", "any server is trusted, and can read and change everything")],
        ),
        (
            "origins: [https://a], tls: {verify: off, ca: ca.crt}",
            [
                ("tls.verify", "any server is trusted, and can read and change everything"),
                ("tls.ca", "has no effect with verify: off"),
            ],
        ),
        (
            "origins: [http://a], tls: {verify: off}",
            [("tls", "has no effect: no origin of it is https://")],
        ),
        ("origins: [http://a:443]", [("origins[0]", "port 443 is the port of https://")]),
        ("origins: [https://a:80]", [("origins[0]", "port 80 is the port of http://")]),
        ("origins: [unix:/a]", []),
    ],
)
def test_tls_settings_that_are_probably_a_mistake(app: str, found: list[tuple[str, str]]) -> None:
    assert [(risk.path.removeprefix("upstreams.app."), risk.message) for risk in advice(app)] == (
        found
    )


def test_a_key_without_its_certificate_is_a_contradiction() -> None:
    with pytest.raises(
        SettingsErrors, match=r"1:52: .*tls.key: has no certificate \(write `cert:`"
    ):
        advice("origins: [https://a], tls: {key: a.key}")


def test_reading_the_settings_fails_with_the_place(tmp_path: Path) -> None:
    """So do `run`, `check` and a reload, which read them."""
    text = text_of(tmp_path)
    (tmp_path / "me.key").write_bytes(ROOT.key)
    with pytest.raises(Failure, match=r"^site.yaml:6:12: upstreams.api.tls.key: .* is not the key"):
        read_text("site.yaml", text)


def test_a_host_that_no_certificate_names_is_warned_of(tmp_path: Path) -> None:
    cert, key = ROOT.issue("a.example", "*.b.example", now=NOW).write(tmp_path, "site", ROOT)
    text = f"""\
listeners: [{{bind: 'a:443', tls: {{certificates: [{{cert: {cert}, key: {key}}}]}}}}]
upstreams: {{app: {{origins: [3000]}}}}
routes:
  - {{host: a.example, upstream: app}}
  - {{host: ["*.b.example", x.b.example, c.example], upstream: app}}
  - {{upstream: app}}
"""
    assert told(tmp_path, text) == [
        "warning: routes[1].host: no listener has a certificate for `c.example`: browsers refuse "
        "it (the certificates are for a.example, *.b.example)"
    ]


def test_a_listener_without_a_certificate_speaks_no_tls() -> None:
    text = "listeners: [{bind: 'a:80', tls: {certificates: [{cert: off}]}}]\n"
    settings = read(text + "upstreams: {app: {origins: [3000]}}\n", file="F", environ={})
    assert settings.listeners[0].tls is None
