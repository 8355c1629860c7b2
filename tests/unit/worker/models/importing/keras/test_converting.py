"""Whole networks, what the manifest says of them, and what is refused before Keras reads it."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest

from modelry.core.errors import InvalidParameter, NotConvertible, UnsafeFile
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import ImageInput
from modelry.core.specs import JobSpec
from modelry.worker.context import JobContext
from modelry.worker.folder import WorkerFolder
from modelry.worker.models.importing import keras as importing
from modelry.worker.models.importing.keras.allowed import check_configuration
from modelry.worker.models.importing.keras.converting import load_network
from modelry.worker.models.importing.keras.walking import LAYER_NAMES
from modelry.worker.models.importing.keras.weights import check_weights
from modelry.worker.models.importing.sampling import sample_rows
from tests.unit.worker.models.importing.keras.conftest import Convert

import keras  # isort: skip
from keras import layers  # isort: skip

TOLERANCE = 2e-5


def digits() -> Any:
    """The first network of every book."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def test_a_sequential_network_of_pictures(convert: Convert) -> None:
    converted = convert(digits(), preprocess="unit")
    manifest = converted.manifest
    assert manifest.task == "image-classification"
    assert manifest.labels == [str(number) for number in range(10)]
    assert manifest.activation == "none"
    assert manifest.framework == "keras"
    assert isinstance(manifest.media, ImageInput)
    assert manifest.media.shape == [28, 28, 1]
    values = np.random.default_rng(0).random((7, 28, 28, 1), dtype="f4")
    assert max(converted.differences({manifest.inputs[0].name: values})) < TOLERANCE


def test_open_scores_are_finished_by_a_softmax_and_labels_are_the_users(convert: Convert) -> None:
    network = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(3)])
    converted = convert(network, labels=["a", "b", "c"])
    assert (converted.manifest.activation, converted.manifest.labels) == (
        "softmax",
        ["a", "b", "c"],
    )


def test_labels_must_be_as_many_as_the_classes(convert: Convert) -> None:
    with pytest.raises(InvalidParameter, match="labels"):
        convert(digits(), labels=["a", "b"])


def test_branches_shared_layers_several_inputs_and_outputs(convert: Convert) -> None:
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    shared = layers.Dense(5, activation="tanh", name="shared")
    joined = layers.Concatenate()([shared(left), shared(right), left])
    skip = layers.Add()([layers.Dense(16, name="wide")(joined), joined])
    halved = 1.0 - 0.5 * skip + skip / 3.0
    network = keras.Model(
        [left, right],
        [layers.Dense(2, name="first")(halved), layers.Dense(3, name="second")(joined)],
    )
    converted = convert(network)
    assert [spec.name for spec in converted.manifest.inputs] == ["left", "right"]
    assert [spec.name for spec in converted.manifest.outputs] == ["first", "second"]
    random = np.random.default_rng(0)
    inputs = {name: random.uniform(-1, 1, (4, 6)).astype("f4") for name in ("left", "right")}
    assert max(converted.differences(inputs)) < TOLERANCE


def test_networks_inside_networks(convert: Convert) -> None:
    block = keras.Sequential([keras.Input((6,)), layers.Dense(6, activation="relu")], name="block")
    inner = keras.Input((6,))
    residual = keras.Model(inner, layers.Add()([inner, block(inner)]), name="residual")
    outer = keras.Input((6,))
    converted = convert(keras.Model(outer, residual(residual(outer))))
    values = np.random.default_rng(0).uniform(-1, 1, (4, 6)).astype("f4")
    assert max(converted.differences({converted.manifest.inputs[0].name: values})) < TOLERANCE


