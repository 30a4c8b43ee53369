"""Every refusal: its status, `Connection: close`, its cause counted, its reason in the log."""

from __future__ import annotations

import pytest
from _pytest.mark.structures import ParameterSet

from hopproxy.observe.access_log import AccessLog
from hopproxy.observe.metrics import Metrics
from hopproxy.reasons import CloseReason, Hop
from hopproxy.settings.route import Route
from hopproxy.settings.upstream import UpstreamSettings
from tests.wire_pair import Hops

LIMITS = {
    "max_head_size": 4096,
    "max_fields": 20,
    "max_target_size": 200,
    "max_body_size": 1000,
    "head_timeout": 5.0,
    "linger_timeout": 1.0,
}
REQUEST = "http_request_error"
DENIED = "http_request_denied"


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """A request with a Host, and these lines."""
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""])


def refused(name: str, sent: bytes, status: int, reason: str, cause: str = REQUEST) -> ParameterSet:
    """A row of the table."""
    return pytest.param(sent, status, cause, reason, id=name)


TABLE = [
    refused("bare LF", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "CRLF"),
    refused("bare CR", get(b"X: a\rb"), 400, "CRLF"),
    refused("NUL", get(b"X: a\0b"), 400, ""),
    refused("control byte", get(b"X: a\x01b"), 400, "control byte"),
    refused("fold", get(b"X: a", b" b"), 400, "folded"),
    refused("space before colon", get(b"X : a"), 400, ""),
    refused("no colon", get(b"X"), 400, ""),
    refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00", 400, "TLS"),
    refused("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSMS", 505, "HTTP/2"),
    refused("HTTP/0.9", b"GET / HTTP/0.9\r\n\r\n", 505, "HTTP/0"),
    refused("no version", b"GET /\r\n\r\n", 400, "request line"),
    refused("length twice", get(b"Content-Length: 1", b"Content-Length: 1"), 400, "more than one"),
    refused("length list", get(b"Content-Length: 1, 1"), 400, "Content-Length"),
    refused("length +1", get(b"Content-Length: +1"), 400, ""),
    refused(
        "length and chunked",
        get(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        400,
        "beside",
    ),
    refused(
        "chunked in 1.0", get(b"Transfer-Encoding: chunked", start=b"GET / HTTP/1.0"), 400, "1.0"
    ),
    refused("chunked twice", get(b"Transfer-Encoding: chunked, chunked"), 400, "coding"),
    refused("gzip, chunked", get(b"Transfer-Encoding: gzip, chunked"), 501, "coding"),
    refused("no Host", b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
    refused("two Hosts", get(b"Host: a"), 400, ""),
    refused("a bad Host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Host"),
    refused("another Host", get(start=b"GET http://b/ HTTP/1.1"), 400, "differs"),
    refused("a fragment", get(start=b"GET /a#b HTTP/1.1"), 400, "target"),
    refused("an asterisk", get(start=b"GET * HTTP/1.1"), 400, "target"),
    refused("CONNECT", get(start=b"CONNECT a:1 HTTP/1.1"), 405, "CONNECT", DENIED),
    refused("TRACE", get(start=b"TRACE / HTTP/1.1"), 405, "TRACE", DENIED),
    refused("Connection: Host", get(b"Connection: Host"), 400, "names host"),
    refused("too many options", get(b"Connection: " + b"a," * 40), 400, "options"),
    refused("an expectation", get(b"Expect: more"), 417, "expectation"),
    refused("a long target", get(start=b"GET /%b HTTP/1.1" % (b"a" * 300)), 414, "target"),
    refused("many fields", get(*[b"X: y"] * 30), 431, "fields"),
    refused("a long head", get(b"X: " + b"x" * 5000), 431, "max_head_size"),
    refused("a long body", get(b"Content-Length: 2000"), 413, "max_body_size"),
    refused("a slow head", b"GET / HTTP/1.1\r\n", 408, "head did not come in time"),
    refused(
        "a broken chunk",
        get(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1") + b"0x5\r\nhello\r\n",
        400,
        "chunk size",
    ),
]


@pytest.mark.parametrize(("sent", "status", "cause", "reason"), TABLE)
async def test_a_refusal_closes_is_counted_and_tells_its_reason(
    hops: Hops, sent: bytes, status: int, cause: str, reason: str
) -> None:
    await hops.start(client=LIMITS)
    client = await hops.client()
    await client.send(sent)
    answer = await client.message()
    assert answer.status == status
    assert answer.values(b"connection") == [b"close"]
    assert cause.encode() in answer.values(b"proxy-status")[0]
    await client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await client.rest() == b""
    client.close()
    await hops.quiet()
    (record,) = hops.records.kept
    assert (record.status, record.cause) == (status, cause)
    assert reason in record.detail
    assert record.detail
    ends = CloseReason.HEAD_TIMEOUT if status == 408 else CloseReason.BAD_REQUEST
    assert hops.closes(Hop.CLIENT) == [ends]
    exposed = Metrics(hops.runtime, None).exposition("")[0].decode()
    (counted,) = [line for line in exposed.splitlines() if f'cause="{cause}"' in line]
    assert counted.endswith(" 1.0")
    assert f'reason="{ends.label}"' in exposed
    line = AccessLog("json", 2)._json([record]).decode()
    assert f'"cause":"{cause}"' in line
    assert reason.split(" ")[0] in line


#: Understood and not served: the message was sound, and so the link may go on.
SOUND = [
    pytest.param(
        get(start=b"GET /elsewhere HTTP/1.1"), 404, "destination_not_found", id="no route"
    ),
    pytest.param(
        get(b"Via: " + b"1.1 hopproxy, " * 5, start=b"GET /x HTTP/1.1"),
        508,
        "proxy_loop_detected",
        id="a loop",
    ),
]


@pytest.mark.parametrize(("sent", "status", "cause"), SOUND)
async def test_what_is_understood_and_denied_keeps_the_link(
    hops: Hops, sent: bytes, status: int, cause: str
) -> None:
    origin = hops.add_origin()
    await hops.start(
        upstreams={"app": UpstreamSettings(origins=(origin.address,))},
        routes=(Route(upstream="app", path="/x"),),
    )
    client = await hops.client()
    for _ in range(2):
        await client.send(sent)
        answer = await client.message()
        assert answer.status == status
        assert answer.values(b"connection") == []
        assert cause.encode() in answer.values(b"proxy-status")[0]
    await hops.quiet()  # an exchange is counted once its answer is on its way
    await hops.quiet()  # an exchange is counted once its answer is out
    exposed = Metrics(hops.runtime, None).exposition("")[0].decode()
    assert any(
        f'cause="{cause}"' in line and line.endswith(" 2.0") for line in exposed.splitlines()
    )


async def test_a_refused_head_request_is_answered_with_a_body(hops: Hops) -> None:
    """What looks like its method comes from a head that could not be read: it decides nothing."""
    await hops.start(client=LIMITS)
    client = await hops.client()
    await client.send(b"HEAD / HTTP/6.1\r\nHost: a\r\n\r\n")
    answer = await client.message()
    assert answer.status == 505
    assert int(answer.values(b"content-length")[0]) == len(answer.body) > 0
    assert await client.rest() == b""
    (record,) = hops.records.kept
    assert record.method == b"HEAD", "the log may tell it"
