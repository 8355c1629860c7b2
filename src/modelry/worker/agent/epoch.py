"""The largest epoch ever seen: it outlives the agent, so that a leader of the past is refused for ever."""

from __future__ import annotations

import sys
from pathlib import Path

from modelry.core.durable import write_durably
from modelry.core.errors import StaleEpoch


class EpochGuard:
    """`run/epoch`, one number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.current = _read(path)

    def check(self, epoch: int) -> None:
        """Let the newest leader pass; raises `StaleEpoch` for an earlier one."""
        if epoch < self.current:
            raise StaleEpoch(epoch=epoch, current=self.current)
        if epoch > self.current:
            write_durably(self._path, str(epoch).encode())
            self.current = epoch


def _read(path: Path) -> int:
    """The number in the file; 0 where there is none, or something else: the database still refuses old leaders."""
    try:
        return int(path.read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        print(f"{path} holds no number; counted from 0 again.", file=sys.stderr)
        return 0
