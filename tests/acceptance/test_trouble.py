"""What happens around the service: a locked database, a revoked key, several web processes, TLS, a refused start."""

from __future__ import annotations

import shutil
import sqlite3
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.api import Api
from tests.service import Service, running_service, wait_until

SMALL = {"epochs": 1, "channels": [4], "hidden": [8]}
PICTURE = {"instances": [[[[0.5]] * 28] * 28]}


@pytest.mark.slow
def test_a_locked_database_stops_no_prediction_and_loses_no_job(service: Service, api: Api) -> None:
    api.add_digits()
    api.wait_job(api.train(params=SMALL))
    api.deploy("digits", "digits")
    counting = api.submit(kind="sleep", steps=60, step_s=0.1)
    api.wait_job(counting, "running")
    lock = sqlite3.connect(service.home / "modelry.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    refused = api.ask("POST", "/api/v1/jobs", json={"kind": "sleep"}, patience_s=0)
    while time.monotonic() - began < 10:
        answer = api.ask("POST", "/v1/models/digits:predict", json=PICTURE, patience_s=0)
        assert answer.is_success, answer.text
        time.sleep(0.1)
    lock.close()
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "store_unavailable"
    assert api.wait_job(counting)["attempt"] == 1
    assert len(api.get("/jobs", params={"kind": "sleep"})) == 1


@pytest.mark.slow
def test_two_web_processes_serve_as_one(tmp_path: Path) -> None:
    with running_service(tmp_path / "home", web="2") as service, Api(service) as api:
        api.add_digits()
        api.wait_job(api.train(params=SMALL))
        api.deploy("digits", "digits")
        made = api.post("/keys", {"label": "guest", "scopes": ["infer"], "project": "default"})

        def status() -> int:
            # A connection of its own each time: the kernel hands it to either process.
            return httpx.post(
                service.url + "/v1/models/digits:predict",
                json=PICTURE,
                headers={"authorization": f"Bearer {made['text']}"},
            ).status_code

        wait_until(lambda: {status() for _ in range(20)} == {200}, 2.5, "both know the key")
        api.delete(f"/keys/{made['key']['id']}")
        wait_until(lambda: {status() for _ in range(20)} == {401}, 2.5, "neither knows the key")


def test_tls_speaks_https_only(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = subprocess.run(
        [*command, "-keyout", str(key), "-out", str(certificate)], capture_output=True
    )
    assert made.returncode == 0, made.stderr
    service = Service(tmp_path / "home", tls_cert=str(certificate), tls_key=str(key))
    service.authority = ssl.create_default_context(cafile=str(certificate))
    try:
        service.start()
        assert service.url.startswith("https://")
        assert httpx.get(service.url + "/health", verify=service.authority).is_success
        with pytest.raises(httpx.TransportError):
            httpx.get(service.url.replace("https", "http") + "/health")
    finally:
        service.kill_everything()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "MODELRY_INSECURE_HTTP"),
        ({"port": "many"}, "MODELRY_PORT"),
        ({"database_url": "oracle://x"}, "database"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused_with_the_remedy(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "modelry.server.supervisor"],
        env=Service(tmp_path / "home", **settings).environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode != 0
    assert words.lower() in (refused.stdout + refused.stderr).lower()
    assert "Traceback" not in refused.stderr


def test_a_second_service_on_the_same_home_is_refused(service: Service) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "modelry.server.supervisor"],
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode != 0
    assert "already runs" in second.stderr + second.stdout
    assert httpx.get(service.url + "/health").is_success


def test_server_paths_are_read_only_below_the_import_roots(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        dice = np.random.default_rng(1)
        np.savez(
            folder / "data.npz",
            x=dice.integers(0, 255, (20, 8, 8), dtype=np.uint8),
            y=np.arange(20) % 2,
        )
    with (
        running_service(tmp_path / "home", import_roots=str(inside)) as service,
        Api(service) as api,
    ):
        good = api.post("/datasets", {"name": "a", "source": "path", "location": str(inside)})
        assert api.wait_job(good["id"])["state"] == "succeeded"
        for location in (str(outside), f"{inside}/../outside", "/etc"):
            body = {"name": "b", "source": "path", "location": location}
            answer = api.ask("POST", "/api/v1/datasets", json=body)
            assert answer.json()["error"]["code"] == "path_refused"
