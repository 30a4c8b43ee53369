"""What people and editors look settings up in says the same as the reader does."""

from typing import Annotated, Any

import msgspec
import pytest

from hopproxy.settings.place import place
from hopproxy.settings.reader import SettingsErrors, read
from hopproxy.settings.reference import Row, json_schema, reference
from hopproxy.settings.shape import settings_of
from tests.settings.editor import fits, typed

APP = "upstreams: {app: {origins: ['http://a']}}\n"


def accepted_by_editor(text: str) -> bool:
    tree = place(text, file="a", environ={"NAME": "x"}).tree
    assert tree is not None
    return fits(typed(tree), json_schema())


def accepted_by_reader(text: str) -> bool:
    try:
        read(text, file="a", environ={"NAME": "3"})
    except SettingsErrors:
        return False
    return True


@pytest.mark.parametrize("origin", ["3000", "'3000'", "':3000'", "localhost:3000", "unix:/a"])
def test_editor_accepts_each_way_to_write_an_origin(origin: str) -> None:
    text = f"upstreams: {{app: {{origins: [{origin}]}}}}\n"
    assert accepted_by_reader(text)
    assert accepted_by_editor(text)


def test_reference_has_each_setting_once() -> None:
    paths = [row.path for row in reference()]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    "row",
    [
        Row(
            "workers",
            "number or auto",
            "1",
            "Processes that share every listener; all limits are totals. `auto`: as many as the "
            "CPUs, or the CPU quota of the container, allow.",
        ),
        Row(
            "listeners[].bind",
            "address",
            "127.0.0.1:8080",
            "Address to accept clients on: `host:port`, `:port` (every address) or `unix:/path`; "
            "or a listening socket that hopproxy is started with: `fd:3` or `systemd:NAME`.",
        ),
        Row("client.idle_timeout", "duration or off", "75s", "Longest wait for the next request."),
        Row("client.max_head_size", "size", "32KiB", "Largest head of a request."),
        Row(
            "upstreams.<name>.origins",
            "origin, or a list",
            "required",
            "Where the application is: `http://host:port`, `https://host:port`, "
            "`h2c://host:port` (HTTP/2 without TLS), `port`, "
            "`unix:/path` or `srv://name`; behind it `weight=2` and `backup`.",
        ),
        Row(
            "upstreams.<name>.pool.max_idle",
            "number or off",
            "256",
            "Most idle connections to each origin.",
        ),
        Row(
            "routes[].host",
            "host, or a list",
            "absent",
            "Only these hosts, one or a list: exact, or `*.suffix`.",
        ),
        Row("routes[].respond.body", "text", '""', "Its body."),
        Row(
            "routes[].request_fields.set",
            "field name: field value",
            "{}",
            "Fields to send with this value, instead of all others of the same name.",
        ),
        Row(
            "trusted_proxies",
            "network, or a list",
            "[]",
            "Peers whose X-Forwarded-* and Forwarded are believed; `unix`: all on Unix sockets.",
        ),
        Row(
            "forwarding",
            "forwarded or x-forwarded, or a list",
            "[x-forwarded, forwarded]",
            "Fields that tell the origin about the client: X-Forwarded-* and X-Real-IP, Forwarded, "
            "both or none. Those not named are removed. If a trusted proxy sends both, the ones "
            "named first are believed.",
        ),
        Row(
            "via",
            "both, request, response or off",
            "both",
            "Messages that get our `Via`. Without it in requests, loops are not detected.",
        ),
        Row(
            "access_log",
            "json, off or text",
            "json",
            "One line for each request, on standard output.",
        ),
        Row("trace", "on or off", "off", "Forward TRACE requests; off: 405."),
    ],
    ids=lambda row: row.path,
)
def test_reference_shows_a_setting_as_it_is_written(row: Row) -> None:
    assert row in reference()


@pytest.mark.parametrize("row", reference(), ids=lambda row: row.path)
def test_each_setting_is_described_in_a_sentence(row: Row) -> None:
    assert row.description[0].isupper()
    assert row.description.endswith(".")
    assert row.type
    assert row.default


def test_schema_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(json_schema())) == json_schema()


def test_schema_shows_defaults_as_they_are_written() -> None:
    top = json_schema()["properties"]
    assert top["drain_timeout"]["default"] == "30s"
    assert top["client"]["default"]["max_head_size"] == "32KiB"
    assert top["listeners"]["default"] == [
        {
            "bind": "127.0.0.1:8080",
            "backlog": "1024",
            "mode": "0666",
            "protocols": ["h2", "http/1.1"],
            "proxy_protocol": "off",
        }
    ]
    assert top["access_log"]["default"] == "json"
    assert "default" not in top["admin"]


