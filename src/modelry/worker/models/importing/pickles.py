"""Tells pickles under any name. Nothing here loads one: loading a pickle runs what its author wrote."""

from __future__ import annotations

import io
import pickletools
import warnings

#: Opcodes that fetch or call something: data alone never needs them.
_CALLS = frozenset(
    {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "BUILD"}
    | {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4"}
)
#: A file without a magic number is read as opcodes up to this size; larger ones are text or raw numbers.
_LOOK_BYTES = 1 << 20
_PROTOCOLS = tuple(bytes((0x80, protocol)) for protocol in range(2, 8))
#: Compressed files, as joblib and friends write them around a pickle.
_COMPRESSED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"ZF0x": "joblib",
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"\x5d\x00\x00": "lzma",
}


def is_pickle(head: bytes) -> bool:
    """Whether the bytes a file begins with are a pickle, of whatever protocol."""
    return head.startswith(_PROTOCOLS) or _is_old_pickle(head.rstrip())


def compression_of(head: bytes) -> str | None:
    """The name of a packing that is not looked into here."""
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            return name
    return None


def _is_old_pickle(data: bytes) -> bool:
    """Protocols 0 and 1 have no magic number: the opcodes are read to the end, and none is carried out.

    One must fetch or call something, and the last must stand at the end: a list of words is no pickle.
    """
    if not data.endswith(b".") or len(data) >= _LOOK_BYTES:
        return False
    has_call = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for opcode, _, position in pickletools.genops(io.BytesIO(data)):
                has_call |= opcode.name in _CALLS
                last = position
    except Exception:  # Whatever text makes the reader of opcodes say: it is no pickle.
        return False
    return has_call and last == len(data) - 1
