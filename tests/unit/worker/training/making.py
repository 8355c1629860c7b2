"""Small data sets of every kind, made of Arrow tables, that can be learned in a second."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from modelry.artifacts import Artifacts
from modelry.core.manifests import DatasetManifest, Feature, Split
from modelry.core.results import MadeDataset

NUMBER = Feature(kind="number", dtype="float64")
CATEGORY = Feature(kind="category", dtype="string")
TEXT = Feature(kind="text", dtype="string")


def store_dataset(
    root: Path,
    features: dict[str, Feature],
    target: str,
    *,
    time: str | None = None,
    **splits: dict[str, Any],
) -> MadeDataset:
    """A data set version in the artifacts below `root`, with these columns for each split."""
    artifacts = Artifacts(str(root / "blobs"))
    files = []
    for name, columns in splits.items():
        path = root / f"{name}.parquet"
        pq.write_table(pa.table(columns), path)
        files.append(artifacts.put_file(path, path.name))
    manifest = DatasetManifest(
        features=features,
        target=target,
        time=time,
        splits={
            name: Split(rows=len(next(iter(columns.values()))), files=[f"{name}.parquet"])
            for name, columns in splits.items()
        },
        statistics={},
        preview=[],
        fingerprint="",
        source={},
    )
    files.append(artifacts.put_bytes(msgspec.json.encode(manifest), "dataset.json"))
    return MadeDataset(manifest=manifest, files=files)


def texts(root: Path) -> MadeDataset:
    """Sentences of 2 to 12 words, told apart by one word."""

    def split(rows: int, seed: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, rows)
        said = []
        for label in labels:
            words = [f"w{number}" for number in random.integers(0, 30, random.integers(1, 12))]
            words.insert(int(random.integers(0, len(words) + 1)), ("Rot", "grün", "蓝")[label])
            said.append(" ".join(words))
        return {"text": said, "label": labels}

    label = Feature(kind="label", dtype="int64", labels=["red", "green", "blue"])
    return store_dataset(
        root, {"text": TEXT, "label": label}, "label", train=split(300, 0), test=split(60, 1)
    )


def sequences(root: Path) -> MadeDataset:
    """3 to 15 steps of two numbers; the label is the sign of the first number's mean."""

    def split(rows: int, seed: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, rows)
        steps = []
        for label in labels:
            values = random.normal(size=(int(random.integers(3, 16)), 2)) * [1.0, 100.0]
            values[:, 0] += 2 * label - 1
            steps.append(values.astype(np.float32).reshape(-1).tolist())
        return {"x": pa.array(steps, pa.list_(pa.float32())), "label": labels}

    features = {
        "x": Feature(kind="sequence", dtype="float32", shape=[2]),
        "label": Feature(kind="label", dtype="int64", labels=["down", "up"]),
    }
    return store_dataset(root, features, "label", train=split(200, 0), test=split(60, 1))


def tone(hz: float, seconds: float, rate: int = 8000, kind: str = "WAV", seed: int = 0) -> bytes:
    """An encoded recording of a pitch, with a little noise."""
    at = np.arange(round(rate * seconds)) / rate
    noise = np.random.default_rng(seed).normal(size=len(at))
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * hz * at) + 0.02 * noise, rate, format=kind)
    return file.getvalue()


def recordings(root: Path) -> MadeDataset:
    """Tones of 0.1 to 0.5 s at several rates and in several formats, told apart by their pitch."""

    def split(rows: int, seed: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 3, rows)
        sounds = [
            tone(
                (300, 900, 2500)[label] * random.uniform(0.8, 1.2),
                random.uniform(0.1, 0.5),
                int(random.choice([8000, 16000])),
                str(random.choice(["WAV", "FLAC"])),
                seed=row,
            )
            for row, label in enumerate(labels)
        ]
        return {"sound": pa.array(sounds, pa.binary()), "label": labels}

    features = {
        "sound": Feature(kind="audio", dtype="bytes"),
        "label": Feature(kind="label", dtype="int64", labels=["low", "middle", "high"]),
    }
    return store_dataset(root, features, "label", train=split(120, 0), test=split(40, 1))


def table(root: Path, goal: str) -> MadeDataset:
    """A number and a category with gaps, of which a label or a number follows; another category says nothing."""

    def split(rows: int, seed: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        size = random.normal(50, 20, rows)
        color = random.choice(["red", "green", "blue"], rows)
        value = size + np.where(color == "red", 30.0, 0.0)
        gaps = random.random(rows) < 0.05
        columns: dict[str, Any] = {
            "size": pa.array(size, mask=gaps),
            "color": pa.array(color.tolist(), mask=random.random(rows) < 0.05),
            "noise": random.choice(["a", "b"], rows).tolist(),
        }
        columns["label" if goal == "classification" else "price"] = (
            (value > 60).astype(np.int64) if goal == "classification" else 1000 + 10 * value
        )
        return columns

    target = "label" if goal == "classification" else "price"
    features = {
        "size": NUMBER,
        "color": CATEGORY,
        "noise": CATEGORY,
        target: Feature(kind="label", dtype="int64", labels=["cheap", "dear"])
        if goal == "classification"
        else NUMBER,
    }
    return store_dataset(root, features, target, train=split(600, 0), test=split(200, 1))


def series(root: Path) -> MadeDataset:
    """A noisy wave that comes back every 12 rows, with gaps; a number and a category beside it."""
    random = np.random.default_rng(0)
    place = np.arange(1000)
    wave = 50 + 20 * np.sin(place / 12 * 2 * np.pi) + random.normal(0, 3, len(place))
    is_gap = random.random(len(place)) < 0.02
    is_gap[300:340] = True
    columns: dict[str, Any] = {
        "shift": pa.array(random.choice(["day", "night"], len(place)).tolist(), mask=is_gap[::-1]),
        "rain": pa.array(random.normal(size=len(place)), mask=random.random(len(place)) < 0.2),
        "level": pa.array(wave, mask=is_gap),
    }
    splits = {
        name: {column: values[start:stop] for column, values in columns.items()}
        for name, start, stop in (("train", 0, 800), ("test", 800, 1000))
    }
    features = {"shift": CATEGORY, "rain": NUMBER, "level": NUMBER}
    return store_dataset(root, features, "level", time="hour", **splits)