def test_each_default_passes_its_own_schema() -> None:
    def check(schema: dict[str, Any]) -> int:
        below = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
        below += [schema[key] for key in ("items", "additionalProperties") if schema.get(key)]
        assert "default" not in schema or fits(schema["default"], schema)
        return ("default" in schema) + sum(map(check, below))

    assert check(json_schema()) > len(reference()) / 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "workers: 3\n",
        "workers: '3'\n",
        "workers: auto\n",
        "workers: ${NAME}\n",
        "workers: ${NAME:-auto}\n",
        "drain_timeout: 0\n",
        "drain_timeout: 1.5s\n",
        "via: true\n",
        "via: off\n",
        "access_log: off\n",
        "access_log: json\n",
        "client:\n",
        "client: {max_body_size: 10MB, max_head_size: 4096, max_target_size: 1KiB}\n",
        "routes:\n",
        "routes: [{upstream: app, host: '*.a.org', path: /a}]\n",
        "routes: [{upstream: app, host: }]\n",
        "admin:\n",
        "admin: {bind: unix:/a}\n",
        "trusted_proxies: ['::1', 10.0.0.0/8, unix]\n",
        "forwarding: [forwarded]\n",
        "forwarding: []\n",
        "via: response\n",
        "listeners: [{bind: '[::]:80'}]\n",
        "listeners: [{bind: ':80'}]\n",
        "client: {idle_timeout: 0, head_timeout: off, tcp_keepalive: off, max_requests: off}\n",
        "client: {max_body_size: 10m, idle_timeout: 1h30m, max_age: 1d}\n",
        "admin: off\n",
        "admin: {bind: off}\n",
        "trusted_proxies: ${NONE:-}\n",
        "trusted_proxies: ${NONE:-10.0.0.0/8 ::1}\n",
    ],
)
def test_editor_accepts_what_the_reader_does(text: str) -> None:
    assert accepted_by_reader(APP + text)
    assert accepted_by_editor(APP + text)


@pytest.mark.parametrize(
    "app",
    [
        "origins: [https://a, 'HTTPS://[::1]:8443'], tls: {verify: off}",
        "origins: [https://a], tls: {ca: ca.crt, server_name: b.example, cert: /c.pem, key: k}",
        "origins: [https://a], tls: {ca: , server_name: '[::1]'}",
        "origins: [https://a], tls: {}",
    ],
)
def test_editor_accepts_tls_as_the_reader_does(app: str) -> None:
    text = f"upstreams: {{app: {{{app}}}}}\n"
    assert accepted_by_reader(text)
    assert accepted_by_editor(text)


@pytest.mark.parametrize(
    "text",
    [
        APP + "workers: 0\n",
        APP + "workers: 2000\n",
        APP + "workers: all\n",
        APP + "workers: true\n",
        APP + "wrkers: 1\n",
        APP + "drain_timeout: 30\n",
        APP + "drain_timeout: 5 s\n",
        APP + "client: {linger_timeout: off}\n",
        APP + "client: {max_connections: 0}\n",
        APP + "client: {max_connections: off}\n",
        APP + "drain_timeout: off\n",
        APP + "client: {max_head_size: 255}\n",
        APP + "client: []\n",
        APP + "via: maybe\n",
        APP + "via: 1\n",
        APP + "forwarding: [x-real-ip]\n",
        APP + "trusted_proxies: [unix:/run/a.sock]\n",
        APP + "access_log: jsn\n",
        APP + "listeners: []\n",
        APP + "listeners: a:80\n",
        APP + "listeners: [{bind: 8080}]\n",
        APP + "admin: {}\n",
        APP + "routes: [{host: a}]\n",
        "workers: 1\n",
        "upstreams: {}\n",
        "upstreams:\n",
        "upstreams: {app: {}}\n",
        "upstreams: {app: {origins: [ftp://a]}}\n",
        "upstreams: {app: {origins: [https://a], tls: {verify: maybe}}}\n",
        "upstreams: {a b: {origins: [http://a]}}\n",
    ],
)
def test_editor_refuses_what_the_reader_does(text: str) -> None:
    assert not accepted_by_reader(text)
    assert not accepted_by_editor(text)


def test_setting_without_a_description_is_not_let_into_the_schema() -> None:
    class Bare(msgspec.Struct):
        nameless: int = 0

    with pytest.raises(AssertionError, match="nameless has no description"):
        settings_of(Bare)


def test_setting_of_a_kind_nobody_reads_is_not_let_into_the_schema() -> None:
    class Odd(msgspec.Struct):
        blob: Annotated[bytes, msgspec.Meta(description="Bytes.")] = b""

    with pytest.raises(AssertionError, match="no unit to be read by"):
        settings_of(Odd)
