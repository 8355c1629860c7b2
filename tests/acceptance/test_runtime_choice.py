"""A trained model tells how it can be run on this machine, and is served in the way that was found fastest."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.api import Api
from tests.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_digits_are_measured_when_published_and_served_as_measured(
    service: Service, api: Api
) -> None:
    api.add_digits()
    job = api.wait_job(api.train())
    lines = [line["text"] for line in api.get(f"/jobs/{job['id']}/logs")]
    assert any(line.startswith("Fastest of") for line in lines)

    manifest = api.get("/models/digits/versions/1")["manifest"]
    ways = manifest["measurements"]
    assert {"onnxruntime", "torch"} <= {way["runtime"] for way in ways}
    assert {1, 2} <= {way["threads"] for way in ways} or len({way["threads"] for way in ways}) == 1
    [kept] = [way for way in ways if way["is_kept"]]
    assert kept["is_faithful"]
    assert kept["threads"] == 1
    [first, *_] = manifest["runtimes"]
    assert first == kept["runtime"]
    assert manifest["runtimes"][first]["options"] == kept["options"]
    figures = {
        (way["runtime"], str(way["options"])): way["rows_per_s"] / way["single_ms"]
        for way in ways
        if way["threads"] == 1 and way["is_faithful"]
    }
    best = max(figures.values())
    assert figures[kept["runtime"], str(kept["options"])] >= best / 1.10**4

    api.deploy("digits", "digits")
    shown = subprocess.run(
        [sys.executable, "-m", "modelry.cli.main", "models", "show", "digits"],
        env={**service.environment, "MODELRY_URL": service.url},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "serves" in shown
    assert "ROWS/S" in shown
    with service.client() as client:
        assert client.predict("digits", [[[0.0]] * 28] * 28).score > 0
