"""The syntax of Forwarded (RFC 7239) and X-Forwarded-For: elements and nodes.

Some senders leave out quotes (`for=[::1]`, `for=192.0.2.1:80`); this is read, but never written.
"""

import re
from ipaddress import ip_address
from typing import NamedTuple

from hopproxy.message import list_of
from hopproxy.settings.units import unmapped

#: One parameter, which may be empty, and the separator after it.
_PARAMETER = re.compile(
    rb"[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb'("(?:[^"\\]|\\.)*"|[^ \t";,=]+))?[ \t]*([;,]|\Z)'
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_NODE = re.compile(
    rb"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5}|_[A-Za-z0-9._-]+)|\[([^\]]+)\]|([^\[\]]+)"
)
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rb"%b\.%b\.%b\.%b" % (_OCTET, _OCTET, _OCTET, _OCTET))
_OBFUSCATED = re.compile(rb"_[A-Za-z0-9._-]+")

#: One proxy's part of a Forwarded field: its parameters by name (lower case), without quotes.
Element = dict[bytes, bytes]


class Node(NamedTuple):
    """A machine on the way: an address, `unknown` or `_obfuscated`; its port, if known."""

    name: bytes
    port: bytes = b""

    @property
    def is_address(self) -> bool:
        """Whether it names an address."""
        return self.name != b"unknown" and not self.name.startswith(b"_")


UNKNOWN = Node(b"unknown")


def parse_node(text: bytes) -> Node:
    """The node that a member of X-Forwarded-For, or a `for=`, names.

    An invalid one becomes `unknown`.  Leaving it out would shift the members before it.
    """
    text = text.strip(b" \t")
    if _IPV4.fullmatch(text):  # nearly all of them
        return Node(text)
    match = _NODE.fullmatch(text)
    if match is None:
        return UNKNOWN
    inside, host, port, inside_alone, alone = match.groups(b"")
    bracketed = inside or inside_alone
    name = (bracketed or host or alone).partition(b"%")[0]
    if not bracketed and _OBFUSCATED.fullmatch(name):
        return Node(name, port)
    try:
        address = ip_address(name.decode("ascii"))
    except ValueError:  # not ASCII, or no address
        return UNKNOWN
    if address.version == 4 and bracketed:
        return UNKNOWN
    return Node(unmapped(str(address)).encode(), port)


def for_value(node: Node) -> bytes:
    """The value of `for=` before it is quoted: IPv6 in brackets (RFC 7239 section 6)."""
    name = b"[%b]" % node.name if b":" in node.name else node.name
    return name + b":" + node.port if node.port else name


def text_of(node: Node) -> bytes:
    """The value of `for=`, quoted if needed."""
    return _quoted(for_value(node))


def members(value: bytes) -> list[bytes]:
    """The members of X-Forwarded-For unchanged, except ::ffff:192.0.2.1 as 192.0.2.1."""
    return [_plain(one) if b":ffff:" in one.lower() else one for one in list_of(value)]


def _plain(member: bytes) -> bytes:
    node = parse_node(member)
    if b"." not in node.name or not node.is_address:
        return member
    return node.name + b":" + node.port if node.port else node.name


def parse_elements(value: bytes) -> list[Element] | None:
    """The elements of a Forwarded field without empty ones; None if it is malformed."""
    elements: list[Element] = []
    element: Element = {}
    at = 0
    while True:
        match = _PARAMETER.match(value, at)
        if match is None:
            return None
        name, raw, mark = match.groups()
        if name is not None:
            name = name.lower()
            if name in element:
                return None
            element[name] = _ESCAPED.sub(rb"\1", raw[1:-1]) if raw[:1] == b'"' else raw
        if mark != b";" and element:
            elements.append(element)
            element = {}
        if not mark:
            return elements
        at = match.end()


def element_text(element: Element) -> bytes:
    """One element, with values quoted if needed."""
    return b";".join([name + b"=" + _quoted(value) for name, value in element.items()])


def first_of(elements: list[Element], name: bytes) -> bytes:
    """The value in the first element (the client's side) that has one; else empty."""
    return next((element[name] for element in elements if name in element), b"")


def nodes_of(elements: list[Element]) -> list[Node]:
    """The nodes of the elements.  One without `for` is `unknown`; leading ones are left out."""
    nodes: list[Node] = []
    for element in elements:
        if b"for" in element:
            nodes.append(parse_node(element[b"for"]))
        elif nodes:
            nodes.append(UNKNOWN)
    return nodes


def _quoted(value: bytes) -> bytes:
    """A token as it is, anything else as a quoted-string (RFC 9110 section 5.6.4)."""
    if _TOKEN.fullmatch(value):
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
