"""The job `train` from a data set version to a published package, on real digits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from modelry.artifacts import Artifacts
from modelry.core.errors import InvalidParameter, VerificationFailed, WrongDataKind
from modelry.core.events import Event, Metric, Note, Opened
from modelry.core.jobs import check_train_params
from modelry.core.manifests import ImageInput, read_model
from modelry.core.results import MadeDataset, MadeModel, made_model
from modelry.core.specs import OutcomeStatus, StopReason
from modelry.worker.context import JobContext, Stopped
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.models.package import load_recipe_model
from modelry.worker.models.runtimes import load_runtime
from modelry.worker.models.verify import original
from modelry.worker.training import job, publishing
from tests.unit.worker.training.conftest import Attempts

if TYPE_CHECKING:
    from tests.conftest import Importer

TINY: dict[str, Any] = {"channels": [4], "hidden": [8], "epochs": 2, "learning_rate": 0.01}


@pytest.fixture
def attempts(importer: Importer) -> Iterator[Attempts]:
    """Training attempts over the importer's artifacts."""
    made = Attempts(importer.root)
    yield made
    made.close()


@pytest.fixture
def digits(importer: Importer) -> MadeDataset:
    return importer.builtin("digits")


def spec(data: MadeDataset, recipe: str = "cnn", **given: Any) -> dict[str, Any]:
    settings = {**TINY, **given} if recipe == "cnn" else given
    return {
        "params": {
            "recipe": recipe,
            "params": check_train_params(recipe, settings, None),
            "model": "digits",
        },
        "inputs": {"data": data.files},
        "names": {"data": {"name": "digits", "version": 1, "fingerprint": "f1"}},
    }


def train(attempts: Attempts, **spec: Any) -> MadeModel:
    made = made_model(job.run(attempts.start(**spec)))
    assert made is not None
    return made


def unpacked(made: MadeModel, importer: Importer) -> Path:
    folder = importer.root / "package"
    shutil.rmtree(folder, ignore_errors=True)
    Artifacts(str(importer.root / "blobs")).fetch(made.files, folder)
    return folder


def opened(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.split, event.rows) for event in events if isinstance(event, Opened)]


