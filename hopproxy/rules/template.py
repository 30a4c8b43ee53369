"""Values with variables, such as `{client}` or `https://{host}{path}`.

A variable is one word in braces; `{{host}}` is the plain text `{host}`, and all other braces are
plain.  No variable can hold a control byte, so no value can end its line and begin another.
"""

import re
from typing import Protocol

from hopproxy.message import RequestHead

#: What each variable stands for.
VARIABLES = {
    "authority": "the Host of the request, with its port",
    "client": "the address of the client, which a trusted proxy may have named",
    "host": "the Host of the request, without its port",
    "method": "the method of the request",
    "path": "the path as the client sent it, without its query; empty for `OPTIONS *`",
    "query": "the query with its question mark; empty if there is none",
    "request_id": "the id of the request",
    "scheme": "http or https, as the client has used it",
}

#: Characters kept of a client's name: an obfuscated identifier can have any length.
NAME_SIZE = 64

_PART = re.compile(r"\{\{([a-z_]+)\}\}|\{([a-z_]+)\}")
#: Bytes that no value may hold: control bytes, but for tab.
_UNSAFE = bytes(byte for byte in range(256) if (byte < 32 and byte != 9) or byte == 127)


class UnknownVariable(ValueError):
    """A variable that does not exist; `name` is what was written."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Asker(Protocol):
    """Who sends a request: `rules.forwarding.Sender`."""

    address: bytes

    def client(self, head: RequestHead) -> str:
        """The client that a trusted chain names, "" if none."""

    def scheme(self, head: RequestHead) -> bytes:
        """http or https."""


class _Nobody:
    """The sender of no request."""

    address = b""

    def client(self, head: RequestHead) -> str:
        return ""

    def scheme(self, head: RequestHead) -> bytes:
        return b""


class Asked:
    """The values of the variables for one request; `request_id` is empty if there is none."""

    __slots__ = ("_head", "_sender", "request_id")

    def __init__(self, head: RequestHead, sender: Asker, request_id: bytes = b"") -> None:
        self._head = head
        self._sender = sender
        self.request_id = request_id

    @property
    def authority(self) -> bytes:
        """The authority that the client asked for."""
        return self._head.host

    def value(self, variable: str) -> bytes:
        """The value of one variable, without control bytes."""
        return self._raw(variable).translate(None, _UNSAFE)

    def _raw(self, variable: str) -> bytes:
        head = self._head
        match variable:
            case "authority":
                return head.host
            case "client":
                named = self._sender.client(head)[:NAME_SIZE].encode("latin-1", "replace")
                return named or self._sender.address or b"unknown"
            case "host":
                return host_of(head.host)
            case "method":
                return head.method
            case "path":
                return b"" if head.target == b"*" else head.target.partition(b"?")[0]
            case "query":
                _, mark, query = head.target.partition(b"?")
                return mark + query
            case "scheme":
                return self._sender.scheme(head)
        return self.request_id


#: For templates without variables, which ask for nothing.
NOTHING_ASKED = Asked(RequestHead(b"", b"", 1, [], []), _Nobody())


class Template:
    """A value with its variables; `variables` is empty if it is the same for every request."""

    __slots__ = ("_form", "constant", "text", "variables")

    def __init__(self, text: str) -> None:
        """Raises UnknownVariable."""
        self.text = text
        names: list[str] = []
        form = b""
        at = 0
        for part in _PART.finditer(text):
            form += _plain(text[at : part.start()])
            at = part.end()
            name = part[2]
            if name is None:
                form += b"{%b}" % part[1].encode()
            elif name in VARIABLES:
                names.append(name)
                form += b"%b"
            else:
                raise UnknownVariable(name)
        self._form = form + _plain(text[at:])
        self.variables = tuple(names)
        self.constant = b"" if names else self._form % ()

    def filled(self, asked: Asked) -> bytes:
        """The value for one request."""
        if not self.variables:
            return self.constant
        return self._form % tuple([asked.value(name) for name in self.variables])


def _plain(text: str) -> bytes:
    """A part without variables, for a format."""
    return text.encode("latin-1").replace(b"%", b"%%")


def host_of(authority: bytes) -> bytes:
    """The host of an authority without its port; an IPv6 address keeps its brackets."""
    if authority.startswith(b"["):
        return authority.partition(b"]")[0] + b"]"
    return authority.partition(b":")[0]
