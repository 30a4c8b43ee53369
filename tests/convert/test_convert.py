"""How directives are converted, and the notes about others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hopproxy.cli import COMMANDS
from hopproxy.command_line import parser
from hopproxy.convert.command import converted, language_of
from hopproxy.convert.draft import Draft
from hopproxy.convert.nginx_words import Unreadable
from hopproxy.exits import Failure
from hopproxy.settings.reader import read
from tests.convert.sites import CADDY, NGINX


def draft(text: str, language: str = "nginx") -> Draft:
    """The draft of a text; what it writes must be valid."""
    made = converted(text, Path("/nonexistent"), language)
    assert read(made.text("x"), file="x", environ={}).routes
    return made


def server(body: str) -> Draft:
    return draft(f"server {{ listen 8080;\n{body}\n}}")


def proxied(body: str) -> dict[str, Any]:
    """The route of a location /a/ with these directives."""
    made = server(f"location /a/ {{ {body} }}")
    return next(route for route in made.routes if route.get("path") == "/a/")


def caddy(body: str) -> Draft:
    return draft(f":8080 {{\n{body}\n}}\n", "caddy")


def notes(made: Draft) -> list[str]:
    return [f"{note.line}: {note.text}" for note in sorted(made.notes)]


PASS = "proxy_pass http://127.0.0.1:3000;"


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        (PASS + "proxy_read_timeout 5m; proxy_send_timeout 10;",
         {"response_timeout": "5m", "body_timeout": "5m", "write_timeout": "10s"}),
        (PASS + "client_max_body_size 0;", {"max_body_size": "0"}),
        (PASS + "proxy_set_header X-A $remote_addr; proxy_set_header X-B '';",
         {"request_fields": {"set": {"X-A": "{client}"}, "remove": ["X-B"]}}),
        (PASS + "proxy_set_header X-A $http_x_a;", {"request_fields": None}),
        (PASS + "proxy_set_header X-Port $server_port;",
         {"request_fields": {"set": {"X-Port": "8080"}}}),
        (PASS + "proxy_set_header X-A 'a $unknown';", {"request_fields": None}),
        (PASS + "proxy_set_header X-A '{host}';", {"request_fields": {"set": {"X-A": "{{host}}"}}}),
        (PASS + "add_header A b; add_header A c always; proxy_hide_header D;",
         {"response_fields": {"add": {"A": ["b", "c"]}, "remove": ["D"]}}),
        ("proxy_pass http://127.0.0.1:3000/;", {"strip": "/a"}),
        ("proxy_pass http://127.0.0.1:3000/a/;", {"strip": None}),
        ("proxy_pass http://127.0.0.1:3000/; proxy_redirect / /a/;", {"locations": "all"}),
        ("proxy_pass http://127.0.0.1:3000/; proxy_cookie_path / /a/;", {"locations": "all"}),
        ("proxy_pass http://127.0.0.1:3000/; proxy_redirect off;", {"locations": "off"}),
        ("rewrite ^/a/(.*) /$1 break; " + PASS, {"strip": "/a"}),
        ("rewrite ^/a(/.*)$ $1 break; " + PASS, {"strip": "/a"}),
        ("return 301 https://b.example$request_uri;",
         {"redirect": "https://b.example{path}", "redirect_status": 301}),
        ("return https://b.example/;", {"redirect": "https://b.example/", "redirect_status": 302}),
        ("return 307 /b;", {"redirect": "{scheme}://{authority}/b"}),
        ("return 204;", {"respond": {"status": 204}}),
        ("internal; " + PASS, {"respond": {"status": 404}, "upstream": None}),
        ("return 200 'a\\nb';", {"respond": {"status": 200, "body": "a\nb", "type": "text/plain"}}),
        ("rewrite ^ https://$host$request_uri? permanent;",
         {"redirect": "https", "redirect_status": 301}),
        ("rewrite ^/(.*)$ https://b.example/$1 redirect;",
         {"redirect": "https://b.example{path}", "redirect_status": 302}),
    ],
)  # fmt: skip
def test_a_location_of_nginx(body: str, keys: dict[str, Any]) -> None:
    route = proxied(body)
    assert {key: route.get(key) for key in keys} == keys


@pytest.mark.parametrize(
    ("body", "host"),
    [
        (PASS, "origin"),
        (PASS + "proxy_set_header Host $host;", None),
        (PASS + "proxy_set_header Host $http_host;", None),
        (PASS + "proxy_set_header Host $proxy_host;", "origin"),
        (PASS + "proxy_set_header Host b.example;", "b.example"),
        ("proxy_pass http://group;", "group"),
        ("proxy_pass http://unix:/run/a.sock:/;", "origin"),
    ],
)
def test_the_host_that_nginx_sends(body: str, host: str | None) -> None:
    made = draft(
        "upstream group { server 10.0.0.1; server unix:/run/b.sock backup; ip_hash; keepalive 8; }"
        f"server {{ listen 80; location / {{ {body} }} }}"
    )
    (upstream,) = (made.upstreams[route["upstream"]] for route in made.routes)
    assert upstream.get("host") == host


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("location ~ \\.php$ { fastcgi_pass x; }", ["2: location ~ \\.php$"]),
        ("location / { proxy_pass http://$backend; }",
         ["2: location /", "2: proxy_pass http://$backend"]),
        ("location / { proxy_pass http://a/b/; }", ["2: location /", "2: proxy_pass http://a/b/"]),
        ("location /a { proxy_pass http://b; }", ["2: location /a"]),
        (f"location / {{ {PASS} auth_basic x; limit_req zone=a; }}",
         ["2: auth_basic x", "2: limit_req zone=a"]),
        (f"location / {{ {PASS} proxy_set_header Via x; proxy_set_header A $cookie_b; }}",
         ["2: proxy_set_header A $cookie_b"]),
        (f"location / {{ {PASS} add_header A $upstream_addr; }}",
         ["2: add_header A $upstream_addr"]),
        (f"location / {{ {PASS} if ($request_method = POST) {{ return 405; }} }}",
         ["2: if ($request_method = POST)"]),
        (f"location / {{ {PASS} rewrite ^/x/(.*)$ /y/$1 last; }}",
         ["2: rewrite ^/x/(.*)$ /y/$1 last"]),
        (f"location / {{ {PASS} proxy_read_timeout soon; }}", ["2: proxy_read_timeout soon"]),
        ("location / { return 444; }", ["2: return 444", "2: return 444"]),
        (f"location / {{ {PASS} proxy_set_header X-Forwarded-Proto https; }}",
         ["2: proxy_set_header X-Forwarded-Proto https"]),
        (f"location / {{ {PASS} proxy_set_header X-Forwarded-For ''; }}",
         ["2: proxy_set_header X-Forwarded-For "]),
        (f"location / {{ {PASS} proxy_set_header X-Forwarded-Proto $scheme; "
         "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }", []),
        (f"location / {{ {PASS} proxy_redirect http://a/ /; proxy_redirect off; }}",
         ["2: proxy_redirect http://a/ /"]),
        (f"client_body_timeout soon; location / {{ {PASS} }}", ["2: client_body_timeout soon"]),
        (f"keepalive_timeout never; location / {{ {PASS} }}", ["2: keepalive_timeout never"]),
        (f"large_client_header_buffers 4 1g; location / {{ {PASS} }}",
         ["2: large_client_header_buffers 4 1g"]),
        (f"keepalive_requests many; location / {{ {PASS} }}", ["2: keepalive_requests many"]),
        (f"listen 8443 quic reuseport; location / {{ {PASS} }}", ["2: listen 8443 quic reuseport"]),
        (f"location / {{ {PASS} proxy_set_header Host ''; }}", ["2: proxy_set_header Host "]),
        (f"location / {{ {PASS} proxy_set_header Host 'a b'; }}", ["2: proxy_set_header Host a b"]),
        (f"location / {{ {PASS} add_header A é always; }}", ["2: add_header A é always"]),
        (f"location / {{ {PASS} proxy_hide_header Connection; }}",
         ["2: proxy_hide_header Connection"]),
        (f"location / {{ {PASS} }} if ($http_host = b.example:81) {{ return 403; }}",
         ["2: if ($http_host = b.example:81)"]),
        ("rewrite ^/(.*)$ https://b.example/$1? permanent;",
         ["2: rewrite ^/(.*)$ https://b.example/$1? permanent"]),
        ("location / { proxy_pass nothing; }", ["2: location /", "2: proxy_pass nothing"]),
        ("location = /a { proxy_pass HTTP://127.0.0.1:3000/; }", []),
        ('location / { return 200; content_by_lua_block { say("}") -- it\'s }\n} }',
         ["2: content_by_lua_block"]),
        ("location / { return 200 $remote_addr; }", ["2: return 200 $remote_addr"]),
        ("server_name ~^www; location / { return 200; }", ["2: server_name ~^www"]),
        ("nonsense on; location / { return 200; }", ["2: nonsense on"]),
        ("gzip off; sendfile on; location / { return 200; }", []),
        ("include missing/*.conf; location / { return 200; }", ["2: include missing/*.conf"]),
        ("location @x { return 200; } location / { return 200; }", ["2: location @x"]),
        (f"location / {{ try_files $uri @x; }} location @x {{ {PASS} }}",
         ["2: try_files $uri @x"]),
        (f"location / {{ {PASS} proxy_pass_request_body off; proxy_next_upstream off; }}",
         ["2: proxy_next_upstream off", "2: proxy_pass_request_body off"]),
        ("real_ip_header CF-Connecting-IP; location / { return 200; }",
         ["2: real_ip_header CF-Connecting-IP"]),
        ("real_ip_header X-Forwarded-For; location / { return 200; }", []),
        ("server_name a.example b.example; return 301 https://a.example$request_uri;",
         ["2: return 301 https://a.example$request_uri"]),
        ("listen 70000; location / { return 200; }", ["2: listen 70000"]),
        ("listen 8443 ssl; location / { return 200; }", ["2: listen 8443 ssl"]),
        ("set_real_ip_from 10.0.0.0/8; set_real_ip_from x; location / { return 200; }",
         ["2: set_real_ip_from x"]),
    ],
)  # fmt: skip
def test_what_nginx_says_and_hopproxy_cannot_convert_is_reported_with_its_line(
    body: str, told: list[str]
) -> None:
    assert notes(server(body)) == told


@pytest.mark.parametrize(
    ("server_says", "route"),
    [
        ("if ($host = b.example) { return 403; }",
         {"host": "b.example", "respond": {"status": 403}}),
        ("if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }",
         {"redirect": "https", "redirect_status": 301}),
    ],
)  # fmt: skip
def test_what_a_server_says_comes_before_its_locations(
    server_says: str, route: dict[str, Any]
) -> None:
    made = server(f"location / {{ {PASS} }} {server_says}")
    assert made.routes[0] == route
    assert "upstream" in made.routes[1]


def test_the_default_server_takes_the_rest_before_others_without_a_name() -> None:
    made = draft(
        "server { listen 80; server_name _; return 403; }"
        f"server {{ listen 80 default_server; location / {{ {PASS} }} }}"
    )
    (route,) = made.routes
    assert "upstream" in route
    assert notes(made) == ["1: server on :80"]


def test_a_name_that_is_written_twice_is_one_host() -> None:
    first = f"server {{ listen 80; server_name c.test; location / {{ {PASS} }} }}"
    second = f"server {{ listen 80; server_name b.test .b.test B.TEST; location / {{ {PASS} }} }}"
    hosts = [route.get("host") for route in draft(f"{first}\n{second}").routes]
    assert hosts == ["c.test", "b.test", "*.b.test", None]


def test_a_server_whose_names_cannot_be_said_takes_no_other_hosts() -> None:
    made = draft(
        "server { listen 80; return 404; }"
        f"server {{ listen 80; server_name ~^x; location / {{ {PASS} }} }}"
    )
    assert made.routes == [{"respond": {"status": 404}}]
    assert notes(made) == ["1: server on :80", "1: server_name ~^x"]


def test_tls_for_a_whole_server() -> None:
    made = draft(
        "server { listen 443; ssl on; ssl_certificate a; ssl_certificate_key b;"
        f" location / {{ {PASS} }} }}"
    )
    assert made.listeners[":443"]["tls"] == {"certificates": [{"cert": "a", "key": "b"}]}


def test_origins_on_unix_sockets_of_a_group_that_speaks_tls() -> None:
    made = draft(
        "upstream g { server unix:/run/a.sock; server 10.0.0.1:443; }"
        "server { listen 80; location / { proxy_pass https://g; } }"
    )
    (upstream,) = made.upstreams.values()
    assert upstream["origins"] == ["unix:/run/a.sock", "https://10.0.0.1:443"]
    assert notes(made) == ["1: proxy_pass https://g"]


@pytest.mark.parametrize(
    ("written", "time"),
    [("1w", "7d"), ("1h30", "1h30s"), ("1M", "30d"), ("5", "5s"), ("''", None), ("s", None)],
)
def test_times_of_nginx(written: str, time: str | None) -> None:
    made = server(f"location / {{ {PASS} }} client_body_timeout {written};")
    assert made.client.get("body_timeout") == time


@pytest.mark.parametrize(
    ("code", "why"), [(444, "answers before"), (600, "final response"), (100, "final response")]
)
def test_why_a_code_is_not_converted(code: int, why: str) -> None:
    made = server(f"location / {{ return {code}; }}")
    assert any(why in note.why for note in made.notes if note.text == f"return {code}")


def test_a_word_may_hold_a_closing_brace() -> None:
    (route,) = server(r"location / { return 200 a}\tb\.c; }").routes
    assert route["respond"]["body"] == "a}\tb\\.c"


@pytest.mark.parametrize("missing", ["location", "return", "proxy_hide_header", "proxy_ssl_name"])
def test_a_directive_without_its_value_is_not_read(missing: str) -> None:
    end = "{ }" if missing == "location" else ";"
    with pytest.raises(Unreadable, match=f"`{missing}` has no value"):
        server(f"location / {{ {PASS} }} {missing} {end}")


def test_included_files_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    (tmp_path / "loop").write_text("include loop;")
    (tmp_path / "broken").write_text("a {")
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "folder").mkdir()
    text = "\n".join(f"include {name};" for name in ("loop", "broken", "binary", "folder"))
    made = converted(f"{text}\nserver {{ listen 80; return 404; }}", tmp_path, "nginx")
    assert [(note.file[-4:], note.line) for note in sorted(made.notes)] == [
        ("", 2), ("", 3), ("", 4), ("loop", 1),
    ]  # fmt: skip
    assert all("cannot be read" in note.why for note in made.notes)


def test_the_top_of_an_nginx_configuration() -> None:
    made = draft(
        """
