"""The kinds of values in a settings file.  Each is a `Unit`: how to parse, format and check it.

`units.py` has those that other code needs too; this file has those that only settings need.
"""

import posixpath
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from hopproxy.settings.amounts import (
    Misread,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from hopproxy.settings.networks import parse_network
from hopproxy.settings.origins import parse_balance, parse_origin_line, write_origin_line
from hopproxy.settings.units import (
    NAME,
    parse_bind,
    parse_ipv6,
)

_TOKEN = r"[0-9A-Za-z!#$%&'*+.^_`|~-]+"
_VIAS = ("both", "request", "response", "off")
#: Wildcards, variables and regular expressions of other proxies.  Here they would only match
#: themselves, and no client sends them.
_PATTERN = re.compile(r"[*{}<>^|\[\]\\]|\$$|[~=] |/:[A-Za-z]|\.\+")
#: `.` or `..` as a segment of a path: clients resolve them before they send it.
_DOT_SEGMENT = re.compile(r"^/(?:.*/)?\.\.?(?:/|$)")
_SWITCHES = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def parse_count(text: str) -> int:
    """A whole number in plain digits; octal, hexadecimal and `1_000` raise Misread."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise Misread(f"`{text}` is not a whole number", "write plain digits, like 1024")
    digits = text.lstrip("-")
    if len(digits) > 1 and digits[0] == "0":
        # 0777 is octal in YAML 1.1 and decimal in YAML 1.2: refuse it.
        plain = str(int(digits))
        octal = "" if set(digits) - set("01234567") else f"{int(digits, 8)} if octal was meant, or "
        raise Misread(f"`{text}` begins with a zero", f"octal is not read; write {octal}{plain}")
    return int(text)


def parse_switch(text: str) -> bool:
    """`on`, `true`, `yes` or `off`, `false`, `no`, in upper or lower case.  Raises Misread."""
    if text.lower() not in _SWITCHES:
        raise Misread(f"`{text}` is neither on nor off", "write on or off")
    return _SWITCHES[text.lower()]


def parse_via(text: str) -> str:
    """`both`, `request`, `response` or `off`; as a switch, `both` or `off`.  Raises Misread."""
    word = text.lower()
    if word in _VIAS:
        return word
    if word not in _SWITCHES:
        hint = "did you mean `off`?" if word == "none" else "write one of these"
        raise Misread(f"`{text}` is not one of {', '.join(_VIAS)}", hint)
    return "both" if _SWITCHES[word] else "off"


def parse_mode(text: str) -> int:
    """Permissions of a file in octal digits: `0660`.  Raises Misread."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise Misread(f"`{text}` is not a mode", 'write three octal digits, like "0660"')
    return int(text, 8)


def format_mode(mode: int) -> str:
    """As `parse_mode` reads it."""
    return f"0{mode:03o}"


def parse_share(text: str) -> float:
    """A share: `50%` is 0.5.  Raises Misread."""
    if not re.fullmatch(r"[0-9]{1,3}%", text) or int(text[:-1]) > 100:
        hint = "write it from 0% to 100%"
        if re.fullmatch(r"[0-9]{1,2}|0?\.[0-9]{1,2}", text):
            hint = f"write {text}%" if text.isdecimal() else f"write {format_share(float(text))}"
        raise Misread(f"`{text}` is not a share", hint)
    return int(text[:-1]) / 100


def format_share(share: float) -> str:
    """As `parse_share` reads it."""
    return f"{round(share * 100)}%"


def parse_host(text: str) -> str:
    """A host to route by, lower-cased: exact, or `*.suffix`.  Raises Misread."""
    host = text.lower()
    if "://" in host:
        bare = host.partition("://")[2].partition("/")[0]
        raise Misread(f"`{text}` is a URL", f"a route compares the host alone: write {bare}")
    if re.fullmatch(r".*[^:]:[0-9]+|\[.*\]:[0-9]+", host):
        raise Misread(f"`{text}` has a port", "a route compares the host alone: leave the port out")
    if host.startswith("[") and host.endswith("]"):
        return f"[{parse_ipv6(host[1:-1])}]"
    if host in ("*", "_"):  # nginx's name for every host
        raise Misread(
            f"`{text}` is not a host", "leave `host` out: the route then takes every host"
        )
    if re.search(r"[, ]", host):
        raise Misread(f"`{text}` is not one host", "write a route for each")
    if NAME.fullmatch(host.removesuffix(".")) and host.endswith("."):
        raise Misread(f"`{text}` ends with a dot", f"write {text.removesuffix('.')}")
    if host.startswith(".") and NAME.fullmatch(host[1:]):
        raise Misread(f"`{text}` begins with a dot", f"write *{host}")
    name, slash, _ = host.partition("/")
    if slash and NAME.fullmatch(name):
        raise Misread(f"`{text}` has a path", f"write host: {name}, and the path as `path`")
    if not NAME.fullmatch(host.removeprefix("*.")):
        hint = _instead_of_host(host) or "write example.org or *.example.org"
        raise Misread(f"`{text}` is not a host", hint)
    return host


def _instead_of_host(host: str) -> str:
    """How to write an IPv6 address or an internationalised name; "" for anything else."""
    if ":" in host:
        with suppress(Misread):
            return f"write [{parse_ipv6(host)}]"
    elif not host.isascii():
        name = host.removeprefix("*.")
        with suppress(UnicodeError):
            written = name.encode("idna").decode()
            return f"write {host.removesuffix(name)}{written}" if NAME.fullmatch(written) else ""
    return ""


def parse_prefix(text: str) -> str:
    """A path prefix to route by, compared by whole segments.  Raises Misread."""
    if text.startswith(("http://", "https://")):
        path = "/" + text.partition("://")[2].partition("/")[2]
        raise Misread(f"`{text}` is a URL", f"write path: {path}, and the host as `host`")
    if _PATTERN.search(text):
        raise Misread(f"`{text}` would never match: patterns are not read", _instead_of(text))
    if re.search(r"[, ]+/", text):
        raise Misread(f"`{text}` is not one path", "write a route for each")
    if _DOT_SEGMENT.search(text):
        plain = posixpath.normpath(text)
        raise Misread(f"`{text}` would never match: clients resolve `.` and `..`", f"write {plain}")
    return parse_path(text)


def parse_path(text: str) -> str:
    """A path, without its query.  Raises Misread."""
    if not text.startswith("/"):
        raise Misread(f"`{text}` does not begin with /", f"write /{text}")
    bare = re.split("[?#]", text)[0]
    if bare != text:
        raise Misread(f"`{text}` has a query or a fragment", f"write {bare}")
    if not re.fullmatch(r"[!-~]+", text):
        encoded = quote(text, safe="/%:@!$&'()*+,;=~-._")
        raise Misread(f"`{text}` is not a path", f"percent-encode it: {encoded}")
    return text


def parse_target(text: str) -> str:
    """A path, maybe with a query.  Raises Misread."""
    path, mark, query = text.partition("?")
    if mark and not re.fullmatch(r"[!\"$-~]*", query):
        bare, fragment, _ = query.partition("#")
        encoded = quote(bare, safe="/?%:@!$&'()*+,;=~-._")
        raise Misread(
            f"`{text}` has a fragment" if fragment else f"`{text}` is not a path",
            f"write {path}?{encoded}",
        )
    return parse_path(path) + mark + query


def _instead_of(pattern: str) -> str:
    """What to write instead of a pattern: the plain path at its beginning."""
    path = re.sub(r"^([~=^*]+ )?\^?/?", "/", pattern)
    path = re.split(r"[*{}<>^|\[\]\\$(]|(?<=/):", path)[0].removesuffix(".")
    if path == "/":
        return (
            "a path is compared from its beginning, by whole segments; "
            "leave `path` out to match every request"
        )
    return f"write {path}: it matches that path and all below it"


def parse_token(text: str) -> str:
    """A token (RFC 9110 section 5.6.2).  Raises Misread."""
    if "://" in text:
        raise Misread(
            f"`{text}` is a URL, not a name", "a URL belongs to the `origins` of an upstream"
        )
    if not re.fullmatch(_TOKEN, text):
        raise Misread(f"`{text}` is not a name", "write letters, digits, - and _ without spaces")
    return text


def parse_file(text: str) -> str:
    """The path of a file.  Raises Misread."""
    if text.startswith("-----BEGIN"):
        raise Misread("this is the content of a file", "write the path of the file")
    if "://" in text:
        raise Misread(f"`{text}` is a URL", "write the path of a file")
    if not text or "\0" in text:
        raise Misread("it is not the path of a file", "write it like /etc/hopproxy/tls/site.crt")
    return text


def parse_server_name(text: str) -> str:
    """A host name or an address, as a certificate names it.  Raises Misread."""
    name = text.lower().removesuffix(".")
    if name.startswith("*"):
        raise Misread(f"`{text}` is a pattern", "write one name that the certificate has")
    if "://" in name or "/" in name or re.fullmatch(r"[^:]+:[0-9]+", name):
        bare = re.split("[/:]", name.rpartition("://")[2])[0]
        raise Misread(f"`{text}` is more than a name", f"write {bare}")
    if ":" in name:
        return parse_ipv6(name.strip("[]"))
    if len(name) > 253 or not NAME.fullmatch(name):
        raise Misread(f"`{text}` is not a name", "write it like api.example.org")
    return name


@dataclass(frozen=True, slots=True)
class Unit:
    """One kind of word: its name in the reference, how it is read, written back and checked.

    `pattern` is for editors (JSON Schema) and need not be as strict as `parse`; `bare` is what
    YAML's own typing makes of the word without quotes.  A `pair` may also be written as a mapping
    with one key.  White space around a word is no part of it, unless it is kept `whole`.
    """

    name: str
    parse: Callable[[str], Any]
    pattern: str
    write: Callable[[Any], str] = str
    bare: Literal["string", "integer", "boolean"] = "string"
    pair: bool = False
    whole: bool = False


DURATION = Unit("duration", parse_duration, r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+|0", format_duration)
SIZE = Unit(
    "size", parse_size, r"[0-9]+([KMGkmg]?[Bb]|[KMGkmg]([Ii][Bb]?)?)?", format_size, "integer"
)
COUNT = Unit("number", parse_count, r"-?[0-9]+", bare="integer")
SWITCH = Unit(
    "on or off",
    parse_switch,
    r"[Oo][Nn]|[Oo][Ff][Ff]|[Tt]rue|[Ff]alse|[Yy]es|[Nn]o",
    lambda value: "on" if value else "off",
    "boolean",
)
VIA = Unit(
    "both, request, response or off",
    parse_via,
    r"both|request|response|[Oo][Nn]|[Oo][Ff][Ff]|[Tt]rue|[Ff]alse|[Yy]es|[Nn]o",
    bare="boolean",
)
MODE = Unit("mode", parse_mode, r"0?[0-7]{3}", format_mode)
SHARE = Unit("share", parse_share, r"[0-9]{1,3}%", format_share)
TOKEN = Unit("name", parse_token, _TOKEN)
BIND = Unit("address", parse_bind, r"unix:/.+|systemd:[^:]+|[^*/]*:[0-9]+")
ORIGIN = Unit(
    "origin",
    parse_origin_line,
    r"[Hh][Tt][Tt][Pp][Ss]?://.+|unix:/.+|:?[0-9]+|[^/]*[^/0-9][^/]*:[0-9]+",
    write_origin_line,
    bare="integer",
)
BALANCE = Unit(
    "balance",
    parse_balance,
    r"least_requests|round_robin|hash: ?(client|(header|cookie): ?.+)",
    pair=True,
)
NETWORK = Unit("network", parse_network, r"unix|[0-9A-Fa-f.:]+(/[0-9]+)?")
HOST = Unit("host", parse_host, r"(\*\.)?[A-Za-z0-9_.-]+|\[.+\]")
PATH = Unit("path", parse_prefix, r"/[!-~]*")
TARGET = Unit("path", parse_target, r"/[!-~]*")
FILE = Unit("file", parse_file, r".*[^/]")
SERVER_NAME = Unit("host", parse_server_name, r"[A-Za-z0-9_.:\[\]-]+")
