"""A Dockerfile followed step by step without Docker: its paths below a folder of ours.

What it cannot show is the base image; the Python that runs the tests takes its place.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

#: Absolute paths that a step may name; mapped below the image's root.
PLACES = r"(?<![\w.])/(?:opt|src|etc/hopproxy)\b"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(instruction, its arguments), comments left out, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    for line in joined.splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


class Image:
    """What a Dockerfile makes of a folder; `settings` are its last EXPOSE, USER, CMD and so on."""

    def __init__(self, context: Path, folder: Path) -> None:
        self.context = context
        self.folder = folder
        self.root = folder / "root"
        self.settings: dict[str, str] = {}
        self.environ: dict[str, str] = {}
        self.commands: list[str] = []
        self._stages: dict[str, Path] = {}
        self._stage = ""
        self._work = Path("/")
        self._ignored = (context / ".dockerignore").read_text().split("\n")

    def build(self, text: str) -> None:
        """Follow every instruction.  Raises CalledProcessError for a step that fails."""
        for name, rest in instructions(text):
            match name:
                case "FROM":
                    self._from(rest)
                case "WORKDIR":
                    self._work = Path(rest)
                    self.below(rest).mkdir(parents=True, exist_ok=True)
                case "ENV":
                    self._env(rest)
                case "COPY":
                    self._copy(shlex.split(rest))
                case "RUN":
                    self._run(rest)
                case _:
                    self.settings[name] = rest

    def below(self, path: str | Path) -> Path:
        """Where an absolute path of the image is on this machine."""
        return self.root / str(path).lstrip("/")

    def mapped(self, text: str) -> str:
        return re.sub(PLACES, lambda found: str(self.below(found[0])), text)

    def command(self, name: str) -> list[str]:
        """The words of ENTRYPOINT, CMD or HEALTHCHECK, which must be in exec form."""
        words: list[str] = json.loads(self.settings[name][self.settings[name].index("[") :])
        return [self.mapped(word) for word in words]

    def settings_of(self, name: str) -> list[str]:
        """The words of ENTRYPOINT or CMD, with the paths of the image."""
        words: list[str] = json.loads(self.settings[name])
        return words

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a process in this image."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environ, **more}

    def _from(self, rest: str) -> None:
        if self._stage:
            # The next stage begins with nothing, at the same place: scripts name their folder.
            self.root.rename(self.folder / self._stage)
            self._stages[self._stage] = self.folder / self._stage
        base, _, self._stage = rest.partition(" AS ")
        assert re.fullmatch(r"python:3\.\d+-slim", base), base
        self.root.mkdir()
        self.settings, self.environ, self._work = {}, {}, Path("/")

    def _env(self, rest: str) -> None:
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            value = self.mapped(value)
            for known, meant in {"PATH": os.environ["PATH"], **self.environ}.items():
                value = value.replace(f"${known}", meant)
            self.environ[name] = value

    def _copy(self, words: list[str]) -> None:
        stage, base = "", self.context
        if words[0].startswith("--from="):
            stage = words.pop(0).removeprefix("--from=")
            base = self._stages[stage]
        *sources, target = words
        place = self.below(target if target.startswith("/") else self._work / target)
        for source in sources:
            found = base / source.lstrip("/")
            into = place / found.name if target.endswith("/") and found.is_file() else place
            self._copy_one(found, into, hidden=[] if stage else self._hidden(found))

    def _copy_one(self, source: Path, place: Path, hidden: Sequence[Path]) -> None:
        assert source not in hidden, f".dockerignore hides {source.name}"
        if source.is_dir():
            shutil.copytree(
                source,
                place,
                symlinks=True,
                dirs_exist_ok=True,
                ignore=lambda at, names: [name for name in names if Path(at) / name in hidden],
            )
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, place)

    def _hidden(self, source: Path) -> list[Path]:
        """What .dockerignore keeps back of a file or folder of the context."""
        return [path for path in (source, *source.rglob("*")) if self._is_ignored(path)]

    def _is_ignored(self, path: Path) -> bool:
        """What .dockerignore says; the last line that matches decides."""
        parts = path.relative_to(self.context).parts
        ignored = False
        for line in self._ignored:
            pattern = line.removeprefix("!")
            if pattern and not pattern.startswith("#"):
                anywhere = pattern.startswith("**/")
                tried = parts if anywhere else parts[:1]
                if any(fnmatch(part, pattern.removeprefix("**/")) for part in tried):
                    ignored = not line.startswith("!")
        return ignored

    def _run(self, rest: str) -> None:
        command = shlex.join(json.loads(rest)) if rest.startswith("[") else rest
        self.commands.append(command)
        # What pip would fetch is what these tests run with; the package itself is built here.
        environ = self.environment(PIP_NO_DEPS="1", PIP_NO_BUILD_ISOLATION="0", PIP_NO_INPUT="1")
        environ["PYTHONPATH"] = sysconfig.get_path("purelib") if "pip install" in command else ""
        command = re.sub(r"^python\b", shlex.quote(sys.executable), self.mapped(command))
        work = self.below(self._work)
        subprocess.run(
            command, shell=True, check=True, cwd=work, env=environ, capture_output=True, text=True
        )
        self._lend_dependencies()

    def _lend_dependencies(self) -> None:
        for site in self.root.glob("opt/*/lib/python*/site-packages"):
            (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
