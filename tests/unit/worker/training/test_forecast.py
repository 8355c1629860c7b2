"""Series in time: what a window holds, what it is compared with, and how it reaches a served model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelry.artifacts import Artifacts
from modelry.core.errors import InvalidInput, WrongDataKind
from modelry.core.feeding import plan_feed
from modelry.core.manifests import ModelManifest, TableInput
from modelry.core.tables import encode_columns, encode_rows
from modelry.core.tensors import decode_payload
from modelry.server.api.doors import native
from modelry.worker.data.encoding import column_numbers
from modelry.worker.data.reading import open_dataset
from modelry.worker.models.package import load_recipe_model
from modelry.worker.models.verify import original
from modelry.worker.recipes.forecast import carried_forward
from modelry.worker.training.windows import WindowSamples
from tests.unit.worker.training.conftest import Attempts
from tests.unit.worker.training.test_kinds import CASES, Made, train

NAN = float("nan")
CASE = CASES["series"]
JSON = "application/json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A trained package."""
    root = tmp_path_factory.mktemp("forecast")
    torch.set_num_threads(1)
    attempts = Attempts(root)
    yield train(CASE, attempts, root, epochs=1)
    attempts.close()


def media_of(model: Made) -> TableInput:
    assert isinstance(model.manifest.media, TableInput)
    return model.manifest.media


def rows_of(model: Made, root: Path, count: int) -> Any:
    """The last rows of the test split, as an Arrow table."""
    Artifacts(str(model.folder.parent / "blobs")).fetch(model.data.files, root)
    names = [column.name for column in media_of(model).columns]
    return open_dataset(root).table("test", names).slice(200 - count)


def samples_of(target: list[float], window: int, horizon: int, season: int = 1) -> WindowSamples:
    rows = torch.tensor([[value, 10.0 + place] for place, value in enumerate(target)])
    return WindowSamples(rows, window, horizon, season)


def test_a_window_lies_in_its_split_and_ends_before_known_values() -> None:
    samples = samples_of([0, 1, NAN, 3, 4, 5, NAN, 7, 8], window=2, horizon=2)
    # 2 and 6 are missing: only the values (3, 4), (4, 5) and (7, 8) can be learned.
    assert samples.starts.tolist() == [1, 2, 5]
    rows, values = samples.batch(torch.tensor([2, 0]))
    assert values.tolist() == [[7, 8], [3, 4]]
    assert rows[:, :, 1].tolist() == [[15, 16], [11, 12]]
    assert rows[:, :, 0].isnan().tolist() == [[False, True], [False, True]]
    assert torch.equal(samples.labels, torch.tensor([[3.0, 4.0], [4.0, 5.0], [7.0, 8.0]]))


@pytest.mark.parametrize("target", [[], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0, NAN, NAN]])
def test_a_stretch_that_is_too_short_has_no_window(target: list[float]) -> None:
    rows = torch.tensor(target).reshape(-1, 1)
    assert len(WindowSamples(rows, window=2, horizon=2, season=1)) == 0


def test_what_is_held_out_comes_last_and_shares_no_row_with_the_rest() -> None:
    samples = samples_of([float(place) for place in range(100)], window=6, horizon=3)
    kept, held = samples.hold_out(0.2, seed=3)
    assert held.tolist() == list(range(92 - 18, 92))
    last_learned = int(samples.starts[kept[-1]]) + 6 + 3 - 1
    assert last_learned == int(samples.starts[held[0]]) - 1
    assert kept.tolist() == list(range(len(kept)))


def test_a_series_too_short_to_hold_windows_out_holds_out_none() -> None:
    samples = samples_of([float(place) for place in range(12)], window=6, horizon=3)
    kept, held = samples.hold_out(0.5, seed=0)
    assert (len(kept), len(held)) == (4, 0)


def test_simple_forecasts_and_the_gain_are_those_of_a_hand_computation() -> None:
    samples = samples_of([1, 5, NAN, 8, 2, 9, 4], window=2, horizon=2, season=3)
    # Targets (8, 2), (2, 9), (9, 4): their last known values are 5 (a gap), 8 and 2.
    assert samples.starts.tolist() == [1, 2, 3]
    every = torch.arange(3)
    assert samples.naive(every).tolist() == [[5, 5], [8, 8], [2, 2]]
    # Three rows before: 1 and 5; 5 and the carried 5; 5 and 8.
    assert samples.seasonal(every).tolist() == [[1, 5], [5, 5], [5, 8]]
    evaluation = samples.evaluation([])
    answers = np.array([[8, 4], [3, 9], [9, 4]], np.float32)
    truth = samples.labels.numpy()
    evaluation.add(answers[:2], truth[:2])
    evaluation.add(answers[2:], truth[2:])
    found = evaluation.metrics()
    assert found["mae"] == pytest.approx((2 + 1) / 6)
    assert found["rmse"] == pytest.approx(((4 + 1) / 6) ** 0.5)
    assert found["mae_ahead"] == pytest.approx([1 / 3, 2 / 3])
    assert found["naive_mae"] == pytest.approx((3 + 3 + 6 + 1 + 7 + 2) / 6)
    assert found["seasonal_mae"] == pytest.approx((7 + 3 + 3 + 4 + 4 + 4) / 6)
    assert found["gain"] == pytest.approx(1 - 3 / 22)
    assert found["worst"][0] == {"row": 3, "truth": [8, 2], "said": [8, 4], "error": 1.0}
    json.dumps(found)


