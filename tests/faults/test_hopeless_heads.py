"""A head that can never become one is refused at once, by both hops, with a message that names it.

The peer stays connected in each of these tests: before, they ended in a timeout.
"""

from __future__ import annotations

import pytest
import trio

from hopproxy.reasons import CloseReason, Hop
from hopproxy.wire.unfinished import UnfinishedHead
from tests.raw_peers import GET, OK, Message, Peer
from tests.wire_pair import Hops

#: What an origin says and stays connected: (bytes, what the message names).
FROM_ORIGINS = [
    pytest.param(b"HTTP/1.1 200 OK\nContent-Length: 3\n\nhey", "bare line feed", id="bare LF"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: 1\n", "bare line feed", id="bare LF behind a field"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rb", "carriage return", id="bare CR"),
    pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", "TLS", id="TLS alert"),
    pytest.param(b"\x16\x03\x03\x00\x7a\n\x02", "TLS", id="TLS hello"),
    pytest.param(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", "HTTP/2", id="HTTP/2 frame"),
    pytest.param(b"HTTP/2 200\r\n", "HTTP/2", id="HTTP/2 status line"),
    pytest.param(b"HTTP/3.0 200 OK\r\n", "HTTP/3.0", id="HTTP/3.0"),
    pytest.param(b"HTTP/0.9 200 OK\r\n", "HTTP/0.9", id="HTTP/0.9 status line"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", id="SSH"),
    pytest.param(b"-ERR unknown command 'GET'\r\n", "Redis", id="Redis"),
    pytest.param(b"+PONG\r\n", "Redis", id="Redis, pleased"),
    pytest.param(b"220 mail.example ESMTP\r\n", "SMTP", id="SMTP"),
    pytest.param(b"500 5.5.1 unrecognized\r\n", "SMTP", id="SMTP, displeased"),
    pytest.param(b"* OK IMAP4rev1 ready\r\n", "IMAP", id="IMAP"),
    pytest.param(b"J\x00\x00\x00\n8.0.36\x00", "MySQL", id="MySQL"),
    pytest.param(b"E\x00\x00\x00\x8cSFATAL\x00", "PostgreSQL", id="PostgreSQL"),
    pytest.param(b"AMQP\x00\x00\x09\x01", "AMQP", id="AMQP"),
    pytest.param(b"ICY 200 OK\r\n", "ICY", id="Shoutcast"),
    pytest.param(b"RTSP/1.0 400 Bad Request\r\n", "RTSP", id="RTSP"),
    pytest.param(b"<html>", "without a status line", id="HTML"),
    pytest.param(b"<!DOCTYPE html>\r\n", "without a status line", id="HTML with a line end"),
    pytest.param(b'{"ok": true}', "without a status line", id="JSON"),
    pytest.param(b"Content-Type: text/html\r\n", "without a status line", id="CGI"),
    pytest.param(b"@RSYNCD: 31.0\r\n", "rsync", id="rsync"),
    pytest.param(b"RFB 003.008\r\n", "VNC", id="VNC"),
    pytest.param(b"ERROR\r\n", "memcached", id="memcached"),
    pytest.param(b"\x05\xff", "SOCKS", id="SOCKS"),
    pytest.param(b"\x20\x02\x00\x01", "MQTT", id="MQTT"),
    pytest.param(b"hello", "not answer HTTP/1.1", id="text"),
    pytest.param(b"\xff\xfd\x18", "not answer HTTP/1.1", id="telnet"),
    pytest.param(b"HTTP/1.1 200 OK\rX: y", "carriage return", id="bare CR behind the status"),
    pytest.param(b"\r\n", "status line", id="an empty line"),
    pytest.param(b"http/1.1 200 OK\r\n", "status line", id="lower case"),
    pytest.param(b"HTTP/1.1 OK\r\n", "status line", id="no status"),
    pytest.param(b"HTTP/1.1 2000 OK\r\n", "status line", id="four digits"),
    pytest.param(b"HTTP/1.1 600 X\r\n", "status line", id="600"),
    pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n", "colon", id="no colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX : a\r\n", "space", id="space before the colon"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: a\r\n folded", "folded", id="fold"),
    pytest.param(b"HTTP/1.1 200 OK\r\nX: \x00", "control byte", id="NUL"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n", "Content-Length", id="a length that is none"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "beside",
        id="length and coding",
    ),
    pytest.param(
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.0", id="coding in 1.0"
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nConnection: " + b"a," * 33 + b"\r\n", "options", id="many options"
    ),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n<html>", "status line", id="behind a 100"),
]

#: What a client says and stays connected: (bytes, status, what the message names).
FROM_CLIENTS = [
    pytest.param(b"GET /\r\n", 400, "HTTP/0.9", id="HTTP/0.9 request"),
    pytest.param(b"hello world\r\n", 400, "version", id="two words"),
    pytest.param(b"hello\r\n", 400, "version", id="one word"),
    pytest.param(b"GET / HTTP/3.0\r\nHost: h\r\n", 505, "HTTP/3.0", id="HTTP/3.0"),
    pytest.param(b"GET / HTTP/2", 505, "HTTP/2", id="HTTP/2, no line end"),
    pytest.param(b"GET / HTTP/0.9\r\n", 505, "HTTP/0.9", id="HTTP/0.9 by name"),
    pytest.param(b"GET / HTTP/1.10\r\n", 400, "version", id="two digits"),
    pytest.param(b"GET / http/1.1\r\n", 400, "version", id="lower case"),
    pytest.param(b"GET / HTTP/1.1\r\nHost h\r\n", 400, "colon", id="no colon"),
    pytest.param(b"GET / HTTP/1.1\r\nHost : h\r\n", 400, "space", id="space before the colon"),
    pytest.param(b"GET / HTTP/1.1\r\n Host: h\r\n", 400, "folded", id="fold"),
    pytest.param(b"GET / HTTP/1.1\r\n: h\r\n", 400, "name", id="no name"),
    pytest.param(b"GET / HTTP/1.1\r\nX: \x01", 400, "control byte", id="control byte"),
    pytest.param(b"GET / HTTP/1.1\n", 400, "bare line feed", id="bare LF"),
    pytest.param(b"\nGET / HTTP/1.1\r\n", 400, "bare line feed", id="bare LF first"),
    pytest.param(b"GET / HTTP/1.1\rHost: h\r", 400, "carriage return", id="bare CR"),
    pytest.param(b"GET  / HTTP/1.1\r\n", 400, "target", id="two spaces"),
    pytest.param(b"GET foo HTTP/1.1\r\n", 400, "target", id="no target"),
    pytest.param(b"GET /a#b HTTP/1.1\r\n", 400, "target", id="fragment"),
    pytest.param(b"GET * HTTP/1.1\r\n", 400, "target", id="asterisk"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a b\r\n", 400, "valid host", id="no authority"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400, "Host", id="two Hosts"),
    pytest.param(b"GET http://b/ HTTP/1.1\r\nX: y\r\nHost: a\r\n", 400, "differs", id="Host"),
    pytest.param(
        b"POST / HTTP/1.1\r\nContent-Length: +5\r\n", 400, "Content-Length", id="a length of +5"
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        400,
        "beside",
        id="length and coding",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501, "coding", id="gzip"
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nConnection: host\r\n", 400, "end-to-end", id="Connection names Host"
    ),
    pytest.param(
        b"GET / HTTP/1.1\r\nConnection: " + b"a," * 33 + b"\r\n", 400, "options", id="many options"
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nExpect: other\r\n", 417, "expectation", id="another expectation"
    ),
    pytest.param(b"GET /" + b"x" * 300, 414, "target", id="a long target without an end"),
    pytest.param(
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30, 431, "max_fields", id="fields without an end"
    ),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, "TLS", id="TLS hello"),
    pytest.param(b"\x16\x03\x01\x0a\x0a\r\n\r\n", 400, "TLS", id="TLS hello with line ends"),
    pytest.param(b"\x80\x2e\x01\x03\x01", 400, "TLS", id="SSLv2 hello"),
    pytest.param(b"PRI * HTTP/2.0\r\nSM", 505, "HTTP/2", id="a preface of HTTP/2 that is none"),
    pytest.param(
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03", 505, "HTTP/2", id="HTTP/2 frames"
    ),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", 400, "SSH", id="SSH"),
    pytest.param(b"EHLO me\r\n", 400, "SMTP", id="SMTP"),
    pytest.param(b"\x05\x01\x00", 400, "SOCKS", id="SOCKS"),
    pytest.param(b"\x10\x0e\x00\x04MQTT\x04", 400, "MQTT", id="MQTT"),
    pytest.param(b"*1\r\n$4\r\nPING\r\n", 400, "Redis", id="Redis"),
    pytest.param(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", 400, "PROXY", id="PROXY protocol"),
    pytest.param(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", 400, "PROXY", id="PROXY protocol 2"),
    pytest.param(b"SETUP rtsp://h/x RTSP/1.0\r\n", 400, "target", id="RTSP"),
    pytest.param(b"hello world", 400, "target", id="two words, no line end"),
    pytest.param(b"GET *", 400, "target", id="asterisk, no line end"),
    pytest.param(b"GET http://u@h", 400, "target", id="userinfo, no line end"),
    pytest.param(b"GET ftp://h", 400, "target", id="another scheme, no line end"),
    pytest.param(b"<html>", 400, "HTTP/1.1", id="HTML"),
    pytest.param(b"{", 400, "HTTP/1.1", id="JSON"),
]

LIMITS = {"max_fields": 20, "max_target_size": 200, "linger_timeout": 1.0}


async def say(peer: Peer, data: bytes, hops: Hops, *, by_bytes: bool) -> None:
    """Send it in one write, or byte by byte until the gateway has gone."""
    if not by_bytes:
        await peer.send(data)
        return
    try:
        for at in range(len(data)):
            await peer.send(data[at : at + 1])
            await hops.quiet()
    except OSError:
        return


def body_of(answer: Message) -> str:
    return answer.body.decode()


@pytest.mark.parametrize("by_bytes", [False, True], ids=["one write", "byte by byte"])
@pytest.mark.parametrize(("said", "named"), FROM_ORIGINS)
async def test_what_an_origin_says_is_refused_at_once(
    hops: Hops, said: bytes, named: str, by_bytes: bool
) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    began = trio.current_time()
    await say(upstream, said, hops, by_bytes=by_bytes)
    answer = await client.message()
    while answer.status < 200:
        answer = await client.message()
    assert trio.current_time() == began
    assert answer.status == 502
    assert b"error=http_protocol_error" in answer.values(b"proxy-status")[0]
    if not by_bytes:  # else it is refused before the name can be known
        assert named in body_of(answer)
    await client.send(GET)  # the client's own link is sound, and the origin's is never used again
    await hops.origins[0].accept_and_answer()
    assert (await client.message()).status == 200
    assert hops.closes(Hop.UPSTREAM) == [CloseReason.BAD_RESPONSE]


@pytest.mark.parametrize("by_bytes", [False, True], ids=["one write", "byte by byte"])
@pytest.mark.parametrize(("said", "status", "named"), FROM_CLIENTS)
@pytest.mark.parametrize("served", [0, 1])
async def test_what_a_client_says_is_refused_at_once(
    hops: Hops, said: bytes, status: int, named: str, by_bytes: bool, served: int
) -> None:
    await hops.start(client=LIMITS)
    client = await hops.client()
    if served:
        await client.send(GET)
        await hops.origins[0].accept_and_answer()
        await client.message()
    began = trio.current_time()
    await say(client, said, hops, by_bytes=by_bytes)
    answer = await client.message()
    assert trio.current_time() == began
    await hops.quiet()
    if not by_bytes:
        assert answer.status == status
        assert named in body_of(answer)
        assert hops.records.kept[-1].detail in body_of(answer)
    assert answer.status in (400, 414, 417, 431, 501, 505)
    assert answer.values(b"connection") == [b"close"]
    assert len(hops.origins[0].peers) == served
    assert not hops.origins[0].waiting()


@pytest.mark.parametrize(
    ("said", "status", "named"),
    [
        (b"PRI * HTTP/2.0\r\nS", 505, "HTTP/2"),
        (b"PING\r\n", 400, "without a version"),
        (b"SSH-2.0-x\r\n", 400, "SSH"),
        (b"GET / HTTP/1\r\n", 400, "does not end with the version"),
        (b"GET / HTTP/1.1\r\nHost\r\n", 400, "without a colon"),
        (b"GET / HTTP/1.1\r\nA: b\r\r", 400, "carriage return"),
    ],
)
async def test_what_a_client_says_byte_by_byte_is_named_for_what_it_is(
    hops: Hops, said: bytes, status: int, named: str
) -> None:
    """The CR of a line's end, seen before its LF, is no carriage return inside a line."""
    await hops.start()
    client = await hops.client()
    await say(client, said, hops, by_bytes=True)
    answer = await client.message()
    assert answer.status == status
    assert named in body_of(answer)


@pytest.mark.parametrize("start", [b"HTTP/1.1\r\n", b"HTTP/1.1 20\r\n"])
async def test_a_status_line_that_ends_too_early_is_named_byte_by_byte(
    hops: Hops, start: bytes
) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await say(upstream, start, hops, by_bytes=True)
    assert "a status line that cannot be read" in body_of(await client.message())


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail ESMTP\r\n"])
async def test_an_origin_that_speaks_first_is_named_too(hops: Hops, banner: bytes) -> None:
    await hops.start()
    client = await hops.client()
    async with trio.open_nursery() as nursery:

        async def greet() -> None:
            await (await hops.origins[0].accept()).send(banner)

        nursery.start_soon(greet)
        began = trio.current_time()
        await client.send(GET)
        answer = await client.message()
    assert trio.current_time() == began
    assert answer.status == 502
    assert banner[:3].replace(b"220", b"SMTP").decode() in body_of(answer)


HOPELESS_CHUNKS = [
    pytest.param(b"0x5", id="a size with a prefix"),
    pytest.param(b"hello", id="no size"),
    pytest.param(b" 5", id="a space first"),
    pytest.param(b"\r", id="an empty size"),
    pytest.param(b"5;a=\x00", id="a control byte in an extension"),
    pytest.param(b"00000000000000005", id="too many digits"),
    pytest.param(b"5\r\nhelloX", id="a chunk that is longer than it said"),
    pytest.param(b"0\r\nno colon", id="a trailer without a colon"),
    pytest.param(b"0\r\n folded", id="a folded trailer"),
]


@pytest.mark.parametrize("chunk", HOPELESS_CHUNKS)
async def test_a_chunk_that_can_never_become_one_is_refused_at_once(
    hops: Hops, chunk: bytes
) -> None:
    await hops.start()
    client = await hops.client()
    began = trio.current_time()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    assert (await client.message()).status == 400
    assert not hops.origins[0].waiting()
    client, upstream = await hops.asked()
    await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    assert (await client.message()).status == 502
    assert trio.current_time() == began


REQUEST = (
    b"PUT http://a:80/x?y=z HTTP/1.1\r\nHost: a\r\nX:  \tvalue \xe9\t\r\nEmpty:\r\n"
    b"Content-Length: 0\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 200 Fine \xe9\r\nX:y\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"


async def test_a_head_that_comes_byte_by_byte_is_waited_for(hops: Hops) -> None:
    await hops.start()
    client = await hops.client()
    for at in range(len(REQUEST)):
        await client.send(REQUEST[at : at + 1])
        await hops.quiet()
    upstream = await hops.origins[0].accept()
    assert (await upstream.message()).start == b"PUT /x?y=z HTTP/1.1"
    for at in range(len(RESPONSE)):
        await upstream.send(RESPONSE[at : at + 1])
        await hops.quiet()
    assert (await client.message()).start == b"HTTP/1.1 200 Fine \xe9"
    assert (await hops.again(client, upstream)).status == 200


async def test_a_head_in_pieces_keeps_its_timeout(hops: Hops) -> None:
    """Waiting for what may still become a head has not changed."""
    await hops.start(client={"head_timeout": 5.0}, upstream={"response_timeout": 7.0})
    client = await hops.client()
    began = trio.current_time()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: y")
    assert (await client.message()).status == 408
    assert trio.current_time() - began == pytest.approx(5.0)
    client, upstream = await hops.asked()
    began = trio.current_time()
    await upstream.send(b"HTTP/1.1 200 OK\r\nX: y")
    assert (await client.message()).status == 504
    assert trio.current_time() - began == pytest.approx(7.0)


async def test_heads_that_come_whole_are_not_looked_at_so(
    hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hops.start()
    seen: list[bytes] = []
    check = UnfinishedHead.check

    def noted(head: UnfinishedHead, so_far: bytes) -> None:
        seen.append(so_far)
        check(head, so_far)

    monkeypatch.setattr(UnfinishedHead, "check", noted)
    client, upstream = await hops.pair()
    await hops.again(client, upstream)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    await hops.again(client, upstream, post)
    assert seen == []
    await say(client, GET, hops, by_bytes=True)
    await upstream.message()
    assert len(seen) == len(GET) - 1


async def test_a_good_answer_in_pieces_passes(hops: Hops) -> None:
    await hops.start()
    client, upstream = await hops.asked()
    await say(upstream, OK, hops, by_bytes=True)
    assert (await client.message()).body == b"ok"
