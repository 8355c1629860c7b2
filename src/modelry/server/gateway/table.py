"""Numbers in shared memory: one file per process, written by that process alone, read by all. Knows no meaning.

    ├ header: 64 words ┼ record ┼ record ┼ … ┼ free, all zero ┤
    record:  size in words │ kind │ bytes of the name │ name, padded │ counters …

A word is a signed 64-bit number at an address that 8 divides: processors read and write it whole, so no reader sees
half of a number. Between two words of a record a reader may see a request counted in one and not yet in the other;
the next look has it. A record is published by the header's `USED`, last, and never moves; the file only grows.

A file is locked by its writer: one whose lock is free was left behind by a process that has ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from modelry.core.durable import make_private
from modelry.server.gateway.layout import FORMAT

MAGIC = 0x6D6F6465_6C727931
WORD = 8
HEADER_WORDS = 64
#: Words of the header.
_MAGIC, _FORMAT, USED = 0, 1, 2
_HEAD_WORDS = 3
FIRST_BYTES = 64 << 10
#: The file of one process grows up to here; a record of a busy key takes some 200 bytes.
LARGEST_BYTES = 64 << 20
#: Files that are being made; whoever finds one without a lock may remove it.
_DRAFT = ".draft"

Name = tuple[str | int, ...]
_names = msgspec.msgpack.Decoder(list[str | int])


class Record(NamedTuple):
    """Where the counters of one name lie; they stay there."""

    kind: int
    name: Name
    #: The table's words, and the place and number of the counters in them.
    words: memoryview
    at: int
    size: int

    def values(self) -> list[int]:
        """The counters as they are now."""
        return self.words[self.at : self.at + self.size].tolist()


class Table:
    """The file of this process. Only one thread writes."""

    def __init__(self, descriptor: int, path: Path | None) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = 0
        self._grow(FIRST_BYTES)
        self.words[_FORMAT], self.words[USED] = FORMAT, HEADER_WORDS
        self.words[_MAGIC] = MAGIC

    @classmethod
    def create(cls, folder: Path, name: str) -> Table:
        """A new, locked file; raises `OSError` where the disk is full."""
        make_private(folder)
        draft = folder / f"{name}{_DRAFT}"
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            table = cls(descriptor, folder / name)
            draft.rename(folder / name)
        except BaseException:
            draft.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return table

    @classmethod
    def private(cls) -> Table:
        """One that nobody else reads: for tests, and where the disk has no room."""
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()), None)

    def claim(self, kind: int, name: Name, size: int) -> Record | None:
        """Room for `size` counters, all zero; None where the table is full. A name is claimed once."""
        text = msgspec.msgpack.encode(name)
        used = self.words[USED]
        at = used + _HEAD_WORDS + _words(len(text))
        end = at + size
        if end * WORD > self._size and not self._grow_to(end * WORD):
            return None
        words = self.words
        words[used], words[used + 1], words[used + 2] = end - used, kind, len(text)
        start = (used + _HEAD_WORDS) * WORD
        words.cast("B")[start : start + len(text)] = text
        words[USED] = end
        return Record(kind, name, words, at, size)

    def close(self) -> None:
        """Gives up the lock; whoever looks next takes over what is in the file."""
        # Closing alone would not do: the mappings hold the same open file.
        with contextlib.suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)

    def _grow_to(self, size: int) -> bool:
        if size > LARGEST_BYTES:
            return False
        try:
            self._grow(max(size, min(self._size * 2, LARGEST_BYTES)))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return True

    def _grow(self, size: int) -> None:
        """Maps more of the file. What was mapped before stays mapped: both show the same memory."""
        size = -size // mmap.PAGESIZE * -mmap.PAGESIZE
        # A page without a place on the disk would end the process at its first write.
        _allocate(self._descriptor, size)
        self._size = size
        self.words = memoryview(mmap.mmap(self._descriptor, size)).cast("q")


class View:
    """Another process's file, for reading.

    `fits` says of a record's kind, words of its name and counters whether there are such records.
    """

    def __init__(self, path: Path, fits: Callable[[int, int, int], bool] = lambda *_: True) -> None:
        """Raises `OSError` where there is no such file, `ValueError` where it is none of ours."""
        self.path = path
        self._fits = fits
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            self.words = self._map()
            if self.words[_MAGIC] != MAGIC or self.words[_FORMAT] != FORMAT:
                raise ValueError(f"{path} is no table of this version")
        except BaseException:
            os.close(self._descriptor)
            raise
        #: By kind and name.
        self.records: dict[tuple[int, Name], Record] = {}
        #: So far the records have been read.
        self.scanned = HEADER_WORDS

    def close(self) -> None:
        """Reads no more; records that were handed out stay readable."""
        os.close(self._descriptor)

    def scan(self) -> bool:
        """Finds the records that are new; True if there are any."""
        used = self.words[USED]
        if used <= self.scanned:
            return False
        if used > len(self.words):
            self.words = self._map()
        # Of a file that was cut off there is less than its header says.
        used = min(used, len(self.words))
        at = self.scanned
        while at + _HEAD_WORDS < used:
            record = self._record(at, used)
            if record is None:
                break
            self.records[record.kind, record.name] = record
            at = record.at + record.size
        is_new, self.scanned = at > self.scanned, at
        return is_new

    def is_alive(self) -> bool:
        """Whether the process that writes it lives."""
        return _is_locked(self._descriptor)

    def _record(self, at: int, used: int) -> Record | None:
        """The record there; None where it cannot be one yet, or none at all."""
        size, kind, length = self.words[at], self.words[at + 1], self.words[at + 2]
        first = at + _HEAD_WORDS + _words(length)
        if size <= 0 or length <= 0 or not first <= at + size <= used:
            return None
        start = (at + _HEAD_WORDS) * WORD
        try:
            name = _names.decode(self.words.cast("B")[start : start + length])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if not self._fits(kind, len(name), at + size - first):
            return None
        return Record(kind, tuple(name), self.words, first, at + size - first)

    def _map(self) -> memoryview:
        """What there is of the file, in whole words."""
        size = os.fstat(self._descriptor).st_size // WORD * WORD
        if size < HEADER_WORDS * WORD:
            raise ValueError(f"{self.path} is no table: it has no header")
        return memoryview(mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)).cast("q")


def process_name(label: str) -> str:
    """A name for the files of one life of a process; never used again."""
    return f"{label}-{secrets.token_hex(6)}"


def table_files(folder: Path) -> list[Path]:
    """The tables in a folder, those of ended processes too; drafts that nobody finished are removed."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if entry.name.endswith(_DRAFT):
                _remove_if_left(Path(entry.path))
            elif not entry.name.startswith(".") and "." not in entry.name:
                found.append(Path(entry.path))
    return sorted(found)


def is_left(path: Path) -> bool:
    """Whether no living process writes this file, whatever is in it; False where that cannot be known."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _is_locked(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _remove_if_left(draft: Path) -> None:
    """A draft older than any creation takes was left by a process that died while it made it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size:
                draft.unlink()
        finally:
            os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


def _words(length: int) -> int:
    return -(-length // WORD)
