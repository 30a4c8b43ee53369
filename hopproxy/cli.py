"""The commands: run, dev, check, probe, schema."""

if __name__ == "__main__":
    # The imports below take a while; no signal may be lost meanwhile.
    from hopproxy.begin import begin

    begin()

import argparse
import gc
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import trio

from hopproxy import __version__, descriptors
from hopproxy.begin import hold_standard_descriptors, serves
from hopproxy.certificates import examine, refuse_unusable
from hopproxy.errors import HopError
from hopproxy.link.clock import SteadyClock
from hopproxy.observe.access_log import STDOUT, AccessLog
from hopproxy.observe.error_log import ErrorLog, stand_in
from hopproxy.server.listener import CannotBind, bound, close_listener, open_listener
from hopproxy.server.worker import Sockets, Worker
from hopproxy.settings.amounts import Misread, parse_duration
from hopproxy.settings.descriptors import fitted, shortfalls
from hopproxy.settings.lint import Risk, risks
from hopproxy.settings.reader import SettingsErrors, places, read
from hopproxy.settings.reference import json_schema
from hopproxy.settings.schema import Settings
from hopproxy.settings.units import Bind
from hopproxy.settings.words import parse_count, parse_path
from hopproxy.signals import SIGNALS

DONE, BAD_CONFIGURATION, BAD_USAGE, COULD_NOT_BIND, FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130

#: The files that `run` and `check` look for if none is given.
DEFAULT_FILES = ("hopproxy.yaml", "/etc/hopproxy/hopproxy.yaml")

log = logging.getLogger("hopproxy")


