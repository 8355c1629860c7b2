"""What a file is, judged by its first bytes and, for text, by its name.

A name that promises something else is refused.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from modelry.core.errors import InvalidData
from modelry.worker.data.sources import SourceFile

_HEAD_BYTES = 64 << 10
_TAR_MAGIC_AT = 257
_IDX_TYPES = (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)


class Kind(StrEnum):
    """Kinds of files an import knows."""

    ZIP = "zip archive"
    TAR = "tar archive"
    GZIP = "gzip file"
    NPY = "numpy array"
    IDX = "IDX file"
    IMAGE = "image"
    CSV = "CSV table"
    PARQUET = "Parquet table"
    JSON = "JSON rows"
    SERIES = "time-series file"
    AUDIO = "recording"
    #: Read-me files, licences and the like: not data.
    TEXT = "text"


#: What a name's ending promises.
_PROMISES = {
    ".npz": (Kind.ZIP,),
    ".zip": (Kind.ZIP,),
    ".npy": (Kind.NPY,),
    ".tar": (Kind.TAR,),
    ".tgz": (Kind.GZIP,),
    ".gz": (Kind.GZIP,),
    ".csv": (Kind.CSV,),
    ".tsv": (Kind.CSV,),
    ".parquet": (Kind.PARQUET,),
    ".wav": (Kind.AUDIO,),
    ".flac": (Kind.AUDIO,),
    ".ogg": (Kind.AUDIO,),
    ".mp3": (Kind.AUDIO,),
    ".png": (Kind.IMAGE,),
    ".jpg": (Kind.IMAGE,),
    ".jpeg": (Kind.IMAGE,),
    ".bmp": (Kind.IMAGE,),
    ".gif": (Kind.IMAGE,),
    ".webp": (Kind.IMAGE,),
}


def sniff(file: SourceFile) -> Kind:
    """The kind of a file; raises `InvalidData` for an unknown one or one that is not what its name says."""
    with file.place.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    ending = Path(file.base).suffix.lower()
    if not head:
        raise InvalidData(file=file.name, reason="it is empty")
    kind = _by_content(head, ending)
    promised = _PROMISES.get(ending)
    if kind is None or (promised is not None and kind not in promised):
        wanted = promised[0].value if promised else "kind of data file that is known here"
        raise InvalidData(file=file.name, reason=f"its content is no {wanted}")
    return kind


def _by_content(head: bytes, ending: str) -> Kind | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Kind.ZIP
    if head.startswith(b"\x1f\x8b"):
        return Kind.GZIP
    if head.startswith(b"PAR1"):
        return Kind.PARQUET
    if head.startswith(b"\x93NUMPY"):
        return Kind.NPY
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return Kind.TAR
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in _IDX_TYPES and 1 <= head[3] <= 8:
        return Kind.IDX
    if _is_image(head):
        return Kind.IMAGE
    if _is_audio(head):
        return Kind.AUDIO
    if _is_text(head):
        return _text_kind(head, ending)
    return None


def _text_kind(head: bytes, ending: str) -> Kind:
    if ending in (".csv", ".tsv"):
        return Kind.CSV
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if ending in (".json", ".jsonl", ".ndjson") and begin in (b"{", b"["):
        return Kind.JSON
    if ending == ".ts" and _is_series(head):
        return Kind.SERIES
    return Kind.TEXT


def _is_series(head: bytes) -> bool:
    """Whether the first line that is no remark is a setting; TypeScript ends in `.ts`, too."""
    for line in head.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.strip() and not line.startswith(b"#"):
            return line.startswith(b"@")
    return False


def _is_image(head: bytes) -> bool:
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")):
        return not (head.startswith(b"BM") and _is_text(head))
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _is_audio(head: bytes) -> bool:
    if head.startswith((b"fLaC", b"OggS", b"ID3")):
        return True
    if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
        return head[8:12] == b"WAVE"
    # A frame of MPEG audio, layer III: its rate of bits and of samples are such as there are.
    is_frame = len(head) > 3 and head[0] == 0xFF and head[1] in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)
    return is_frame and head[2] >> 4 != 0xF and (head[2] >> 2) & 3 != 3


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A letter cut in two by the end of what was read is no fault.
        return len(head) == _HEAD_BYTES and error.start > len(head) - 4
    return True
