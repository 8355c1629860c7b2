"""Costs counted from the graph: equal to a hand count, to torch's own counters, and to what torch keeps in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.utils.flop_counter import FlopCounterMode

from modelry.core.analysis import Layer
from modelry.core.manifests import TensorSpec
from modelry.worker.analysis import calls
from modelry.worker.analysis.counting import Counter
from modelry.worker.models.onnx_form import write_onnx
from modelry.worker.recipes.building import build_network, get_recipe
from modelry.worker.recipes.network import Network


def layers_of(file: Path, inputs: list[TensorSpec], rows: int = 1) -> tuple[list[Layer], set[str]]:
    """What the counter says of a graph."""
    model = onnx.load(str(file))
    nodes = calls.name_nodes(model.graph)
    named = file.with_name("named.onnx")
    onnx.save(model, str(named))
    (found,) = calls.run(named, calls.make_feeds(inputs, rows), 1, 1)
    counter = Counter(model.graph, nodes, rows)
    return counter.layers(found, [found]), counter.uncounted


def network_of(recipe: str, shape: tuple[int, ...], params: Mapping[str, Any] = {}) -> Network:
    torch.manual_seed(0)
    network = build_network(recipe, get_recipe(recipe).check(dict(params)), shape=shape, classes=10)
    # Biases that are all zero would become one tensor in the graph.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return network


def layers_of_network(network: Network, folder: Path, rows: int = 1) -> list[Layer]:
    file = folder / "model.onnx"
    write_onnx(network, file)
    inputs = [TensorSpec(name="x", dtype="float32", shape=[None, *network.input_shape])]
    found, uncounted = layers_of(file, inputs, rows)
    assert not uncounted
    return found


def total(layers: list[Layer], name: str) -> int:
    return sum(getattr(layer, name) for layer in layers)


def flops_of(network: Network, rows: int = 1) -> tuple[int, int]:
    """Multiply-adds forward and backward as torch counts them while it runs."""
    x = torch.rand(rows, *network.input_shape)
    with FlopCounterMode(display=False) as forward:
        answer = network(x)
    with FlopCounterMode(display=False) as backward:
        answer.logsumexp(1).sum().backward()
    return forward.get_total_flops() // 2, backward.get_total_flops() // 2


def kept_by(network: Network, rows: int) -> int:
    """Bytes that torch keeps for the gradients of a step: every memory once, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = network(torch.rand(rows, *network.input_shape)).softmax(1)
    del answer
    return sum(kept.values())


