"""Hostile files, made here: each would do harm to a reader that trusts it; a payload would create the canary."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.importing import floats, linear, onnx_bytes, onnx_model

#: Made with the canary's path, gives the hostile file's bytes.
Make = Callable[[Path], bytes]


class Payload:
    """Unpickled, it creates the canary."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self._canary}'",)


def pickled(canary: Path, protocol: int = 2) -> bytes:
    return pickle.dumps(Payload(canary), protocol)


def zipped(files: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, packing)
    return out.getvalue()


def tarred(*infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, data in infos:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def good() -> bytes:
    return onnx_bytes(linear())


# Pickles


def legacy_torch(canary: Path) -> bytes:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + pickled(canary)


def object_npy(canary: Path) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return out.getvalue()


PICKLES: dict[str, tuple[str, Make]] = {
    "a pickle of protocol 0": ("model.pkl", lambda c: pickled(c, 0)),
    "a pickle of protocol 1": ("model.pickle", lambda c: pickled(c, 1)),
    "a pickle of protocol 2": ("model.pt", pickled),
    "a pickle of protocol 4": ("pytorch_model.bin", lambda c: pickled(c, 4)),
    "a pickle of protocol 5": ("model.ckpt", lambda c: pickled(c, 5)),
    "an old torch.save": ("model.pth", legacy_torch),
    "a torch.save": (
        "model.pt",
        lambda c: zipped({"archive/data.pkl": pickled(c), "archive/version": b"3\n"}),
    ),
    "a TorchScript": (
        "model.pt",
        lambda c: zipped(
            {"m/data.pkl": pickled(c), "m/constants.pkl": pickled(c), "m/code/x.py": b""}
        ),
    ),
    "a torch.export archive": (
        "model.pt2",
        lambda c: zipped(
            {
                "m/archive_format": b"pt2",
                "m/models/model.json": b"{}",
                "m/data/sample_inputs/model.pt": pickled(c),
            }
        ),
    ),
    "a joblib": ("model.joblib", lambda c: zlib.compress(pickled(c, 4))),
    "a pickle in gzip": ("model.pkl.gz", lambda c: gzip.compress(pickled(c))),
    "a pickle in bzip2": ("model.pkl.bz2", lambda c: bz2.compress(pickled(c))),
    "a pickle in xz": ("model.pkl.xz", lambda c: lzma.compress(pickled(c))),
    "an array of objects": ("weights.npy", object_npy),
    "arrays of objects": ("weights.npz", lambda c: zipped({"w.npy": object_npy(c)})),
    "a zip of a pickle": ("model.zip", lambda c: zipped({"data.pkl": pickled(c)})),
    "a zip of a renamed pickle": ("model.zip", lambda c: zipped({"labels.txt": pickled(c, 0)})),
    "a graph with a pickle behind it": ("model.onnx", lambda c: good() + pickled(c)),
}


# Archives


def _zip_link(target: str) -> bytes:
    info = zipfile.ZipInfo("model.onnx")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, target)
    return out.getvalue()


def _tar_link(kind: bytes, target: str) -> bytes:
    info = tarfile.TarInfo("model.onnx")
    info.type, info.linkname = kind, target
    return tarred((info, b""))


