"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).

What a client says about itself is worth nothing, what a trusted proxy in front of us says is the
truth as it saw it.  So these fields are replaced for everybody, and appended to for peers that the
settings name in `trusted_proxies`.

There are two families: X-Forwarded-* and Forwarded.  Applications read one or the other, so both
must say the same.  Where a trusted proxy sent both, the one that the settings name first is
believed; where it sent one, the other is made from it (RFC 7239 section 7.4).
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from hopproxy.errors import Denied
from hopproxy.message import Kind, RequestHead, list_of
from hopproxy.rules.forwarded import (
    Element,
    Node,
    element_text,
    first_of,
    for_value,
    members,
    nodes_of,
    parse_elements,
    parse_node,
)
from hopproxy.rules.target import is_authority
from hopproxy.settings.units import unmapped

#: A request that has passed us this often is going round in circles.  More than one, since two
#: gateways in a row may well bear the same pseudonym.
MAX_PASSES = 4

#: The families, as the settings name them; the first of them is believed.
X_FORWARDED, FORWARDED = "x-forwarded", "forwarded"
FAMILIES = (X_FORWARDED, FORWARDED)

#: Chains that are remembered for each sender.
CHAINS = 256
#: Of a longer chain the members nearest to us are kept: they are the ones to be trusted.
MAX_CHAIN = 64
#: Bytes of fields that are remembered.
MEMO_SIZE = 1024

_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
#: Fields that are written anew.
_WRITTEN = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
#: Fields that pass as they came, unless the sender's Forwarded is believed in their stead.
_REPLACED = frozenset(
    {b"x-forwarded-port", b"x-forwarded-scheme", b"x-forwarded-ssl", b"x-real-ip"}
)


class Network(Protocol):
    """A block of addresses."""

    def __contains__(self, peer: str) -> bool: ...


class Said(NamedTuple):
    """What a trusted proxy said of a request.

    `chain` are the members of X-Forwarded-For, the client's first, and `nodes` what they name.
    `elements` are the same as Forwarded; `others` are the lines of other fields that pass on.
    """

    chain: list[bytes]
    nodes: list[Node]
    proto: bytes
    host: bytes
    elements: list[Element]
    others: list[bytes]


_NOTHING = Said([], [], b"", b"", [], [])


class Sender:
    """The peer of one client link, as the upstream is told of it.

    `address` is an IP address in text, or empty for a peer without one (a Unix socket); `peer` is
    how it is called in what people read.  `families` are those that are written.
    """

    __slots__ = (
        "_block", "_chains", "_families", "_forwarded_first", "_host", "_networks", "_node",
        "address", "peer", "proto", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        address: str,
        proto: bytes,
        networks: Sequence[Network],
        families: Sequence[str] = FAMILIES,
    ) -> None:
        address = unmapped(address)
        self.address = address.encode("ascii", "replace")
        self.peer = self.address.decode() or "unix"
        self.proto = proto
        self.trusted = is_trusted(address, networks)
        self._networks = networks
        self._families = families
        self._forwarded_first = list(families[:1]) == [FORWARDED]
        self._node = for_value(parse_node(self.address))
        self._host: bytes | None = None
        self._block = b""
        self._chains: dict[tuple[bytes, ...], tuple[bytes, str]] = {}

    def block(self, head: RequestHead) -> bytes:
        """The forwarding lines for one request, each with its CRLF.

        The same object again for the same host, so that what is built on it can be kept.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._read(head)[0]
        if head.host != self._host:
            self._host = head.host
            self._block = self._lines(_NOTHING, head.host)
        return self._block

    def client(self, head: RequestHead) -> str:
        """The client that a trusted chain names; empty where none does.

        It is the last address that is no trusted proxy: anybody may have written what stands
        before it.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._read(head)[1]
        return ""

    def _read(self, head: RequestHead) -> tuple[bytes, str]:
        """(the lines, the client that is named), remembered by the fields they follow from."""
        key = (head.host, *[f.line for f in head.special if f.kind is Kind.FORWARDING])
        found = self._chains.get(key)
        if found is None:
            said = said_by(head, (self.proto, head.host), forwarded_first=self._forwarded_first)
            real_ip = parse_node(head.special_value(b"x-real-ip") or b"")
            nodes = said.nodes or [real_ip] * real_ip.is_address
            found = self._lines(said, head.host), self._client_of(nodes)
            if sum(map(len, key)) <= MEMO_SIZE:
                if len(self._chains) >= CHAINS:
                    self._chains.clear()
                self._chains[key] = found
        return found

    def _client_of(self, nodes: list[Node]) -> str:
        for node in reversed(nodes):
            if not node.is_address or not is_trusted(node.name.decode(), self._networks):
                return node.name.decode()
        return nodes[0].name.decode() if nodes else ""

    # -- what is written ---------------------------------------------------------------------

    def _lines(self, said: Said, host: bytes) -> bytes:
        """The lines of the families that are written, for a request to `host`."""
        lines: list[bytes] = []
        if X_FORWARDED in self._families:
            chain = [*said.chain, self.address] if self.address else said.chain
            for name, value in (
                (b"X-Forwarded-For: ", b", ".join(chain)),
                (b"X-Forwarded-Proto: ", said.proto or self.proto),
                (b"X-Forwarded-Host: ", said.host or host),
            ):
                if value:
                    lines.append(name + value)
        if FORWARDED in self._families:
            elements = [*said.elements, self._own_element(said, host)]
            texts = [element_text(element) for element in elements if element]
            lines.append(b"Forwarded: " + b", ".join(texts))
        if X_FORWARDED in self._families:
            lines += said.others
        return b"".join([line + b"\r\n" for line in lines])

    def _own_element(self, said: Said, host: bytes) -> Element:
        """What we add: whom we heard it from, and what no element before it says."""
        element: Element = {}
        if self.address or not said.elements:
            element[b"for"] = self._node
        for name, value in (
            (b"host", _leftmost(said.host, is_authority) if said.host else host),
            (b"proto", _leftmost(said.proto, _is_scheme) if said.proto else self.proto),
        ):
            if value and not first_of(said.elements, name):
                element[name] = value
        return element


