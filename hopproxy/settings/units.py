"""Addresses of listeners, origins and networks: what they are and how they are written.

Invalid text raises `Misread`, which says what would be valid.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from hopproxy.settings.amounts import Misread

#: The schemes of origins, and the port of each.
PORTS = {"http": 80, "https": 443, "h2c": 80}

#: The longest path of a Unix socket on Linux (108 bytes with the final zero).
MAX_SOCKET_PATH = 107

#: The name of the block that holds all peers of Unix sockets.
UNIX = "unix"
#: The bytes before the IPv4 address in ::ffff:192.0.2.1.
MAPPED = bytes(10) + b"\xff\xff"

_BIND_FORMS = "host:port, :port, [address]:port or unix:/path"
#: Words that people write to turn a listener on or off; they are not hosts.
SWITCHES = frozenset({"on", "off", "true", "false", "yes", "no", "none"})
_IPV4 = re.compile(r"\.".join([r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"] * 4))
_AUTHORITY = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([^:]*))?")
_TWO_NUMBERS = re.compile(r"[0-9]+:[0-9]+")
# Hostnames have no underscores, but container platforms use them in service names.
NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class Bind:
    """Where a listener listens: a TCP host and port, or a Unix socket's path.

    Port 0 means any free port; an empty host means every address, IPv4 and IPv6.  A `passed` socket
    was opened by whoever started this process: its path is `fd:3` or `systemd:NAME`, and `port`
    tells sockets of one name apart.
    """

    kind: Literal["tcp", "unix", "passed"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "passed":
            return f"{self.path}#{self.port + 1}" if self.port else self.path
        return f"unix:{self.path}" if self.kind == "unix" else authority(self.host, self.port)


@dataclass(frozen=True, slots=True)
class OriginAddress:
    """The address of an origin: a scheme with a TCP host and port, or a Unix socket's path.

    `https` means TLS, `h2c` HTTP/2 without TLS, `http` HTTP/1.1 (or HTTP/2, by the settings).
    `srv` is a name whose SRV records say where its origins are.  `weight` is its share of the
    requests; a lower `priority` is used first.  `name` is the name that this address was found by.
    These three do not make it another address.  A name that ends with a dot is looked up unchanged.
    """

    kind: Literal["tcp", "unix", "srv"]
    host: str = ""
    port: int = 0
    path: str = ""
    scheme: str = "http"
    weight: int = field(default=1, compare=False)
    priority: int = field(default=0, compare=False)
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        if self.kind == "srv":
            return f"srv{'' if self.scheme == 'http' else '+' + self.scheme}://{self.host}"
        return f"{self.scheme}://{authority(self.host, self.port)}"

    @property
    def authority(self) -> str:
        """Host and port for Host, without a default port; a Unix socket is `localhost`."""
        if self.kind == "unix":
            return "localhost"
        default = ":443" if self.scheme == "https" else ":80"
        return authority(self.server_name, self.port).removesuffix(default)

    @property
    def server_name(self) -> str:
        """The host as Host and TLS name it: without a dot at the end (RFC 6066 section 3)."""
        return (self.name or self.host).removesuffix(".") or "localhost"

    @property
    def place(self) -> str:
        """The host and the port, without the scheme."""
        return authority(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Network:
    """A block of addresses from `first` to `last`, for `"192.0.2.1" in network`.

    The block `unix` holds the peers of Unix sockets, whose address is empty.
    """

    cidr: str
    first: bytes
    last: bytes

    def __contains__(self, peer: str) -> bool:
        """Whether `peer`, an address as text, is in the block."""
        packed = packed_address(peer)
        if packed is None:
            return not peer and self.cidr == UNIX
        return len(packed) == len(self.first) and self.first <= packed <= self.last

    def __str__(self) -> str:
        return self.cidr


@lru_cache(1024)
def packed_address(address: str) -> bytes | None:
    """The bytes of an address, None for any other text."""
    octets = _IPV4.fullmatch(address)
    if octets is not None:  # ipaddress takes ten times as long
        return bytes(map(int, octets.groups()))
    try:
        return ip_address(unmapped(address)).packed
    except ValueError:
        return None


def unmapped(address: str) -> str:
    """Turn ::ffff:192.0.2.1, as dual-stack sockets show IPv4, into 192.0.2.1.

    RFC 4291 section 2.5.5.2.  Other text is unchanged.
    """
    if not address.lower().startswith("::ffff:") or "%" in address:
        return address
    try:
        mapped = IPv6Address(address).ipv4_mapped
    except ValueError:
        return address
    return str(mapped or address)


def authority(host: str, port: int) -> str:
    """`host:port`, with the brackets that an IPv6 address needs (RFC 3986 section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(512)
def address_and_port(peer: str) -> tuple[str, int]:
    """`::1` and 52100 from `[::1]:52100`, the reverse of `authority`; port 0 if there is none."""
    address, _, port = peer.rpartition(":")
    if not port.isdecimal() or not address:
        return peer, 0
    return address.strip("[]"), int(port)


def parse_bind(text: str) -> Bind:
    """`host:port`, `[::]:port`, `:port` (every address), `unix:/path`, `fd:3` or `systemd:NAME`.

    Raises Misread.
    """
    if text.startswith("unix:"):
        return Bind("unix", path=_socket_path(text))
    if text.startswith(("fd:", "systemd:")):
        return Bind("passed", path=_passed(text))
    if text.isdecimal():
        hint = f"write :{text} for every address, or 127.0.0.1:{text} for this machine alone"
        raise Misread(f"`{text}` is a port without a host", hint)
    if _TWO_NUMBERS.fullmatch(text):
        raise Misread(
            f"`{text}` is two numbers, not host:port",
            f"ports are not mapped here; write 127.0.0.1:{text.partition(':')[0]}",
        )
    if text.startswith("/"):
        raise Misread(f"`{text}` is a path", f"write unix:{text}")
    if text.lower() in SWITCHES:
        raise Misread(f"`{text}` is not an address", f"write {_BIND_FORMS}")
    if re.fullmatch(r"[a-z]+://.*", text, re.IGNORECASE):
        address = text.partition("://")[2].rstrip("/")
        raise Misread(f"`{text}` has a scheme", f"a listener takes an address: {address}")
    if text.startswith("*:"):
        raise Misread(f"`{text}` is not an address", f"write {text[1:]} for every address")
    if text.startswith(":") and text.count(":") == 1:
        return Bind("tcp", "", _port(text[1:]))
    host, port = _host_and_port(text, _BIND_FORMS)
    if port is None:
        raise Misread(f"`{text}` has no port", f"write it with a port, like {text}:9000")
    return Bind("tcp", host, port)


def parse_origin(text: str) -> OriginAddress:
    """`http://host:port`, also `https` and `h2c`; `host:port`, `port` or `unix:/path`.

    Without a port, `http://host` is port 80 and `https://host` port 443.

    A port alone is on this machine, on either loopback address.  Raises Misread.
    """
    if text.startswith("unix:"):
        return OriginAddress("unix", path=_socket_path(text))
    if re.fullmatch(r":?[0-9]+", text):
        text = f"localhost:{text.removeprefix(':')}"
    if (instead := _misspelt_origin(text)) is not None:
        raise Misread(f"`{text}` is not an origin", instead)
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    if _TWO_NUMBERS.fullmatch(rest):
        raise Misread(
            f"`{text}` is two numbers, not host:port",
            f"ports are not mapped here; write {rest.partition(':')[2]}",
        )
    scheme = scheme.lower()
    if scheme not in PORTS:
        instead = {"wss": "https", "grpc": "h2c", "h2": "h2c", "grpcs": "https"}.get(scheme, "http")
        raise Misread(f"`{scheme}` is not supported as a scheme", f"write {instead}://{rest}")
    place, _, path = rest.partition("/")
    if path or "?" in place or "#" in place:
        bare = re.split("[?#]", place)[0]
        raise Misread(
            f"`{text}` has more than a host and a port",
            f"each request keeps its own path: write {scheme}://{bare}",
        )
    if "@" in place:
        raise Misread("an origin takes no user or password", f"write {scheme}://host:port")
    place, dot = _without_dot(place)
    host, port = _host_and_port(place, f"{scheme}://host:port")
    host = host if host == "localhost" or not dot else f"{host}."
    if port is None and not mark:
        raise Misread(f"`{text}` has no port", f"write {place}:3000, or http://{place} for port 80")
    if port == 0:
        raise Misread("no origin answers on port 0", "write a port from 1 to 65535")
    return OriginAddress("tcp", host, PORTS[scheme] if port is None else port, scheme=scheme)


def _without_dot(place: str) -> tuple[str, bool]:
    """`app.internal:3000` and True from `app.internal.:3000`: its name is complete."""
    found = re.fullmatch(r"([^:\[\]]*[^0-9.:\[\]][^:\[\]]*)\.((?::.*)?)", place)
    return (found[1] + found[2], True) if found is not None else (place, False)


def _misspelt_origin(text: str) -> str | None:
    """What to write instead of something similar to an origin, None if that is not known."""
    if text.lower() in SWITCHES:
        return "write http://host:port"
    if re.search(r"[,\s]", text):
        return "write each origin as an item of its own"
    if text.startswith("."):
        return "write unix: and the whole path of the socket"
    if (socket := re.fullmatch(r"(?:https?://unix:)?(/[^/].*)", text)) is not None:
        return f"write unix:{socket[1]}"
    if (place := re.fullmatch(r"(?:(https?):/?|:?//)([^/:]+:[0-9]+)/?", text)) is not None:
        return f"write {place[1] or 'http'}://{place[2]}"
    return None


def _socket_path(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path.startswith("/"):
        raise Misread(f"`{text}` is not an absolute path", "write unix:/run/name.sock")
    if len(path.encode()) > MAX_SOCKET_PATH or "\0" in path:
        raise Misread("no Unix socket has such a path", f"at most {MAX_SOCKET_PATH} bytes")
    return path


def _passed(text: str) -> str:
    """`fd:3` or `systemd:NAME`, as written."""
    kind, _, name = text.partition(":")
    if kind == "systemd":
        if not re.fullmatch(r"[!-9;-~]{1,255}", name):
            hint = "write systemd: and what FileDescriptorName= says, or the name of the .socket"
            raise Misread(f"`{text}` has no name", hint)
        return text
    if not name.isascii() or not name.isdecimal() or int(name) < 3:
        hint = "write the number of a listening socket that this process inherits, from 3 on"
        raise Misread(f"`{text}` is not a descriptor", hint)
    return f"fd:{int(name)}"


def _host_and_port(text: str, accepted: str) -> tuple[str, int | None]:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        hint = f"write {accepted}"
        if (bracketed := _bracketed(text)) is not None:
            hint = f"put an IPv6 address in brackets: {bracketed}"
        raise Misread(f"`{text}` is not an address", hint)
    host = parse_host_name(found[2], accepted) if found[1] is None else parse_ipv6(found[1])
    return host, None if found[3] is None else _port(found[3])


def _bracketed(text: str) -> str | None:
    """`::1` and `::1:8080` as `[::1]:8080`, None for what holds no IPv6 address."""
    address, _, port = text.rpartition(":")
    if port.isdecimal() and len(port) > 1 and packed_address(address) is not None:
        return f"[{address}]:{port}"
    return f"[{text}]:8080" if packed_address(text) is not None else None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise Misread(f"`{text}` is not a port", "write a number up to 65535")
    return int(text)


def parse_host_name(text: str, accepted: str) -> str:
    host = text.lower()
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(IPv4Address(host))
        except ValueError as error:
            raise Misread(f"`{text}` is not an IPv4 address", f"write {accepted}") from error
    if len(host) > 253 or not NAME.fullmatch(host):
        raise Misread(f"`{text}` is not a host", f"write {accepted}")
    return host


def parse_ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except ValueError as error:
        raise Misread(f"`{text}` is not an IPv6 address", "write it like [::1]") from error