def test_digits_become_a_package_that_serves_what_was_trained(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    made = train(attempts, **spec(digits))
    manifest = made.manifest
    assert manifest.task == "image-classification"
    assert manifest.inputs[0].shape == [None, 28, 28, 1]
    assert (manifest.inputs[0].name, manifest.outputs[0].name) == ("x", "probabilities")
    assert manifest.labels == [str(digit) for digit in range(10)]
    assert manifest.media == ImageInput(
        height=28, width=28, channels=1, scale=1 / 255, input="x", shape=[28, 28, 1]
    )
    assert {file.path for file in made.files} == {"model.json", "model.onnx", "weights.safetensors"}
    folder = unpacked(made, importer)
    assert read_model((folder / "model.json").read_bytes()) == manifest

    test = importer.open(digits).split("test")
    rows = test.inputs.astype(np.float32) * np.float32(1 / 255)
    served = load_runtime(folder, manifest, 1).run({"x": rows})["probabilities"]
    network = load_recipe_model(folder)
    assert np.abs(served - original(network)(rows)).max() < 1e-5
    accuracy = float((served.argmax(axis=1) == test.labels).mean())
    assert manifest.metrics["accuracy"] == pytest.approx(accuracy)
    assert accuracy > 0.6
    assert np.sum(manifest.metrics["confusion"]) == test.rows


def test_a_model_tells_where_it_came_from_and_how_it_was_verified(
    digits: MadeDataset, attempts: Attempts
) -> None:
    manifest = train(attempts, threads=1, **spec(digits, seed=7)).manifest
    lineage = manifest.lineage
    assert (lineage["job"], lineage["attempt"], lineage["seed"]) == ("job_a", 1, 7)
    assert lineage["data"] == {"name": "digits", "version": 1, "fingerprint": "f1"}
    assert lineage["recipe"]["params"]["seed"] == 7
    assert lineage["environment"]["torch"] == torch.__version__
    verification = manifest.runtimes["onnxruntime"].verification
    assert verification.samples >= 256
    assert verification.batch_sizes == [1, 3, 32]
    assert verification.max_difference <= verification.tolerance
    assert verification.disagreements == 0


def test_the_test_split_is_opened_once_and_only_after_training(
    digits: MadeDataset, attempts: Attempts
) -> None:
    train(attempts, **spec(digits))
    events = attempts.events()
    splits = digits.manifest.splits
    assert opened(events) == [("train", splits["train"].rows), ("test", splits["test"].rows)]
    test_at = next(n for n, e in enumerate(events) if isinstance(e, Opened) and e.split == "test")
    assert not [event for event in events[test_at:] if isinstance(event, Metric)]
    assert Note in {type(event) for event in events[:test_at]}


def test_pictures_are_read_row_by_row_by_a_recurrent_network(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    given = {"hidden": 8, "layers": 1, "epochs": 1, "cell": "gru", "batch_size": 128}
    made = train(attempts, **spec(digits, "rnn", **given))
    assert made.manifest.inputs[0].shape == [None, 28, 28]
    assert made.manifest.media is not None
    assert made.manifest.media.shape == [28, 28]
    assert load_recipe_model(unpacked(made, importer)).input_shape == (28, 28)


def test_a_stop_after_the_training_loses_nothing_and_publishes_the_same(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    order = spec(digits)
    whole = load_recipe_model(unpacked(train(attempts, **order), importer)).state_dict()
    context = attempts.start(**order)
    stop_when(context, "evaluating")
    with pytest.raises(Stopped) as stop:
        job.run(context)
    assert stop.value.status is OutcomeStatus.PAUSED
    made = train(attempts, checkpoint=attempts.newest_checkpoint(), **order)
    assert not [event for event in attempts.events() if isinstance(event, Metric)]
    resumed = load_recipe_model(unpacked(made, importer)).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_a_stop_with_the_last_step_leaves_the_test_split_closed(
    digits: MadeDataset, attempts: Attempts
) -> None:
    context = attempts.start(**spec(digits))
    keep = context.checkpoint

    def last(step: int, files: dict[str, Path | bytes]) -> None:
        keep(step, files)
        context.stop_requested = StopReason.SHUTDOWN

    context.checkpoint = last  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        job.run(context)
    assert [split for split, _ in opened(attempts.events())] == ["train"]


def stop_when(context: JobContext, phase: str) -> None:
    """Wishes a pause when the job says that it has come to this phase."""
    say = context.progress

    def watched(said: str, **numbers: Any) -> None:
        say(said, **numbers)
        if said == phase:
            context.stop_requested = StopReason.PAUSE

    context.progress = watched  # type: ignore[method-assign]


def test_a_table_is_refused_before_a_row_is_read(importer: Importer, attempts: Attempts) -> None:
    rows = "".join(f"{n},{n * 2},{'ab'[n % 2]}\n" for n in range(20))
    table = importer.upload({"t.csv": ("x,y,kind\n" + rows).encode()}, target="kind")
    with pytest.raises(WrongDataKind, match="the recipe takes image or tensor"):
        job.run(attempts.start(**spec(table)))
    assert opened(attempts.events()) == []


def test_a_network_without_pixels_is_refused_before_a_row_is_read(
    digits: MadeDataset, attempts: Attempts
) -> None:
    with pytest.raises(InvalidParameter, match="leaves no pixels"):
        job.run(attempts.start(**spec(digits, channels=[4] * 6)))
    assert opened(attempts.events()) == []


def test_a_form_that_is_not_the_network_is_not_published(
    digits: MadeDataset, attempts: Attempts, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_another(network: Any, file: Path) -> None:
        with torch.no_grad():
            network.get_parameter("classes.weight").add_(0.05)
            write_onnx(network, file)
            network.get_parameter("classes.weight").mul_(-1.0)

    monkeypatch.setattr(publishing, "write_onnx", write_another)
    with pytest.raises(VerificationFailed):
        job.run(attempts.start(**spec(digits)))
    blobs = [path for path in (importer.root / "blobs").rglob("*") if path.is_file()]
    assert blobs
    assert not [path for path in blobs if b'"runtimes"' in path.read_bytes()]


@pytest.mark.parametrize(
    ("shape", "channels", "media_shape"),
    [((12, 10), 1, (12, 10, 1)), ((12, 10, 3), 3, (12, 10, 3))],
)
def test_bytes_in_the_shape_of_pictures_take_pictures(
    shape: tuple[int, ...],
    channels: int,
    media_shape: tuple[int, ...],
    importer: Importer,
    attempts: Attempts,
) -> None:
    made = train(attempts, **spec(arrays(importer, np.uint8, shape), epochs=1))
    assert made.manifest.media is not None
    assert made.manifest.media.channels == channels
    assert tuple(made.manifest.media.shape) == media_shape


def test_numbers_that_are_no_bytes_take_tensors_only(
    importer: Importer, attempts: Attempts
) -> None:
    data = arrays(importer, np.float32, (9, 4))
    given = {"hidden": 4, "layers": 1, "epochs": 1}
    assert train(attempts, **spec(data, "rnn", **given)).manifest.media is None


def arrays(importer: Importer, dtype: Any, shape: tuple[int, ...]) -> MadeDataset:
    random = np.random.default_rng(0)
    values = random.integers(0, 255, (40, *shape)).astype(dtype)
    file = importer.root / "data" / "arrays.npz"
    file.parent.mkdir(parents=True)
    np.savez(file, x=values, y=np.arange(40) % 2)
    return importer.path(file.parent)


@pytest.mark.data
def test_a_part_of_mnist_is_learned_in_one_epoch(
    shared_data: Path, importer: Importer, attempts: Attempts
) -> None:
    folder = importer.root / "mnist"
    folder.mkdir(parents=True)
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        shutil.copy(shared_data / "mnist" / name, folder)
    order = spec(importer.path(folder), channels=[8, 16], hidden=[32], epochs=1)
    made = train(attempts, **order)
    assert made.manifest.metrics["accuracy"] > 0.9
