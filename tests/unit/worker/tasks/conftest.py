"""Tiny converted models, each made once for all tests of a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from tests.unit.worker.tasks import tiny

Make = Callable[..., tiny.Served]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A random text model with this head, converted; the same one for the same arguments."""
    known: dict[str, tiny.Served] = {}

    def make_one(head: str, task: str | None = None, **more: Any) -> tiny.Served:
        key = repr((head, task, sorted(more.items())))
        if key not in known:
            folder: Path = tmp_path_factory.mktemp("tiny")
            source = tiny.save_text_model(folder / "source", head, **more)
            known[key] = tiny.served(source, folder / "out", task)
        return known[key]

    return make_one
