"""What a trusted proxy says about a request, read from X-Forwarded-* and Forwarded.

One of the two families is believed, and the other is made from it (RFC 7239 section 7.4).  They are
never mixed, since a proxy that writes one may pass on the other as a client forged it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from hopproxy.message import Field, list_of
from hopproxy.rules.forwarded import (
    UNKNOWN,
    Element,
    Node,
    first_of,
    for_value,
    members,
    nodes_of,
    parse_elements,
    parse_node,
)
from hopproxy.rules.target import is_authority

#: Most members of a chain.  Those nearest to us are kept, because they can be trusted.
MAX_CHAIN = 64

_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
#: Fields that we write ourselves.
_WRITTEN = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
#: Fields passed on unchanged, unless Forwarded is believed instead.
_REPLACED = frozenset(
    {b"x-forwarded-port", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-real-ip"}
)


class Said(NamedTuple):
    """What a trusted proxy said about a request.

    `chain` are the members of X-Forwarded-For, the client's first, and `nodes` what they name.
    `elements` are the same as Forwarded; `others` are the lines of other fields to pass on.
    """

    chain: list[bytes]
    nodes: list[Node]
    proto: bytes
    host: bytes
    elements: list[Element]
    others: list[bytes]


NOTHING = Said([], [], b"", b"", [], [])


def value_of(fields: list[Field], name: bytes) -> bytes:
    """The values of all fields of this name as one list; empty if there is none."""
    return b", ".join([field.value for field in fields if field.name == name])


def said_by(fields: list[Field], own: tuple[bytes, bytes], *, forwarded_first: bool) -> Said:
    """What the fields of a trusted proxy say; `own` is (proto, host) as we see them.

    Forwarded is believed if it comes alone, or if `forwarded_first`; otherwise X-Forwarded-*.  If
    Forwarded is missing and X-Forwarded-For too, X-Real-IP names the client.
    """
    elements = _sound(_elements_of(value_of(fields, b"forwarded")))
    chain = members(value_of(fields, b"x-forwarded-for"))[-MAX_CHAIN:]
    proto, host = _proto(fields), value_of(fields, b"x-forwarded-host")
    real = parse_node(value_of(fields, b"x-real-ip"))
    if real.is_address and not chain and not elements:
        chain = [real.name]
    others = [field for field in fields if field.name not in _WRITTEN and field.value]
    if elements and (forwarded_first or not (chain or proto or host)):
        nodes = nodes_of(elements)
        if chain or proto or host:
            others = [field for field in others if field.name not in _REPLACED]
        elif nodes:
            others = [field for field in others if not _contradicts(field, nodes[0])]
        chain = [node.name for node in nodes]
        proto, host = first_of(elements, b"proto"), first_of(elements, b"host")
    else:
        nodes = [parse_node(member) for member in chain]
        if (
            [node.name for node in nodes_of(elements)] != [node.name for node in nodes]
            or not _agrees(first_of(elements, b"proto"), leftmost(proto, is_scheme), own[0])
            or not _agrees(first_of(elements, b"host"), leftmost(host, is_authority), own[1])
        ):
            elements = _made(nodes, proto, host)
    return Said(chain, nodes, proto, host, elements, [field.line for field in others])


def _contradicts(field: Field, client: Node) -> bool:
    return field.name == b"x-real-ip" and parse_node(field.value).name != client.name


def _agrees(in_forwarded: bytes, in_x: bytes, own: bytes) -> bool:
    """Whether the families agree.  What is missing in X-Forwarded-* is taken from us.

    What is missing in Forwarded agrees, since our own element says it.
    """
    return not in_forwarded or in_forwarded.lower() == (in_x or own).lower()


def _elements_of(value: bytes) -> list[Element]:
    """The elements of Forwarded; a malformed beginning becomes one element, `unknown`.

    Otherwise a client could hide the elements of our proxies by a malformed beginning.
    """
    elements = parse_elements(value)
    if elements is not None:
        return elements
    parts = value.rsplit(b",", MAX_CHAIN)
    for begin in range(1, len(parts)):
        elements = parse_elements(b",".join(parts[begin:]))
        if elements:
            return [{b"for": UNKNOWN.name}, *elements]
    return []


def _sound(elements: list[Element]) -> list[Element]:
    """The elements nearest to us, with nodes in our spelling and without malformed parts."""
    for element in elements:
        if not is_scheme(element.get(b"proto", b"")):
            element.pop(b"proto", None)
        if not is_authority(element.get(b"host", b"")):
            element.pop(b"host", None)
        for name in (b"for", b"by"):
            if name in element:
                element[name] = for_value(parse_node(element[name]))
    return elements[-MAX_CHAIN:]


def _made(nodes: list[Node], proto: bytes, host: bytes) -> list[Element]:
    """Elements for a chain of X-Forwarded-For (RFC 7239 section 7.4).

    A single proto goes into every element: whichever one an application reads must agree with
    X-Forwarded-Proto.  If there are as many as members, each member gets its own.  Same for host.
    """
    elements: list[Element] = [{b"for": for_value(node)} for node in nodes]
    for name, value, is_sound in ((b"host", host, is_authority), (b"proto", proto, is_scheme)):
        values = list(list_of(value))
        if len(values) != len(elements) or not all(map(is_sound, values)):
            values = [leftmost(value, is_sound)] * len(elements)
        for element, one in zip(elements, values, strict=True):
            if one:
                element[name] = one
    return elements


def _proto(fields: list[Field]) -> bytes:
    """The value of X-Forwarded-Proto, or of the fields that some proxies write instead."""
    proto = value_of(fields, b"x-forwarded-proto") or value_of(fields, b"x-forwarded-scheme")
    ssl = value_of(fields, b"x-forwarded-ssl").lower() == b"on"
    return proto or (b"https" if ssl else b"")


def leftmost(value: bytes, is_sound: Callable[[bytes], bool]) -> bytes:
    """The first member, which is about the client; empty if it is malformed."""
    first = next(list_of(value), b"")
    return first if is_sound(first) else b""


def is_scheme(value: bytes) -> bool:
    """Whether it is a scheme name (RFC 3986 section 3.1)."""
    return _SCHEME.fullmatch(value) is not None
