"""Settings made from another proxy's, and the lines that cannot be converted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml

from hopproxy.settings.route import Route
from hopproxy.settings.route_agreement import takes_all_of
from hopproxy.settings.upstream import Pool

Values = dict[str, Any]


class Written(Protocol):
    """A line of a configuration; `file` is empty in the file that is converted."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def text(self) -> str: ...


@dataclass(frozen=True, slots=True, order=True)
class Note:
    """A line that is not converted, or not exactly, and why."""

    file: str
    line: int
    text: str
    why: str


@dataclass(slots=True)
class Draft:
    """A settings file in the making; `top` are the settings of the top level."""

    top: Values = field(default_factory=dict)
    listeners: dict[str, Values] = field(default_factory=dict)
    client: Values = field(default_factory=dict)
    upstreams: dict[str, Values] = field(default_factory=dict)
    routes: list[Values] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def note(self, one: Written, why: str, text: str = "") -> None:
        """Note a line that is not converted, or means something slightly different here.

        `text` is the part of it that is meant.
        """
        plain = "".join(c if c.isprintable() else " " for c in text or one.text)
        note = Note(one.file, one.line, plain, why)
        if note not in self.notes:
            self.notes.append(note)

    def listen(self, bind: str) -> Values:
        """The listener at this address, which is added if there is none.

        A listener on every address replaces those on the same port.
        """
        port = bind.rpartition(":")[2]
        if not bind.startswith("unix:") and (whole := self.listeners.get(f":{port}")) is not None:
            return whole
        made: Values = {"bind": bind}
        if bind == f":{port}":
            for other in [one for one in self.listeners if one.rpartition(":")[2] == port]:
                made = self.listeners.pop(other) | made
        return self.listeners.setdefault(bind, made)

    def upstream(self, base: str, values: Values) -> str:
        """The name of the upstream with these values, which is added if there is none."""
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", base).strip("-") or "app"
        name, number = base, 1
        while self.upstreams.setdefault(name, values) != values:
            number += 1
            name = f"{base}-{number}"
        return name

    def add(self, values: Values, one: Written, text: str = "") -> None:
        """Add a route.  If earlier routes match all of its requests, note that instead."""
        route = _matching(values)
        for earlier in self.routes:
            if takes_all_of(_matching(earlier), route):
                if values != earlier and values.get("respond", {}) not in _REST:
                    where = values.get("path") or "the rest of it"
                    why = f"{where} is never reached: a route above takes it, on every listener"
                    self.note(one, why, text)
                return
        self.routes.append(values)

    def text(self, source: str) -> str:
        """The settings as YAML, with the notes as comments at the top."""
        lines = [f"# Made from {source}.  `hopproxy check` this file before you use it."]
        if self.notes:
            lines.append("# Not converted, or not exactly (the number is the line there):")
        lines += [f"#   {_place(note)}: {note.text} ({note.why})" for note in sorted(self.notes)]
        if not self.upstreams:
            lines.append(
                "# No request reaches an origin: this upstream is only here because one is"
            )
            lines.append("# needed.")
        return "\n".join(lines) + "\n\n" + _yaml(dict(self._sections()))

    def _sections(self) -> Iterator[tuple[str, Any]]:
        yield from self.top.items()
        if self.listeners:
            yield "listeners", list(self.listeners.values())
        if self.client:
            yield "client", self.client
        led_to = {route.get("upstream") for route in self.routes}
        used = {name: one for name, one in self.upstreams.items() if name in led_to}
        yield "upstreams", used or {"unused": {"origins": ["127.0.0.1:9"]}}
        if self.routes:
            yield "routes", self.routes


def _place(note: Note) -> str:
    return f"{note.file}:{note.line}" if note.file else str(note.line)


#: Answers to requests that no route of a server matches.
_REST = ({"status": 404}, {"status": 200})


def _matching(values: Values) -> Route:
    """What a route matches, for comparing it with another."""
    host = values.get("host")
    return Route(
        host=(host,) if isinstance(host, str) else tuple(host) if host else None,
        path=values.get("path"),
        exact=values.get("exact", False),
        redirect=values.get("redirect"),
        upstream=None if "redirect" in values else "",
    )


class _Dumper(yaml.SafeDumper):
    """Block style with indented lists, and everything written out."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:  # noqa: ANN401
        return super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401
        return True


def _switch(dumper: yaml.SafeDumper, value: bool) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:bool", "on" if value else "off")


_Dumper.add_representer(bool, _switch)


def _yaml(values: Values) -> str:
    parts = [
        yaml.dump({key: value}, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
        for key, value in values.items()
    ]
    return "\n".join(parts) if len(parts) > 1 else parts[0]


def fitted(pool: Values) -> Values:
    """The settings of a pool, with `max_idle` at most `max_connections`."""
    most = pool.get("max_connections", Pool().max_connections)
    if pool.get("max_idle", 0) <= most:
        return pool
    name = "max_idle" if "max_connections" in pool else "max_connections"
    return pool | {name: most if name == "max_idle" else pool["max_idle"]}


def plain(text: str) -> str:
    """Text for a settings file, in which `$` would begin a variable."""
    return text.replace("$", "$$")


def braces(text: str) -> str:
    """Text for a value in which a word in braces would be a variable."""
    return re.sub(r"\{([a-z_]+)\}", r"{{\1}}", text)


def filled(values: Mapping[str, Any]) -> Values:
    """The values without those that are not set."""
    return {key: value for key, value in values.items() if value not in (None, {}, [], "")}
