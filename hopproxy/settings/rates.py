"""How limits of routes are written: rates such as `100/s`, and what is counted.

Invalid text raises `Misread`.
"""

import re
from decimal import Decimal

from hopproxy.settings.amounts import Misread
from hopproxy.settings.words import Unit, parse_token

_PER = {"s": 1, "m": 60, "h": 3600}
_RATE = re.compile(r"([0-9]{1,9})/(s|m|h)")
_SPELT_OUT = re.compile(r"([0-9]{1,9}) *(?:r?/|per) *(s|m|h)[a-z]*", re.IGNORECASE)


def parse_rate(text: str) -> float:
    """Requests a second of `100/s`, `600/m` or `1000/h`.  Raises Misread."""
    found = _RATE.fullmatch(text)
    if found is None:
        hint = "write it like 100/s, 600/m or 1000/h"
        if (spelt := _SPELT_OUT.fullmatch(text)) is not None:
            hint = f"write {spelt[1]}/{spelt[2].lower()}"
        elif text.isdecimal():
            hint = f"write {text}/s, {text}/m or {text}/h"
        raise Misread(f"`{text}` is not a rate", hint)
    if not int(found[1]):
        raise Misread(f"`{text}` lets nothing pass", "write a route with respond: to refuse all")
    return int(found[1]) / _PER[found[2]]


def format_rate(rate: float) -> str:
    """As `parse_rate` reads it."""
    exact = Decimal(repr(rate))
    for unit in ("s", "m"):
        count = exact * _PER[unit]
        if count == count.to_integral_value():
            return f"{round(count)}/{unit}"
    return f"{round(exact * _PER['h'])}/h"


def parse_by(text: str) -> str:
    """`client`, `all` or `header:NAME`, the name in lower case.  Raises Misread."""
    if text in ("client", "all"):
        return text
    kind, colon, name = text.partition(":")
    if kind == "header" and colon:
        return f"header:{parse_token(name).lower()}"
    raise Misread(f"`{text}` is not client, all or header:NAME", "write one of these")


RATE = Unit("rate", parse_rate, r"[0-9]+/(s|m|h)", format_rate)
BY = Unit("client, all or header:NAME", parse_by, r"client|all|header:.+")
