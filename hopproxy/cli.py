"""The commands: run, dev, check, probe, schema."""

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from hopproxy import __version__
from hopproxy.errors import HopError
from hopproxy.gateway import Page
from hopproxy.listener import CannotBind, close_listener, open_listener
from hopproxy.observe.access_log import AccessLog
from hopproxy.settings.lint import risks
from hopproxy.settings.reader import SettingsErrors, places, read
from hopproxy.settings.reference import json_schema
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Misread, parse_duration
from hopproxy.settings.words import parse_path
from hopproxy.worker import Sockets, Worker

DONE, BAD_CONFIGURATION, BAD_USAGE, COULD_NOT_BIND = 0, 1, 2, 3

#: Where `run` and `check` look when no file is named.
DEFAULT_FILES = ("hopproxy.yaml", "/etc/hopproxy/hopproxy.yaml")

log = logging.getLogger("hopproxy")


class Failure(Exception):
    """The command ends here: what to say, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    logging.basicConfig(format="hopproxy: %(message)s", level=logging.INFO, stream=sys.stderr)
    options = _parser().parse_args(arguments)
    try:
        command = options.command
        return int(command(options))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hopproxy", description="A reverse proxy that manages keep-alive hop by hop."
    )
    parser.add_argument("--version", action="version", version=f"hopproxy {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve, in the foreground")
    run.add_argument("--config", metavar="FILE", help="default: " + ", then ".join(DEFAULT_FILES))
    run.set_defaults(command=_run)
    dev = commands.add_parser("dev", help="stand in front of a server on this machine, or a demo")
    dev.add_argument("origin", metavar="ORIGIN", nargs="?", help="3000, localhost:3000, unix:/x")
    dev.add_argument("--bind", metavar="HOST:PORT", help="default: 127.0.0.1:8080 or next free")
    dev.add_argument("--admin", metavar="HOST:PORT", help="default: 127.0.0.1:9901 or next free")
    dev.set_defaults(command=_dev)
    check = commands.add_parser("check", help="tell every problem of a settings file")
    check.add_argument("--config", metavar="FILE", help="default: " + ", then ".join(DEFAULT_FILES))
    check.add_argument("--probe", action="store_true", help="ask the origins for their limits")
    check.set_defaults(command=_check)
    probe = commands.add_parser("probe", help="measure how an origin treats idle connections")
    probe.add_argument("origin", metavar="ORIGIN", help="3000, localhost:3000, unix:/x")
    probe.add_argument("--max", metavar="TIME", default="90s", help="longest wait; default: 90s")
    probe.add_argument("--requests", metavar="N", type=int, default=120, help="default: 120")
    probe.add_argument("--path", metavar="PATH", default="/", help="what to GET; default: /")
    probe.set_defaults(command=_probe)
    schema = commands.add_parser("schema", help="print the JSON Schema of the settings")
    schema.set_defaults(command=_schema)
    return parser


def _run(options: argparse.Namespace) -> int:
    settings = _read(options.config)
    return serve(settings)


def _dev(options: argparse.Namespace) -> int:
    # Not at the top: a sidecar need not pay for the demo and its WebSocket library.
    from hopproxy.dev.settings import bind_of, origin_of
    from hopproxy.dev.start import start

    try:
        origin = origin_of(options.origin) if options.origin else None
        site, admin = (bind_of(word) if word else None for word in (options.bind, options.admin))
    except Misread as misread:
        raise Failure(f"hopproxy dev: {misread}", BAD_USAGE) from misread
    try:
        start(origin, site, admin)
    except CannotBind as error:
        raise Failure(f"hopproxy: {error}", COULD_NOT_BIND) from error
    return DONE


def _check(options: argparse.Namespace) -> int:
    file, text, settings = _read_text(options.config)
    found = list(risks(settings))
    if options.probe:
        from hopproxy.probe.run import probed_risks

        found += trio.run(probed_risks, settings)
    if found:
        place_of = places(text, file=file, environ=os.environ)
        for path, message, hint in found:
            at = place_of(path)
            print(f"{file}:{at.line}:{at.column}: warning: {path}: {message} ({hint})")
    print("valid")
    return DONE


def _probe(options: argparse.Namespace) -> int:
    # Not at the top, as in `_dev`.
    from hopproxy.dev.settings import origin_of
    from hopproxy.probe.asker import Target
    from hopproxy.probe.run import probe

    try:
        target = Target(origin_of(options.origin), parse_path(options.path))
        most = parse_duration(options.max)
    except Misread as misread:
        raise Failure(f"hopproxy probe: {misread}", BAD_USAGE) from misread
    try:
        findings = trio.run(partial(probe, target, most=most, requests=options.requests))
    except HopError as error:
        raise Failure(f"hopproxy probe: {error.detail}", BAD_CONFIGURATION) from error
    print(f"{findings.table()}\n{findings.settings()}", end="")
    return DONE


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return DONE


def _read(named: str | None) -> Settings:
    return _read_text(named)[2]


def _read_text(named: str | None) -> tuple[str, str, Settings]:
    """(file, its text, its settings)."""
    files = [named] if named else [file for file in DEFAULT_FILES if Path(file).exists()]
    if not files:
        raise Failure(
            f"no settings file: name one with --config, or write {' or '.join(DEFAULT_FILES)}",
            BAD_CONFIGURATION,
        )
    try:
        text = Path(files[0]).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(f"{files[0]}: cannot be read: {reason}", BAD_CONFIGURATION) from error
    try:
        return files[0], text, read(text, file=files[0], environ=os.environ)
    except SettingsErrors as errors:
        raise Failure(str(errors), BAD_CONFIGURATION) from errors


def serve(settings: Settings, page: Page | None = None) -> int:
    """Serve with these settings until stopped by a signal; the exit code."""
    with ExitStack() as opened:
        return _serve_on(_listening(settings, opened), settings, page)


def _listening(settings: Settings, opened: ExitStack) -> Sockets:
    """All sockets to listen on, which `opened` closes.  Raises Failure."""
    clients, admin = [], None
    try:
        for one in settings.listeners:
            sock = open_listener(one.bind, one.backlog, settings.client, mode=one.mode)
            opened.callback(close_listener, sock)
            clients.append(sock)
        if settings.admin is not None:
            admin = open_listener(settings.admin.bind, 128)
            opened.callback(close_listener, admin)
    except CannotBind as error:
        raise Failure(f"hopproxy: {error}", COULD_NOT_BIND) from error
    return Sockets(clients, admin)


def _serve_on(sockets: Sockets, settings: Settings, page: Page | None) -> int:
    style = settings.access_log
    access_log = None if style == "off" else AccessLog(style, sys.stdout.fileno())
    worker = Worker(settings, sockets, access_log, page)
    if settings.workers != 1:
        log.warning("workers: %s: this version serves with one process", settings.workers)
    settle_memory()
    trio.run(_serve, worker, settings)
    return DONE


def settle_memory() -> None:
    """Tell the collector that what is loaded stays, and that an exchange leaves no cycles.

    Its passes over ten thousand idle links would cost more than what they could find.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


async def _serve(worker: Worker, settings: Settings) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.obey_signals, _no_reload)
        for listener in settings.listeners:  # told once a signal is obeyed, not only a client
            log.info("listening on %s", listener.bind)
        await worker.run()
        nursery.cancel_scope.cancel()


def _no_reload() -> None:
    log.warning("SIGHUP: the settings are read at start only; restart to change them")


if __name__ == "__main__":
    sys.exit(main())
