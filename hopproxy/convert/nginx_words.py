"""nginx's configuration language: directives with their lines, its units, its variables."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hopproxy.convert.draft import Draft, braces, plain
from hopproxy.settings.amounts import Misread, parse_duration

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<line>\n)|(?P<comment>\#[^\n]*)|(?P<mark>[{};])"""
    r"""|(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<word>(?!["'}])(?:\$\{|\\.|[^\s{;\\])+)""",
    re.DOTALL,
)
_UNITS = re.compile(r"(?:[0-9]+(?:ms|[smhdwMy]))*[0-9]*")
_DAYS = {"w": 7, "M": 30, "y": 365}
#: Directives that nginx refuses without a value.
_NEED_A_VALUE = frozenset(
    {
        "add_header", "client_max_body_size", "default_type", "include", "keepalive_timeout",
        "listen", "location", "map", "proxy_cookie_path", "proxy_hide_header", "proxy_pass",
        "proxy_redirect", "proxy_set_header", "proxy_ssl_certificate", "proxy_ssl_name",
        "proxy_ssl_certificate_key", "proxy_ssl_trusted_certificate", "proxy_ssl_verify",
        "return", "rewrite", "server_name", "ssl_certificate", "ssl_certificate_key", "upstream",
    }
)  # fmt: skip
#: Blocks in another language, with braces of its own.
_FOREIGN = re.compile(r"\w+_by_lua_block")
_LUA = re.compile(r"""--\[\[.*?\]\]|--[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{}]""", re.DOTALL)

#: Most nested includes.
_DEEPEST = 10

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
    """A file that is not in this language; `line` is where reading stopped."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its words, the directives in its block, and its place.

    `file` is empty in the file that is converted.
    """

    name: str
    args: tuple[str, ...]
    block: tuple["Directive", ...] | None
    line: int
    file: str = ""

    @property
    def text(self) -> str:
        """The directive as it was written, without its block."""
        return " ".join((self.name, *self.args))


def directives(text: str, file: str = "") -> tuple[Directive, ...]:
    """All directives of a file.  Raises Unreadable."""
    return tuple(_block(_tokens(text), file, top=True))


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line, at = 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(line, f"`{text[at : at + 20]}` is not expected here")
        kind, found = str(match.lastgroup), match[0]
        if kind == "mark":
            yield kind, found, line
        elif kind in ("word", "quoted"):
            bare = found[1:-1] if kind == "quoted" else found
            yield "word", re.sub(r"\\([nrt\\\"'])", _escaped, bare), line
        line += found.count("\n")
        at = match.end()
        if kind == "word" and _FOREIGN.fullmatch(found):
            foreign = _foreign(text, at, line)
            yield from (("mark", mark, line) for mark in "{}")
            line += text.count("\n", at, foreign)
            at = foreign
    yield "end", "", line


def _escaped(match: re.Match[str]) -> str:
    """The character for a backslash and a letter.  Before other characters a backslash stays."""
    return {"n": "\n", "r": "\r", "t": "\t"}.get(match[1], match[1])


def _foreign(text: str, at: int, line: int) -> int:
    """Where a block of Lua ends."""
    depth = 0
    for match in _LUA.finditer(text, at):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if match[0] == "}" and depth == 0:
            return match.end()
    raise Unreadable(line, "a brace is not closed")


def _block(
    tokens: Iterator[tuple[str, str, int]], file: str, *, top: bool = False
) -> Iterator[Directive]:
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
            block = tuple(_block(tokens, file)) if text == "{" else None
            if words[0] in _NEED_A_VALUE and len(words) == 1:
                raise Unreadable(began, f"`{words[0]}` has no value")
            yield Directive(words[0], tuple(words[1:]), block, began, file)
            words = []


def included(
    found: tuple[Directive, ...], folder: Path, draft: Draft, depth: int = 0
) -> tuple[Directive, ...]:
    """The directives, with included files in place; `depth` counts nested includes."""
    all_of: list[Directive] = []
    for one in found:
        if one.name == "include" and len(one.args) == 1:
            all_of += _included(one, folder, draft, depth)
        elif one.block is not None:
            block = included(one.block, folder, draft, depth)
            all_of.append(replace(one, block=block))
        else:
            all_of.append(one)
    return tuple(all_of)


def _included(one: Directive, folder: Path, draft: Draft, depth: int) -> Iterator[Directive]:
    if one.args[0].endswith("mime.types"):
        return
    files = sorted(glob.glob(str(folder / one.args[0])))
    if not files:
        draft.note(one, "there is no such file: its lines are not converted")
    for file in files:
        try:
            if depth == _DEEPEST:
                raise Unreadable(one.line, "files include each other without an end")
            inner = directives(Path(file).read_text(), file)
        except (OSError, UnicodeDecodeError, Unreadable) as error:
            why = error.strerror if isinstance(error, OSError) else error
            draft.note(one, f"{file} cannot be read: {why}")
            continue
        yield from included(inner, folder, draft, depth + 1)


def duration(text: str) -> str | None:
    """A time as hopproxy writes it; None if it is not a time."""
    text = text.replace(" ", "")
    if not text or not _UNITS.fullmatch(text):
        return None
    in_days = re.sub(r"([0-9]+)([wMy])", lambda one: f"{int(one[1]) * _DAYS[one[2]]}d", text)
    found = f"{in_days}s" if in_days[-1].isdecimal() else in_days
    try:
        parse_duration(found)
    except Misread:
        return None
    return found


def value_of(text: str, known: dict[str, str]) -> str | None:
    """A value with hopproxy's variables instead of nginx's; None if one has no equivalent.

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
