"""Why a case says nothing to a client of HTTP/2.  Each case without a meaning there names one."""

from __future__ import annotations

CONNECTION = "a request of HTTP/2 has no Connection, Keep-Alive or Upgrade (RFC 9113 8.2.2)"
TE = "TE says only trailers in HTTP/2, and needs no Connection (RFC 9113 8.2.2)"
VERSION = "a client of HTTP/2 has no other version: no HTTP/1.0, no version in a request line"
CHUNKS = "DATA frames take the place of the chunked coding (RFC 9113 8.1)"
FRAMING = "what follows a request in HTTP/2 is a frame: no length tells where it begins"
HALF_A_HEAD = "a head of HTTP/2 is a field block; tests/links/test_h2_heads.py sends half of one"
LINES = "fields of HTTP/2 are pairs of a name and a value: there are no lines to be malformed"
FIRST_BYTES = "what HTTP/2 begins with is its preface; test_a_preface_that_is_none_is_refused"
NTLM = "NTLM and Negotiate need HTTP/1.1: tests/links/test_h2_seen.py"
UPGRADE = "a WebSocket of HTTP/2 is a CONNECT: the request has no body, and what follows is DATA"

REASONS = {
    text for name, text in list(globals().items()) if name.isupper() and isinstance(text, str)
}
