"""How origins and the choice among them are written in a settings file.

`http://10.0.0.7:3000 weight=2`, `srv://_http._tcp.app.internal`, `hash: header:X-User`.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from hopproxy.settings.amounts import Misread
from hopproxy.settings.units import PORTS, OriginAddress, parse_host_name, parse_origin

#: The largest weight and the largest priority, as in an SRV record (RFC 2782).
MOST = 65535
#: The priority of an origin that is written with `backup`.
BACKUP = 1

_OPTIONS = "weight=N, priority=N or backup"
_SRV = re.compile(r"srv(?:\+([A-Za-z0-9]+))?://(.*)", re.IGNORECASE | re.DOTALL)
_FIELD = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
_HASHES = "header:NAME, cookie:NAME or client"
_POLICIES = f"least_requests, round_robin, or hash: {_HASHES}"


def parse_origin_line(text: str) -> OriginAddress:
    """An origin (`parse_origin`, or `srv://name`), and its options behind it.  Raises Misread."""
    place, *options = text.split() or [""]
    if any(not re.fullmatch(r"[A-Za-z_]+=.*|backup", option) for option in options):
        place, options = text, []  # it is no option: `parse_origin` says what is wrong
    address = _service(place) or parse_origin(place)
    for option in options:
        name, _, value = option.partition("=")
        if name == "backup" and not value:
            address = replace(address, priority=BACKUP)
        elif name == "priority":
            address = replace(address, priority=_number(option, value, 0))
        elif name == "weight":
            address = replace(address, weight=_number(option, value, 1))
        else:
            raise Misread(f"`{option}` is not an option of an origin", f"write {_OPTIONS}")
    return address


def write_origin_line(address: OriginAddress) -> str:
    """As `parse_origin_line` reads it."""
    weight = f" weight={address.weight}" if address.weight != 1 else ""
    priority = f" priority={address.priority}" if address.priority else ""
    return f"{address}{weight}{priority}"


def _number(option: str, value: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value) or not least <= int(value) <= MOST:
        raise Misread(f"`{option}` is not a number in its range", f"write {least} to {MOST}")
    return int(value)


def _service(text: str) -> OriginAddress | None:
    """`srv://name`, or `srv+https://name` for origins that speak TLS."""
    found = _SRV.fullmatch(text)
    if found is None:
        return None
    scheme, name = (found[1] or "http").lower(), found[2].removesuffix("/")
    if scheme not in PORTS:
        raise Misread(f"`srv+{scheme}` is not supported as a scheme", f"write srv://{name}")
    if ":" in name or "/" in name:
        bare = re.split("[:/]", name)[0]
        raise Misread(
            f"`{text}` has more than a name", f"the records have the port: write srv://{bare}"
        )
    host = parse_host_name(name.removesuffix("."), "srv://_http._tcp.app.internal")
    return OriginAddress("srv", f"{host}." if name.endswith(".") else host, scheme=scheme)


@dataclass(frozen=True, slots=True)
class Balance:
    """How the origin of a request is chosen.

    With `hash` the same value of `by` leads to the same origin: of the field or cookie `name`, or
    the client's address.
    """

    policy: Literal["least_requests", "round_robin", "hash"] = "least_requests"
    by: Literal["", "header", "cookie", "client"] = ""
    name: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, [self.policy, self.by, self.name]))


def parse_balance(text: str) -> Balance:
    """`least_requests`, `round_robin` or `hash:` and what to hash.  Raises Misread."""
    policy, colon, rest = text.partition(":")
    policy, by = policy.strip(), rest.strip()
    if policy in ("least_requests", "round_robin") and not colon:
        return Balance("least_requests" if policy == "least_requests" else "round_robin")
    if policy != "hash":
        raise Misread(f"`{text}` is not a way to choose an origin", _instead(policy))
    source, _, name = by.partition(":")
    name = name.strip()
    if source == "client" and not name:
        return Balance("hash", "client")
    if source in ("header", "cookie") and _FIELD.fullmatch(name):
        return Balance("hash", "header" if source == "header" else "cookie", name)
    wrong = f"`{by}` cannot be hashed" if by else f"`{text}` does not say what is hashed"
    raise Misread(wrong, f"write hash: {_HASHES}")


def _instead(policy: str) -> str:
    """What to write instead of the name that another proxy has for a policy."""
    name = policy.lower().replace("-", "_").partition("(")[0]
    if name in ("leastconn", "least_conn", "least_request", "least_connections", "p2c"):
        return "write least_requests"
    if name in ("round_robin", "roundrobin", "rr", "wrr", "weighted_round_robin", "static_rr"):
        return "write round_robin"
    if name in ("ip_hash", "source", "client_ip_hash", "remote_ip", "client"):
        return "write hash: client"
    if name in ("sticky", "cookie"):
        return "write hash: cookie:NAME"
    return f"write {_POLICIES}"
