"""What each hop would be sent for a request, decided by the functions that serve requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

from hopproxy.errors import BadRequest, Denied, HopError, ends_connection
from hopproxy.explain import links
from hopproxy.explain.fields import Why, compare, own, why_of_kind
from hopproxy.explain.taken import Taken, find
from hopproxy.explain.told import LinkTold, MessageTold, Told, Verdict
from hopproxy.message import (
    CHUNKED,
    NO_BODY,
    SIZED,
    UNTIL_CLOSE,
    Kind,
    RequestHead,
    ResponseHead,
    kind_of,
)
from hopproxy.proxy.gather import waits_for_origin
from hopproxy.reasons import CloseReason
from hopproxy.routing.plan import Plan
from hopproxy.rules.answer import answer_to, last_hop
from hopproxy.rules.edits import with_length
from hopproxy.rules.forwarding import Sender, own_via, via_line
from hopproxy.rules.framing import check_size
from hopproxy.rules.grpc import asks_grpc, grpc_answer
from hopproxy.rules.hop import Underscores, reject_underscores, request_for_upstream
from hopproxy.rules.persistence import CLOSE, KEEP_ALIVE, client_ends
from hopproxy.rules.template import Asked
from hopproxy.rules.upgrade import check_switch, declined, switches
from hopproxy.settings.route import Route
from hopproxy.settings.schema import Settings
from hopproxy.settings.upstream import UpstreamSettings
from hopproxy.wire import http1
from hopproxy.wire.chunked import ChunkedError, ChunkedReader


class Case:
    """One request under some settings; `explain` returns what would happen to it.

    `raw` is the request as the client sends it, `response` the origin's, with or without bodies.
    `peer` is the client's address, "" on a Unix socket.
    """

    def __init__(
        self,
        settings: Settings,
        raw: bytes,
        response: bytes = b"",
        *,
        peer: str = "127.0.0.1",
        scheme: bytes = b"http",
        fresh: Callable[[int], bytes] = lambda digits: b"1" * digits,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._raw = raw
        self._response = response
        self._fresh = fresh
        self._now = now
        self._sender = Sender(peer, scheme, settings.trusted_proxies, settings.forwarding)
        self._underscores = Underscores(settings.underscore_fields)
        self._pseudonym = settings.pseudonym.encode()
        via, own_lines = settings.via, own_via(self._pseudonym)
        self._via_upstream = own_lines if via in ("both", "request") else (b"", b"")
        self._via_client = own_lines if via in ("both", "response") else (b"", b"")
        self._request: RequestHead | None = None
        self._taken: Taken | None = None
        self._asked: Asked | None = None
        self._origin = ""
        self._to_origin: MessageTold | None = None
        self._upstream: UpstreamSettings | None = None
        self._upstream_link: LinkTold | None = None
        self._to_client: list[MessageTold] = []
        self._client_link = links.told(None)
        self._body = b""
        self._named: frozenset[bytes] = frozenset()  # in the response's Connection
        self._error: HopError | None = None

    def explain(self) -> Told:
        """What each hop is sent, and why."""
        try:
            self._decide()
        except HopError as error:
            self._refuse(error)
        request, taken, refusal = self._request, self._taken, self._error
        start = self._raw.partition(b"\r\n")[0]
        return Told(
            start.decode("latin-1"),
            self._sender.client(request) or self._sender.peer if request else self._sender.peer,
            self._asked.request_id.decode() if self._asked is not None else "",
            f"routes[{taken.place}]" if taken is not None else "",
            taken.matched if taken is not None else "",
            (taken.route.upstream or "") if taken is not None else "",
            [str(origin) for origin in self._upstream.origins] if self._upstream else [],
            self._to_origin,
            self._to_client,
            self._body.decode("utf-8", "replace"),
            refusal.cause if refusal is not None else "",
            refusal.detail if refusal is not None else "",
            self._client_link,
            self._upstream_link,
        )

    # -- the request -------------------------------------------------------------------------

    def _decide(self) -> None:
        settings, limits = self._settings, self._settings.client
        raw, _, body = self._raw.partition(b"\r\n\r\n")
        if len(raw) + 4 > limits.max_head_size:
            raise http1.too_large(raw, limits)
        request = self._request = http1.read_request(raw, limits)
        if (answer := last_hop(request, traces=settings.trace)) is not None:
            self._answer(*answer)
            return
        taken = self._taken = find(settings, request, self._sender, self._underscores)
        if taken is None:
            raise Denied("no route matches this host and path", 404, "destination_not_found")
        out, extra = request, b""
        if (plan := taken.plan) is not None:
            identity = None
            if plan.ids:
                trusted = self._sender.trusted
                identity = plan.identity(request, trusted=trusted, fresh=self._fresh)
            asked = self._asked = Asked(request, self._sender, identity.id if identity else b"")
            out, extra = plan.outgoing(request, asked, identity)
            if (fixed := plan.answer(asked)) is not None:
                check_size(request.length, self._largest_body(taken.route))
                self._answer(*fixed)
                return
        upstream = self._upstream = settings.upstreams[taken.route.upstream or ""]
        if self._underscores is Underscores.REJECT:
            reject_underscores(out)
        via = via_line(out, self._via_upstream, self._pseudonym)
        block = self._sender.block(out) + extra
        limit = self._largest_body(taken.route)
        check_size(request.length, limit)
        if request.body is CHUNKED and (upstream.buffer_request or not waits_for_origin(out)):
            out = self._collected(out, body, upstream.buffer_request, limit)
        self._origin = upstream.origins[0].authority
        if plan is not None:
            out = plan.for_origin(out, self._origin.encode())
        authority = b"" if request.host else self._origin.encode()
        sent = request_for_upstream(out, block, via, self._underscores, authority)
        start = raw.partition(b"\r\n")[0], self._why_start(request, out)
        self._to_origin = compare(request, start, sent, self._why_request)
        self._client_link = links.told(client_ends(request, SIZED))
        self._upstream_link = links.before(out, upstream)
        if self._response:
            self._respond(out, self._response)

    def _largest_body(self, route: Route) -> int:
        own = route.max_body_size
        return self._settings.client.max_body_size if own is None else own

    def _collected(self, head: RequestHead, body: bytes, size: int, limit: int) -> RequestHead:
        """The request with a length, if its chunked body is complete and small enough."""
        reader = ChunkedReader()
        try:
            content, _ = reader.feed(body)
        except ChunkedError as error:
            raise BadRequest(str(error)) from error
        check_size(len(content), limit)
        fits = reader.done and size and len(content) <= size
        return with_length(head, len(content)) if fits else head

    def _why_start(self, request: RequestHead, out: RequestHead) -> bytes:
        if out.target != request.target and self._taken is not None:
            return b"routes[%d].strip" % self._taken.place
        return b"written anew in HTTP/1.1, in origin-form (RFC 9112 section 3.2.1)"

    def _why_request(self, name: bytes, verdict: Verdict) -> Why:
        request, taken = self._request, self._taken
        assert request is not None
        assert taken is not None
        place = f"routes[{taken.place}]"
        if taken.plan is not None:
            if taken.plan.request.takes(name + b":") or taken.plan.request.adds(name):
                return f"{place}.request_fields", ""
            if taken.plan.ids and name in (b"x-request-id", b"traceparent", b"tracestate"):
                return "request_id", ""
        if verdict == "dropped" and name in request.options and kind_of(name) is Kind.ORDINARY:
            return "named in Connection", "RFC 9110 section 7.6.1"
        if name == b"content-length" and request.body is CHUNKED:
            return f"upstreams.{taken.route.upstream}.buffer_request", "RFC 9112 section 6.2"
        if name == b"host":
            rule = f"upstreams.{taken.route.upstream}.host"
            return (rule if request.host else "HTTP/1.1 needs one"), "RFC 9112 section 3.2"
        if name == b"trailer":
            return "a collected body has no trailers", "RFC 9110 section 6.5.1"
        return why_of_kind(name)

    # -- the response ------------------------------------------------------------------------

    def _respond(self, out: RequestHead, response: bytes) -> None:
        """What the client gets of this response, and what becomes of both connections."""
        request, plan = self._request, self._taken.plan if self._taken else None
        assert request is not None
        raw, _, rest = response.partition(b"\r\n\r\n")
        head = http1.read_response(raw, out.method)
        self._named = head.options
        start = raw.partition(b"\r\n")[0], b"written anew in HTTP/1.1 (RFC 9112 section 2.3)"
        if switches(head):
            protocol = check_switch(out, head)
            changed, added = self._changed(plan, head, self._via_client[head.minor])
            lines = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
            sent = http1.write_response(changed, added + lines)
            self._to_client.append(compare(head, start, sent, self._why_response))
            self._client_link = self._upstream_link = links.told(CloseReason.TUNNEL_ENDED)
            return
        if head.status < 200:
            if request.minor:
                changed = head if plan is None else plan.interim(head)
                sent = http1.write_response(changed, b"")
                self._to_client.append(compare(head, start, sent, self._why_response))
            if rest:
                self._respond(out, rest)
            return
        added = self._via_client[head.minor] + (b"" if head.dated else self._date())
        changed, added = self._changed(plan, head, added)
        sent, reason = self._for_client(changed, added, None)
        self._to_client.append(compare(head, start, sent, self._why_response))
        self._client_link = links.told(reason)
        ending = head.ending
        if ending is None and head.hint is not None and 0 in (head.hint.max, head.hint.timeout):
            ending = CloseReason.HINT
        bound = CloseReason.PRIVATE if out.binds and reason is not None else None
        self._upstream_link = links.told(ending or declined(out) or bound)

    def _changed(
        self, plan: Plan | None, head: ResponseHead, added: bytes
    ) -> tuple[ResponseHead, bytes]:
        if plan is None or self._asked is None:
            return head, added
        return plan.incoming(head, added, self._asked, self._origin.encode())

    def _for_client(
        self,
        head: ResponseHead,
        added: bytes,
        reason: CloseReason | None,
        *,
        unread: bool = False,
    ) -> tuple[bytes, CloseReason | None]:
        """The head of a final response as the client gets it, and why its connection ends."""
        request = self._request
        if request is not None and request.minor and head.body in (CHUNKED, UNTIL_CLOSE):
            added += b"Transfer-Encoding: chunked\r\n"
        if reason is None and request is not None:
            reason = client_ends(request, head.body)
            if reason is None and self._settings.client.max_requests == 1:
                reason = CloseReason.REQUEST_LIMIT
            if reason is None and unread:
                reason = CloseReason.BODY_UNREAD
        if reason is not None:
            added += CLOSE
        elif request is not None and request.minor == 0:
            added += KEEP_ALIVE
        return http1.write_response(head, added), reason

    def _answer(self, head: ResponseHead, body: bytes, reason: CloseReason | None = None) -> None:
        """Our own answer."""
        request = self._request
        if request is not None and request.method == b"HEAD":
            body = b""
        unread = request is not None and not self._is_read(request)
        sent, reason = self._for_client(head, self._date(), reason, unread=unread)
        self._to_client.append(own(sent, self._why_response))
        self._client_link = links.told(reason)
        self._body = body

    def _is_read(self, request: RequestHead) -> bool:
        """Whether the request's body is read although the answer is our own."""
        if request.body is NO_BODY or self._to_origin is not None:
            return True
        whole = self._raw.partition(b"\r\n\r\n")[2]
        routed = self._taken is not None and self._error is None
        return routed and request.body is SIZED and len(whole) >= request.length

    def _refuse(self, error: HopError) -> None:
        self._error = error
        self._upstream_link = None
        request = self._request
        if request is not None and asks_grpc(request):
            own_answer = grpc_answer(request, error, self._pseudonym)
        else:
            own_answer = answer_to(error, self._pseudonym)
        if self._taken is not None and self._taken.plan is not None and self._asked is not None:
            own_answer = self._taken.plan.failure(own_answer, self._asked)
        refused = request is None or ends_connection(error)
        self._answer(*own_answer, reason=error.reason if refused else None)

    def _date(self) -> bytes:
        return b"Date: " + formatdate(int(self._now()), usegmt=True).encode() + b"\r\n"

    def _why_response(self, name: bytes, verdict: Verdict) -> Why:
        taken = self._taken
        if taken is not None and taken.plan is not None:
            if taken.plan.response.takes(name + b":") or taken.plan.response.adds(name):
                return f"routes[{taken.place}].response_fields", ""
            if name in (b"location", b"content-location", b"refresh", b"set-cookie"):
                rule = "redirect" if taken.route.redirect is not None else "locations"
                return f"routes[{taken.place}].{rule}", "RFC 9110 section 10.2.2"
        if name in self._named and kind_of(name) is Kind.ORDINARY:
            return "named in Connection", "RFC 9110 section 7.6.1"
        if verdict != "added":
            return why_of_kind(name)
        if name == b"connection":
            return "the client's connection: see its verdict", "RFC 9112 section 9.6"
        if name == b"transfer-encoding":
            return "framing of the client's hop", "RFC 9112 section 7.1"
        if name == b"content-length":
            return "framing", "RFC 9110 section 8.6"
        if name == b"proxy-status":
            return "the cause of the error", "RFC 9209"
        return why_of_kind(name)
