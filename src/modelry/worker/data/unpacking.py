"""Archives opened safely: every member is counted and bounded as it is written, under a number instead of its name.

Refused with `InvalidData`: names that leave the folder, links, devices, encrypted members, archives in archives, more
files or bytes than the budget. What a header claims is never believed. `.npz` counts as an archive of `.npy` files.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from modelry.core.errors import InvalidData
from modelry.core.files import safe_path
from modelry.worker.data.kinds import Kind, sniff
from modelry.worker.data.sources import MAX_FILES, SourceFile, is_junk

#: Unpacked bytes of one import at most.
MAX_UNPACKED_BYTES = 256 << 30
#: Unpacked bytes for each packed one at most, once `FREE_BYTES` are exceeded: zeros pack a thousandfold, data does not.
MAX_RATIO = 100
FREE_BYTES = 256 << 20

_CHUNK_BYTES = 1 << 20
#: Longer headers are refused, because `tarfile` and `zipfile` read them whole into memory.
_MAX_TAR_HEADER = 4 << 20
_MAX_ZIP_DIRECTORY = 128 << 20
_ENCRYPTED = 0x1
_UTF8_NAME = 0x800
_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OverflowError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    IndexError,
    KeyError,
)


class Unpacker:
    """Turns archives among the source's files into the files they hold; one budget for all of them."""

    def __init__(
        self,
        folder: Path,
        packed_bytes: int,
        tick: Callable[[], None] = lambda: None,
        max_bytes: int = MAX_UNPACKED_BYTES,
        kind_of: Callable[[SourceFile], Kind] = sniff,
    ) -> None:
        self._folder = folder
        #: Which files are archives, and what the others are.
        self._kind_of = kind_of
        self._limit = min(max_bytes, max(FREE_BYTES, MAX_RATIO * packed_bytes))
        #: Called once per chunk; raises to end the work.
        self._tick = tick
        self._bytes = 0
        self._files = 0

    def expand(self, file: SourceFile) -> list[tuple[SourceFile, Kind]]:
        """The data files that a file holds or is, with their kinds."""
        plain, kind = self._plain(file)
        if kind is Kind.ZIP:
            members = self._unzip(plain)
        elif kind is Kind.TAR:
            members = self._untar(SourceFile(file.name, plain.place))
        else:
            return [(plain, kind)]
        self._discard(plain)
        if not members:
            raise InvalidData(file=file.name, reason="it holds no data")
        return [leaf for member in members for leaf in self._leaf(member)]

    def _leaf(self, member: SourceFile) -> Iterator[tuple[SourceFile, Kind]]:
        plain, kind = self._plain(member)
        if kind is Kind.ZIP and _is_npz(plain):
            for array in self._unzip(plain):
                if self._kind_of(array) is not Kind.NPY:
                    raise InvalidData(file=array.name, reason="it is no numpy array")
                yield array, Kind.NPY
            self._discard(plain)
        elif kind in (Kind.ZIP, Kind.TAR):
            raise InvalidData(file=member.name, reason="it is an archive within an archive")
        else:
            yield plain, kind

    def _plain(self, file: SourceFile) -> tuple[SourceFile, Kind]:
        """The file without gzip's packing, and its kind."""
        kind = self._kind_of(file)
        if kind is not Kind.GZIP:
            return file, kind
        with _telling_faults(file.name), gzip.open(file.place, "rb") as packed:
            place = self._write(packed, file.name)
        self._discard(file)
        plain = SourceFile(_without_gz(file.name), place)
        kind = self._kind_of(plain)
        if kind is Kind.GZIP:
            raise InvalidData(file=file.name, reason="it is an archive within an archive")
        return plain, kind

    def _discard(self, file: SourceFile) -> None:
        """Frees the disk from an archive that was itself unpacked here."""
        if file.place.is_relative_to(self._folder):
            file.place.unlink()

    def _unzip(self, file: SourceFile) -> list[SourceFile]:
        with (
            _telling_faults(file.name),
            file.place.open("rb") as raw,
            zipfile.ZipFile(BoundedReads(raw, file.name, _MAX_ZIP_DIRECTORY)) as archive,
        ):
            infos = [info for info in archive.infolist() if not info.is_dir()]
            self._count(len(infos), file.name)
            named = [(_member_name(file, _zip_name(info)), info) for info in infos]
            members = [(name, info) for name, info in named if name is not None]
            _check_unique([name for name, _ in members])
            for name, info in members:
                _check_zip_member(name, info)
            return [SourceFile(name, self._copy(archive, info, name)) for name, info in members]

    def _copy(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Path:
        with _telling_faults(name), archive.open(info) as member:
            return self._write(member, name)

    def _untar(self, file: SourceFile) -> list[SourceFile]:
        found: list[SourceFile] = []
        with (
            _telling_faults(file.name),
            file.place.open("rb") as raw,
            tarfile.open(
                fileobj=BoundedReads(raw, file.name, _MAX_TAR_HEADER), mode="r:"
            ) as archive,
        ):
            while (info := archive.next()) is not None:
                vars(archive)["members"] = []  # it would keep every header in memory
                self._count(1, file.name)
                member = self._copy_tar_member(file, archive, info)
                if member is not None:
                    found.append(member)
            raw.seek(archive.offset)
            if len(block := raw.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE or any(block):
                raise InvalidData(file=file.name, reason="it is truncated")
        _check_unique([member.name for member in found])
        return found

    def _copy_tar_member(
        self, file: SourceFile, archive: tarfile.TarFile, info: tarfile.TarInfo
    ) -> SourceFile | None:
        if info.isdir():
            return None
        name = _member_name(file, info.name.removeprefix("./"))
        if not info.isreg():
            shown = name or f"{file.name}/{info.name}"
            raise InvalidData(file=shown, reason="it is a link or a device, not a file")
        if name is None:
            return None
        with _telling_faults(name):
            content = archive.extractfile(info)
            if content is None:
                raise InvalidData(file=name, reason="it cannot be read")
            with content:
                return SourceFile(name, self._write(content, name))

    def _write(self, content: IO[bytes] | Any, name: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._folder / f"{self._files:08}-{self._bytes:x}"
        with place.open("xb") as out:
            while chunk := content.read(_CHUNK_BYTES):
                self._tick()
                self._bytes += len(chunk)
                if self._bytes > self._limit:
                    reason = (
                        f"it unpacks to more than {self._limit >> 20} MiB, which is out of proportion "
                        "to its size; it looks like an archive bomb"
                    )
                    raise InvalidData(file=name, reason=reason)
                out.write(chunk)
        self._files += 1
        return place

    def _count(self, files: int, name: str) -> None:
        if self._files + files > MAX_FILES:
            raise InvalidData(file=name, reason=f"it holds more than {MAX_FILES} files")


class BoundedReads(io.RawIOBase):
    """A file that refuses to hand out huge pieces at once."""

    def __init__(self, raw: IO[bytes], name: str, limit: int) -> None:
        self._raw = raw
        self._name = name
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(self._limit + 1 if size < 0 else min(size, self._limit + 1))
        if len(data) > self._limit:
            raise InvalidData(file=self._name, reason="a header in it is too long")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


@contextlib.contextmanager
def _telling_faults(name: str) -> Iterator[None]:
    try:
        yield
    except (*_FAULTS, OSError) as error:
        # A bad offset in an archive is EINVAL; the other errors with a number are the disk's own.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = str(error).strip().rstrip(".") or "it ends too early"
        raise InvalidData(file=name, reason=f"it is damaged or truncated ({reason})") from error


def _is_npz(file: SourceFile) -> bool:
    with _telling_faults(file.name), zipfile.ZipFile(file.place) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _without_gz(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _member_name(archive: SourceFile, inner: str) -> str | None:
    """The member's name below the archive's, or None for what operating systems leave behind."""
    try:
        safe = safe_path(inner)
    except InvalidData as error:
        reason = f"its member {inner!r} is refused: {error.facts['reason']}"
        raise InvalidData(file=archive.name, reason=reason) from None
    return None if is_junk(safe) else f"{archive.name}/{safe}"


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if info.flag_bits & _UTF8_NAME:
        return name
    try:
        return name.encode("cp437").decode(
            "utf-8"
        )  # written as UTF-8 by tools that forget the flag
    except UnicodeError:
        return name


def _check_zip_member(name: str, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise InvalidData(file=name, reason="it is a link or a device, not a file")
    if info.flag_bits & _ENCRYPTED:
        raise InvalidData(file=name, reason="it is encrypted")


def _check_unique(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidData(file=name, reason="the archive holds it twice")
        seen.add(name)
