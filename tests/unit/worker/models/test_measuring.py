"""The fastest way that answers as the original does is kept, and every way that was tried is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelry.core.errors import ModelUnloadable
from modelry.core.manifests import ImageInput, ModelManifest, RuntimeForm, TensorSpec
from modelry.core.specs import JobSpec, StopReason
from modelry.worker.context import JobContext, Stopped
from modelry.worker.folder import WorkerFolder
from modelry.worker.models import measuring, ways
from modelry.worker.models.bench import Trial
from modelry.worker.models.measuring import choose, measure, random_samples
from modelry.worker.models.ways import Way
from tests.unit.worker.predicting.making import linear_onnx, manifest_of, weights_of


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    spec = JobSpec(
        worker_id="m-1",
        job_id="m",
        attempt=1,
        kind="train",
        params={},
        artifacts=str(tmp_path / "blobs"),
    )
    folder = WorkerFolder(tmp_path / "run" / "m-1")
    folder.create(spec)
    made = JobContext(folder, spec)
    yield made
    made.close()


@pytest.fixture
def package(tmp_path: Path) -> tuple[Path, ModelManifest]:
    """A linear model with its ONNX form."""
    (tmp_path / "model.onnx").write_bytes(linear_onnx((6,), 3))
    return tmp_path, manifest_of((6,), ["a", "b", "c"])


def exact(inputs: Any) -> dict[str, Any]:
    return {"y": inputs["x"] @ weights_of(6, 3)}


class Pretended:
    """A runtime that is as slow and as wrong as it is told."""

    def __init__(self, pause_s: float = 0.0, error: float = 0.0) -> None:
        self.pause_s, self.error = pause_s, error

    def run(self, inputs: Any) -> dict[str, Any]:
        time.sleep(self.pause_s)
        return {"y": exact(inputs)["y"] + np.float32(self.error)}


def trial(runtime: str, seconds: float, *, threads: int = 1, is_faithful: bool = True) -> Trial:
    way = Way(runtime, "model", {}, threads)
    return Trial(way, Pretended(), 0.0, is_faithful, [seconds], [seconds])


def test_the_table_tells_every_way_and_the_kept_one_comes_first(
    package: tuple[Path, ModelManifest], context: JobContext
) -> None:
    folder, manifest = package
    found = measure(context, folder, manifest, random_samples(manifest), exact)
    ways = [(item.runtime, item.threads, *item.options.values()) for item in found.measurements]
    assert ("onnxruntime", 1, "all") in ways
    assert ("onnxruntime", 1, "basic") in ways
    assert len(set(ways)) == len(ways)
    [kept] = [item for item in found.measurements if item.is_kept]
    assert kept.threads == 1
    assert kept.is_faithful
    name, form = next(iter(found.runtimes.items()))
    assert name == kept.runtime
    assert form.options == kept.options
    assert "onnxruntime" in found.runtimes
    assert all(item.rows_per_s > 0 and item.single_ms > 0 for item in found.measurements)
    speeds = [item.rows_per_s / item.single_ms for item in found.measurements]
    assert speeds == sorted(speeds, reverse=True)
    assert msgspec.json.decode(msgspec.json.encode(found), type=ModelManifest) == found


@pytest.mark.parametrize(
    ("trials", "kept"),
    [
        ([trial("onnxruntime", 1.0), trial("openvino", 0.95)], 0),
        ([trial("onnxruntime", 1.0), trial("openvino", 0.8)], 1),
        ([trial("onnxruntime", 1.0), trial("openvino", 0.8), trial("torch", 0.78)], 1),
        ([trial("onnxruntime", 1.0), trial("openvino", 0.1, is_faithful=False)], 0),
        ([trial("onnxruntime", 1.0), trial("onnxruntime", 0.4, threads=2)], 0),
        ([trial("onnxruntime", 1.0, is_faithful=False), trial("torch", 9.0)], 1),
        ([trial("onnxruntime", 1.0, threads=2), trial("torch", 0.5, threads=2)], 1),
    ],
)
def test_the_first_stays_unless_another_is_a_tenth_faster(trials: list[Trial], kept: int) -> None:
    assert choose(trials, 32) is trials[kept]


def pretending(monkeypatch: pytest.MonkeyPatch, **runtimes: Any) -> None:
    """Only these ways exist."""
    tried = [Way(name, "model", {}, 1) for name in runtimes]

    def load(folder: Path, manifest: ModelManifest, way: Way) -> Any:
        if isinstance(runtimes[way.runtime], Exception):
            raise runtimes[way.runtime]
        return runtimes[way.runtime]

    monkeypatch.setattr(measuring, "list_ways", lambda folder, manifest: tried)
    monkeypatch.setattr(measuring, "load_way", load)


def test_what_answers_otherwise_is_shown_and_never_kept(
    package: tuple[Path, ModelManifest], context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretending(monkeypatch, slow=Pretended(0.002), quick=Pretended(0.0, error=0.01))
    found = measure(context, *package, random_samples(package[1]), exact)
    assert next(iter(found.runtimes)) == "slow"
    quick = next(item for item in found.measurements if item.runtime == "quick")
    assert (quick.is_faithful, quick.is_kept) == (False, False)
    assert quick.max_difference == pytest.approx(0.01, rel=1e-3)
    verification = found.runtimes["slow"].verification
    assert verification is not None
    assert (verification.samples, verification.disagreements) == (64, 0)


def test_what_cannot_run_is_left_out_and_costs_nothing_else(
    package: tuple[Path, ModelManifest], context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Pretended):
        def run(self, inputs: Any) -> dict[str, Any]:
            raise OSError("no such instruction")

    pretending(
        monkeypatch,
        broken=ModelUnloadable(reason="operator Foo is missing"),
        failing=Failing(),
        nan=Pretended(error=float("nan")),
        good=Pretended(),
    )
    found = measure(context, *package, random_samples(package[1]), exact)
    assert next(iter(found.runtimes)) == "good"
    assert [item.runtime for item in found.measurements if item.is_faithful] == ["good"]
    assert {item.runtime for item in found.measurements} == {"nan", "good"}


def test_without_any_faithful_way_the_manifest_stays_as_it_is(
    package: tuple[Path, ModelManifest], context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretending(monkeypatch, wrong=Pretended(error=1.0))
    assert measure(context, *package, random_samples(package[1]), exact) == package[1]


def test_a_slow_model_takes_little_more_than_the_time_there_is(
    package: tuple[Path, ModelManifest], context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretending(monkeypatch, **{f"way{number}": Pretended(0.02) for number in range(20)})
    began = time.monotonic()
    found = measure(context, *package, random_samples(package[1]), exact, budget_s=0.6)
    assert time.monotonic() - began < 5
    assert 1 <= len(found.measurements) < 20


def test_a_wish_to_stop_is_heard(package: tuple[Path, ModelManifest], context: JobContext) -> None:
    context.stop_requested = StopReason.PAUSE
    with pytest.raises(Stopped):
        measure(context, *package, random_samples(package[1]), exact)


def test_a_model_with_a_fixed_batch_is_measured_by_whole_batches(
    tmp_path: Path, context: JobContext
) -> None:
    (tmp_path / "model.onnx").write_bytes(linear_onnx((6,), 3, batch=5))
    manifest = manifest_of((6,), ["a", "b", "c"], batch=5)
    found = measure(context, tmp_path, manifest, random_samples(manifest, rows=7), exact)
    assert [item.is_kept for item in found.measurements].count(True) == 1


def test_random_rows_have_the_shapes_and_types_that_the_model_takes() -> None:
    manifest = manifest_of((6,), ["a"])
    media = ImageInput(height=8, width=9, channels=3, scale=1.0, input="x", shape=[3, 8, 9])
    inputs = [
        TensorSpec(name="x", dtype="float32", shape=[None, 3, None, None]),
        TensorSpec(name="ids", dtype="int64", shape=[None, None]),
    ]
    manifest = msgspec.structs.replace(manifest, inputs=inputs, media=media)
    found = random_samples(manifest, rows=4)
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "x": ("float32", (4, 3, 8, 9)),
        "ids": ("int64", (4, 16)),
    }


def test_another_packages_runtime_is_tried_beside_our_own(tmp_path: Path) -> None:
    manifest = manifest_of((6,), ["a"])
    form = RuntimeForm(file="model.bin", options={"speed": "high"})
    both = msgspec.structs.replace(manifest, runtimes={**manifest.runtimes, "theirs": form})
    listed = list(ways.list_ways(tmp_path, both))
    assert Way("theirs", "model.bin", {"speed": "high"}, 1) in listed
    assert listed[0] == Way("onnxruntime", "model.onnx", {"graph_optimization": "all"}, 1)
