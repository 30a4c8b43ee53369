"""The page that a browser gets if the origin does not answer: what was tried, and what to do.

If the origin cannot be reached, the page polls and reloads itself once the origin is back.
"""

import html
import json
from collections.abc import Callable
from importlib import resources

from hopproxy.dev.settings import CONNECT
from hopproxy.errors import BadResponse, ConnectFailed, HopError, TlsFailed
from hopproxy.message import RequestHead, ResponseHead
from hopproxy.proxy.terms import Page
from hopproxy.reasons import Hop
from hopproxy.rules.answer import plain_answer, proxy_status, reason_phrase
from hopproxy.settings.units import OriginAddress

_POLICY = (
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
    b"script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)

#: What happened when connecting, by error type (RFC 9209 section 2.3).
_HAPPENED = {
    "connection_refused": "refused at once: no process listens there",
    "connection_timeout": f"no connection within {CONNECT:.0f} s",
    "dns_error": "the name has no address",
    "dns_timeout": f"the name was not resolved within {CONNECT:.0f} s",
}


def page_for(origin_of: Callable[[RequestHead], OriginAddress], pseudonym: bytes) -> Page:
    """Make pages for failures of an origin; None for clients that do not accept HTML."""
    template = resources.files("hopproxy.dev").joinpath("down.html").read_text()

    def page(request: RequestHead | None, error: HopError) -> tuple[ResponseHead, bytes] | None:
        if request is None or error.at is not Hop.UPSTREAM or not _reads_html(request):
            return None
        words = _words(origin_of(request), request, error)
        # In one pass, so that a value with braces is not taken for a placeholder.
        text = "".join(
            html.escape(words[part]) if place else part for place, part in _parts(template)
        )
        lines = [proxy_status(error, pseudonym), _POLICY]
        return plain_answer(error.status, text.encode(), lines, b"text/html; charset=utf-8")

    return page


def _parts(template: str) -> list[tuple[bool, str]]:
    """The template in parts: (whether it is a placeholder, its name or the text)."""
    parts: list[tuple[bool, str]] = []
    for piece in template.split("{{"):
        name, mark, rest = piece.partition("}}")
        parts += [(True, name), (False, rest)] if mark else [(False, piece)]
    return parts


def _reads_html(request: RequestHead) -> bool:
    return any(b"text/html" in value.lower() for value in request.values(b"accept"))


def _words(origin: OriginAddress, request: RequestHead, error: HopError) -> dict[str, str]:
    """The values for the placeholders of the template."""
    unreached = isinstance(error, ConnectFailed) and not isinstance(error, TlsFailed)
    safe = request.method in (b"GET", b"HEAD")
    direct = _direct(origin, request, error)
    return {
        "status": f"{error.status} {reason_phrase(error.status).decode()}",
        "title": "Nothing answers at" if unreached else "No good answer from",
        "origin": str(origin),
        "tried": _tried(origin),
        "request": f"{request.method.decode()} {request.target.decode('latin-1')}",
        "detail": _HAPPENED.get(error.cause, error.detail) if unreached else error.detail,
        "cause": error.cause,
        "advice": _advice(origin, error),
        "sent": "(not sent)" if unreached else "",
        "direct": direct,
        "hidden": "" if direct else "hidden",
        # A page that reloads itself must not repeat a POST.
        "waits": json.dumps(unreached and safe),
    }


def _tried(origin: OriginAddress) -> str:
    if origin.kind == "unix":
        return origin.path
    return f"{origin.host}, port {origin.port}"


def _advice(origin: OriginAddress, error: HopError) -> str:
    """What a person can do about it."""
    if error.cause.startswith("dns_"):
        return f"Is {origin.host} spelled right, and does the resolver of this machine answer?"
    if isinstance(error, TlsFailed):
        return "The server was reached, but TLS failed: is https:// right?"
    if error.status == 504 and isinstance(error, ConnectFailed):
        return (
            "Something is there but does not accept connections: it may be busy starting, "
            "or stopped in a debugger."
        )
    if isinstance(error, ConnectFailed):
        place = f"port {origin.port}" if origin.kind == "tcp" else origin.path
        return f"Is your server started, and does it listen on {place}?"
    if isinstance(error, BadResponse) and error.hint:
        return error.hint
    return "The server was reached, but failed on this request: its own log may say more."


def _direct(origin: OriginAddress, request: RequestHead, error: HopError) -> str:
    """The URL to open the server without hopproxy, empty if that is not possible.

    Only for a GET, and only if a browser may understand the server's responses.
    """
    reached = isinstance(error, BadResponse) and origin.kind == "tcp"
    if not reached or request.method != b"GET" or not request.target.startswith(b"/"):
        return ""
    return str(origin) + request.target.decode("latin-1")
