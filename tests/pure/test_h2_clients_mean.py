"""What a client's own library meant is what the origin reads: `h2` writes, we read, h11 judges.

Requests of any shape that `h2` lets pass, in any pieces: the head that we would send upstream has
the same method, target, authority and fields, the body the same bytes.  Noise in its frames never
raises anything but the errors of the protocol.
"""

from __future__ import annotations

import h2.config
import h2.connection
import h11
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.errors import BadRequest, Denied
from hopproxy.link.h2_wire import new_wire
from hopproxy.settings.client import LinkSettings
from hopproxy.wire.h2 import CONTENT, FAILED, HEAD, H2Error
from hopproxy.wire.h2_request import Section

LIMITS = LinkSettings()

NAME = st.sampled_from(
    ["accept", "x-a", "x-b", "user-agent", "referer", "x-long-name-" + "n" * 40, "accept-language"]
)
VALUE = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30
) | st.sampled_from(["", "a b", "a\tb", "gzip, br", "v" * 3000])
FIELDS = st.lists(st.tuples(NAME, VALUE), max_size=12)
COOKIES = st.lists(st.sampled_from(["a=1", "b=2; c=3", "d=" + "e" * 30]), max_size=3)
PATH = st.from_regex(r"/[a-z0-9%/;=&?._-]{0,30}", fullmatch=True)
METHOD = st.sampled_from(["GET", "HEAD", "DELETE", "PATCH", "POST", "PUT", "REPORT"])
BODY = st.none() | st.binary(max_size=200)
REQUEST = st.tuples(METHOD, PATH, FIELDS, COOKIES, BODY, st.booleans())


def client() -> h2.connection.H2Connection:
    config = h2.config.H2Configuration(client_side=True, header_encoding=None)
    made = h2.connection.H2Connection(config=config)
    made.initiate_connection()
    return made


@given(st.lists(REQUEST, min_size=1, max_size=4), st.integers(min_value=1, max_value=400))
def test_what_the_origin_reads_is_what_the_client_meant(
    requests: list[tuple[str, str, list[tuple[str, str]], list[str], bytes | None, bool]],
    piece: int,
) -> None:
    library = client()
    meant = {}
    for number, (method, path, fields, cookies, body, sized) in enumerate(requests):
        identifier = 2 * number + 1
        fields_sent = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "a.test:8080"),
            (":path", path),
        ]
        fields_sent += fields + [("cookie", cookie) for cookie in cookies]
        if body is not None and sized:
            fields_sent.append(("content-length", str(len(body))))
        library.send_headers(identifier, fields_sent, end_stream=body is None)
        if body is not None:
            library.send_data(identifier, body, end_stream=True)
        meant[identifier] = (method, path, fields, cookies, body or b"")
    sent = library.data_to_send()
    wire = new_wire(LIMITS)
    heads: dict[int, tuple[Section, bool]] = {}
    bodies: dict[int, bytes] = {}
    for at in range(0, len(sent), piece):
        for what, stream, payload, ended in wire.receive(sent[at : at + piece], 0.0):
            if what == HEAD:
                assert stream is not None
                heads[stream.number] = payload, ended
            elif what == CONTENT:
                assert stream is not None
                bodies[stream.number] = bodies.get(stream.number, b"") + payload
    assert heads.keys() == meant.keys()
    for number, (method, path, fields, cookies, body) in meant.items():
        section, ended = heads[number]
        head = section.request(LIMITS, ended=ended)
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        judge.receive_data(head.raw + b"\r\n\r\n")
        read = judge.next_event()
        assert isinstance(read, h11.Request)
        assert (read.method, read.target) == (method.encode(), path.encode())
        found = [(bytes(name), bytes(value)) for name, value in read.headers]
        expected = [(b"host", b"a.test:8080")]
        expected += [(name.encode(), value.strip().encode()) for name, value in fields]
        if cookies:
            joined = (b"cookie", "; ".join(cookies).encode())
            assert found.count(joined) == 1
            found.remove(joined)
        lengths = [pair for pair in found if pair[0] == b"content-length"]
        assert lengths in ([], [(b"content-length", b"%d" % len(body))])
        assert [pair for pair in found if pair not in lengths] == expected
        assert bodies.get(number, b"") == body


@given(st.integers(min_value=0, max_value=300), st.integers(0, 255), st.binary(max_size=8))
def test_noise_in_frames_is_an_error_of_the_protocol_or_nothing(
    place: int, byte: int, more: bytes
) -> None:
    """And no request that is read has more lines than fields."""
    library = client()
    for number in range(3):
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/x")]
        library.send_headers(2 * number + 1, [*fields, ("x", "y" * number)], end_stream=True)
    sent = bytearray(library.data_to_send())
    place %= len(sent)
    sent[place : place + 1] = bytes([byte]) + more
    wire = new_wire(LIMITS)
    for what, _, payload, ended in wire.receive(bytes(sent), 0.0):
        if what == FAILED:
            assert isinstance(payload, H2Error)
        elif what == HEAD and isinstance(payload, Section):
            try:
                head = payload.request(LIMITS, ended=ended)
            except (BadRequest, Denied):
                continue
            assert b"\n" not in head.target
            assert head.raw.count(b"\r\n") == len(head.lines)
