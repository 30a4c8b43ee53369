"""An editor's view of a settings file: words typed as YAML 1.2 does, and a JSON Schema checked.

Only the keywords that hopproxy's schema uses are known; another one raises, so that a schema
which grows past this reader is noticed.
"""

import re
from collections.abc import Callable
from typing import Any, cast

from hopproxy.settings.place import Blank, Mapping, Scalar, Sequence, Tree

NOTES = {"$schema", "title", "description", "default"}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def typed(tree: Tree) -> object:
    """What an editor hands to the schema: YAML 1.2's core types, `${NAME}` not filled in."""
    if isinstance(tree, Mapping):
        return {entry.key: typed(entry.value) for entry in tree.entries}
    if isinstance(tree, Sequence):
        return [typed(item) for item in tree.items]
    assert not isinstance(tree, Blank)
    return _scalar(tree)


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether `value` passes `schema`."""
    return all(CHECKS[key](value, schema[key], schema) for key in schema.keys() - NOTES)


def _scalar(scalar: Scalar) -> object:
    text = scalar.written
    if not scalar.plain:
        return text
    if scalar.is_null:
        return None
    if re.fullmatch(r"[-+]?[0-9]+", text):
        return int(text)
    return {"true": True, "false": False}.get(text, text)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _type(value: Any, kinds: str | list[str], _: dict[str, Any]) -> bool:
    return any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _keys(value: Any, rest: Any, schema: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    properties = schema.get("properties", {})
    return all(
        fits(below, properties[key])
        if key in properties
        else rest is not False and fits(below, rest)
        for key, below in value.items()
    )


Check = Callable[[Any, Any, dict[str, Any]], bool]
CHECKS: dict[str, Check] = {
    "type": cast("Check", _type),
    "anyOf": lambda value, schemas, _: any(fits(value, schema) for schema in schemas),
    "enum": lambda value, words, _: value in words,
    "const": lambda value, fixed, _: value == fixed and not isinstance(value, bool),
    "pattern": lambda value, at, _: not isinstance(value, str) or re.search(at, value) is not None,
    "minimum": lambda value, least, _: not _is(value, "integer") or value >= least,
    "maximum": lambda value, most, _: not _is(value, "integer") or value <= most,
    "required": lambda value, keys, _: not isinstance(value, dict) or value.keys() >= set(keys),
    "properties": lambda value, _, schema: schema["additionalProperties"] is False,
    "additionalProperties": _keys,
    "propertyNames": lambda value, schema, _: all(fits(key, schema) for key in value or ()),
    "items": lambda value, schema, _: all(fits(item, schema) for item in value or ()),
    "minItems": lambda value, least, _: value is None or len(value) >= least,
    "minProperties": lambda value, least, _: value is None or len(value) >= least,
}
