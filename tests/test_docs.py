"""What README.md and config/ say is so.

`python -m tests.test_docs` writes the settings reference of README.md anew.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hopproxy.cli import COMMANDS
from hopproxy.command_line import DEFAULT_FILES, parser
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.reference import reference
from tests.cli.command import Command, get, hopproxy

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text()
#: How the table of the first screen begins.
FIRST = "| | hopproxy |"
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"
SIDECAR = ROOT / "config" / "sidecar.yaml"


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def table() -> str:
    """The settings reference as Markdown."""
    rows = "".join(
        f"| `{row.path}` | {row.type} | `{row.default}` | {row.description} |\n"
        for row in reference()
    )
    return f"| setting | written as | default | what it is for |\n|---|---|---|---|\n{rows}"


def rows_under(title: str) -> list[str]:
    """The first cells of the table whose head begins with this word."""
    lines = TEXT.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {title} |"))
    found: list[str] = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return found
        found.append(line.split("|")[1].strip())
    return found


@pytest.mark.parametrize("text", [b for b in blocks("yaml") if not b.startswith("# compose")])
def test_every_settings_block_of_the_readme_loads(text: str) -> None:
    assert read(text, file="README.md", environ={}).upstreams


def test_the_mistakes_of_the_readme_are_reported_as_it_says() -> None:
    (site,) = (block for block in blocks("yaml") if block.startswith("listeners:"))
    wrong = site.replace("origins: [unix", "orgins: [unix").replace(": 10s", ": 10")
    with pytest.raises(SettingsErrors) as told:
        read(wrong, file="site.yaml", environ={})
    assert f"{told.value}\n" in blocks("text")


def test_there_are_settings_and_compose_blocks() -> None:
    firsts = [block.startswith("# compose") for block in blocks("yaml")]
    assert firsts == [True, *[False] * (len(firsts) - 1)]
    assert len(firsts) > 3


def test_the_compose_file_sets_what_the_sidecar_reads() -> None:
    (compose,) = (yaml.safe_load(b) for b in blocks("yaml") if b.startswith("# compose"))
    service = compose["services"]["hopproxy"]
    known = set(re.findall(r"\$\{(\w+)", SIDECAR.read_text()))
    assert service["environment"].keys() <= known
    inside = service["ports"][0].split(":")[1]
    settings = read(SIDECAR.read_text(), file="sidecar", environ=service["environment"])
    assert str(settings.listeners[0].bind.port) == inside
    assert [str(o) for o in settings.upstreams["app"].origins] == ["http://app:3000"]


def test_the_variables_of_the_sidecar_are_all_told_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(HOPPROXY_\w+)` \|.*\| (.*?) \|$", TEXT, re.MULTILINE)
    told = [(name, "" if default == "none" else default.strip("`")) for name, default in rows]
    assert sorted(told) == sorted(re.findall(r"\$\{(\w+):-(.*?)\}", SIDECAR.read_text()))


#: For programs other than hopproxy: tests/test_deployment.py.
ELSEWHERE = ("compose.yaml", "kubernetes.yaml", "hopproxy.service", "hopproxy.socket")
SETTINGS = [file for file in sorted((ROOT / "config").iterdir()) if file.name not in ELSEWHERE]


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: file.name)
def test_every_settings_file_of_config_loads(file: Path) -> None:
    assert read(file.read_text(), file=file.name, environ={}).upstreams


def test_the_settings_reference_is_what_the_code_says() -> None:
    written = TEXT.partition(BEGIN)[2].partition(END)[0]
    assert written == table(), "run `make reference`"


def commands() -> Iterator[list[str]]:
    """Every hopproxy command of README's blocks and of its table of commands."""
    said = "".join(blocks("sh")).splitlines()
    said += [cell.strip("`") for cell in rows_under("command")]
    for line in said:
        words = shlex.split(line)
        if Path(words[0]).name == "hopproxy":
            yield words[1:]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_is_one(words: list[str]) -> None:
    if words == ["--version"]:
        with pytest.raises(SystemExit, match="0"):
            parser().parse_args(words)
        return
    assert parser().parse_args(words).command in COMMANDS


def test_every_command_is_documented() -> None:
    (actions,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert {words[0] for words in commands()} == {*actions.choices, "--version"}


def test_where_settings_are_looked_for_is_documented() -> None:
    for file in DEFAULT_FILES:
        assert f"`{file}`" in TEXT


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {line.split()[1] for line in "".join(blocks("sh")).splitlines() if "make " in line}
    named |= set(re.findall(r"`make (\w+)`", TEXT))
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_path_exists() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", TEXT) + re.findall(r"`(tests/[\w/.]+)`", TEXT)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_link_within_the_page_leads_to_a_section() -> None:
    titles = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert links
    assert set(links) <= anchors


def cells(start: str, row: str) -> list[str]:
    """The cells of one row, behind its first, in the table whose head begins so."""
    lines = iter(TEXT.splitlines())
    next(line for line in lines if line.startswith(start))
    found = next(line for line in lines if line.startswith(f"| {row}"))
    return [cell.strip(" *") for cell in found.split("|")[2:-1]]


def test_the_first_screen_says_what_the_tables_below_it_say() -> None:
    lost = [sum(map(int, cells("| proxy |", name))) for name in ("hopproxy", "nginx", "HAProxy")]
    assert list(map(int, cells(FIRST, "requests lost")[:3])) == lost
    results = (ROOT / "tests" / "conformance" / "RESULTS.md").read_text()
    broken = re.findall(r"(\d+) of (\d+) rules broken", results)
    assert cells(FIRST, "HTTP rules broken")[:3] == [count for count, _ in broken]
    assert f"HTTP rules broken, of {broken[0][1]} " in TEXT
    delayed = "| proxy | Django `runserver` |"
    times = [cells(delayed, name)[0] for name in ("hopproxy", "nginx", "Caddy")]
    said = cells(FIRST, "GET to Django")
    assert [said[0], said[1], said[3]] == [time.replace(".0", "") for time in times]
    ratios = [cell.partition(" ")[0] for cell in cells("| scenario |", "plain GET")]
    assert cells(FIRST, "hopproxy's rate") == ["1", *ratios[:3]]


@pytest.fixture(scope="module")
def running() -> Iterator[Command]:
    """A proxy that has answered something."""
    with hopproxy("dev", "--bind", "127.0.0.1:0", "--admin", "127.0.0.1:0") as command:
        get(command.url, "/received")
        get(command.url, "/drop")
        yield command


def admin(command: Command) -> str:
    return command.wait_for(r"live page: (http://[\d.:]+)")[1]


def test_every_path_of_the_admin_listener_is_documented(running: Command) -> None:
    told = [cell.strip("`") for cell in rows_under("path")]
    assert [get(admin(running), path)[0] for path in told] == [200] * len(told)
    assert get(admin(running), "/none")[2].decode().split("are: ")[1].split() == told


def test_every_metric_is_told_and_every_metric_told_is_there(running: Command) -> None:
    exposed = get(admin(running), "/metrics")[2].decode()
    there = set(re.findall(r"^# TYPE (hopproxy_\w+)", exposed, re.MULTILINE))
    assert set(re.findall(r"`(hopproxy_\w+)`", TEXT)) == there


def rewrite() -> None:
    """Write the settings reference into README.md."""
    before, _, rest = TEXT.partition(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    rewrite()
