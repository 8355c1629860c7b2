"""Fixtures of the stories: a whole service with real processes, and a plain HTTP client of its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import Api
from tests.service import Service, running_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that is quick to notice deaths."""
    with running_service(tmp_path / "home", lease_s="0.6", checkpoint_s="0.3") as running:
        yield running


@pytest.fixture
def api(service: Service) -> Iterator[Api]:
    """The management API with the admin key."""
    with Api(service) as speaking:
        yield speaking
