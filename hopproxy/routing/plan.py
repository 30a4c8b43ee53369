"""What a route changes in its messages, or answers itself.

A plan is made when the settings are read.  A route that changes nothing has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hopproxy.errors import Denied
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.rules.answer import fixed_answer, redirect_answer
from hopproxy.rules.edits import (
    CONTENT,
    FieldRules,
    edited_request,
    edited_response,
    with_host,
    with_lines,
)
from hopproxy.rules.hop import Underscores
from hopproxy.rules.location import Origins, authority_names
from hopproxy.rules.request_id import Identity, identify
from hopproxy.rules.target import plain_path, written_path
from hopproxy.rules.template import Asked, Template
from hopproxy.settings.route import TIMEOUTS, FieldEdits, Route

_DOT_SEGMENT = re.compile(rb"(?:/|%2[Ff])(?:\.|%2[Ee]){1,2}(?:/|%2[Ff]|$)")

Own = tuple[ResponseHead, bytes]


class Plan:
    """The changes that one route makes.

    `host` is the Host that origins see: None for the client's, b"" for the origin's own.  `strip`
    is the prefix to remove from the path.  `ids` are the fields with the id of a request.  `bounds`
    if the route has timeouts of its own, `late` if something depends on the origin or the link,
    `asks` if something depends on the request.  `only_http` if the route leaves https requests to
    later routes.
    """

    __slots__ = (
        "_id_rules", "_interim", "_key", "_locations", "_own", "_redirect", "_respond", "_strip",
        "asks", "bounds", "host", "ids", "late", "only_http", "request", "response",
    )  # fmt: skip

    def __init__(
        self, route: Route, host: str, ids: tuple[str, ...], underscores: Underscores
    ) -> None:
        keeps = underscores is Underscores.KEEP
        self.ids = ids
        self.bounds = any(getattr(route, name) is not None for name in TIMEOUTS)
        self.host = None if host == "pass" else b"" if host == "origin" else host.encode()
        self.late = self.bounds or self.host == b""
        self.request = field_rules(route.request_fields, dashes=not keeps)
        self.response = field_rules(route.response_fields)
        self._id_rules: dict[tuple[bytes, ...], FieldRules] = {}
        self.only_http = route.redirect == "https"
        self._interim = self.response.removals()
        self._own = self.response.without(CONTENT)
        self._strip = (route.strip or "").rstrip("/").encode()
        turned = route.locations != "off" and (bool(self._strip) or self.host is not None)
        self._locations = route.locations if turned else ""
        varies = self.request.varies or self.response.varies or route.redirect is not None
        self.asks = bool(self.ids or varies or self._locations)
        self._key: object = object()
        self._redirect: tuple[Template, bool, int] | None = None
        if route.redirect is not None:
            to = "https://{host}{path}" if self.only_http else route.redirect
            query = to.endswith("{path}")
            self._redirect = Template(to), query, route.redirect_status
        self._respond: Own | None = None
        if (fixed := route.respond) is not None:
            self._respond = fixed_answer(fixed.status, fixed.body.encode(), fixed.type.encode())

    @property
    def changes(self) -> bool:
        """Whether there is anything that the plan changes or answers."""
        found = self.ids, self.bounds, self.request, self.response, self._strip
        return any([*found, self.host is not None, self._redirect, self._respond])

    # -- the request -------------------------------------------------------------------------

    def identity(
        self, head: RequestHead, *, trusted: bool, fresh: Callable[[int], bytes]
    ) -> Identity:
        """The id of a request, if `ids` ask for one."""
        return identify(head, self.ids, trusted=trusted, fresh=fresh)

    def outgoing(
        self, head: RequestHead, asked: Asked, identity: Identity | None = None
    ) -> tuple[RequestHead, bytes]:
        """The request for any origin of the upstream, and the field lines to add to it.

        `for_origin` follows.
        """
        rules = self.request
        added = rules.added(asked) if rules.varies else rules.constant
        if identity is not None:
            rules = self._with_id(identity.names)
            added += b"".join([line + b"\r\n" for line in identity.lines])
        known = head.edited
        if known is None or known[0] is not rules:
            known = head.edited = (rules, self._changed(head, rules))
        return known[1] or head, added

    def _changed(self, head: RequestHead, rules: FieldRules) -> RequestHead | None:
        """The request without removed fields and with another Host; None if nothing changes."""
        out = head
        target = self.stripped(head.target) if self._strip else head.target
        if target is not head.target or rules.touch(head.lines, head.raw):
            out = edited_request(head, rules, target)
        if self.host:
            out = with_host(out, self.host)
        return None if out is head else out

    def _with_id(self, names: tuple[bytes, ...]) -> FieldRules:
        """The rules for requests, which remove the fields of an id too."""
        rules = self._id_rules.get(names)
        if rules is None:
            rules = self._id_rules[names] = self.request.taking(names)
        return rules

    def for_origin(self, head: RequestHead, authority: bytes) -> RequestHead:
        """The request with the Host of the origin that it goes to."""
        return head if self.host != b"" else with_host(head, authority)

    def stripped(self, target: bytes) -> bytes:
        """The target without the prefix that the route removes."""
        strip = self._strip
        path, mark, query = target.partition(b"?")
        if not strip:
            return target
        if not _is_below(path, strip) or _DOT_SEGMENT.search(path):
            path, strip = written_path(plain_path(path)), written_path(plain_path(strip))
            if not _is_below(path, strip):
                return target
        return (path[len(strip) :] or b"/") + mark + query

    # -- the response ------------------------------------------------------------------------

    def incoming(
        self, head: ResponseHead, added: bytes, asked: Asked, authority: bytes
    ) -> tuple[ResponseHead, bytes]:
        """A final response for the client, and the field lines to add to it.

        `added` are the lines that the gateway adds.  `authority` is the origin's.
        """
        known = head.edited
        if known is not None and known[0] is self._key and known[2] is added:
            return known[1] or head, known[3]
        rules = self.response
        if self._locations:
            key: object = (self._key, authority, asked.authority)
            if known is None or known[0] != key:
                out = edited_response(self._turned(head, asked, authority), rules)
                known = head.edited = (key, None if out is head else out, None, b"")
        elif known is None or known[0] is not self._key:
            out = edited_response(head, rules)
            known = head.edited = (self._key, None if out is head else out, None, b"")
        if rules.varies:
            return known[1] or head, rules.added(asked) + added
        total = rules.constant + added
        head.edited = (known[0], known[1], added, total)
        return known[1] or head, total

    def _turned(self, head: ResponseHead, asked: Asked, authority: bytes) -> ResponseHead:
        """The response with its URLs rewritten for the client."""
        names = authority_names(authority, self.host or b"")
        if self._locations == "all":
            names |= authority_names(asked.authority)
        turn = Origins(names, self._strip, paths=self._locations == "all")
        return turn.seen_from_client(head)

    def interim(self, head: ResponseHead) -> ResponseHead:
        """An interim response for the client: fields are only removed."""
        return edited_response(head, self._interim)

    def trailers(self, lines: list[bytes]) -> list[bytes]:
        """The trailers of a response for the client: fields are only removed."""
        return self.response.kept(lines)

    # -- answers of our own ------------------------------------------------------------------

    def answer(self, asked: Asked) -> Own | None:
        """The answer of a route without an upstream, None if it has one.

        Raises Denied (400) for a request without Host where a redirect needs it.
        """
        if self._redirect is not None:
            to, query, status = self._redirect
            if not asked.authority and {"host", "authority"} & set(to.variables):
                raise Denied("this redirect names the host, and the request has none", 400)
            url = to.filled(asked) + (asked.query if query else b"")
            own = redirect_answer(status, url)
        elif self._respond is not None:
            own = self._respond
        else:
            return None
        return _with_fields(own, self.response, asked)

    def failure(self, own: Own, asked: Asked) -> Own:
        """One of our own error responses, with the route's rules that apply to any response."""
        return _with_fields(own, self._own, asked)


def _is_below(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def _with_fields(own: Own, rules: FieldRules, asked: Asked) -> Own:
    """One of our own answers with the fields of these rules."""
    if not rules:
        return own
    head = edited_response(own[0], rules)
    added = rules.added(asked) if rules.varies else rules.constant
    return with_lines(head, head.lines + added.split(b"\r\n")[:-1]), own[1]


def field_rules(edits: FieldEdits, *, dashes: bool = False) -> FieldRules:
    """The rules for these settings."""
    fields = [(name, Template(value)) for name, value in edits.set.items()]
    fields += [(name, Template(value)) for name, values in edits.add.items() for value in values]
    return FieldRules(fields, [*edits.set, *edits.remove], dashes=dashes)


def plan_of(route: Route, host: str, ids: tuple[str, ...], underscores: Underscores) -> Plan | None:
    """The plan of a route whose upstream sends this `host`; None if it changes nothing."""
    plan = Plan(route, host, ids, underscores)
    return plan if plan.changes else None
