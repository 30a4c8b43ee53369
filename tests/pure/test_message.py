"""Fields and heads: what a line is, and which lines a gateway has to look at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.message import Kind, field, kind_of, list_of, name_of
from tests.pure.search import answer, get, search


@pytest.mark.parametrize(
    ("line", "name", "value", "normal"),
    [
        (b"Host: a", b"host", b"a", b"Host: a"),
        (b"Host:a", b"host", b"a", b"Host: a"),
        (b"HOST: \t a b\t ", b"host", b"a b", b"HOST: a b"),
        (b"X:", b"x", b"", b"X: "),
        (b"!#$%&'*+-.^_`|~09: v", b"!#$%&'*+-.^_`|~09", b"v", b"!#$%&'*+-.^_`|~09: v"),
        (b"X: a:b", b"x", b"a:b", b"X: a:b"),
        (b"X: \x80\xff", b"x", b"\x80\xff", b"X: \x80\xff"),
    ],
)
def test_a_line_is_a_name_and_a_value(
    line: bytes, name: bytes, value: bytes, normal: bytes
) -> None:
    found = field(line)
    assert found is not None
    assert (found.name, found.value, found.line) == (name, value, normal)
    assert name_of(found.line) == name
    assert repr(found) == f"<Field {normal!r}>"


@pytest.mark.parametrize(
    "line",
    [b"", b"X", b": x", b" X: 1", b"X : 1", b"X\t: 1", b"(X): 1", b"X\x85: 1", b"X: \n", b"X: \r",
     b"X: \0", b"X: \x1f", b"X: \x7f", b"X: 1\r\nY: 2", b"X\n: 1", b"X: 1\n", b'"X": 1'],
)  # fmt: skip
def test_what_is_no_line_is_none(line: bytes) -> None:
    assert field(line) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"accept", Kind.ORDINARY),
        (b"host", Kind.HOST),
        (b"content-length", Kind.LENGTH),
        (b"transfer-encoding", Kind.CODING),
        (b"connection", Kind.CONNECTION),
        (b"keep-alive", Kind.HOP),
        (b"x-forwarded-for", Kind.FORWARDING),
        (b"via", Kind.VIA),
        (b"www-authenticate", Kind.ORDINARY),
        (b"authorization", Kind.CREDENTIALS),
        (b"x_forwarded_for", Kind.SHADOW),
        (b"x-forwarded_for", Kind.SHADOW),
        (b"content_length", Kind.SHADOW),
        (b"keep_alive", Kind.SHADOW),
        (b"cache_control", Kind.SHADOW),
        (b"x_custom", Kind.UNDERSCORE),
        (b"_", Kind.UNDERSCORE),
    ],
)
def test_a_name_has_a_kind(name: bytes, kind: Kind) -> None:
    assert kind_of(name) is kind


@given(st.binary(max_size=8).map(bytes.lower), st.binary(max_size=12))
@search
def test_a_normal_line_is_read_as_itself(name: bytes, value: bytes) -> None:
    found = field(name + b":" + value)
    if found is None:
        return
    again = field(found.line)
    assert again is not None
    assert (again.line, again.name, again.value) == (found.line, found.name, found.value)
    assert not set(found.line) & set(b"\r\n\0")


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b" a ,\tb\t,, ,c d", [b"a", b"b", b"c d"]),
        (b",,", []),
    ],
)
def test_a_list_has_members_and_no_empty_ones(value: bytes, members: list[bytes]) -> None:
    """RFC 9110 section 5.6.1.2."""
    assert list(list_of(value)) == members


def test_a_head_finds_its_fields() -> None:
    head = get(b"A: 1", b"Via: 1.1 x", b"a:2 ", b"via: 1.1 y", b"AB: 3")
    assert head.values(b"a") == [b"1", b"2"]
    assert head.values(b"via") == [b"1.1 x", b"1.1 y"]
    assert head.values(b"b") == []
    assert head.special_value(b"via") == b"1.1 x, 1.1 y"
    assert head.special_value(b"expect") is None


def test_heads_show_what_they_are() -> None:
    assert repr(get(start=b"POST /x HTTP/1.1")) == "<RequestHead b'POST' b'/x' NONE>"
    assert repr(answer(b"Content-Length: 5")) == "<ResponseHead 200 SIZED>"


def test_what_tells_of_a_client_s_certificate_is_of_the_hop() -> None:
    assert kind_of(b"x-client-cert-subject") is Kind.HOP