def _encrypted() -> bytes:
    data = bytearray(zipped({"model.onnx": good()}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _twice() -> bytes:
    return zipped({"a.onnx": good(), "b.onnx": good()}).replace(b"b.onnx", b"a.onnx")


def _lying_size() -> bytes:
    """The list of members says 10 bytes, the member holds more."""
    data = bytearray(zipped({"model.onnx": good()}))
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 10, 10)
    return bytes(data)


ARCHIVES: dict[str, tuple[str, Make]] = {
    "a zip that climbs out": (
        "m.zip",
        lambda c: zipped({f"../../../..{c}": b"x", "m.onnx": good()}),
    ),
    "a zip with an absolute path": ("m.zip", lambda c: zipped({str(c): b"x", "m.onnx": good()})),
    "a zip with backslashes": ("m.zip", lambda c: zipped({"..\\canary": b"x", "m.onnx": good()})),
    "a zip with a link": ("m.zip", lambda c: _zip_link("/etc/passwd")),
    "a zip with a name twice": ("m.zip", lambda c: _twice()),
    "a zip with a control character": ("m.zip", lambda c: zipped({"a\x07b.onnx": good()})),
    "a zip with a direction mark": ("m.zip", lambda c: zipped({"model\u202exnno.pkl": pickled(c)})),
    "a zip that is encrypted": ("m.zip", lambda c: _encrypted()),
    "a zip that is truncated": ("m.zip", lambda c: zipped({"m.onnx": good()})[:-40]),
    "a zip that lies about sizes": ("m.zip", lambda c: _lying_size()),
    "a zip bomb": (
        "m.zip",
        lambda c: zipped({"m.onnx": bytes(300 << 20)}, zipfile.ZIP_DEFLATED),
    ),
    "a gzip bomb": ("m.onnx.gz", lambda c: gzip.compress(bytes(300 << 20))),
    "a zip in a zip": ("m.zip", lambda c: zipped({"in.zip": zipped({"m.onnx": good()})})),
    "a tar in a zip": (
        "m.zip",
        lambda c: zipped({"in.tar": tarred((tarfile.TarInfo("m.onnx"), good()))}),
    ),
    "a tar that climbs out": (
        "m.tar",
        lambda c: tarred((tarfile.TarInfo(f"../../../..{c}"), b"x")),
    ),
    "a tar with a link": ("m.tar", lambda c: _tar_link(tarfile.SYMTYPE, "/etc/passwd")),
    "a tar with a hard link": ("m.tar", lambda c: _tar_link(tarfile.LNKTYPE, "/etc/passwd")),
    "a tar with a device": ("m.tar", lambda c: _tar_link(tarfile.CHRTYPE, "")),
}


# Safetensors


def safetensors(header: Any, content: bytes = bytes(8), length: int | None = None) -> bytes:
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(data) if length is None else length) + data + content


def _entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


_W = _entry(0, 8, [2])

SAFETENSORS: dict[str, Callable[[], bytes]] = {
    "a header longer than the file": lambda: safetensors({"w": _W}, length=1 << 30),
    "a header of no length": lambda: safetensors({"w": _W}, length=2),
    "tensors that overlap": lambda: safetensors({"a": _W, "b": _entry(4, 12, [2])}, bytes(12)),
    "a gap between tensors": lambda: safetensors({"a": _W, "b": _entry(12, 20, [2])}, bytes(20)),
    "bytes behind the tensors": lambda: safetensors({"w": _W}, bytes(64)),
    "a truncated content": lambda: safetensors({"w": _entry(0, 4000, [1000])}, bytes(8)),
    "a shape that lies": lambda: safetensors({"w": _entry(0, 8, [1 << 40])}),
    "a negative shape": lambda: safetensors({"w": _entry(0, 8, [-2])}),
    "an unknown type": lambda: safetensors({"w": _entry(0, 8, [2], "PICKLE")}),
    "a key twice": lambda: safetensors(
        b'{"w":' + json.dumps(_W).encode() + b',"w":' + json.dumps(_W).encode() + b"}"
    ),
    "a header nested deeply": lambda: safetensors(
        b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    ),
    "a header that is no JSON": lambda: safetensors(b"{" + b"x" * 50),
}


# Graphs


def external(location: str, size: int = 48) -> bytes:
    """A graph whose weight lies in another file."""
    model = linear()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return onnx_bytes(model)


def _inner(name: str) -> onnx.GraphProto:
    nodes = [helper.make_node("Identity", ["on"], [f"{name}_on"])]
    on = helper.make_tensor_value_info("on", TensorProto.BOOL, [])
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    out = helper.make_tensor_value_info(f"{name}_on", TensorProto.BOOL, [])
    return helper.make_graph(nodes, name, [number, on], [out])