class Failure(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


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
    SIGNALS.hear()
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
_ORIGIN = "3000, localhost:3000, http://host:port or unix:/path"


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
    dev.add_argument("origin", metavar="ORIGIN", nargs="?", help=f"{_ORIGIN}; without it, a demo")
    dev.add_argument("--bind", metavar="HOST:PORT", help="default: 127.0.0.1:8080 or next free")
    dev.add_argument("--admin", metavar="HOST:PORT", help="default: 127.0.0.1:9901 or next free")
    dev.set_defaults(command=_dev)
    check = commands.add_parser("check", help="list every problem in a settings file")
    _add_file(check)
    check.add_argument("--probe", action="store_true", help="measure the origins too")
    check.set_defaults(command=_check)
    probe = commands.add_parser("probe", help="measure how an origin handles connections")
    probe.add_argument("origin", metavar="ORIGIN", help=_ORIGIN)
    probe.add_argument("--max", metavar="TIME", default="90s", help="longest wait; default: 90s")
    probe.add_argument("--requests", metavar="N", default="120", help="default: 120")
    probe.add_argument("--path", metavar="PATH", default="/", help="path to GET; default: /")
    probe.set_defaults(command=_probe)
    schema = commands.add_parser("schema", help="print the JSON Schema of the settings")
    schema.set_defaults(command=_schema)
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    default = "default: " + ", then ".join(DEFAULT_FILES)
    parser.add_argument("file", metavar="FILE", nargs="?", help=f"the settings file; {default}")
    parser.add_argument("--config", metavar="FILE", help="the same, as an option")


def _run(options: argparse.Namespace) -> int:
    file, text, settings = _read_text(options)
    for warning in _warnings(file, text, _all_risks(settings)):
        log.warning("%s", warning)
    return serve(settings, options.error_log)


def _dev(options: argparse.Namespace) -> int:
    # Imported here: `run` does not need the demo and its WebSocket library.
    from hopproxy.dev.settings import bind_of, origin_of
    from hopproxy.dev.start import start

    try:
        origin = origin_of(options.origin) if options.origin else None
        site, admin = (bind_of(word) if word else None for word in (options.bind, options.admin))
    except Misread as misread:
        raise Failure(f"hopproxy dev: {misread}", BAD_USAGE) from misread
    try:
        start(origin, site, admin, options.error_log)
    except CannotBind as error:
        raise Failure(f"hopproxy: {error}", COULD_NOT_BIND) from error
    return DONE


def _check(options: argparse.Namespace) -> int:
    file, text, settings = _read_text(options)
    found = _all_risks(settings)
    if options.probe:
        from hopproxy.probe.run import probed_risks

        found += trio.run(probed_risks, settings)
    for warning in _warnings(file, text, found):
        print(warning)
    print("valid")
    return DONE


def _all_risks(settings: Settings) -> list[Risk]:
    of_certificates = examine(settings, time.time()).risks
    return [*risks(settings), *of_certificates, *shortfalls(settings, descriptors.attainable())]


def _warnings(file: str, text: str, found: Iterable[Risk]) -> Iterator[str]:
    """Each risk with the place of its setting, in the order of the text."""
    place_of = places(text, file=file, environ=os.environ)
    for at, (path, message, hint) in sorted((place_of(risk.path), risk) for risk in found):
        yield f"{file}:{at.line}:{at.column}: warning: {path}: {message} ({hint})"


def _probe(options: argparse.Namespace) -> int:
    # Imported here, as in `_dev`.
    from hopproxy.dev.settings import origin_of
    from hopproxy.probe.asker import Target
    from hopproxy.probe.run import probe

    try:
        target = Target(origin_of(options.origin), parse_path(options.path))
        most = parse_duration(options.max)
        requests = parse_count(options.requests)
        if most <= 0 or requests < 1:
            raise Misread("--max and --requests have to be more than 0", "or leave them out")
    except Misread as misread:
        raise Failure(f"hopproxy probe: {misread}", BAD_USAGE) from misread
    try:
        findings = trio.run(partial(probe, target, most=most, requests=requests))
    except HopError as error:
        raise Failure(f"hopproxy probe: {error.detail}", BAD_CONFIGURATION) from error
    print(f"{findings.table()}\n{findings.settings()}", end="")
    return DONE


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return DONE


def _read_text(options: argparse.Namespace) -> tuple[str, str, Settings]:
    """(file, its text, its settings)."""
    named = {options.file, options.config} - {None}
    if len(named) > 1:
        message = f"two settings files are named: {options.file} and {options.config}"
        raise Failure(f"hopproxy: {message}", BAD_USAGE)
    files = list(named) or [file for file in DEFAULT_FILES if Path(file).exists()]
    if not files:
        raise Failure(
            f"no settings file: name one, or create {' or '.join(DEFAULT_FILES)}",
            BAD_CONFIGURATION,
        )
    try:
        text = Path(files[0]).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise Failure(f"{files[0]}: cannot be read: {reason}", BAD_CONFIGURATION) from error
    try:
        settings = read(text, file=files[0], environ=os.environ)
        refuse_unusable(settings, time.time(), text, files[0])
        return files[0], text, settings
    except SettingsErrors as errors:
        raise Failure(str(errors), BAD_CONFIGURATION) from errors


def serve(settings: Settings, error_log: ErrorLog) -> int:
    """Serve with these settings until a signal stops us; return the exit code."""
    SIGNALS.keep()
    with ExitStack() as opened:
        return _serve_on(_listening(settings, opened), settings, error_log)


def _listening(settings: Settings, opened: ExitStack) -> Sockets:
    """Open all listening sockets; `opened` closes them.  Raises Failure."""
    listen: list[tuple[str, Bind, Callable[[], socket.socket]]] = [
        (
            f"listeners[{n}]",
            one.bind,
            partial(open_listener, one.bind, one.backlog, settings.client, mode=one.mode),
        )
        for n, one in enumerate(settings.listeners)
    ]
    if settings.admin is not None:
        bind = settings.admin.bind
        listen.append(("admin", bind, partial(open_listener, bind, 128)))
    sockets: list[socket.socket] = []
    for path, bind, start in listen:
        try:
            sock = start()
        except CannotBind as error:
            message = str(error)
            for owner, other, _ in listen[: len(sockets)]:
                # Two names may mean the same address, which `check` cannot see.
                if error.in_use and (other.kind, other.port) == ("tcp", bind.port):
                    message = f"cannot listen on {bind}: {path} and {owner} share a port"
                    message += " (give each its own)"
            raise Failure(f"hopproxy: {message}", COULD_NOT_BIND) from error
        opened.callback(close_listener, sock)
        sockets.append(sock)
    admin = sockets.pop() if settings.admin is not None else None
    return Sockets(sockets, admin)


def _serve_on(sockets: Sockets, settings: Settings, error_log: ErrorLog) -> int:
    style = settings.access_log
    access_log = None if style == "off" else AccessLog(style, STDOUT)
    fitting = fitted(settings, descriptors.limit(), descriptors.held())
    worker = Worker(fitting, sockets, access_log, error_log=error_log)
    settle_memory()
    trio.run(_serve, worker, settings, sockets, clock=SteadyClock())
    return DONE


def settle_memory() -> None:
    """Tell the garbage collector to ignore what is loaded, and to run seldom.

    Exchanges leave no cycles, and a pass over ten thousand idle links costs more than it finds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


async def _serve(worker: Worker, settings: Settings, sockets: Sockets) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.obey_signals, _no_reload)
        # Logged once signals are handled: whoever waits for this line may send one.
        for listener, sock in zip(settings.listeners, sockets.clients, strict=True):
            log.info("listening on %s", bound(listener.bind, sock))
        if settings.admin is not None and sockets.admin is not None:
            log.info("admin listener on %s", bound(settings.admin.bind, sockets.admin))
        await worker.run()
        nursery.cancel_scope.cancel()


def _no_reload() -> None:
    log.warning("SIGHUP: the settings are read at start only; restart to change them")


if __name__ == "__main__":
    sys.exit(main())