def test_recurrent_layers_keep_onnxs_own_operators(convert: Convert) -> None:
    network = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
            layers.GRU(8, return_sequences=True),
            layers.SimpleRNN(8),
            layers.Dense(10, activation="softmax"),
        ]
    )
    converted = convert(network)
    graph = onnx.load(converted.folder / "model.onnx").graph
    operators = Counter(node.op_type for node in graph.node)
    assert (operators["LSTM"], operators["GRU"], operators["RNN"]) == (1, 1, 1)
    assert len(graph.node) < 40
    assert not {"Loop", "Scan"} & set(operators)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: layers.LSTM(3, stateful=True), "stateful"),
        (lambda: layers.LSTM(3, activation="softsign"), "softsign"),
        (lambda: layers.MultiHeadAttention(2, 4), "MultiHeadAttention"),
        (lambda: layers.LayerNormalization(axis=1), "something else"),
        (lambda: layers.Masking(0.0), "Masking"),
        (lambda: layers.TimeDistributed(layers.LSTM(3)), "LSTM"),
        (lambda: layers.AveragePooling1D(2, strides=1, padding="same"), "uneven padding"),
    ],
    ids=["stateful", "activation", "attention", "axis", "masking", "inner", "uneven"],
)
def test_what_is_not_known_is_refused_with_the_layers_name(
    convert: Convert, make: Any, words: str
) -> None:
    layer = make()
    is_nested = isinstance(layer, layers.TimeDistributed)
    shape = (2, 3, 4) if is_nested else (5, 4)
    inputs = keras.Input(batch_shape=(2, *shape)) if "stateful" in words else keras.Input(shape)
    is_attention = isinstance(layer, layers.MultiHeadAttention)
    network = keras.Model(inputs, layer(inputs, inputs) if is_attention else layer(inputs))
    with pytest.raises(NotConvertible, match=words) as refusal:
        convert(network)
    assert layer.name in refusal.value.message
    assert "ONNX" in refusal.value.remedy


def test_masks_and_states_from_elsewhere_are_refused(convert: Convert) -> None:
    words = keras.Input((5,))
    with pytest.raises(NotConvertible, match="mask_zero"):
        convert(keras.Model(words, layers.Embedding(9, 3, mask_zero=True)(words)))


def test_a_state_from_another_layer_is_refused(convert: Convert) -> None:
    inputs = keras.Input((5, 3))
    _, *states = layers.LSTM(4, return_state=True)(inputs)
    network = keras.Model(inputs, layers.LSTM(4)(inputs, initial_state=states))
    with pytest.raises(NotConvertible, match="more than one tensor"):
        convert(network)


def test_half_precision_is_refused(convert: Convert) -> None:
    network = keras.Sequential([keras.Input((4,)), layers.Dense(2, dtype="mixed_float16")])
    with pytest.raises(NotConvertible, match="float16"):
        convert(network)


def test_a_network_whose_inputs_were_never_said_is_refused(convert: Convert) -> None:
    with pytest.raises(NotConvertible, match="never said") as refusal:
        convert(keras.Sequential([layers.Dense(2)]), randomise=False)
    assert "keras.Input" in refusal.value.remedy


