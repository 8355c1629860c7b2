"""What hostile models are tried with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importing import ModelImporter


@pytest.fixture
def model_importer(tmp_path: Path) -> ModelImporter:
    """Imports as the runner does them."""
    return ModelImporter(tmp_path / "importer")
