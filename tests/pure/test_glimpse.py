"""What can be told of a head that is refused."""

import pytest

from hopproxy.wire.glimpse import glimpse


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", (b"GET", b"/x", b"a")),
        (b"\r\n\r\nGET /x HTTP/1.1\r\nX: y\r\nhost :\t a b \r\n", (b"GET", b"/x", b"a b")),
        (b"POST /x HTTP/1.1\nHOST:a\n\n", (b"POST", b"/x", b"a")),
        (b"GET /" + b"x" * 9000, (b"GET", b"/" + b"x" * 9000, b"")),
        (b"GET /\r\n", (b"GET", b"/", b"")),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", (b"CONNECT", b"a:443", b"a:443")),
        (b"GET / HTTP/1.1\r\nX-Host: a\r\n", (b"GET", b"/", b"")),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * 999, (b"GET", b"/", b"a" * 255)),
        (b"GET", (b"", b"", b"")),
        (b"\x16\x03\x01\x02\x00\x01", (b"", b"", b"")),
        (b"", (b"", b"", b"")),
    ],
)
def test_a_glimpse(raw: bytes, seen: tuple[bytes, bytes, bytes]) -> None:
    assert glimpse(raw) == seen