def endless_loop() -> bytes:
    """`Loop` without a count, its condition always true, carrying a value that is used."""
    body = _inner("body")
    body.input.append(floats("v", "N", 4))
    body.node.append(helper.make_node("Add", ["v", "v"], ["v2"]))
    body.output.append(floats("v2", "N", 4))
    nodes = [
        helper.make_node("Loop", ["", "true", "x"], ["y"], body=body),
    ]
    model = onnx_model(nodes, [floats("x", "N", 4)], [floats("y", "N", 4)])
    model.graph.initializer.append(helper.make_tensor("true", TensorProto.BOOL, [], [True]))
    return onnx_bytes(model)


def giant_constant() -> bytes:
    """A tensor of 2⁴⁰ numbers that no file needs to hold."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    shape = {"shape": np.array([1 << 20, 1 << 20], np.int64)}
    return onnx_bytes(onnx_model(nodes, [floats("x", "N", 4)], [floats("y", "N", 4)], shape))


def giant_expand() -> bytes:
    """The same size, reached only when it runs."""
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["big"]),
        helper.make_node("ReduceMax", ["big"], ["y"], axes=[0, 1], keepdims=0),
    ]
    shape = {"shape": np.array([1 << 18, 1 << 18, 4], np.int64)}
    return onnx_bytes(onnx_model(nodes, [floats("x", 1, 4)], [floats("y", 4)], shape))


def lying_weight(dims: list[int]) -> bytes:
    model = linear()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    return onnx_bytes(model)


def giant_input() -> bytes:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    shape = (1, 1 << 20, 1 << 20)
    return onnx_bytes(onnx_model(nodes, [floats("x", *shape)], [floats("y", *shape)]))


def custom(domain: str, operator: str) -> bytes:
    nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return onnx_bytes(
        onnx_model(nodes, [floats("x", "N", 4)], [floats("y", "N", 4)], opset_imports=opsets)
    )


def nested(depth: int) -> bytes:
    """`If` in `If` in `If`; written from the inside out, as the parser will meet it."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["r0"])], "g0", [], [floats("r0", "N", 4)]
    )
    for level in range(1, depth):
        name = f"r{level}"
        node = helper.make_node("If", ["on"], [name], then_branch=graph, else_branch=graph)
        if level > 3:
            node = helper.make_node("If", ["on"], [name], then_branch=graph)
        graph = helper.make_graph([node], f"g{level}", [], [floats(name, "N", 4)])
    node = helper.make_node("If", ["on"], ["y"], then_branch=graph, else_branch=graph)
    model = onnx_model([node], [floats("x", "N", 4)], [floats("y", "N", 4)])
    model.graph.initializer.append(helper.make_tensor("on", TensorProto.BOOL, [], [True]))
    return onnx_bytes(model)