def doctored(file: Path, change: Any = None, weights: bytes | None = None) -> Path:
    """A saved network with another configuration or other weights."""
    digits().save(file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if change is not None:
        config = json.loads(members["config.json"])
        change(config)
        members["config.json"] = json.dumps(config).encode()
    if weights is not None:
        members["model.weights.h5"] = weights
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file


HOSTILE = {
    "lambda": {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "l"}},
    "marshal": {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
    "another file": {
        "module": "keras.layers",
        "class_name": "TFSMLayer",
        "config": {"filepath": "/tmp/evil"},
    },
    "torch": {
        "module": "keras.layers",
        "class_name": "TorchModuleWrapper",
        "config": {"module": "gASV"},
    },
    "a function": {"module": "builtins", "class_name": "function", "config": "eval"},
    "a command": {
        "module": "os",
        "class_name": "system",
        "config": {"command": "touch /tmp/canary"},
    },
    "a download": {
        "module": "keras.utils",
        "class_name": "get_file",
        "config": {"origin": "http://x"},
    },
    "another room": {
        "module": "keras.src.saving.saving_lib",
        "class_name": "load_model",
        "config": {},
    },
    "custom": {
        "module": "keras.layers",
        "class_name": "Dense",
        "registered_name": "Evil>Dense",
        "config": {},
    },
    "no module": {"class_name": "Dense", "config": {}},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["a layer", "an initialiser", "deep inside"])
def test_code_is_refused_wherever_it_stands_before_keras_reads_it(
    tmp_path: Path, name: str, place: str
) -> None:
    def change(config: dict[str, Any]) -> None:
        dense = config["config"]["layers"][-1]
        match place:
            case "a layer":
                config["config"]["layers"].append(HOSTILE[name])
            case "an initialiser":
                dense["config"]["kernel_initializer"] = HOSTILE[name]
            case _:
                dense["config"]["activity_regularizer"] = {"a": [{"b": [HOSTILE[name]]}]}

    with pytest.raises(UnsafeFile, match="code|custom"):
        load_network(doctored(tmp_path / "model.keras", change), tmp_path)


def test_a_network_that_is_fine_has_nothing_to_complain_about(tmp_path: Path) -> None:
    digits().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        check_configuration("model.keras", json.loads(archive.read("config.json")), LAYER_NAMES)
    check_weights("model.keras", tmp_path / "model.keras", tmp_path)


def hdf5(fill: Any) -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as weights:
        fill(weights)
    return file.getvalue()


def _external_array(weights: h5py.File) -> None:
    weights.create_dataset("a", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def _virtual_array(weights: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "a", shape=(4,))
    weights.create_virtual_dataset("a", layout)


def _link(weights: h5py.File) -> None:
    weights["a"] = h5py.ExternalLink("/etc/other.h5", "/a")


def _soft_link(weights: h5py.File) -> None:
    weights["a"] = h5py.SoftLink("/nowhere")


def _giant(weights: h5py.File) -> None:
    weights.create_dataset("a", (1 << 40,), "f4", chunks=(1024,))


def _text(weights: h5py.File) -> None:
    weights["a"] = ["words"]


@pytest.mark.parametrize(
    "fill",
    [_external_array, _virtual_array, _link, _soft_link, _giant, _text],
    ids=lambda fill: fill.__name__,
)
def test_weights_that_lie_elsewhere_or_claim_too_much_are_refused(
    tmp_path: Path, fill: Any
) -> None:
    with pytest.raises(UnsafeFile, match="weights"):
        load_network(doctored(tmp_path / "model.keras", weights=hdf5(fill)), tmp_path)


def test_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    whole = hdf5(lambda weights: weights.create_dataset("a", (1000,), "f4"))
    with pytest.raises(UnsafeFile, match="weights"):
        load_network(doctored(tmp_path / "model.keras", weights=whole[:500]), tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other = hdf5(lambda weights: weights.create_dataset("a", (3,), "f4"))
    with pytest.raises(NotConvertible, match="cannot load"):
        load_network(doctored(tmp_path / "model.keras", weights=other), tmp_path)


def context(folder: Path) -> JobContext:
    spec = JobSpec(
        worker_id="job_test-1",
        job_id="job_test",
        attempt=1,
        kind="import-model",
        params={},
        inputs={},
        artifacts=str(folder / "blobs"),
    )
    worker = WorkerFolder(folder / "run")
    worker.path.mkdir(parents=True)
    return JobContext(worker, spec)


def test_a_job_makes_a_package_in_a_process_of_its_own(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
    digits().save(source / "digits.keras")
    job = context(tmp_path / "job")
    manifest = importing.convert(source, ImportModelParams(model="m", source="path"), out, job)
    assert [path.name for path in out.iterdir()] == ["model.onnx"]
    assert manifest.runtimes["onnxruntime"].verification is not None
    (rows,) = sample_rows(manifest, job.work).values()
    assert rows.shape == (64, 28, 28, 1)
    job.close()


def test_two_files_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="holds 0"):
        importing.convert(
            tmp_path, ImportModelParams(model="m", source="path"), tmp_path, context(tmp_path / "j")
        )
