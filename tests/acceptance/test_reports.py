"""The page about a model version: whole, true, and without a link to anything else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.api import Api
from tests.service import Service

pytestmark = pytest.mark.timeout(600)


class Page(HTMLParser):
    """What a browser would load, and the words on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            value or ""
            for name, value in attributes
            if name in ("src", "href", "xlink:href", "srcset", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"


def report(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "modelry.cli.main", "--url", service.url, "models", "report"]
    environment = {**service.environment, "MODELRY_KEY": service.key, "COLUMNS": "200"}
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_version_s_page_and_its_json(service: Service, api: Api, tmp_path: Path) -> None:
    api.add_digits()
    job = api.wait_job(api.train(params={"validation": 0.1}))
    plain = report(service, "digits:1", "--json")
    assert plain.returncode == 0, plain.stderr
    told = json.loads(plain.stdout)
    assert told["metrics"]["rows"] == 359
    wrong = told["metrics"]["worst"]
    assert len(wrong) == min(32, round(359 * (1 - told["metrics"]["accuracy"])))
    assert sum(part["rows"] for part in told["metrics"]["calibration"]["bins"]) == 359
    assert {"epoch/train_loss", "epoch/validation_loss", "train/loss"} <= set(told["curves"])
    assert told["training_s"] == job["notes"]["training_s"]

    # The rows it names are those that it got wrong, in the data set's own order.
    with service.client() as client:
        from modelry.cli.held_out import read_held_out

        truth = read_held_out(client, client.data.version("digits")).labels
    assert [truth[error["row"]] for error in wrong] == [error["truth"] for error in wrong]

    file = tmp_path / "digits.html"
    done = report(service, "digits", "--to", str(file))
    assert done.returncode == 0, done.stderr
    page = Page(file.read_text())
    assert f"{told['metrics']['accuracy']:.2%}" in page.words
    assert "How it learned" in page.words
    assert page.tags.count("img") == len(wrong)
    assert "script" not in page.tags
    # Places inside the page and pictures that it carries; nothing is fetched.
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in page.loads), page.loads
    style = re.findall(r"url\(([^)]*)\)", file.read_text())
    assert all(place.strip("'\"").startswith("#") for place in style), style
    assert [path.name for path in tmp_path.glob("*.html*")] == ["digits.html"]

    # What is gone is left out: the training's curves, the data's pictures.
    api.delete(f"/jobs/{job['id']}")
    again = report(service, "digits", "--to", str(file))
    assert again.returncode == 0, again.stderr
    assert "How it learned" not in Page(file.read_text()).words


@pytest.mark.parametrize(
    "arguments",
    [(), ("--to", "page.txt"), ("--to", "no/such/page.html"), ("--to", "a.html", "--json")],
)
def test_what_cannot_be_written_is_refused_first(
    service: Service, arguments: tuple[str, ...]
) -> None:
    done = report(service, "digits", *arguments)
    assert done.returncode == 2
    assert "html" in done.stderr


def test_versions_side_by_side_tell_what_differs(
    service: Service, api: Api, tmp_path: Path
) -> None:
    api.add_digits()
    api.wait_job(api.train(params={"validation": 0.1}))
    api.wait_job(api.train(params={"pooling": "average", "channels": [4]}))
    picture = tmp_path / "curves.png"
    command = [sys.executable, "-m", "modelry.cli.main", "--url", service.url, "models", "compare"]
    environment = {**service.environment, "MODELRY_KEY": service.key, "COLUMNS": "200"}

    def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )

    done = compare("digits:1", "digits:2", "--to", str(picture))
    assert done.returncode == 0, done.stderr
    lines = {line.split("  ")[0].strip(): line.split() for line in done.stdout.splitlines()}
    assert lines["pooling"][1:] == ["max", "average"]
    assert lines["channels"][1:] == ["32,64", "4"]
    assert "epochs" not in lines
    assert "python" not in lines
    with Image.open(picture) as drawn:
        assert drawn.width > 800
    told = json.loads(compare("digits:1", "digits:2", "--json").stdout)
    shown = [f"{one['metrics']['accuracy']:.2%}" for one in told]
    assert lines["test accuracy"][2:] == shown
    assert compare("digits:1").returncode == 2
