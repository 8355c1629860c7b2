"""Writes `client/_sync` from `client/_async`: the same code without `async` and `await`.

python scripts/unasync.py            writes
python scripts/unasync.py --check    tells which files are not current; exit status 1 if any
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parent.parent / "src" / "modelry" / "client"

#: In order; each is a whole word where it begins or ends with a letter.
RULES: tuple[tuple[str, str], ...] = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\b__aenter__\b", "__enter__"),
    (r"\b__aexit__\b", "__exit__"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_bytes\b", "iter_bytes"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncBaseTransport\b", "BaseTransport"),
    (r"\basync_(sleep|call)\b", r"sync_\1"),
    (r"\bAsync([A-Z]\w+)\b", r"\1"),
    (r"\bmodelry\.client\._async\b", "modelry.client._sync"),
)

HEADER = "# Generated from ../_async/{name} by scripts/unasync.py; edit that file.\n"


def to_sync(source: str, name: str) -> str:
    """The blocking twin of an async module."""
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source)
    return _tidy(HEADER.format(name=name) + source)


def _tidy(source: str) -> str:
    for command in (["check", "--select", "I,SIM117", "--fix", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(CLIENT / "x.py"), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
        )
        source = done.stdout
    return source


def current() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    twins = {}
    for path in sorted((CLIENT / "_async").glob("*.py")):
        text = path.read_text()
        if path.name == "__init__.py":
            text = '"""The blocking SDK: every module is the twin of one that awaits."""\n'
        twins[CLIENT / "_sync" / path.name] = to_sync(text, path.name)
    return twins


def stale() -> list[Path]:
    """The generated files that are not what they should be, and those that should not be."""
    twins = current()
    wrong = [path for path, text in twins.items() if not path.exists() or path.read_text() != text]
    return wrong + [path for path in (CLIENT / "_sync").glob("*.py") if path not in twins]


def main() -> int:
    if "--check" in sys.argv[1:]:
        wrong = stale()
        for path in wrong:
            print(f"not current: {path.relative_to(CLIENT)}; run python scripts/unasync.py")
        return 1 if wrong else 0
    for path, text in current().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
