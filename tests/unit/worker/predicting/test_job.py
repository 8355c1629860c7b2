"""Batch predictions: every row once, the model's own answers, resumed wherever they ended."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modelry.core.errors import InvalidInput, NotFound, WrongDataKind
from modelry.core.events import Checkpoint, Note, decode_events
from modelry.core.files import FileRef
from modelry.core.manifests import ImageInput, read_dataset
from modelry.core.results import MadeDataset, made_dataset
from modelry.core.specs import OutcomeStatus, StopReason
from modelry.worker.context import JobContext, Stopped
from modelry.worker.data.picturing import encode_png
from modelry.worker.predicting import job
from modelry.worker.tasks import image_tensor
from tests.conftest import Importer
from tests.unit.worker.data.making import npz, picture_files
from tests.unit.worker.predicting.making import Batches, manifest_of, put_model, weights_of

LABELS = [str(digit) for digit in range(10)]
PLAIN = ImageInput(height=28, width=28, channels=1, scale=1 / 255, input="x", shape=[28, 28, 1])


@pytest.fixture
def digits(importer: Importer) -> MadeDataset:
    return importer.builtin("digits")


@pytest.fixture
def batches(importer: Importer, digits: MadeDataset) -> Batches:
    """A linear model over the digits."""
    model = put_model(importer.artifacts, manifest_of((28, 28, 1), LABELS, media=PLAIN))
    return Batches(importer.root, digits.files, model)


def run(context: JobContext) -> MadeDataset:
    try:
        made = made_dataset(job.run(context))
    finally:
        context.close()
    assert made is not None
    return made


def columns(made: MadeDataset, importer: Importer, split: str) -> dict[str, Any]:
    """A part of the answers, shard after shard."""
    names = made.manifest.splits[split].files
    digests = {file.path: file.digest for file in made.files}
    tables = [pq.read_table(importer.artifacts.local_path(digests[name])) for name in names]
    parts = [table.to_pydict() for table in tables]
    return {name: sum((part[name] for part in parts), []) for name in parts[0]}


def events(importer: Importer, number: int) -> list[Any]:
    path = importer.root / "run" / f"batch-{number}" / "events.jsonl"
    return decode_events(path.read_bytes())[0]


def newest_checkpoint(importer: Importer, number: int) -> list[FileRef] | None:
    found = [event.files for event in events(importer, number) if isinstance(event, Checkpoint)]
    return found[-1] if found else None


def softmax(values: Any) -> Any:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def test_every_row_has_the_models_own_answer_and_its_label(
    batches: Batches, digits: MadeDataset, importer: Importer
) -> None:
    made = run(batches.start(max_batch=7))
    assert {file.path for file in made.files} == {
        "train-00000.parquet",
        "test-00000.parquet",
        "dataset.json",
    }
    for split in ("train", "test"):
        rows = importer.open(digits).split(split)
        inputs = rows.inputs.reshape(rows.rows, -1).astype(np.float32) / 255
        expected = softmax(inputs @ weights_of(784, 10))
        found = columns(made, importer, split)
        assert found["row"] == list(range(rows.rows))
        assert found["label"] == rows.labels.tolist()  # type: ignore[union-attr]
        assert found["predicted"] == expected.argmax(axis=1).tolist()
        assert np.array(found["predicted_probabilities"]) == pytest.approx(expected, abs=1e-5)
        assert found["predicted_score"] == pytest.approx(expected.max(axis=1), abs=1e-5)


def test_the_new_data_set_describes_itself(
    batches: Batches, digits: MadeDataset, importer: Importer
) -> None:
    made = run(batches.start())
    manifest = made.manifest
    [described] = [file for file in made.files if file.path == "dataset.json"]
    assert read_dataset(importer.artifacts.read_bytes(described.digest)) == manifest
    kinds = {name: feature.kind for name, feature in manifest.features.items()}
    assert kinds == {
        "row": "number",
        "label": "label",
        "predicted": "label",
        "predicted_score": "number",
        "predicted_probabilities": "tensor",
    }
    assert manifest.target == "label"
    assert manifest.source["data"] == "digits:2"
    assert manifest.source["model"] == "mnist:3"
    assert manifest.source["data_fingerprint"] == digits.manifest.fingerprint
    rows = sum(split.rows for split in manifest.splits.values())
    assert sum(manifest.statistics["predicted"]["counts"].values()) == rows
    assert 0.1 <= manifest.statistics["predicted_score"]["minimum"] <= 1
    assert manifest.statistics["label"] == digits.manifest.statistics["label"]
    assert manifest.preview[0]["label"] in LABELS
    assert len(manifest.preview) == 8
    [accuracy] = [e.value for e in events(importer, 1) if isinstance(e, Note)]
    right = [
        sum(a == b for a, b in zip(part["label"], part["predicted"], strict=True))
        for part in (columns(made, importer, split) for split in manifest.splits)
    ]
    assert accuracy == pytest.approx(sum(right) / rows)


def test_one_split_may_be_asked_for(batches: Batches, importer: Importer) -> None:
    made = run(batches.start(split="test"))
    assert list(made.manifest.splits) == ["test"]
    assert "label" not in made.manifest.statistics
    with pytest.raises(NotFound, match="validation"):
        run(batches.start(split="validation"))


def test_the_same_answers_are_the_same_version_whatever_the_portions(batches: Batches) -> None:
    prints = {run(batches.start(checkpoint_s=pause)).manifest.fingerprint for pause in (0.0, 10.0)}
    assert len(prints) == 1


class Killed(BaseException):
    """As if the process had ended here."""


def killed_after(context: JobContext, checkpoints: int, rows: int) -> None:
    """The process dies `rows` portions after so many checkpoints."""
    keep, tell = context.checkpoint, context.progress
    seen = {"kept": 0, "after": 0}

    def count(step: int, files: Any) -> None:
        keep(step, files)
        seen["kept"] += 1

    def die(phase: str, **more: Any) -> None:
        tell(phase, **more)
        if seen["kept"] >= checkpoints:
            seen["after"] += 1
            if seen["after"] > rows:
                raise Killed

    context.checkpoint, context.progress = count, die  # type: ignore[method-assign]


@pytest.mark.parametrize("checkpoints", [1, 3])
def test_wherever_it_is_killed_every_row_is_there_exactly_once(
    checkpoints: int, batches: Batches, importer: Importer
) -> None:
    whole = run(batches.start(max_batch=16))
    kept: list[FileRef] | None = None
    lives = 0
    made: MadeDataset | None = None
    while made is None:
        context = batches.start(kept, max_batch=16, checkpoint_s=0.0)
        killed_after(context, checkpoints, rows=5)
        try:
            made = run(context)
        except Killed:
            lives += 1
            kept = newest_checkpoint(importer, batches.count)
    assert lives > 3
    for split in ("train", "test"):
        found, expected = (columns(one, importer, split) for one in (made, whole))
        assert found == expected
    assert made.manifest.fingerprint == whole.manifest.fingerprint
    assert made.manifest.statistics["predicted"] == whole.manifest.statistics["predicted"]
    assert made.manifest.preview == whole.manifest.preview


def test_a_death_after_the_last_row_costs_nothing(batches: Batches, importer: Importer) -> None:
    whole = run(batches.start())
    kept = newest_checkpoint(importer, 1)
    again = run(batches.start(kept))
    assert again.manifest == whole.manifest
    assert not [event for event in events(importer, 2) if isinstance(event, Checkpoint)]


def test_a_pause_keeps_what_was_done_and_a_cancel_keeps_nothing(
    batches: Batches, importer: Importer
) -> None:
    for reason, status in (
        (StopReason.PAUSE, OutcomeStatus.PAUSED),
        (StopReason.CANCEL, OutcomeStatus.CANCELLED),
    ):
        context = batches.start()
        context.stop_requested = reason
        with pytest.raises(Stopped) as stop:
            run(context)
        assert stop.value.status is status
        kept = newest_checkpoint(importer, batches.count)
        assert (kept is not None) == (reason is StopReason.PAUSE)


def test_a_fixed_batch_is_filled_up(importer: Importer, digits: MadeDataset) -> None:
    model = manifest_of((28, 28, 1), LABELS, media=PLAIN, batch=50)
    fixed = Batches(importer.root, digits.files, put_model(importer.artifacts, model))
    made = run(fixed.start())
    rows = made.manifest.splits["test"].rows
    assert columns(made, importer, "test")["row"] == list(range(rows))


def test_encoded_images_are_fitted_as_served_ones_are(importer: Importer) -> None:
    data = importer.upload(picture_files(["猫", "dog"], each=10))
    model = manifest_of((28, 28, 1), ["猫", "dog"], media=PLAIN)
    made = run(Batches(importer.root, data.files, put_model(importer.artifacts, model)).start())
    assert made.manifest.features["predicted"].labels == ["猫", "dog"]
    assert sum(split.rows for split in made.manifest.splits.values()) == 20


def test_stored_pixels_are_fitted_where_the_model_sees_pictures_otherwise(
    digits: MadeDataset, importer: Importer
) -> None:
    media = ImageInput(height=14, width=14, channels=1, scale=1.0, input="x", shape=[14, 14, 1])
    model = manifest_of((14, 14, 1), LABELS, media=media, activation="none")
    made = run(Batches(importer.root, digits.files, put_model(importer.artifacts, model)).start())
    rows = importer.open(digits).split("test").inputs[:5]
    fitted = np.stack([image_tensor(encode_png(row), media) for row in rows]).reshape(5, -1)
    found = columns(made, importer, "test")["predicted_probabilities"][:5]
    assert np.array(found) == pytest.approx(fitted @ weights_of(196, 10), rel=1e-4)


def table(rows: int) -> dict[str, bytes]:
    random = np.random.default_rng(1)
    lines = [
        f"{age:.3f},{income:.3f},{'ab'[row % 2]},note {row},{'yes' if age > income else 'no'}"
        for row, (age, income) in enumerate(random.normal(size=(rows, 2)))
    ]
    return {"people.csv": "\n".join(["age,income,group,note,answer", *lines]).encode()}


@pytest.fixture
def people(importer: Importer) -> MadeDataset:
    return importer.upload(table(60), target="answer")


def test_a_table_feeds_the_columns_that_the_model_names(
    people: MadeDataset, importer: Importer
) -> None:
    model = manifest_of((2,), ["no", "yes"], columns=["income", "age"])
    made = run(Batches(importer.root, people.files, put_model(importer.artifacts, model)).start())
    assert list(made.manifest.features)[:6] == ["row", "age", "income", "group", "note", "answer"]
    found = columns(made, importer, "test")
    inputs = np.array([found["income"], found["age"]], np.float32).T
    assert found["predicted"] == (inputs @ weights_of(2, 2)).argmax(axis=1).tolist()


def test_a_model_without_labels_gives_its_numbers(people: MadeDataset, importer: Importer) -> None:
    model = manifest_of((2,), [], outputs=3, activation="none")
    made = run(Batches(importer.root, people.files, put_model(importer.artifacts, model)).start())
    found = columns(made, importer, "test")
    inputs = np.array([found["age"], found["income"]], np.float32).T
    assert np.array(found["output"]) == pytest.approx(inputs @ weights_of(2, 3), abs=1e-5)
    assert made.manifest.features["output"].shape == [3]
    assert {"minimum", "maximum", "mean", "std"} == set(made.manifest.statistics["output"])


def test_columns_of_the_data_keep_their_names(importer: Importer) -> None:
    text = table(60)["people.csv"].decode().replace("note", "predicted", 1)
    data = importer.upload({"people.csv": text.encode()}, target="answer")
    model = manifest_of((2,), ["no", "yes"])
    made = run(Batches(importer.root, data.files, put_model(importer.artifacts, model)).start())
    assert made.manifest.features["predicted"].kind == "text"
    assert made.manifest.features["predicted_2"].kind == "label"


def test_data_that_do_not_fit_are_refused_before_anything_runs(
    people: MadeDataset, importer: Importer
) -> None:
    for model in (
        manifest_of((3,), ["no", "yes"]),
        manifest_of((2,), ["no", "yes"], columns=["age", "weight"]),
        manifest_of((28, 28, 1), LABELS, media=PLAIN),
    ):
        files = put_model(importer.artifacts, model)
        with pytest.raises(WrongDataKind) as refusal:
            run(Batches(importer.root, people.files, files).start())
        assert refusal.value.remedy


def test_an_answer_that_is_no_number_names_its_row(importer: Importer) -> None:
    values = np.ones((40, 2), np.float64)
    values[23] = 1e38
    data = importer.upload({"x.npz": npz(x=values, y=np.arange(40) % 2)}, test_share=0.1)
    model = put_model(importer.artifacts, manifest_of((2,), ["0", "1"], activation="none"))
    batches = Batches(importer.root, data.files, model)
    made = run(batches.start())
    assert made.manifest.statistics["predicted_score"]["maximum"] > 1e30
    values[23] = 1e39
    data = importer.upload({"x.npz": npz(x=values, y=np.arange(40) % 2)}, test_share=0.1)
    with pytest.raises(InvalidInput, match=r"row \d+ of 't(rain|est)' is no number"):
        run(Batches(importer.root, data.files, model).start())


def test_memory_stays_flat_however_many_rows_there_are(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelry.worker.predicting.writing._GROUP_BYTES", 1 << 16)
    peaks = []
    for rows in (4_000, 40_000):
        values = np.random.default_rng(0).integers(0, 255, (rows, 8, 8), dtype=np.uint8)
        data = importer.upload({"x.npz": npz(x=values, y=np.arange(rows) % 3)})
        model = put_model(importer.artifacts, manifest_of((8, 8, 1), ["a", "b", "c"]))
        batches = Batches(importer.root, data.files, model)
        batches.count = rows
        attempt = batches.start(max_batch=256)
        tracemalloc.start()
        run(attempt)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5
