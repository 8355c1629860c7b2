"""`import modelry` and `modelry --help` are quick: they load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "pandas",
    "numpy",
    "pyarrow",
    "sklearn",
    "matplotlib",
    "onnxruntime",
    "PIL",
    "sqlalchemy",
)

SAY_LOADED = "import sys; print(*sorted(set(name.partition('.')[0] for name in sys.modules)))"


@pytest.mark.parametrize(
    "code",
    [
        "import modelry",
        "import modelry; modelry.Client",
        "import modelry.cli.main",
        "import sys; sys.argv = ['modelry', '--help']\n"
        "from modelry.cli.main import app\n"
        "try: app()\n"
        "except SystemExit: pass",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SAY_LOADED}"], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert [name for name in HEAVY if name in loaded] == []


def test_help_does_not_even_load_the_client() -> None:
    code = f"import modelry.cli.main\n{SAY_LOADED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx", "pydantic", "rich"} & set(done.stdout.split())
