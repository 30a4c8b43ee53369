"""Who is asking: X-Forwarded-*, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3).

What a client says about itself is worth nothing, what a trusted proxy in front of us says is the
truth as it saw it.  So these fields are replaced for everybody, and appended to for peers that the
settings name in `trusted_proxies`.
"""

from collections.abc import Sequence
from typing import Protocol

from hopproxy.errors import Denied
from hopproxy.message import Kind, RequestHead, list_of

#: A request that has passed us this often is going round in circles.  More than one, since two
#: gateways in a row may well bear the same pseudonym.
MAX_PASSES = 4


class Network(Protocol):
    """A block of addresses."""

    def __contains__(self, peer: str) -> bool: ...


class Sender:
    """The peer of one client link, as the upstream is told of it.

    `address` is an IP address in text, or empty for a peer without one (a Unix socket); `peer` is
    how it is called in what people read.
    """

    __slots__ = ("_block", "_host", "address", "node", "peer", "proto", "trusted")

    def __init__(self, address: str, proto: bytes, trusted: Sequence[Network]) -> None:
        self.address = address.encode("ascii", "replace")
        self.peer = self.address.decode() or "unix"
        self.proto = proto
        self.trusted = is_trusted(address, trusted)
        self.node = _node(address)
        self._host: bytes | None = None
        self._block = b""

    def block(self, head: RequestHead) -> bytes:
        """The forwarding lines for one request, each with its CRLF.

        The same object again for the same host, so that what is built on it can be kept.
        """
        if self.trusted and any(f.kind is Kind.FORWARDING for f in head.special):
            return self._appended(head)
        if head.host != self._host:
            self._host = head.host
            self._block = self._lines(
                [self.address], [self.proto], [head.host], [self._element(head.host)]
            )
        return self._block

    def _appended(self, head: RequestHead) -> bytes:
        said = head.special_value
        chain = [v for v in (said(b"x-forwarded-for"), self.address) if v]
        elements = [v for v in (said(b"forwarded"), self._element(head.host)) if v]
        block = self._lines(
            chain,
            [said(b"x-forwarded-proto") or self.proto],
            [said(b"x-forwarded-host") or head.host],
            elements,
        )
        for name, label in (
            (b"x-forwarded-port", b"X-Forwarded-Port"),
            (b"x-real-ip", b"X-Real-IP"),
        ):
            value = said(name)
            if value:
                block += label + b": " + value + b"\r\n"
        return block

    def _element(self, host: bytes) -> bytes:
        element = b"for=" + self.node
        if host:
            element += b";host=" + _quoted(host)
        return element + b";proto=" + self.proto

    @staticmethod
    def _lines(
        chain: list[bytes], protos: list[bytes], hosts: list[bytes], elements: list[bytes]
    ) -> bytes:
        block = b""
        for name, values in (
            (b"X-Forwarded-For: ", chain),
            (b"X-Forwarded-Proto: ", protos),
            (b"X-Forwarded-Host: ", hosts),
            (b"Forwarded: ", elements),
        ):
            value = b", ".join(values)
            if value:
                block += name + value + b"\r\n"
        return block


def is_trusted(address: str, networks: Sequence[Network]) -> bool:
    """Whether the peer is one of the proxies that the settings trust."""
    return bool(address) and any(address in network for network in networks)


def via_line(head: RequestHead, own: tuple[bytes, bytes], pseudonym: bytes) -> bytes:
    """Our Via line behind those already there, with its CRLF.  Raises Denied (508) in a loop.

    `own` are the lines for a request that has passed nobody, by its minor version.
    """
    if not head.passed:
        return own[head.minor]
    passed = list(list_of(head.special_value(b"via") or b""))
    if sum(entry.split()[1:2] == [pseudonym] for entry in passed) >= MAX_PASSES:
        raise Denied("the request has passed here before", 508, "proxy_loop_detected")
    passed.append(b"1.%d %b" % (head.minor, pseudonym))
    return b"Via: %b\r\n" % b", ".join(passed)


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


def _node(address: str) -> bytes:
    """A node of RFC 7239 section 6: IPv6 in brackets and quotes, `unknown` without an address."""
    if not address:
        return b"unknown"
    if ":" in address:
        return b'"[' + address.encode() + b']"'
    return address.encode()


def _quoted(value: bytes) -> bytes:
    """A token as it is, anything else as a quoted-string (RFC 7239 section 4)."""
    if value.replace(b".", b"").replace(b"-", b"").isalnum():
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
