"""What all tests may use: the real data sets beside the repository, and imports as the runner does them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from modelry.artifacts import Artifacts
from modelry.core.files import FileRef
from modelry.core.results import MadeDataset, made_dataset
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.data import importing
from modelry.worker.data.reading import OpenDataset, open_dataset
from modelry.worker.folder import WorkerFolder

_SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"

# A busy machine is slow; hangs are ended by the tests' own time-out.
hypothesis.settings.register_profile("modelry", deadline=None)
hypothesis.settings.load_profile("modelry")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets; tests that use it carry the mark `data`."""
    if not _SHARED_DATA.is_dir():
        message = f"the real data sets are not at {_SHARED_DATA}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return _SHARED_DATA


@dataclass
class Importer:
    """Runs import jobs in this process, in a folder of its own."""

    root: Path
    runs: int = 0

    @property
    def artifacts(self) -> Artifacts:
        return Artifacts(str(self.root / "blobs"))

    def context(self, inputs: list[FileRef], **params: Any) -> JobContext:
        """A fresh attempt of an import job."""
        self.runs += 1
        spec = JobSpec(
            worker_id=f"job_test-{self.runs}",
            job_id="job_test",
            attempt=self.runs,
            kind="import-data",
            params={"dataset": "test", **params},
            inputs={"upload": inputs},
            artifacts=str(self.root / "blobs"),
        )
        folder = WorkerFolder(self.root / "run" / spec.worker_id)
        folder.path.mkdir(parents=True)
        return JobContext(folder, spec)

    def path(self, location: Path, **params: Any) -> MadeDataset:
        """Imports a folder or file of this machine."""
        return self._run(self.context([], source="path", location=str(location), **params))

    def builtin(self, name: str) -> MadeDataset:
        """Imports what comes with Modelry."""
        return self._run(self.context([], source="builtin", location=name))

    def upload(self, files: dict[str, bytes], **params: Any) -> MadeDataset:
        """Imports uploaded files."""
        inputs = [self.artifacts.put_bytes(data, path) for path, data in files.items()]
        return self._run(self.context(inputs, source="upload", **params))

    def open(self, made: MadeDataset) -> OpenDataset:
        """The version as training sees it."""
        self.runs += 1
        folder = self.root / f"version-{self.runs}"
        self.artifacts.fetch(made.files, folder)
        return open_dataset(folder)

    def _run(self, context: JobContext) -> MadeDataset:
        try:
            made = made_dataset(importing.run(context))
        finally:
            context.close()
        assert made is not None
        return made


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    """Imports as the runner does them."""
    return Importer(tmp_path / "importer")
