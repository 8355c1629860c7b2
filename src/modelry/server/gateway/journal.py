"""What was used, written down once a second: a file of lines for each life of a web process. Knows no database.

A line is `{"at": seconds since the epoch, "rows": [[project, key, deployment id, its name, model, version,
requests, errors, rows, bytes in, bytes out, compute µs], …]}` with what was added since the line before. A file that
grew long is followed by another; the first line of each, `{"base": …}`, has what all lines before it add up to. So one
file and the table of a process that was killed tell what was not written down any more, and `finish` adds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from modelry.core.durable import make_private, write_whole
from modelry.server.gateway import layout
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.past import open_view
from modelry.server.gateway.table import Name, Record

log = logging.getLogger(__name__)

#: Between two lines.
EVERY_S = 1.0
#: From this size on the next line begins a new file.
LONG_BYTES = 4 << 20
#: Bytes that are read at once; a longer line is read whole.
READ_BYTES = 1 << 20
_NAME_PARTS = 6
_SUFFIX = ".jsonl"

Amounts = list[int]


class Row(NamedTuple):
    """One key's use of one version, in the order of a line's rows."""

    project: str
    key: str
    deployment_id: str
    deployment: str
    model: str
    version: int
    requests: int
    errors: int
    rows: int
    bytes_in: int
    bytes_out: int
    compute_us: int


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line."""

    at: float = 0.0
    rows: list[Row] = msgspec.field(default_factory=list)
    base: list[Row] | None = None


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Line)


class Journal:
    """The files of this process: `<process>.<number>.jsonl`."""

    def __init__(self, folder: Path, process: str) -> None:
        make_private(folder)
        self._folder = folder
        self._process = process
        self._number = -1
        self._size = LONG_BYTES
        self._written: dict[Name, Amounts] = {}

    def write(self, records: Iterable[Record], at: float) -> None:
        """Appends what was added to these USAGE records; raises `OSError`, and then nothing was added.

        One call at a time. `at` since the epoch.
        """
        now = {record.name or _NAMELESS: record.values() for record in records}
        rows = [row for name, values in now.items() if (row := self._added(name, values))]
        if not rows:
            return
        if self._size >= LONG_BYTES:
            self._begin()
        # Written to its place, not appended: what a full disk cut off is written over by the next try.
        line = _encode(Line(at=at, rows=rows)) + b"\n"
        _write_at(self._path, line, self._size)
        self._size += len(line)
        self._written |= now

    async def keep(self, counters: Counters) -> None:
        """Writes once a second until it is cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                records = counters.take_touched()
                if not await asyncio.to_thread(self._try, records):
                    for record in records:
                        counters.touch(record)
        finally:
            self._try(counters.take_touched())

    @property
    def _path(self) -> Path:
        return self._folder / f"{self._process}.{self._number:06}{_SUFFIX}"

    def _try(self, records: Sequence[Record]) -> bool:
        try:
            self.write(records, time.time())
        except OSError as error:
            log.error("usage not written down yet; the next try has it too: %s", error)
            return False
        return True

    def _added(self, name: Name, values: Amounts) -> Row | None:
        before = self._written.get(name, _NOTHING)
        return _row(name, [value - old for value, old in zip(values, before, strict=True)])

    def _begin(self) -> None:
        base = [row for name, values in self._written.items() if (row := _row(name, values))]
        line = _encode(Line(base=base)) + b"\n"
        self._number += 1
        write_whole(self._path, line)
        self._size = len(line)


_NOTHING = [0] * layout.USAGE_SIZE
#: What did not fit into a full table, all together.
_NAMELESS: Name = ("", "", "", "", "", 0)


def journals(folder: Path) -> dict[str, list[Path]]:
    """Process → its files, in the order they were written."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if not path.name.startswith("."):
            found.setdefault(path.name.partition(".")[0], []).append(path)
    return found


def read_lines(path: Path, offset: int) -> tuple[list[Line], int]:
    """Whole lines from a place on, and the place behind them; what is read is on the disk from then on.

    A line that cannot be read (a bad disk, somebody's editor) is logged and left out: the others still count.
    """
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        file.seek(offset)
        data = file.read(READ_BYTES)
        while b"\n" not in data and (more := file.read(READ_BYTES)):
            data += more
    end = data.rfind(b"\n") + 1
    return list(_decoded(data[:end], path)), offset + end


def _decoded(data: bytes, path: Path) -> Iterator[Line]:
    for text in data.splitlines():
        try:
            yield _decoder.decode(text)
        except msgspec.DecodeError as error:
            log.warning("damaged line of usage is left out: %s: %s", path.name, error)


def finish(folder: Path, table: Path) -> None:
    """Writes down what a process that has ended counted after its last line; a second time adds nothing."""
    view = open_view(table)
    if view is None:
        return
    view.scan()
    process = table.name
    files = journals(folder).get(process, [])
    journal = Journal(folder, process)
    if files:
        journal._number = int(files[-1].name.split(".")[1])
        journal._written, journal._size = _added_up(files[-1])
        os.truncate(files[-1], journal._size)
    records = [record for record in view.records.values() if record.kind == layout.USAGE]
    journal.write(records, table.stat().st_mtime)
    view.close()


def _added_up(path: Path) -> tuple[dict[Name, Amounts], int]:
    """What the base and the lines of a file add up to, and where its last whole line ends."""
    sums: dict[Name, Amounts] = {}
    offset, before = 0, -1
    while offset != before:
        before = offset
        lines, offset = read_lines(path, before)
        for line in lines:
            for row in [*(line.base or ()), *line.rows]:
                name, added = tuple(row[:_NAME_PARTS]), row[_NAME_PARTS:]
                known = sums.get(name, _NOTHING)
                sums[name] = [old + value for old, value in zip(known, added, strict=True)]
    return sums, offset


def _row(name: Name, amounts: Amounts) -> Row | None:
    """The row; None where there is nothing in it. A counter that was lost with the power is not taken back."""
    amounts = [max(0, amount) for amount in amounts]
    if not any(amounts):
        return None
    return Row._make((*name, *amounts))


def _write_at(path: Path, data: bytes, at: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], at + done)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, at)
        raise
    finally:
        os.close(descriptor)
