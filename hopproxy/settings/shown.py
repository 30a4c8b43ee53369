"""The settings in use as plain values, with secrets hidden.

A field is secret by its name, or by the beginning of its value.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from hopproxy.settings.schema import Settings
from hopproxy.settings.shape import Named, Section, Several, Shape, Word, settings_of

#: What is written in place of a secret.
HIDDEN = "(hidden)"

_SECRET = re.compile(
    r"auth|cookie|credential|key|pass|secret|session|signature|token", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"(basic|bearer|digest|negotiate|token) ", re.IGNORECASE)


def shown(settings: Settings) -> dict[str, Any]:
    """Every setting with its value, also those at their defaults, written as in a settings file."""
    return _section(settings)


def is_secret(field: str, value: object) -> bool:
    """Whether the value of a field that is set or added is secret."""
    values = value if isinstance(value, tuple) else (value,)
    begins = any(isinstance(one, str) and _CREDENTIALS.match(one) for one in values)
    return _SECRET.search(field) is not None or begins


def _section(section: Struct) -> dict[str, Any]:
    return {
        one.name: _plain(getattr(section, one.name), one.shape)
        for one in settings_of(type(section))
    }


def _plain(value: object, shape: Shape) -> Any:  # noqa: ANN401
    if isinstance(value, Struct) and isinstance(shape, Section):
        return _section(value)
    if isinstance(value, Mapping):
        item = shape.item if isinstance(shape, Named) else shape
        hides = not isinstance(item, Section)
        return {
            str(key): HIDDEN if hides and is_secret(str(key), one) else _plain(one, item)
            for key, one in value.items()
        }
    if isinstance(value, tuple):
        each = shape.item if isinstance(shape, Several) else shape
        return [_plain(one, each) for one in value]
    if value is None or isinstance(value, bool) or not isinstance(shape, Word):
        return value
    if shape.unit is None or str(value) in shape.choices:
        return str(value)
    written = shape.unit.write(value)
    return value if isinstance(value, int) and written == str(value) else written
