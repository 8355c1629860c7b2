"""A training that begins with another model's weights: whole, with a new last layer, or with all others frozen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from modelry.core.errors import WrongDataKind
from modelry.core.jobs import check_train_params
from modelry.core.results import MadeDataset, MadeModel
from modelry.core.specs import OutcomeStatus
from modelry.worker.context import Stopped
from modelry.worker.models.package import load_recipe_model
from modelry.worker.training import job
from tests.unit.worker.training.conftest import Attempts
from tests.unit.worker.training.test_job import attempts, digits, spec, stop_when, train, unpacked

if TYPE_CHECKING:
    from tests.conftest import Importer

__all__ = ["attempts", "digits"]

START = {"name": "teacher", "version": 3, "version_id": "mdv_1"}


def starting(
    data: MadeDataset, model: MadeModel, *, freeze: bool = False, **given: Any
) -> dict[str, Any]:
    """An order to begin with this model."""
    order = spec(data, **given)
    order["params"]["freeze"] = freeze
    order["inputs"]["model"] = model.files
    order["names"]["model"] = START
    return order


def weights(made: MadeModel, importer: Importer) -> dict[str, torch.Tensor]:
    return load_recipe_model(unpacked(made, importer)).state_dict()


def test_it_goes_on_where_the_other_ended(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    teacher = train(attempts, **spec(digits, epochs=4))
    alone = train(attempts, **spec(digits, epochs=1, learning_rate=1e-4))
    pupil = train(attempts, **starting(digits, teacher, epochs=1, learning_rate=1e-4))
    best = teacher.manifest.metrics["accuracy"]
    assert pupil.manifest.metrics["accuracy"] > best - 0.03
    assert alone.manifest.metrics["accuracy"] < best - 0.2
    assert pupil.manifest.lineage["start"] == {**START, "freeze": False}
    assert "start" not in alone.manifest.lineage
    assert any("Starts from teacher:3." in str(event) for event in attempts.events())


def test_frozen_layers_stay_as_they_were_bit_by_bit(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    teacher = train(attempts, **spec(digits, epochs=1))
    before = weights(teacher, importer)
    pupil = train(attempts, **starting(digits, teacher, freeze=True, epochs=1))
    after = weights(pupil, importer)
    for name, value in before.items():
        assert torch.equal(after[name], value) == (not name.startswith("classes.")), name
    assert pupil.manifest.lineage["start"]["freeze"] is True


def test_other_labels_begin_with_a_new_last_layer(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    teacher = train(attempts, **spec(digits, epochs=1))
    files = {}
    for row in range(60):
        shade = 40 if row % 3 == 0 else 120 if row % 3 == 1 else 220
        files[f"{'abc'[row % 3]}/{row:03}.png"] = picture(shade + row % 20)
    shades = importer.upload(files)
    pupil = train(attempts, **starting(shades, teacher, freeze=True, epochs=2))
    assert pupil.manifest.labels == ["a", "b", "c"]
    after, before = weights(pupil, importer), weights(teacher, importer)
    assert torch.equal(after["conv1.weight"], before["conv1.weight"])
    assert after["classes.weight"].shape == (3, 8)
    assert any("last layer begins anew" in str(event) for event in attempts.events())


def picture(shade: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (28, 28), shade).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_pause_in_the_middle_gives_the_same_weights(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    teacher = train(attempts, **spec(digits, epochs=1))
    order = starting(digits, teacher, freeze=True, epochs=2, optimizer="adam")
    whole = weights(train(attempts, **order), importer)
    context = attempts.start(**order)
    stop_when(context, "training")
    with pytest.raises(Stopped) as stop:
        job.run(context)
    assert stop.value.status is OutcomeStatus.PAUSED
    resumed = weights(train(attempts, checkpoint=attempts.newest_checkpoint(), **order), importer)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_rows_of_another_shape_are_refused_before_any_is_read(
    digits: MadeDataset, attempts: Attempts, importer: Importer
) -> None:
    teacher = train(attempts, **spec(digits, epochs=1))
    order = starting(digits, teacher)
    # As an order would say that no check of the service has seen.
    order["params"]["params"] = check_train_params("cnn", {"channels": [4], "hidden": [9]}, None)
    with pytest.raises(WrongDataKind, match="does not fit"):
        job.run(attempts.start(**order))
    assert not [event for event in attempts.events() if type(event).__name__ == "Opened"]
