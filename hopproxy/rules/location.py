"""URLs in a response, seen from the client: Location, Content-Location, Refresh, cookie paths.

An origin that sees another Host or a shorter path than the client may send URLs that do not work
for the client.  URLs that name the origin itself are rewritten, as nginx does by default.  Paths
are rewritten only with `locations: all`, since an application may mean a path outside its own part
of the site.
"""

import re

from hopproxy.message import ResponseHead, name_of
from hopproxy.rules.edits import with_lines

_NAMES = re.compile(rb"\r\n(?:location|content-location|refresh|set-cookie):", re.IGNORECASE)
_URL = re.compile(rb"(?i:(https?):)?//([^/?#]*)(.*)", re.DOTALL)
_REFRESH = re.compile(rb"([0-9.]+[ \t]*[;,][ \t]*(?:(?i:url)[ \t]*=[ \t]*)?[\"']?)(.*)", re.DOTALL)
_ATTRIBUTE = re.compile(rb";[ \t]*(?i:(path|domain))[ \t]*=[ \t]*([^;]*)")


class Origins:
    """What to rewrite on one route: URLs with the origin's `names`, and paths without the prefix.

    `names` are authorities in lower case.  `paths` if paths are rewritten too.
    """

    __slots__ = ("_names", "_paths", "_prefix")

    def __init__(self, names: frozenset[bytes], prefix: bytes, *, paths: bool) -> None:
        self._names = names
        self._prefix = prefix
        self._paths = paths

    def seen_from_client(self, head: ResponseHead) -> ResponseHead:
        """The response with its URLs rewritten; the same head if it has none."""
        if not _NAMES.search(b"\r\n" + b"\r\n".join(head.lines)):
            return head
        lines = [self._line(line) for line in head.lines]
        return head if lines == head.lines else with_lines(head, lines)

    def _line(self, line: bytes) -> bytes:
        name, value = name_of(line), line.partition(b":")[2].strip(b" \t")
        if name in (b"location", b"content-location"):
            turned = self.url(value)
        elif name == b"refresh":
            match = _REFRESH.fullmatch(value)
            turned = match[1] + self.url(match[2]) if match else value
        elif name == b"set-cookie" and self._paths:
            turned = _ATTRIBUTE.sub(self._attribute, value)
        else:
            return line
        return line if turned == value else line[: len(name)] + b": " + turned

    def url(self, url: bytes) -> bytes:
        """One URL as the client sees it."""
        match = _URL.fullmatch(url)
        if match is None:
            return self._path(url) if self._paths and url.startswith(b"/") else url
        scheme, authority, rest = match.groups()
        port = b":443" if scheme and scheme.lower() == b"https" else b":80"
        if authority.lower().removesuffix(port) not in self._names:
            return url
        path = self._prefix + (rest if rest.startswith(b"/") else b"/" + rest)
        # Two slashes would begin another host's name; `/.` says the same path (browsers take `\`
        # for a slash).
        return b"/." + path if path[1:2] in (b"/", b"\\") else path

    def _path(self, path: bytes) -> bytes:
        """A path with the prefix, unless it has it already."""
        prefix = self._prefix
        if path == prefix or path.startswith((prefix + b"/", prefix + b"?")):
            return path
        return prefix + path

    def _attribute(self, match: re.Match[bytes]) -> bytes:
        """A cookie's Path with the prefix; its Domain only if it is not the origin's own."""
        name, value = match[1].lower(), match[2].strip()
        if name == b"path" and value.startswith(b"/"):
            return match[0][: match.start(2) - match.start()] + self._path(value)
        hosts = {one.rpartition(b":")[0] or one for one in self._names} | self._names
        if name == b"domain" and value.lower().removeprefix(b".") in hosts:
            return b""
        return match[0]


def authority_names(*authorities: bytes) -> frozenset[bytes]:
    """Authorities in the form in which `Origins` compares them: without a default port."""
    lower = [one.lower().removesuffix(b":80").removesuffix(b":443") for one in authorities]
    return frozenset(filter(None, lower))