def test_a_season_shorter_than_the_horizon_looks_at_the_past_alone() -> None:
    samples = samples_of([1, 2, 3, 4, 5, 6], window=2, horizon=4, season=2)
    assert samples.seasonal(torch.arange(1)).tolist() == [[1, 2, 1, 2]]
    longer = samples_of([1, 2, 3, 4, 5, 6], window=2, horizon=4, season=5)
    # What lies before the split is not known: there the last value stands.
    assert longer.seasonal(torch.arange(1)).tolist() == [[2, 2, 2, 1]]


@pytest.mark.parametrize("steps", [1, 2, 7, 24])
def test_missing_values_are_those_of_the_row_before(steps: int) -> None:
    random = np.random.default_rng(steps)
    is_known = random.random((50, steps, 2)) < 0.3
    values = np.where(is_known, random.normal(size=is_known.shape), 0.0)
    wanted = values.copy()
    for step in range(1, steps):
        wanted[:, step] = np.where(is_known[:, step], values[:, step], wanted[:, step - 1])
    found = carried_forward(torch.from_numpy(values), torch.from_numpy(is_known))
    assert np.array_equal(found.numpy(), wanted)


def test_untrained_it_says_the_last_known_value(model: Made) -> None:
    network = load_recipe_model(model.folder)
    torch.nn.init.zeros_(network.get_submodule("ahead").weight)
    torch.nn.init.zeros_(network.get_submodule("ahead").bias)
    rows = np.full((1, 12, 3), NAN, np.float32)
    assert np.allclose(original(network)(rows), network.get_buffer("mean")[0])
    rows[0, 4, 0] = 61.5
    assert np.allclose(original(network)(rows), 61.5)


def test_the_served_form_equals_the_network_also_with_gaps(model: Made) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(50, 20, (9, 12, 3)).astype(np.float32)
    rows[:, :, 2] = random.integers(0, 5, (9, 12))
    rows[random.random(rows.shape) < 0.3] = NAN
    rows[0] = NAN
    expected = original(load_recipe_model(model.folder))(rows)
    assert expected.shape == (9, 3)
    assert np.allclose(model.ask(rows), expected, atol=1e-3)
    assert np.allclose(model.ask(rows[:1]), expected[:1], atol=1e-3)


def test_its_package_says_what_goes_in_and_out(model: Made) -> None:
    manifest, media = model.manifest, media_of(model)
    assert (media.steps, manifest.inputs[0].shape) == (12, [None, 12, 3])
    assert manifest.inputs[0].columns == ["level", "rain", "shift"]
    assert manifest.outputs[0].shape == [None, 3]
    assert len(manifest.metrics["mae_ahead"]) == 3


def test_rows_are_read_alike_by_doors_and_workers(model: Made, tmp_path: Path) -> None:
    table, media = rows_of(model, tmp_path / "data", 12), media_of(model)
    by_worker = column_numbers(table, media.columns)[None]
    assert np.isnan(by_worker).any()
    by_row = encode_rows([table.to_pylist()], media)
    by_column = encode_columns(table.to_pydict(), media)
    for found in (by_row, by_column):
        assert np.array_equal(found, by_worker, equal_nan=True)
    for body in ({"input": table.to_pylist()}, {"inputs": [table.to_pylist()] * 2}):
        rows = asked(body, model.manifest)
        assert np.array_equal(rows[-1:], by_worker, equal_nan=True)
    numbers = np.nan_to_num(by_worker)
    assert np.array_equal(asked({"inputs": numbers.tolist()}, model.manifest), numbers)
    assert np.isfinite(model.ask(by_worker)).all()


def asked(body: dict[str, Any], manifest: ModelManifest) -> Any:
    return decode_payload(native.decode(json.dumps(body).encode(), JSON, manifest)).tensors["x"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda rows: {"input": rows[:11]}, "input 0 has 11 rows"),
        (lambda rows: {"inputs": [rows, [*rows, rows[0]]]}, "input 1 has 13 rows"),
        (lambda rows: {"inputs": rows}, "input 0 is no list of rows"),
        (lambda rows: {"input": [*rows[:11], {"level": 1}]}, "row 11 lacks the column"),
        (lambda rows: {"input": [[0, 0, 0]] * 11}, r"has the shape \(1, 11, 3\)"),
        (lambda rows: {"input": []}, "has the shape"),
    ],
)
def test_another_number_of_rows_is_refused_with_the_right_one(
    model: Made, tmp_path: Path, make: Any, reason: str
) -> None:
    rows = rows_of(model, tmp_path / "data", 12).to_pylist()
    with pytest.raises(InvalidInput, match=reason) as refusal:
        asked(make(rows), model.manifest)
    assert "12" in refusal.value.remedy


def test_single_rows_of_a_data_set_are_not_its_input(model: Made) -> None:
    with pytest.raises(WrongDataKind, match="takes 12 rows in the order of time as one input"):
        plan_feed(model.data.manifest, model.manifest)


def test_a_split_without_a_window_is_refused_with_what_to_change(
    tmp_path: Path, attempts: Attempts
) -> None:
    with pytest.raises(WrongDataKind, match="The split 'test' has no 190 rows") as refusal:
        train(CASE, attempts, tmp_path, epochs=1, window=190, horizon=20)
    assert "smaller window" in refusal.value.remedy
