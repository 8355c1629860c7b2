"""Multiply-adds of one call of an operator, forward and backward, from the shapes it met.

The rules are derived in `docs/algorithms/cost.md`. A gradient with respect to an operand of a product costs as many
multiply-adds as the product itself, so an operator's backward cost is its forward cost times such operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """One of the products an operator is made of."""

    macs: int
    #: Positions of its operands among the operator's inputs; -1 is the operator's own state.
    operands: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Met:
    """What a call met, by the positions of ONNX's own signature; None for what was not given."""

    node: onnx.NodeProto
    inputs: Sequence[Shape | None]
    output: Shape

    def input(self, place: int) -> Shape:
        """The shape of an operand; raises `LookupError` where it is not known."""
        found = self.inputs[place]
        if found is None:
            raise LookupError(place)
        return found

    def attribute(self, name: str, default: int) -> int:
        """A whole number that the graph gives."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                return int(attribute.i)
        return default


#: The state that a recurrent layer hands to its next step.
STATE = -1


def products(met: Met) -> list[Product] | None:
    """The products of a call, none for an operator without any; None where they are not known."""
    rule = _RULES.get(met.node.op_type)
    if rule is None:
        return None if met.node.op_type in _UNKNOWN else []
    try:
        return rule(met)
    except (LookupError, ValueError):
        return None


def _conv(met: Met, data: int = 0, weights: int = 1) -> list[Product]:
    # Each output element: a kernel over the channels of its group. W is M × C/group × kernel.
    per_output = math.prod(met.input(weights)[1:])
    return [Product(math.prod(met.output) * per_output, (data, weights))]


def _conv_transpose(met: Met) -> list[Product]:
    # Each input element is spread by a kernel. W is C × M/group × kernel.
    per_input = math.prod(met.input(1)[1:])
    return [Product(math.prod(met.input(0)) * per_input, (0, 1))]


def _matmul(met: Met, left: int = 0, right: int = 1) -> list[Product]:
    shared = met.input(left)[-1]
    return [Product(math.prod(met.output) * shared, (left, right))]


def _gemm(met: Met) -> list[Product]:
    a = met.input(0)
    shared = a[0] if met.attribute("transA", 0) else a[1]
    return [Product(math.prod(met.output) * shared, (0, 1))]


def _recurrent(met: Met) -> list[Product]:
    # X is steps × rows × inputs (or rows first, which is the same product); W and R hold all gates and directions.
    steps_and_rows = math.prod(met.input(0)[:2])
    return [
        Product(steps_and_rows * math.prod(met.input(1)), (0, 1)),
        Product(steps_and_rows * math.prod(met.input(2)), (STATE, 2)),
    ]


def _einsum(met: Met) -> list[Product]:
    equation = next(a.s.decode() for a in met.node.attribute if a.name == "equation")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        raise ValueError(equation)
    lengths: dict[str, int] = {}
    for place, term in enumerate(terms):
        lengths.update(zip(term, met.input(place), strict=True))
    return [Product(math.prod(lengths.values()), (0, 1))]


_RULES: dict[str, Callable[[Met], list[Product]]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda met: _conv(met, 0, 3),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": lambda met: _matmul(met, 0, 3),
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Einsum": _einsum,
}
#: They multiply, and nobody has written down here how often.
_UNKNOWN = frozenset(
    {"Attention", "DeformConv", "DFT", "FusedMatMul", "MatMulNBits", "MultiHeadAttention", "STFT"}
)

# What a training keeps.

#: The output has the elements of the input: the same memory, seen otherwise.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"})
#: The gradient is made of the output.
_KEEPS_OUTPUT = frozenset({"Relu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Exp", "Sqrt"})
#: The gradient needs no value of the forward pass.
_KEEPS_NOTHING = frozenset(
    {
        *VIEWS,
        "Add",
        "AveragePool",
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Gather",
        "GlobalAveragePool",
        "Neg",
        "Pad",
        "ReduceMean",
        "ReduceSum",
        "Shape",
        "Slice",
        "Split",
        "Sub",
        "Sum",
        "Where",
    }
)
_INDEX_BYTES = 8


def keeps_inputs(operator: str) -> bool:
    """Whether its gradient is made of what it was given."""
    return operator not in _KEEPS_OUTPUT and operator not in _KEEPS_NOTHING


def keeps_outputs(operator: str) -> bool:
    """Whether its gradient is made of what it gave."""
    return operator in _KEEPS_OUTPUT


def keeps_besides(met: Met) -> int:
    """Bytes that only the gradient needs: a maximum's places, a recurrent layer's gates."""
    operator = met.node.op_type
    if operator == "MaxPool":
        return _INDEX_BYTES * math.prod(met.output)
    if operator in ("LSTM", "GRU", "RNN"):
        steps_and_rows = math.prod(met.input(0)[:2])
        directions, gates_by_hidden = met.input(1)[:2]
        hidden = met.input(2)[2]
        # The gates of each step, its output, and an LSTM's cell besides.
        numbers = gates_by_hidden + hidden * (2 if operator == "LSTM" else 1)
        return 4 * steps_and_rows * directions * numbers
    return 0
