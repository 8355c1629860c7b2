"""What this process counts, and what it sees of the others' counts.

Each process counts in a table of its own (`table.py`, `layout.py`) and reads the others'. What an ended process had
counted is added to the past (`past.py`) by the controller.
"""

from __future__ import annotations

import time
from pathlib import Path

from modelry.server.gateway import layout
from modelry.server.gateway.past import Past, open_view, read_past
from modelry.server.gateway.table import USED, Name, Record, Table, View, table_files
from modelry.server.gateway.totals import Counted, Totals, read_counted

__all__ = ["Counters", "Totals"]

#: How often the folder is looked at for processes that began, and at which of them have ended.
LOOK_S = 0.05
ALIVE_S = 1.0


class Counters:
    """One per process, used on one thread. `folder` None: nobody else looks at them."""

    def __init__(self, table: Table, folder: Path | None = None) -> None:
        self.table = table
        self.folder = folder
        #: The other processes' tables: of all that are not part of the past, and of those that live.
        self.others: tuple[View, ...] = ()
        self.living: tuple[View, ...] = ()
        #: Grows whenever something about the others appears or goes.
        self.generation = 0
        self.past = Past()
        self._records: dict[tuple[int, Name], Record] = {}
        self._touched: dict[Name, Record] = {}
        self._nameless = {kind: self._claim_nameless(kind) for kind in layout.SIZES}
        self._looked_at = self._asked_at = -1e9
        self._changed_ns = 0
        self.look(time.monotonic())

    @classmethod
    def open(cls, folder: Path, name: str) -> Counters:
        """Those of a process that serves; raises `OSError` where the disk is full."""
        return cls(Table.create(folder, name), folder)

    @classmethod
    def private(cls) -> Counters:
        """Those of a process that stands alone."""
        return cls(Table.private())

    def close(self) -> None:
        """The process ends; what it counted stays in its table."""
        self.table.close()
        for view in self.others:
            view.close()

    def record(self, kind: int, name: Name) -> Record:
        """This process's counters of a name. In a full table all new names share one record without a name."""
        found = self._records.get((kind, name))
        if found is None:
            found = self.table.claim(kind, name, layout.SIZES[kind])
            if found is None:
                return self._nameless[kind]
            self._records[kind, name] = found
        return found

    def touch(self, usage: Record) -> None:
        """Remembers that there is something for the journal."""
        self._touched[usage.name] = usage

    def take_touched(self) -> list[Record]:
        """The USAGE records that were touched since the last call."""
        touched, self._touched = self._touched, {}
        return list(touched.values())

    def look(self, now: float) -> None:
        """Follows the other processes; cheap enough for every request. `now` on the monotonic clock."""
        if self.folder is not None and now - self._looked_at >= LOOK_S:
            self._looked_at = now
            self._look_around(self.folder, now)
        for view in self.others:
            if view.words[USED] != view.scanned and view.scan():
                self.generation += 1

    def others_of(self, kind: int, name: Name, *, living: bool = False) -> list[Record]:
        """The others' counters of a name; `living`: only those of processes that live."""
        views = self.living if living else self.others
        found = (view.records.get((kind, name)) for view in views)
        return [record for record in found if record is not None]

    def count(self) -> Counted:
        """All that all processes have counted."""
        if self.folder is not None:
            return read_counted(self.folder)
        counted = Counted()
        counted.add(self._records.values(), is_alive=True)
        return counted

    def totals(self, deployment_id: str, version: int | None = None) -> Totals:
        """What all processes have counted for one version of a deployment, or for all its versions."""
        return self.count().totals(deployment_id, version)

    def _claim_nameless(self, kind: int) -> Record:
        record = self.table.claim(kind, (), layout.SIZES[kind])
        assert record is not None, "a new table has room"
        return record

    def _look_around(self, folder: Path, now: float) -> None:
        changed_ns = folder.stat().st_mtime_ns
        is_due = now - self._asked_at >= ALIVE_S
        # The file system's clock is coarse: two changes may show as one.
        if changed_ns != self._changed_ns or is_due:
            self._changed_ns = changed_ns
            self._follow(folder)
        if is_due:
            self._asked_at = now
            self._set_living()

    def _follow(self, folder: Path) -> None:
        """First the tables, then the past: one that was folded in between is then known to be."""
        paths = table_files(folder)
        self.past = read_past(folder)
        mine = self.table.path
        known = {view.path: view for view in self.others}
        kept: list[View] = []
        for path in paths:
            if path != mine and path.name not in self.past.folded:
                view = known.pop(path, None) or open_view(path)
                if view is not None:
                    kept.append(view)
        for view in known.values():
            view.close()
        if tuple(kept) != self.others:
            self.others = tuple(kept)
            self._set_living()
            self.generation += 1

    def _set_living(self) -> None:
        living = tuple(view for view in self.others if view.is_alive())
        if living != self.living:
            self.living = living
            self.generation += 1
