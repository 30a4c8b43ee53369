"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).

These fields are replaced, since a client can write anything.  Only peers in `trusted_proxies` keep
theirs, and our own part is appended.

There are two families: X-Forwarded-* and Forwarded.  Applications read one or the other, so both
must say the same.  If a trusted proxy sent both, the one that the settings name first is believed.
If it sent one, the other is made from it (RFC 7239 section 7.4).
"""

from collections.abc import Sequence
from typing import Protocol

from hopproxy.errors import Denied
from hopproxy.message import VERSIONS, Field, Kind, RequestHead, list_of
from hopproxy.rules.chain import (
    MAX_CHAIN,
    NOTHING,
    Said,
    is_scheme,
    leftmost,
    said_by,
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

#: A request that has passed us this often is in a loop.  More than one, since two gateways in a row
#: may have the same pseudonym.
MAX_PASSES = 4

#: The families, as the settings name them.
X_FORWARDED, FORWARDED = "x-forwarded", "forwarded"
FAMILIES = (X_FORWARDED, FORWARDED)

#: Chains, and forms of chains, cached for each sender.
CHAINS, FORMS = 256, 64
#: Placeholder members of a form begin with this; no host has such an address.
_MARK = b"255.255.255."
#: Most bytes of fields in a cache entry.
MEMO_SIZE = 1024


class Network(Protocol):
    """A block of addresses."""

    def __contains__(self, peer: str) -> bool: ...


class Sender:
    """The peer of a client link, as the origin is told about it.

    `address` is its IP address, or empty for a Unix socket; `peer` is its name in logs.
    `proto` is the scheme of its requests.  `families` are the families that we write.
    `certificate` are the lines about its certificate.
    """

    __slots__ = (
        "_block", "_certificate", "_chains", "_families", "_forms", "_forwarded_first", "_host",
        "_networks", "_node", "address", "peer", "proto", "trusted",
    )  # fmt: skip

    def __init__(
        self,
        address: str,
        proto: bytes,
        networks: Sequence[Network],
        families: Sequence[str] = FAMILIES,
        certificate: bytes = b"",
    ) -> None:
        address = unmapped(address)
        self.address = address.encode("ascii", "replace")
        self.peer = self.address.decode() or "unix"
        self.proto = proto
        self.trusted = is_trusted(address, networks)
        self._networks = networks
        self._families = families
        self._certificate = certificate
        self._forwarded_first = list(families[:1]) == [FORWARDED]
        self._node = for_value(parse_node(self.address))
        self._host: bytes | None = None
        self._block = b""
        self._chains: dict[tuple[bytes, ...], tuple[bytes, str]] = {}
        self._forms: dict[tuple[int, tuple[bytes, ...]], bytes] = {}

    def block(self, head: RequestHead) -> bytes:
        """The forwarding lines for one request, each with its CRLF.

        Returns the same object for the same host, so that a cached head can be compared with `is`.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._read(head)[0]
        if head.host != self._host:
            self._host = head.host
            self._block = self._lines(NOTHING, head.host)
        return self._block

    def client(self, head: RequestHead) -> str:
        """The client that a trusted chain names, "" if none.

        It is the last address that is not a trusted proxy; anything before it may be forged.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._read(head)[1]
        return ""

    def scheme(self, head: RequestHead) -> bytes:
        """http or https, as the client used it, perhaps according to a trusted proxy."""
        fields = [f for f in head.special if f.kind is Kind.FORWARDING] if self.trusted else []
        if not fields:
            return self.proto
        said = said_by(fields, (self.proto, head.host), forwarded_first=self._forwarded_first)
        return leftmost(said.proto, is_scheme).lower() or self.proto

    def _read(self, head: RequestHead) -> tuple[bytes, str]:
        """(the lines, the client that is named), cached by the fields they are made from."""
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
        return self._lines(said, host), self._client_of(said.nodes)

    def _by_its_form(self, host: bytes, fields: list[Field]) -> tuple[bytes, str] | None:
        """As `_anew`, for a request that differs from an earlier one only in its chain's members.

        Nearly every request through a front proxy does.  None for other requests.
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
        """The lines for any chain of `count` members, as a format with a place for each.

        `rest` are the host and the other lines.  None if they are unusual.
        """
        form = self._forms.get((count, rest))
        if form is not None:
            return form
        told = (*rest, self.address, self._certificate)
        if sum(map(len, rest)) > MEMO_SIZE or any(_MARK in one for one in told):
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

    # -- writing -----------------------------------------------------------------------------

    def _lines(self, said: Said, host: bytes) -> bytes:
        """The lines of the families that we write, for a request to `host`."""
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
        return b"".join([line + b"\r\n" for line in lines]) + self._certificate

    def _elements(self, said: Said, host: bytes) -> list[Element]:
        """The elements of Forwarded: those received, and ours, with what they do not say.

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


def own_via(pseudonym: bytes) -> tuple[bytes, ...]:
    """Our Via line, indexed by the `minor` of the received message."""
    return tuple(b"Via: %b %b\r\n" % (version, pseudonym) for version in VERSIONS)


def via_line(head: RequestHead, own: tuple[bytes, ...], pseudonym: bytes) -> bytes:
    """The Via line with our entry after those already there.  Raises Denied (508) in a loop.

    `own` are the lines for a request without Via, by its minor version; if they are empty, we add
    no entry.
    """
    if not head.passed:
        return own[head.minor]
    passed = list(list_of(head.special_value(b"via") or b""))
    if sum(entry.split()[1:2] == [pseudonym] for entry in passed) >= MAX_PASSES:
        raise Denied("the request has passed here before", 508, "proxy_loop_detected")
    if own[head.minor]:
        passed.append(b"%b %b" % (VERSIONS[head.minor], pseudonym))
    return b"Via: %b\r\n" % b", ".join(passed) if passed else b""


def hops_left(head: RequestHead) -> int | None:
    """How often a TRACE or OPTIONS may still be forwarded; None if there is no limit.

    For other methods Max-Forwards is ignored (RFC 9110 section 7.6.2).
    """
    if head.method not in (b"OPTIONS", b"TRACE"):
        return None
    values = set(head.values(b"max-forwards"))
    if len(values) != 1:
        return None
    value = values.pop()
    return int(value) if value.isdigit() and len(value) < 10 else None
