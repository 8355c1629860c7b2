"""A runtime for tests, installed through the entry point like anybody's: y = softmax-free line, with bad habits.

The first value of a row decides: CRASH ends the process, HANG waits until the file `release` exists beside the
model's log, RAISE raises. Every call appends its number of rows to the file `seen`.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelry.core.manifests import ModelManifest

CRASH, HANG, RAISE = 666.0, 77.0, 13.0


class Hostile:
    """Answers (value, 1 − value) for each row."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, inputs: Any) -> Any:
        x = inputs["x"]
        with (self.folder / "seen").open("a") as seen:
            seen.write(f"{len(x)}\n")
        if (x[:, 0] == CRASH).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (x[:, 0] == RAISE).any():
            raise RuntimeError("it does not like thirteen")
        while (x[:, 0] == HANG).any() and not (self.folder / "release").exists():
            time.sleep(0.002)
        return {"probabilities": np.stack([x[:, 0], 1 - x[:, 0]], axis=1)}


def load(file: Path, manifest: ModelManifest, threads: int) -> Hostile:
    """The package's file names the folder to write to."""
    return Hostile(Path(file.read_text()))
