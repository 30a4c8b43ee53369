"""Fifteen configurations of nginx and Caddy, as people write them, and what to ask of each.

`@NAME@` is a port: @HTTP@ and @HTTPS@ of the proxy, the others of origins.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A configuration, the requests to compare (`host path`, maybe with a method and fields in
    front), the request fields and the response fields to compare, and lines that must be told.
    """

    name: str
    text: str
    asked: tuple[str, ...]
    sent: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def asked(host: str, paths: str) -> list[str]:
    """Requests for several paths of one host."""
    return [f"{host} {path}" for path in paths.split()]


NGINX = (
    Site(
        "one application with WebSockets and security headers",
        r"""
map $http_upgrade $connection_upgrade { default upgrade; '' close; }
server {
    listen @HTTP@ default_server;
    server_name _;
    server_tokens off;
    client_max_body_size 10;
    gzip on;
    add_header X-Frame-Options "SAMEORIGIN" always;
    add_header X-Content-Type-Options nosniff always;
    add_header Content-Security-Policy "default-src 'self'; img-src *" always;
    location / {
        proxy_pass http://127.0.0.1:@APP@;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Env "prod $request_method {x}";
        proxy_read_timeout 86400s;
    }
}
""",
        (
            "a.example /",
            "b.example /x/y?z=1&u=%2F",
            "POST:11 a.example /",
            "POST:9 a.example /",
            "HEAD a.example /x",
            "a.example /status/404",
            "a.example /status/500",
        ),
        ("x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-env"),
        ("x-frame-options", "x-content-type-options", "content-security-policy"),
        ("gzip on",),
    ),
    Site(
        "the longest prefix wins, wherever it stands",
        r"""
server {
    listen @HTTP@;
    location / { proxy_pass http://127.0.0.1:@APP@; }
    location /api/ { proxy_pass http://127.0.0.1:@API@/; proxy_set_header Host $http_host; }
    location /api/v2/ { proxy_pass http://127.0.0.1:@ADMIN@; }
    location ^~ /api/v2/static/ { proxy_pass http://127.0.0.1:@APP@/static/; }
    location = /api/v2/ { return 200 "index"; }
    location = / { return 302 /app/; }
    location = /health { default_type application/json; access_log off; return 200 '{"ok":true}'; }
    location /old/ { return 301 https://new.example$request_uri; }
    location /gone { return 410; }
    location ~* \.php$ { deny all; }
}
""",
        (
            "a.example /",
            "a.example /x",
            "a.example /api/users?x=1",
            "a.example /api/",
            "a.example /api",
            "a.example /api?q=1",
            "a.example /api/v2/y",
            "a.example /api/v2/",
            "a.example /api/v2",
            "a.example /api/v2/static/z",
            "a.example /health",
            "a.example /health/x",
            "a.example /old/p?q=2",
            "a.example /gone",
            "a.example /gone/x",
        ),
        (),
        ("content-type",),
        (r"location ~* \.php$", "location /gone"),
    ),
    Site(
        "servers by name: exact, wildcard, default",
        r"""
upstream backend { least_conn; server 127.0.0.1:@APP@ weight=2 max_fails=3; keepalive 16; }
server { listen @HTTP@ default_server; server_name _; return 404; }
server { listen @HTTP@; server_name *.example; location / { proxy_pass http://127.0.0.1:@API@; } }
server {
    listen @HTTP@; server_name a.example;
    location / { proxy_pass http://backend; proxy_set_header Host $host; }
}
server { listen @HTTP@; server_name www.a.example; return 301 $scheme://a.example$request_uri; }
server { listen @HTTP@; server_name .two.test; location / { proxy_pass http://backend; } }
server {
    listen @HTTP@; server_name new.test old.test gone.test;
    if ($host = old.test) { return 301 http://new.test$request_uri; }
    location / { proxy_pass http://backend; add_header X-Path "a\.b \d\"c\\" always; }
    location /moved/ { rewrite ^ http://else.test/there redirect; }
    location /gone/ { rewrite ^/(.*)$ http://else.test/$1 permanent; }
    location = /none { return 204 text; }
}
server { listen @HTTP@; server_name ~^re[0-9]\.test$; location / { return 403; } }
""",
        (
            "a.example /x",
            "b.example /x",
            "www.a.example /x?y=1",
            "other.test /x",
            "two.test /x",
            "sub.two.test /x",
            "new.test /x?y=1",
            "old.test /x?y=1",
            "new.test /moved/x?y=1",
            "new.test /gone/x?y=1",
            "new.test /none",
        ),
        (),
        ("x-path",),
        ("server_name ~^re[0-9]\\.test$",),
    ),
    Site(
        "to https, as certbot leaves it",
        r"""
server {
    server_name a.example www.a.example;
    location / { proxy_pass http://127.0.0.1:@APP@; proxy_set_header Host $host;
                 proxy_set_header X-Forwarded-Proto $scheme; }
    listen @HTTPS@ ssl;
    ssl_certificate @CERT@; ssl_certificate_key @KEY@;
    ssl_session_cache shared:le_nginx_SSL:1m;
}
server {
    if ($host = www.a.example) { return 301 https://$host$request_uri; }
    if ($host = a.example) { return 301 https://$host$request_uri; }
    listen @HTTP@;
    server_name a.example www.a.example;
    return 404;
}
""",
        ("a.example /x?y", "www.a.example /", "https a.example /x", "https www.a.example /y?z"),
        ("x-forwarded-proto",),
        (),
        ("ssl_session_cache shared:le_nginx_SSL:1m",),
    ),
    Site(
        "to https by conditions, and what is not redirected",
        r"""
server {
    listen @HTTP@; listen @HTTPS@ ssl;
    server_name a.example www.a.example;
    ssl_certificate @CERT@; ssl_certificate_key @KEY@;
    if ($scheme = http) { return 301 https://$host$request_uri; }
    if ($host = www.a.example) { return 302 https://a.example$request_uri; }
    location /app/ { proxy_pass http://127.0.0.1:@APP@; }
    location /gone/ { return 410; }
}
server {
    listen @HTTP@; server_name b.example;
    location /.well-known/acme-challenge/ { root /var/www; }
    location / { return 301 https://$host$request_uri; }
}
server {
    listen @HTTPS@ ssl; server_name b.example;
    ssl_certificate @CERT@; ssl_certificate_key @KEY@;
    location / { proxy_pass http://127.0.0.1:@API@; }
}
""",
        (
            "a.example /x?y",
            "www.a.example /",
            "https a.example /x",
            "https a.example /app/x",
            "https www.a.example /y?z",
            "https a.example /gone/x",
            "b.example /x",
            "https b.example /x",
            "https b.example /.well-known/acme-challenge/x",
        ),
        (),
        (),
        ("root /var/www",),
    ),
    Site(
        "prefixes that are taken off, and URLs that come back",
        r"""
proxy_hide_header X-Powered-By;
server {
    listen 127.0.0.1:@HTTP@;
    location /v1/ { rewrite ^/v1/(.*)$ /$1 break; proxy_pass http://127.0.0.1:@API@; }
    location /app/ { proxy_pass http://127.0.0.1:@APP@/; }
    location /kept/ { proxy_pass http://127.0.0.1:@APP@/; proxy_redirect off; }
    location /named/ {
        proxy_set_header Host app.internal; proxy_set_header Authorization "";
        proxy_set_header Accept-Encoding ""; proxy_pass http://127.0.0.1:@APP@;
        location /named/deep/ { proxy_pass http://127.0.0.1:@ADMIN@/deep/; }
    }
    location /files/ { alias /srv/files/; expires 30d; }
}
""",
        (
            "a.example /v1/x?y",
            "a.example /app/x",
            "a.example /app/redirect/own",
            "a.example /app/redirect/path",
            "a.example /app/redirect/else",
            "a.example /kept/redirect/own",
            "GET+Authorization a.example /named/x",
            "a.example /named/deep/x",
            "a.example /files/x",
            "a.example /",
        ),
        ("authorization", "accept-encoding"),
        ("location", "x-powered-by"),
        ("alias /srv/files/", "expires 30d"),
    ),
    Site(
        "what nginx does first, whatever stands first",
        r"""
server {
    listen @HTTP@;
    location /never/ { proxy_pass http://127.0.0.1:@APP@; return 403; }
    location /if/ { proxy_pass http://127.0.0.1:@APP@; if ($host = a.example) { return 418; } }
    location /late/ { return 202 "late"; if ($host = a.example) { return 404; } return 500; }
    location /moved/ { proxy_pass http://127.0.0.1:@APP@; rewrite ^ http://b.example/ permanent; }
    location /static/ { try_files $uri /; }
    location / { proxy_pass http://127.0.0.1:@APP@; }
    location = /index.html { proxy_pass http://127.0.0.1:@API@; }
    location "/two words/" { proxy_pass http://127.0.0.1:@API@; }
    location /outer/ {
        return 201 "outer"; location /outer/in/ { return 202 "in"; }
    }
    location /outer/in/deep/ { proxy_pass http://127.0.0.1:@API@; }
    location /o/ { return 203 "o"; }
    location /o { proxy_pass http://127.0.0.1:@APP@; location /o/never/ { return 500; } }
    location /upload/ {
        proxy_set_header X-A upload; client_max_body_size 20; try_files /none @app;
        location /upload/in/ { try_files /none @app; }
    }
    location @app {
        proxy_set_header X-B named; client_max_body_size 5; proxy_pass http://127.0.0.1:@ADMIN@;
    }
}
""",
        (
            "a.example /never/x",
            "a.example /if/x",
            "b.example /if/x",
            "a.example /late/x",
            "a.example /moved/x",
            "a.example /",
            "a.example /index.html",
            "a.example /two%20words/x",
            *asked("a.example", "/outer/x /outer/in/x /outer/in/deep/x /o/never/x /o/x /o"),
            "POST:19 a.example /upload/x",
            "POST:21 a.example /upload/x",
            "POST:19 a.example /upload/in/x",
        ),
        ("x-a", "x-b"),
        (),
        ("try_files $uri /", "location /static/"),
    ),
    Site(
        "rates, connections and retries",
        r"""
limit_req_zone $binary_remote_addr zone=api_limit:10m rate=5r/m;
limit_req_zone $http_x_api_key zone=key:1m rate=2r/m;
limit_conn_zone $binary_remote_addr zone=perip:10m;
limit_conn_zone $server_name zone=perserver:10m;
upstream pool {
    zone pool 64k;
    server 127.0.0.1:@APP@ max_fails=3 fail_timeout=30s max_conns=20;
    server 127.0.0.1:@API@ max_fails=3 fail_timeout=30s max_conns=20 backup;
    keepalive 32;
    keepalive_requests 1000;
    keepalive_timeout 60s;
}
server {
    listen @HTTP@;
    limit_req_status 429;
    limit_conn perip 20;
    client_max_body_size 10m;
    location / {
        proxy_pass http://pool;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_connect_timeout 5s;
        proxy_send_timeout 60s;
        proxy_read_timeout 60s;
        proxy_next_upstream error timeout http_502 http_503;
        proxy_next_upstream_tries 2;
        limit_conn perserver 100;
    }
    location /api/ { limit_req zone=api_limit burst=2 nodelay; proxy_pass http://pool; }
    location /key/ { limit_req zone=key; proxy_pass http://pool; }
    location /fixed/ { limit_req zone=api_limit burst=1 nodelay; return 204; }
}
""",
        (
            "a.example /x",
            "a.example /api/1",
            "a.example /api/2",
            "a.example /api/3",
            "a.example /api/4",
            "a.example /api/5",
            "GET+X-Api-Key a.example /key/1",
            "GET+X-Api-Key a.example /key/2",
            "a.example /fixed/1",
            "a.example /fixed/2",
            "a.example /fixed/3",
            "a.example /y",
        ),
        (),
        (),
        ("limit_conn perip 20",),
    ),
)

