"""Networks in a settings file: how they are written."""

import re
from ipaddress import IPv6Network, ip_address, ip_network

from hopproxy.settings.amounts import Misread
from hopproxy.settings.units import MAPPED, SWITCHES, UNIX, Network, packed_address


def parse_network(text: str) -> Network:
    """An address or a CIDR block, `10.0.0.0/8` or `::1`, or `unix`.  Raises Misread."""
    if text == UNIX:
        return Network(UNIX, b"", b"")
    try:
        block = ip_network(text, strict=False)
    except ValueError as error:
        raise Misread(f"`{text}` is not a network", _network_instead(text)) from error
    if block.network_address != ip_address(text.partition("/")[0]):
        raise Misread(f"`{text}` has bits set after its prefix", f"its block is {block}")
    first, last = block.network_address.packed, block.broadcast_address.packed
    if isinstance(block, IPv6Network) and first.startswith(MAPPED) and last.startswith(MAPPED):
        first, last = first[len(MAPPED) :], last[len(MAPPED) :]
    return Network(str(block), first, last)


def _network_instead(text: str) -> str:
    """What to write instead of something similar to a network."""
    if text.lower() == "localhost":
        return "write 127.0.0.1 and ::1"
    if text.lower() in SWITCHES:
        return "leave it empty for none"
    if text.lower().startswith(UNIX):
        return "write unix for all peers on Unix sockets"
    if re.search(r".[,\s].", text):
        return "write each network as an item of its own"
    address = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+", text)
    if address is not None and packed_address(bare := address[1] or address[2]) is not None:
        return f"write {bare}, without brackets and port"
    return "write it like 10.0.0.0/8 or fd00::/8, or unix"