def _wire(field: int, data: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length, size = len(data), b""
    while length > 0x7F:
        size += bytes((length & 0x7F | 0x80,))
        length >>= 7
    return bytes((field << 3 | 2,)) + size + bytes((length,)) + data


def nested_on_the_wire(depth: int) -> bytes:
    """Graphs in attributes in nodes in graphs, deeper than any library writes them."""
    graph = b""
    for _ in range(depth):
        graph = _wire(1, _wire(4, b"If") + _wire(5, _wire(1, b"then_branch") + _wire(6, graph)))
    return b"\x08\x08" + _wire(7, graph) + _wire(8, b"\x10\x11")


def functions(recursive: bool) -> bytes:
    """Each function calls the one before twice: 2⁴⁰ steps once they are pasted in. Or one that calls itself."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    made = [
        helper.make_function(
            "own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], opsets[:1]
        )
    ]
    for level in range(1, 40):
        before = f"f{level}" if recursive else f"f{level - 1}"
        calls = [
            helper.make_node(before, ["a"], ["m"], domain="own"),
            helper.make_node(before, ["m"], ["b"], domain="own"),
        ]
        made.append(helper.make_function("own", f"f{level}", ["a"], ["b"], calls, opsets))
    nodes = [helper.make_node("f39", ["x"], ["y"], domain="own")]
    return onnx_bytes(
        onnx_model(
            nodes,
            [floats("x", "N", 4)],
            [floats("y", "N", 4)],
            opset_imports=opsets,
            functions=made,
        )
    )


def named_input(name: str) -> bytes:
    nodes = [helper.make_node("Relu", [name], ["y"])]
    return onnx_bytes(onnx_model(nodes, [floats(name, "N", 4)], [floats("y", "N", 4)]))


def weight_twice() -> bytes:
    model = linear()
    model.graph.initializer.append(model.graph.initializer[0])
    return onnx_bytes(model)


def wrong_attribute() -> bytes:
    """Well-formed, known operators, and no runtime can load it."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], strides=[-1, 0, 7])]
    weights = {"w": np.zeros((1, 1, 3, 3), np.float32)}
    return onnx_bytes(
        onnx_model(nodes, [floats("x", "N", 1, 8, 8)], [floats("y", "N", 1, 6, 6)], weights)
    )


def later_opset() -> bytes:
    model = linear()
    model.opset_import[0].version = 99
    return onnx_bytes(model)


GRAPHS: dict[str, Callable[[], bytes]] = {
    "weights above the folder": lambda: external("../../secret.bin"),
    "weights at an absolute path": lambda: external("/etc/passwd"),
    "weights that are not there": lambda: external("weights.data"),
    "weights in a name with NUL": lambda: external("a\0b"),
    "weights in the graph itself": lambda: external("model.onnx"),
    "a loop without an end": endless_loop,
    "a giant constant": giant_constant,
    "a giant tensor when it runs": giant_expand,
    "a weight that claims more": lambda: lying_weight([1 << 20, 1 << 20]),
    "a weight that claims less than nothing": lambda: lying_weight([-1, 3]),
    "a giant input": giant_input,
    "an operator of its own": lambda: custom("evil.corp", "RunCommand"),
    "a Python operator": lambda: custom("ai.onnx.contrib", "PyOp"),
    "a search of com.microsoft": lambda: custom("com.microsoft", "BeamSearch"),
    "an unknown operator of ONNX": lambda: custom("", "ReadFile"),
    "graphs nested deeply": lambda: nested(30),
    "graphs nested beyond the parser": lambda: nested_on_the_wire(20_000),
    "functions that multiply": lambda: functions(recursive=False),
    "a function that calls itself": lambda: functions(recursive=True),
    "an input with a control character": lambda: named_input("x\x1b[2J"),
    "two weights of one name": weight_twice,
    "a graph that no runtime loads": wrong_attribute,
    "an operator set of the future": later_opset,
    "a truncated graph": lambda: good()[:-20],
    "a graph of random bytes": lambda: b"\x08\x08:\x80\x01" + bytes(range(256)),
}


# Keras


def keras(config: Any, **members: bytes) -> bytes:
    files = {
        "metadata.json": b'{"keras_version": "3.5.0"}',
        "config.json": config if isinstance(config, bytes) else json.dumps(config).encode(),
        "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    }
    return zipped({**files, **members})


def layers(*found: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": list(found)},
        "registered_name": None,
    }


def _lambda(canary: Path) -> dict[str, Any]:
    code = {"class_name": "__lambda__", "config": {"code": f"touch {canary}", "defaults": None}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": {"function": code}}


KERAS: dict[str, tuple[str, Make]] = {
    "a Lambda layer": ("m.keras", lambda c: keras(layers(_lambda(c)))),
    "a Lambda deep inside": (
        "m.keras",
        lambda c: keras(
            layers(
                {
                    "module": "keras.layers",
                    "class_name": "TimeDistributed",
                    "config": {"layer": _lambda(c)},
                }
            )
        ),
    ),
    "a class of os": (
        "m.keras",
        lambda c: keras(
            layers({"module": "os", "class_name": "system", "config": {"command": f"touch {c}"}})
        ),
    ),
    "a function of os": (
        "m.keras",
        lambda c: keras(
            layers(
                {
                    "module": "keras.layers",
                    "class_name": "Activation",
                    "config": {
                        "activation": {"module": "os", "class_name": "function", "config": "system"}
                    },
                }
            )
        ),
    ),
    "a function that downloads": (
        "m.keras",
        lambda c: keras(
            layers({"module": "keras.utils", "class_name": "function", "config": "get_file"})
        ),
    ),
    "a registered class of somebody": (
        "m.keras",
        lambda c: keras(
            layers(
                {"module": None, "class_name": "Evil", "config": {}, "registered_name": "evil>Evil"}
            )
        ),
    ),
    "a pickle among its members": (
        "m.keras",
        lambda c: keras(layers(), **{"assets/x.pkl": pickled(c)}),
    ),
    "a configuration nested deeply": ("m.keras", lambda c: keras(b"[" * 100_000 + b"]" * 100_000)),
    "an old HDF5 file": ("model.h5", lambda c: b"\x89HDF\r\n\x1a\n" + pickled(c)),
}


# Hugging Face


def folder(**files: Any) -> dict[str, bytes]:
    """A folder that would be good without what is added."""
    made = {
        "config.json": {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}
    }
    weights = {"model.safetensors": safetensors({"w": _W})}
    given = {name.replace("__", "."): value for name, value in files.items()}
    every: dict[str, Any] = {**made, **weights, **given}
    return {
        name: value if isinstance(value, bytes) else json.dumps(value).encode()
        for name, value in every.items()
    }


def tokenizer(**changed: Any) -> dict[str, Any]:
    plain = {
        "version": "1.0",
        "normalizer": None,
        "pre_tokenizer": None,
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }
    return {**plain, **changed}


_DOUBLING = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}

FOLDERS: dict[str, Callable[[Path], dict[str, bytes]]] = {
    "code beside the model": lambda c: folder(
        config__json={"model_type": "evil", "auto_map": {"AutoModel": "evil.Evil"}}
    ),
    "code for the tokenizer": lambda c: folder(
        tokenizer_config__json={"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    ),
    "code in a nested setting": lambda c: folder(
        config__json={"model_type": "bert", "text": {"custom_pipelines": {"x": {"impl": "evil.X"}}}}
    ),
    "Python beside the weights": lambda c: folder(
        modeling_evil__py=b"import os\nos.system('true')\n"
    ),
    "pickled weights beside the good ones": lambda c: folder(pytorch_model__bin=pickled(c)),
    "pickled training arguments": lambda c: folder(training_args__bin=pickled(c, 4)),
    "a tokenizer that doubles": lambda c: folder(
        tokenizer__json=tokenizer(normalizer={"type": "Sequence", "normalizers": [_DOUBLING] * 40})
    ),
    "a tokenizer that pads for ever": lambda c: folder(
        tokenizer__json=tokenizer(padding={"strategy": {"Fixed": 10**12}, "pad_id": 0})
    ),
    "a tokenizer nested deeply": lambda c: folder(tokenizer__json=b"[" * 200_000 + b"]" * 200_000),
    "a SavedModel": lambda c: {
        "saved_model.pb": b"\x08\x01\x12\x02\x00\x00",
        "notes.txt": b"hello",
    },
    "a program": lambda c: {"run.onnx": b"\x7fELF" + bytes(100)},
    "a script": lambda c: {"model.onnx": b"#!/bin/sh\ntouch canary\n"},
    "nothing but text": lambda c: {"model.onnx": b"this is a model, really\n"},
}
