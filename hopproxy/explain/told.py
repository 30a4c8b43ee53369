"""The results of `hopproxy explain`: `explain.show` makes text of them, `--json` prints them."""

from typing import Literal

from msgspec import Struct

Verdict = Literal["kept", "dropped", "rewritten", "added"]


class FieldTold(Struct, frozen=True):
    """What becomes of one field line: `line` as received, `sent` as sent, and why.

    `line` is empty if it was added, `sent` if it was dropped.  `rule` is the setting or the rule
    behind it, `rfc` its place in an RFC.
    """

    verdict: Verdict
    line: str
    sent: str
    rule: str
    rfc: str


class MessageTold(Struct, frozen=True):
    """One message: its head as it is sent, and what became of each field and of the first line."""

    head: str
    start: FieldTold
    fields: list[FieldTold]


class LinkTold(Struct, frozen=True):
    """What becomes of one hop's connection: `persists` or not, by its `reason` label, and why."""

    persists: bool
    reason: str
    why: str
    rfc: str


class Told(Struct, frozen=True):
    """The result for one request.

    `route` is its path in the settings, "" if none matches.  `origins` are those that may get it.
    `to_origin` is what is sent upstream, None if nothing is.  `to_client` are the heads that the
    client gets, as far as they are known: of the proxy's own answer, or of the response that was
    given.  `body` is the body of the proxy's own answer.  `cause` says why a request is refused.
    """

    request: str
    client: str
    request_id: str
    route: str
    matched: str
    upstream: str
    origins: list[str]
    to_origin: MessageTold | None
    to_client: list[MessageTold]
    body: str
    cause: str
    detail: str
    client_link: LinkTold
    upstream_link: LinkTold | None
