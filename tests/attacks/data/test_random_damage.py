"""Sources with random damage: understood or refused, never anything else."""

from __future__ import annotations

import contextlib
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelry.core.errors import InvalidData
from modelry.core.jobs import ImportParams
from modelry.worker.data.examining import examine
from modelry.worker.data.importing import read_draft
from modelry.worker.data.sources import list_source
from modelry.worker.data.unpacking import Unpacker
from tests.unit.worker.data.making import idx, npz, picture_files, pictures, tarred, tones, zipped

_X, _Y = pictures(12), np.arange(12) % 2
_ROUNDS = 60


def _parquet() -> bytes:
    out = io.BytesIO()
    columns = {"a": [[n / 7] * (n + 1) for n in range(20)], "b": ["u", None] * 10, "y": [0, 1] * 10}
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


_SOURCES = {
    "a.npz": npz(x=_X / np.float32(255), y=_Y),
    "a.zip": zipped(picture_files(["a", "b"])),
    "a.tar": tarred(picture_files(["a", "b"])),
    "a.tar.gz": tarred(picture_files(["a", "b"]), "w:gz"),
    "train-images-idx3-ubyte": idx(_X),
    "train-images-idx3-ubyte.gz": gzip.compress(idx(_X)),
    "a.parquet": _parquet(),
    "a.jsonl": b"".join(b'{"a": [%d, %d], "b": "u", "y": %d}\n' % (n, n, n % 2) for n in range(20)),
    "a.ts": b"@classLabel true u v\n@data\n" + b"1,2,3:4,5,6:u\n7,8:9,0:v\n" * 6,
    "sounds.zip": zipped(tones(["a", "b"], format="FLAC")),
    "texts.zip": zipped({f"{n % 2}/{n}.txt": b"text %d" % n for n in range(12)}),
    "a.csv": b"a,b,y\n" + b"".join(b"%d,%f,%d\n" % (n, n / 7, n % 2) for n in range(20)),
}

_TABLES = ("a.csv", "a.parquet", "a.jsonl")


@pytest.mark.parametrize("name", _SOURCES)
def test_damage_is_refused_or_harmless(tmp_path: Path, name: str) -> None:
    generator = np.random.default_rng(len(name))
    params = ImportParams(dataset="a", source="path", target="y" if name in _TABLES else None)
    for number in range(_ROUNDS):
        data = _damaged(_SOURCES[name], generator)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(data)
        with contextlib.suppress(InvalidData):
            _understand(folder, params)


def _damaged(whole: bytes, generator: np.random.Generator) -> bytes:
    data = bytearray(whole)
    for _ in range(int(generator.integers(1, 6))):
        # Headers matter most: half of the damage goes to the first bytes.
        reach = len(data) if generator.random() < 0.5 else min(len(data), 600)
        data[int(generator.integers(0, reach))] = int(generator.integers(0, 256))
    if generator.random() < 0.2:
        del data[int(generator.integers(0, len(data))) :]
    return bytes(data)


def _understand(folder: Path, params: ImportParams) -> None:
    unpacker = Unpacker(folder / "unpacked", 1 << 20)
    leaves = [leaf for file in list_source(folder) for leaf in unpacker.expand(file)]
    examine(read_draft(leaves, params), 0.2, lambda done, total: None)
