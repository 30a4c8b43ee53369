"""From a YAML text to a tree of words that know their line and column.

Scalars stay as they were written: YAML 1.1 would turn `on` into True, `8080:22` into a number
and `0777` into 511, so no typing of YAML's is used, and what a word means is decided by the
setting it stands for.  What goes wrong is gathered as problems, each with its place.
"""

import re
from dataclasses import dataclass, field
from functools import partial

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hopproxy.settings.variables import Environ, filled_in

#: A settings file is written by hand: far past these it is a mistake, or an attack.
MAX_TEXT = 1024 * 1024
MAX_DEPTH = 32
#: Nodes of the whole tree with every alias written out (an alias of aliases grows without end).
MAX_NODES = 20_000

_KEY = re.compile(r"\s*(?:- +)?\w+:(\s|$)")
#: `origins:[x]`; neither `http://x` nor `unix:/x`, which may stand alone in a list.
_KEY_WITHOUT_SPACE = re.compile(r"\s*(?:- +)?(?!unix:)([a-z_]+):(?!//)(\S.*?)\s*$")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
#: What the person most likely meant, by what PyYAML says or by the line that it stopped in.
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
    """A line and a column of the text, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a settings file; `path` is empty where no setting can be named."""

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
    """A word: `written` in the file, `text` once its variables are filled in, `plain` unquoted."""

    place: Place
    text: str
    written: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Whether nothing was written: an empty value, `~` or `null`."""
        return self.plain and self.text in _NULLS

    @property
    def is_filled_in(self) -> bool:
        """Whether a variable gave it another text than was written."""
        return "$" in self.written and self.text != self.written

    def words(self) -> "tuple[Scalar, ...]":
        """The words of a list that one variable holds, separated by commas or white space."""
        texts = re.split(r"[,\s]+", self.text)
        return tuple(Scalar(self.place, text, self.written, True) for text in texts if text)


@dataclass(frozen=True, slots=True)
class Blank:
    """A word whose variables could not be filled in, which has been complained of."""

    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list, in its order."""

    place: Place
    items: tuple["Tree", ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping and what it holds; `again` when the key stood there before."""

    place: Place
    key: str
    value: "Tree"
    again: bool


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in their order, keys given twice included."""

    place: Place
    entries: tuple[Entry, ...]


Tree = Scalar | Blank | Sequence | Mapping


@dataclass(slots=True)
class Document:
    """A text being placed: `tree` is None when there is nothing to read in it."""

    file: str
    tree: Tree | None = None
    problems: list[Problem] = field(default_factory=list)

    def complain(self, place: Place, path: str, message: str, hint: str = "") -> None:
        """Note a problem and go on."""
        self.problems.append(Problem(self.file, place.line, place.column, path, message, hint))


def place(text: str, *, file: str, environ: Environ) -> Document:
    """The tree of `text` with `environ` filled in, and every problem of the YAML itself."""
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
    """The path of what `key` holds: `routes[0].upstream`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


class _TextLoader(yaml.SafeLoader):
    """PyYAML's parser alone: no tag is guessed, and depth is bounded."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def resolve(self, kind: type[Node], value: str | None, implicit: object) -> str:
        """No tag for what carries none in the text."""
        return ""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """As PyYAML's, which recurses, refusing what nests too deep."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            assert parent is not None
            raise yaml.MarkedYAMLError(None, None, "it nests too deep", parent.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Endless(Exception):
    """The tree with its aliases written out passes `MAX_NODES` or `MAX_DEPTH`."""


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
        # An alias inside its own anchor recurses: only the depth shows it.
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
                self._document.complain(place, path, "has a key that is no word", hint)
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
    """The last line that seems to be a key and a value with no space between, and what to write.

    YAML takes such a line for one word, goes on, and stops at a later one.
    """
    for number in range(len(lines), 0, -1):
        found = _KEY_WITHOUT_SPACE.match(lines[number - 1])
        if found is not None:
            return Place(number, found.start(1) + 1), f"write {found[1]}: {found[2]}"
        if _KEY.match(lines[number - 1]) and number < len(lines):
            return None  # a line that YAML has read well
    return None


def _place_of(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _complain_of_yaml(document: Document, text: str, error: yaml.YAMLError) -> None:
    """Note what PyYAML stopped at; it goes no further than its first error."""
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
