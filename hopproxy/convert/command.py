"""`hopproxy convert`: settings made from another proxy's configuration."""

import argparse
import re
import sys
from pathlib import Path

from hopproxy.convert.caddy import caddy
from hopproxy.convert.draft import Draft
from hopproxy.convert.nginx import nginx
from hopproxy.convert.nginx_words import Unreadable
from hopproxy.exits import BAD_CONFIGURATION, DONE, Failure

#: How a line of an nginx configuration begins, but none of a Caddyfile.
_NGINX = r"^\s*(?:(?:server|http|events|upstream\s+\S+)\s*\{|(?:listen|location|proxy_pass)\s)"


def convert(options: argparse.Namespace) -> int:
    """Print the settings, and on standard error what was not converted.  Raises Failure."""
    name = options.file
    try:
        text = Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(f"{name}: cannot be read: {reason}", BAD_CONFIGURATION) from error
    try:
        draft = converted(text, Path(name).parent, options.language or language_of(name, text))
    except Unreadable as error:
        message = f"{name}:{error.line}: cannot be read: {error}"
        raise Failure(message, BAD_CONFIGURATION) from error
    for note in sorted(draft.notes):
        print(f"{note.file or name}:{note.line}: {note.text}: {note.why}", file=sys.stderr)
    print(draft.text(Path(name).name), end="")
    return DONE


def converted(text: str, folder: Path, language: str) -> Draft:
    """The settings for a text in this language.  Raises Unreadable."""
    return nginx(text, folder) if language == "nginx" else caddy(text, folder)


def language_of(name: str, text: str) -> str:
    """Whether this is a configuration of nginx or a Caddyfile."""
    if "caddy" in Path(name).name.lower():
        return "caddy"
    looks = re.search(_NGINX, text, re.MULTILINE)
    return "caddy" if looks is None else "nginx"
