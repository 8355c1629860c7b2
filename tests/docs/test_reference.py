"""What is documented is what is implemented."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

from modelry.core import records
from tests.docs.blocks import ROOT


def test_the_reference_is_current() -> None:
    script = ROOT / "scripts" / "reference.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_glossary_has_every_record() -> None:
    glossary = (ROOT / "docs" / "concepts.md").read_text()
    nouns = [
        name
        for name, value in vars(records).items()
        if dataclasses.is_dataclass(value) and value.__module__ == records.__name__
    ]
    assert nouns
    assert [name for name in nouns if f"**{name}**" not in glossary] == []


def test_the_glossary_names_nothing_that_is_gone() -> None:
    glossary = (ROOT / "docs" / "concepts.md").read_text().split("## Who")[1]
    words = set(re.findall(r"\*\*([A-Z]\w+)\*\*", glossary))
    assert {word for word in words if not hasattr(records, word)} == set()
