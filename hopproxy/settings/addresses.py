"""Addresses that conflict: two listeners on one port, and an origin that is one of our listeners.

Names other than localhost are not resolved; conflicts between them appear when they are bound.
"""

import posixpath

from hopproxy.settings.units import Bind, OriginAddress

_EVERY = frozenset({"", "::", "0.0.0.0"})
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def meet(one: Bind, other: Bind) -> bool:
    """Whether both cannot be bound at the same time."""
    if "passed" in (one.kind, other.kind):
        return one == other
    if "unix" in (one.kind, other.kind):
        return one.kind == other.kind and _same_file(one.path, other.path)
    if one.port != other.port or one.port == 0:  # 0 asks for any free port
        return False
    # An IPv6 socket for every address accepts IPv4 too.
    hosts, others = _bound(one.host), _bound(other.host)
    return hosts == others or any(
        wide in ("", "::") or (wide == "0.0.0.0" and ":" not in narrow)
        for wide, narrow in ((hosts, others), (others, hosts))
    )


def reaches(origin: OriginAddress, bind: Bind) -> bool:
    """Whether a connection to `origin` from this machine reaches a listener on `bind`."""
    if bind.kind == "passed":  # its address is known once it is used
        return False
    if "unix" in (origin.kind, bind.kind):
        return origin.kind == bind.kind and _same_file(origin.path, bind.path)
    if origin.port != bind.port:
        return False
    if bind.host in _EVERY:
        local = _LOOPBACK | {"localhost"} | _EVERY
        return origin.host in local or origin.host.startswith("127.")
    if origin.host in _EVERY:  # the kernel takes these for the loopback address
        return _bound(bind.host) in _LOOPBACK
    if origin.host == "localhost":
        return bind.host in _LOOPBACK or bind.host == "localhost"
    return origin.host == _bound(bind.host)


def _bound(host: str) -> str:
    """The address a listener binds: `localhost` is 127.0.0.1."""
    return "127.0.0.1" if host == "localhost" else host


def _same_file(one: str, other: str) -> bool:
    return posixpath.normpath(one) == posixpath.normpath(other)
