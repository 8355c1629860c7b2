"""What can be made can be deleted; what something stands on is refused with the list; then the disk is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api import Api
from tests.service import Service, wait_until


def blob_files(service: Service) -> list[Path]:
    return [
        path
        for path in (service.home / "blobs").rglob("*")
        if path.is_file() and len(path.name) == 64
    ]


def refused(api: Api, path: str) -> str:
    """The error of a delete that must be refused because of its users."""
    answer = api.ask("DELETE", f"/api/v1{path}")
    assert answer.status_code == 409, answer.text
    error = answer.json()["error"]
    assert error["code"] == "in_use"
    return str(error["message"])


@pytest.mark.slow
def test_everything_goes_in_an_allowed_order(service: Service, api: Api) -> None:
    api.add_digits()
    job_id = api.train(params={"epochs": 1, "channels": [4], "hidden": [8]})
    api.wait_job(job_id)
    api.deploy("digits", "seven")
    assert blob_files(service)
    assert "seven" in refused(api, "/models/digits")
    assert "seven" in refused(api, "/models/digits/versions/1")

    api.delete("/deployments/seven")
    wait_until(
        lambda: api.ask("GET", "/api/v1/deployments/seven").status_code == 404, 30, "it is gone"
    )
    api.delete("/models/digits")
    api.delete("/datasets/digits")
    for job in api.get("/jobs"):
        api.delete(f"/jobs/{job['id']}")
    swept = api.post("/gc", {"grace_s": 0})
    assert swept["freed_bytes"] > 0
    assert blob_files(service) == []
    assert api.get("/models") == []
    assert api.get("/datasets") == []
    assert api.get("/jobs") == []


@pytest.mark.slow
def test_a_data_set_outlives_no_running_job(service: Service, api: Api) -> None:
    api.add_digits()
    job_id = api.train(params={"epochs": 500})
    api.wait_job(job_id, "running")
    assert job_id in refused(api, "/datasets/digits")
    assert job_id in refused(api, f"/jobs/{job_id}")
    api.post(f"/jobs/{job_id}/cancel")
    api.wait_job(job_id, "cancelled", timeout_s=30)
    api.delete("/datasets/digits")
    api.delete(f"/jobs/{job_id}")
    api.post("/gc", {"grace_s": 0})
    wait_until(lambda: not blob_files(service), 10, "the disk is back")


@pytest.mark.slow
def test_the_sweep_spares_what_a_running_job_will_name(service: Service, api: Api) -> None:
    api.add_digits()
    job_id = api.train(params={"epochs": 3, "channels": [4], "hidden": [8]}, checkpoint_steps=5)
    api.wait_job(job_id, "running")
    while api.job(job_id)["state"] in ("starting", "running"):
        api.post("/gc", {"grace_s": 0})
    assert api.wait_job(job_id)["state"] == "succeeded"
    version = api.get("/models/digits/versions/latest")
    for file in version["files"]:
        answer = api.ask("GET", f"/api/v1/models/digits/versions/1/files/{file['path']}")
        assert len(answer.content) == file["size_bytes"]
