"""The request to explain: from arguments as curl takes them, or raw."""

import re
from collections.abc import Sequence
from ipaddress import ip_address

from hopproxy.settings.amounts import Misread

_URL = re.compile(r"(?:(https?)://)?([^/?#\s]+)?([/?][^#\s]*)?(?:#.*)?", re.IGNORECASE)

_OTHER_SCHEME = re.compile(r"(?!https?:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def made(
    url: str, *, method: str, fields: Sequence[str], data: str | None, minor: int
) -> tuple[bytes, bytes]:
    """(raw request, scheme) for a URL and the options of curl.  Raises Misread."""
    match = _URL.fullmatch(url)
    if match is None or not (match[2] or match[3]) or _OTHER_SCHEME.match(url):
        raise Misread(f"`{url}` is not a URL", "write http://host/path, host/path or /path")
    authority, target = match[2] or "", match[3] or "/"
    target = target if target.startswith("/") else f"/{target}"
    lines = [_line(one) for one in fields]
    names = {line.partition(":")[0].lower() for line in lines if line}
    if "host" not in names and authority:
        lines.insert(0, f"Host: {authority}")
    body = (data or "").encode()
    if data is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    word = method or ("GET" if data is None else "POST")
    head = "\r\n".join([f"{word} {target} HTTP/1.{minor}", *filter(None, lines), "", ""])
    return head.encode("utf-8") + body, (match[1] or "http").lower().encode()


def _line(text: str) -> str:
    """A field line; one without a value is left out, as by curl, and `Name;` has an empty value."""
    name, colon, value = text.partition(":")
    if not colon:
        if not text.endswith(";"):
            raise Misread(f"`{text}` is not a field", "write 'Name: value'")
        return f"{text[:-1]}: "
    return f"{name}: {value.strip()}" if value.strip() else ""


def peer_address(text: str) -> str:
    """The address of the client's end; empty for a Unix socket.  Raises Misread."""
    if text == "unix":
        return ""
    try:
        return str(ip_address(text))
    except ValueError:
        raise Misread(
            f"`{text}` is not an address", "write 192.0.2.7, 2001:db8::7 or unix"
        ) from None


def raw_message(data: bytes) -> bytes:
    """A message from a file written by hand: LF becomes CRLF in its head.

    A file with CRLF stays as it is.
    """
    if b"\r\n" in data:
        return data
    head, _, body = data.partition(b"\n\n")
    return head.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n\r\n" + body
