"""The commands that end by themselves, and the exit codes: 0 done, 1 settings, 2 usage, 3 bind."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

import hopproxy
from tests.cli.command import finished, told, write_settings
from tests.ports import free_port


def test_the_version_is_reported() -> None:
    ended = finished("--version")
    assert (ended.returncode, ended.stdout) == (0, f"hopproxy {hopproxy.__version__}\n")


def test_the_commands_are_listed_by_help() -> None:
    ended = told("--help")
    assert ended.returncode == 0
    for command in ("run", "dev", "check", "schema"):
        assert f"\n    {command} " in ended.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["run", "--port", "1"],
        ["dev", "ftp://localhost:3000"],
        ["dev", "--bind", "8080:80"],
        ["dev", "--admin", "nowhere"],
    ],
    ids=" ".join,
)
def test_bad_usage_ends_with_2_and_says_why(arguments: list[str]) -> None:
    ended = told(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr
    assert "Traceback" not in ended.stderr


def test_dev_says_what_would_have_been_an_origin() -> None:
    assert finished("dev", "ftp://localhost:3000").stderr == (
        "hopproxy dev: `ftp` is not supported as a scheme (write http://localhost:3000)\n"
    )


def test_check_ends_with_0_when_all_is_well(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, 3000)
    ended = finished("check", "--config", str(file))
    assert (ended.returncode, ended.stdout.splitlines()[-1:], ended.stderr) == (0, ["valid"], "")


def test_check_ends_with_1_and_lists_every_problem_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("upstreams:\n  app:\n    orgins: []\n    connect_timeout: soon\n")
    ended = told("check", "--config", str(file))
    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:3:5", f"{file}:3:5", f"{file}:4:22"]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_is_not_there_ends_with_1(tmp_path: Path, command: str) -> None:
    ended = told(command, "--config", str(tmp_path / "none.yaml"))
    assert ended.returncode == 1
    assert "none.yaml: cannot be read: No such file or directory" in ended.stderr


def test_a_file_that_is_no_text_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe")
    ended = told("check", "--config", str(file))
    assert (ended.returncode, ended.stderr) == (1, f"{file}: cannot be read: not UTF-8\n")


def test_a_device_without_end_ends_with_1() -> None:
    ended = told("check", "/dev/zero")
    assert (ended.returncode, ended.stderr) == (1, "/dev/zero: is not a settings file: too long\n")


def test_without_config_the_file_of_this_folder_is_taken(tmp_path: Path) -> None:
    write_settings(tmp_path, 3000)
    ended = told("check", cwd=tmp_path)
    assert re.search(r" with these settings, .*\nvalid\n$", ended.stdout)


def test_run_with_wrong_settings_ends_with_1_before_it_listens(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, 3000, "workers: many")
    ended = finished("run", "--config", str(file))
    assert ended.returncode == 1
    assert f"{file}:3:10: workers:" in ended.stderr


def test_schema_is_a_json_schema_that_knows_every_section() -> None:
    ended = told("schema")
    assert ended.returncode == 0
    schema = json.loads(ended.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"listeners", "client", "upstreams", "routes", "admin"} <= schema["properties"].keys()


def test_run_ends_with_3_where_it_cannot_listen(tmp_path: Path) -> None:
    file, url = write_settings(tmp_path, 3000)
    port = int(url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        ended = finished("run", "--config", str(file))
    assert ended.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: another process listens there" in ended.stderr


@pytest.mark.parametrize("option", ["--bind", "--admin"])
def test_dev_ends_with_3_where_it_was_told_to_listen_and_cannot(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = finished("dev", option, str(port))
    assert ended.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}: another process listens there" in ended.stderr


def test_the_file_may_be_named_without_an_option(tmp_path: Path) -> None:
    file, _ = write_settings(tmp_path, 3000)
    ended = told("check", str(file))
    assert (ended.returncode, ended.stdout.splitlines()[1:]) == (0, ["valid"])
    assert told("check", str(file), "--config", str(file)).returncode == 0
    assert told("run", str(tmp_path / "none.yaml")).returncode == 1


def test_two_files_are_one_too_many() -> None:
    ended = told("check", "a.yaml", "--config", "b.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "hopproxy: two settings files are named: a.yaml and b.yaml\n"


def test_check_warns_of_settings_that_do_nothing_or_run_in_a_circle(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(
        "listeners: [{bind: ':8080'}]\n"
        "upstreams:\n"
        "  app: {origins: [8080]}\n"
        "  old: {origins: [3000]}\n"
        "routes: [{upstream: app}]\n"
    )
    ended = told("check", str(file))
    assert ended.returncode == 0
    *lines, memory, valid = ended.stdout.splitlines()
    assert re.fullmatch(r"at most [\d.]+ [MG]iB with these settings, not counting .*", memory)
    assert [*lines, valid] == [
        f"{file}:3:19: warning: upstreams.app.origins[0]: `http://localhost:8080` is this proxy "
        "itself: listeners[0], `:8080` (write the address of the application, or listen elsewhere)",
        f"{file}:4:8: warning: upstreams.old: no route leads to it "
        "(add a route with `upstream: old`, or remove the upstream)",
        "valid",
    ]


def test_two_names_of_one_address_are_reported_as_ours(tmp_path: Path) -> None:
    port = free_port()
    name = socket.gethostname()
    try:
        socket.create_server((name, 0)).close()
    except OSError:
        pytest.skip(f"{name} is no address of this machine")
    address = socket.gethostbyname(name)
    file = tmp_path / "hopproxy.yaml"
    file.write_text(
        f"listeners: [{{bind: '{name}:{port}'}}, {{bind: '{address}:{port}'}}]\n"
        "upstreams: {app: {origins: [3000]}}\n"
    )
    ended = finished("run", str(file))
    assert ended.returncode == 3
    assert ended.stderr.endswith(
        f"hopproxy: cannot listen on {address}:{port}: listeners[1] and listeners[0] share a port "
        "(give each its own)\n"
    )


def test_dev_tells_that_its_own_two_listeners_meet() -> None:
    port = free_port()
    ended = finished("dev", "--bind", f"0.0.0.0:{port}", "--admin", str(port))
    assert ended.returncode == 3
    assert ended.stderr.endswith(
        f"hopproxy: cannot listen on 127.0.0.1:{port}: "
        "--bind and --admin name the same port (give each its own)\n"
    )
