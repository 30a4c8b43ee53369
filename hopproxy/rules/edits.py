"""Changes of fields: set, add, remove; and copies of heads with such changes.

A head is never changed, since the log, the rules about the client and a retry need it as received.
The copy goes through `rules.hop` like any other head.  Fields are added after that, so a peer
cannot remove them by naming them in Connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hopproxy.message import NO_BODY, SIZED, Field, Kind, RequestHead, ResponseHead, name_of
from hopproxy.rules.template import Template, filler

#: Fields about content.  Rules for them do not apply to our own error responses: with the
#: Cache-Control of a page, caches would keep a 502.
CONTENT = frozenset(
    {
        b"accept-ranges", b"age", b"cache-control", b"content-disposition", b"content-encoding",
        b"content-language", b"content-location", b"content-md5", b"content-range",
        b"content-type", b"etag", b"expires", b"last-modified", b"location", b"pragma", b"vary",
    }
)  # fmt: skip

#: Fields that have no meaning once a chunked body has become a sized one.
_OF_CHUNKED = frozenset({b"expect", b"trailer", b"transfer-encoding"})


class FieldRules:
    """Fields to remove from a head, and fields to add to it.

    `names` (lower case) are removed.  With `dashes`, so are their spellings with `_`: an
    application behind WSGI or CGI takes `X_User` for the `X-User` that a rule has set.

    `added` are the lines to add to the head for one request, each with its CRLF.  They are
    `constant` unless the values differ from request to request (`varies`).
    """

    __slots__ = (
        "_dashes", "_fields", "_names_added", "_pattern", "added", "constant", "names", "varies",
    )  # fmt: skip

    def __init__(
        self, fields: Sequence[tuple[str, Template]], names: Iterable[str], *, dashes: bool = False
    ) -> None:
        self.names = frozenset(name.lower().encode() for name in names)
        self._fields = [(name.encode() + b": ", value) for name, value in fields]
        self._dashes = dashes
        self._names_added = frozenset(name.lower().encode() for name, _ in fields)
        form = b"".join([name + value.form + b"\r\n" for name, value in self._fields])
        values = [value for _, template in fields for value in template.values]
        self.added = filler(form, values)
        self.varies = bool(values)
        self.constant = b"" if values else form % ()
        words = [re.escape(name) for name in sorted(self.names)]
        if dashes:
            words = [word.replace(rb"\-", b"[-_]") for word in words]
        self._pattern = re.compile(b"\r\n(?:" + b"|".join(words) + b"):", re.IGNORECASE)

    def __bool__(self) -> bool:
        return bool(self.names or self._fields)

    def without(self, names: frozenset[bytes]) -> FieldRules:
        """The rules for all fields but these."""
        fields = [(name[:-2].decode(), value) for name, value in self._fields]
        kept = [one for one in fields if one[0].lower().encode() not in names]
        return FieldRules(kept, _texts(self.names - names), dashes=self._dashes)

    def taking(self, names: Iterable[bytes]) -> FieldRules:
        """These rules, which also remove fields of these names."""
        fields = [(name[:-2].decode(), value) for name, value in self._fields]
        return FieldRules(fields, _texts(self.names | set(names)), dashes=self._dashes)

    def removals(self) -> FieldRules:
        """The rules that only remove, for interim responses."""
        return FieldRules((), _texts(self.names - self._names_added))

    def touch(self, lines: list[bytes], whole: bytes = b"") -> bool:
        """Whether one of these lines may have to be removed.

        `whole` is the head that they come from, if known.  One search in it is cheaper than a look
        at each line, and most heads have no such field.
        """
        return bool(self.names) and (
            self._pattern.search(whole or b"\r\n" + b"\r\n".join(lines)) is not None
        )

    def kept(self, lines: list[bytes]) -> list[bytes]:
        """`lines` without those to remove."""
        return [line for line in lines if not self.takes(line)] if self.touch(lines) else lines

    def takes(self, line: bytes) -> bool:
        """Whether this line is removed."""
        return bool(self.names) and self._pattern.match(b"\r\n" + line) is not None

    def adds(self, name: bytes) -> bool:
        """Whether a field of this name (lower case) is added."""
        return name in self._names_added


def _texts(names: Iterable[bytes]) -> list[str]:
    return [name.decode() for name in sorted(names)]


def edited_request(head: RequestHead, rules: FieldRules, target: bytes) -> RequestHead:
    """A copy of a request with another target, without the fields that `rules` remove."""
    if rules.touch(head.lines, head.raw):
        lines = [line for line in head.lines if not rules.takes(line)]
        special = [field for field in head.special if not rules.takes(field.line)]
        copy = _copy_of(head, target, lines, special, b"")
        if head.binds:
            copy.binds = any(field.kind is Kind.CREDENTIALS for field in special)
        return copy
    raw = head.raw
    if raw:
        raw = b"%b %b HTTP/1.1%b" % (head.method, target, raw[raw.index(b"\r\n") :])
    copy = _copy_of(head, target, head.lines, head.special, raw)
    copy.model = head.model  # the same special fields at the same places
    return copy


def with_host(head: RequestHead, host: bytes) -> RequestHead:
    """A copy with this Host field; `RequestHead.host`, the client's, stays."""
    line = b"Host: " + host
    lines, special = head.lines, head.special
    old = next((field for field in special if field.kind is Kind.HOST), None)
    new = Field(line, b"host", host, Kind.HOST)
    if old is None:  # HTTP/1.0
        return _copy_of(head, head.target, [line, *lines], [new, *special], b"")
    lines = [line if one == old.line else one for one in lines]
    special = [new if one is old else one for one in special]
    raw = head.raw.replace(b"\r\n" + old.line, b"\r\n" + line, 1)
    copy = _copy_of(head, head.target, lines, special, raw)
    copy.model = head.model
    return copy


