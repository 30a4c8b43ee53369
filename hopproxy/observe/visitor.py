"""Whether a web page of somebody else asks: a browser that has been led to the admin listener.

A page may send its visitors' browsers to any address they can reach.  It cannot read what another
origin answers, unless its own name leads there (DNS rebinding): then Host has that name.
"""

import ipaddress
import socket
from collections.abc import Mapping

#: Where the page is that asks, if it may read the answer.
_OURS = (b"same-origin", b"none")


def is_local(listener: socket.socket) -> bool:
    """Whether a listener is for browsers of this machine: none reaches a Unix socket."""
    if listener.family == socket.AF_UNIX:
        return False
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def refusal(fields: Mapping[bytes, bytes], *, local: bool) -> str:
    """Why a request is refused, "" if it is not.  `local` if only this machine should ask.

    `fields` are those of the request by their names in lower case.
    """
    host = fields.get(b"host", b"").lower()
    if local and not _is_of_this_machine(host.decode("ascii", "replace")):
        return "this Host is not answered: ask for localhost or an IP address"
    site = fields.get(b"sec-fetch-site", b"none")
    follows_a_link = (
        fields.get(b"sec-fetch-mode") == b"navigate"
        and fields.get(b"sec-fetch-dest") == b"document"
    )
    if site not in _OURS and not follows_a_link:
        return "a page of another site asks"
    origin = fields.get(b"origin")
    if origin is not None and origin.lower().partition(b"://")[2] != host:
        return "a page of another site asks"
    return ""


def _is_of_this_machine(host: str) -> bool:
    """Whether a Host is an address, or a name that always means this machine.  None at all is."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
