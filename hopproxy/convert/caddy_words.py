"""The language of Caddyfiles: lines of words, blocks, snippets, placeholders."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hopproxy.convert.draft import braces, plain
from hopproxy.convert.nginx_words import Unreadable

_WORD = re.compile(
    r"""(?P<space>[ \t\r]+|\\\r?\n)|(?P<line>\n)|(?P<quoted>"(?:\\.|[^"\\])*"|`[^`]*`)"""
    r"""|(?P<word>[^\s]+)""",
    re.DOTALL,
)
#: Placeholders of Caddy, and what they are called here.
PLACEHOLDERS = {
    "client_ip": "{client}",
    "host": "{host}",
    "hostport": "{authority}",
    "method": "{method}",
    "path": "{path}",
    "remote": "{client}",
    "remote_host": "{client}",
    "scheme": "{scheme}",
    "uri": "{path}{query}",
    "http.request.host": "{host}",
    "http.request.hostport": "{authority}",
    "http.request.method": "{method}",
    "http.request.remote.host": "{client}",
    "http.request.scheme": "{scheme}",
    "http.request.uri": "{path}{query}",
    "http.request.uri.path": "{path}",
    "http.request.uuid": "{request_id}",
}
_ENVIRONMENT = re.compile(r"\{\$(\w+)(?::([^{}]*))?\}|\{env\.(\w+)\}")
_PLACEHOLDER = re.compile(r"\{([a-z][\w.>-]*)\}")


@dataclass(frozen=True, slots=True)
class Line:
    """One directive: its words, the lines of its block if it has one, and its line."""

    words: tuple[str, ...]
    block: tuple["Line", ...] | None
    line: int

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0] if self.words else ""

    @property
    def args(self) -> tuple[str, ...]:
        """The words behind it."""
        return self.words[1:]

    @property
    def text(self) -> str:
        """The line as it was written, without its block."""
        return " ".join(self.words)


def lines_of(text: str) -> tuple[Line, ...]:
    """All lines of a Caddyfile.  Raises Unreadable."""
    found = list(_lines(text))
    tree, left = _tree(found, 0, top=True)
    if left != len(found):
        raise Unreadable(found[left][1], "a brace is closed that was not opened")
    return tree


def _lines(text: str) -> Iterator[tuple[list[str], int]]:
    """(the words of a line, its number)."""
    words: list[str] = []
    number = began = 1
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        assert match is not None
        found, kind = match[0], match.lastgroup
        at = match.end()
        if kind == "word" and found.startswith("#"):
            at = text.find("\n", match.start())
            at = len(text) if at < 0 else at
            continue
        if kind in ("word", "quoted"):
            began = began if words else number
            words.append(
                _Quoted(re.sub(r"\\(.)", r"\1", found[1:-1])) if kind == "quoted" else found
            )
        number += found.count("\n")
        if kind == "line":
            if words:
                yield words, began
            words = []
    if words:
        yield words, began


class _Quoted(str):
    """A word in quotes: a brace in quotes opens no block."""

    __slots__ = ()


def _is_brace(word: str, brace: str) -> bool:
    return word == brace and not isinstance(word, _Quoted)


def _tree(
    found: list[tuple[list[str], int]], at: int, *, top: bool = False
) -> tuple[tuple[Line, ...], int]:
    lines: list[Line] = []
    while at < len(found):
        words, number = found[at]
        at += 1
        if len(words) == 1 and _is_brace(words[0], "}"):
            if top:
                raise Unreadable(number, "a brace is closed that was not opened")
            return tuple(lines), at
        if _is_brace(words[-1], "{"):
            block, at = _tree(found, at)
            lines.append(Line(tuple(words[:-1]), block, number))
        elif _is_brace(words[-1], "}") and "{" in words:  # a block in one line
            inside = words.index("{")
            inner = (Line(tuple(words[inside + 1 : -1]), None, number),)
            lines.append(Line(tuple(words[:inside]), inner, number))
        else:
            lines.append(Line(tuple(words), None, number))
    if not top:
        raise Unreadable(found[-1][1], "a brace is not closed")
    return tuple(lines), at


def with_snippets(lines: tuple[Line, ...], snippets: dict[str, Line]) -> tuple[Line, ...]:
    """The lines with those of imported snippets in their place; their arguments filled in."""
    found: list[Line] = []
    for one in lines:
        if one.name == "import" and one.args and one.args[0] in snippets:
            block = snippets[one.args[0]].block or ()
            found += with_snippets(tuple(_filled(line, one.args[1:]) for line in block), snippets)
        elif one.block is not None:
            found.append(replace(one, block=with_snippets(one.block, snippets)))
        else:
            found.append(one)
    return tuple(found)


def _filled(line: Line, args: tuple[str, ...]) -> Line:
    def put(match: re.Match[str]) -> str:
        number = int(match[1])
        return args[number] if number < len(args) else match[0]

    words = tuple(re.sub(r"\{args[.\[](\d+)\]?\}", put, word) for word in line.words)
    block = tuple(_filled(one, args) for one in line.block) if line.block is not None else None
    return Line(words, block, line.line)


def environment(text: str) -> str:
    """Text with `{$NAME:default}` as `${NAME:-default}`, and any other `$` plain."""
    parts: list[str] = []
    at = 0
    for match in _ENVIRONMENT.finditer(text):
        name = match[1] or match[3]
        parts.append(plain(text[at : match.start()]))
        parts.append(f"${{{name}:-{match[2]}}}" if match[2] is not None else f"${{{name}}}")
        at = match.end()
    return "".join([*parts, plain(text[at:])])


def value_of(text: str) -> str | None:
    """A value with our variables in place of Caddy's placeholders; None if one has no equal."""
    parts: list[str] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        found = PLACEHOLDERS.get(match[1])
        if found is None:
            return None
        parts += [environment(braces(text[at : match.start()])), found]
        at = match.end()
    return "".join([*parts, environment(braces(text[at:]))])
