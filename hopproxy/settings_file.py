"""The settings file of a command: which one it is, its settings, its warnings."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from hopproxy import descriptors
from hopproxy.certificates import examine, refuse_unusable
from hopproxy.command_line import DEFAULT_FILES
from hopproxy.exits import BAD_CONFIGURATION, BAD_USAGE, Failure
from hopproxy.server.board import PLACES
from hopproxy.server.passed import PASSED
from hopproxy.settings.client import Listener
from hopproxy.settings.cpus import cpus
from hopproxy.settings.descriptors import shortfalls
from hopproxy.settings.lint import Risk, risks
from hopproxy.settings.reader import SettingsErrors, places, read
from hopproxy.settings.schema import Settings
from hopproxy.settings.shares import most_workers

#: Bytes of a settings file at most.
LARGEST = 16 * 1024 * 1024


class SettingsFile(NamedTuple):
    """A settings file that was read."""

    name: str
    text: str
    settings: Settings


def read_file(*named: str | None) -> SettingsFile:
    """Read the file that was named, or else the first of DEFAULT_FILES.  Raises Failure."""
    names = {name for name in named if name is not None}
    if len(names) > 1:
        message = f"two settings files are named: {' and '.join(str(n) for n in named)}"
        raise Failure(f"hopproxy: {message}", BAD_USAGE)
    files = list(names) or [file for file in DEFAULT_FILES if Path(file).exists()]
    if not files:
        raise Failure(
            f"no settings file: name one, or create {' or '.join(DEFAULT_FILES)}",
            BAD_CONFIGURATION,
        )
    try:
        with open(files[0], "rb") as opened:  # it may be a FIFO, as a shell's <(...) makes one
            data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise Failure(f"{files[0]}: is not a settings file: too long", BAD_CONFIGURATION)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(f"{files[0]}: cannot be read: {reason}", BAD_CONFIGURATION) from error
    return read_text(files[0], text)


def read_text(name: str, text: str) -> SettingsFile:
    """The settings in this text, which comes from the file of this name.  Raises Failure."""
    try:
        settings = read(text, file=name, environ=os.environ)
        refuse_unusable(settings, time.time(), text, name)
        return SettingsFile(name, text, _spread(settings))
    except SettingsErrors as errors:
        raise Failure(str(errors), BAD_CONFIGURATION) from errors


def _spread(settings: Settings) -> Settings:
    """The settings, with a listener for each socket that was passed under the name of one."""
    listeners: list[Listener] = []
    for one in settings.listeners:
        listeners.append(one)
        if one.bind.kind == "passed":
            binds = [replace(one.bind, port=at) for at in range(1, PASSED.count(one.bind.path))]
            listeners += [structs.replace(one, bind=bind) for bind in binds]
    return structs.replace(settings, listeners=tuple(listeners))


def all_risks(settings: Settings) -> list[Risk]:
    """What is probably a mistake in these settings on this machine."""
    of_certificates = examine(settings, time.time()).risks
    return [*risks(settings), *of_certificates, *shortfalls(settings, descriptors.attainable())]


def warnings(file: SettingsFile, found: Iterable[Risk]) -> Iterator[str]:
    """Each risk with the place of its setting, in the order of the text."""
    place_of = places(file.text, file=file.name, environ=os.environ)
    for at, (path, message, hint) in sorted((place_of(risk.path), risk) for risk in found):
        yield f"{file.name}:{at.line}:{at.column}: warning: {path}: {message} ({hint})"


def count_of(settings: Settings) -> int:
    """How many workers these settings ask for on this machine."""
    if isinstance(settings.workers, int):
        return settings.workers
    return min(cpus(len(os.sched_getaffinity(0)), _readable), most_workers(settings), PLACES)


def _readable(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
