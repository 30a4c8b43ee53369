"""What to write instead of a key that is not a setting of its section.

Tried in this order: a name that other proxies use, a setting of this section with a similar
spelling, the section where the key belongs, a setting elsewhere with a similar spelling; else all
settings of the section are listed.
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from functools import cache

from msgspec import Struct

from hopproxy.settings import words
from hopproxy.settings.amounts import Misread
from hopproxy.settings.other_names import ABSENT, CALLED, OFF, VALUES
from hopproxy.settings.place import Mapping, Scalar, Sequence, Tree
from hopproxy.settings.rates import RATE
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.shape import Named, Section, Setting, Several, Word, settings_of
from hopproxy.settings.upstream import UpstreamSettings

#: How similar a key and a setting must be: surely meant, probably meant, worth a suggestion.
ALMOST, ALIKE, VAGUE = 0.9, 0.8, 0.7
#: Most settings to suggest that share a word with a key.
FEW = 4
#: Values of a section's first setting that people write in place of the section.
_FIRST = (words.BIND, words.ORIGIN, words.TOKEN, words.TARGET, words.COUNT, RATE)


def instead_of(key: str, value: Tree, struct: type[Struct], path: str) -> str:
    """What to do about `key: value` in the section of `struct` at `path`."""
    known = [setting.name for setting in settings_of(struct)]
    if closed_up := _closed_up(key, known):
        return closed_up
    name, homes = _snake(key), _homes()
    if name in known:
        return f"did you mean `{name}`?"
    if name in CALLED:
        return _one_of(_from_here(CALLED[name], struct, path))
    if name in ABSENT:
        return ABSENT[name]
    if struct is Route and name in ("status", "code"):
        return "did you mean `redirect_status`, or `status` below `respond`?"
    if struct is Route and key.startswith("/"):
        return f"write `path: {key}`, and `upstream:` below it"
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
    """What to write instead of `tree` if a section of `struct` is needed."""
    settings = settings_of(struct)
    known = [setting.name for setting in settings]
    if isinstance(tree, Sequence):
        return _without_dash(tree, settings[0])
    if isinstance(tree, Scalar):
        if struct is Settings and "{" in tree.text:
            return "hopproxy reads YAML; `hopproxy convert` reads an nginx.conf or a Caddyfile"
        if tree.text.lower() in ("on", "true", "yes"):
            return f"write `{settings[0].name}:` and its value below it"
        if closed_up := _closed_up(tree.text, known):
            return closed_up
        # People often write the first setting's value in place of the section.
        name, shape = settings[0].name, settings[0].shape
        word = shape.item if isinstance(shape, Several) else shape
        if isinstance(word, Word) and word.unit in _FIRST:
            text = tree.text
            if word.unit is words.BIND and text.isdecimal():
                text = f"127.0.0.1:{text}"
            if word.may_be_off and text.lower() in OFF:
                return f"write `{name}: off` below it"
            with suppress(Misread):
                word.unit.parse(text)
                text = _flow(tree.words()) if isinstance(shape, Several) else text
                return f"write `{name}: {text}` below it"
    return f"its settings are {', '.join(known)}"


def _without_dash(tree: Sequence, first: Setting) -> str:
    """What to write instead of a list if a section is needed, whose `first` setting this is."""
    items = [item for item in tree.items if isinstance(item, Scalar)]
    if isinstance(first.shape, Several) and items and len(items) == len(tree.items):
        return f"write `{first.name}: {_flow(items)}` below it"
    return "it is one section, not a list: leave out the dash or the brackets"


def is_alone(tree: Scalar, shape: Several) -> bool:
    """Whether `tree` is one item, which may stand without a list."""
    if not isinstance(shape.item, Word):
        return False
    if not _misread(tree.text, shape.item):
        return True
    other = tree.text[:1] == "-" or (not shape.least and tree.text.lower() in OFF)
    return len(tree.words()) == 1 and not other


def as_list(tree: Tree, shape: Several) -> str:
    """What to write instead of `tree` if a list of `shape` is needed."""
    if not isinstance(tree, Scalar):
        return "begin each item with a dash"
    if isinstance(shape.item, Section):
        hint = below_it(tree, shape.item.struct)
        below = hint.removesuffix(" below it").replace("`", "`- ", 1)
        return f"{below} below it" if hint.endswith(" below it") else "begin each item with a dash"
    items = tree.words()
    if tree.text[:1] == "-":
        return "put a space after the dash"
    if not shape.least and tree.text.lower() in OFF:
        return "write [] for none"
    if misread := next(filter(None, (_misread(item.text, shape.item) for item in items)), None):
        return misread
    return f"write {_flow(items)}" if items else "at least one is needed"


def odd(text: str) -> str:
    """What to write instead of a value of any kind with a mistake of YAML; "" if there is none."""
    if found := re.search(r"\$([A-Z_][A-Z0-9_]*)", text):
        return f"write ${{{found[1]}}}"
    return "write straight quotes, or none" if re.search("[\u2018-\u201f]", text) else ""


def _misread(text: str, word: Word) -> str:
    """What to write instead of one item of a list; empty if it is valid."""
    if word.unit is None:
        return "" if text in word.choices else f"write [{', '.join(word.choices)}] or one of them"
    try:
        word.unit.parse(text)
    except Misread as error:
        return error.hint
    return ""


def _flow(items: Iterable[Scalar]) -> str:
    """A list in one line of YAML."""
    texts = (item.text for item in items)
    quoted = [f'"{text}"' if text[:1] in (":", "[", "*") else text for text in texts]
    return f"[{', '.join(quoted)}]"


def as_word(tree: Tree, word: Word) -> str:
    """What to write instead of `tree`, a list or a mapping, if one value is needed."""
    if isinstance(tree, Sequence) and word.unit in (words.HOST, words.PATH):
        return "write a route for each"
    if isinstance(tree, Sequence) and len(tree.items) == 1 and isinstance(tree.items[0], Scalar):
        return f"write {tree.items[0].text}"
    if word.unit is None:
        return f"write {_listed(list(word.choices))}"
    if isinstance(tree, Sequence):
        return _misread("", word) or "write one value"
    return _misread("", word) or "write one value, in quotes if it has braces or a colon"


def _closed_up(text: str, known: list[str]) -> str | None:
    """What to write instead of `bind:8080`, which is one scalar in YAML."""
    name, _, value = text.partition(":")
    return f"put a space after the colon: `{name}: {value}`" if value and name in known else None


def _is_upstream(value: Tree) -> bool:
    needed = {setting.name for setting in settings_of(UpstreamSettings) if setting.required}
    return isinstance(value, Mapping) and needed <= {entry.key for entry in value.entries}


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint with the words of `known` most similar to `word`, or else with all of them."""
    known = list(known)
    return like(word, known) or f"known here: {', '.join(known)}"


