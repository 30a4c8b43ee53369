"""Names of settings in other proxies: what they are called here, and what to do instead."""

#: What people write for `off`, besides `off`.
NO = frozenset(
    {"disabled", "false", "inf", "infinite", "infinity", "never", "no", "none", "unlimited"}
)
OFF = NO | {"off"}
_POOL = "upstreams.<name>.pool"
_TIMEOUTS = (
    "client.idle_timeout",
    "client.head_timeout",
    "client.body_timeout",
    "upstreams.<name>.connect_timeout",
    "upstreams.<name>.response_timeout",
    "upstreams.<name>.body_timeout",
    f"{_POOL}.idle_timeout",
    f"{_POOL}.queue_timeout",
)
_READ = (
    "client.body_timeout",
    "upstreams.<name>.response_timeout",
    "upstreams.<name>.body_timeout",
)
_FIELDS = ("routes[].request_fields", "routes[].response_fields")
_KEPT = ("client.idle_timeout", f"{_POOL}.idle_timeout", f"{_POOL}.max_idle")
_NO_TLS = "hopproxy does not do TLS yet: put a TLS terminator in front of it"
#: Names that other proxies, and people, use for our settings.
CALLED: dict[str, tuple[str, ...]] = {
    "access_logs": ("access_log",),
    "add_header": ("routes[].response_fields",),
    "address": ("listeners[].bind", "admin.bind", "upstreams.<name>.origins"),
    "backend": ("routes[].upstream", "upstreams"),
    "backends": ("upstreams",),
    "body_size": ("client.max_body_size",),
    "client_body_timeout": ("client.body_timeout",),
    "client_header_timeout": ("client.head_timeout",),
    "client_max_body_size": ("client.max_body_size",),
    "cluster": ("routes[].upstream", "upstreams"),
    "clusters": ("upstreams",),
    "dial_timeout": ("upstreams.<name>.connect_timeout",),
    "domain": ("routes[].host",),
    "domains": ("routes[].host",),
    "endpoints": ("upstreams.<name>.origins",),
    "frontend": ("listeners",),
    "frontends": ("listeners",),
    "grace_period": ("drain_timeout",),
    "graceful_timeout": ("drain_timeout",),
    "header": _FIELDS,
    "header_down": ("routes[].response_fields",),
    "header_timeout": ("client.head_timeout",),
    "header_up": ("routes[].request_fields",),
    "headers": _FIELDS,
    "hide_header": ("routes[].response_fields",),
    "hosts": ("routes[].host",),
    "keep_alive": _KEPT,
    "keep_alive_timeout": ("client.idle_timeout", f"{_POOL}.idle_timeout"),
    "keepalive": _KEPT,
    "keepalive_requests": ("client.max_requests", f"{_POOL}.max_requests"),
    "keepalive_timeout": ("client.idle_timeout", f"{_POOL}.idle_timeout"),
    "listen": ("listeners", "admin.bind"),
    "location": ("routes[].path", "routes"),
    "locations": ("routes",),
    "log": ("access_log",),
    "logging": ("access_log",),
    "logs": ("access_log",),
    "lifetime": ("client.max_age", f"{_POOL}.max_age"),
    "max_conns": (f"{_POOL}.max_connections",),
    "max_header_size": ("client.max_head_size", "upstreams.<name>.max_head_size"),
    "max_headers": ("client.max_fields",),
    "max_lifetime": ("client.max_age", f"{_POOL}.max_age"),
    "max_size": (f"{_POOL}.max_connections",),
    "metrics": ("admin",),
    "pool_size": (f"{_POOL}.max_connections",),
    "port": ("listeners[].bind", "admin.bind", "upstreams.<name>.origins"),
    "ports": ("listeners[].bind",),
    "prefix": ("routes[].path",),
    "processes": ("workers",),
    "proxies": ("upstreams",),
    "proxy_connect_timeout": ("upstreams.<name>.connect_timeout",),
    "proxy_pass": ("routes[].upstream", "upstreams.<name>.origins"),
    "preserve_host": ("upstreams.<name>.host",),
    "proxy_read_timeout": _READ[1:],
    "proxy_redirect": ("routes[].locations",),
    "proxy_send_timeout": ("upstreams.<name>.write_timeout",),
    "proxy_set_header": ("routes[].request_fields", "upstreams.<name>.host"),
    "read_timeout": _READ,
    "real_ip_header": ("trusted_proxies", "forwarding"),
    "redirects": ("routes[].redirect",),
    "request_headers": ("routes[].request_fields",),
    "response": ("routes[].respond",),
    "response_headers": ("routes[].response_fields",),
    "return": ("routes[].redirect", "routes[].respond"),
    "rules": ("routes",),
    "send_timeout": ("client.write_timeout", "upstreams.<name>.write_timeout"),
    "server": ("upstreams.<name>.origins", "upstreams"),
    "server_name": ("routes[].host",),
    "servers": ("upstreams.<name>.origins", "upstreams"),
    "service": ("routes[].upstream", "upstreams"),
    "services": ("upstreams",),
    "set_real_ip_from": ("trusted_proxies",),
    "shutdown_timeout": ("drain_timeout",),
    "size": (f"{_POOL}.max_connections",),
    "stats": ("admin",),
    "strip_prefix": ("routes[].strip",),
    "target": ("routes[].upstream", "upstreams.<name>.origins"),
    "targets": ("upstreams.<name>.origins", "upstreams"),
    "threads": ("workers",),
    "timeout": _TIMEOUTS,
    "timeouts": _TIMEOUTS,
    "to": ("routes[].upstream",),
    "uri": ("routes[].path", "upstreams.<name>.origins"),
    "url": ("upstreams.<name>.origins",),
    "urls": ("upstreams.<name>.origins",),
    "worker_processes": ("workers",),
}
#: Settings that hopproxy does not have, and what to do instead.
ABSENT = {
    **dict.fromkeys(("certificate", "certificates", "https", "ssl", "tls"), _NO_TLS),
    **dict.fromkeys(
        ("brotli", "compress", "compression", "gzip"),
        "hopproxy does not compress: let the application do it, or a proxy in front",
    ),
    **dict.fromkeys(
        ("buffering", "proxy_buffering", "proxy_request_buffering", "websocket", "websockets"),
        "leave it out: bodies and WebSockets are passed on as they come",
    ),
    **dict.fromkeys(("cache", "caching"), "hopproxy does not cache"),
    "rewrite": "a route can `strip` the beginning of a path, or `redirect`",
    **dict.fromkeys(
        ("error_log", "log_level"), "leave it out: errors go to standard error, and all are written"
    ),
    **dict.fromkeys(
        ("balance", "lb_policy", "load_balancing", "sticky", "weight"),
        "leave it out: the origins are taken in turn",
    ),
    **dict.fromkeys(("group", "user"), "start hopproxy as the user that it is to run as"),
    **dict.fromkeys(
        ("health_check", "health_checks", "healthcheck"),
        "leave it out: an origin that cannot be reached is tried again each second",
    ),
    **dict.fromkeys(("h2", "http2"), "hopproxy speaks HTTP/1.1 only"),
    "daemon": "hopproxy runs in the foreground: leave it out",
    "log_format": "write access_log: json or text",
    "proxy_protocol": "hopproxy does not read the PROXY protocol: let the proxy in front send "
    "X-Forwarded-For, and list it in trusted_proxies",
    **dict.fromkeys(
        ("limit_req", "rate_limit"), "hopproxy has no rate limit: let a proxy in front do it"
    ),
    **dict.fromkeys(
        ("max_retries", "retries", "retry"),
        "leave it out: a request is sent again once, where that is safe",
    ),
    **dict.fromkeys(
        ("file_server", "root", "static"), "hopproxy serves no files: let an origin do it"
    ),
}
