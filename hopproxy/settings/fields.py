"""Names and values of fields, redirects and answers, as they are written in the settings."""

import re
from difflib import get_close_matches

from hopproxy.message import FIELD_LINE, Kind, kind_of
from hopproxy.rules.target import is_authority
from hopproxy.rules.template import VARIABLES, Template, UnknownVariable
from hopproxy.settings.amounts import Misread
from hopproxy.settings.words import HOST, Unit, parse_count, parse_host, parse_token

#: Forwarding fields that we write ourselves.
OWN_FORWARDING = frozenset(
    {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"}
)
_FRAMING = "hopproxy writes it again on each hop; leave it out"
#: Why a field cannot be changed, by its kind.
_UNTOUCHED = {
    Kind.HOST: "write `host` in the upstream: pass, origin or a name",
    Kind.LENGTH: _FRAMING,
    Kind.CODING: _FRAMING,
    Kind.CONNECTION: "it is about one hop; upgrades (WebSocket) and keep-alive work without it",
    Kind.HOP: "it is about one hop; upgrades (WebSocket) and keep-alive work without it",
    Kind.VIA: "`via` says which messages get it",
    Kind.EXPECT: "`continue_timeout` says how long an origin is waited for; leave it out",
    Kind.DATE: "hopproxy adds it if the origin sends none; leave it out",
}
_UNTOUCHED_NAMES = {"trailer": _FRAMING, "max-forwards": "hopproxy counts it down by itself"}
#: A URL with a host, or a path.
_REDIRECT = re.compile(
    r"(?:(?:https?|\{scheme\})://(?![/?#]|\{(?:path|query|request_id)\})|/(?![/\\]))[!-~]*"
)
#: A path that may begin with two slashes: a variable may be empty, and {path} begins with a slash.
_TWO_SLASHES = re.compile(r"/(?:\{(?:query|request_id)\})*(?:\{path\}|[/\\])")
#: Statuses of redirects (RFC 9110 section 15.4).
REDIRECTS = (301, 302, 303, 307, 308)


def parse_field_name(text: str) -> str:
    """The name of a field that may be set, added or removed.  Raises Misread."""
    name = text.removesuffix(":")
    if name != text:
        raise Misread(f"`{text}` ends with a colon", f"write {name}")
    parse_token(text)
    low = text.lower()
    hint = _untouched(low)
    if kind_of(low.encode()) is Kind.SHADOW:
        plain = text.replace("_", "-")
        hint = _untouched(plain.lower())
        if hint is None:
            raise Misread(f"applications may take `{text}` for `{plain}`", f"write {plain}")
    if hint is not None:
        raise Misread(f"`{text}` cannot be changed", hint)
    return text


def _untouched(name: str) -> str | None:
    """What to do instead of changing a field of this name; None if it may be changed."""
    if name in OWN_FORWARDING:
        return "`forwarding` and `trusted_proxies` say what the origin is told about the client"
    return _UNTOUCHED.get(kind_of(name.encode())) or _UNTOUCHED_NAMES.get(name)


def parse_field_value(text: str) -> str:
    """The value of a field, maybe with variables.  Raises Misread."""
    if not text.isascii() or FIELD_LINE.fullmatch(b"a:" + text.encode()) is None:
        hint = "write visible ASCII in one line; other text is percent-encoded"
        raise Misread("is not the value of a field", hint)
    _check_variables(text)
    return text.strip(" \t")


def parse_redirect(text: str) -> str:
    """`https`, a URL or a path, maybe with variables.  Raises Misread."""
    if text == "https":
        return text
    if text == "http" or not _REDIRECT.fullmatch(text):
        raise Misread(
            f"`{text}` is not a redirect",
            "write https, https://example.org{path}, or a path like /login",
        )
    host = re.match(r"[a-z{}]+://([^/?#]*)", re.sub(r"\{(?:path|query)\}", "/", text))
    if host is not None and not is_authority(re.sub(r"\{[a-z_]+\}", "x", host[1]).encode()):
        raise Misread(f"`{text}` has no valid host", "write a host, maybe with a port up to 65535")
    if _TWO_SLASHES.match(text):
        raise Misread(
            f"`{text}` can begin with two slashes, and what follows them is another host",
            "write one slash before the rest, such as /new{path}",
        )
    _check_variables(text)
    return text


def parse_redirect_status(text: str) -> int:
    """301, 302, 303, 307 or 308.  Raises Misread."""
    status = parse_count(text)
    if status not in REDIRECTS:
        hint = "301 and 308 are permanent, 302, 303 and 307 are not; 307 and 308 keep the method"
        raise Misread(f"`{text}` is not the status of a redirect", hint)
    return status


def parse_sent_host(text: str) -> str:
    """The Host to send to origins: a name, maybe with a port.  Raises Misread."""
    name, colon, port = text.rpartition(":")
    if "://" in text:
        raise Misread(f"`{text}` is a URL", f"write {text.partition('://')[2].partition('/')[0]}")
    if colon and port.isdecimal() and not name.startswith("["):
        parse_host(name)
    elif not text.startswith("["):
        parse_host(text)
    if text.startswith("*") or not is_authority(text.encode("utf-8")):
        raise Misread(f"`{text}` is not one host", "write pass, origin, or a name like app.example")
    return text


def parse_text(text: str) -> str:
    """Any text, such as a body."""
    return text


def _check_variables(text: str) -> None:
    try:
        Template(text)
    except UnknownVariable as unknown:
        close = get_close_matches(unknown.name, VARIABLES, n=1)
        known = ", ".join(f"{{{name}}}" for name in VARIABLES)
        hint = f"did you mean {{{close[0]}}}?" if close else f"there are {known}"
        hint += f" (write {{{{{unknown.name}}}}} for plain braces)" * (not close)
        raise Misread(f"`{{{unknown.name}}}` is not a variable", hint) from unknown


FIELD_NAME = Unit("field name", parse_field_name, r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
FIELD_VALUE = Unit("field value", parse_field_value, r"[\t -~]*")
REDIRECT = Unit("https, URL or path", parse_redirect, r"https|(https?:/|\{scheme\}:/)?/[!-~]*")
REDIRECT_STATUS = Unit(
    "301, 302, 303, 307 or 308", parse_redirect_status, r"30[12378]", bare="integer"
)
SENT_HOST = Unit("host", parse_sent_host, HOST.pattern.replace(r"(\*\.)?", "") + r"(:[0-9]+)?")
TEXT = Unit("text", parse_text, r"[\s\S]*", whole=True)
