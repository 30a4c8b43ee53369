"""Parses YAML text into a tree of values that know their line and column.

Scalars stay text, since YAML 1.1 would turn `on` into True, `8080:22` into a number and `0777` into
511.  The setting decides what a value means.  Errors are collected as
problems, each with its place.
"""

import re
from dataclasses import dataclass, field
from functools import partial

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hopproxy.settings.variables import Environ, filled_in

#: Limits far above any settings file written by hand; more is a mistake, or an attack.
MAX_TEXT = 1024 * 1024
MAX_DEPTH = 32
#: Nodes of the tree with every alias expanded (aliases of aliases grow exponentially).
MAX_NODES = 20_000

_KEY = re.compile(r"\s*(?:- +)?\w+:(\s|$)")
#: `origins:[x]`, but not `http://x` or `unix:/x`, which may be items of a list.
_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)?(?!unix:)([a-z_]+):(?!//)(\S.*?)\s*$")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
#: Hints, by PyYAML's message or by the line where it stopped.
_HINTS = (
    (r"another document", "keep one document: drop the second `---`"),
    (r"\\t", "indent with spaces, not tabs"),
    (r"\$\{", 'inside [ ] or { } quote it: "${NAME}"'),
    (r"\[.*\]:", 'quote an address in brackets: "[::]:8080"'),
    (r"[\[,] *::", 'quote an IPv6 address: "::1"'),
    (r"alias|anchor", "quote a value that begins with * or &"),
    (r"simple key, .*expected ':' +-[^- ]", "put a space after the dash"),
    (r"not allowed here", "does the line above lack its colon, or is this one indented too far?"),
    (r"cannot start", "quote a value that begins with @, % or a backquote"),
    (r"", "look at the indentation, the space after each colon, and open quotes or brackets"),
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A line and a column, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem in a settings file; `path` is empty if it belongs to no setting."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column}: {path}{self.message}{hint}"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value: as `written`, and with variables `filled` in; `plain` if not quoted."""

    place: Place
    filled: str
    written: str
    plain: bool

    @property
    def text(self) -> str:
        """What it says, without white space around it."""
        return self.filled.strip()

    @property
    def is_null(self) -> bool:
        """Whether it is an empty value, `~` or `null`."""
        return self.plain and self.text in _NULLS

    @property
    def is_filled_in(self) -> bool:
        """Whether its text comes from a variable."""
        return "$" in self.written and self.text != self.written

    def words(self) -> "tuple[Scalar, ...]":
        """The items of a list in one variable, separated by commas or white space.

        An option of an origin (`weight=2`, `backup`) belongs to the item before it.
        """
        texts = re.split(r"\s*,\s*|\s+(?!\s|\w+=|backup\b)", self.text.strip())
        return tuple(Scalar(self.place, text, self.written, True) for text in texts if text)


@dataclass(frozen=True, slots=True)
class Blank:
    """A value with a variable that could not be filled in; the problem is noted."""

    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list, in its order."""

    place: Place
    items: tuple["Tree", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping and its value; `again` if the key is a duplicate."""

    place: Place
    key: str
    value: "Tree"
    again: bool


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in order, including duplicate keys."""

    place: Place
    entries: tuple[Entry, ...]


Tree = Scalar | Blank | Sequence | Mapping


@dataclass(slots=True)
class Document:
    """A parsed text; `tree` is None if it is empty or not valid YAML."""

    file: str
    tree: Tree | None = None
    problems: list[Problem] = field(default_factory=list)

    def complain(self, place: Place, path: str, message: str, hint: str = "") -> None:
        """Note a problem."""
        self.problems.append(Problem(self.file, place.line, place.column, path, message, hint))


def place(text: str, *, file: str, environ: Environ) -> Document:
    """Parse `text`, fill in variables from `environ`, and note problems of the YAML itself."""
    document = Document(file)
    start = Place(1, 1)
    if len(text) > MAX_TEXT:
        document.complain(start, "", "is too long", f"at most {MAX_TEXT} characters are read")
        return document
    try:
        node = _TextLoader(text).get_single_node()
    except yaml.YAMLError as error:
        _complain_of_yaml(document, text, error)
        return document
    if node is None:
        document.complain(start, "", "is empty", "at least `upstreams:` is needed")
        return document
    try:
        document.tree = _Planter(document, environ).plant(node, "")
    except _Endless:
        document.complain(
            _place_of(node), "", "aliases make it endless", "write the settings out instead"
        )
    return document


def child(path: str, key: str | int) -> str:
    """The path of the value of `key`: `routes[0].upstream`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


class _TextLoader(yaml.SafeLoader):
    """PyYAML's parser without types, and with limited depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def resolve(self, kind: type[Node], value: str | None, implicit: object) -> str:
        """Return no tag, unless one is written."""
        return ""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """As PyYAML's, which recurses; refuses too much depth."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            assert parent is not None
            raise yaml.MarkedYAMLError(None, None, "it nests too deep", parent.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Endless(Exception):
    """With aliases expanded, the tree exceeds `MAX_NODES` or `MAX_DEPTH`."""


class _Planter:
    """Turns PyYAML's nodes, which aliases share, into a tree of bounded size."""

    def __init__(self, document: Document, environ: Environ) -> None:
        self._document = document
        self._environ = environ
        self._nodes = 0
        self._depth = 0

    def plant(self, node: Node, path: str) -> Tree:
        """The tree below `node`.  Raises _Endless."""
        self._nodes += 1
        self._depth += 1
        # An alias inside its own anchor recurses: only the depth reveals it.
        if self._nodes > MAX_NODES or self._depth > MAX_DEPTH:
            raise _Endless
        place = _place_of(node)
        if node.tag:
            self._document.complain(place, path, "has a tag", "tags like !!str are not read")
        tree: Tree
        if isinstance(node, MappingNode):
            tree = Mapping(place, self._entries(node, path))
        elif isinstance(node, SequenceNode):
            items = (self.plant(item, child(path, n)) for n, item in enumerate(node.value))
            tree = Sequence(place, tuple(items))
        else:
            assert isinstance(node, ScalarNode)
            complain = partial(self._document.complain, place, path)
            text = filled_in(node.value, self._environ, complain)
            tree = Blank(place) if text is None else Scalar(place, text, node.value, not node.style)
        self._depth -= 1
        return tree

    def _entries(self, node: MappingNode, path: str) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        lines: dict[str, int] = {}
        for key, value in node.value:
            place = _place_of(key)
            if not isinstance(key, ScalarNode):
                hint = "quote a key that begins with [ or {"
                self._document.complain(place, path, "has a key that is not a word", hint)
                continue
            name = key.value
            below = child(path, name)
            if name == "<<":
                hint = "write the settings out, or alias a whole section with *name"
                self._document.complain(place, below, "merge keys are not read", hint)
                continue
            again = name in lines
            if again:
                hint = f"first on line {lines[name]}; keep one"
                self._document.complain(place, below, "is given twice", hint)
            lines.setdefault(name, place.line)
            entries.append(Entry(place, name, self.plant(value, below), again))
        return tuple(entries)


def _key_without_space(lines: list[str]) -> tuple[Place, str] | None:
    """The last line that looks like a key and a value without a space, and what to write instead.

    YAML reads such a line as one word, and stops at a later line.
    """
    for number in range(len(lines), 0, -1):
        found = _KEY_WITHOUT_SPACE.match(lines[number - 1])
        if found is not None:
            return Place(number, found.start(1) + 1), f"write {found[1]}: {found[2]}"
        if _KEY.match(lines[number - 1]) and number < len(lines):
            return None  # a valid line
    return None


def _place_of(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _complain_of_yaml(document: Document, text: str, error: yaml.YAMLError) -> None:
    """Note the first error, where PyYAML stops."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - before.rfind("\n"))
        character = f"U+{ord(text[error.position]):04X}"
        document.complain(place, "", f"has {character}, which is not text", "delete it")
        return
    assert isinstance(error, yaml.MarkedYAMLError)
    begun = "could not find expected ':'" in (error.problem or "")
    mark = error.context_mark if begun else error.problem_mark
    assert mark is not None
    message = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.splitlines()
    if (key := _key_without_space(lines[: mark.line + 1])) is not None:
        place, hint = key
        document.complain(place, "", "has no space after the colon", hint)
        return
    line = next(iter(lines[mark.line :]), "")
    hint = next(hint for said, hint in _HINTS if re.search(said, f"{message} {line}"))
    place = Place(mark.line + 1, mark.column + 1)
    document.complain(place, "", f"is not YAML: {message}", hint)
