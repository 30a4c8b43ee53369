"""What to write instead of a key that is not a setting where it stands.

Tried in this order: a name that other proxies use, a setting of this section with almost this
spelling, the section where the key belongs, a setting elsewhere with almost this spelling; else
all settings of the section are named.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import cache

from msgspec import Struct

from hopproxy.settings import words
from hopproxy.settings.amounts import Misread
from hopproxy.settings.place import Mapping, Scalar, Tree
from hopproxy.settings.schema import Settings, UpstreamSettings
from hopproxy.settings.shape import Named, Section, Several, Word, settings_of

#: How alike a key and a setting must be: to be surely meant, to be likely meant, to be worth a try.
ALMOST, ALIKE, VAGUE = 0.9, 0.8, 0.6

_POOL = "upstreams.<name>.pool"
_TIMEOUTS = (
    "client.idle_timeout",
    "client.head_timeout",
    "client.body_timeout",
    "upstreams.<name>.connect_timeout",
    "upstreams.<name>.response_timeout",
    "upstreams.<name>.body_timeout",
    f"{_POOL}.idle_timeout",
    f"{_POOL}.queue_timeout",
)
_READ = (
    "client.body_timeout",
    "upstreams.<name>.response_timeout",
    "upstreams.<name>.body_timeout",
)
_KEPT = ("client.idle_timeout", f"{_POOL}.idle_timeout", f"{_POOL}.max_idle")
_NO_TLS = "hopproxy does not do TLS yet: put a TLS terminator in front of it"
#: Names that other proxies, and people, use for settings of ours.
_CALLED: dict[str, tuple[str, ...]] = {
    "access_logs": ("access_log",),
    "address": ("listeners[].bind", "admin.bind", "upstreams.<name>.origins"),
    "backend": ("routes[].upstream", "upstreams"),
    "backends": ("upstreams",),
    "body_size": ("client.max_body_size",),
    "client_body_timeout": ("client.body_timeout",),
    "client_header_timeout": ("client.head_timeout",),
    "client_max_body_size": ("client.max_body_size",),
    "cluster": ("routes[].upstream", "upstreams"),
    "clusters": ("upstreams",),
    "dial_timeout": ("upstreams.<name>.connect_timeout",),
    "domain": ("routes[].host",),
    "domains": ("routes[].host",),
    "endpoints": ("upstreams.<name>.origins",),
    "frontend": ("listeners",),
    "frontends": ("listeners",),
    "grace_period": ("drain_timeout",),
    "graceful_timeout": ("drain_timeout",),
    "header_timeout": ("client.head_timeout",),
    "hosts": ("routes[].host",),
    "keep_alive": _KEPT,
    "keep_alive_timeout": ("client.idle_timeout", f"{_POOL}.idle_timeout"),
    "keepalive": _KEPT,
    "keepalive_requests": ("client.max_requests", f"{_POOL}.max_requests"),
    "keepalive_timeout": ("client.idle_timeout", f"{_POOL}.idle_timeout"),
    "listen": ("listeners", "admin.bind"),
    "location": ("routes[].path", "routes"),
    "locations": ("routes",),
    "log": ("access_log",),
    "logging": ("access_log",),
    "logs": ("access_log",),
    "max_conns": (f"{_POOL}.max_connections",),
    "max_header_size": ("client.max_head_size", "upstreams.<name>.max_head_size"),
    "max_headers": ("client.max_fields",),
    "metrics": ("admin",),
    "port": ("listeners[].bind", "admin.bind", "upstreams.<name>.origins"),
    "ports": ("listeners[].bind",),
    "prefix": ("routes[].path",),
    "processes": ("workers",),
    "proxies": ("upstreams",),
    "proxy_connect_timeout": ("upstreams.<name>.connect_timeout",),
    "proxy_pass": ("routes[].upstream", "upstreams.<name>.origins"),
    "proxy_read_timeout": _READ[1:],
    "proxy_send_timeout": ("upstreams.<name>.write_timeout",),
    "read_timeout": _READ,
    "rules": ("routes",),
    "send_timeout": ("client.write_timeout", "upstreams.<name>.write_timeout"),
    "server": ("upstreams.<name>.origins", "upstreams"),
    "server_name": ("routes[].host",),
    "servers": ("upstreams.<name>.origins", "upstreams"),
    "service": ("routes[].upstream", "upstreams"),
    "services": ("upstreams",),
    "shutdown_timeout": ("drain_timeout",),
    "stats": ("admin",),
    "target": ("routes[].upstream", "upstreams.<name>.origins"),
    "targets": ("upstreams.<name>.origins", "upstreams"),
    "threads": ("workers",),
    "timeout": _TIMEOUTS,
    "timeouts": _TIMEOUTS,
    "to": ("routes[].upstream",),
    "uri": ("routes[].path", "upstreams.<name>.origins"),
    "url": ("upstreams.<name>.origins",),
    "urls": ("upstreams.<name>.origins",),
    "worker_processes": ("workers",),
}
_ABOUT_TLS = frozenset({"certificate", "certificates", "https", "ssl", "tls"})


def instead_of(key: str, value: Tree, struct: type[Struct], path: str) -> str:
    """What to do about `key: value` in the section of `struct`, which stands at `path`."""
    known = [setting.name for setting in settings_of(struct)]
    if closed_up := _closed_up(key, known):
        return closed_up
    name, homes = _snake(key), _homes()
    if name in known:
        return f"did you mean `{name}`?"
    if name in _CALLED:
        return _one_of(_from_here(_CALLED[name], struct, path))
    if name in _ABOUT_TLS:
        return _NO_TLS
    if close := get_close_matches(name, known, n=1, cutoff=ALMOST):
        return f"did you mean `{close[0]}`?"
    if name in homes:
        return _belongs(_from_here(homes[name], struct, path))
    if close := get_close_matches(name, known, n=1, cutoff=ALIKE):
        return f"did you mean `{close[0]}`?"
    if close := get_close_matches(name, homes, n=1, cutoff=ALIKE):
        return _one_of(_from_here(homes[close[0]], struct, path))
    if struct is Settings and _is_upstream(value):
        return "an upstream? put it below `upstreams:`"
    return nearest(name, known)


def below_it(tree: Tree, struct: type[Struct]) -> str:
    """What to write where the section of `struct` belongs and `tree` stands."""
    settings = settings_of(struct)
    known = [setting.name for setting in settings]
    if isinstance(tree, Scalar):
        if closed_up := _closed_up(tree.text, known):
            return closed_up
        # The first setting of a section is what people take for the whole of it.
        name, shape = settings[0].name, settings[0].shape
        word = shape.item if isinstance(shape, Several) else shape
        if isinstance(word, Word) and word.unit in (words.BIND, words.ORIGIN, words.TOKEN):
            text = tree.text
            if word.unit is words.BIND and text.isdecimal():
                text = f"127.0.0.1:{text}"
            with suppress(Misread):
                word.unit.parse(text)
                text = f"[{text}]" if isinstance(shape, Several) else text
                return f"write `{name}: {text}` below it"
    return f"its settings are {', '.join(known)}"


def _closed_up(text: str, known: list[str]) -> str | None:
    """What to write instead of `bind:8080`, which YAML takes for one word."""
    name, _, value = text.partition(":")
    return f"put a space after the colon: `{name}: {value}`" if value and name in known else None


def _is_upstream(value: Tree) -> bool:
    needed = {setting.name for setting in settings_of(UpstreamSettings) if setting.required}
    return isinstance(value, Mapping) and needed <= {entry.key for entry in value.entries}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the word of `known` most like `word`, or else all of them."""
    known = list(known)
    close = get_close_matches(word, known, n=1, cutoff=VAGUE)
    return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


