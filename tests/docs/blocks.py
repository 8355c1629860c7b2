"""Runs the code blocks of a page in order, as a reader would: one folder, one shell at a time, one Python session."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Blocks in these languages are run; ```text is shown only.
RUN = ("bash", "python")


@dataclass(frozen=True)
class Block:
    """One fenced block and the line of its first line of code."""

    language: str
    code: str
    line: int


def read_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1)
        for match in _BLOCK.finditer(text)
    ]


def run_page(page: Path, *, without: Collection[str] = ()) -> None:
    """Runs every block of the page in the current folder and environment; `without` has run elsewhere."""
    session: dict[str, Any] = {"__name__": "__main__"}
    for block in read_blocks(page):
        if block.language not in RUN or block.code.strip() in without:
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "bash":
            _run_shell(block, where)
        else:
            # Blank lines in front, so that a traceback names the page's own line.
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), session)


def _run_shell(block: Block, where: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{where}\n{block.code}\n{done.stdout}\n{done.stderr}"
