"""Rules 106-116: what a request's head must be, line for line, to be passed on."""

from __future__ import annotations

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.cases_requests import get, post, quoted
from tests.conformance.strict import Malformed


def clean_or_refused(s: Stage, data: bytes, *statuses: int) -> None:
    """Expect a refusal, or of another proxy a request that the strict reader takes."""
    s.refused_or_clean(data, *(statuses or (400,)))


@each(
    106,
    "RFC 9112 2.2; nginx 1.29.4",
    quoted(b"X-A: 1\nX-B: 2", b"X-A: 1\n", b"X-A: 1\n\r\nX-B: 2"),
)
def bare_line_feed_never_passes(s: Stage, lines: bytes) -> None:
    clean_or_refused(s, get(s, lines))


@rule(106, "RFC 9112 2.2", only_http1=only_http1.LINES)
def bare_line_feed_after_the_request_line_never_passes(s: Stage) -> None:
    clean_or_refused(s, f"GET / HTTP/1.1\nHost: {s.host}\r\n\r\n".encode())


@rule(106, "RFC 9112 2.2, 7.1.2")
def bare_line_feed_in_trailers_never_passes(s: Stage) -> None:
    client = s.client()
    client.send(
        post(s, b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\nX-A: 1\nX-B: 2\r\n\r\n")
    )
    s.let_in(client)
    if s.ours or s.origin.answers_first(client):
        assert client.response().status == 400
        return
    s.origin.request().answer()
    client.response()


@each(107, "RFC 9110 5.5 MUST", quoted(b"a\rb", b"a\x00b", b"a\r", b"\rb"))
def bare_cr_or_nul_in_a_value_is_refused(s: Stage, value: bytes) -> None:
    s.sent_and_refused(get(s, b"X-A: " + value), 400)


@each(108, "RFC 9110 5.5", quoted(b"a\x01b", b"a\x7fb", b"a\x0bb", b"a\x1bb"))
def control_byte_in_a_value_is_refused(s: Stage, value: bytes) -> None:
    try:
        clean_or_refused(s, get(s, b"X-A: " + value))
    except Malformed:
        assert not s.ours  # kept, which the RFC leaves to a recipient's choice


@rule(108, "RFC 9110 5.5")
def obs_text_in_a_value_passes(s: Stage) -> None:
    assert s.seen_upstream("X-A: M\xfcller").values("x-a") == ["M\xfcller"]


@each(
    109,
    "RFC 9112 5.1, 2.2",
    quoted(
        b"X-A : 1", b": x", b"no colon", b"X\x85: 1", b"X A: 1", b"X\t: 1", b"X(): 1", b"X\x00: 1"
    ),
    only_http1={"no colon": only_http1.LINES},
)
def malformed_field_line_is_refused(s: Stage, line: bytes) -> None:
    s.sent_and_refused(get(s, line), 400)


@rule(109, "RFC 9112 2.2")
def space_before_the_first_field_is_refused(s: Stage) -> None:
    s.sent_and_refused(f"GET / HTTP/1.1\r\n Host: {s.host}\r\n\r\n".encode(), 400)


@each(110, "RFC 9112 5.2", quoted(b"X-A: 1\r\n 2", b"X-A: 1\r\n\t2", b"X-A:\r\n 2"))
def folded_line_never_passes(s: Stage, lines: bytes) -> None:
    clean_or_refused(s, get(s, lines))


@each(
    111,
    "RFC 9112 3.2",
    quoted(
        b"a\r\nHost: b",
        b"a\r\nHost: a",
        b"a b",
        b"a/@b",
        b"a@b",
        b"a:99999",
        b"a:b",
        b"a,b/",
        b"[::1",
    ),
)
def broken_host_is_refused(s: Stage, value: bytes) -> None:
    s.sent_and_refused(b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n", 400)


@rule(111, "RFC 9112 3.2 MUST")
def missing_host_is_refused(s: Stage) -> None:
    s.sent_and_refused(b"GET / HTTP/1.1\r\n\r\n", 400)


@rule(112, "RFC 9112 3.2.2")
def host_that_differs_from_the_target_never_passes(s: Stage) -> None:
    data = f"GET http://{s.host}/path HTTP/1.1\r\nHost: other.test\r\n\r\n".encode()
    seen = s.refused_or_clean(data, 400)
    if seen is not None:
        assert seen.values("host") == [s.host]
        assert seen.target in ("/path", f"http://{s.host}/path")


@each(112, "RFC 9110 4.2.3", {"in the target": b"target", "in Host": b"host"})
def default_port_is_the_same_authority(s: Stage, place: bytes) -> None:
    target, host = (":80", "") if place == b"target" else ("", ":80")
    client = s.client()
    client.send(f"GET http://{s.host}{target}/p HTTP/1.1\r\nHost: {s.host}{host}\r\n\r\n".encode())
    link = s.origin.request()
    assert link.last.values("host")[0].removesuffix(":80") == s.host
    link.answer()
    assert client.response().status == 200


@rule(112, "RFC 9112 3.2.2 MUST")
def absolute_form_is_accepted_and_becomes_origin_form(s: Stage) -> None:
    seen = s.seen_upstream(start=f"GET http://{s.host}/path?q HTTP/1.1")
    assert seen.target in ("/path?q", *(() if s.ours else (f"http://{s.host}/path?q",)))
    assert seen.values("host") == [s.host]


@each(
    113,
    "RFC 9112 3.2",
    quoted(b"*", b"foo", b"/a#b", b"/a b", b"/\x80", b"/\x7f", b"/a\tb", b"", b"ftp://a/", b"!"),
)
def target_of_no_known_form_is_refused(s: Stage, target: bytes) -> None:
    s.sent_and_refused(get(s, target=target), 400)


@rule(113, "RFC 9112 3.2.4")
def options_asterisk_passes(s: Stage) -> None:
    assert s.seen_upstream(start="OPTIONS * HTTP/1.1").target == "*"


@each(
    114,
    "RFC 9112 2.3",
    quoted(b"HTTP/2.0", b"HTTP/0.9", b"HTTP/11", b"http/1.1", b"HTTP/1.1x"),
    only_http1=only_http1.VERSION,
)
def other_version_is_refused(s: Stage, version: bytes) -> None:
    s.sent_and_refused(
        b"GET / " + version + b"\r\nHost: " + s.host.encode() + b"\r\n\r\n", 505, 400
    )


@rule(114, "RFC 9112 2.3", only_http1=only_http1.VERSION)
def later_minor_version_is_refused_or_read_as_11(s: Stage) -> None:
    client = s.client()
    client.head("GET / HTTP/1.9")
    if s.origin.answers_first(client):
        s.refused(client, 505, 400)
        return
    link = s.origin.request()
    assert link.last.version == "HTTP/1.1"
    link.answer()
    assert client.response().version == "HTTP/1.1"


@each(
    109,
    "RFC 9112 2.2, 3",
    quoted(
        b"GET /\r\n",
        b"hello world\r\n",
        b"GET / HTTP/3.0\r\n",
        b"GET / HTTP/1.1\r\nHost h\r\n",
        b"GET / HTTP/1.1\nHost: h\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ),
    only_http1=only_http1.FIRST_BYTES,
)
def beginning_that_can_never_become_a_request_is_refused_at_once(s: Stage, data: bytes) -> None:
    client = s.client()
    client.send(data)
    if not s.ours:  # where it is waited for until a timeout, its end is waited for instead
        client.fin()
        assert client.everything()[:9] in (b"", b"HTTP/1.1 ", b"<html>\r\n")
        return
    s.refused(client, 400, 505)


@rule(114, "RFC 9113 3.4", only_http1=only_http1.FIRST_BYTES)
def http2_preface_is_no_request(s: Stage) -> None:
    client = s.client()
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    client.fin()
    answer = client.everything()
    spoken = answer[3:9] == b"\x04\0\0\0\0\0"  # SETTINGS: HTTP/2 is served here
    assert spoken or answer[:8] in (b"", b"HTTP/1.1")
    assert s.origin.hears_nothing(0.01)


@rule(115, "RFC 6585 5; RFC 9110 15.5")
def head_over_the_limit_in_one_write_is_431(s: Stage) -> None:
    s.sent_and_refused(get(s, *(b"X-%d: " % number + b"x" * 1000 for number in range(40))), 431)


@rule(115, "RFC 6585 5")
def too_many_fields_are_431(s: Stage) -> None:
    fields = (b"X-%d: 1" % number for number in range(140))
    s.refused_or_clean(get(s, *fields), 431)


@rule(115, "RFC 9110 15.5.15")
def target_over_the_limit_is_414(s: Stage) -> None:
    s.refused_or_clean(get(s, target=b"/" + b"x" * 9000), 414)


@rule(116, "nginx; caddy GHSA-f59h-q822-g45g")
def underscore_name_cannot_pose_as_a_field_of_ours(s: Stage) -> None:
    fields = ("X_Forwarded_For: 6.6.6.6", "X_Custom: 1", "Content_Length: 7")
    seen = s.seen_upstream(*fields)
    assert not seen.has("x_forwarded_for")
    assert not s.ours or not seen.has("content_length")
    assert seen.has("x_custom") or not s.ours


@rule(116, "nginx underscores_in_headers", group="other_choices")
def every_underscore_name_is_dropped_when_so_set(s: Stage) -> None:
    assert not s.seen_upstream("X_Custom: 1").has("x_custom")


@rule(116, "HAProxy", group="underscore_reject")
def every_underscore_name_is_refused_when_so_set(s: Stage) -> None:
    client = s.client()
    client.get("/", "X_Custom: 1")
    s.refused(client, 400)
