"""Why a directive of nginx is not converted."""

#: Directives without a note: hopproxy does this anyway, or it has no meaning here.
NEEDLESS = frozenset(
    {
        "absolute_redirect", "aio", "chunked_transfer_encoding",
        "client_body_buffer_size", "client_header_buffer_size", "default_type",
        "directio", "etag", "events", "http2", "http2_push_preload",
        "ignore_invalid_headers", "keepalive_disable", "limit_conn_log_level",
        "limit_req_log_level", "lingering_close",
        "log_not_found", "map_hash_bucket_size", "map_hash_max_size", "msie_padding",
        "multi_accept", "open_file_cache", "output_buffers", "pcre_jit", "pid",
        "port_in_redirect", "postpone_output", "proxy_buffer_size", "proxy_buffering",
        "proxy_buffers", "proxy_busy_buffers_size", "proxy_cache_bypass",
        "proxy_headers_hash_bucket_size", "proxy_headers_hash_max_size",
        "proxy_max_temp_file_size", "proxy_no_cache", "proxy_pass_header",
        "proxy_pass_request_body", "proxy_pass_request_headers",
        "proxy_request_buffering", "proxy_socket_keepalive", "proxy_ssl_session_reuse",
        "proxy_temp_file_write_size", "recursive_error_pages",
        "reset_timedout_connection", "sendfile", "sendfile_max_chunk",
        "server_name_in_redirect", "server_names_hash_bucket_size",
        "server_names_hash_max_size", "server_tokens", "subrequest_output_buffer_size",
        "tcp_nodelay", "tcp_nopush", "types", "types_hash_bucket_size",
        "types_hash_max_size", "use", "variables_hash_max_size", "worker_connections",
        "worker_rlimit_nofile", "zone",
    }
)  # fmt: skip

_FILES = "hopproxy serves no files: let an origin do it"
_SECURITY = "hopproxy does not do this: requests that nginx refuses would pass"
_CACHE = "hopproxy does not cache"
_GZIP = "hopproxy does not compress: let the application do it"
_TLS = "the standard library's choice is used"
_WHOLE = "it applies to all requests here: write it in the server"
_LOG = "the access log is on standard output, errors are on standard error"

REASONS = {
    **dict.fromkeys(
        ("root", "alias", "index", "try_files", "autoindex", "expires", "gzip_static",
         "sub_filter", "sub_filter_once", "ssi", "charset", "image_filter", "mp4", "flv",
         "open_file_cache_valid", "fastcgi_pass", "fastcgi_param", "fastcgi_index", "uwsgi_pass",
         "scgi_pass", "grpc_pass", "memcached_pass", "fastcgi_split_path_info", "uwsgi_param",
         "fastcgi_read_timeout", "fastcgi_buffers", "fastcgi_buffer_size"), _FILES,
    ),
    **dict.fromkeys(
        ("allow", "deny", "auth_basic", "auth_basic_user_file", "auth_request", "auth_request_set",
         "limit_rate", "limit_rate_after", "limit_except", "satisfy", "valid_referers",
         "secure_link", "auth_jwt", "geo", "modsecurity", "modsecurity_rules_file"), _SECURITY,
    ),
    **dict.fromkeys(
        ("proxy_cache", "proxy_cache_path", "proxy_cache_valid", "proxy_cache_key",
         "proxy_cache_use_stale", "proxy_cache_lock", "proxy_cache_methods",
         "proxy_cache_min_uses", "proxy_cache_revalidate", "proxy_cache_background_update",
         "proxy_ignore_headers", "proxy_store", "proxy_temp_path", "proxy_cache_lock_timeout"),
        _CACHE,
    ),
    **dict.fromkeys(
        ("gzip", "gzip_types", "gzip_vary", "gzip_proxied", "gzip_comp_level", "gzip_min_length",
         "gzip_buffers", "gzip_http_version", "gzip_disable", "brotli", "brotli_types",
         "brotli_comp_level", "brotli_static", "gunzip"), _GZIP,
    ),
    **dict.fromkeys(
        ("ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_session_cache", "ssl_session_timeout",
         "ssl_session_tickets", "ssl_dhparam", "ssl_ecdh_curve", "ssl_stapling", "ssl_buffer_size",
         "ssl_stapling_verify", "ssl_trusted_certificate", "ssl_early_data", "ssl_conf_command",
         "proxy_ssl_protocols", "proxy_ssl_ciphers", "ssl_session_ticket_key"), _TLS,
    ),
    **dict.fromkeys(
        ("access_log", "error_log", "log_format", "rewrite_log", "log_subrequest",
         "open_log_file_cache"), _LOG
    ),
    **dict.fromkeys(
        ("map", "set", "split_clients", "perl", "js_content", "lua", "content_by_lua_block",
         "access_by_lua_block", "js_import", "js_set"),
        "hopproxy computes no variables",
    ),
    **dict.fromkeys(
        ("error_page", "proxy_intercept_errors"), "an origin's own error pages are passed on"
    ),
    **dict.fromkeys(
        ("mirror", "mirror_request_body"), "hopproxy sends a request to one origin"
    ),
    **dict.fromkeys(
        ("client_body_timeout", "keepalive_requests", "keepalive_time", "keepalive_timeout",
         "real_ip_header", "real_ip_recursive", "send_timeout", "set_real_ip_from"), _WHOLE
    ),
    "user": "start hopproxy as the user that it should run as",
    "daemon": "hopproxy runs in the foreground",
    "load_module": "hopproxy has no modules",
    "rewrite": "hopproxy can only remove a prefix (strip), or redirect",
    "if": "a route is chosen by host and path alone",
    "resolver": "the system resolves names, again every dns_interval",
    "resolver_timeout": "the system resolves names",
    "stream": "hopproxy speaks HTTP only",
    "mail": "hopproxy speaks HTTP only",
    "env": "${NAME} in a settings file reads the environment",
    "stub_status": "the admin listener has metrics: write admin.bind",
    "proxy_set_body": "bodies are passed on as they arrive",
    "proxy_method": "methods are passed on unchanged",
    "proxy_bind": "the system chooses the local address",
    "add_trailer": "trailers are passed on unchanged",
    "ignore_invalid_headers": "invalid fields are refused",
    "merge_slashes": "paths are passed on unchanged",
    "proxy_protocol_timeout": "write client.handshake_timeout",
    "proxy_http_version": "hopproxy speaks HTTP/1.1 to origins, or HTTP/2 by ALPN",
    "underscores_in_headers": "write underscore_fields: keep, drop, reject or shadow",
}  # fmt: skip

#: Directives whose value `off` hopproxy cannot follow.
OFF = {
    "proxy_pass_request_body": "bodies are passed on as they arrive",
    "proxy_pass_request_headers": "fields are passed on: write request_fields.remove",
    "proxy_next_upstream": "a request is sent again once, if that is safe",
    "ignore_invalid_headers": REASONS["ignore_invalid_headers"],
}

UNKNOWN = "hopproxy has nothing like it"


def reason(name: str) -> str:
    """Why a directive of this name is not converted."""
    return REASONS.get(name, UNKNOWN)
