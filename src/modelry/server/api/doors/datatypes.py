"""The Open Inference Protocol's words for element types, for its REST door and its gRPC door alike."""

from __future__ import annotations

#: The protocol's word → numpy's name. The protocol has two more: `BYTES`, below, and `BF16`, which no model here takes.
NUMPY_OF: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
#: numpy's name → the protocol's word.
DATATYPE_OF: dict[str, str] = {name: datatype for datatype, name in NUMPY_OF.items()}
#: The protocol's word for the elements of a tensor of texts (`core/tensors.py` calls their type `string`).
BYTES = "BYTES"
