"""The journal: every unit of use is in it once, through full disks, rotation and kill -9 at any byte."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelry.server.gateway import journal as journals_module
from modelry.server.gateway import layout
from modelry.server.gateway.counters import Counters
from modelry.server.gateway.journal import Journal, finish, journals, read_lines

NAME = "web0-test"


def name(number: int) -> tuple[str | int, ...]:
    return "default", f"k{number}", "dep_1", "digits", "mnist", 1


def use(counters: Counters, key: int, amount: int = 1) -> None:
    """As an answer counts."""
    record = counters.record(layout.USAGE, name(key))
    record.words[record.at + layout.REQUESTS] += amount
    record.words[record.at + layout.ROWS] += 3 * amount
    counters.touch(record)


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Key → requests and rows that all lines of all files add up to."""
    sums: dict[str, tuple[int, int]] = {}
    for paths in journals(folder).values():
        for path in paths:
            offset, before = 0, -1
            while offset != before:
                before = offset
                lines, offset = read_lines(path, offset)
                for line in lines:
                    for row in line.rows:
                        known = sums.get(row.key, (0, 0))
                        sums[row.key] = known[0] + row.requests, known[1] + row.rows
    return sums


def test_a_line_has_what_came_since_the_line_before(tmp_path: Path) -> None:
    counters, journal = Counters.private(), Journal(tmp_path, NAME)
    use(counters, 1, 5)
    journal.write(counters.take_touched(), 100.0)
    use(counters, 1, 2)
    use(counters, 2, 1)
    journal.write(counters.take_touched(), 101.0)
    journal.write(counters.take_touched(), 102.0)
    (path,) = journals(tmp_path)[NAME]
    lines, end = read_lines(path, 0)
    assert end == path.stat().st_size
    assert [(line.at, [(r.key, r.requests) for r in line.rows]) for line in lines[1:]] == [
        (100.0, [("k1", 5)]),
        (101.0, [("k1", 2), ("k2", 1)]),
    ]


def test_a_damaged_line_is_left_out_and_the_others_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counters, journal = Counters.private(), Journal(tmp_path, NAME)
    use(counters, 1, 5)
    journal.write(counters.take_touched(), 100.0)
    (path,) = journals(tmp_path)[NAME]
    with path.open("ab") as file:
        file.write(b'\xff\x00 no line\n\n{"at": "noon"}\n{"rows": [["default", 1]]}\n')
    journal._size = path.stat().st_size
    use(counters, 1, 2)
    journal.write(counters.take_touched(), 101.0)
    assert written(tmp_path) == {"k1": (7, 21)}
    assert path.name in caplog.text
    assert read_lines(path, 0)[1] == path.stat().st_size


def test_a_process_that_did_nothing_leaves_no_file(tmp_path: Path) -> None:
    Journal(tmp_path, NAME).write([], 1.0)
    assert journals(tmp_path) == {}


def test_a_half_written_line_is_none_yet(tmp_path: Path) -> None:
    counters, journal = Counters.private(), Journal(tmp_path, NAME)
    use(counters, 1)
    journal.write(counters.take_touched(), 1.0)
    (path,) = journals(tmp_path)[NAME]
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"at": 2')
    assert read_lines(path, 0)[1] == whole
    assert read_lines(path, whole) == ([], whole)


def test_a_full_disk_loses_nothing_the_next_try_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters, journal = Counters.private(), Journal(tmp_path, NAME)
    use(counters, 1)
    journal.write(counters.take_touched(), 1.0)
    write = os.pwrite

    def half(descriptor: int, data: bytes, at: int) -> int:
        if len(data) < 20:
            raise OSError(28, "no space")
        return write(descriptor, data[: len(data) // 2], at)

    use(counters, 1, 4)
    records = counters.take_touched()
    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="no space"):
        journal.write(records, 2.0)
    monkeypatch.undo()
    assert written(tmp_path) == {"k1": (1, 3)}
    journal.write(records, 3.0)
    assert written(tmp_path) == {"k1": (5, 15)}


def test_a_long_file_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals_module, "LONG_BYTES", 500)
    counters, journal = Counters.private(), Journal(tmp_path, NAME)
    journal._size = 500
    for number in range(30):
        use(counters, number % 3)
        journal.write(counters.take_touched(), float(number))
    assert len(journals(tmp_path)[NAME]) > 3
    assert written(tmp_path) == {f"k{key}": (10, 30) for key in range(3)}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(0, 400),
    st.integers(1, 3),
)
def test_a_killed_process_is_finished_to_the_last_request(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, bool]],
    cut: int,
    finishes: int,
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    counters = Counters.open(folder / "counters", NAME)
    journal = Journal(folder / "usage", NAME)
    long, journals_module.LONG_BYTES = journals_module.LONG_BYTES, 300
    journal._size = 300
    try:
        expected: dict[str, tuple[int, int]] = {}
        for key, is_written in steps:
            use(counters, key)
            known = expected.get(f"k{key}", (0, 0))
            expected[f"k{key}"] = known[0] + 1, known[1] + 3
            if is_written:
                journal.write(counters.take_touched(), 1.0)
        counters.close()
        for path in journals(folder / "usage").get(NAME, [])[-1:]:
            # The kill came while the last lines were written: any number of their bytes is missing.
            base = path.read_bytes().index(b"\n") + 1
            os.truncate(path, max(base, path.stat().st_size - cut))
        for _ in range(finishes):
            finish(folder / "usage", folder / "counters" / NAME)
        assert written(folder / "usage") == expected
    finally:
        journals_module.LONG_BYTES = long


def test_counts_that_were_lost_with_the_power_are_not_taken_back(tmp_path: Path) -> None:
    counters, journal = (
        Counters.open(tmp_path / "counters", NAME),
        Journal(tmp_path / "usage", NAME),
    )
    use(counters, 1, 9)
    journal.write(counters.take_touched(), 1.0)
    record = counters.record(layout.USAGE, name(1))
    record.words[record.at + layout.REQUESTS] = 4
    counters.close()
    finish(tmp_path / "usage", tmp_path / "counters" / NAME)
    assert written(tmp_path / "usage") == {"k1": (9, 27)}
