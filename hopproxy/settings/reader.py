"""Reads a settings text: returns `Settings`, or reports every problem at once.

The settings come from the Structs of the schema; none is named here.  An invalid value is replaced
by its default, so that the rest is still checked.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from hopproxy.settings import place
from hopproxy.settings.agreement import contradictions
from hopproxy.settings.amounts import Misread
from hopproxy.settings.fields import FIELD_VALUE
from hopproxy.settings.other_names import NO, OFF
from hopproxy.settings.place import Blank, Document, Entry, Place, Problem, Scalar, Tree, child
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.shape import Named, Section, Setting, Several, Shape, Word, settings_of
from hopproxy.settings.suggest import as_list, as_word, below_it, instead_of, is_alone, like, odd

__all__ = ["Problem", "SettingsErrors", "places", "read"]


class SettingsErrors(Exception):
    """All problems of a settings file, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def read(text: str, *, file: str, environ: Mapping[str, str]) -> Settings:
    """Read the settings in `text`.  `file` is its name in messages.  Raises SettingsErrors."""
    document = place.place(text, file=file, environ=environ)
    settings = None
    if document.tree is not None:
        settings = _Reading(document).settings(document.tree)
    if settings is None or document.problems:
        # An alias repeats the problems of its anchor: report each once.
        problems = {(one.line, one.column, one.message): one for one in document.problems}
        raise SettingsErrors(problems[at] for at in sorted(problems))
    if not settings.routes:
        only = next(iter(settings.upstreams))
        settings = replace(settings, routes=(Route(upstream=only),))
    return settings


def places(text: str, *, file: str, environ: Mapping[str, str]) -> Callable[[str], Place]:
    """A function from paths to places in a valid `text`; for absent settings, of the section."""
    document = place.place(text, file=file, environ=environ)
    assert document.tree is not None
    reading = _Reading(document)
    reading.settings(document.tree)
    return reading.place_of


