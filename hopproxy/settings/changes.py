"""What differs between two settings, in words for the log: one line for each difference.

    route 2: upstream app -> api
    upstreams.app.origins: + 10.0.0.8:3000
    upstreams.old: removed

The settings come from the Structs of the schema; none is named here.
"""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any

from msgspec import Struct

from hopproxy.settings import words
from hopproxy.settings.schema import Settings
from hopproxy.settings.shape import Named, Section, Setting, Several, Shape, Word, settings_of
from hopproxy.settings.shown import HIDDEN, is_secret

#: Lists of sections, and what one of their items is called.
_ITEM = {"routes": "route", "listeners": "listener", "certificates": "certificate"}


def changes(before: Settings, after: Settings) -> list[str]:
    """Every difference, in the order of the schema."""
    return list(_section(before, after, ""))


def files_of(settings: Settings) -> list[str]:
    """The files that the settings name: certificates, keys."""
    return list(dict.fromkeys(_files(settings, Section(Settings))))


def _files(value: object, shape: Shape) -> Iterator[str]:
    if value is None:
        return
    if isinstance(shape, Word):
        if shape.unit is words.FILE:
            yield str(value)
    elif isinstance(shape, Section):
        for setting in settings_of(shape.struct):
            yield from _files(getattr(value, setting.name), setting.shape)
    else:
        assert isinstance(value, Mapping | tuple)
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _files(item, shape.item)


def _section(before: Struct, after: Struct, path: str) -> Iterator[str]:
    for setting in settings_of(type(after)):
        old, new = getattr(before, setting.name), getattr(after, setting.name)
        if old != new:
            yield from _setting(setting, old, new, path)


def _setting(setting: Setting, old: object, new: object, path: str) -> Iterator[str]:
    """The differences of one setting below `path`, which ends with what separates it."""
    name, shape = setting.name, setting.shape
    if isinstance(shape, Several) and isinstance(shape.item, Section) and name in _ITEM:
        assert isinstance(old, tuple)
        assert isinstance(new, tuple)
        yield from _items(old, new, shape.item, f"{path}{_ITEM[name]}")
    elif isinstance(old, Struct) and isinstance(new, Struct):
        yield from _section(old, new, f"{path}{name}.")
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _named(old, new, shape, f"{path}{name}")
    elif isinstance(old, tuple) and isinstance(new, tuple):
        yield f"{path}{name}: {_list(old, new, shape)}"
    elif isinstance(shape, Section):
        present, how = (old, "removed") if new is None else (new, "added")
        yield f"{path}{name}: {how} ({_written(present, shape)})"
    elif path.endswith(" "):  # within one item of a list
        yield f"{path}{name} {_written(old, shape)} -> {_written(new, shape)}"
    else:
        yield f"{path}{name}: {_written(old, shape)} -> {_written(new, shape)}"


def _named(
    old: Mapping[str, Any], new: Mapping[str, Any], shape: Shape, path: str
) -> Iterator[str]:
    item = shape.item if not isinstance(shape, Word | Section) else shape
    for name in old:
        if name not in new:
            yield f"{path}.{name}: removed"
    for name, value in new.items():
        if name not in old:
            yield f"{path}.{name}: added ({_one(name, value, item)})"
        elif value != old[name] and isinstance(item, Section):
            yield from _section(old[name], value, f"{path}.{name}.")
        elif value != old[name]:
            before, after = _one(name, old[name], item), _one(name, value, item)
            yield f"{path}.{name}: {before} -> {after}"


def _items(
    old: tuple[Struct, ...], new: tuple[Struct, ...], shape: Section, path: str
) -> Iterator[str]:
    """The differences of two lists of sections.  Numbers count from 1, as in the new list."""
    numbers = [(old + new).index(item) for item in old + new]  # equal ones have the same
    matched = SequenceMatcher(None, numbers[: len(old)], numbers[len(old) :], autojunk=False)
    for kind, first, last, start, end in matched.get_opcodes():
        if kind == "replace" and last - first == end - start:
            for at in range(end - start):
                yield from _section(old[first + at], new[start + at], f"{path} {start + at + 1}: ")
        elif kind != "equal":
            for at in range(first, last):
                yield f"{path} {at + 1}: removed ({_written(old[at], shape)})"
            for at in range(start, end):
                yield f"{path} {at + 1}: added ({_written(new[at], shape)})"


def _list(old: tuple[Any, ...], new: tuple[Any, ...], shape: Shape) -> str:
    """`- a, + b`, or the new order."""
    item = shape.item if isinstance(shape, Several) else shape
    parts = [f"- {_written(one, item)}" for one in old if one not in new]
    parts += [f"+ {_written(one, item)}" for one in new if one not in old]
    return ", ".join(parts) or "now " + ", ".join(_written(one, item) for one in new)


def _written(value: object, shape: Shape) -> str:
    """A value as in a settings file, on one line."""
    if value is None:
        return "none"
    if isinstance(value, Struct):
        return _keys(value)
    if isinstance(value, Mapping):
        named = shape.item if isinstance(shape, Named) else shape
        return ", ".join(f"{key}: {_one(key, one, named)}" for key, one in value.items())
    if isinstance(value, tuple):
        item = shape.item if isinstance(shape, Several) else shape
        return ", ".join(_written(one, item) for one in value) or "none"
    if isinstance(shape, Word) and shape.unit is not None and str(value) not in shape.choices:
        return shape.unit.write(value).removeprefix("http://")
    return str(value)


def _one(name: str, value: object, shape: Shape) -> str:
    """The value of one name, unless it is a secret."""
    hides = not isinstance(shape, Section) and is_secret(name, value)
    return HIDDEN if hides else _written(value, shape)


def _keys(value: Struct) -> str:
    """The keys of a section that are not at their default."""
    keys = (
        (setting, getattr(value, setting.name))
        for setting in settings_of(type(value))
        if setting.required or getattr(value, setting.name) != setting.default
    )
    return ", ".join(f"{one.name} {_written(found, one.shape)}" for one, found in keys) or "empty"
