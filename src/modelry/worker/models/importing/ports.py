"""A graph loaded by ONNX Runtime: its session, and what goes in and comes out of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from modelry.core.errors import NotConvertible
from modelry.core.texts import STRING

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(string)": STRING,
    **{f"tensor({name})": name for name in ("int8", "int16", "int32", "int64")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64")},
}
_ZIPMAP = "Export it without ZipMap: `to_onnx(model, X, options={'zipmap': False})`, and import that file."


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    dtype: str
    #: A number, a name, or None.
    shape: list[int | str | None]

    @property
    def lengths(self) -> list[int | None]:
        """The shape without names: what has one is free."""
        return [size if isinstance(size, int) else None for size in self.shape]


def load_session(name: str, file: Path) -> Any:
    """The session, with one thread; raises `NotConvertible` with what ONNX Runtime says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            str(file), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's errors have no common class but this one.
        text = " ".join(str(error).split()).replace(str(file), f"'{name}'")
        newest = re.search(r"till opset (\d+)|max supported IR version: (\d+)", text)
        if newest is not None:
            noun = "operator set" if newest[1] else "IR version"
            raise NotConvertible(
                reason=f"'{name}' was written for a later ONNX; {noun} {newest[1] or newest[2]} is the newest here",
                remedy=f"Export it with opset_version={newest[1] or 17} or lower.",
            ) from None
        raise NotConvertible(
            reason=f"ONNX Runtime cannot load '{name}': {text[:400]}",
            remedy="Check the file with `onnx.checker`, and export it again.",
        ) from None


def input_ports(name: str, session: Any) -> list[Port]:
    """What must be given; raises `NotConvertible` for what nobody can send, and for nothing."""
    found = []
    for value in session.get_inputs():
        if value.type not in _DTYPES:
            raise NotConvertible(
                reason=f"the input '{value.name}' is a {value.type}, and tensors of numbers or texts are served",
                remedy="Export the model with plain tensors as its inputs.",
            )
        found.append(Port(value.name, _DTYPES[value.type], list(value.shape)))
    if not found:
        raise NotConvertible(reason=f"'{name}' takes no input")
    return found


def output_ports(session: Any) -> tuple[list[Port], list[str]]:
    """What is served, and the names of what is not; raises `NotConvertible` where nothing is."""
    served, left_out = [], []
    for value in session.get_outputs():
        if "map(" in value.type:
            raise NotConvertible(
                reason=f"the output '{value.name}' is a {value.type}", remedy=_ZIPMAP
            )
        if value.type in _DTYPES:
            served.append(Port(value.name, _DTYPES[value.type], list(value.shape)))
        else:
            left_out.append(value.name)
    if not served:
        raise NotConvertible(reason=f"none of its outputs ({', '.join(left_out)}) is a tensor")
    return served, left_out


def first_line(error: Exception) -> str:
    """What a library says of its trouble, for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
