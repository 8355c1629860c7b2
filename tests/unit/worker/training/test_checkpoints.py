"""Checkpoints: readable without pickle, whole, written beside the training in their order."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from modelry.core.errors import FormatTooNew
from modelry.worker.training.checkpoints import (
    Checkpoint,
    CheckpointState,
    CheckpointWriter,
    copied,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
)


def checkpoint(step: int = 1, tensors: dict[str, Tensor] | None = None) -> Checkpoint:
    state = CheckpointState(
        step=step,
        epoch=0,
        position=0,
        is_done=False,
        elapsed_s=0.5,
        best_loss=None,
        best_epoch=0,
        random={"python": [3, [1, 2], None]},
    )
    return Checkpoint(state, tensors or {"sums": torch.ones(3, dtype=torch.float64)})


def write(folder: Path, made: Checkpoint) -> None:
    for name, content in made.to_files().items():
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)


def test_a_checkpoint_is_json_and_safetensors_and_reads_back_equal(tmp_path: Path) -> None:
    made = checkpoint(tensors={"network.a": torch.rand(2, 3), "sums": torch.ones(3)})
    write(tmp_path, made)
    json.loads((tmp_path / "state.json").read_text())
    with safe_open(tmp_path / "tensors.safetensors", "pt") as tensors:
        assert set(tensors.keys()) == {"network.a", "sums"}
    found = read_checkpoint(tmp_path)
    assert found.state == made.state
    assert torch.equal(found.group("network")["a"], made.tensors["network.a"])


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, checkpoint())
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**state, "format_version": 2}))
    with pytest.raises(FormatTooNew):
        read_checkpoint(tmp_path)


def test_copies_do_not_follow_the_original() -> None:
    weight = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    copy = copied("network", {"weight": weight})["network.weight"]
    weight += 1
    assert not copy.any()
    assert copy.is_contiguous()


@pytest.mark.parametrize("rule", ["adam", "sgd"])
def test_an_optimizer_gets_its_memory_back_in_the_order_of_its_weights(rule: str) -> None:
    def make() -> tuple[nn.Conv2d, torch.optim.Optimizer]:
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if rule == "adam":
            return layer, torch.optim.Adam(layer.parameters(), fused=True)
        return layer, torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, fused=True)

    layer, optimizer = make()
    for weight in layer.parameters():
        weight.grad = torch.rand_like(weight)
    optimizer.step()
    saved = copied("optimizer", optimizer_tensors(optimizer))
    other, restored = make()
    restore_optimizer(restored, Checkpoint(checkpoint().state, saved).group("optimizer"))
    for mine, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        expected, found = optimizer.state[mine], restored.state[theirs]
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value)
            assert found[name].stride() == value.stride()


def test_the_writer_writes_beside_its_caller_one_at_a_time_and_in_order() -> None:
    gate, written = threading.Event(), []

    def keep(step: int, files: object) -> None:
        gate.wait(5)
        written.append((step, threading.current_thread().name))

    writer = CheckpointWriter(keep)
    assert writer.start(checkpoint(1)) is None
    assert written == []
    gate.set()
    assert writer.start(checkpoint(2)) is None
    writer.write(checkpoint(3))
    writer.close()
    assert [step for step, _ in written] == [1, 2, 3]
    assert written[0][1].startswith("checkpoint")


def test_a_failed_write_is_told_at_the_next_one_and_a_last_one_raises() -> None:
    def full(step: int, files: object) -> None:
        raise OSError(28, "No space left on device")

    writer = CheckpointWriter(full)
    writer.start(checkpoint())
    assert isinstance(writer.start(checkpoint()), OSError)
    with pytest.raises(OSError, match="No space left"):
        writer.write(checkpoint())
    writer.close()
