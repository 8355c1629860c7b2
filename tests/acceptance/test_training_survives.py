"""Ten kills at random steps do not change one bit of the weights."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.api import Api
from tests.service import Service, wait_until

PARAMS = {
    # Long enough for ten lives on a quick machine: steps of some milliseconds, not of one.
    "epochs": 30,
    "batch_size": 16,
    "channels": [32, 64],
    "hidden": [64],
    "dropout": 0.3,
    "optimizer": "sgd",
    "momentum": 0.9,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "validation": 0.1,
    "patience": 50,
}
RUNNER = "modelry.worker.runner"


def weights_digest(api: Api, model: str) -> str:
    version = api.get(f"/models/{model}/versions/latest")
    [digest] = [f["digest"] for f in version["files"] if f["path"] == "weights.safetensors"]
    return str(digest)


def train(api: Api, model: str, **more: Any) -> str:
    return api.train(model=model, params=PARAMS, threads=1, checkpoint_steps=7, **more)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_final_weights_equal_those_of_an_unharmed_run(service: Service, api: Api) -> None:
    api.add_digits()
    api.wait_job(train(api, "unharmed"))
    unharmed = weights_digest(api, "unharmed")

    job_id = train(api, "killed")
    dice = random.Random(7)
    kills = 0
    while kills < 10:
        seen = api.job(job_id)["checkpoint_step"] or 0

        def moved_on(seen: int = seen) -> bool:
            job = api.job(job_id)
            return job["state"] in ("succeeded", "failed") or (
                job["state"] == "running" and (job["checkpoint_step"] or 0) > seen
            )

        wait_until(moved_on, 120, "the job passes another checkpoint")
        if api.job(job_id)["state"] != "running":
            break
        time.sleep(dice.random() * 0.1)
        kills += service.kill(RUNNER, job_id)
    api.wait_job(job_id)
    assert kills >= 5, "the job was too quick to be killed often"
    assert weights_digest(api, "killed") == unharmed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_curve_is_the_same_after_a_power_cut(service: Service, api: Api) -> None:
    api.add_digits()
    api.wait_job(unharmed := train(api, "unharmed"))
    job_id = train(api, "cut")
    wait_until(lambda: (api.job(job_id)["checkpoint_step"] or 0) >= 60, 120, "a checkpoint")
    service.kill_everything()
    service.start()
    api.wait_job(job_id)
    assert weights_digest(api, "cut") == weights_digest(api, "unharmed")
    for name in ("epoch/train_loss", "epoch/validation_loss"):
        curves = [
            [(point["step"], point["value"]) for point in api.metrics(which, name)]
            for which in (job_id, unharmed)
        ]
        assert len(curves[0]) == PARAMS["epochs"]
        assert curves[0] == curves[1]
