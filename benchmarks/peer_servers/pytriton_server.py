"""Triton Inference Server with a Python model and dynamic batching: `pytriton_server.py model.onnx PORT`."""

import sys

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = session.get_inputs()[0].shape[1:]
classes = session.get_outputs()[0].shape[1]


@batch
def infer(x):
    """One batch."""
    return [session.run(None, {"x": x})[0]]


port = int(sys.argv[2])
config = TritonConfig(
    http_port=port,
    grpc_port=port + 1,
    metrics_port=port + 2,
    http_address="127.0.0.1",
    log_verbose=0,
)
with Triton(config=config) as triton:
    triton.bind(
        model_name="cnn",
        infer_func=infer,
        inputs=[Tensor(name="x", dtype=np.float32, shape=tuple(shape))],
        outputs=[Tensor(name="probabilities", dtype=np.float32, shape=(classes,))],
        config=ModelConfig(max_batch_size=32, batcher=DynamicBatcher()),
    )
    triton.serve()
