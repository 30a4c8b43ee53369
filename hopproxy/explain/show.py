"""An explanation as text."""

from collections.abc import Iterator

from hopproxy.explain.told import FieldTold, LinkTold, MessageTold, Told

#: Longest field shown beside its reason; longer ones are cut.
WIDTH = 58
_MARKS = {"kept": " ", "dropped": "-", "added": "+", "rewritten": "~"}


def shown(told: Told) -> str:
    """All of an explanation, for people."""
    return "\n".join(_lines(told)) + "\n"


def _lines(told: Told) -> Iterator[str]:
    yield f"request        {_printable(told.request)}"
    yield f"client         {told.client}"
    if told.request_id:
        yield f"request id     {told.request_id}"
    if told.route:
        yield f"route          {told.route}: {told.matched}"
    if told.origins:
        yield f"origin         {' or '.join(told.origins)} (upstream {told.upstream})"
    if told.cause:
        yield f"refused        {told.cause}: {told.detail}"
    if told.to_origin is not None:
        yield ""
        yield "to the origin"
        yield from _message(told.to_origin)
    for message in told.to_client:
        yield ""
        yield "to the client"
        yield from _message(message)
    if told.body:
        yield ""
        yield from (f"    {line}" for line in told.body.rstrip("\n").split("\n"))
    yield ""
    yield f"client link    {_link(told.client_link)}"
    if told.upstream_link is not None:
        yield f"upstream link  {_link(told.upstream_link)}"


def _message(message: MessageTold) -> Iterator[str]:
    """The first line and each field: `+` added, `-` dropped, `~` rewritten."""
    for one in (message.start, *message.fields):
        yield _row(one)


def _row(one: FieldTold) -> str:
    text = _printable(one.sent or one.line)
    if len(text) > WIDTH:
        text = text[: WIDTH - 3] + "..."
    why = ", ".join(filter(None, (one.rule, one.rfc)))
    if one.verdict == "rewritten" and one.line:
        why = f"{why}; it was {_printable(one.line)}" if why else f"it was {_printable(one.line)}"
    return f"  {_MARKS[one.verdict]} {text:<{WIDTH}} {why}".rstrip()


def _link(link: LinkTold) -> str:
    why = ", ".join(filter(None, (link.why, link.rfc)))
    return f"{'persists' if link.persists else f'closes ({link.reason})'}: {why}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
