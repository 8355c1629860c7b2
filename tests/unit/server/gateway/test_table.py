"""Shared tables: nobody reads half a number or half a record, and a process that ended is known by its lock."""

from __future__ import annotations

import errno
import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.server.gateway import table as tables
from modelry.server.gateway.table import Table, View, process_name, table_files

LOW, HIGH = 0x00000000_FFFFFFFF, 0x7FFFFFFF_00000000


def test_a_reader_sees_what_the_writer_claims_and_counts(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t", "web0-1")
    view = View(tmp_path / "t" / "web0-1")
    assert not view.scan()
    record = table.claim(7, ("project", "字", 3), 4)
    assert record is not None
    assert view.scan()
    (seen,) = view.records.values()
    assert (seen.kind, seen.name, seen.values()) == (7, ("project", "字", 3), [0, 0, 0, 0])
    record.words[record.at + 2] += 41
    assert seen.values() == [0, 0, 41, 0]
    assert not view.scan()


def test_a_table_grows_without_moving_what_is_in_it(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t", "web0-1")
    view = View(tmp_path / "t" / "web0-1")
    records = [table.claim(1, ("name", number), 20) for number in range(2000)]
    for number, record in enumerate(records):
        assert record is not None
        record.words[record.at] = number
    assert (tmp_path / "t" / "web0-1").stat().st_size > tables.FIRST_BYTES
    assert view.scan()
    assert [record.values()[0] for record in view.records.values()] == list(range(2000))


def test_a_full_table_takes_no_more_and_goes_on_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "LARGEST_BYTES", tables.FIRST_BYTES)
    table = Table.create(tmp_path / "t", "web0-1")
    first = table.claim(1, ("first",), 10)
    while table.claim(1, ("more",), 1000) is not None:
        pass
    assert table.claim(1, ("one more",), 1000) is None
    assert first is not None
    first.words[first.at] += 1
    assert first.values()[0] == 1


def test_a_full_disk_takes_no_more_and_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.create(tmp_path / "t", "web0-1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert table.claim(1, ("small",), 10) is not None
    assert table.claim(1, ("large",), 100_000) is None
    with pytest.raises(OSError, match="no space"):
        Table.create(tmp_path / "t", "web1-1")
    assert table_files(tmp_path / "t") == [tmp_path / "t" / "web0-1"]


def test_what_is_no_table_of_this_version_is_not_read(tmp_path: Path) -> None:
    Table.create(tmp_path / "t", "web0-1").words[1] = tables.FORMAT + 1
    (tmp_path / "t" / "other").write_bytes(bytes(tables.FIRST_BYTES))
    for name in ("web0-1", "other"):
        with pytest.raises(ValueError, match="no table"):
            View(tmp_path / "t" / name)


def test_a_record_that_is_not_whole_yet_is_left_for_the_next_look(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t", "web0-1")
    view = View(tmp_path / "t" / "web0-1")
    table.claim(1, ("a",), 2)
    used = table.words[tables.USED]
    table.words[tables.USED] = used + 10
    assert view.scan()
    assert view.scanned == used
    assert not view.scan()


@pytest.mark.parametrize("size", [0, 8, 16, 100, 512, 515, 540, 600, 1000])
def test_of_a_file_that_was_cut_off_what_is_whole_is_read(tmp_path: Path, size: int) -> None:
    table = Table.create(tmp_path / "t", "web0-1")
    for number in range(10):
        table.claim(1, ("name", number), 10)
    whole = (tmp_path / "t" / "web0-1").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:size])
    if size < tables.HEADER_WORDS * tables.WORD:
        with pytest.raises(ValueError, match=r"no table|empty"):
            View(tmp_path / "cut")
        return
    view = View(tmp_path / "cut")
    view.scan()
    assert [record.name for record in view.records.values()] == [
        ("name", number) for number in range((size - 512) // 112)
    ]


@given(st.binary(min_size=1, max_size=200), st.integers(512, 2000))
def test_garbage_in_a_table_is_no_record_and_no_harm(garbage: bytes, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Table.create(Path(folder) / "t", "web0-1")
        for number in range(10):
            table.claim(1, ("name", number), 10)
        table.words.cast("B")[at : at + len(garbage)] = garbage
        view = View(
            Path(folder) / "t" / "web0-1", lambda kind, words, size: (kind, words) == (1, 2)
        )
        view.scan()
        assert {len(name) for _, name in view.records} <= {2}
        assert all(len(record.values()) == record.size for record in view.records.values())
        view.close()
        table.close()


def test_process_names_never_repeat() -> None:
    assert len({process_name("web0") for _ in range(100)}) == 100


def _live_and_die(folder: str, ready: object, end: object) -> None:
    table = Table.create(Path(folder), "web0-1")
    record = table.claim(1, ("torn",), 1)
    assert record is not None
    ready.set()  # type: ignore[attr-defined]
    words, at = record.words, record.at
    while not end.is_set():  # type: ignore[attr-defined]
        for _ in range(1000):
            words[at] = LOW
            words[at] = HIGH
    os._exit(0)


def test_no_reader_in_another_process_sees_half_a_number_and_it_knows_who_lives(
    tmp_path: Path,
) -> None:
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    writer = context.Process(target=_live_and_die, args=(str(tmp_path / "t"), ready, end))
    writer.start()
    assert ready.wait(60)
    view = View(tmp_path / "t" / "web0-1")
    view.scan()
    (record,) = view.records.values()
    assert view.is_alive()
    seen = {record.values()[0] for _ in range(50_000)} - {0}
    assert seen <= {LOW, HIGH}
    end.set()
    writer.join(60)
    assert not view.is_alive()


def test_closing_gives_up_the_lock(tmp_path: Path) -> None:
    table = Table.create(tmp_path / "t", "web0-1")
    view = View(tmp_path / "t" / "web0-1")
    assert view.is_alive()
    table.close()
    assert not view.is_alive()
