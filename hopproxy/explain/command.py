"""`hopproxy explain`: its arguments, and what it prints."""

import argparse
import sys
from pathlib import Path

import msgspec

from hopproxy.exits import BAD_CONFIGURATION, BAD_USAGE, DONE, Failure
from hopproxy.explain.decide import Case
from hopproxy.explain.request import made, peer_address, raw_message
from hopproxy.explain.show import shown
from hopproxy.settings.amounts import Misread
from hopproxy.settings_file import read_file


def explain(options: argparse.Namespace) -> int:
    """Print what each hop would be sent.  Raises Failure."""
    file = read_file(options.config)
    try:
        raw, scheme = _request(options)
        peer = peer_address(options.peer)
    except Misread as misread:
        raise Failure(f"hopproxy explain: {misread}", BAD_USAGE) from misread
    response = raw_message(_read(options.response)) if options.response else b""
    told = Case(file.settings, raw, response, peer=peer, scheme=scheme).explain()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(told)).decode())
    else:
        print(shown(told), end="")
    return DONE


def _request(options: argparse.Namespace) -> tuple[bytes, bytes]:
    """(raw request, scheme) as the arguments or a file say.  Raises Misread."""
    if options.raw is not None:
        if options.url is not None:
            raise Misread("--raw and a URL are two requests", "keep one")
        return raw_message(_read(options.raw)), b"http"
    if options.url is None:
        raise Misread("no request is named", "write a URL, or --raw FILE (- reads standard input)")
    method = "HEAD" if options.head else options.request or ""
    return made(
        options.url,
        method=method,
        fields=options.header,
        data=options.data,
        minor=0 if options.http10 else 1,
    )


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"{name}: cannot be read: {error.strerror}", BAD_CONFIGURATION) from error
