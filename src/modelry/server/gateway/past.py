"""What ended processes have counted, in one file; and how a table that one of them left behind becomes part of it.

Readers list the tables first and read the past then: a table that the past names is in it already. So each count is
seen once at any moment, and a controller that dies between the two steps has harmed nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from modelry.core.durable import write_whole
from modelry.server.gateway import layout
from modelry.server.gateway.limits import month_of
from modelry.server.gateway.table import Name, Record, View, table_files

#: The dot keeps it apart from the tables.
_FILE = "past.msgpack"
#: Versions that are remembered after their processes; the longest unused are forgotten first.
LARGEST = 16384


class Past(msgspec.Struct, kw_only=True):
    """Sums over ended processes."""

    format: int = layout.FORMAT
    #: Tables that are in these sums and perhaps not removed yet.
    folded: set[str] = msgspec.field(default_factory=set)
    #: (name, counters) of VERSION.
    versions: list[tuple[list[str | int], list[int]]] = msgspec.field(default_factory=list)
    #: Key → month, requests and rows admitted in it.
    months: dict[str, tuple[int, int, int]] = msgspec.field(default_factory=dict)

    def month(self, key_id: str, month: int) -> tuple[int, int]:
        """Requests and rows of a key in a month."""
        found = self.months.get(key_id)
        return (found[1], found[2]) if found is not None and found[0] == month else (0, 0)

    def add_month(self, key_id: str, month: int, requests: int, rows: int) -> None:
        """More of a key; what is older than the month that is known counts no more."""
        known = self.months.get(key_id, (month, 0, 0))
        if month > known[0]:
            known = (month, 0, 0)
        if month == known[0]:
            self.months[key_id] = (month, known[1] + requests, known[2] + rows)


_decoder = msgspec.msgpack.Decoder(Past)


def read_past(folder: Path) -> Past:
    """The file's content; empty where there is none, one of another version, or one that cannot be read."""
    try:
        past = _decoder.decode((folder / _FILE).read_bytes())
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return Past()
    is_ours = past.format == layout.FORMAT and all(
        layout.fits(layout.VERSION, len(name), len(values)) for name, values in past.versions
    )
    return past if is_ours else Past()


def write_past(folder: Path, past: Past) -> None:
    """Replaces the file; the leading controller alone does this."""
    write_whole(folder / _FILE, msgspec.msgpack.encode(past))


def open_view(path: Path) -> View | None:
    """A table for reading; None where it is gone, or none of ours."""
    try:
        return View(path, layout.fits)
    except (OSError, ValueError):
        return None


def fold(folder: Path, names: Iterable[str]) -> None:
    """Adds these tables of ended processes to the past, then removes them."""
    past = read_past(folder)
    left = {path.name for path in table_files(folder)}
    new = [name for name in names if name in left and name not in past.folded]
    for name in new:
        view = open_view(folder / name)
        if view is not None:
            view.scan()
            _add(past, view.records.values())
            view.close()
    past.folded = {name for name in past.folded if name in left} | set(new)
    if new:
        _forget(past)
        write_past(folder, past)
    for name in past.folded:
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()


def _add(past: Past, records: Iterable[Record]) -> None:
    sums: dict[Name, list[int]] = {tuple(name): values for name, values in past.versions}
    for record in records:
        values = record.values()
        if record.kind == layout.VERSION:
            add_version(sums.setdefault(record.name, [0] * layout.VERSION_SIZE), values)
        elif record.kind == layout.KEY and record.name and values[layout.MONTH]:
            month, requests, rows = values[layout.MONTH :]
            past.add_month(str(record.name[0]), month, requests, rows)
    past.versions = [(list(name), values) for name, values in sums.items()]


def _forget(past: Past) -> None:
    """Keeps the file small: months that are over, and versions nobody asked for a long time."""
    month = month_of(time.time())
    past.months = {key: found for key, found in past.months.items() if found[0] >= month}
    if len(past.versions) > LARGEST:
        past.versions.sort(key=lambda one: one[1][layout.V_LAST_AT_US])
        del past.versions[:-LARGEST]


def add_version(sums: list[int], values: list[int]) -> None:
    """Adds one VERSION record's counters to others; the moment of the last request is the later one."""
    last = max(sums[layout.V_LAST_AT_US], values[layout.V_LAST_AT_US])
    for place, value in enumerate(values):
        sums[place] += value
    sums[layout.V_LAST_AT_US] = last
