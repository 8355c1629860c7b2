"""Calls find their task; requests share batches; a replica imports no more than it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.errors import InvalidInput, ModelUnloadable, UnsupportedTask
from modelry.worker.models.package import write_manifest
from modelry.worker.replica.model import ServedModel
from modelry.worker.tasks import open_task
from tests.unit.worker.tasks import tiny
from tests.unit.worker.tasks.conftest import Make
from tests.unit.worker.tasks.tiny import TEXTS, Served

HEAD, LABELS = "ForSequenceClassification", ["bad", "fine", "good"]


def but(model: Served, **changes: object) -> Served:
    manifest = msgspec.structs.replace(model.manifest, **changes)  # type: ignore[arg-type]
    return Served(manifest, model.folder, model.runtime, model.source)


def test_requests_of_several_texts_and_lengths_share_one_batch(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    # One word more or less: other lengths, but the same room.
    short, words = TEXTS[0], TEXTS[0].split()
    calls = [short, [short, " ".join(words[:-1])], " ".join(words[1:])]
    opened = [open_task(pack(TaskCall(inputs=inputs)), model) for inputs in calls]
    widths = {array.shape[1] for each in opened for array in each.inputs.values()}
    assert len(widths) == 1
    joined = {
        name: np.concatenate([each.inputs[name] for each in opened]) for name in opened[0].inputs
    }
    outputs = model.runtime.run(joined)
    at = 0
    for each, inputs in zip(opened, calls, strict=True):
        rows = len(next(iter(each.inputs.values())))
        mine = {name: output[at : at + rows] for name, output in outputs.items()}
        at += rows
        value = unpack(each.finish(mine), TaskAnswer).value
        alone = model.value(inputs)
        for found, expected in zip(value, alone, strict=True):
            assert [each["score"] for each in found] == pytest.approx(
                [each["score"] for each in expected], abs=1e-6
            )


def test_a_model_without_a_task_says_so(make: Make) -> None:
    model = make(HEAD, labels=LABELS)
    for changes in ({"task": "tensor"}, {"media": None}):
        with pytest.raises(UnsupportedTask):
            but(model, **changes).value("a text")


def test_bytes_that_are_no_call_are_refused(make: Make) -> None:
    with pytest.raises(InvalidInput):
        open_task(b"\xff\xff", make(HEAD, labels=LABELS))


def test_a_bad_tokenizer_is_found_before_the_first_request(make: Make, tmp_path: Path) -> None:
    model = make(HEAD, labels=LABELS)
    (tmp_path / "model.onnx").symlink_to(model.folder / "model.onnx")
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Evil"}}')
    write_manifest(model.manifest, tmp_path)
    with pytest.raises(ModelUnloadable, match=r"tokenizer\.json"):
        ServedModel(tmp_path, 1, 32).warm_up()


_REPLICA = """
import sys
from pathlib import Path
from modelry.core.calls import TaskCall, pack
from modelry.core.frames import Op
from modelry.worker.replica.model import ServedModel
model = ServedModel(Path(sys.argv[1]), 1, 32)
assert "tokenizers" not in sys.modules
model.warm_up()
opened = model.open(Op.TASK, pack(TaskCall(inputs="a text")))
opened.finish(model.runtime.run(opened.inputs))
heavy = {"torch", "transformers", "pandas", "scipy", "sklearn", "onnx", "pyarrow", "huggingface_hub"}
print(sorted(heavy & set(sys.modules)))
"""


def test_a_replica_of_a_text_model_needs_the_tokenizers_and_nothing_heavy(
    make: Make, tmp_path: Path
) -> None:
    model = make(HEAD, labels=LABELS)
    for file in model.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    write_manifest(model.manifest, tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _REPLICA, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_tiny_models_are_what_the_tests_say_they_are() -> None:
    assert tiny.word_pieces().to_str() == tiny.word_pieces().to_str()
