"""Answers of a Caddyfile itself: redirects, fixed responses and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from hopproxy.convert.caddy_words import Line, environment, value_of
from hopproxy.convert.draft import Draft, Values, filled
from hopproxy.settings.amounts import Misread
from hopproxy.settings.fields import parse_redirect

_CODES = {"permanent": 301, "temporary": 302}


def _redir(draft: Draft, one: Line, args: tuple[str, ...], stripped: bool) -> Values | None:
    to, code = (*args, "temporary", "")[:2] if args else ("", "")
    status = _CODES.get(code) or (int(code) if re.fullmatch(r"30[12378]", code) else 0)
    url = value_of(to, stripped=stripped)
    if url is None or not status:
        draft.note(one, "hopproxy has no equivalent")
        return None
    if url.endswith("{path}{query}"):
        url = url.removesuffix("{query}")
    elif url.endswith("{path}"):
        draft.note(one, "hopproxy keeps the query")
    try:
        parse_redirect(url)
    except Misread as misread:
        draft.note(one, f"{misread.wrong}: {misread.hint}")
        return None
    return {"redirect": url, "redirect_status": status}


def _respond(draft: Draft, one: Line, args: tuple[str, ...], _: bool) -> Values | None:
    body, status = "", "200"
    for word in args:
        if re.fullmatch(r"[1-9][0-9][0-9]", word):
            status = word
        else:
            body = word
    for line in one.block or ():
        if line.name == "body" and line.args:
            body = line.args[0]
    if not 200 <= int(status) <= 599:
        draft.note(one, "it is not the status of a final response")
        return None
    if re.search(r"\{[a-z][\w.]*\}", body):
        draft.note(one, "a fixed response cannot have variables")
    if int(status) in (204, 205, 304):  # Caddy sends none either
        body = ""
    kind = "application/json" if _is_json(body) else None
    values = filled({"body": environment(body), "type": kind})
    return {"respond": {"status": int(status)} | values}


def _error(draft: Draft, one: Line, args: tuple[str, ...], _: bool) -> Values | None:
    """`error [message] [status]`: the message is for handle_errors only."""
    status = args[-1] if args and re.fullmatch(r"[45][0-9][0-9]", args[-1]) else "500"
    return {"respond": {"status": int(status)}}


def _abort(draft: Draft, one: Line, _: tuple[str, ...], __: bool) -> Values | None:
    draft.note(one, "hopproxy answers before it closes a connection: here with 404")
    return {"respond": {"status": 404}}


def _is_json(body: str) -> bool:
    """Whether Caddy calls this body JSON: an object or an array."""
    try:
        return isinstance(json.loads(body), dict | list)
    except ValueError:
        return False


Answer = Callable[[Draft, Line, tuple[str, ...], bool], Values | None]
#: The route's settings for a directive, from its words and whether part of the path was removed;
#: None if it cannot be converted.
ANSWERS: dict[str, Answer] = {
    "redir": _redir,
    "respond": _respond,
    "error": _error,
    "abort": _abort,
}
