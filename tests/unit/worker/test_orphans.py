"""A worker shows that it lives, and notices when no agent does."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from modelry.core.durable import take_lock
from modelry.core.home import Home
from modelry.worker.orphans import OrphanWatch, agent_lives


def test_an_agent_lives_while_its_lock_is_held(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    assert not agent_lives(home)
    agent = take_lock(home.run / "agent.lock")
    assert agent is not None
    assert agent_lives(home)
    os.close(agent)
    assert not agent_lives(home)


def test_patience_begins_anew_whenever_an_agent_is_seen(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.run.mkdir()
    orphaned = threading.Event()
    lock = take_lock(tmp_path / "lock")
    agent = take_lock(home.run / "agent.lock")
    assert lock is not None
    assert agent is not None
    os.utime(tmp_path / "lock", (0, 0))
    watch = OrphanWatch(home, lock, orphaned.set, patience_s=0.08)
    watch.start()
    assert not orphaned.wait(0.2)
    assert time.time() - (tmp_path / "lock").stat().st_mtime < 5
    os.close(agent)
    assert orphaned.wait(5)
    watch.close()
    os.close(lock)