def test_the_reference_networks_have_the_hand_count(tmp_path: Path) -> None:
    cnn = layers_of_network(network_of("cnn", (28, 28, 1)), tmp_path)
    # 26²·32·9, 11²·64·32·9, 1600·64, 64·10.
    assert [layer.macs for layer in cnn if layer.macs] == [194_688, 2_230_272, 102_400, 640]
    assert total(cnn, "macs") == 2_528_000
    # The first convolution's input needs no gradient: once its cost, twice all others'.
    assert total(cnn, "macs_backward") == 2 * 2_528_000 - 194_688
    rnn = layers_of_network(network_of("rnn", (28, 28)), tmp_path)
    # 28 steps of 4·128·(28+128) and twice 4·128·(128+128); 128·10.
    assert [layer.macs for layer in rnn if layer.macs] == [2_236_416, 3_670_016, 3_670_016, 1_280]
    assert total(rnn, "macs") == 9_577_728
    assert total(rnn, "macs_backward") == 2 * 9_577_728 - 28 * 4 * 128 * 28
    for layers, recipe, shape in ((cnn, "cnn", (28, 28, 1)), (rnn, "rnn", (28, 28))):
        assert total(layers, "parameters") == network_of(recipe, shape).parameter_count
        assert total(layers, "weight_bytes") == 4 * total(layers, "parameters")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    channels=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    hidden=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    kernel=st.integers(1, 4),
    pooling=st.sampled_from(["max", "average"]),
    depth=st.integers(1, 3),
    side=st.integers(30, 40),
)
def test_random_cnns_cost_what_torch_counts(
    channels: list[int],
    hidden: list[int],
    kernel: int,
    pooling: str,
    depth: int,
    side: int,
    tmp_path: Path,
) -> None:
    params = {"channels": channels, "hidden": hidden, "kernel": kernel, "pooling": pooling}
    network = network_of("cnn", (side, side + 2, depth), params)
    layers = layers_of_network(network, tmp_path)
    assert (total(layers, "macs"), total(layers, "macs_backward")) == flops_of(network)
    assert total(layers, "parameters") == network.parameter_count


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cell=st.sampled_from(["rnn", "lstm", "gru"]),
    hidden=st.integers(1, 40),
    depth=st.integers(1, 3),
    both=st.booleans(),
    steps=st.integers(2, 9),
    features=st.integers(1, 12),
)
def test_random_rnns_cost_the_hand_count(
    cell: str, hidden: int, depth: int, both: bool, steps: int, features: int, tmp_path: Path
) -> None:
    params = {"cell": cell, "hidden": hidden, "layers": depth, "bidirectional": both}
    layers = layers_of_network(network_of("rnn", (steps, features), params), tmp_path)
    gates, ways = {"rnn": 1, "lstm": 4, "gru": 3}[cell], 2 if both else 1
    inputs = [features] + [ways * hidden] * (depth - 1)
    forward = sum(steps * ways * gates * hidden * (wide + hidden) for wide in inputs)
    head = ways * hidden * 10
    assert total(layers, "macs") == forward + head
    first = steps * ways * gates * hidden * features
    assert total(layers, "macs_backward") == 2 * (forward + head) - first
    assert total(layers, "parameters") == sum(
        ways * gates * hidden * (wide + hidden + 2) for wide in inputs
    ) + (head + 10)


@pytest.mark.parametrize(
    ("recipe", "shape", "params", "most"),
    [
        ("cnn", (28, 28, 1), {}, 1.01),
        ("cnn", (33, 30, 3), {"pooling": "average", "channels": [8, 8, 8]}, 1.01),
        # A recurrent layer's rule is the least that its gradient needs; torch's kernels keep more.
        ("rnn", (28, 28), {"cell": "lstm"}, 2.6),
        ("rnn", (28, 28), {"cell": "gru"}, 1.8),
    ],
)
def test_what_training_keeps_is_what_torch_keeps(
    recipe: str, shape: tuple[int, ...], params: dict[str, Any], most: float, tmp_path: Path
) -> None:
    network = network_of(recipe, shape, params)
    layers = layers_of_network(network, tmp_path)
    # Between two batches: what is kept once, whatever the batch, falls out.
    measured = (kept_by(network, 24) - kept_by(network, 8)) / 16
    assert 0.99 <= measured / total(layers, "kept_bytes") <= most


def test_rows_and_runs_do_not_change_the_count_of_a_row(tmp_path: Path) -> None:
    network = network_of("cnn", (28, 28, 1))
    one, many = layers_of_network(network, tmp_path), layers_of_network(network, tmp_path, rows=7)
    for first, second in zip(one, many, strict=True):
        assert (first.macs, first.macs_backward, first.row_bytes, first.kept_bytes) == (
            second.macs,
            second.macs_backward,
            second.row_bytes,
            second.kept_bytes,
        )