class _Reading:
    """Walks along the tree and the schema together."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._places: dict[str, Place] = {}

    def settings(self, tree: Tree) -> Settings:
        """The settings in `tree`, as far as they are valid; problems are in the document."""
        self._root = tree
        settings = self._item(tree, Section(Settings), "")
        assert isinstance(settings, Settings)
        broken = [problem.path for problem in self._document.problems]
        for path, message, hint, rests_on in contradictions(settings):
            if not any(_touch(one, other) for one in (path, *rests_on) for other in broken):
                self._document.complain(self.place_of(path), path, message, hint)
        return settings

    def _read(self, tree: Tree, shape: Shape, path: str) -> object:
        """The value of one setting.  Notes a problem and raises _Unread if it is not valid."""
        self._places[path] = tree.place
        if isinstance(tree, Blank):
            raise _Unread
        match shape:
            case Word():
                return self._word(tree, shape, path)
            case Section():
                return self._section(tree, shape, path)
            case Several():
                return self._several(tree, shape, path)
            case Named():
                return self._named(tree, shape, path)
        assert_never(shape)

    def _section(self, tree: Tree, shape: Section, path: str) -> object:
        known = {setting.name: setting for setting in settings_of(shape.struct)}
        values: dict[str, object] = {}
        for entry in self._entries(tree, path, below_it(tree, shape.struct)):
            below = child(path, entry.key)
            if entry.key not in known:
                hint = instead_of(entry.key, entry.value, shape.struct, path)
                self._document.complain(entry.place, below, "is not a setting", hint)
                continue
            setting = known[entry.key]
            value = self._setting(entry.value, setting, below)
            if not entry.again:
                values[entry.key] = value
        for setting in known.values():
            if setting.required and setting.name not in values:
                below = child(path, setting.name)
                self._document.complain(tree.place, below, "is missing", setting.description)
                values[setting.name] = _vacant(setting.shape)
        return replace(self._top(shape.like), **values) if shape.like else shape.struct(**values)

    def _top(self, name: str) -> Struct:
        """The section of this name at the top of the file; problems in it are noted there."""
        [setting] = [one for one in settings_of(Settings) if one.name == name]
        entries = self._root.entries if isinstance(self._root, place.Mapping) else ()
        for entry in entries:
            if entry.key == name and not entry.again:
                section = self._setting(entry.value, setting, name)
                assert isinstance(section, Struct)
                return section
        default: Struct = setting.default
        return default

    def _setting(self, tree: Tree, setting: Setting, path: str) -> object:
        off = OFF if isinstance(setting.shape, Section) else ("",)
        if setting.optional and isinstance(tree, Scalar) and (tree.is_null or tree.text in off):
            return None
        try:
            return self._read(tree, setting.shape, path)
        except _SectionOff:
            if not setting.optional:
                raise
            return None
        except _Unread:
            return _vacant(setting.shape) if setting.required else setting.default

    def _several(self, tree: Tree, shape: Several, path: str) -> tuple[object, ...]:
        if isinstance(tree, place.Sequence):
            items = tree.items
        elif isinstance(tree, Scalar) and tree.is_null:
            items = ()
        elif isinstance(tree, Scalar) and tree.is_filled_in and isinstance(shape.item, Word):
            items = tree.words()
        elif isinstance(tree, Scalar) and is_alone(tree, shape):
            items = (tree,)
        else:
            raise self._unread(tree, path, "is not a list", as_list(tree, shape))
        if isinstance(shape.item, Word):
            items = tuple(word for item in items for word in _words(item))
        if len(items) < shape.least:
            raise self._unread(tree, path, "is empty", "at least one is needed")
        if items == (tree,):
            return (self._item(tree, shape.item, path),)
        read = (self._item(item, shape.item, child(path, n)) for n, item in enumerate(items))
        return tuple(read)

    def _named(self, tree: Tree, shape: Named, path: str) -> dict[str, object]:
        read: dict[str, object] = {}
        hint = "write a name of your choice, like `app:`, and its settings below it"
        if not isinstance(shape.item, Section):
            hint = "write a name and a value in each line below it, like `X-Name: value`"
        entries = self._entries(tree, path, hint)
        keys = settings_of(shape.item.struct) if isinstance(shape.item, Section) else ()
        needed = {one.name for one in keys if one.required}
        known = {one.name: one.shape for one in keys}
        for entry in entries:
            if _is_part(entry.value, known.get(entry.key)):
                below, hint = child(path, entry.key), "indent it further, below a name"
                self._document.complain(entry.place, below, "is a setting, not a name", hint)
                raise _Unread
            if entry.key in needed and not isinstance(entry.value, place.Mapping):
                below, hint = (
                    child(path, entry.key),
                    "put a name of your choice above it, like `app:`",
                )
                self._document.complain(entry.place, below, "is a setting, not a name", hint)
                raise _Unread
        for entry in entries:
            below = child(path, entry.key)
            try:
                _parse(entry.key, shape.key)
            except Misread as error:
                self._document.complain(entry.place, below, error.wrong, error.hint)
            value = self._item(entry.value, shape.item, below)
            if not entry.again:
                read[entry.key] = value
        if len(read) < shape.least:
            raise self._unread(tree, path, "is empty", "at least one is needed")
        return read

    def _item(self, tree: Tree, shape: Shape, path: str) -> object:
        """As `_read`; an invalid item is replaced, so that the others keep their numbers."""
        try:
            return self._read(tree, shape, path)
        except _Unread:
            return _vacant(shape)

    def _entries(self, tree: Tree, path: str, hint: str) -> tuple[Entry, ...]:
        if isinstance(tree, place.Mapping):
            return tree.entries
        if isinstance(tree, Scalar) and tree.is_null:
            return ()
        raise self._unread(tree, path, "is not a mapping", hint)

    def _word(self, tree: Tree, shape: Word, path: str) -> object:
        if shape.unit is not None and shape.unit.pair:
            tree = _joined(tree)
        if not isinstance(tree, Scalar):
            kind = "list" if isinstance(tree, place.Sequence) else "mapping"
            raise self._unread(tree, path, f"is a {kind}, not one word", as_word(tree, shape))
        if tree.is_null:
            hint = "leave the line out for the default"
            if shape.unit is FIELD_VALUE:
                hint = 'write a value; "" is an empty one'
            raise self._unread(tree, path, "has no value", hint)
        try:
            whole = shape.unit is not None and shape.unit.whole
            return _parse(tree.filled if whole else tree.text, shape)
        except Misread as error:
            source = "" if tree.text == tree.written else f"; it came from {tree.written}"
            hint = odd(tree.text) or error.hint + source
            raise self._unread(tree, path, error.wrong, hint) from error

    def _unread(self, tree: Tree, path: str, message: str, hint: str) -> "_Unread":
        self._document.complain(tree.place, path, message, hint)
        return _Unread()

    def place_of(self, path: str) -> Place:
        """Where `path` is written, or else the nearest section around it."""
        while path not in self._places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self._places[path]


class _SectionOff(Exception):
    """A value turns its whole section off."""


class _Unread(Exception):
    """A value is not valid; the problem has been noted."""


def _is_part(tree: Tree, shape: Shape | None) -> bool:
    """Whether `tree` is the section of `shape`, indented too little."""
    if not isinstance(shape, Section) or not isinstance(tree, place.Mapping):
        return False
    return {entry.key for entry in tree.entries} <= {one.name for one in settings_of(shape.struct)}


def _joined(tree: Tree) -> Tree:
    """A mapping with one key, joined to the word that means the same."""
    if not isinstance(tree, place.Mapping) or len(tree.entries) != 1:
        return tree
    [entry] = tree.entries
    if not isinstance(entry.value, Scalar):
        return tree
    text = f"{entry.key}:{entry.value.text}"
    return Scalar(entry.value.place, text, text, True)


def _words(item: Tree) -> tuple[Tree, ...]:
    """One item of a list, or the items in its variable."""
    return item.words() if isinstance(item, Scalar) and item.is_filled_in else (item,)


def _parse(text: str, word: Word) -> object:
    """The value of `text`.  Raises Misread, _SectionOff."""
    if text in word.choices:
        return text
    if word.may_be_off and text.lower() == "off":
        return _off(word)
    no = text.lower() in NO and (word.may_be_off or "off" in word.choices)
    choices = ", ".join(word.choices)
    if word.unit is None:
        hint = like(text, word.choices) or "write one of these"
        if text.lower() in OFF:
            hint = "did you mean `off`?" if no else "leave the line out for the default"
        raise Misread(f"`{text}` is not one of {choices}", hint)
    try:
        value = word.unit.parse(text)
    except Misread as error:
        hint = f"{error.hint}, or {choices}" if choices else error.hint
        raise Misread(error.wrong, "did you mean `off`?" if no else hint) from error
    if word.may_be_off and value == 0:
        return _off(word)
    if word.least is not None and value < word.least:
        raise Misread(f"`{text}` is too small", f"at least {word.unit.write(word.least)}")
    if word.most is not None and value > word.most:
        raise Misread(f"`{text}` is too large", f"at most {word.unit.write(word.most)}")
    return value


def _off(word: Word) -> float:
    if word.off is None:
        raise _SectionOff
    return word.off


def _vacant(shape: Shape) -> object:
    """A placeholder for an invalid value, until all problems are collected."""
    match shape:
        case Word():
            return ""
        case Several():
            return ()
        case Named():
            return {}
        case Section():
            required = (setting for setting in settings_of(shape.struct) if setting.required)
            return shape.struct(**{one.name: _vacant(one.shape) for one in required})
    assert_never(shape)


def _touch(one: str, other: str) -> bool:
    """Whether one path is the other, or is within it."""
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith((f"{short}.", f"{short}["))
