"""Every kind of data: what is learned is served, alone and in batches, and a resume changes nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from modelry.artifacts import Artifacts
from modelry.core.errors import NotConvertible, UnsafeFile
from modelry.core.jobs import check_train_params
from modelry.core.learning import plan_lesson
from modelry.core.manifests import AudioInput, ModelManifest, TableInput, TextInput
from modelry.core.recipes import get_recipe
from modelry.core.results import MadeDataset, MadeModel, made_model
from modelry.core.specs import StopReason
from modelry.core.tables import encode_rows
from modelry.worker.context import Stopped
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.reading import open_dataset
from modelry.worker.models.package import load_recipe_model
from modelry.worker.models.runtimes.base import Runtime, load_runtime
from modelry.worker.models.verify import original
from modelry.worker.predicting.feeding import Package
from modelry.worker.tasks.tokens import tokenizer_of
from modelry.worker.training import job, loop
from tests.importing import ModelImporter
from tests.unit.worker.training import making
from tests.unit.worker.training.conftest import Attempts


@dataclass(frozen=True)
class Case:
    """A recipe on a kind of data, and what it must reach at least."""

    recipe: str
    data: Callable[[Path], MadeDataset]
    params: dict[str, Any]
    task: str
    score: str
    at_least: float


CASES = {
    "texts, recurrent": Case(
        "rnn",
        making.texts,
        {"hidden": 16, "embedding": 16, "epochs": 8, "batch_size": 16, "learning_rate": 0.01},
        "text-classification",
        "accuracy",
        0.95,
    ),
    "texts, transformer": Case(
        "transformer-classifier",
        making.texts,
        {"width": 16, "feedforward": 32, "epochs": 10, "batch_size": 16, "learning_rate": 0.01},
        "text-classification",
        "accuracy",
        0.95,
    ),
    "sequences": Case(
        "rnn",
        making.sequences,
        {"cell": "gru", "hidden": 16, "layers": 1, "pooling": "mean", "epochs": 6},
        "sequence-classification",
        "accuracy",
        0.9,
    ),
    "recordings": Case(
        "speech-commands",
        making.recordings,
        {
            "channels": [4, 8, 8],
            "mels": 16,
            "mel_mask": 3,
            "seconds": 0.3,
            "epochs": 5,
            "batch_size": 16,
            "learning_rate": 0.01,
        },
        "audio-classification",
        "accuracy",
        0.9,
    ),
    "table to labels": Case(
        "mlp",
        lambda root: making.table(root, "classification"),
        {"hidden": [32], "epochs": 30, "batch_size": 32},
        "tabular-classification",
        "accuracy",
        0.85,
    ),
    "table to a number": Case(
        "mlp",
        lambda root: making.table(root, "regression"),
        {"hidden": [32], "epochs": 30, "batch_size": 32, "dropout": 0.0},
        "tabular-regression",
        "r2",
        0.8,
    ),
    "series": Case(
        "forecast",
        making.series,
        {
            "window": 12,
            "horizon": 3,
            "season": 12,
            "hidden": 16,
            "dropout": 0.0,
            "epochs": 25,
            "batch_size": 32,
            "learning_rate": 0.01,
        },
        "time-series-forecasting",
        "gain",
        0.1,
    ),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def order(case: Case, data: MadeDataset, **more: Any) -> dict[str, Any]:
    kind = plan_lesson(get_recipe(case.recipe), data.manifest, "mine").kind
    params = check_train_params(case.recipe, {**case.params, **more}, None, kind)
    return {
        "params": {"recipe": case.recipe, "params": params, "model": "mine"},
        "inputs": {"data": data.files},
        "names": {"data": {"name": "mine", "version": 1, "fingerprint": "f"}},
    }


@dataclass(frozen=True, eq=False)
class Made:
    """A trained package, unpacked."""

    made: MadeModel
    folder: Path
    data: MadeDataset

    @property
    def manifest(self) -> ModelManifest:
        return self.made.manifest

    @property
    def runtime(self) -> Runtime:
        return load_runtime(self.folder, self.manifest, 1)

    def ask(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        name = self.manifest.inputs[0].name
        return self.runtime.run({name: inputs})[self.manifest.outputs[0].name]


def train(case: Case, attempts: Attempts, root: Path, **more: Any) -> Made:
    data = case.data(root)
    made = made_model(job.run(attempts.start(**order(case, data, **more))))
    assert made is not None
    return unpack(made, data, root)


def unpack(made: MadeModel, data: MadeDataset, root: Path) -> Made:
    folder = root / "package"
    shutil.rmtree(folder, ignore_errors=True)
    Artifacts(str(root / "blobs")).fetch(made.files, folder)
    return Made(made, folder, data)


@pytest.fixture
def rooted(tmp_path: Path) -> Iterator[Attempts]:
    torch.set_num_threads(1)
    made = Attempts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def model_importer(tmp_path: Path) -> ModelImporter:
    return ModelImporter(tmp_path / "importing")


def test_it_learns_and_serves_what_it_learned(case: Case, rooted: Attempts, tmp_path: Path) -> None:
    model = train(case, rooted, tmp_path)
    manifest = model.manifest
    assert manifest.task == case.task
    assert manifest.metrics[case.score] >= case.at_least
    assert manifest.runtimes["onnxruntime"].verification is not None
    network = load_recipe_model(model.folder)
    rows = network.example(4).numpy()
    assert np.allclose(model.ask(rows), original(network)(rows), atol=1e-4, rtol=1e-4)


def test_a_resumed_training_ends_with_the_same_weights(
    case: Case, rooted: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = case.data(tmp_path)
    wish = order(case, data, epochs=2, dropout=0.2, validation=0.2, patience=2)
    whole = made_model(job.run(rooted.start(**wish)))
    assert whole is not None
    expected = load_recipe_model(unpack(whole, data, tmp_path).folder).state_dict()

    context = rooted.start(**wish)
    take = loop.Training._take_step

    def stopping(self: loop.Training, index: torch.Tensor) -> bool:
        if self.counters.step == 4:
            context.stop_requested = StopReason.SHUTDOWN
        return take(self, index)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Training, "_take_step", stopping)
        with pytest.raises(Stopped):
            job.run(context)
    made = made_model(job.run(rooted.start(checkpoint=rooted.newest_checkpoint(), **wish)))
    assert made is not None
    found = load_recipe_model(unpack(made, data, tmp_path).folder).state_dict()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_text_is_read_alike_in_training_and_in_serving(rooted: Attempts, tmp_path: Path) -> None:
    model = train(CASES["texts, recurrent"], rooted, tmp_path)
    assert isinstance(model.manifest.media, TextInput)
    package = Package(model.manifest, model.folder)
    tokens = tokenizer_of(package)
    rows = tokens.rows(
        [tokens.encode(text)[0] for text in ("w1 ROT w2", "GRÜN", "w3 w4 蓝 w5 w6 w7")]
    )
    said = [model.manifest.labels[best] for best in model.ask(rows["ids"]).argmax(axis=1)]
    assert said == ["red", "green", "blue"]


@pytest.mark.parametrize("name", ["texts, recurrent", "texts, transformer"])
def test_a_text_that_looks_like_padding_or_is_empty_is_answered_alike_alone_and_in_a_batch(
    name: str, rooted: Attempts, tmp_path: Path
) -> None:
    model = train(CASES[name], rooted, tmp_path, epochs=2)
    tokens = tokenizer_of(Package(model.manifest, model.folder))
    texts = ["", "[PAD]", "[PAD] w1 Rot", "w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 grün"]
    encodings = [tokens.encode(text)[0] for text in texts]
    assert 0 not in encodings[1].ids
    assert len(encodings[2].ids) > 2
    together = model.ask(tokens.rows(encodings)["ids"])
    for encoding, answer in zip(encodings, together, strict=True):
        [alone] = model.ask(tokens.rows([encoding])["ids"])
        assert np.allclose(alone, answer, atol=1e-5)


def test_a_missing_number_inside_a_sequence_shortens_nothing(
    rooted: Attempts, tmp_path: Path
) -> None:
    model = train(CASES["sequences"], rooted, tmp_path)
    nan = np.nan
    rows = [[[-3, 0], [nan, nan], [-3, 0], [-3, 0]], [[-3, 0], [nan, 0], [-3, nan], [nan, nan]]]
    answers = model.ask(np.array(rows, np.float32))
    network = original(load_recipe_model(model.folder))
    assert np.allclose(answers, network(np.array(rows, np.float32)), atol=1e-5)
    assert np.isfinite(answers).all()
    cut = np.array(rows[:1], np.float32)[:, :1]
    assert not np.allclose(model.ask(cut)[0], answers[0], atol=1e-4)


def test_a_start_for_another_unit_keeps_the_units_of_its_own_data(
    rooted: Attempts, tmp_path: Path
) -> None:
    case = CASES["table to a number"]
    first = train(case, rooted, tmp_path)

    def thousandths(root: Path) -> MadeDataset:
        def split(columns: dict[str, Any]) -> dict[str, Any]:
            return {**columns, "price": np.asarray(columns["price"]) / 1000}

        made = making.table(root, "regression")
        train_rows, test_rows = (
            pq.read_table(root / f"{name}.parquet").to_pydict() for name in ("train", "test")
        )
        return making.store_dataset(
            root, made.manifest.features, "price", train=split(train_rows), test=split(test_rows)
        )

    other = dataclasses.replace(case, data=thousandths)
    data = other.data(tmp_path)
    wish = order(other, data, epochs=1)
    wish["inputs"]["model"] = first.made.files
    wish["names"]["model"] = {"name": "mine", "version": 1}
    again = made_model(job.run(rooted.start(**wish)))
    assert again is not None
    assert again.manifest.metrics["r2"] >= 0.7


def test_what_was_never_missing_in_training_is_known_when_it_is(
    rooted: Attempts, tmp_path: Path
) -> None:
    def whole(root: Path) -> MadeDataset:
        def split(rows: int, seed: int) -> dict[str, Any]:
            random = np.random.default_rng(seed)
            size, color = random.normal(0, 1, rows), random.choice(["red", "green"], rows)
            label = (size + np.where(color == "red", 1.0, -1.0) > 0).astype(np.int64)
            return {"size": size, "color": color.tolist(), "label": label}

        label = making.Feature(kind="label", dtype="int64", labels=["no", "yes"])
        features = {"size": making.NUMBER, "color": making.CATEGORY, "label": label}
        return making.store_dataset(
            root, features, "label", train=split(2000, 0), test=split(200, 1)
        )

    case = Case("mlp", whole, {"hidden": [32], "epochs": 20, "batch_size": 64}, "", "", 0)
    model = train(case, rooted, tmp_path)
    media = model.manifest.media
    assert isinstance(media, TableInput)
    nothing = encode_rows([{"size": None, "color": None}, {"size": None, "color": "blue"}], media)
    assert np.abs(model.ask(nothing)[:, 1] - 0.5).max() < 0.25


def test_padding_changes_no_answer(case: Case, rooted: Attempts, tmp_path: Path) -> None:
    model = train(case, rooted, tmp_path, epochs=1)
    spec = model.manifest.inputs[0]
    if None not in spec.shape[1:]:
        return
    is_zero = spec.dtype == "int64" or isinstance(model.manifest.media, AudioInput)
    fill = 0 if is_zero else np.nan
    row = load_recipe_model(model.folder).example(1).numpy()
    padded = np.concatenate((row, np.full_like(row, fill), np.full_like(row, fill)), axis=1)
    assert np.allclose(model.ask(padded), model.ask(row), atol=1e-5)
    # A row of nothing but padding is an answer too, not a crash.
    assert np.isfinite(model.ask(np.full_like(row, fill))).all()


def test_a_table_of_names_is_read_alike_by_doors_and_workers(
    rooted: Attempts, tmp_path: Path
) -> None:
    model = train(CASES["table to labels"], rooted, tmp_path, epochs=1)
    media = model.manifest.media
    assert isinstance(media, TableInput)
    assert [(one.name, one.categories) for one in media.columns] == [
        ("size", None),
        ("color", ["blue", "green", "red"]),
        ("noise", ["a", "b"]),
    ]
    folder = tmp_path / "data"
    Artifacts(str(tmp_path / "blobs")).fetch(model.data.files, folder)
    columns = open_dataset(folder).table("test", [one.name for one in media.columns])
    by_worker = column_numbers(columns, media.columns)
    by_door = encode_rows(columns.to_pylist(), media)
    assert np.array_equal(by_worker, by_door, equal_nan=True)
    assert np.isnan(by_door).any()
    strange = encode_rows([{"size": None, "color": "octarine", "noise": None}], media)
    assert np.isfinite(model.ask(strange)).all()


def test_rare_labels_weigh_more_where_it_is_wished(rooted: Attempts, tmp_path: Path) -> None:
    def recall(class_weights: str) -> float:
        rare = Case(
            "mlp",
            _rare,
            {"hidden": [8], "epochs": 15, "batch_size": 32, "class_weights": class_weights},
            "",
            "",
            0,
        )
        metrics = train(rare, rooted, tmp_path).manifest.metrics
        return float(metrics["classes"][1]["recall"])

    assert recall("balanced") > recall("none") + 0.2


def test_an_exported_package_is_built_anew_and_answers_as_before(
    case: Case, rooted: Attempts, tmp_path: Path, model_importer: ModelImporter
) -> None:
    model = train(case, rooted, tmp_path, epochs=1)
    files = {path.name: path.read_bytes() for path in model.folder.iterdir()}
    runtime, manifest, _ = model_importer.open(model_importer.upload(files))
    assert manifest.recipe == model.manifest.recipe
    assert manifest.media == model.manifest.media
    rows = load_recipe_model(model.folder).example(3).numpy()
    again = runtime.run({manifest.inputs[0].name: rows})[manifest.outputs[0].name]
    assert np.allclose(again, model.ask(rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        {"tokens": 10**15, "classes": 3},
        {"tokens": -1, "classes": 3},
        {"tokens": "many", "classes": 3},
        {"tokens": [8] * 100_000, "classes": 3},
        {"tokens": 900, "classes": 4},
        {"rows": 8, "classes": 3},
        {"classes": 3},
        {"tokens": 900},
    ],
)
def test_a_package_of_impossible_sizes_is_refused_before_memory_is_taken(
    sizes: dict[str, Any], rooted: Attempts, tmp_path: Path, model_importer: ModelImporter
) -> None:
    model = train(CASES["texts, recurrent"], rooted, tmp_path, epochs=1)
    files = {path.name: path.read_bytes() for path in model.folder.iterdir()}
    said = json.loads(files["model.json"])
    said["recipe"]["sizes"] = sizes
    with pytest.raises((NotConvertible, UnsafeFile)) as caught:
        model_importer.upload({**files, "model.json": json.dumps(said).encode()})
    assert caught.value.remedy


def _rare(root: Path) -> MadeDataset:
    """One row of twenty is of the label `yes`, which overlaps with `no`."""

    def split(seed: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        label = (random.random(1000) < 0.05).astype(np.int64)
        return {"x": random.normal(1.5 * label), "label": label}

    label = making.Feature(kind="label", dtype="int64", labels=["no", "yes"])
    return making.store_dataset(
        root, {"x": making.NUMBER, "label": label}, "label", train=split(0), test=split(1)
    )
