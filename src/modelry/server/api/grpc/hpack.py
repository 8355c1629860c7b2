"""Header blocks of HTTP/2 (RFC 7541): any peer's are read; ours are written without a memory. Pure.

1xxxxxxx  a field of the tables          001xxxxx  the dynamic table shrinks or grows
01xxxxxx  a field to be remembered       000nxxxx  a field, not remembered
"""

from __future__ import annotations

from functools import lru_cache

#: Bytes of the dynamic table at most, as RFC 7540 has it where nobody says anything else.
TABLE_BYTES = 4096
#: What an entry counts beside its name and value.
_OVERHEAD = 32
_STATIC: tuple[tuple[str, str], ...] = (
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
)  # fmt: skip
#: Indexed from 1.
_KNOWN = (("", ""), *_STATIC)
_FIRST_DYNAMIC = len(_KNOWN)
#: Huffman code: bits → the bytes that have so many. The code is canonical, so nothing else needs to be written down.
_LENGTHS: dict[int, bytes] = {
    5: b"012aceiost",
    6: b" %-./3456789=A_bdfghlmnpru",
    7: b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: b"&*,;XZ",
    10: b"!\"()?",
    11: b"'+|",
    12: b"#>",
    13: b"\x00$@[]~",
    14: b"^}",
    15: b"<`{",
    19: b"\\\xc3\xd0",
    20: b"\x80\x82\x83\xa2\xb8\xc2\xe0\xe2",
    21: b"\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6",
    22: b"\x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6"
        b"\xe4\xe8\xe9",
    23: b"\x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6"
        b"\xb7\xbc\xbf\xc5\xe7\xef",
    24: b"\t\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed",
    25: b"\xc7\xcf\xea\xeb",
    26: b"\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff",
    27: b"\xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe",
    28: b"\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c"
        b"\x1d\x1e\x1f\x7f\xdc\xf9",
    30: b"\n\r\x16",
}  # fmt: skip


class HpackError(Exception):
    """The block cannot be read; the connection's memory is of no more use."""


class Decoder:
    """One connection's memory of fields; every block must go through it, in order."""

    def __init__(self, limit_bytes: int) -> None:
        #: A block's fields may count so much, each as its name, value and 32.
        self._limit = limit_bytes
        self._entries: list[tuple[str, str]] = []
        self._size = 0
        self._capacity = TABLE_BYTES

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """The fields in their order; raises `HpackError`."""
        fields: list[tuple[str, str]] = []
        at, end, left = 0, len(block), self._limit
        try:
            while at < end:
                first = block[at]
                if first & 0x80:
                    index, at = (first & 0x7F, at + 1) if first != 0xFF else _integer(block, at, 7)
                    field = self._entry(index)
                elif first & 0x40:
                    field, at = self._literal(block, at, 6)
                    self._remember(field)
                elif first & 0x20:
                    size, at = _integer(block, at, 5)
                    if fields or size > TABLE_BYTES:
                        raise HpackError("a table size that is not allowed")
                    self._capacity = size
                    self._shrink()
                    continue
                else:
                    field, at = self._literal(block, at, 4)
                fields.append(field)
                left -= len(field[0]) + len(field[1]) + _OVERHEAD
                if left < 0:
                    raise HpackError("too many fields")
        except IndexError:
            raise HpackError("the block is cut off") from None
        return fields

    def _entry(self, index: int) -> tuple[str, str]:
        if 0 < index < _FIRST_DYNAMIC:
            return _KNOWN[index]
        place = index - _FIRST_DYNAMIC
        if not 0 <= place < len(self._entries):
            raise HpackError(f"no field {index}")
        return self._entries[place]

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[tuple[str, str], int]:
        index, at = _integer(block, at, bits)
        if index:
            name = self._entry(index)[0]
        else:
            name, at = _string(block, at, self._limit)
        value, at = _string(block, at, self._limit)
        return (name, value), at

    def _remember(self, field: tuple[str, str]) -> None:
        self._entries.insert(0, field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._capacity:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


@lru_cache(maxsize=256)
def name_of(name: str) -> bytes:
    """The beginning of a field that nobody needs to remember; its value comes behind, by `value_of`."""
    text = name.encode("latin-1")
    return b"\x00" + _prefixed(text)


def value_of(value: str) -> bytes:
    """The end of a field; the value has Latin letters only."""
    return _prefixed(value.encode("latin-1"))


def _prefixed(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    rest = size - 0x7F
    head = [0x7F]
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + text


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """A number that begins in the last bits of a byte, and where it ends."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    shift = 0
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 28:
            raise HpackError("a number without end")


def _string(block: bytes, at: int, limit: int) -> tuple[str, int]:
    is_huffman = block[at] & 0x80
    size, at = _integer(block, at, 7)
    end = at + size
    if size > limit or end > len(block):
        raise HpackError("a text that is too long, or cut off")
    data = block[at:end]
    return (_unpack(data) if is_huffman else data).decode("latin-1"), end


def _codes() -> dict[tuple[int, int], int]:
    """(bits, code) → byte."""
    codes: dict[tuple[int, int], int] = {}
    code = length = 0
    for bits, letters in _LENGTHS.items():
        code <<= bits - length
        length = bits
        for letter in letters:
            codes[bits, code] = letter
            code += 1
    return codes


_CODES = _codes()
_SHORTEST, _LONGEST = 5, 30


def _unpack(data: bytes) -> bytes:
    """Huffman-coded text; raises `HpackError` unless it ends with fewer than eight bits, all 1."""
    found = bytearray()
    code = bits = 0
    for byte in data:
        for place in range(7, -1, -1):
            code = code << 1 | byte >> place & 1
            bits += 1
            if bits < _SHORTEST:
                continue
            letter = _CODES.get((bits, code))
            if letter is not None:
                found.append(letter)
                code = bits = 0
            elif bits >= _LONGEST:
                raise HpackError("no such letter")
    if bits > 7 or code != (1 << bits) - 1:
        raise HpackError("a text that does not end")
    return bytes(found)
