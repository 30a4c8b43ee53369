"""Rules 74-82: what a gateway adds, what it counts down, and what it must not touch."""

from __future__ import annotations

from tests.conformance import only_http1
from tests.conformance.case import Stage, each, rule
from tests.conformance.cases_fields import answer


@rule(74, "RFC 9110 7.6.3 MUST")
def via_is_appended_in_order(s: Stage) -> None:
    seen = s.seen_upstream("Via: 1.0 a")
    passed = [entry.strip() for entry in ", ".join(seen.values("via")).split(",")]
    assert passed[0] == "1.0 a"
    assert len(passed) == 2
    assert passed[1].startswith(f"{s.via} ")
    assert passed[1] == f"{s.via} hopproxy" or not s.ours


@rule(75, "RFC 9110 7.6 MUST NOT")
def request_that_goes_in_circles_is_stopped(s: Stage) -> None:
    via = s.seen_upstream().values("via")
    assert via, "no Via, so no loop can be seen"
    client = s.client()
    client.get("/", "Via: " + ", ".join(via * 20))
    s.refused(client, 508, 400, closes=False)


@rule(76, "RFC 9110 7.6.2 MUST")
def options_is_answered_where_max_forwards_ends(s: Stage) -> None:
    client = s.client()
    client.head("OPTIONS * HTTP/1.1", "Max-Forwards: 0")
    assert s.origin.answers_first(client), "the request went upstream"
    assert client.response().status in (200, 204)


@rule(76, "RFC 9110 7.6.2 MUST", group="other_choices")
def trace_is_answered_where_max_forwards_ends(s: Stage) -> None:
    client = s.client()
    client.head("TRACE /here HTTP/1.1", "Max-Forwards: 0")
    assert s.origin.answers_first(client), "the request went upstream"
    response = client.response()
    assert response.status == 200
    assert response.values("content-type") == ["message/http"]
    assert response.body.startswith(f"TRACE /here HTTP/{s.via}\r\n".encode())


@rule(76, "RFC 9110 7.6.2 MUST")
def max_forwards_is_counted_down(s: Stage) -> None:
    seen = s.seen_upstream("Max-Forwards: 5", start="OPTIONS * HTTP/1.1")
    assert seen.values("max-forwards") == ["4"]
    assert seen.target == "*"


@rule(76, "RFC 9110 7.6.2")
def max_forwards_of_a_get_means_nothing(s: Stage) -> None:
    assert s.seen_upstream("Max-Forwards: 0").method == "GET"


@rule(77, "RFC 9112 2.3 MUST", only_http1=only_http1.VERSION)
def each_hop_is_spoken_to_in_our_own_version(s: Stage) -> None:
    assert s.seen_upstream(start="GET / HTTP/1.0").version == "HTTP/1.1"
    old = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert s.seen_downstream(old).version == "HTTP/1.1"


@rule(78, "RFC 9110 5.1, 5.3 MUST NOT")
def unknown_fields_keep_order_and_number(s: Stage) -> None:
    names = ("X-B", "X-A", "X-C", "X-A", "x-lower", "X-B")
    lines = [f"{name}: {number}" for number, name in enumerate(names)]
    for seen in (s.seen_upstream(*lines), s.seen_downstream(answer(*lines))):
        passed = [f"{name}: {value}".lower() for name, value in seen.fields]
        wanted = [line.lower() for line in lines]
        assert [line for line in passed if line in wanted] == wanted
    cookies = [f"Set-Cookie: c{number}={number}; Path=/" for number in range(3)]
    got = s.seen_downstream(answer(*cookies)).values("set-cookie")
    assert [f"Set-Cookie: {value}" for value in got] == cookies


@rule(79, "RFC 9110 6.6.1 MUST")
def missing_date_is_added(s: Stage) -> None:
    assert len(s.seen_downstream(answer()).values("date")) == 1
    if not s.ours:
        return
    given = "Tue, 15 Nov 1994 08:12:31 GMT"
    assert s.seen_downstream(answer(f"Date: {given}")).values("date") == [given]


@rule(80, "RFC 9110 11.6")
def credentials_and_challenges_are_untouched(s: Stage) -> None:
    credentials = 'Digest username="M\xfcller", uri="/a?b", nc=00000001,  qop=auth'
    assert s.seen_upstream(f"Authorization: {credentials}").values("authorization") == [credentials]
    challenge = 'Basic realm="a, b",  Digest nonce="=="'
    client = s.client()
    client.get()
    s.origin.request().answer(b"", f"WWW-Authenticate: {challenge}", status="401 Unauthorized")
    assert client.response().values("www-authenticate") == [challenge]


@each(
    81,
    "RFC 9110 7.7 MUST NOT",
    {
        target: target.encode()
        for target in (
            "/a%2Fb",
            "/a;b=c;d",
            "//double//slash",
            "/?a=%zz",
            "/a/../b/./c",
            "/%7euser",
            "/?",
            "/a?b?c=d&e",
            "/[x]|y^{z}",
        )
    },
)
def target_passes_byte_for_byte(s: Stage, target: bytes) -> None:
    seen = s.seen_upstream(start=f"GET {target.decode()} HTTP/1.1")
    assert seen.target == target.decode()


@rule(82, "RFC 9110 15.5.20")
def no_421_is_made_here(s: Stage) -> None:
    client = s.client()
    client.send(b"GET / HTTP/1.1\r\nHost: nobody.invalid\r\n\r\n")
    if s.origin.answers_first(client):
        assert client.response().status != 421
    else:
        s.origin.request().answer()
        assert client.response().status == 200