def with_length(head: RequestHead, length: int) -> RequestHead:
    """A copy of a chunked request whose body has been collected."""
    line = b"Content-Length: %d" % length
    special = [field for field in head.special if field.name not in _OF_CHUNKED]
    special.append(Field(line, b"content-length", b"%d" % length, Kind.LENGTH))
    lines = [one for one in head.lines if name_of(one) not in _OF_CHUNKED]
    copy = _copy_of(head, head.target, [*lines, line], special, b"")
    copy.body = SIZED if length else NO_BODY
    copy.length = length
    copy.expects = False
    return copy


def _copy_of(
    head: RequestHead, target: bytes, lines: list[bytes], special: list[Field], raw: bytes
) -> RequestHead:
    copy = RequestHead(head.method, target, head.minor, lines, special, raw)
    copy.options = head.options
    copy.body = head.body
    copy.length = head.length
    copy.host = head.host
    copy.expects = head.expects
    copy.passed = head.passed
    copy.binds = head.binds
    copy.simple = head.simple
    copy.upgrade = head.upgrade
    return copy


def edited_response(head: ResponseHead, rules: FieldRules) -> ResponseHead:
    """A copy of a response without what `rules` remove; the head itself if that is nothing."""
    if not rules.touch(head.lines):
        return head
    copy = with_lines(head, [line for line in head.lines if not rules.takes(line)])
    copy.special = [field for field in head.special if not rules.takes(field.line)]
    return copy


def with_lines(head: ResponseHead, lines: list[bytes]) -> ResponseHead:
    """A copy of a response with these lines, whose special fields are the same."""
    copy = ResponseHead(head.status, head.reason, head.minor, lines, head.special)
    copy.options = head.options
    copy.body = head.body
    copy.length = head.length
    copy.dated = head.dated
    copy.doubtful = head.doubtful
    copy.ending = head.ending
    copy.hint = head.hint
    return copy
