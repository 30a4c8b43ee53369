"""What a route changes in its messages, or answers itself.

A plan is made when the settings are read.  A route that changes nothing has none.
"""

from __future__ import annotations

from collections.abc import Callable

from hopproxy.message import RequestHead, ResponseHead
from hopproxy.rules.answer import fixed_answer, redirect_answer
from hopproxy.rules.edits import (
    CONTENT,
    FieldRules,
    edited_request,
    edited_response,
    with_host,
)
from hopproxy.rules.hop import Underscores
from hopproxy.rules.location import Origins, authority_names
from hopproxy.rules.request_id import Identity, identify
from hopproxy.rules.template import Asked, Template
from hopproxy.settings.route import TIMEOUTS, FieldEdits, Route

Own = tuple[ResponseHead, bytes]


class Plan:
    """The changes that one route makes.

    `host` is the Host that origins see: None for the client's, b"" for the origin's own.  `strip`
    is the part to take off the path.  `ids` are the fields that tell the id of a request, `bounds`
    if the route has timeouts of its own.
    `only_http` if the route leaves requests that came by https to those behind it.
    """

    __slots__ = (
        "_interim", "_locations", "_own", "_redirect", "_respond", "_strip", "bounds", "host",
        "ids", "only_http", "request", "response",
    )  # fmt: skip

    def __init__(
        self, route: Route, host: str, ids: tuple[str, ...], underscores: Underscores
    ) -> None:
        keeps = underscores is Underscores.KEEP
        self.ids = ids
        self.bounds = any(getattr(route, name) is not None for name in TIMEOUTS)
        self.host = None if host == "pass" else b"" if host == "origin" else host.encode()
        self.request = field_rules(route.request_fields, dashes=not keeps)
        self.response = field_rules(route.response_fields)
        self.only_http = route.redirect == "https"
        self._interim = self.response.removals()
        self._own = self.response.without(CONTENT)
        self._strip = (route.strip or "").rstrip("/").encode()
        turned = route.locations != "off" and (bool(self._strip) or self.host is not None)
        self._locations = route.locations if turned else ""
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
    ) -> Identity | None:
        """The id of a request, None if none is asked for."""
        return identify(head, self.ids, trusted=trusted, fresh=fresh) if self.ids else None

    def outgoing(
        self, head: RequestHead, asked: Asked, identity: Identity | None = None
    ) -> RequestHead:
        """The request for any origin of the upstream; `for_origin` follows."""
        constant = identity is None and not self.request.varies
        if constant and (known := head.edited) is not None and known[0] is self:
            return known[1]
        out = head
        if self.request or self._strip:
            added = self.request.lines(asked)
            out = edited_request(head, self.request, added, self.stripped(head.target))
        if identity is not None:
            names = [name.decode() for name in identity.names]
            out = edited_request(out, FieldRules((), names), identity.lines, out.target)
        if self.host:
            out = with_host(out, self.host)
        if constant:
            head.edited = (self, out)
        return out

    def for_origin(self, head: RequestHead, authority: bytes) -> RequestHead:
        """The request with the Host of the origin that it goes to."""
        return head if self.host != b"" else with_host(head, authority)

    def stripped(self, target: bytes) -> bytes:
        """The target without the part that the route takes off."""
        strip = self._strip
        if not strip or not target.startswith(strip):
            return target
        rest = target[len(strip) :]
        return rest if rest.startswith(b"/") else b"/" + rest

    # -- the response ------------------------------------------------------------------------

    def incoming(self, head: ResponseHead, asked: Asked, authority: bytes) -> ResponseHead:
        """A final response for the client; `authority` is the origin's."""
        constant = not self.response.varies
        key = authority, asked.authority
        if constant and (known := head.edited) is not None and known[:2] == (self, key):
            return known[2]
        out = head
        if self._locations:
            names = authority_names(authority, self.host or b"")
            if self._locations == "all":
                names |= authority_names(asked.authority)
            turn = Origins(names, self._strip, paths=self._locations == "all")
            out = turn.seen_from_client(out)
        if self.response:
            out = edited_response(out, self.response, self.response.lines(asked))
        if constant:
            head.edited = (self, key, out)
        return out

    def interim(self, head: ResponseHead) -> ResponseHead:
        """An interim response for the client: fields are only removed."""
        return edited_response(head, self._interim, []) if self._interim else head

    def trailers(self, lines: list[bytes]) -> list[bytes]:
        """The trailers of a response for the client: fields are only removed."""
        return self.response.kept(lines)

    # -- answers of our own ------------------------------------------------------------------

    def answer(self, asked: Asked) -> Own | None:
        """The answer of a route that asks no origin, None if it does."""
        if self._redirect is not None:
            to, query, status = self._redirect
            url = to.filled(asked) + (asked.value("query") if query else b"")
            own = redirect_answer(status, url)
        elif self._respond is not None:
            own = self._respond
        else:
            return None
        if not self.response:
            return own
        return edited_response(own[0], self.response, self.response.lines(asked)), own[1]

    def failure(self, own: Own, asked: Asked) -> Own:
        """One of our own error messages, with what the route's rules say about any response."""
        if not self._own:
            return own
        return edited_response(own[0], self._own, self._own.lines(asked)), own[1]


def field_rules(edits: FieldEdits, *, dashes: bool = False) -> FieldRules:
    """The rules that these settings mean."""
    fields = [(name, Template(value)) for name, value in edits.set.items()]
    fields += [(name, Template(value)) for name, values in edits.add.items() for value in values]
    return FieldRules(fields, [*edits.set, *edits.remove], dashes=dashes)


def plan_of(route: Route, host: str, ids: tuple[str, ...], underscores: Underscores) -> Plan | None:
    """The plan of a route whose upstream sends this `host`; None if it changes nothing."""
    plan = Plan(route, host, ids, underscores)
    return plan if plan.changes else None
