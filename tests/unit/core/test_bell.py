"""The bell wakes all who listen, and nothing that goes wrong with it goes wrong for anybody else."""

from __future__ import annotations

import select
from pathlib import Path

from modelry.core.bell import Bell


def test_a_ring_wakes_every_listener_and_is_then_forgotten(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bells")
    with bell.listen("web") as one, bell.listen("web") as two:
        bell.ring()
        assert one.wait(0)
        assert two.wait(0)
        assert not one.wait(0)


def test_many_rings_before_a_look_are_one(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bells")
    with bell.listen("web") as ear:
        for _ in range(1000):
            bell.ring()
        assert ear.wait(0)
        assert not ear.wait(0)


def test_a_ring_shows_in_select_until_it_is_cleared(tmp_path: Path) -> None:
    bell = Bell(tmp_path / "bells")
    with bell.listen("web") as ear:
        bell.ring()
        assert select.select([ear], [], [], 0)[0] == [ear]
        ear.clear()
        assert select.select([ear], [], [], 0)[0] == []


def test_ringing_where_nobody_ever_listened_is_fine(tmp_path: Path) -> None:
    Bell(tmp_path / "nowhere").ring()


def test_sockets_of_the_dead_are_removed_and_do_not_silence_the_living(tmp_path: Path) -> None:
    folder = tmp_path / "bells"
    bell = Bell(folder)
    dead = bell.listen("dead")
    dead._ear.close()  # as kill -9 does: the name stays
    with bell.listen("living") as ear:
        assert len(list(folder.iterdir())) == 2
        bell.ring()
        assert ear.wait(0)
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_bell_that_is_off_rings_nobody(tmp_path: Path) -> None:
    off = Bell(tmp_path / "bells", enabled=False)
    with off.listen("web") as ear:
        off.ring()
        Bell(tmp_path / "bells").ring()
        assert not ear.wait(0.01)
    assert not (tmp_path / "bells").exists()


def test_only_the_owner_can_ring(tmp_path: Path) -> None:
    with Bell(tmp_path / "bells").listen("web"):
        assert (tmp_path / "bells").stat().st_mode & 0o777 == 0o700
