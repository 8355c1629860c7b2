"""From the original to ONNX: a graph whose rows, and for texts whose tokens, are free.

Written with torch's TorchScript exporter, as our own networks are. It cannot trace how transformers builds its
attention masks (they branch on sizes that are tensors while tracing), so for the time of the export the library
gets a builder of masks that can be traced.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from modelry.core.manifests import TensorSpec
from modelry.core.tensors import Array
from modelry.worker.models.importing.comparing import Run
from modelry.worker.models.importing.huggingface.loading import not_convertible

#: ONNX's operator set; every ONNX Runtime since 1.14 has it.
_OPSET = 18


class Traced(torch.nn.Module):
    """The original with its inputs in a fixed order and its outputs by name."""

    def __init__(self, model: Any, arguments: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._arguments = tuple(arguments)
        self._outputs = tuple(outputs)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, in order."""
        given = dict(zip(self._arguments, tensors, strict=True))
        answer = self.model(**given, return_dict=True)
        return tuple(getattr(answer, name) for name in self._outputs)

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The original's own answer, by name."""
        tensors = [torch.from_numpy(arrays[name]) for name in self._arguments]
        with torch.inference_mode():
            answer = self(*tensors)
        return {name: value.numpy() for name, value in zip(self._outputs, answer, strict=True)}


def export(
    traced: Traced,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    example: Mapping[str, Array],
    file: Path,
) -> list[TensorSpec]:
    """Writes the graph; returns the inputs it really has. Raises `NotConvertible`."""
    free = {
        spec.name: {
            axis: "batch" if axis == 0 else "length"
            for axis, length in enumerate(spec.shape)
            if length is None
        }
        for spec in [*inputs, *outputs]
    }
    try:
        with _quiet(), _traceable_masks(), torch.no_grad():
            torch.onnx.export(
                traced.eval(),
                tuple(torch.from_numpy(example[spec.name]) for spec in inputs),
                str(file),
                dynamo=False,
                opset_version=_OPSET,
                input_names=[spec.name for spec in inputs],
                output_names=[spec.name for spec in outputs],
                dynamic_axes=free,
            )
        onnx.checker.check_model(str(file), full_check=True)
    except (
        Exception
    ) as error:  # The exporter, the library and the checker raise whatever they like.
        raise not_convertible(error, "the exporter does not know all of its parts") from None
    # An input that changes nothing is not in the graph.
    kept = {value.name for value in onnx.load(file, load_external_data=False).graph.input}
    return [spec for spec in inputs if spec.name in kept]


def original_run(traced: Traced) -> Run:
    """The original as what a form is compared with."""
    return traced.run


@contextmanager
def _traceable_masks() -> Iterator[None]:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as BUILDERS

    known = BUILDERS["eager"]
    BUILDERS["eager"] = _mask
    try:
        yield
    finally:
        BUILDERS["eager"] = known


def _mask(
    batch_size: Any,
    q_length: Any,
    kv_length: Any,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    mask_function: Any = None,
    attention_mask: torch.Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    **_: Any,
) -> torch.Tensor:
    """0 where a token may look at another, the smallest number where not: batch × 1 × tokens × tokens."""
    query = (torch.arange(q_length) + q_offset)[None, None, :, None]
    key = (torch.arange(kv_length) + kv_offset)[None, None, None, :]
    row, head = torch.arange(batch_size)[:, None, None, None], torch.zeros(1, 1, 1, 1).long()
    allowed = (query >= 0) & (key >= 0)
    if mask_function is not None:
        allowed = allowed & mask_function(row, head, query, key)
    if attention_mask is not None:
        allowed = allowed & attention_mask.bool()[:, None, None, :]
    lowest = torch.full((), torch.finfo(dtype).min, dtype=dtype)
    mask = torch.where(allowed, torch.zeros((), dtype=dtype), lowest)
    return mask.expand(batch_size, 1, q_length, kv_length)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter says of itself: the form is compared afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
