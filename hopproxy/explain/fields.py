"""What became of each field, found by comparing the head as received and as sent."""

from collections.abc import Callable

from hopproxy.explain.told import FieldTold, MessageTold, Verdict
from hopproxy.message import Head, Kind, kind_of, name_of

#: (rule, RFC section) for a line.
Why = tuple[str, str]
Asked = Callable[[bytes, Verdict], Why]

_HOP = "about one connection only", "RFC 9110 section 7.6.1"
#: Why fields of a kind do not pass unchanged.
_KINDS: dict[Kind, Why] = {
    Kind.CONNECTION: _HOP,
    Kind.HOP: _HOP,
    Kind.CODING: ("framing of one hop, written anew on the other", "RFC 9112 section 6.1"),
    Kind.LENGTH: ("framing, written anew in plain form", "RFC 9112 section 6.3"),
    Kind.HOST: ("upstreams.<name>.host", "RFC 9110 section 7.2"),
    Kind.VIA: ("via: our entry is added", "RFC 9110 section 7.6.3"),
    Kind.EXPECT: ("an expectation that hopproxy meets, or an empty one", "RFC 9110 section 10.1.1"),
    Kind.SHADOW: (
        "underscore_fields: an application could take it for a field that is written or protected "
        "here", "",
    ),
    Kind.UNDERSCORE: ("underscore_fields", ""),
    Kind.DATE: ("the origin sent none", "RFC 9110 section 6.6.1"),
}  # fmt: skip


def why_of_kind(name: bytes) -> Why:
    """Why a field of this name is dropped, rewritten or added, by its kind alone."""
    kind = kind_of(name)
    if kind is Kind.FORWARDING:
        rfc = "RFC 7239" if name == b"forwarded" else ""
        return "trusted_proxies, forwarding: what the origin is told about the client", rfc
    if name == b"max-forwards":
        return "counted down", "RFC 9110 section 7.6.2"
    return _KINDS.get(kind, ("", ""))


def compare(head: Head, start: tuple[bytes, bytes], sent: bytes, why: Asked) -> MessageTold:
    """What became of a head.  `start` is its first line as received, and why that may change.

    `sent` are its bytes as sent, `why` says why a line was dropped, rewritten or added.
    """
    first, *lines = sent.removesuffix(b"\r\n\r\n").split(b"\r\n")
    left = list(lines)
    fields: list[FieldTold] = []
    changed: list[bytes] = []
    for line in head.lines:
        if line in left:
            left.remove(line)
            fields.append(_told("kept", line, line, ("", "")))
        else:
            changed.append(line)
    for line in changed:
        name = name_of(line)
        instead = next((one for one in left if name_of(one) == name), None)
        if instead is None:
            fields.append(_told("dropped", line, b"", why(name, "dropped")))
        else:
            left.remove(instead)
            fields.append(_told("rewritten", line, instead, why(name, "rewritten")))
    fields += [_told("added", b"", line, why(name_of(line), "added")) for line in left]
    received, reason = start
    same = received == first
    return MessageTold(
        _text(sent),
        _told(
            "kept" if same else "rewritten", received, first, ("" if same else _text(reason), "")
        ),
        fields,
    )


def own(sent: bytes, why: Asked) -> MessageTold:
    """A head of our own."""
    first, *lines = sent.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields = [_told("added", b"", line, why(name_of(line), "added")) for line in lines]
    return MessageTold(_text(sent), _told("added", b"", first, ("", "")), fields)


def _told(verdict: Verdict, line: bytes, sent: bytes, why: Why) -> FieldTold:
    return FieldTold(verdict, _text(line), _text(sent), *why)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")
