"""An ONNX graph under construction: nodes, weights, and names that are never used twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelry.core.errors import NotConvertible
from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array
from modelry.worker.models.importing.keras.allowed import REMEDY

#: ONNX's operator set; every ONNX Runtime since 1.14 has it.
OPSET, _IR_VERSION = 18, 8


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor inside the graph; its first dimension is the batch."""

    name: str
    shape: tuple[int | None, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)


class Graph:
    """What was added so far."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._count = 0
        #: The layer whose nodes are being added, for names and refusals.
        self.layer = ""

    def add(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """A node of ONNX's own; returns its output's name, or a list of several. An empty input is left out."""
        names = [self._name(operator) for _ in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, array: Any, dtype: str = "float32") -> str:
        """Numbers that belong to the model; returns their name."""
        name = self._name("weight")
        values = np.array(array, dtype, order="C")
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A list of whole numbers, such as a shape or axes."""
        return self.weight(list(values), "int64")

    def transpose(self, name: str, order: Sequence[int]) -> str:
        """The dimensions in another order."""
        moved: str = self.add("Transpose", [name], perm=list(order))
        return moved

    def refuse(self, reason: str) -> NotConvertible:
        """Why the present layer cannot be converted, ready to be raised."""
        return NotConvertible(reason=f"its layer '{self.layer}' {reason}", remedy=REMEDY)

    def write(
        self,
        file: Path,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        last: Sequence[str],
    ) -> None:
        """The graph as a file; `last` are the values that become the outputs."""
        for spec, name in zip(outputs, last, strict=True):
            self._nodes.append(helper.make_node("Identity", [name], [spec.name]))
        graph = helper.make_graph(
            self._nodes,
            "keras",
            [_declared(spec) for spec in inputs],
            [_declared(spec) for spec in outputs],
            self._weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="modelry"
        )
        model.ir_version = _IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, file)

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{self.layer}/{what}_{self._count}"


def _declared(spec: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    free = [f"free_{axis}" if axis else "batch" for axis in range(len(spec.shape))]
    shape = [
        name if length is None else length for name, length in zip(free, spec.shape, strict=True)
    ]
    return helper.make_tensor_value_info(spec.name, kind or TensorProto.FLOAT, shape)


def numbers(variable: Any) -> Array:
    """A Keras variable's numbers."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable))
