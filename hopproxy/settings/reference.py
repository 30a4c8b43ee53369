"""The settings reference: a table for people, and a JSON Schema for editors."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, assert_never

from msgspec import Struct

from hopproxy.settings.schema import Settings
from hopproxy.settings.shape import Named, Section, Setting, Several, Shape, Word, settings_of

#: `${NAME}` is allowed in any value, so every pattern must accept it.
_VARIABLE = r"[$][{]"


class Row(NamedTuple):
    """One setting: its path, its kind of value, its default as written, its purpose."""

    path: str
    type: str
    default: str
    description: str


def reference() -> list[Row]:
    """Every setting with a value or a list of values, in the order of the schema."""
    return list(_rows(Settings, ""))


def json_schema() -> dict[str, Any]:
    """A JSON Schema (2020-12) of the settings file, for editors."""
    schema = _section_schema(Settings)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopproxy"} | schema


def _rows(struct: type[Struct], prefix: str) -> Iterator[Row]:
    for setting in settings_of(struct):
        path, shape = prefix + setting.name, setting.shape
        inner = shape.item if isinstance(shape, Several | Named) else shape
        if isinstance(inner, Section) and inner.like:
            yield Row(path, f"as `{inner.like}`", _default(setting), setting.description)
        elif isinstance(inner, Section):
            mark = ".<name>" if isinstance(shape, Named) else "[]" * isinstance(shape, Several)
            yield from _rows(inner.struct, f"{path}{mark}.")
        else:
            kind = _kind(shape)
            yield Row(path, kind, _default(setting), setting.description)


def _kind(shape: Shape) -> str:
    """`duration`, `origin, or a list`, `name: value`: how the value of a setting is written."""
    if isinstance(shape, Named):
        return f"{_kind(shape.key)}: {_kind(shape.item)}"
    if isinstance(shape, Several):
        assert isinstance(shape.item, Word)
        return f"{_type(shape.item)}, or a list"
    assert isinstance(shape, Word)
    return _type(shape)


def _type(word: Word) -> str:
    """`number or auto`, `json, text or off`: what may be written."""
    names = [*([word.unit.name] if word.unit else []), *word.choices]
    names += ["off"] * word.may_be_off
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    if setting.default is None:
        return "absent"
    written = _written(setting.default, setting.shape)
    if isinstance(written, list):
        return f"[{', '.join(map(str, written))}]"
    return str(written) or '""'


def _written(value: object, shape: Shape) -> object:
    """A default as written in YAML, as text."""
    if isinstance(shape, Word):
        return value if shape.unit is None else shape.unit.write(value)
    if isinstance(shape, Several):
        assert isinstance(value, tuple)
        return [_written(one, shape.item) for one in value]
    if isinstance(shape, Named):
        assert not value, "no mapping of names has a default"
        return {}
    keys = settings_of(shape.struct)
    values = [(one, getattr(value, one.name)) for one in keys]
    return {one.name: _written(of, one.shape) for one, of in values if of is not None}


def _setting_schema(setting: Setting) -> dict[str, Any]:
    schema = _schema(setting.shape)
    if setting.optional:
        off = [{"enum": ["off"]}] * isinstance(setting.shape, Section)
        schema = {"anyOf": [schema, {"type": "null"}, *off]}
    schema["description"] = setting.description
    if setting.default is not None:
        schema["default"] = _written(setting.default, setting.shape)
    return schema


def _schema(shape: Shape) -> dict[str, Any]:
    match shape:
        case Word():
            return {"anyOf": list(_word_schemas(shape))}
        case Several(item=item, least=least):
            kind: Any = "array" if least else ["array", "null"]
            listed = {"type": kind, "items": _schema(item), "minItems": least}
            if not isinstance(item, Word):
                return listed
            return {"anyOf": [*_word_schemas(item), listed]}
        case Named(key=key, item=item, least=least):
            names = {"pattern": _anchored(key)}
            below = {"propertyNames": names, "additionalProperties": _schema(item)}
            empty: Any = "object" if least else ["object", "null"]
            return {"type": empty, "minProperties": least} | below
        case Section(struct=struct, like=like):
            return _section_schema(struct, like)
    assert_never(shape)


def _section_schema(struct: type[Struct], like: str = "") -> dict[str, Any]:
    keys = settings_of(struct)
    if like:  # an absent setting has no default of its own
        keys = tuple(replace(setting, default=None) for setting in keys)
    required = [setting.name for setting in keys if setting.required]
    choice = [{"required": [name]} for name in getattr(struct, "ONE_OF", ())]
    return ({"anyOf": choice} if choice else {}) | {
        # An empty section is null in YAML, and means the defaults.
        "type": "object" if required else ["object", "null"],
        "properties": {setting.name: _setting_schema(setting) for setting in keys},
        "required": required,
        "additionalProperties": False,
    }


def _word_schemas(word: Word) -> Iterator[dict[str, Any]]:
    yield {"type": "string", "pattern": _VARIABLE}
    if word.choices or word.may_be_off:
        yield {"enum": [*word.choices, *(["off"] * word.may_be_off)]}
    if word.unit is None:
        return
    yield {"type": "string", "pattern": _anchored(word)}
    if word.unit.pair:
        yield {"type": "object", "minProperties": 1, "maxProperties": 1}
    bounds = {"minimum": word.least, "maximum": word.most}
    if word.unit.bare == "integer":
        yield {"type": "integer"} | {key: n for key, n in bounds.items() if n is not None}
    elif word.unit.bare == "boolean":
        yield {"type": "boolean"}
    elif word.least == 0 or word.off is not None:
        yield {"const": 0}


def _anchored(word: Word) -> str:
    assert word.unit is not None
    return f"^({word.unit.pattern})$"
