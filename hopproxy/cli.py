"""The commands: run, dev, check, probe, explain, convert, schema.

Each one imports what it needs when it is called: most of this program serves requests, and takes
half a second to import.
"""

if __name__ == "__main__":
    # The imports below take a while; no signal may be lost meanwhile.
    from hopproxy.begin import begin

    begin()

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hopproxy.begin import (
    has_workers,
    hold_standard_descriptors,
    is_supervised,
    obey_no_signals,
    serves,
)
from hopproxy.command_line import parser
from hopproxy.exits import (
    BAD_CONFIGURATION,
    BAD_USAGE,
    COULD_NOT_BIND,
    DONE,
    FAULT,
    INTERRUPTED,
    Failure,
)
from hopproxy.signals import SIGNALS

if TYPE_CHECKING:
    from hopproxy.observe.error_log import ErrorLog

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
            from hopproxy.server.supervisor import supervise

            return supervise()
    from hopproxy import descriptors
    from hopproxy.observe.error_log import stand_in

    descriptors.raise_limit()
    error_log = stand_in()
    try:
        return _obey(words, error_log)
    except Exception:
        log.exception("ended because of a fault in hopproxy")
        return FAULT
    finally:
        SIGNALS.ignore()
        error_log.finish()


def _obey(words: Sequence[str], error_log: "ErrorLog | None" = None) -> int:
    options = parser().parse_args(words)
    options.error_log = error_log
    try:
        return COMMANDS[options.command](options)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.code


def _run(options: argparse.Namespace) -> int:
    from hopproxy.server.channel import inherited
    from hopproxy.server.run import run
    from hopproxy.settings_file import read_file

    return run(partial(read_file, options.file, options.config), inherited(), options.error_log)


def _dev(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from hopproxy.dev.settings import bind_of
    from hopproxy.dev.site import site_of
    from hopproxy.dev.start import NoAuthority, start
    from hopproxy.server.listener import CannotBind
    from hopproxy.settings.amounts import Misread

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
    from hopproxy.settings.memory import most_memory, told
    from hopproxy.settings_file import all_risks, count_of, read_file, warnings

    file = read_file(options.file, options.config)
    found = all_risks(file.settings)
    if options.probe:
        import trio

        from hopproxy.probe.run import probed_risks

        found += trio.run(probed_risks, file.settings)
    for warning in warnings(file, found):
        print(warning)
    most = most_memory(file.settings, count_of(file.settings))
    print(f"at most {told(most)} with these settings, not counting the kernel's socket buffers")
    print("valid")
    return DONE


def _probe(options: argparse.Namespace) -> int:
    import trio

    from hopproxy.certificates import unusable_authorities
    from hopproxy.dev.site import origin_of
    from hopproxy.errors import HopError
    from hopproxy.probe.asker import Target
    from hopproxy.probe.run import probe
    from hopproxy.settings.amounts import Misread, parse_duration
    from hopproxy.settings.certificate import OriginTls
    from hopproxy.settings.words import parse_count, parse_target

    try:
        tls = OriginTls(ca=options.ca)
        target = Target(origin_of(options.origin), parse_target(options.path), tls)
        most = parse_duration(options.max)
        requests = parse_count(options.requests)
        if most <= 0 or requests < 1:
            raise Misread("--max and --requests must be more than 0", "or leave them out")
    except Misread as misread:
        raise Failure(f"hopproxy probe: {misread}", BAD_USAGE) from misread
    except OSError as error:
        why = unusable_authorities(options.ca) or f"{options.ca}: {error.strerror or error}"
        raise Failure(f"hopproxy probe: {why}", BAD_USAGE) from error
    try:
        findings = trio.run(partial(probe, target, most=most, requests=requests))
    except HopError as error:
        raise Failure(f"hopproxy probe: {error.detail}", BAD_CONFIGURATION) from error
    print(f"{findings.table()}\n{findings.settings()}", end="")
    return DONE


def _explain(options: argparse.Namespace) -> int:
    from hopproxy.explain.command import explain

    return explain(options)


def _convert(options: argparse.Namespace) -> int:
    from hopproxy.convert.command import convert

    return convert(options)


def _schema(_: argparse.Namespace) -> int:
    import json

    from hopproxy.settings.reference import json_schema

    print(json.dumps(json_schema(), indent=2))
    return DONE


#: What runs each command, by its name.
COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "dev": _dev,
    "check": _check,
    "probe": _probe,
    "explain": _explain,
    "convert": _convert,
    "schema": _schema,
}


if __name__ == "__main__":
    sys.exit(main())
