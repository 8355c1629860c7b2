"""A batch prediction through the whole service: killed again and again, every row is answered exactly once."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.api import Api
from tests.service import Service, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUNNER = "modelry.worker.runner"


def answers(service: Service, name: str) -> dict[str, dict[str, list[Any]]]:
    """Every split's columns."""
    with service.client() as client:
        found = {}
        for split, part in client.data.version(name).manifest["splits"].items():
            tables = [
                pq.read_table(io.BytesIO(client.data.read_file(name, file)))
                for file in part["files"]
            ]
            rows = [table.to_pydict() for table in tables]
            found[split] = {column: sum((row[column] for row in rows), []) for column in rows[0]}
        return found


def test_a_batch_that_is_killed_answers_as_an_unharmed_one(service: Service, api: Api) -> None:
    api.add_digits()
    api.wait_job(api.train())
    body = {"kind": "predict-batch", "data": "digits", "model": "digits"}
    unharmed = api.wait_job(api.submit(**body, name="unharmed"))
    assert unharmed["progress"]["phase"] == "predicting"
    assert unharmed["notes"]["version"] == 1

    # One row at a time, so that there is time to be killed in.
    job_id = api.submit(**body, name="killed", max_batch=1, checkpoint_s=0.1)
    dice, kills = random.Random(3), 0
    while kills < 4:
        seen = api.job(job_id)["checkpoint_step"] or 0

        def moved_on(seen: int = seen) -> bool:
            job = api.job(job_id)
            return job["state"] in ("succeeded", "failed") or (job["checkpoint_step"] or 0) > seen

        wait_until(moved_on, 120, "the job passes another checkpoint")
        if api.job(job_id)["state"] != "running":
            break
        wait_until(lambda: dice.random() < 0.3, 5, "some moment")
        kills += service.kill(RUNNER, job_id)
    done = api.wait_job(job_id)
    assert kills >= 1, "the job was too quick to be killed"
    assert done["attempt"] == kills + 1

    whole, killed = answers(service, "unharmed"), answers(service, "killed")
    digits = api.get("/datasets/digits/versions/1")["manifest"]["splits"]
    for split in ("train", "test"):
        assert killed[split]["row"] == list(range(digits[split]["rows"]))
        for column in ("row", "label", "predicted"):
            assert killed[split][column] == whole[split][column]
        assert killed[split]["predicted_score"] == pytest.approx(
            whole[split]["predicted_score"], abs=1e-5
        )
    assert done["notes"]["accuracy"] == pytest.approx(unharmed["notes"]["accuracy"])


def test_the_same_batch_twice_is_one_version_and_a_failed_one_leaves_no_name(
    service: Service, api: Api
) -> None:
    api.add_digits()
    api.wait_job(api.train())
    body = {"kind": "predict-batch", "data": "digits", "model": "digits:1", "split": "test"}
    for _ in range(2):
        api.wait_job(api.submit(**body))
    assert api.get("/datasets/digits-by-digits")["latest_version"] == 1
    job_id = api.submit(**body, name="gone", max_batch=1, checkpoint_s=30)
    api.call("POST", f"/api/v1/jobs/{job_id}/cancel")
    job = api.wait_job(job_id, "cancelled", "succeeded")
    names = [item["name"] for item in api.get("/datasets")]
    assert ("gone" in names) == (job["state"] == "succeeded")
