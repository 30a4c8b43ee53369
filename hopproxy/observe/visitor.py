"""Whether a request to the admin listener comes from a web page of another site.

A web page can make a browser send requests to any address.  It can only read the answers if its own
name resolves to that address (DNS rebinding).  Then Host has that name.
"""

import ipaddress
import socket
from collections.abc import Mapping

#: Values of Sec-Fetch-Site for pages that may read the answer.
_OURS = (b"same-origin", b"none")


def is_local(listener: socket.socket) -> bool:
    """Whether only browsers of this machine can reach a listener; none reaches a Unix socket."""
    if listener.family == socket.AF_UNIX:
        return False
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def refusal(fields: Mapping[bytes, bytes], *, local: bool) -> str:
    """Why a request is refused, "" if it is not.  `local` if only this machine should ask.

    `fields` are those of the request by their names in lower case.
    """
    host = fields.get(b"host", b"").lower()
    if local and not _is_of_this_machine(host.decode("ascii", "replace")):
        return "requests for this Host are refused: use localhost or an IP address"
    site = fields.get(b"sec-fetch-site", b"none")
    follows_a_link = (
        fields.get(b"sec-fetch-mode") == b"navigate"
        and fields.get(b"sec-fetch-dest") == b"document"
    )
    if site not in _OURS and not follows_a_link:
        return "the request comes from a web page of another site"
    origin = fields.get(b"origin")
    if origin is not None and origin.lower().partition(b"://")[2] != host:
        return "the request comes from a web page of another site"
    return ""


def _is_of_this_machine(host: str) -> bool:
    """Whether a Host is an address or localhost, or is missing."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