user www; worker_processes 4; worker_shutdown_timeout 20s; error_log /x;
events { worker_connections 9; }
http {
  access_log off; keepalive_timeout 65s; keepalive_requests 500; client_header_timeout 5;
  large_client_header_buffers 4 16k; client_body_timeout 1m; send_timeout 2m;
  set_real_ip_from 10.0.0.0/8; set_real_ip_from unix:; client_max_body_size 5m;
  upstream a { server 10.0.0.1:80 max_conns=3; server 10.0.0.2 down; server x:0; keepalive 9;
               keepalive_timeout 30s; keepalive_requests 7; keepalive_time 1h; random; }
  upstream none { }
  server {
    listen 80 default_server proxy_protocol; listen [::]:80; listen 127.0.0.1:81; listen unix:/s;
    ssl_protocols TLSv1 TLSv1.2;
    location / { proxy_pass http://a; proxy_connect_timeout 1s; }
    location /none { proxy_pass http://none; }
    location /tls/ { proxy_pass https://b.example; proxy_ssl_verify on; proxy_ssl_name c; }
    location /any/ { proxy_pass https://b.example; }
  }
}
"""
    )
    settings = read(made.text("nginx.conf"), file="x", environ={})
    assert (settings.workers, settings.drain_timeout, settings.access_log) == (4, 20.0, "off")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "unix"]
    assert [str(one.bind) for one in settings.listeners] == [":80", "127.0.0.1:81", "unix:/s"]
    client = settings.client
    assert (client.idle_timeout, client.max_requests, client.head_timeout) == (65.0, 500, 5.0)
    assert (client.max_head_size, client.body_timeout, client.write_timeout) == (65536, 60.0, 120.0)
    upstream = settings.upstreams["a"]
    assert (upstream.connect_timeout, upstream.pool.max_idle, upstream.pool.max_age) == (
        1.0, 9, 3600.0,
    )  # fmt: skip
    by_path = {route.path: route for route in settings.routes}
    assert by_path[None].max_body_size == 5 * 1024 * 1024
    secure = settings.upstreams[str(by_path["/tls/"].upstream)].tls
    assert (secure.verify, secure.server_name) == (True, "c")
    assert settings.upstreams[str(by_path["/any/"].upstream)].tls.verify is False
    assert "2: user www" in notes(made)


def test_files_that_are_tried_first_leave_every_request_to_the_application() -> None:
    made = server(
        "location / { try_files $uri/index.html $uri @app; }\n"
        f"location @app {{ {PASS} proxy_set_header Host $host; }}"
    )
    assert made.routes == [{"upstream": "127.0.0.1-3000"}]


def test_origins_of_nginx_keep_their_weights() -> None:
    made = draft(
        "upstream a { server b:1 weight=3 max_fails=2; server b:2 backup resolve; }"
        "server { listen 80; location / { proxy_pass http://a; } location /x/ { return 204; }"
        " location /y/ { return 204; } }"
    )
    assert made.upstreams["a"]["origins"] == ["http://b:1 weight=3", "http://b:2 backup"]
    assert notes(made) == []
    assert "&id" not in made.text("x")


def test_every_address_of_a_site_of_caddy_is_listened_on() -> None:
    text = "{\n default_bind 127.0.0.1 ::1\n}\n:81 {\n respond a\n}\n"
    text += ":82 {\n bind 127.0.0.2 127.0.0.3 unix//run/a\n respond b\n}"
    made = draft(text, "caddy")
    assert list(made.listeners) == [
        "127.0.0.1:81", "[::1]:81", "127.0.0.2:82", "127.0.0.3:82", "unix:/run/a",
    ]  # fmt: skip


def test_keepalive_off_and_servers_that_differ_by_their_port_alone() -> None:
    made = draft(
        "server { listen 1; keepalive_timeout 0; location / { return 200 a; } }\n"
        "server { listen 2; location / { return 200 b; } }"
    )
    assert made.client["max_requests"] == 1
    assert [route["respond"]["body"] for route in made.routes] == ["a"]
    assert notes(made) == ["1: server on :1", "2: server on :2", "2: server on :2"]


def test_included_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("server { listen 1;\nlocation / { return 200; gzip on; } }")
    made = converted("http { include *.conf; include mime.types;\n}", tmp_path, "nginx")
    assert made.routes
    assert [(note.file, note.line, note.text) for note in made.notes] == [
        (str(tmp_path / "a.conf"), 2, "gzip on")
    ]
    assert f"#   {tmp_path}/a.conf:2: gzip on (" in made.text("x")


def test_a_note_of_several_lines_is_one_line() -> None:
    made = server("location / { return 200 'a\nb: $c'; }")
    assert "#   2: return 200 a b: $c (a fixed response cannot have variables)" in made.text("x")


def test_what_servers_of_other_ports_cannot_keep_apart_is_reported() -> None:
    apart = "server { listen 80; server_name a.example; location / { return 200; } }\n"
    inside = "server { listen 127.0.0.1:81; server_name b.example; location / { return 200; } }"
    assert notes(draft(apart + inside)) == [
        "1: server on :80", "2: server on 127.0.0.1:81",
    ]  # fmt: skip
    https = "server { listen 80; server_name a.example; return 301 https://$host$request_uri; }\n"
    assert notes(draft(https + inside)) == []


def test_what_a_server_that_redirects_to_https_answers_itself_is_told() -> None:
    made = server(f"location /a/ {{ {PASS} }} location /b/ {{ root /srv; }}"
                  "location / { return 301 https://$host$request_uri; }")  # fmt: skip
    told = {note.why for note in made.notes if note.text.startswith("server")}
    assert told == {"/a/ is answered like this by https, too", "/b/ is redirected to https, too"}
    assert [route.get("path") for route in made.routes] == ["/a/", "/a", None]


def test_a_route_of_caddy_that_leaves_another_path_is_told() -> None:
    made = caddy("route /r/* {\n uri strip_prefix /r\n respond /x x\n}\nreverse_proxy a:1")
    assert notes(made) == ["2: route /r/*"]


def test_what_holds_for_every_server_here_is_told_if_they_differ() -> None:
    first = "server { listen 80; send_timeout 9s; location / { return 200; } }\n"
    second = "server { listen 80; server_name b; send_timeout 8s; location / { return 200; } }"
    assert notes(draft(first + second)) == ["2: send_timeout 8s"]
    assert notes(draft("send_timeout 7s;\n" + first)) == []
    assert notes(server(f"location / {{ {PASS} send_timeout 9s; access_log /x; }}")) == [
        "2: access_log /x", "2: send_timeout 9s",
    ]  # fmt: skip


def test_tls_that_stands_above_the_servers() -> None:
    made = draft(
        "ssl_certificate a.crt; ssl_certificate_key a.key; ssl_protocols TLSv1.3;\n"
        "ssl_client_certificate ca.crt; ssl_verify_client on;\n"
        "server { listen 443 ssl; location / { return 200; } }\n"
        "server { listen 444 ssl; ssl_protocols TLSv1.2; location / { return 200; } }"
    )
    tls = {"certificates": [{"cert": "a.crt", "key": "a.key"}], "min_version": "1.3",
           "client_ca": "ca.crt", "client_cert": "required"}  # fmt: skip
    assert made.listeners[":443"]["tls"] == tls
    assert made.listeners[":444"]["tls"] == tls | {"min_version": "1.2"}
    assert "3: listen 443 ssl" not in notes(made)
    text = "listen 443 ssl; ssl_certificate $name.crt; ssl_certificate_key $name.key; return 200;"
    assert notes(server(text))[1:] == [
        "2: ssl_certificate $name.crt", "2: ssl_certificate_key $name.key",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "language", "line"),
    [("server {\n listen 1;", "nginx", 2), ("a b\n}", "nginx", 2), ("server { ; }", "nginx", 1),
     ("server { listen 1 }", "nginx", 1), ('a "b;', "nginx", 1), (":80 {\n", "caddy", 1),
     (":80 {\n}\n}", "caddy", 3)],
)  # fmt: skip
def test_what_cannot_be_read_is_reported_with_its_line(text: str, language: str, line: int) -> None:
    with pytest.raises(Unreadable) as unreadable:
        converted(text, Path("/"), language)
    assert unreadable.value.line == line


# -- Caddy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "keys"),
    [
        ("reverse_proxy localhost:3000 {\n header_up Host {upstream_hostport}\n}", {}),
        ("reverse_proxy unix//run/a.sock", {}),
        ("reverse_proxy a:1 b:2 {\n lb_policy ip_hash\n lb_try_duration 5s\n}", {}),
        ("reverse_proxy a:1 {\n header_up +X-A b\n header_up X-B {method}\n header_down -C\n}",
         {"request_fields": {"add": {"X-A": "b"}, "set": {"X-B": "{method}"}},
          "response_fields": {"remove": ["C"]}}),
        ("reverse_proxy a:1 {\n transport http {\n read_timeout 5s\n keepalive off\n tls\n}\n}",
         {"body_timeout": "5s"}),
        ("header >X-A b\nreverse_proxy a:1", {"response_fields": {"set": {"X-A": "b"}}}),
        ("request_body {\n max_size 1MB\n}\nreverse_proxy a:1", {"max_body_size": "1MB"}),
        ("uri strip_prefix /x\nhandle /x/* {\n uri strip_prefix /x\n reverse_proxy a:1\n}",
         {"path": "/x/x/", "strip": "/x/x"}),
        ("redir https://b{uri} 308", {"redirect": "https://b{path}", "redirect_status": 308}),
        ("redir /x https://b/y", {"path": "/x", "exact": True, "redirect_status": 302}),
        ('respond "hi {$A:x} $"', {"respond": {"status": 200, "body": "hi ${A:-x} $$"}}),
        ('error "no" 403', {"respond": {"status": 403}}),
        ("error", {"respond": {"status": 500}}),
        ("abort", {"respond": {"status": 404}}),
        ("uri strip_prefix /x\nreverse_proxy a:1", {"path": "/x", "strip": "/x"}),
        ("uri strip_prefix /x\nreverse_proxy /y/* a:1", {"path": "/x/y/", "strip": "/x"}),
        ("@a {\n path /x/* /y\n host a.example\n}\nrespond @a 204",
         {"host": "a.example", "path": "/x/"}),
        ("reverse_proxy /x* a:1", {"path": "/x"}),
    ],
)  # fmt: skip
def test_a_directive_of_caddy(body: str, keys: dict[str, Any]) -> None:
    route = caddy(body).routes[0]
    assert {key: route.get(key) for key in keys} == keys


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("encode gzip\nreverse_proxy a:1", ["2: encode gzip"]),
        ("root * /srv\nfile_server", ["2: root * /srv", "3: file_server"]),
        ("@p method POST\nrespond @p 204", ["2: method POST", "3: respond @p 204"]),
        ("respond @none 204", ["2: respond @none 204"]),
        ("reverse_proxy a:1 {\n header_up X-A b c\n header_up Via x\n}",
         ["3: header_up X-A b c", "4: header_up Via x"]),
        ("reverse_proxy a:1 {\n lb_retries 2\n handle_response {\n}\n}",
         ["3: lb_retries 2", "4: handle_response"]),
        ("reverse_proxy a:1 {\n transport fastcgi {\n}\n}", ["3: transport fastcgi"]),
        ("reverse_proxy a:x", ["2: reverse_proxy a:x"]),
        ("redir https://{labels.0}", ["2: redir https://{labels.0}"]),
        ("redir /{path}", ["2: redir /{path}"]),
        ("abort", ["2: abort"]),
        ("reverse_proxy a:1 {\n header_up X-Forwarded-Proto https\n header_up -X-Forwarded-For\n"
         " header_up X-Forwarded-Host {host}\n}",
         ["3: header_up X-Forwarded-Proto https", "4: header_up -X-Forwarded-For"]),
        ("reverse_proxy a:1 b:1 {\n lb_policy cookie sid\n}", ["3: lb_policy cookie sid"]),
        ("tls a b {\n client_auth {\n mode require\n}\n protocols tls1.3\n dns x\n}\nrespond 1",
         ["3: client_auth", "6: protocols tls1.3", "7: dns x"]),
        ("respond /x* 200\nheader /y/* A b\nheader ?A b",
         ["2: respond /x* 200", "4: header ?A b"]),
        ("import nothing", ["2: import nothing"]),
        ("uri replace a b\nrespond 99", ["2: uri replace a b"]),
        ("respond 100", ["2: respond 100"]),
        ('respond "{vars.x}"', ["2: respond {vars.x}"]),
        ("handle {\n respond 1\n}\nrespond /x 2", ["1: :8080"]),
        ("reverse_proxy a:1 {\n health_interval 5\n lb_try_duration soon\n}",
         ["3: health_interval 5", "4: lb_try_duration soon"]),
        ("request_body {\n max_size big\n}\nreverse_proxy a:1", ["3: max_size big"]),
    ],
)  # fmt: skip
def test_what_caddy_says_and_hopproxy_cannot_convert_is_reported_with_its_line(
    body: str, told: list[str]
) -> None:
    assert notes(caddy(body)) == told


def test_the_top_of_a_caddyfile_and_its_sites(tmp_path: Path) -> None:
    cert, key = tmp_path / "c", tmp_path / "k"
    made = converted(
        f"""
{{
	email a@b.c
	admin :2019
	http_port 8080
	https_port 8443
	grace_period 5s
	shutdown_delay 2s
	nonsense
	servers {{
		trusted_proxies static 10.0.0.0/8 private_ranges x
		timeouts {{
			idle 30s
		}}
		max_header_size 1MB
		listener_wrappers
	}}
}}
a.example, http://b.example {{
	tls {cert} {key}
	bind 127.0.0.1
	respond "a"
}}
c.example:9000 {{
	respond "c" # a comment
}}
*.d.example/path {{
	respond "d"
}}
0.0.0.0:81 {{
	respond `0`
}}
""",
        Path("/"),
        "caddy",
    )
    assert list(made.listeners) == ["127.0.0.1:8443", ":9000", ":8080", ":81"]
    assert made.routes[0] == {"host": "a.example", "redirect": "https"}
    assert [route.get("host") for route in made.routes[1:]] == [
        ["a.example", "b.example"], "c.example", "*.d.example", None,
    ]  # fmt: skip
    assert made.top["drain_timeout"] == "5s"
    assert "10.0.0.0/8" in made.top["trusted_proxies"]
    assert made.client == {"idle_timeout": "30s", "max_head_size": "1MB"}
    told = "\n".join(notes(made))
    for text in ("email", "admin", "nonsense", "trusted_proxies", "listener_wrappers", "c.example",
                 "*.d.example/path"):  # fmt: skip
        assert text in told


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (r'respond "a\nb \"q\" \\d"', {"body": r'a\nb "q" \\d'}),
        (r"respond `a\n`", {"body": r"a\n"}),
        ("respond <<HTML\n  <p>\n    hi\n  HTML 201", {"status": 201, "body": "<p>\n  hi"}),
        ("respond `[1]`", {"body": "[1]", "type": "application/json"}),
        ("respond x 204", {"status": 204}),
    ],
)
def test_a_fixed_answer_of_caddy(body: str, answer: dict[str, Any]) -> None:
    (route,) = caddy(body).routes
    assert route == {"respond": {"status": 200} | answer}


def test_fields_that_directives_of_caddy_set_and_remove_one_after_another() -> None:
    # Those that remove wait for the response: the outermost comes last.
    made = caddy("header -X-A\nheader X-A 1\nheader X-B 1\nheader X-B 2\nheader {\n +X-C 1\n"
                 "X-D 1\n -x-d\n}\nreverse_proxy a:1 {\n header_down X-E 1\n}")  # fmt: skip
    assert made.routes[0]["response_fields"] == {
        "set": {"X-B": "2", "X-E": "1"}, "add": {"X-C": "1"}, "remove": ["x-d", "X-A"],
    }  # fmt: skip


def test_a_host_that_cannot_be_converted_is_reported() -> None:
    made = caddy("reverse_proxy a:1 {\n header_up Host {header.X}\n}")
    assert notes(made) == ["3: header_up Host {header.X}"]


@pytest.mark.parametrize(
    ("lines", "origins"),
    [
        ("reverse_proxy a:1 b:1 c:1 {\n lb_policy first\n}",
         ["http://a:1", "http://b:1 backup", "http://c:1 backup"]),
        ("reverse_proxy a:1 a:1", ["http://a:1"]),
        ("reverse_proxy a:1 {\n transport http {\n versions h2c 2\n}\n}", ["h2c://a:1"]),
    ],
)  # fmt: skip
def test_origins_of_caddy(lines: str, origins: list[str]) -> None:
    (upstream,) = caddy(lines).upstreams.values()
    assert upstream["origins"] == origins


def test_a_transport_of_caddy() -> None:
    transport = "tls_client_auth a.crt a.key\n proxy_protocol v2\n compression off"
    made = caddy(f"reverse_proxy a:1 {{\n transport http {{\n {transport}\n}}\n}}")
    (upstream,) = made.upstreams.values()
    assert upstream["tls"] == {"cert": "a.crt", "key": "a.key"}
    assert upstream["proxy_protocol"] == "v2"
    assert notes(made) == []


def test_options_of_caddy_that_cannot_be_converted_are_reported() -> None:
    options = "order respond before redir\n order x first\n servers {\n max_header_size 1foo\n}"
    made = draft(f"{{\n {options}\n}}\n:80 {{\n respond /* ok\n}}", "caddy")
    assert notes(made) == ["2: order respond before redir", "5: max_header_size 1foo"]


def test_fields_that_caddy_adds_and_sets_more_than_once() -> None:
    made = caddy(
        "reverse_proxy :3000 {\n header_up +A 1\n header_up +A 2\n}\n"
        "header +B 1\nheader {\n +B 2\n +B 3\n C 1\n}\nheader C 2"
    )
    (route,) = made.routes
    assert route["request_fields"] == {"add": {"A": ["1", "2"]}}
    assert route["response_fields"] == {"add": {"B": ["1", "2", "3"]}, "set": {"C": "2"}}


def test_paths_of_a_matcher_on_two_lines() -> None:
    made = caddy("@a {\n path /a\n path /b /c\n}\nrespond @a 403\nreverse_proxy :3000")
    assert [route.get("path") for route in made.routes] == ["/a", "/b", "/c", None]


def test_addresses_of_caddy_on_two_lines() -> None:
    (route,) = draft("http://a.example,\nhttp://b.example {\nrespond x\n}", "caddy").routes
    assert route["host"] == ["a.example", "b.example"]


@pytest.mark.parametrize("name", ["&(a)", "*.*.example"])
def test_a_site_that_cannot_be_said_takes_no_other_hosts(name: str) -> None:
    made = draft(f"{name} {{\nreverse_proxy :3000\n}}\n:80 {{\nrespond 404\n}}", "caddy")
    assert made.routes[-1] == {"respond": {"status": 404}}
    assert made.notes


def test_what_caddyfiles_import(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "a").write_text("http://a.example {\nimport to a:1 b:1\n}")
    (tmp_path / "snippets").write_text(
        "(to) {\nreverse_proxy {args[:]} {\nheader_up A {args[0]}\n}\n}\n"
        "(in) {\nhandle /x {\n{block}\n}\n}"
    )
    text = "import snippets\nimport sites/*\n:80 {\nimport in {\nrespond y\n}\nimport gone\n}"
    made = converted(text, tmp_path, "caddy")
    first, second, _ = made.routes
    assert first["host"] == "a.example"
    assert first["request_fields"] == {"set": {"A": "a:1"}}
    assert made.upstreams[first["upstream"]]["origins"] == ["http://a:1", "http://b:1"]
    assert second == {"path": "/x", "exact": True, "respond": {"status": 200, "body": "y"}}
    assert notes(made) == ["7: import gone"]


def test_a_caddyfile_that_imports_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "loop").write_text("import loop")
    for text in ("import binary", "import loop", "(a) {\nimport a\n}\n:80 {\nimport a\n}"):
        with pytest.raises(Unreadable):
            converted(text, tmp_path, "caddy")


def test_a_quote_of_caddy_that_is_not_closed() -> None:
    with pytest.raises(Unreadable, match="a quote is not closed"):
        caddy('respond "a')


def test_a_header_also_holds_for_what_is_left_over() -> None:
    made = caddy("header X-A 1\nheader /y/* X-B 2\nrespond /x ok")
    assert [(one.get("path"), one["response_fields"]) for one in made.routes] == [
        ("/x", {"set": {"X-A": "1"}}),
        ("/y/", {"set": {"X-B": "2", "X-A": "1"}}),
        (None, {"set": {"X-A": "1"}}),
    ]


def test_a_line_that_is_a_variable_is_no_site() -> None:
    made = draft("{$MORE}\n:80 {\n respond ok\n}\n", "caddy")
    assert made.routes == [{"respond": {"status": 200, "body": "ok"}}]
    assert notes(made) == ["1: {$MORE}"]


def test_a_caddyfile_of_one_site_without_braces() -> None:
    made = draft("a.example\ntls me@a.example {\n}\nreverse_proxy a:1\n", "caddy")
    assert made.routes[-1]["host"] == "a.example"
    made = draft("http://localhost:8080\n\nrespond /a 204\nreverse_proxy 127.0.0.1:1\n", "caddy")
    assert [route.get("path") for route in made.routes] == ["/a", None]


# -- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("site", [*NGINX, *CADDY], ids=lambda site: site.name)
def test_what_is_not_said_is_in_the_output_too(
    site: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ("nginx.conf" if site in NGINX else "Caddyfile")
    file.write_text(site.text.replace("@HTTP@", "80").replace("@HTTPS@", "443"))
    options = parser().parse_args(["convert", str(file)])
    assert COMMANDS[options.command](options) == 0
    out, err = capsys.readouterr()
    for text in site.told:
        assert f": {text}: " in err
        assert f": {text} (" in out


def test_the_language_is_seen() -> None:
    assert language_of("Caddyfile", "server {") == "caddy"
    assert language_of("x.conf", "\nupstream a {\n") == "nginx"
    assert language_of("x.conf", "a.example {\n}") == "caddy"


def test_a_file_that_cannot_be_read_ends_the_command(tmp_path: Path) -> None:
    broken = tmp_path / "nginx.conf"
    broken.write_text("server {")
    for name in (str(tmp_path / "none"), str(broken)):
        options = parser().parse_args(["convert", name])
        with pytest.raises(Failure, match="cannot be read"):
            COMMANDS[options.command](options)
