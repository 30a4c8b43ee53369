"""Counts, switches, names, hosts and paths, and the patterns that editors check words by."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.settings import words
from hopproxy.settings.amounts import Misread
from hopproxy.settings.networks import parse_network
from hopproxy.settings.units import parse_bind, parse_origin
from hopproxy.settings.words import Unit


@pytest.mark.parametrize(
    ("unit", "text", "value"),
    [
        (words.COUNT, "0", 0),
        (words.COUNT, "4096", 4096),
        (words.COUNT, "-1", -1),
        (words.SWITCH, "on", True),
        (words.SWITCH, "Yes", True),
        (words.SWITCH, "TRUE", True),
        (words.SWITCH, "off", False),
        (words.SWITCH, "no", False),
        (words.SWITCH, "false", False),
        (words.TOKEN, "edge-1.example", "edge-1.example"),
        (words.HOST, "Example.ORG", "example.org"),
        (words.HOST, "*.Example.org", "*.example.org"),
        (words.HOST, "[0::1]", "[::1]"),
        (words.PATH, "/", "/"),
        (words.PATH, "/api/%20", "/api/%20"),
        (words.DURATION, "0", 0.0),
        (words.SIZE, "32KiB", 32768),
        (words.BIND, "[::]:80", parse_bind("[::]:80")),
        (words.ORIGIN, "unix:/a", parse_origin("unix:/a")),
        (words.NETWORK, "fd00::/8", parse_network("fd00::/8")),
        (words.NETWORK, "unix", parse_network("unix")),
        (words.VIA, "request", "request"),
        (words.VIA, "both", "both"),
        (words.VIA, "on", "both"),
        (words.VIA, "True", "both"),
        (words.VIA, "Off", "off"),
        (words.VIA, "no", "off"),
        (words.MODE, "0660", 0o660),
        (words.MODE, "666", 0o666),
        (words.FILE, "tls/site.crt", "tls/site.crt"),
        (words.SERVER_NAME, "API.Internal.", "api.internal"),
        (words.SERVER_NAME, "my_service", "my_service"),
        (words.SERVER_NAME, "10.0.0.7", "10.0.0.7"),
        (words.SERVER_NAME, "[0::1]", "::1"),
    ],
)
def test_word_is_read_and_passes_the_editors_pattern(unit: Unit, text: str, value: object) -> None:
    assert unit.parse(text) == value
    assert unit is words.SWITCH or re.fullmatch(unit.pattern, text)
    assert unit.parse(unit.write(value)) == value


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        (words.parse_count, "many", "`many` is not a whole number (write plain digits, like 1024)"),
        (
            words.parse_file,
            "-----BEGIN CERTIFICATE-----",
            "this is the content of a file (write the path of the file)",
        ),
        (
            words.parse_file,
            "file:///site.crt",
            "`file:///site.crt` is a URL (write the path of a file)",
        ),
        (
            words.parse_file,
            "",
            "it is not the path of a file (write it like /etc/hopproxy/tls/site.crt)",
        ),
        (
            words.parse_server_name,
            "*.example.org",
            "`*.example.org` is a pattern (write one name that the certificate has)",
        ),
        (
            words.parse_server_name,
            "https://api.example.org/x",
            "`https://api.example.org/x` is more than a name (write api.example.org)",
        ),
        (
            words.parse_server_name,
            "api.example.org:443",
            "`api.example.org:443` is more than a name (write api.example.org)",
        ),
        (
            words.parse_server_name,
            "a b",
            "`a b` is not a name (write it like api.example.org)",
        ),
        (words.parse_count, "0x1F", "`0x1F` is not a whole number (write plain digits, like 1024)"),
        (words.parse_count, "1_0", "`1_0` is not a whole number (write plain digits, like 1024)"),
        (words.parse_count, "1e3", "`1e3` is not a whole number (write plain digits, like 1024)"),
        (
            words.parse_count,
            "0777",
            "`0777` begins with a zero (octal is not read; write 511 if octal was meant, or 777)",
        ),
        (words.parse_count, "089", "`089` begins with a zero (octal is not read; write 89)"),
        (
            words.parse_mode,
            "0o660",
            '`0o660` is not a mode (write three octal digits, like "0660")',
        ),
        (words.parse_mode, "0680", '`0680` is not a mode (write three octal digits, like "0660")'),
        (words.parse_mode, "1777", '`1777` is not a mode (write three octal digits, like "0660")'),
        (
            words.parse_via,
            "1",
            "`1` is not one of both, request, response, off (write one of these)",
        ),
        (words.parse_switch, "1", "`1` is neither on nor off (write on or off)"),
        (
            words.parse_token,
            "my proxy",
            "`my proxy` is not a name (write letters, digits, - and _ without spaces)",
        ),
        (
            words.parse_host,
            "a.org:80",
            "`a.org:80` has a port (a route compares the host alone: leave the port out)",
        ),
        (
            words.parse_host,
            "[::1]:80",
            "`[::1]:80` has a port (a route compares the host alone: leave the port out)",
        ),
        (words.parse_host, "[::g]", "`::g` is not an IPv6 address (write it like [::1])"),
        (
            words.parse_host,
            "*",
            "`*` is not a host (leave `host` out: the route then takes every host)",
        ),
        (words.parse_host, ".a.org", "`.a.org` begins with a dot (write *.a.org)"),
        (
            words.parse_host,
            "http://a.org/x",
            "`http://a.org/x` is a URL (a route compares the host alone: write a.org)",
        ),
        (
            words.parse_host,
            "a.org/x",
            "`a.org/x` has a path (write host: a.org, and the path as `path`)",
        ),
        (words.parse_host, "a.*", "`a.*` is not a host (write example.org or *.example.org)"),
        (words.parse_host, "fd00::0001", "`fd00::0001` is not a host (write [fd00::1])"),
        (words.parse_host, "a:b", "`a:b` is not a host (write example.org or *.example.org)"),
        (
            words.parse_host,
            "*.bücher.example",
            "`*.bücher.example` is not a host (write *.xn--bcher-kva.example)",
        ),
        (words.parse_host, "ü..a", "`ü..a` is not a host (write example.org or *.example.org)"),
        (words.parse_host, "a。*b", "`a。*b` is not a host (write example.org or *.example.org)"),
        (words.parse_path, "api", "`api` does not begin with / (write /api)"),
        (
            words.parse_path,
            "/a?b",
            "`/a?b` has a query or a fragment (write /a)",
        ),
        (
            words.parse_path,
            "/\xe4",
            "`/\xe4` is not a path (percent-encode it: /%C3%A4)",
        ),
        (words.parse_target, "/a?b#c", "`/a?b#c` has a fragment (write /a?b)"),
        (words.parse_target, "/a?b c", "`/a?b c` is not a path (write /a?b%20c)"),
        (words.parse_target, "/a#c", "`/a#c` has a query or a fragment (write /a)"),
    ],
)
def test_misread_says_what_would_do(parse: Callable[[str], object], text: str, said: str) -> None:
    with pytest.raises(Misread) as caught:
        parse(text)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("/api/*", "/api/"),
        ("/api*", "/api"),
        ("/api/**", "/api/"),
        ("api/*", "/api/"),
        ("/a/*/b", "/a/"),
        ("^/api", "/api"),
        ("/api$", "/api"),
        ("/api/(.*)", "/api/"),
        ("/static/.*", "/static/"),
        ("/x/[0-9]+", "/x/"),
        ("/users/{id}", "/users/"),
        ("/users/:id/posts", "/users/"),
        ("~ ^/api", "/api"),
        ("~* /api", "/api"),
        ("= /api", "/api"),
    ],
)
def test_pattern_is_refused_as_a_path_with_what_to_write(text: str, instead: str) -> None:
    with pytest.raises(Misread) as caught:
        words.PATH.parse(text)
    assert str(caught.value) == (
        f"`{text}` would never match: patterns are not read "
        f"(write {instead}: it matches that path and all below it)"
    )


@pytest.mark.parametrize("text", ["*", "/*", "*.php", "/(a|b)/"])
def test_pattern_that_no_path_stands_for_is_refused(text: str) -> None:
    with pytest.raises(Misread, match="leave `path` out to match every request"):
        words.PATH.parse(text)


@pytest.mark.parametrize("text", ["/v1/x:verb", "/~me", "/Items(1)", "/@scope/a.b", "/a$b", "/a+b"])
def test_path_with_marks_that_clients_send_is_no_pattern(text: str) -> None:
    assert words.PATH.parse(text) == text


def test_url_is_refused_as_a_path() -> None:
    with pytest.raises(Misread, match="write path: /api, and the host as `host`"):
        words.PATH.parse("http://a.org/api")


def test_switch_passes_the_editors_pattern_as_it_is_usually_written() -> None:
    for text in ("on", "off", "On", "OFF", "yes", "no", "true", "False"):
        assert re.fullmatch(words.SWITCH.pattern, text)


@given(st.integers(-(10**17), 10**17))
def test_count_comes_back_from_its_own_text(count: int) -> None:
    assert words.COUNT.parse(words.COUNT.write(count)) == count


@given(st.booleans())
def test_switch_comes_back_from_its_own_text(switch: bool) -> None:
    assert words.SWITCH.parse(words.SWITCH.write(switch)) is switch


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("7%", 0.07), ("50%", 0.5), ("100%", 1)])
def test_a_share_is_read_and_written_back(text: str, share: float) -> None:
    assert words.SHARE.parse(text) == share
    assert words.SHARE.write(share) == text


@pytest.mark.parametrize("text", ["", "%", "101%", "-1%", "5 %", "1000%", "50", "0.5", ".05"])
def test_what_is_no_share(text: str) -> None:
    meant = {"50": "write 50%", "0.5": "write 50%", ".05": "write 5%"}
    with pytest.raises(Misread, match=meant.get(text, "from 0% to 100%")):
        words.SHARE.parse(text)


@pytest.mark.parametrize("mode", [0, 0o7, 0o660, 0o777])
def test_a_mode_comes_back_from_its_own_text(mode: int) -> None:
    assert words.parse_mode(words.format_mode(mode)) == mode