def said_by(head: RequestHead, own: tuple[bytes, bytes], *, forwarded_first: bool) -> Said:
    """What the fields of a trusted proxy say; `own` are (proto, host) as we would say them.

    Forwarded is believed where it comes alone or `forwarded_first`, else X-Forwarded-*.  The two
    are never mixed: a proxy that writes one of them may pass on the other as a client forged it.
    """
    value = head.special_value
    elements = _sound(parse_elements(value(b"forwarded") or b"") or [])
    chain = members(value(b"x-forwarded-for") or b"")[-MAX_CHAIN:]
    proto, host = _proto(value), value(b"x-forwarded-host") or b""
    others = [
        field
        for field in head.special
        if field.kind is Kind.FORWARDING and field.name not in _WRITTEN and field.value
    ]
    if elements and (forwarded_first or not (chain or proto or host)):
        nodes = nodes_of(elements)
        if chain or proto or host:
            others = [field for field in others if field.name not in _REPLACED]
        chain = [node.name for node in nodes]
        proto, host = first_of(elements, b"proto"), first_of(elements, b"host")
    else:
        nodes = [parse_node(member) for member in chain]
        if (
            [node.name for node in nodes_of(elements)] != [node.name for node in nodes]
            or not _agrees(first_of(elements, b"proto"), _leftmost(proto, _is_scheme), own[0])
            or not _agrees(first_of(elements, b"host"), _leftmost(host, is_authority), own[1])
        ):
            elements = _made(nodes, proto, host)
    return Said(chain, nodes, proto, host, elements, [field.line for field in others])


def _agrees(in_forwarded: bytes, in_x: bytes, own: bytes) -> bool:
    """Whether the families say the same; where X-Forwarded-* says nothing, we do."""
    if in_x:
        return in_forwarded.lower() == in_x.lower()
    return not in_forwarded or in_forwarded.lower() == own.lower()


def _sound(elements: list[Element]) -> list[Element]:
    """The elements nearest to us, their nodes as we write them, without what is malformed."""
    for element in elements:
        if not _is_scheme(element.get(b"proto", b"")):
            element.pop(b"proto", None)
        if not is_authority(element.get(b"host", b"")):
            element.pop(b"host", None)
        for name in (b"for", b"by"):
            if name in element:
                element[name] = for_value(parse_node(element[name]))
    return elements[-MAX_CHAIN:]


def _made(nodes: list[Node], proto: bytes, host: bytes) -> list[Element]:
    """Elements for a chain of X-Forwarded-For (RFC 7239 section 7.4).

    One proto is that of the whole chain, since whichever element an application reads must say the
    same as X-Forwarded-Proto does; as many as there are members are one for each.  So with host.
    """
    elements: list[Element] = [{b"for": for_value(node)} for node in nodes]
    for name, value, is_sound in ((b"host", host, is_authority), (b"proto", proto, _is_scheme)):
        values = list(list_of(value))
        if len(values) != len(elements) or not all(map(is_sound, values)):
            values = [_leftmost(value, is_sound)] * len(elements)
        for element, one in zip(elements, values, strict=True):
            if one:
                element[name] = one
    return elements


def _proto(value: Callable[[bytes], bytes | None]) -> bytes:
    """What X-Forwarded-Proto says, or those that others write in its place."""
    proto = value(b"x-forwarded-proto") or value(b"x-forwarded-scheme") or b""
    return proto or (b"https" if (value(b"x-forwarded-ssl") or b"").lower() == b"on" else b"")


def _leftmost(value: bytes, is_sound: Callable[[bytes], bool]) -> bytes:
    """The first member, which speaks of the client; empty when it is malformed."""
    first = next(list_of(value), b"")
    return first if is_sound(first) else b""


def _is_scheme(value: bytes) -> bool:
    return _SCHEME.fullmatch(value) is not None


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    """Whether the peer is one of the proxies that the settings trust."""
    return any(address in network for network in networks)


def via_line(head: RequestHead, own: tuple[bytes, bytes], pseudonym: bytes) -> bytes:
    """Our Via line behind those already there, with its CRLF.  Raises Denied (508) in a loop.

    `own` are the lines for a request that has passed nobody, by its minor version; where they are
    empty we add nothing to what others wrote.
    """
    if not head.passed:
        return own[head.minor]
    passed = list(list_of(head.special_value(b"via") or b""))
    if sum(entry.split()[1:2] == [pseudonym] for entry in passed) >= MAX_PASSES:
        raise Denied("the request has passed here before", 508, "proxy_loop_detected")
    if own[head.minor]:
        passed.append(b"1.%d %b" % (head.minor, pseudonym))
    return b"Via: %b\r\n" % b", ".join(passed) if passed else b""


def hops_left(head: RequestHead) -> int | None:
    """How often a TRACE or OPTIONS may still be forwarded; None where nothing bounds it.

    On other methods Max-Forwards has no meaning (RFC 9110 section 7.6.2).
    """
    if head.method not in (b"OPTIONS", b"TRACE"):
        return None
    values = head.values(b"max-forwards")
    if len(values) != 1 or not values[0].isdigit() or len(values[0]) > 9:
        return None
    return int(values[0])
