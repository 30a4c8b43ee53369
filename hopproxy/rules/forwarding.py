"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).

What a client says about itself is worth nothing, what a trusted proxy in front of us says is the
truth as it saw it.  So these fields are replaced for everybody, and appended to for peers that the
settings name in `trusted_proxies`.

There are two families: X-Forwarded-* and Forwarded.  Applications read one or the other, so both
must say the same.  Where a trusted proxy sent both, the one that the settings name first is
believed; where it sent one, the other is made from it (RFC 7239 section 7.4).
"""

from collections.abc import Sequence
from typing import Protocol

from hopproxy.errors import Denied
from hopproxy.message import Field, Kind, RequestHead, list_of
from hopproxy.rules.chain import (
    MAX_CHAIN,
    NOTHING,
    Said,
    is_scheme,
    leftmost,
    said_by,
    value_of,
)
from hopproxy.rules.forwarded import (
    Element,
    Node,
    element_text,
    first_of,
    for_value,
    members,
    parse_node,
    text_of,
)
from hopproxy.rules.target import is_authority
from hopproxy.settings.units import unmapped

#: A request that has passed us this often is going round in circles.  More than one, since two
#: gateways in a row may well bear the same pseudonym.
MAX_PASSES = 4

#: The families, as the settings name them; the first of them is believed.
X_FORWARDED, FORWARDED = "x-forwarded", "forwarded"
FAMILIES = (X_FORWARDED, FORWARDED)

#: Chains, and forms of chains, that are remembered for each sender.
CHAINS, FORMS = 256, 64
#: What the members of a form begin with: nobody has such an address.
_MARK = b"255.255.255."
#: Bytes of fields that are remembered.
MEMO_SIZE = 1024


class Network(Protocol):
    """A block of addresses."""

    def __contains__(self, peer: str) -> bool: ...


class Sender:
    """The peer of one client link, as the upstream is told of it.

    `address` is an IP address in text, or empty for a peer without one (a Unix socket); `peer` is
    how it is called in what people read.  `families` are those that are written.
    """

    __slots__ = (
        "_block", "_chains", "_families", "_forms", "_forwarded_first", "_host", "_networks",
        "_node", "address", "peer", "proto", "trusted",
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
        self._forms: dict[tuple[int, tuple[bytes, ...]], bytes] = {}

    def block(self, head: RequestHead) -> bytes:
        """The forwarding lines for one request, each with its CRLF.

        The same object again for the same host, so that what is built on it can be kept.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._read(head)[0]
        if head.host != self._host:
            self._host = head.host
            self._block = self._lines(NOTHING, head.host)
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
        fields = [f for f in head.special if f.kind is Kind.FORWARDING]
        key = (head.host, *[f.line for f in fields])
        found = self._chains.get(key)
        if found is None:
            found = self._by_its_form(head.host, fields) or self._anew(head.host, fields)
            if sum(map(len, key)) <= MEMO_SIZE:
                if len(self._chains) >= CHAINS:
                    self._chains.clear()
                self._chains[key] = found
        return found

    def _anew(self, host: bytes, fields: list[Field]) -> tuple[bytes, str]:
        said = said_by(fields, (self.proto, host), forwarded_first=self._forwarded_first)
        nodes = said.nodes
        if not nodes:
            real_ip = parse_node(value_of(fields, b"x-real-ip"))
            nodes = [real_ip] * real_ip.is_address
        return self._lines(said, host), self._client_of(nodes)

    def _by_its_form(self, host: bytes, fields: list[Field]) -> tuple[bytes, str] | None:
        """As `_anew`, for what differs from an earlier request in the members of its chain alone.

        That is nearly every request through a front with many clients.  None for other requests.
        """
        key = [host]
        values = []
        for field in fields:
            if field.name == b"x-forwarded-for":
                values.append(field.value)
            elif field.name == b"forwarded":
                return None
            else:
                key.append(field.line)
        chain = members(b", ".join(values))[-MAX_CHAIN:]
        form = self._form(tuple(key), len(chain), fields) if chain else None
        if form is None:
            return None
        nodes = [parse_node(member) for member in chain]
        told: list[bytes] = []
        if X_FORWARDED in self._families:
            told += chain
        if FORWARDED in self._families:
            told += [text_of(node) for node in nodes]
        return form % tuple(told), self._client_of(nodes)

    def _form(self, rest: tuple[bytes, ...], count: int, fields: list[Field]) -> bytes | None:
        """The lines for any chain of so many members: a format of bytes, with their places.

        `rest` are the host and the lines that are no members.  None where they are unusual.
        """
        form = self._forms.get((count, rest))
        if form is not None:
            return form
        if sum(map(len, rest)) > MEMO_SIZE or any(_MARK in one for one in rest):
            return None
        marks = [b"%b%d" % (_MARK, 100 + n) for n in range(count)]
        chain = Field(b"", b"x-forwarded-for", b", ".join(marks), Kind.FORWARDING)
        others = [field for field in fields if field.name != chain.name]
        form = self._anew(rest[0], [chain, *others])[0].replace(b"%", b"%%")
        for mark in marks:
            form = form.replace(mark, b"%b")
        if len(self._forms) >= FORMS:
            self._forms.clear()
        self._forms[count, rest] = form
        return form

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
            texts = [element_text(element) for element in self._elements(said, host)]
            lines.append(b"Forwarded: " + b", ".join(texts))
        if X_FORWARDED in self._families:
            lines += said.others
        return b"".join([line + b"\r\n" for line in lines])

    def _elements(self, said: Said, host: bytes) -> list[Element]:
        """Forwarded, with whom we heard it from, and what no element before it says.

        A peer without an address adds no member to X-Forwarded-For, and so no element here.
        """
        own: Element = {}
        for name, value in (
            (b"host", leftmost(said.host, is_authority) if said.host else host),
            (b"proto", leftmost(said.proto, is_scheme) if said.proto else self.proto),
        ):
            if value and not first_of(said.elements, name):
                own[name] = value
        if self.address or not said.elements:
            return [*said.elements, {b"for": self._node} | own]
        return [*said.elements[:-1], said.elements[-1] | own]


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
    values = set(head.values(b"max-forwards"))
    if len(values) != 1:
        return None
    value = values.pop()
    return int(value) if value.isdigit() and len(value) < 10 else None
