"""A BentoML service with a batchable method: `bentoml serve bentoml_service:Cnn`, MODEL in the environment."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, traffic={"timeout": 30})
class Cnn:
    """JSON {"x": rows} in, rows of probabilities out."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    # Its own default of max_latency_ms: with less it refuses requests of 64 connections (503).
    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._session.run(None, {"x": x.astype(np.float32)})[0]
