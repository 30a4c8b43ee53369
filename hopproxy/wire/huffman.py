"""The Huffman code of HPACK (RFC 7541 section 5.2, appendix B).  Decoding only: we send none.

The code is canonical: codes of one length are in the order of their symbols.  So the lengths are
enough.
"""

#: The symbols whose codes have this many bits.  EOS is the last code of 30 bits.
_SYMBOLS = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b'!"()?',
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: bytes([92, 195, 208]),
    20: bytes([128, 130, 131, 162, 184, 194, 224, 226]),
    21: bytes([153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230]),
    22: bytes([
        129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186,
        187, 189, 190, 196, 198, 228, 232, 233,
    ]),
    23: bytes([
        1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168,
        174, 175, 180, 182, 183, 188, 191, 197, 231, 239,
    ]),
    24: bytes([9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237]),
    25: bytes([199, 207, 234, 235]),
    26: bytes([192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255]),
    27: bytes([
        203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253,
        254,
    ]),
    28: bytes([
        2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30,
        31, 127, 220, 249,
    ]),
    30: bytes([10, 13, 22]),
}  # fmt: skip

#: Most bits of padding: less than a byte, and all ones (RFC 7541 section 5.2).
_MAX_PADDING = 7

_Row = list[tuple[int, bytes]]

#: The node after EOS or an unused code: no text leads out of it.
_DEAD = 0
_ROOT = 1


def _tree() -> list[list[int]]:
    """The code as a tree: the two followers of each node; a symbol is a negative number."""
    nodes = [[_DEAD, _DEAD], [_DEAD, _DEAD]]
    code = 0
    bits = 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - bits
        bits = length
        for symbol in symbols:
            node = _ROOT
            for shift in range(length - 1, 0, -1):
                turn = code >> shift & 1
                if nodes[node][turn] == _DEAD:
                    nodes[node][turn] = len(nodes)
                    nodes.append([_DEAD, _DEAD])
                node = nodes[node][turn]
            nodes[node][code & 1] = -1 - symbol
            code += 1
    return nodes


def _padded() -> frozenset[int]:
    """The nodes at which a text may end."""
    ends = [_ROOT]
    for _ in range(_MAX_PADDING):
        ends.append(_nodes[ends[-1]][1])
    return frozenset(ends)


_nodes = _tree()
_ends = _padded()
#: For each node, what each byte leads to; made when it is first needed.
_rows: list[_Row | None] = [None] * len(_nodes)


def _make_row(start: int) -> _Row:
    """Where each byte leads from this node: (the next node, the symbols that end in it)."""
    row: _Row = []
    for byte in range(256):
        node = start
        text = b""
        for shift in range(7, -1, -1):
            node = _nodes[node][byte >> shift & 1]
            if node < 0:
                text += bytes((-1 - node,))
                node = _ROOT
        row.append((node, text))
    _rows[start] = row
    return row


def decode_huffman(raw: bytes) -> bytes | None:
    """The text of a Huffman-coded string; None if it has EOS in it or wrong padding."""
    node = _ROOT
    out = []
    rows = _rows
    for byte in raw:
        node, text = (rows[node] or _make_row(node))[byte]
        out.append(text)
    return b"".join(out) if node in _ends else None
