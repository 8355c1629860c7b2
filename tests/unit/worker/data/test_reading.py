"""A version as training sees it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from modelry.core.errors import FormatTooNew, InvalidData, NotFound, WrongDataKind
from modelry.worker.data.reading import open_dataset
from tests.conftest import Importer
from tests.unit.worker.data.making import npz, pictures


def test_rows_are_read_once_and_can_be_written(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=pictures(30), y=np.arange(30) % 3)})
    rows = importer.open(made).split("train")
    assert rows.inputs is rows.inputs
    assert rows.inputs.flags.writeable
    assert rows.inputs.flags.c_contiguous
    assert rows.rows == len(rows.inputs) == len(np.asarray(rows.labels))


def test_a_split_that_is_not_there_is_not_found(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=pictures(30), y=np.arange(30) % 3)})
    with pytest.raises(NotFound, match="train, test"):
        importer.open(made).split("validation")


def test_a_table_has_no_tensor(importer: Importer) -> None:
    table = b"a,y\n" + b"".join(b"%d,%d\n" % (n, n % 2) for n in range(20))
    made = importer.upload({"a.csv": table}, target="y")
    with pytest.raises(WrongDataKind, match=r"a table \(a, y\)"):
        importer.open(made).split("train")


def test_shards_that_do_not_hold_the_promised_rows_are_refused(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=pictures(30), y=np.arange(30) % 3)})
    data = importer.open(made)
    shorter = msgspec.structs.replace(data.manifest.splits["train"], rows=5)
    splits = {**data.manifest.splits, "train": shorter}
    manifest = msgspec.structs.replace(data.manifest, splits=splits)
    described = data.folder / "dataset.json"
    described.unlink()
    described.write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(InvalidData):
        _ = open_dataset(data.folder).split("train").inputs


def test_a_later_format_is_refused(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=pictures(30), y=np.arange(30) % 3)})
    folder = importer.open(made).folder
    (folder / "dataset.json").unlink()
    (folder / "dataset.json").write_bytes(b'{"format_version": 99}')
    with pytest.raises(FormatTooNew):
        open_dataset(folder)
