"""Values with variables, such as `{client}` or `https://{host}{path}`.

A variable is one word in braces; `{{host}}` is the plain text `{host}`, and all other braces are
plain.  No variable contains a control byte, so no value can end its line: heads were checked, and
names of clients are checked here.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter

import msgspec

from hopproxy.message import RequestHead
from hopproxy.rules.forwarding import Sender

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
#: Bytes that no name may hold: control bytes, but for tab.
_UNSAFE = bytes(byte for byte in range(256) if (byte < 32 and byte != 9) or byte == 127)


class UnknownVariable(ValueError):
    """A variable that does not exist; `name` is what was written."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Asked(msgspec.Struct, gc=False):
    """Values of variables for one request: its sender, its id (empty if there is none).

    A struct, since one is made for each request on a route with variables.
    """

    head: RequestHead
    sender: Sender
    request_id: bytes = b""

    @property
    def authority(self) -> bytes:
        """The authority that the client asked for."""
        return self.head.host

    @property
    def query(self) -> bytes:
        """The query with its question mark, empty if there is none."""
        return _query(self)


def _client(asked: Asked) -> bytes:
    sender = asked.sender
    if sender.trusted and (named := sender.client(asked.head)):
        return named[:NAME_SIZE].encode("latin-1", "replace").translate(None, _UNSAFE)
    return sender.address or b"unknown"


def _host(asked: Asked) -> bytes:
    return host_of(asked.head.host)


def _path(asked: Asked) -> bytes:
    path = asked.head.target.partition(b"?")[0]
    return b"" if path == b"*" else path


def _query(asked: Asked) -> bytes:
    _, mark, query = asked.head.target.partition(b"?")
    return mark + query


def _scheme(asked: Asked) -> bytes:
    sender = asked.sender
    return sender.scheme(asked.head) if sender.trusted else sender.proto


Value = Callable[[Asked], bytes]

_VALUES: dict[str, Value] = {
    "authority": attrgetter("head.host"),
    "client": _client,
    "host": _host,
    "method": attrgetter("head.method"),
    "path": _path,
    "query": _query,
    "request_id": attrgetter("request_id"),
    "scheme": _scheme,
}


#: For templates without variables.
NOTHING_ASKED = Asked(RequestHead(b"", b"", 1, [], []), Sender("", b"", ()))


def filler(form: bytes, values: Sequence[Value]) -> Callable[[Asked], bytes]:
    """The function that fills the places of a format with these values.

    Each has code of its own, with one call for each value: CPython makes a call fast only where
    the same function is called again and again.  A loop over the values takes twice as long.
    """
    names = [f"value{number}" for number in range(len(values))]
    calls = "".join([f"{name}(asked), " for name in names])
    scope = {"form": form, **dict(zip(names, values, strict=True))}
    made: Callable[[Asked], bytes] = eval(f"lambda asked: form % ({calls})", scope)
    return made


class Template:
    """A text with variables; `variables` is empty if it is the same for every request.

    `form` is a format with a place for each of `values`, the functions that find the variables.
    `filled` is the text for one request.
    """

    __slots__ = ("filled", "form", "text", "values", "variables")

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
        self.form = form + _plain(text[at:])
        self.variables = tuple(names)
        self.values = tuple(_VALUES[name] for name in names)
        self.filled = filler(self.form, self.values)


def _plain(text: str) -> bytes:
    """A part without variables, for a format."""
    return text.encode("latin-1").replace(b"%", b"%%")


@lru_cache(maxsize=256)
def host_of(authority: bytes) -> bytes:
    """The host of an authority without its port; an IPv6 address keeps its brackets."""
    if authority.startswith(b"["):
        return authority.partition(b"]")[0] + b"]"
    return authority.partition(b":")[0]
