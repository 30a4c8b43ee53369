"""The commands and their arguments.

Importing it costs little: no command needs what the others import.
"""

import argparse

from hopproxy import __version__

#: The settings files that `run`, `check` and `explain` look for if none is given.
DEFAULT_FILES = ("hopproxy.yaml", "/etc/hopproxy/hopproxy.yaml")
#: The ways to name a server, for `dev` and `probe`.
_ORIGIN = "3000, localhost:3000, http://host:port, https://host:port, h2c://host:port or unix:/path"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; it sets `command` to the name of one."""
    made = argparse.ArgumentParser(
        prog="hopproxy", description="A reverse proxy that manages keep-alive hop by hop."
    )
    made.add_argument("--version", action="version", version=f"hopproxy {__version__}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve in the foreground")
    _add_file(run)
    run.set_defaults(command="run")
    dev = commands.add_parser("dev", help="serve in front of a local server, or of a demo")
    dev.add_argument(
        "origins",
        metavar="ORIGIN",
        nargs="*",
        help=f"{_ORIGIN}; several: NAME=ORIGIN, at http://NAME.localhost; none: a demo is started",
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
        help="a host name to open in the browser; may be repeated",
    )
    dev.add_argument(
        "--https",
        action="store_true",
        help="serve HTTPS, with a local certificate authority; default port: 8443",
    )
    dev.add_argument(
        "--rewrite-host",
        action="store_true",
        help="send origins their own address as Host, not the name in the browser",
    )
    dev.add_argument(
        "--hold",
        metavar="TIME",
        help="how long requests wait for a server that restarts; default: 10s",
    )
    dev.set_defaults(command="dev")
    check = commands.add_parser("check", help="list every problem in a settings file")
    _add_file(check)
    check.add_argument("--probe", action="store_true", help="also measure the origins")
    check.set_defaults(command="check")
    probe = commands.add_parser("probe", help="measure how an origin handles connections")
    probe.add_argument("origin", metavar="ORIGIN", help=_ORIGIN)
    probe.add_argument(
        "--max", metavar="TIME", default="90s", help="longest idle time to try; default: 90s"
    )
    probe.add_argument(
        "--requests", metavar="N", default="120", help="requests on one connection; default: 120"
    )
    probe.add_argument("--path", metavar="PATH", default="/", help="path to GET; default: /")
    probe.add_argument("--ca", metavar="FILE", help="CA certificates to trust, for https://")
    probe.set_defaults(command="probe")
    _add_explain(commands.add_parser("explain", help="show what each hop would be sent, and why"))
    convert = commands.add_parser("convert", help="make settings from an nginx.conf or Caddyfile")
    convert.add_argument("file", metavar="FILE", help="the file; included files are read too")
    convert.add_argument("--from", dest="language", choices=["nginx", "caddy"],
                         help="the format of the file; default: guessed")  # fmt: skip
    convert.set_defaults(command="convert")
    schema = commands.add_parser("schema", help="print the JSON Schema of the settings")
    schema.set_defaults(command="schema")
    return made


def _add_explain(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("url", metavar="URL", nargs="?", help="http://host/path, host/path or /path")
    add("--config", metavar="FILE", help="the settings file; default: the same as for run")
    add("-X", "--request", metavar="METHOD", help="default: GET, or POST with -d")
    add("-H", "--header", metavar="FIELD", action="append", default=[], help="'Name: value'")
    add("-d", "--data", metavar="BODY", help="a body, with its Content-Length")
    add("-I", "--head", action="store_true", help="a HEAD request")
    add("-0", "--http1.0", dest="http10", action="store_true", help="an HTTP/1.0 request")
    add("--raw", metavar="FILE", help="a whole HTTP/1.1 request; - is standard input")
    add("--response", metavar="FILE", help="a response of the origin; its head is enough")
    add("--from", dest="peer", metavar="ADDRESS", default="127.0.0.1",
        help="the client's address, or unix (a Unix socket); default: 127.0.0.1")  # fmt: skip
    add("--json", action="store_true", help="print JSON")
    made.set_defaults(command="explain")


def _add_file(made: argparse.ArgumentParser) -> None:
    default = "default: " + ", then ".join(DEFAULT_FILES)
    made.add_argument("file", metavar="FILE", nargs="?", help=f"the settings file; {default}")
    made.add_argument("--config", metavar="FILE", help="the settings file, as an option")
