"""Batch predictions over a column of text, through the model's own tokenizer."""

from __future__ import annotations

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from modelry.core.errors import WrongDataKind
from modelry.core.feeding import plan_feed
from modelry.core.manifests import ModelManifest, RuntimeForm, TensorSpec, TextInput
from modelry.core.results import made_dataset
from modelry.worker.predicting import job
from tests.conftest import Importer
from tests.unit.worker.predicting.making import Batches

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "好": 4}
#: What each word says for `no` and for `yes`.
WEIGHTS = np.float32([[0, 0], [0, 0], [0, 1], [2, 0], [0, 3]])
TEXTS = ["good", "bad good", "好 bad", "unknown words", "good good good bad"] * 6


def manifest() -> ModelManifest:
    return ModelManifest(
        task="text-classification",
        recipe=None,
        inputs=[
            TensorSpec(name=name, dtype="int64", shape=[None, None]) for name in ("ids", "mask")
        ],
        outputs=[TensorSpec(name="y", dtype="float32", shape=[None, 2])],
        labels=["no", "yes"],
        media=TextInput(
            tokenizer="tokenizer.json", max_length=16, inputs={"ids": "ids", "mask": "mask"}
        ),
        activation="softmax",
        metrics={},
        lineage={},
        runtimes={"onnxruntime": RuntimeForm(file="model.onnx")},
        files={},
    )


def onnx() -> bytes:
    """The sum of the words' weights."""
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["words"]),
        helper.make_node("Cast", ["mask"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "last"], ["masks"]),
        helper.make_node("Mul", ["words", "masks"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "bag",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
            for name in ("ids", "mask")
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(WEIGHTS, "w"),
            numpy_helper.from_array(np.int64([-1]), "last"),
            numpy_helper.from_array(np.int64([1]), "middle"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def tokenizer() -> bytes:
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return bytes(made.to_str().encode())


def test_every_text_has_the_models_answer_and_stays_beside_it(importer: Importer) -> None:
    lines = [f"{text},{('no', 'yes')[row % 2]}" for row, text in enumerate(TEXTS)]
    table = "\n".join(["text,answer", *lines])
    data = importer.upload({"said.csv": table.encode()}, target="answer")
    content = {
        "model.json": msgspec.json.encode(manifest()),
        "model.onnx": onnx(),
        "tokenizer.json": tokenizer(),
    }
    model = [importer.artifacts.put_bytes(value, path) for path, value in content.items()]
    context = Batches(importer.root, data.files, model).start(max_batch=4)
    made = made_dataset(job.run(context))
    context.close()
    assert made is not None
    for split in made.manifest.splits.values():
        [digest] = [file.digest for file in made.files if file.path == split.files[0]]
        rows = pq.read_table(importer.artifacts.local_path(digest)).to_pydict()
        for text, predicted in zip(rows["text"], rows["predicted"], strict=True):
            said = sum(WEIGHTS[WORDS.get(word, 1)] for word in text.split())
            assert predicted == int(said.argmax())


def test_tasks_that_answer_no_label_and_tables_without_text_are_refused(
    importer: Importer,
) -> None:
    lines = "a,answer\n" + "".join(f"{row},{row % 2}\n" for row in range(40))
    data = importer.upload({"x.csv": lines.encode()}, target="answer")
    with pytest.raises(WrongDataKind, match="0 columns of text"):
        plan_feed(data.manifest, manifest())
    answering = msgspec.structs.replace(manifest(), task="question-answering")
    with pytest.raises(WrongDataKind, match="question-answering"):
        plan_feed(data.manifest, answering)