def graph_file(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shapes: dict[str, list[int]],
) -> tuple[Path, list[TensorSpec]]:
    """A graph of one's own, with float inputs of these shapes and the output `y`."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    file = folder / "own.onnx"
    onnx.save(model, str(file))
    return file, [TensorSpec(name=n, dtype="float32", shape=[None, *s]) for n, s in shapes.items()]


def test_each_run_has_its_own_calls(tmp_path: Path) -> None:
    network = network_of("rnn", (28, 28))
    write_onnx(network, tmp_path / "model.onnx")
    model = onnx.load(str(tmp_path / "model.onnx"))
    names = set(calls.name_nodes(model.graph))
    onnx.save(model, str(tmp_path / "named.onnx"))
    inputs = [TensorSpec(name="x", dtype="float32", shape=[None, 28, 28])]
    runs = calls.run(tmp_path / "named.onnx", calls.make_feeds(inputs, 2), 1, 3)
    assert len(runs) == 3
    first = sorted(call.node for call in runs[0])
    assert set(first) <= names
    assert all(sorted(call.node for call in run) == first for run in runs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "named.onnx"]


def test_a_product_of_two_activations_needs_both_gradients(tmp_path: Path) -> None:
    """Attention: queries and keys are made of the same input; their product has two gradients."""
    rows = np.random.default_rng(0).random((6, 4), np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "q"], ["queries"], name="/a/q/MatMul"),
        helper.make_node("MatMul", ["x", "k"], ["keys"], name="/a/k/MatMul"),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1], name="/a/Transpose"),
        helper.make_node("MatMul", ["queries", "turned"], ["scores"], name="/a/scores/MatMul"),
        helper.make_node("Softmax", ["scores"], ["y"], name="/a/Softmax"),
    ]
    file, inputs = graph_file(tmp_path, nodes, {"q": rows, "k": rows}, {"x": [5, 6]})
    layers, uncounted = layers_of(file, inputs)
    assert not uncounted
    costs = {layer.name: (layer.macs, layer.macs_backward) for layer in layers if layer.macs}
    assert costs == {"q": (120, 120), "k": (120, 120), "scores": (100, 200)}
    # x, queries and keys (once, though transposed), and what softmax gave.
    assert total(layers, "kept_bytes") == 4 * (30 + 20 + 20 + 25)


def test_a_weight_that_is_turned_first_and_one_that_two_share(tmp_path: Path) -> None:
    shared = np.ones((6, 6), np.float32)
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("MatMul", ["x", "turned"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    file, inputs = graph_file(tmp_path, nodes, {"w": shared}, {"x": [6]})
    layers, _ = layers_of(file, inputs)
    assert [layer.parameters for layer in layers] == [0, 36, 0]
    assert [layer.macs_backward for layer in layers] == [0, 36, 72]
    assert [layer.name for layer in layers] == ["Transpose 0", "MatMul 1", "MatMul 2"]


def test_an_operator_nobody_can_count_is_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["h"], equation="bi,ij->bj"),
        helper.make_node("Einsum", ["h", "w"], ["y"], equation="...i,ij->...j"),
    ]
    file, inputs = graph_file(tmp_path, nodes, {"w": np.ones((6, 6), np.float32)}, {"x": [6]})
    layers, uncounted = layers_of(file, inputs)
    assert [layer.macs for layer in layers] == [36, 0]
    assert uncounted == {"Einsum"}


def test_a_loop_counts_as_often_as_it_turns(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["next"]),
            helper.make_node("Identity", ["go_on"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Constant", [], ["turns"], value=numpy_helper.from_array(np.array(5))),
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body),
    ]
    file, inputs = graph_file(tmp_path, nodes, {"w": np.ones((6, 6), np.float32)}, {"x": [6]})
    layers, _ = layers_of(file, inputs)
    assert {layer.operator: layer.macs for layer in layers if layer.macs} == {"MatMul": 5 * 36}


def test_transposed_grouped_and_gemm_products(tmp_path: Path) -> None:
    """Beside the direct sum over every output element (or, for a transposed convolution, every input element)."""
    weights = {
        "grouped": np.ones((8, 2, 3, 3), np.float32),
        "spread": np.ones((8, 5, 2, 2), np.float32),
        "dense": np.ones((7, 5 * 12 * 12), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "grouped"], ["a"], group=2),
        helper.make_node("ConvTranspose", ["a", "spread"], ["b"], strides=[2, 2]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "dense"], ["y"], transB=1),
    ]
    file, inputs = graph_file(tmp_path, nodes, weights, {"x": [4, 8, 8]})
    layers, _ = layers_of(file, inputs)
    assert {layer.operator: layer.macs for layer in layers if layer.macs} == {
        "Conv": 8 * 6 * 6 * 2 * 9,
        "ConvTranspose": 8 * 6 * 6 * 5 * 4,
        "Gemm": 7 * 5 * 144,
    }
    assert math.prod(layers[1].output_shape) == 5 * 12 * 12
