"""What a model costs, through the whole service: trained, imported and not yet trained networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from modelry.core.analysis import analysis_in
from tests.api import Api
from tests.service import Service

pytestmark = pytest.mark.timeout(600)


def modelry(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as its own process."""
    command = [sys.executable, "-m", "modelry.cli.main", "--url", service.url, *arguments]
    environment = {**service.environment, "MODELRY_KEY": service.key, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_recipe_and_what_it_trained_have_the_same_cost(
    service: Service, api: Api, tmp_path: Path
) -> None:
    api.add_digits()
    before = api.wait_job(api.submit(kind="analyze", target="cnn", data="digits"))
    api.wait_job(api.train())
    with service.client() as client:
        record = client.analyze("digits").wait(timeout_s=120)
    recipe, model = analysis_in(before["notes"]), analysis_in(record.notes)
    assert (recipe.name, model.name) == ("cnn on digits:1", "digits:1")
    for one in (recipe, model):
        assert (one.macs, one.macs_backward) == (2_528_000, 2 * 2_528_000 - 194_688)
        assert one.parameters == 121_930
        assert one.uncounted == []
        assert one.row_shapes == {"x": [28, 28, 1]}
        assert all(layer.time_us > 0 for layer in one.layers if layer.macs)
        assert one.rates.flops_per_s > 1e9
        assert one.rates.bytes_per_s > 1e8
    assert [layer.name for layer in model.layers if layer.macs] == [
        "conv1",
        "conv2",
        "dense1",
        "classes",
    ]

    # A list of a hundred jobs is not to carry a hundred analyses.
    assert [job["notes"] for job in api.get("/jobs", params={"kind": "analyze"})] == [{}, {}]
    assert "analysis" not in modelry(service, "jobs", "show", record.id).stdout

    done = modelry(service, "analyze", "digits", "--to", str(tmp_path / "cost.png"))
    assert done.returncode == 0, done.stderr
    assert "2,230,272" in done.stdout
    assert "training memory, batch 32" in done.stdout
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.width > 1000
    plain = modelry(service, "analyze", "rnn", "--data", "digits", "--set", "cell=gru", "--json")
    assert plain.returncode == 0, plain.stderr
    told = json.loads(plain.stdout)
    assert told["macs"] == 28 * 3 * 128 * (28 + 128) + 2 * 28 * 3 * 128 * 256 + 1280


def test_how_descent_behaves_is_told_and_drawn(service: Service, api: Api, tmp_path: Path) -> None:
    api.add_digits()
    drawn = tmp_path / "behaviour.png"
    small = ("--set", "hidden=8", "--set", "layers=1", "--set", "cell=rnn")
    done = modelry(
        service, "analyze", "rnn", "--data", "digits", *small, "--behaviour", "--to", str(drawn)
    )
    assert done.returncode == 0, done.stderr
    for word in ("batch", "mini-batch", "stochastic", "lstm", "gru"):
        assert f"\n{word} " in done.stdout
    with Image.open(drawn) as picture:
        assert picture.width > 1500


def test_a_file_that_cannot_be_drawn_is_refused_before_the_work(
    service: Service, api: Api, tmp_path: Path
) -> None:
    done = modelry(service, "analyze", "digits", "--to", str(tmp_path / "cost.txt"))
    assert done.returncode != 0
    assert ".png" in done.stderr
    assert api.get("/jobs") == []
