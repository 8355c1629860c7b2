"""The ONNX form: clean operators, a free batch, and the network's own answers."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from modelry.core.recipes import get_recipe
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.models.verify import original, verify
from modelry.worker.recipes.building import build_network
from modelry.worker.recipes.network import Network


def make(recipe: str, shape: tuple[int, ...], **given: Any) -> Network:
    torch.manual_seed(0)
    return build_network(recipe, get_recipe(recipe).check(given), shape=shape, classes=5)


def written(network: Network, folder: Path) -> tuple[Counter[str], onnxruntime.InferenceSession]:
    write_onnx(network, folder / "model.onnx")
    graph = onnx.load(folder / "model.onnx").graph
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    return Counter(node.op_type for node in graph.node), session


def assert_equal(network: Network, session: onnxruntime.InferenceSession) -> None:
    shape = session.get_inputs()[0].shape
    assert isinstance(shape[0], str)
    assert shape[1:] == list(network.input_shape)
    rows = np.random.default_rng(0).random((70, *network.input_shape), dtype=np.float32)
    found = verify(
        lambda part: session.run(["probabilities"], {"x": part})[0],
        original(network),
        rows,
        tolerance=2e-6,
    )
    assert found.disagreements == 0


CELLS = ("rnn", "lstm", "gru")


@pytest.mark.parametrize(("cell", "both_ways"), list(itertools.product(CELLS, (False, True))))
def test_every_recurrent_cell_keeps_its_operator_and_its_answers(
    cell: str, both_ways: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    network = make("rnn", (7, 5), cell=cell, hidden=6, bidirectional=both_ways, dropout=0.5)
    operators, session = written(network, tmp_path)
    assert operators[cell.upper()] == 3
    assert operators["Softmax"] == 1
    assert not {"Dropout", "Loop", "Scan", "If"} & set(operators)
    assert_equal(network, session)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("pooling", "dropout"), [("max", 0.0), ("average", 0.0), ("max", 0.5)], ids=str
)
def test_convolutions_keep_their_operators_and_their_answers(
    pooling: str, dropout: float, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    network = make("cnn", (12, 10, 3), channels=[4, 6], pooling=pooling, dropout=dropout)
    operators, session = written(network, tmp_path)
    pool = {"max": "MaxPool", "average": "AveragePool"}[pooling]
    assert operators == Counter(
        {"Transpose": 1, "Conv": 2, "Relu": 3, pool: 2, "Flatten": 1, "Gemm": 2, "Softmax": 1}
    )
    assert_equal(network, session)
    assert not recwarn.list


def test_a_real_size_network_is_equal_too(tmp_path: Path) -> None:
    network = make("cnn", (28, 28, 1))
    assert_equal(network, written(network, tmp_path)[1])