CADDY = (
    Site(
        "one application and a header block",
        """
http://a.example:@HTTP@ {
	encode zstd gzip
	header {
		Strict-Transport-Security "max-age=31536000; includeSubDomains"
		X-Frame-Options DENY
		-X-Powered-By
	}
	reverse_proxy 127.0.0.1:@APP@
}
""",
        (
            "a.example /",
            "a.example /x/y?z=1",
            "HEAD a.example /x",
            "a.example /status/404",
            "POST:9 a.example /",
        ),
        ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
        ("strict-transport-security", "x-frame-options", "x-powered-by"),
        ("encode zstd gzip",),
    ),
    Site(
        "handle_path, handle and the rest",
        """
:@HTTP@ {
	handle_path /api/* {
		reverse_proxy 127.0.0.1:@API@
	}
	handle /api/admin/* {
		reverse_proxy 127.0.0.1:@ADMIN@
	}
	handle /ping {
		respond "pong" 200
	}
	handle {
		reverse_proxy 127.0.0.1:@APP@
	}
}
""",
        (
            "a.example /api/x?y",
            "a.example /api/",
            "a.example /api",
            "a.example /api/admin/x",
            "a.example /ping",
            "a.example /ping/x",
            "a.example /",
            "b.example /x",
        ),
        (),
        ("content-type",),
    ),
    Site(
        "several sites, snippets and matchers",
        """
(common) {
	header X-From {args.0}
	header -X-Powered-By
}
http://a.example:@HTTP@, http://b.example:@HTTP@ {
	import common first
	@live path /ws/* /events/*
	reverse_proxy @live 127.0.0.1:@API@
	redir /old /new permanent
	redir /tmp https://c.example{uri}
	reverse_proxy 127.0.0.1:@APP@
}
http://www.a.example:@HTTP@ {
	redir http://a.example{uri} permanent
}
http://*.wild.test:@HTTP@ {
	respond "wild" 203
}
""",
        (
            "a.example /x",
            "b.example /ws/x",
            "b.example /events/y?z",
            "a.example /old",
            "a.example /old/x",
            "a.example /tmp?a=b",
            "www.a.example /x?y=1",
            "x.wild.test /any",
        ),
        (),
        ("x-from", "x-powered-by"),
    ),
    Site(
        "fields up and down, another Host",
        """
{
	servers {
		timeouts {
			read_header 5s
			idle 2m
		}
	}
	grace_period 10s
}
http://a.example:@HTTP@ {
	reverse_proxy /own/* {$ORIGIN:127.0.0.1:@APP@} {
		header_up Host {upstream_hostport}
		header_up X-Real-IP {remote_host}
		header_up X-Env prod
		header_up -X-Debug
		header_down -X-Powered-By
		header_down X-Proxy "by {method}"
		lb_try_duration 5s
		transport http {
			dial_timeout 2s
			response_header_timeout 30s
			keepalive 30s
		}
	}
	reverse_proxy 127.0.0.1:@APP@ {
		header_up Host app.internal
		flush_interval -1
	}
	basicauth /secret/* {
		bob $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
	}
}
""",
        ("GET+X-Debug a.example /own/x", "a.example /x", "a.example /own"),
        ("x-real-ip", "x-env", "x-debug"),
        ("x-powered-by", "x-proxy"),
        ("basicauth /secret/*",),
    ),
    Site(
        "handles within handles, and the order of directives",
        """
http://a.example:@HTTP@/site/* {
	respond "site"
}
http://a.example:@HTTP@, http://b.example:@HTTP@ {
	handle {
		reverse_proxy 127.0.0.1:@APP@
	}
	@b host b.example
	handle @b {
		respond "b"
	}
	@many path /t/* /u/*
	handle @many {
		respond "many"
	}
	handle /t/x/* {
		respond "never"
	}
	handle /api/* {
		handle /health {
			respond "never"
		}
		respond /ping "never"
		handle /api/v2/* {
			reverse_proxy 127.0.0.1:@ADMIN@
		}
		reverse_proxy 127.0.0.1:@API@
	}
	handle_path /cut/* {
		handle_path /deep/* {
			reverse_proxy 127.0.0.1:@ADMIN@ {
				header_up X-From {http.request.orig_uri.path}
			}
		}
		handle {
			respond /pong "pong"
			reverse_proxy /x/* 127.0.0.1:@API@
			redir /old /new?{query} permanent
		}
	}
}
""",
        (
            *asked("a.example", "/ /health /ping /api/health /api/v2/x /api/x /cut/deep/x /deep/x"),
            *asked("a.example", "/cut/pong /pong /cut/x/y /x/y /cut/z /cut/old?a=b /t/x/1 /u/1"),
            *asked("a.example", "/site/x /site"),
            *asked("b.example", "/ /api/x"),
        ),
        ("x-from",),
        ("content-type",),
    ),
    Site(
        "directives that hold for a path",
        """
http://a.example:@HTTP@ {
	header X-All 1
	header /static/* Cache-Control "max-age=1"
	header /static/deep/* Cache-Control "max-age=2"
	header /one X-One 1
	@api path /api/*
	header @api {
		X-Api 1
		-X-Powered-By
	}
	header /api/* X-Powered-By never
	request_body /small/* {
		max_size 10
	}
	reverse_proxy /api/v1/* 127.0.0.1:@API@
	reverse_proxy 127.0.0.1:@APP@
	respond /one "one"
}
http://b.example:@HTTP@ {
	uri strip_prefix /app
	reverse_proxy /api/* 127.0.0.1:@API@
	reverse_proxy 127.0.0.1:@APP@
}
http://c.example:@HTTP@ {
	route {
		respond /early "early"
		reverse_proxy /api/* 127.0.0.1:@API@
		respond /api/never "never"
		uri strip_prefix /cut
		reverse_proxy /x/* 127.0.0.1:@ADMIN@
		header X-All late
		reverse_proxy 127.0.0.1:@APP@
	}
}
""",
        (
            *asked("a.example", "/ /static/x /static/deep/x /static /one /one/x /api/v1/x /api/x"),
            "POST:11 a.example /x",
            "POST:9 a.example /small/x",
            *asked("b.example", "/app/x /app/api/x /api/x /x /app"),
            *asked("c.example", "/early /api/x /api/never /cut/x/y /x/y /cut/z /z"),
        ),
        (),
        ("x-all", "x-one", "x-api", "x-powered-by", "cache-control"),
    ),
    Site(
        "route, uri strip_prefix and answers",
        """
http://a.example:@HTTP@ {
	respond /health 200
	respond /teapot "short and stout" 418
	route /v1/* {
		uri strip_prefix /v1
		reverse_proxy 127.0.0.1:@API@
	}
	handle /only/* {
		header X-Only yes
		reverse_proxy 127.0.0.1:@APP@
	}
	request_body {
		max_size 10
	}
}
""",
        (
            "a.example /health",
            "a.example /teapot",
            "a.example /v1/x?y",
            "a.example /v1",
            "a.example /only/x",
            "POST:9 a.example /v1/x",
            "a.example /nothing",
        ),
        (),
        ("x-only",),
    ),
)
