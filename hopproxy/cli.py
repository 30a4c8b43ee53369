"""The commands: run, dev, check, probe, explain, convert, schema."""

if __name__ == "__main__":
    # The imports below take a while; no signal may be lost meanwhile.
    from hopproxy.begin import begin

    begin()

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import trio

from hopproxy import __version__, descriptors
from hopproxy.begin import (
    has_workers,
    hold_standard_descriptors,
    is_supervised,
    obey_no_signals,
    serves,
)
from hopproxy.errors import HopError
from hopproxy.exits import (
    BAD_CONFIGURATION,
    BAD_USAGE,
    COULD_NOT_BIND,
    DONE,
    FAULT,
    INTERRUPTED,
    Failure,
)
from hopproxy.observe.error_log import ErrorLog, stand_in
from hopproxy.server.channel import inherited
from hopproxy.server.listener import CannotBind
from hopproxy.server.supervisor import supervise
from hopproxy.settings.amounts import Misread, parse_duration
from hopproxy.settings.certificate import OriginTls
from hopproxy.settings.memory import most_memory, told
from hopproxy.settings.reference import json_schema
from hopproxy.settings.words import parse_count, parse_path
from hopproxy.settings_file import DEFAULT_FILES, all_risks, count_of, read_file, warnings
from hopproxy.signals import SIGNALS

log = logging.getLogger("hopproxy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    hold_standard_descriptors()
    if serves(words):
        return _serving(words)
    logging.basicConfig(format="hopproxy: %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        code = _obey(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        if error.filename is not None:
            raise
        # Otherwise Python would write the rest again at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return DONE
        print(f"hopproxy: standard output: {error.strerror}", file=sys.stderr)
        return BAD_CONFIGURATION
    return code


def _serving(words: Sequence[str]) -> int:
    """Run a command that serves.  Its messages are written without waiting for their reader."""
    if is_supervised():
        obey_no_signals()
    else:
        SIGNALS.hear()
        if has_workers(words):
            return supervise()
    descriptors.raise_limit()
    error_log = stand_in()
    try:
        return _obey(words, error_log)
    except Exception:
        log.exception("ended through a fault in hopproxy")
        return FAULT
    finally:
        SIGNALS.ignore()
        error_log.finish()


def _obey(words: Sequence[str], error_log: ErrorLog | None = None) -> int:
    options = _parser().parse_args(words)
    options.error_log = error_log
    try:
        command = options.command
        return int(command(options))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.code


#: The ways to name a server, for `dev` and `probe`.
_ORIGIN = "3000, localhost:3000, http://host:port, https://host:port or unix:/path"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hopproxy", description="A reverse proxy that manages keep-alive hop by hop."
    )
    parser.add_argument("--version", action="version", version=f"hopproxy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve in the foreground")
    _add_file(run)
    run.set_defaults(command=_run)
    dev = commands.add_parser("dev", help="serve in front of a local server, or of a demo")
    dev.add_argument(
        "origins",
        metavar="ORIGIN",
        nargs="*",
        help=f"{_ORIGIN}; several as NAME=ORIGIN, at http://NAME.localhost; without it, a demo",
    )
    dev.add_argument("--bind", metavar="HOST:PORT", help="default: 127.0.0.1:8080 or next free")
    dev.add_argument("--admin", metavar="HOST:PORT", help="default: 127.0.0.1:9901 or next free")
    dev.add_argument(
        "--route",
        metavar="PATH=ORIGIN",
        action="append",
        default=[],
        help="another origin for this path and all below it; may be repeated",
    )
    dev.add_argument(
        "--host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which browsers reach the site; may be repeated",
    )
    dev.add_argument(
        "--https",
        action="store_true",
        help="speak TLS, with certificates of an authority of your own; default port: 8443",
    )
    dev.add_argument(
        "--rewrite-host",
        action="store_true",
        help="origins see their own address in Host, not the name in the browser",
    )
    dev.add_argument(
        "--hold",
        metavar="TIME",
        help="how long requests wait for a server that restarts; default: 10s",
    )
    dev.set_defaults(command=_dev)
    check = commands.add_parser("check", help="list every problem in a settings file")
    _add_file(check)
    check.add_argument("--probe", action="store_true", help="measure the origins too")
    check.set_defaults(command=_check)
    probe = commands.add_parser("probe", help="measure how an origin handles connections")
    probe.add_argument("origin", metavar="ORIGIN", help=_ORIGIN)
    probe.add_argument(
        "--max", metavar="TIME", default="90s", help="longest idle time to try; default: 90s"
    )
    probe.add_argument(
        "--requests", metavar="N", default="120", help="requests on one connection; default: 120"
    )
    probe.add_argument("--path", metavar="PATH", default="/", help="path to GET; default: /")
    probe.add_argument("--ca", metavar="FILE", help="authorities to trust, for https://")
    probe.set_defaults(command=_probe)
    _add_explain(commands.add_parser("explain", help="show what each hop would be sent, and why"))
    convert = commands.add_parser("convert", help="make settings from an nginx.conf or Caddyfile")
    convert.add_argument("file", metavar="FILE", help="the file; included files are read too")
    convert.add_argument("--from", dest="language", choices=["nginx", "caddy"],
                         help="its language; default: guessed from the file")  # fmt: skip
    convert.set_defaults(command=_convert)
    schema = commands.add_parser("schema", help="print the JSON Schema of the settings")
    schema.set_defaults(command=_schema)
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("url", metavar="URL", nargs="?", help="http://host/path, host/path or /path")
    add("--config", metavar="FILE", help="the settings file; default: the one that run takes")
    add("-X", "--request", metavar="METHOD", help="default: GET, or POST with -d")
    add("-H", "--header", metavar="FIELD", action="append", default=[], help="'Name: value'")
    add("-d", "--data", metavar="BODY", help="a body, with its Content-Length")
    add("-I", "--head", action="store_true", help="a HEAD request")
    add("-0", "--http1.0", dest="http10", action="store_true", help="an HTTP/1.0 request")
    add("--raw", metavar="FILE", help="the whole request as it is; - is standard input")
    add("--response", metavar="FILE", help="what the origin answers: its head is enough")
    add("--from", dest="peer", metavar="ADDRESS", default="127.0.0.1",
        help="the client's address, or unix; default: 127.0.0.1")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=_explain)


