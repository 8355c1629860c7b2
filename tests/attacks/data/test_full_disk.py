"""An import whose disk is too small: `storage_full`, and nothing is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_IMPORT = """
import sys
from pathlib import Path
import numpy as np
import pytest
from modelry.core.errors import StorageFull
from tests.conftest import Importer
from tests.unit.worker.data.making import npz, pictures

disk, root, full = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
source = root / "a.npz"
source.write_bytes(npz(x=pictures(3000, (28, 28)), y=np.arange(3000) % 3))
(disk / full).mkdir()
(root / full).symlink_to(disk / full)
importer = Importer(root)
with pytest.raises(StorageFull):
    importer.path(source)
assert importer.artifacts.usage() == (0, 0)
assert not [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size > 10_000]
"""


@pytest.mark.parametrize("full", ["run", "blobs"])
def test_an_import_on_a_full_disk_leaves_nothing_behind(tmp_path: Path, full: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m tmpfs '{disk}'"
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "sh", "-c", mount]).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    script = tmp_path / "import.py"
    script.write_text(_IMPORT)
    command = f"{mount} && exec '{sys.executable}' '{script}' '{disk}' '{tmp_path}' {full}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run([*unshare, "sh", "-c", command], check=True, env=environment)
