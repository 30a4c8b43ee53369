"""nginx's configuration language: directives with their lines, its units, its variables."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hopproxy.convert.draft import Draft, braces, plain

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)|(?P<mark>[{};])"""
    r"""|(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<word>(?!["'])(?:\$\{|\\.|[^\s{};\\])+)""",
    re.DOTALL,
)
_UNITS = re.compile(r"(?:[0-9]+(?:ms|[smhd]))+|[0-9]+")

#: Variables of nginx, and what they are called here.
VARIABLES = {
    "args": None,
    "document_uri": "{path}",
    "host": "{host}",
    "http_host": "{authority}",
    "remote_addr": "{client}",
    "request_id": "{request_id}",
    "request_method": "{method}",
    "request_uri": "{path}{query}",
    "scheme": "{scheme}",
    "uri": "{path}",
}


class Unreadable(ValueError):
    """A file that is not in this language; `line` is where that shows."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its words, the directives in its block, and its line."""

    name: str
    args: tuple[str, ...]
    block: tuple["Directive", ...] | None
    line: int

    @property
    def text(self) -> str:
        """The directive as it was written, without its block."""
        return " ".join((self.name, *self.args))


def directives(text: str) -> tuple[Directive, ...]:
    """All directives of a file.  Raises Unreadable."""
    return tuple(_block(_tokens(text), top=True))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(line, f"`{text[at : at + 20]}` is not expected here")
        kind, found = str(match.lastgroup), match[0]
        if kind in ("mark", "word"):
            yield kind, found, line
        elif kind == "quoted":
            yield "word", re.sub(r"\\(.)", _escaped, found[1:-1]), line
        line += found.count("\n")
        at = match.end()
    yield "end", "", line


def _escaped(match: re.Match[str]) -> str:
    """What a backslash and a character stand for within quotes."""
    return {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1])


def _block(tokens: Iterator[tuple[str, str, int]], *, top: bool = False) -> Iterator[Directive]:
    words: list[str] = []
    began = 0
    for kind, text, line in tokens:
        if kind == "word":
            began = began if words else line
            words.append(text)
        elif text == "}" or kind == "end":
            if words or (kind == "end") != top:
                raise Unreadable(line, "a `;` or a brace is missing")
            return
        elif not words:
            raise Unreadable(line, f"`{text}` without a directive")
        else:
            block = tuple(_block(tokens)) if text == "{" else None
            yield Directive(words[0], tuple(words[1:]), block, began)
            words = []


def included(found: tuple[Directive, ...], folder: Path, draft: Draft) -> tuple[Directive, ...]:
    """The directives with those of included files in their place."""
    all_of: list[Directive] = []
    for one in found:
        if one.name == "include" and len(one.args) == 1:
            all_of += _included(one, folder, draft)
        elif one.block is not None:
            block = included(one.block, folder, draft)
            all_of.append(Directive(one.name, one.args, block, one.line))
        else:
            all_of.append(one)
    return tuple(all_of)


def _included(one: Directive, folder: Path, draft: Draft) -> Iterator[Directive]:
    if one.args[0].endswith("mime.types"):
        return
    files = sorted(glob.glob(str(folder / one.args[0])))
    if not files:
        draft.note(one.line, one.text, "no such file is here: its lines are not converted")
    for file in files:
        for below in included(directives(Path(file).read_text()), folder, draft):
            yield _at(below, one.line)


def _at(one: Directive, line: int) -> Directive:
    """A directive of an included file, told at the line that includes it."""
    block = tuple(_at(below, line) for below in one.block) if one.block is not None else None
    return Directive(one.name, one.args, block, line)


def duration(text: str) -> str | None:
    """A time as it is written here; None if it is none."""
    text = text.replace(" ", "")
    if not _UNITS.fullmatch(text):
        return None
    return f"{text}s" if text.isdecimal() else text


def value_of(text: str, known: dict[str, str]) -> str | None:
    """A value with our variables in place of nginx's; None if one has no equal.

    `known` are variables whose value does not change.
    """
    parts: list[str] = []
    at = 0
    for match in re.finditer(r"\$(?:\{(\w+)\}|(\w+))", text):
        parts.append(plain(braces(text[at : match.start()])))
        name = match[1] or match[2]
        found = known.get(name) or VARIABLES.get(name)
        if found is None:
            return None
        parts.append(found)
        at = match.end()
    return "".join([*parts, plain(braces(text[at:]))])
