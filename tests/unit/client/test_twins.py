"""The blocking SDK is the async one without `await`, and it is current."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path

import modelry.client as sdk

ROOT = Path(__file__).parents[3]


def test_the_generated_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "unasync.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_async_is_left_in_the_blocking_twin() -> None:
    spec = importlib.util.find_spec("modelry.client._sync")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    for path in Path(spec.submodule_search_locations[0]).glob("*.py"):
        text = path.read_text().split("\n", 1)[1]
        assert "async" not in text.replace("_async/", ""), path
        assert "await " not in text, path


def test_both_clients_have_the_same_words() -> None:
    pairs = [
        (sdk.Client, sdk.AsyncClient),
        (sdk.JobHandle, sdk.AsyncJobHandle),
        (sdk.DeploymentHandle, sdk.AsyncDeploymentHandle),
    ]
    for blocking, awaiting in pairs:
        words = {name for name in dir(blocking) if not name.startswith("_")}
        assert words == {name for name in dir(awaiting) if not name.startswith("_")}
        for name in words:
            left, right = getattr(blocking, name), getattr(awaiting, name)
            if inspect.isfunction(left):
                assert list(inspect.signature(left).parameters) == list(
                    inspect.signature(right).parameters
                )
