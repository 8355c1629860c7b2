"""The portable form: one ONNX graph from the model's tensor input to what it publishes, with a free batch.

Written with torch's TorchScript exporter: it keeps convolutions and recurrent layers as ONNX's own operators
(Conv, LSTM, GRU, RNN) and takes milliseconds; the newer one unrolls a plain recurrent layer step by step.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch

from modelry.worker.recipes.network import Network, Published

#: ONNX's operator set; every ONNX Runtime since 1.14 has it.
_OPSET = 18


def write_onnx(network: Network, file: Path) -> None:
    """Writes the published network; the batch, and every length that the network leaves free, are free."""
    model = Published(network).eval()
    # Two rows: with one, the exporter would take the batch for a constant.
    example = network.example(2)
    free = {0: "batch"} | {
        axis: f"length{axis}"
        for axis, length in enumerate(network.input_shape, start=1)
        if length is None
    }
    with _quiet_export(), torch.no_grad():
        torch.onnx.export(
            model,
            (example,),
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=[network.input_name],
            output_names=[network.output_name],
            dynamic_axes={network.input_name: free, network.output_name: {0: "batch"}},
        )
    onnx.checker.check_model(str(file), full_check=True)


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Silences what the exporter says of itself (deprecation, traced lengths): the form is verified afterwards."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