def _add_file(parser: argparse.ArgumentParser) -> None:
    default = "default: " + ", then ".join(DEFAULT_FILES)
    parser.add_argument("file", metavar="FILE", nargs="?", help=f"the settings file; {default}")
    parser.add_argument("--config", metavar="FILE", help="the same, as an option")


def _run(options: argparse.Namespace) -> int:
    # Imported here: no other command needs it.
    from hopproxy.server.run import run

    return run(partial(read_file, options.file, options.config), inherited(), options.error_log)


def _dev(options: argparse.Namespace) -> int:
    # Imported here: `run` does not need the demo and its WebSocket library.
    from hopproxy.dev.settings import bind_of
    from hopproxy.dev.site import site_of
    from hopproxy.dev.start import NoAuthority, start

    try:
        site = site_of(options.origins, options.route, options.host, options.hold)
        site = replace(site, rewrites_host=options.rewrite_host, https=options.https)
        bind, admin = (bind_of(word) if word else None for word in (options.bind, options.admin))
    except Misread as misread:
        raise Failure(f"hopproxy dev: {misread}", BAD_USAGE) from misread
    try:
        start(site, bind, admin, options.error_log)
    except NoAuthority as error:
        raise Failure(f"hopproxy dev: {error}", BAD_CONFIGURATION) from error
    except CannotBind as error:
        raise Failure(f"hopproxy: {error}", COULD_NOT_BIND) from error
    return DONE


def _check(options: argparse.Namespace) -> int:
    file = read_file(options.file, options.config)
    found = all_risks(file.settings)
    if options.probe:
        from hopproxy.probe.run import probed_risks

        found += trio.run(probed_risks, file.settings)
    for warning in warnings(file, found):
        print(warning)
    most = most_memory(file.settings, count_of(file.settings))
    print(f"at most {told(most)} with these settings")
    print("valid")
    return DONE


def _probe(options: argparse.Namespace) -> int:
    # Imported here, as in `_dev`.
    from hopproxy.dev.site import origin_of
    from hopproxy.probe.asker import Target
    from hopproxy.probe.run import probe

    try:
        tls = OriginTls(ca=options.ca)
        target = Target(origin_of(options.origin), parse_path(options.path), tls)
        most = parse_duration(options.max)
        requests = parse_count(options.requests)
        if most <= 0 or requests < 1:
            raise Misread("--max and --requests have to be more than 0", "or leave them out")
    except Misread as misread:
        raise Failure(f"hopproxy probe: {misread}", BAD_USAGE) from misread
    except OSError as error:
        message = f"hopproxy probe: {options.ca} cannot be used: {error.strerror or error}"
        raise Failure(message, BAD_USAGE) from error
    try:
        findings = trio.run(partial(probe, target, most=most, requests=requests))
    except HopError as error:
        raise Failure(f"hopproxy probe: {error.detail}", BAD_CONFIGURATION) from error
    print(f"{findings.table()}\n{findings.settings()}", end="")
    return DONE


def _explain(options: argparse.Namespace) -> int:
    # Imported here, as in `_dev`.
    from hopproxy.explain.command import explain

    return explain(options)


def _convert(options: argparse.Namespace) -> int:
    # Imported here, as in `_dev`.
    from hopproxy.convert.command import convert

    return convert(options)


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
