"""What may be written for each setting, derived from the types and limits of the schema."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from msgspec import NODEFAULT, Struct, inspect

from hopproxy.settings import words
from hopproxy.settings.words import Unit


@dataclass(frozen=True, slots=True)
class Word:
    """One scalar: one of `choices`, or what `unit` accepts within the bounds.

    If `may_be_off`, `off` and 0 mean the value `off`; None turns the whole section off.
    """

    unit: Unit | None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    may_be_off: bool = False
    off: float | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with the keys of `struct`.

    `like` names a section at the top; what is not written is as it is there.
    """

    struct: type[Struct]
    like: str = ""


@dataclass(frozen=True, slots=True)
class Several:
    """A list of `item`, at least `least` of them; one word may stand without a list."""

    item: Word | Section
    least: int


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping whose keys the operator chooses, at least `least` of them."""

    key: Word
    item: Section | Word | Several
    least: int


Shape = Word | Section | Several | Named


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a section.  An `optional` one may be empty, as if it were absent."""

    name: str
    description: str
    required: bool
    default: Any
    optional: bool
    shape: Shape


@cache
def settings_of(struct: type[Struct]) -> tuple[Setting, ...]:
    """The keys of a section, in the order of its struct."""
    found = inspect.type_info(struct)
    assert isinstance(found, inspect.StructType)
    return tuple(_setting(field) for field in found.fields)


def _setting(field: inspect.Field) -> Setting:
    assert isinstance(field.type, inspect.Metadata), f"{field.name} has no description"
    described = field.type
    inner = described.type
    optional = isinstance(inner, inspect.UnionType) and inner.includes_none
    default = None if field.required else _default(field)
    description = (described.extra_json_schema or {})["description"]
    return Setting(field.name, description, field.required, default, optional, _shape(described))


def _default(field: inspect.Field) -> object:
    return field.default if field.default_factory is NODEFAULT else field.default_factory()


def _shape(kind: inspect.Type, extra: dict[str, Any] | None = None) -> Shape:
    unit: Unit | None = (extra or {}).get("unit")
    match kind:
        case inspect.Metadata(type=inner, extra=more):
            return _shape(inner, {**(extra or {}), **(more or {})})
        case inspect.StructType(cls=struct):
            return Section(struct, (extra or {}).get("like", ""))
        case inspect.VarTupleType(item_type=item, min_length=least):
            listed = _shape(item)
            assert isinstance(listed, Word | Section)
            return Several(listed, least or 0)
        case inspect.DictType(key_type=key, value_type=item, min_length=least):
            name, named = _shape(key), _shape(item)
            assert isinstance(name, Word)
            assert isinstance(named, Section | Word | Several)
            return Named(name, named, least or 0)
        case inspect.UnionType(types=types):
            return _union(
                [
                    _shape(one, extra if isinstance(one, inspect.StructType) else None)
                    for one in types
                    if not isinstance(one, inspect.NoneType)
                ]
            )
        case inspect.LiteralType(values=values):
            return Word(None, tuple(str(value) for value in values))
        case inspect.BoolType():
            return Word(words.SWITCH)
        case inspect.IntType(ge=least, le=most):
            word = Word(unit or words.COUNT, (), least, most)
        case inspect.FloatType(ge=least, le=most):
            word = Word(unit, (), least, most)
        case _:
            word = Word(unit)
    assert word.unit is not None, f"{kind} has no unit to be read by"
    if extra is not None and "off" in extra:
        word = replace(word, may_be_off=True, off=extra["off"])
    return word


def _union(shapes: list[Shape]) -> Shape:
    """One shape, or a word with a few fixed choices."""
    if len(shapes) == 1:
        return shapes[0]
    free, fixed = shapes
    assert isinstance(free, Word)
    assert isinstance(fixed, Word)
    return replace(free, choices=fixed.choices)
