"""A runtime for tests, installed through the entry point like anybody's: it sleeps for each batch and keeps a record.

The package's file says how long, and where the record is. A line of it: the moment a row's batch began (monotonic
clock), and the row's first number, by which a test knows its request again. The number CRASH ends the process.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelry.core.manifests import ModelManifest

#: No crowd has a client of a number below zero.
CRASH = -666


class Pausing:
    """Answers (value, 1 - value) for each row."""

    def __init__(self, pause_s: float, record: Path) -> None:
        self.pause_s = pause_s
        self.record = record

    def run(self, inputs: Any) -> Any:
        x = inputs["x"]
        now = time.monotonic()
        with self.record.open("a") as record:
            record.writelines(f"{now:.6f} {value:g}\n" for value in x[:, 0])
        if (x[:, 0] == CRASH).any():
            os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(self.pause_s)
        return {"probabilities": np.stack([x[:, 0], 1 - x[:, 0]], axis=1)}


def load(file: Path, manifest: ModelManifest, threads: int) -> Pausing:
    """The model in a package."""
    wished = json.loads(file.read_text())
    return Pausing(wished["pause_s"], Path(wished["record"]))