def _snake(key: str) -> str:
    """`idleTimeout` and `idle-timeout` as `idle_timeout`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]", "_", key).lower()


def _from_here(homes: Iterable[str], struct: type[Struct], path: str) -> list[str]:
    """Those of `homes` that lie in this section, by their way from it; without one, all."""
    here = f"{_sections()[struct]}." if path else ""
    within = [home for home in homes if home.startswith(here)]
    return [f"{path}.{home[len(here) :]}" if path else home for home in within] or list(homes)


def _one_of(homes: list[str]) -> str:
    return f"did you mean {_listed([f'`{home}`' for home in homes])}?"


def _belongs(homes: list[str]) -> str:
    if len(homes) == 1 and "." not in homes[0]:
        return "it belongs to the top level of the file"
    return f"it belongs to {_listed(homes)}"


def _listed(words: list[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


@cache
def _homes() -> dict[str, tuple[str, ...]]:
    """Where each key belongs: the path of every setting and section of that name."""
    homes: dict[str, tuple[str, ...]] = {}
    for struct, path in _sections().items():
        for setting in settings_of(struct):
            home = f"{path}.{setting.name}" if path else setting.name
            homes[setting.name] = (*homes.get(setting.name, ()), home)
    return homes


@cache
def _sections() -> dict[type[Struct], str]:
    """The path of each section; there is one only."""
    paths: dict[type[Struct], str] = {Settings: ""}
    left: list[type[Struct]] = [Settings]
    while left:
        struct = left.pop(0)
        for setting in settings_of(struct):
            shape, mark = setting.shape, ""
            if isinstance(shape, Named):
                shape, mark = shape.item, ".<name>"
            elif isinstance(shape, Several):
                shape, mark = shape.item, "[]"
            if isinstance(shape, Section):
                at = f"{paths[struct]}." if paths[struct] else ""
                paths[shape.struct] = f"{at}{setting.name}{mark}"
                left.append(shape.struct)
    return paths
