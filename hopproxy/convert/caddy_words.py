"""The language of Caddyfiles: lines of words, blocks, snippets, placeholders."""

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hopproxy.convert.draft import braces, plain
from hopproxy.convert.nginx_words import Unreadable

_WORD = re.compile(
    r"""(?P<space>[ \t\r]+|\\\r?\n)|(?P<line>\n)|(?P<quoted>"(?:\\.|[^"\\])*"|`[^`]*`)"""
    r"""|(?P<heredoc><<(?P<mark>[\w-]+)\r?\n(?P<inside>.*?)(?<=\n)(?P<indent>[ \t]*)"""
    r"""(?P=mark)(?!\S))"""
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
    "http.request.orig_uri": "{path}{query}",
    "http.request.orig_uri.path": "{path}",
    "http.request.uuid": "{request_id}",
}
#: Placeholders with the path after a prefix was removed.
_OF_PATH = frozenset({"path", "uri", "http.request.uri", "http.request.uri.path"})
_QUERY = frozenset({"query", "http.request.uri.query"})
_ENVIRONMENT = re.compile(r"\{\$(\w+)(?::([^{}]*))?\}|\{env\.(\w+)\}")
_PLACEHOLDER = re.compile(r"\{((?!env\.)[a-z?%][^\s{}\",]*)\}")
#: Most nested imports.
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Line:
    """One directive: its words, the lines of its block if it has one, and its place.

    `file` is empty in the file that is converted.
    """

    words: tuple[str, ...]
    block: tuple["Line", ...] | None
    line: int
    file: str = ""

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

    @property
    def is_snippet(self) -> bool:
        """Whether it defines a snippet, for others to import."""
        return self.block is not None and re.fullmatch(r"\(.+\)", self.name) is not None


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
        if kind == "word" and found[0] in '"`':
            raise Unreadable(number, "a quote is not closed")
        if kind in ("word", "quoted", "heredoc"):
            began = began if words else number
            words.append(_word(match))
        number += found.count("\n")
        if kind == "line" and not (words and _is_continued(words[-1])):
            if words:
                yield words, began
            words = []
    if words:
        yield words, began


def _word(match: re.Match[str]) -> str:
    """A word without its quotes.  A backslash escapes only a quote."""
    found = match[0]
    if match.lastgroup == "heredoc":
        lines = match["inside"].removesuffix("\n").replace("\r", "").split("\n")
        return _Quoted("\n".join(line.removeprefix(match["indent"]) for line in lines))
    if match.lastgroup == "quoted":
        bare = found[1:-1]
        one = r"\\(?:\\|(?P<quote>\"))"  # two backslashes stay two
        kept = re.sub(one, lambda back: back["quote"] or back[0], bare)
        return _Quoted(bare if found[0] == "`" else kept)
    return found


class _Quoted(str):
    """A word in quotes: a brace in quotes opens no block."""

    __slots__ = ()


def _is_continued(word: str) -> bool:
    """Whether a list of addresses goes on in the next line."""
    return word.endswith(",") and not isinstance(word, _Quoted)


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


def with_imports(
    lines: tuple[Line, ...], snippets: dict[str, Line], folder: Path, depth: int = 0
) -> tuple[Line, ...]:
    """The lines, with imported snippets and files in place and arguments filled in.

    Snippets in these files are added.  Raises Unreadable.
    """
    found: list[Line] = []
    for one in lines:
        inside = _imported(one, snippets, folder) if one.name == "import" and one.args else None
        if inside is not None:
            if depth == _DEEPEST:
                raise Unreadable(one.line, "imports include each other without an end")
            found += with_imports(inside, snippets, folder, depth + 1)
        elif one.block is not None and not one.is_snippet:
            block = with_imports(one.block, snippets, folder, depth)
            found.append(replace(one, block=block))
        else:
            found.append(one)
    return tuple(found)


def _imported(one: Line, snippets: dict[str, Line], folder: Path) -> tuple[Line, ...] | None:
    """The imported lines; None if there is no such snippet or file."""
    name, *args = one.args
    if name in snippets:
        return _filled(snippets[name].block or (), tuple(args), one.block or ())
    found: tuple[Line, ...] | None = None
    for file in sorted(glob.glob(str(folder / name))):
        try:
            inside = lines_of(Path(file).read_text())
        except (OSError, UnicodeDecodeError, Unreadable) as error:
            raise Unreadable(one.line, f"{file} cannot be read: {error}") from error
        snippets |= snippets_of(_in(inside, file))
        found = (*(found or ()), *_filled(_in(inside, file), tuple(args), one.block or ()))
    return found


def snippets_of(lines: tuple[Line, ...]) -> dict[str, Line]:
    """The snippets that these lines define."""
    return {one.name[1:-1]: one for one in lines if one.is_snippet}


def _in(lines: tuple[Line, ...], file: str) -> tuple[Line, ...]:
    """The lines of an imported file."""
    return tuple(
        replace(one, file=file, block=None if one.block is None else _in(one.block, file))
        for one in lines
    )


def _filled(
    lines: tuple[Line, ...], args: tuple[str, ...], block: tuple[Line, ...]
) -> tuple[Line, ...]:
    """Lines with the arguments and the block of an import filled in."""

    def put(match: re.Match[str]) -> str:
        number = int(match[1])
        return args[number] if number < len(args) else match[0]

    found: list[Line] = []
    for one in lines:
        if one.words == ("{block}",):
            found += block
            continue
        words: list[str] = []
        for word in one.words:
            rest = re.fullmatch(r"\{args\[(\d*):(\d*)\]\}", word)
            if rest is not None:
                words += args[int(rest[1] or 0) : int(rest[2]) if rest[2] else None]
            else:
                words.append(re.sub(r"\{args[.\[](\d+)\]?\}", put, word))
        inner = None if one.block is None else _filled(one.block, args, block)
        found.append(replace(one, words=tuple(words), block=inner))
    return tuple(found)


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


def value_of(text: str, *, stripped: bool = False) -> str | None:
    """A value with hopproxy's variables for Caddy's placeholders; None if one has no equivalent.

    With `stripped` the path of the request is another one than the client's.
    """
    parts: list[str] = []
    at = 0
    for match in _PLACEHOLDER.finditer(text):
        before = text[at : match.start()]
        found = PLACEHOLDERS.get(match[1])
        if match[1] in _QUERY and before.endswith("?"):
            before, found = before[:-1], "{query}"
        if found is None or (stripped and match[1] in _OF_PATH):
            return None
        parts += [environment(braces(before)), found]
        at = match.end()
    return "".join([*parts, environment(braces(text[at:]))])
