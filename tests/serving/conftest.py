"""The house of the inference path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Empty; ends its processes after the test."""
    house = House(tmp_path / "home")
    yield house
    house.close()
