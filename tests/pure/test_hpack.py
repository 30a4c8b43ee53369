"""HPACK (RFC 7541): the examples of its appendix C, what is refused, and `hpack` as a judge."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopproxy.wire import hpack as ours
from hopproxy.wire import hpack_encoder
from hopproxy.wire.hpack import (
    BOMB,
    Bomb,
    CompressionError,
    Decoder,
    FieldLine,
    FieldSectionTooLarge,
    Meanings,
    Table,
    decode,
)
from hopproxy.wire.hpack_encoder import encode_field, encode_integer, encode_lines
from hopproxy.wire.huffman import decode_huffman
from hopproxy.wire.static_table import STATIC_LINES

LIMIT = 65536
Pairs = list[tuple[bytes, bytes]]


def pairs(lines: list[FieldLine]) -> Pairs:
    return [(line.name, line.value) for line in lines]


def new_decoder(limit: int = LIMIT) -> Decoder[Pairs]:
    return Decoder(Meanings(pairs, limit))


REQUESTS: list[Pairs] = [
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
_DATE = b"Mon, 21 Oct 2013 20:13:21 GMT"
_HOME = b"https://www.example.com"
_COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
RESPONSES: list[Pairs] = [
    [(b":status", b"302"), (b"cache-control", b"private"), (b"date", _DATE), (b"location", _HOME)],
    [(b":status", b"307"), (b"cache-control", b"private"), (b"date", _DATE), (b"location", _HOME)],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", _HOME),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", _COOKIE),
    ],
]

#: Blocks of RFC 7541 appendix C, each sequence on one connection.
EXAMPLES = [
    pytest.param(
        ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"],
        [[(b"custom-key", b"custom-header")]],
        id="RFC 7541 C.2.1 literal with indexing",
    ),
    pytest.param(
        ["040c2f73616d706c652f70617468"],
        [[(b":path", b"/sample/path")]],
        id="RFC 7541 C.2.2 literal without indexing",
    ),
    pytest.param(
        ["100870617373776f726406736563726574"],
        [[(b"password", b"secret")]],
        id="RFC 7541 C.2.3 literal never indexed",
    ),
    pytest.param(["82"], [[(b":method", b"GET")]], id="RFC 7541 C.2.4 indexed"),
    pytest.param(
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
        id="RFC 7541 C.3 requests without Huffman code",
    ),
    pytest.param(
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
        id="RFC 7541 C.4 requests with Huffman code",
    ),
]


@pytest.mark.parametrize(("blocks", "expected"), EXAMPLES)
def test_the_examples_of_the_rfc_are_decoded(blocks: list[str], expected: list[Pairs]) -> None:
    decoder = new_decoder()
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == expected


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(
            [
                "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a3231"
                "20474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
                "4803333037c1c0bf",
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a697077"
                "38666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d616765"
                "3d333630303b2076657273696f6e3d31",
            ],
            id="RFC 7541 C.5 without Huffman code",
        ),
        pytest.param(
            [
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17"
                "1863c78f0b97c8e9ae82ae43d3",
                "4883640effc1c0bf",
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6"
                "c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
            ],
            id="RFC 7541 C.6 with Huffman code",
        ),
    ],
)
def test_the_examples_with_eviction_are_decoded(blocks: list[str]) -> None:
    """The table of 256 bytes is too small for all of their lines."""
    table: Table[Pairs] = Table(capacity=256)
    for block, expected in zip(blocks, RESPONSES, strict=True):
        lines, _, table = decode(table, bytes.fromhex(block), LIMIT)
        assert pairs(lines) == expected
    assert table.size == 215  # as the RFC says


@pytest.mark.parametrize(
    ("block", "why"),
    [
        pytest.param("80", "index 0 ", id="RFC 7541 6.1 index 0"),
        pytest.param("be", "index 62 ", id="RFC 7541 2.3.3 index beyond the static table"),
        pytest.param("ff00", "index 127 ", id="RFC 7541 2.3.3 index of two bytes"),
        pytest.param("7f0001", "index 63 ", id="RFC 7541 2.3.3 name beyond the tables"),
        pytest.param("3fe21f", "7541 6.3", id="RFC 7541 6.3 size above the limit"),
        pytest.param("8220", "7541 4.2", id="RFC 7541 4.2 size update after a field"),
        pytest.param("ffffffffff0f", "7541 5.1", id="RFC 7541 5.1 integer too long"),
        pytest.param("ff", "ends inside", id="RFC 7541 5.1 integer cut"),
        pytest.param("00", "ends inside", id="RFC 7541 6.2 name missing"),
        pytest.param("000161", "ends inside", id="RFC 7541 6.2 value missing"),
        pytest.param("0003616263046162", "longer than", id="RFC 7541 5.2 value cut"),
        pytest.param("0005616263", "longer than", id="RFC 7541 5.2 name cut"),
        pytest.param("0482ffff", "Huffman", id="RFC 7541 5.2 padding of more than 7 bits"),
        pytest.param("048118", "Huffman", id="RFC 7541 5.2 padding not all ones"),
        pytest.param("0484fffffffc", "Huffman", id="RFC 7541 5.2 EOS inside"),
        pytest.param("0485fffffffff8", "Huffman", id="RFC 7541 5.2 text after EOS"),
    ],
)
def test_a_malformed_block_ends_the_connection_and_says_which_rule(block: str, why: str) -> None:
    with pytest.raises(CompressionError, match=why):
        new_decoder().decode(bytes.fromhex(block))


def test_a_line_larger_than_the_table_empties_it() -> None:
    """RFC 7541 section 4.4."""
    encoder = hpack.Encoder()
    decoder = new_decoder()
    small = encoder.encode([(b"x-a", b"1")])
    decoder.decode(small)
    large = [(b"x-b", b"v" * 5000)]
    assert decoder.decode(encoder.encode(large)) == large
    with pytest.raises(CompressionError, match="index 62 "):
        decoder.decode(b"\xbe")


def test_a_size_update_evicts_and_two_may_begin_a_block() -> None:
    """RFC 7541 section 4.2: the smallest size and the final one are both sent."""
    table: Table[Pairs] = Table()
    block = encode_field(b"x", b"1")
    _, _, table = decode(table, b"\x40" + block[1:], LIMIT)
    assert pairs(list(table.lines)) == [(b"x", b"1")]
    lines, size, table = decode(table, b"\x20\x3f\xe1\x1f\x82", LIMIT)
    assert (pairs(lines), size) == ([(b":method", b"GET")], 42)
    assert (table.lines, table.size, table.capacity) == ((), 0, 4096)


def test_a_section_above_the_limit_is_decoded_but_refused() -> None:
    """The table stays right: the next request of the connection is read."""
    encoder = hpack.Encoder()
    decoder = new_decoder(limit=200)
    with pytest.raises(FieldSectionTooLarge):
        decoder.decode(encoder.encode([(b"x-large", b"v" * 300), (b"x-more", b"2")]))
    again = [(b"x-more", b"2")]
    block = encoder.encode(again)
    assert len(block) == 1
    assert decoder.decode(block) == again


def test_a_bomb_is_not_decoded_to_its_end() -> None:
    """CVE-2016-6581: a large line in the table, named again and again by a byte."""
    decoder = new_decoder(limit=4000)
    decoder.decode(b"\x40\x01x" + encode_integer(3900, 0x7F, 0) + b"v" * 3900)
    with pytest.raises(Bomb):
        decoder.decode(b"\xbe" * (BOMB + 1))


# -- what is remembered ------------------------------------------------------------------------


class Reader:
    """Counts how often a block is read."""

    def __init__(self) -> None:
        self.read = 0

    def __call__(self, lines: list[FieldLine]) -> Pairs:
        self.read += 1
        if any(line.value == b"bad" for line in lines):
            raise ValueError("refused")
        return pairs(lines)


def test_a_block_is_read_twice_and_then_remembered_for_every_connection() -> None:
    reader = Reader()
    meanings = Meanings(reader, LIMIT)
    expected = [(b":path", b"/x"), (b"x-a", b"1")]
    for count in (1, 2, 2, 2):
        encoder = hpack.Encoder()
        decoder = Decoder(meanings)
        assert decoder.decode(encoder.encode(expected)) == expected
        assert reader.read == count


def test_a_remembered_block_leaves_the_same_table_as_a_decoded_one() -> None:
    meanings = Meanings(Reader(), LIMIT)
    for _ in range(4):
        encoder = hpack.Encoder()
        decoder = Decoder(meanings)
        for value in (b"1", b"2", b"1", b"1", b"1"):
            expected = [(b"x-a", value)]
            assert decoder.decode(encoder.encode(expected)) == expected


def test_equal_blocks_mean_different_lines_with_different_tables() -> None:
    meanings = Meanings(Reader(), LIMIT)
    for host in (b"a.test", b"b.test") * 4:
        encoder = hpack.Encoder()
        decoder = Decoder(meanings)
        for _ in range(3):
            assert decoder.decode(encoder.encode([(b":authority", host)])) == [
                (b":authority", host)
            ]


def test_what_its_reader_refuses_is_not_remembered_and_the_connection_goes_on() -> None:
    reader = Reader()
    meanings = Meanings(reader, LIMIT)
    decoder = Decoder(meanings)
    for count in (1, 2, 3, 4):
        with pytest.raises(ValueError, match="refused"):
            decoder.decode(encode_field(b"x", b"bad"))
        assert reader.read == count
    assert decoder.decode(b"\x82") == [(b":method", b"GET")]


def test_a_line_of_the_table_keeps_what_its_reader_has_found_out() -> None:
    def read(lines: list[FieldLine]) -> int:
        known = sum(line.checked is not None for line in lines)
        for line in lines:
            line.checked = line.value
        return known

    decoder = Decoder(Meanings(read, LIMIT))
    encoder = hpack.Encoder()
    fields = [(b"x-a", b"1"), (b"x-b", b"2")]
    assert decoder.decode(encoder.encode(fields)) == 0
    assert decoder.decode(encoder.encode([*fields, (b"x-c", b"3")])) == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "MEMO_BLOCKS", 4)
    monkeypatch.setattr(ours, "MEMO_SEEN", 16)
    monkeypatch.setattr(ours, "MEMO_STRINGS", 2)
    monkeypatch.setattr(hpack_encoder, "MEMO_LINES", 2)
    monkeypatch.setattr(ours, "_strings", {})
    monkeypatch.setattr(hpack_encoder, "_coded", {})
    reader = Reader()
    meanings = Meanings(reader, LIMIT)
    for number in [*range(20), *range(20)]:
        for _ in range(3):
            expected = [(b"x", b"%d" % number)]
            assert Decoder(meanings).decode(hpack.Encoder().encode(expected)) == expected
            assert encode_lines([b"X: %d" % number]) == encode_field(b"x", b"%d" % number)
        assert meanings.count <= 4
        assert len(ours._strings) <= 2
        assert len(hpack_encoder._coded) <= 2
    assert reader.read < 120  # the third of each is remembered


def test_large_blocks_sections_strings_and_lines_are_not_remembered() -> None:
    reader = Reader()
    meanings = Meanings(reader, LIMIT)
    large = [(b"x", b"v" * 4200)]
    bomb = b"\x40\x01x" + encode_integer(900, 0x7F, 0) + b"v" * 900 + b"\xbe" * 5
    for _ in range(4):
        assert Decoder(meanings).decode(hpack.Encoder().encode(large, huffman=False)) == large
        assert Decoder(meanings).decode(hpack.Encoder().encode(large)) == large
        assert len(Decoder(meanings).decode(bomb)) == 6
    assert reader.read == 12
    assert meanings.count == 0
    assert all(len(raw) <= ours.MEMO_STRING_SIZE for raw in ours._strings)
    assert encode_lines([b"X: " + b"v" * 300]) not in hpack_encoder._coded.values()


# -- `hpack` as a judge ------------------------------------------------------------------------

NAMES = st.sampled_from([b"a", b"x-trace", b"cookie", b":path", b"user-agent", b"content-length"])
VALUES = st.one_of(
    st.sampled_from([b"", b"1", b"gzip, deflate", b"/index.html", b"v" * 127, b"v" * 900]),
    st.binary(max_size=40),
)
FIELDS = st.tuples(NAMES, VALUES, st.booleans())
STEPS = st.lists(
    st.tuples(
        st.none() | st.sampled_from([0, 64, 300, 4096]),
        st.lists(FIELDS, max_size=10),
        st.booleans(),
    ),
    max_size=12,
)

SHARED = Meanings(pairs, 1 << 20)


@given(STEPS)
def test_every_block_is_decoded_as_hpack_does(
    steps: list[tuple[int | None, list[tuple[bytes, bytes, bool]], bool]],
) -> None:
    encoder = hpack.Encoder()
    judge = hpack.Decoder(max_header_list_size=1 << 20)
    table: Table[Pairs] = Table()
    decoder = Decoder(SHARED)
    for size, fields, huffman in steps:
        if size is not None:
            encoder.header_table_size = size
        given_ = [
            hpack.NeverIndexedHeaderTuple(name, value) if never else (name, value)
            for name, value, never in fields
        ]
        block = encoder.encode(given_, huffman=huffman)
        expected = [(bytes(name), bytes(value)) for name, value in judge.decode(block, raw=True)]
        lines, _, table = decode(table, block, 1 << 20)
        assert pairs(lines) == expected
        assert decoder.decode(block) == expected
        kept = [(bytes(name), bytes(value)) for name, value in judge.header_table.dynamic_entries]
        assert pairs(list(table.lines)) == kept
        assert table.size == sum(line.size for line in table.lines) <= table.capacity


@given(st.binary(max_size=60))
def test_garbage_is_decoded_as_hpack_does_or_refused_by_both(block: bytes) -> None:
    judge = hpack.Decoder()
    judge.max_allowed_table_size = 4096
    try:
        expected = [(bytes(name), bytes(value)) for name, value in judge.decode(block, raw=True)]
    except hpack.HPACKError:
        with pytest.raises(CompressionError):
            new_decoder().decode(block)
    else:
        assert new_decoder().decode(block) == expected


@given(st.binary(max_size=300))
def test_the_huffman_code_is_that_of_hpack(text: bytes) -> None:
    from hpack.huffman import HuffmanEncoder
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

    coder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    assert decode_huffman(coder.encode(text)) == text


def test_every_symbol_has_its_code() -> None:
    every = bytes(range(256))
    test_the_huffman_code_is_that_of_hpack.hypothesis.inner_test(every)  # type: ignore[attr-defined]
    assert tuple(STATIC_LINES) == tuple(hpack.table.HeaderTable.STATIC_TABLE)


@given(st.lists(st.tuples(NAMES | st.sampled_from([b"Set-Cookie", b"ETag", b"X-Long"]), VALUES)))
def test_what_is_encoded_hpack_reads(fields: Pairs) -> None:
    block = encode_lines([name + b": " + value for name, value in fields])
    read = hpack.Decoder(max_header_list_size=1 << 20).decode(block, raw=True)
    assert [(bytes(name), bytes(value)) for name, value in read] == [
        (name.lower(), value) for name, value in fields
    ]


def test_fields_with_secrets_are_never_indexed() -> None:
    """RFC 7541 section 7.1.3."""
    for name in (b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"):
        (field,) = hpack.Decoder().decode(encode_field(name, b"secret"), raw=True)
        assert isinstance(field, hpack.NeverIndexedHeaderTuple)
    assert encode_field(b":status", b"200") == b"\x88"


@pytest.mark.parametrize(
    ("value", "prefix", "coded"),
    [
        pytest.param(10, 0x1F, "0a", id="RFC 7541 C.1.1"),
        pytest.param(1337, 0x1F, "1f9a0a", id="RFC 7541 C.1.2"),
        pytest.param(42, 0xFF, "2a", id="RFC 7541 C.1.3"),
        pytest.param(127, 0x7F, "7f00", id="the largest prefix"),
    ],
)
def test_integers_are_encoded_as_in_the_rfc(value: int, prefix: int, coded: str) -> None:
    assert encode_integer(value, prefix, 0).hex() == coded


def test_a_line_shows_itself() -> None:
    assert repr(FieldLine(b"a", b"b")) == "<FieldLine b'a' b'b'>"


# -- any path --------------------------------------------------------------------------------


def elsewhere(found: Pairs, place: int, path: bytes) -> Pairs:
    return [*found[:place], (b":path", path), *found[place + 1 :]]


def request_to(path: bytes, *more: bytes) -> bytes:
    """GET, its :path literal and in no table, then `more` parts of the block."""
    return b"\x82\x86" + encode_field(b":path", path) + b"".join(more)


def test_blocks_that_differ_only_in_their_path_are_read_twice() -> None:
    reader = Reader()
    decoder = Decoder(Meanings(reader, LIMIT, elsewhere))
    table_line = b"\x40\x01a\x01b"  # goes into the table
    decoder.decode(request_to(b"/first", table_line))
    assert reader.read == 1
    table = decoder.table
    for count in range(1, 9):
        decoder.table = table
        path = b"/%d" % count
        found = decoder.decode(request_to(path, b"\xbe", table_line))
        assert found == [
            (b":method", b"GET"), (b":scheme", b"http"), (b":path", path), *[(b"a", b"b")] * 2,
        ]  # fmt: skip
        assert pairs(list(decoder.table.lines)) == [(b"a", b"b"), (b"a", b"b")]
        assert reader.read == 1 + min(count, 2)


def test_a_path_that_comes_again_is_remembered_with_its_block() -> None:
    decoder = Decoder(Meanings(pairs, LIMIT, elsewhere))
    first = [decoder.decode(request_to(b"/%d" % count)) for count in range(4)]
    again = [decoder.decode(request_to(b"/%d" % count)) for count in range(4)]
    assert first == again
    assert decoder.table.known is not None
    assert decoder.decode(request_to(b"/3")) is decoder.table.known[request_to(b"/3")][0]


def test_with_another_path_a_section_may_be_too_large() -> None:
    decoder = Decoder(Meanings(pairs, 200, elsewhere))
    for count in range(4):
        decoder.decode(request_to(b"/%d" % count))
    with pytest.raises(FieldSectionTooLarge):
        decoder.decode(request_to(b"/" + b"x" * 100))
    assert decoder.decode(request_to(b"/y"))[2] == (b":path", b"/y")


@pytest.mark.parametrize("cut", [b"\x04", b"\x04\x7f", b"\x04\x05/a", b"\x04\x81\x00"])
def test_a_malformed_path_is_refused_as_in_any_block(cut: bytes) -> None:
    decoder = Decoder(Meanings(pairs, LIMIT, elsewhere))
    for _ in range(3):
        with pytest.raises(CompressionError):
            decoder.decode(b"\x82" + cut)


_PATHS = st.sampled_from([b"/", b"/a", b"/b?c=d", b"/index.html", b"", b"*", b"/" + b"x" * 300])
_LINES = st.sampled_from(
    [(b":method", b"GET"), (b":path", b"/"), (b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2")]
)


@given(st.lists(st.tuples(_PATHS, st.lists(_LINES, max_size=3), st.integers(0, 2)), max_size=30))
def test_any_path_is_decoded_as_by_hpack(requests: list[tuple[bytes, Pairs, int]]) -> None:
    meanings = Meanings(pairs, LIMIT, elsewhere)
    decoder, judge = Decoder(meanings), hpack.Decoder()
    for path, more, kind in requests:
        rest = b"".join(
            (b"\x40" if kind else b"\x00")
            + b"".join(encode_integer(len(text), 0x7F, 0) + text for text in line)
            for line in more
        )
        again = b"\xbe" if decoder.table.lines else b""
        block = (
            b"\x82" + (b"" if kind == 2 else again) + encode_field(b":path", path) + again + rest
        )
        expected = [(name, value) for name, value in judge.decode(block, raw=True)]
        assert decoder.decode(block) == expected
