"""Fields that a Caddyfile sets, adds and removes: `X value`, `+X value`, `-X`, `?X value`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hopproxy.convert.caddy_words import Line, value_of
from hopproxy.convert.draft import Draft, Values
from hopproxy.settings.amounts import Misread
from hopproxy.settings.fields import parse_field_name, parse_field_value


def edit_field(draft: Draft, one: Line, edits: Values, *, stripped: bool = False) -> None:
    """One line as set, add and remove.

    With `stripped` the path of the request is another one by then.
    """
    name, *rest = one.words if one.name not in ("header", "header_up", "header_down") else one.args
    mark, bare = (name[0], name[1:]) if name[:1] in "+-?>" and name else ("", name)
    try:
        parse_field_name(bare)
        if "*" in bare:
            raise Misread("patterns for names are not supported", "write each of them")
        value = value_of(rest[0], stripped=stripped) if len(rest) == 1 else None
        parse_field_value(value or "")
    except Misread as misread:
        draft.note(one, f"{misread.wrong}: {misread.hint}")
        return
    if mark == "-":
        edits.setdefault("remove", []).append(bare)
        return
    if value is None:
        why = "it replaces parts of a value" if len(rest) == 2 else "hopproxy has no equivalent"
        draft.note(one, why)
        return
    if mark == "?":
        draft.note(one, "it is set even if the origin sends one")
    fields = edits.setdefault("add" if mark == "+" else "set", {})
    fields[bare] = _joined(fields[bare], value) if mark == "+" and bare in fields else value


def changed_fields(
    draft: Draft, one: Line, args: tuple[str, ...], *, stripped: bool
) -> Callable[[Values], None]:
    """Apply a `header` to a route that has the fields of later directives.

    Those that remove, or that wait for the response, come last, whatever is behind them.
    """
    lines = (replace(one, words=("header", *args), block=None),) if one.block is None else one.block
    edits: Values = {}
    for line in lines:
        if line.name != "defer" and line.words:
            edit_field(draft, line, edits, stripped=stripped)
    words = [line.args[0] if line.name == "header" else line.name for line in lines if line.words]
    waits = any(word[:1] in ("-", ">") or word == "defer" for word in words)

    def change(route: Values) -> None:
        fields = route.pop("response_fields", {})
        found = _both(fields, edits) if waits else _both(edits, fields)
        if found:
            route["response_fields"] = found

    return change


def _both(first: Values, then: Values) -> Values:
    """Two lists of changes as one; each adds, then sets, then removes."""
    gone = [*then.get("set", {}), *then.get("remove", ())]
    lost = {name.lower() for name in gone}
    added = _without(first.get("add", {}), lost)
    for name, value in then.get("add", {}).items():
        added[name] = _joined(added[name], value) if name in added else value
    removed = {name.lower(): name for name in then.get("remove", ())}
    sets = _without(first.get("set", {}), lost) | _without(then.get("set", {}), removed.keys())
    added = _without(added, removed.keys())
    kept = {name.lower() for name in sets}
    removes = [name for name in first.get("remove", ()) if name.lower() not in removed]
    removes = [name for name in [*removes, *removed.values()] if name.lower() not in kept]
    found = {"set": sets, "add": added, "remove": removes}
    return {how: names for how, names in found.items() if names}


def _without(fields: Values, names: set[str] | object) -> Values:
    return {name: value for name, value in fields.items() if name.lower() not in names}  # type: ignore[operator]


def _joined(first: str | list[str], second: str | list[str]) -> list[str]:
    """The values of two lines that add to the same field."""
    return [value for one in (first, second) for value in (one if isinstance(one, list) else [one])]
