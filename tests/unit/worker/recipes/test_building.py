"""From a recipe's name to its network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modelry.core.errors import NotFound
from modelry.worker.recipes import cnn
from modelry.worker.recipes.building import build_network, code_digest


def test_an_unknown_recipe_is_not_found() -> None:
    with pytest.raises(NotFound, match="transformer"):
        build_network("transformer", {}, shape=(8, 8), classes=2)


def test_the_code_digest_is_that_of_the_source_file() -> None:
    source = Path(cnn.__file__).read_bytes()
    assert code_digest("cnn") == hashlib.sha256(source).hexdigest()