def like(word: str, known: Iterable[str]) -> str:
    """A hint with the words of `known` most similar to `word`; empty if none is."""
    known, low = list(known), VALUES.get(word.lower(), word.lower())
    close = [low] * (low in known) or [
        one for one in known if low in (one, *re.split("[_-]", one))
    ][:FEW]
    close = close or get_close_matches(low, known, n=1, cutoff=VAGUE)
    return _one_of(close) if close else ""


def _snake(key: str) -> str:
    """`idleTimeout` and `idle-timeout` as `idle_timeout`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[ -]", "_", key).lower()


def _from_here(homes: Iterable[str], struct: type[Struct], path: str) -> list[str]:
    """Those of `homes` within this section, relative to it; if there are none, all."""
    here = f"{_sections()[struct]}." if path else ""
    known = {setting.name for setting in settings_of(struct)}
    within = [home for home in homes if home.startswith(here)]
    within = [home for home in within if home[len(here) :].split(".")[0].split("[")[0] in known]
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
    """The paths of every setting and section, by name."""
    homes: dict[str, tuple[str, ...]] = {}
    for struct, path in _sections().items():
        for setting in settings_of(struct):
            home = f"{path}.{setting.name}" if path else setting.name
            if home not in homes.get(setting.name, ()):
                homes[setting.name] = (*homes.get(setting.name, ()), home)
    return homes


@cache
def _sections() -> dict[type[Struct], str]:
    """The path of each section; of one that is like another, the path of that one."""
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
                paths[shape.struct] = shape.like or f"{at}{setting.name}{mark}"
                left.append(shape.struct)
    return paths
