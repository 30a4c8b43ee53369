"""`probe` and `check --probe` as commands, against a real origin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from tests.cli.command import finished, told
from tests.learn.servers import Running, nginx, origin
from tests.peers.servers import running
from tests.ports import free_port


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """nginx, that gives idle connections up after 1.6 seconds."""
    directory = tmp_path_factory.mktemp("probe") / "origin"
    with origin(partial(nginx, limit="1600ms"), directory) as server:
        yield server


@pytest.fixture(scope="module")
def probed(short: Running) -> subprocess.CompletedProcess[str]:
    """What the probe of it has printed."""
    return finished("probe", str(short.port), "--max", "5s")


def test_the_idle_limit_is_found(probed: subprocess.CompletedProcess[str]) -> None:
    assert (probed.returncode, probed.stderr) == (0, "")
    (line,) = (line for line in probed.stdout.splitlines() if line.startswith("idle limit"))
    assert abs(float(line.split()[2]) - 1.6) < 0.5
    assert "then FIN" in line
    assert "known as nginx" in probed.stdout


def test_its_settings_pass_check_without_a_warning_even_when_it_asks_again(
    probed: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    file = tmp_path / "probed.yaml"
    file.write_text(probed.stdout[probed.stdout.index("upstreams:") :])
    ended = told("check", "--config", str(file), "--probe")
    assert (ended.returncode, ended.stdout.splitlines()[-1:], ended.stderr) == (0, ["valid"], "")


def test_check_warns_at_the_place_and_is_content_all_the_same(
    short: Running, tmp_path: Path
) -> None:
    file = tmp_path / "risky.yaml"
    file.write_text(
        f"upstreams:\n  app:\n    origins: [http://127.0.0.1:{short.port}]\n"
        "    server: gunicorn\n    pool:\n      idle_timeout: 3s\n      learn: off\n"
    )
    ended = told("check", "--config", str(file), "--probe")
    assert ended.returncode == 0
    via, by_table, by_probe, _, valid = ended.stdout.splitlines()
    for line in (by_table, by_probe):
        assert line.startswith(
            f"{file}:6:21: warning: upstreams.app.pool.idle_timeout: 3s is longer"
        )
    assert "gunicorn's default idle timeout, 2s" in by_table
    assert "the measured idle timeout of http://" in by_probe
    assert f"warning: via: http://127.0.0.1:{short.port} does not compress" in via
    assert valid == "valid"


def test_python_s_own_server_serves_one_connection_at_a_time(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.peers.one_at_a_time", str(port)]
    with running(command, port, tmp_path / "out"):
        ended = told("probe", str(port), "--max", "1s")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "at a time     1 connection: others wait until one ends" in ended.stdout
    assert "max_connections: 1 " in ended.stdout
    assert "fails" not in ended.stdout


@pytest.mark.parametrize("word", ["--requests=0", "--requests=-5", "--requests=x", "--max=0"])
def test_a_number_that_measures_nothing_is_refused_before_anything_is_asked(word: str) -> None:
    ended = told("probe", "127.0.0.1:1", word)
    assert ended.returncode == 2
    assert ended.stderr.startswith("hopproxy probe: ")
    assert "cannot be reached" not in ended.stderr


def test_an_origin_that_is_not_there() -> None:
    ended = told("probe", str(free_port()))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "cannot be reached" in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["ftp://a"], ["3000", "--max", "5"], ["3000", "--path", "x"]], ids=" ".join
)
def test_bad_usage(arguments: list[str]) -> None:
    ended = told("probe", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("hopproxy probe: ")


def test_authorities_that_cannot_be_used_are_told_as_by_check(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(trustme.CA().private_key_pem.bytes())
    ended = told("probe", "https://127.0.0.1:1", "--ca", str(file))
    assert ended.returncode == 2
    assert ended.stderr == (
        f"hopproxy probe: {file} holds a private key, not a certificate "
        "(write it as `key`, the other as `cert`)\n"
    )
    ended = told("probe", "https://127.0.0.1:1", "--ca", f"{file}.none")
    assert ended.stderr.startswith(f"hopproxy probe: {file}.none: no such file (")


def test_the_path_of_a_probe_may_have_a_query() -> None:
    ended = told("probe", str(free_port()), "--path", "/x?y=z")
    assert "cannot be reached" in ended.stderr
