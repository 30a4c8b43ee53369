"""SRV records, and the addresses of what they name, by dnspython (RFC 2782).

The system's resolver knows no SRV records, and no TTL.  These functions block, so they run in a
thread.  The name servers are those of /etc/resolv.conf.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # it is only loaded if a settings file has srv://
    from dns.name import Name
    from dns.resolver import Resolver

#: Seconds that one look-up may take.
LIFETIME = 5.0
#: Most records of one name, and most addresses of one record.
MOST = 256


class Record(NamedTuple):
    """One address of the target of one SRV record."""

    address: str
    port: int
    priority: int
    weight: int
    target: str


class Records(NamedTuple):
    """An answer, and for how many seconds it is valid.

    `failed` are the targets, each with whether it is about IPv6, of which nothing is known because
    their look-up failed.
    """

    records: list[Record]
    ttl: float
    failed: frozenset[tuple[str, bool]] = frozenset()


def look_up(name: str) -> Records:
    """The records of a service.  Raises OSError if there is no answer."""
    import dns.exception
    import dns.resolver

    resolver = _resolver()
    try:
        answer = resolver.resolve(name, "SRV", search=True, lifetime=LIFETIME)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return Records([], 0.0)
    except (dns.exception.DNSException, OSError) as error:
        raise OSError(str(error) or type(error).__name__) from error
    found: list[Record] = []
    failed: set[tuple[str, bool]] = set()
    ttl = float(answer.rrset.ttl) if answer.rrset is not None else 0.0
    # Sorted, so that of too many records always the same ones are used.
    for row in sorted(answer, key=lambda row: (row.priority, -row.weight, row))[:MOST]:
        target = row.target.to_text(omit_final_dot=True)
        if target in ("", "."):  # the service is not offered
            continue
        addresses, holds, families = _addresses(resolver, row.target)
        ttl = min(ttl, holds)
        failed |= {(target.lower(), family) for family in families}
        weight = max(1, row.weight)
        found += [Record(one, row.port, row.priority, weight, target) for one in addresses]
    return Records(found, ttl, frozenset(failed))


def _resolver() -> Resolver:
    import dns.resolver

    return dns.resolver.Resolver()


def _addresses(resolver: Resolver, target: Name) -> tuple[list[str], float, set[bool]]:
    """The addresses of a target, for how many seconds they are valid, and which look-ups failed.

    The last are False for IPv4, True for IPv6.  /etc/hosts is read too.  A target is a whole name:
    no search domain is added to it (RFC 2782).
    """
    import dns.exception
    import dns.resolver

    found: list[str] = []
    failed: set[bool] = set()
    ttl = float("inf")
    for kind in ("A", "AAAA"):
        try:
            answer = resolver.resolve(target, kind, lifetime=LIFETIME)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except dns.exception.DNSException:
            failed.add(kind == "AAAA")
            continue
        found += [row.address for row in answer]
        if answer.rrset is not None:
            ttl = min(ttl, float(answer.rrset.ttl))
    if not found:
        with contextlib.suppress(OSError):
            name = target.to_text(omit_final_dot=True)
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(row[4][0]) for row in rows))
            failed = set()
    return sorted(found)[:MOST], ttl, failed
