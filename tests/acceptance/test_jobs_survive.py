"""A job that does nothing but count survives the death of every process of the service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.api import Api
from tests.service import Service, running_service, wait_until

CONTROLLER = "modelry.server.control.controller"
AGENT = "modelry.worker.agent"
WEB = "modelry.server.api.serve"
RUNNER = "modelry.worker.runner"


def submit_and_let_run(api: Api, steps: int = 40) -> str:
    job_id = api.submit(kind="sleep", steps=steps, step_s=0.05, checkpoint_steps=1)
    api.wait_job(job_id, "running")
    wait_until(lambda: (api.job(job_id)["checkpoint_step"] or 0) >= 3, 30, "three steps are safe")
    return job_id


@pytest.mark.parametrize("victim", [RUNNER, AGENT, CONTROLLER, WEB])
def test_the_job_finishes_though_a_process_is_killed(
    service: Service, api: Api, victim: str
) -> None:
    job_id = submit_and_let_run(api)
    assert service.kill(victim) >= 1
    job = api.wait_job(job_id)
    assert job["notes"]["result"] == {"steps": 40}
    assert job["attempt"] == (2 if victim == RUNNER else 1)


def test_the_job_goes_on_after_everything_was_killed(service: Service, api: Api) -> None:
    job_id = submit_and_let_run(api)
    service.kill_everything()
    service.start()
    job = api.wait_job(job_id)
    assert job["notes"]["result"] == {"steps": 40}
    steps = [point["step"] for point in api.metrics(job_id, "steps")]
    assert steps == sorted(set(steps))


def test_ctrl_c_checkpoints_and_the_next_start_goes_on(service: Service, api: Api) -> None:
    job_id = submit_and_let_run(api)
    assert service.stop() == 0
    assert service.processes() == []
    service.start()
    job = api.wait_job(job_id)
    assert job["notes"]["result"] == {"steps": 40}
    assert job["attempt"] == 2


def test_pause_resume_and_cancel_are_prompt(service: Service, api: Api) -> None:
    job_id = submit_and_let_run(api, steps=100_000)
    api.post(f"/jobs/{job_id}/pause")
    paused = api.wait_job(job_id, "paused", timeout_s=10)
    assert paused["checkpoint_step"] >= 3
    api.post(f"/jobs/{job_id}/resume")
    api.wait_job(job_id, "running", timeout_s=10)
    api.post(f"/jobs/{job_id}/cancel")
    api.wait_job(job_id, "cancelled", timeout_s=10)
    wait_until(lambda: service.find(RUNNER) == [], 10, "the runner is gone")
    answer = api.ask("POST", f"/api/v1/jobs/{job_id}/resume", json={})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "illegal_move"


def test_a_leader_of_the_past_can_change_nothing(service: Service, api: Api) -> None:
    job_id = submit_and_let_run(api, steps=60)
    [old] = service.find(CONTROLLER)
    os.kill(old.pid, signal.SIGSTOP)
    second = subprocess.Popen(
        [sys.executable, "-m", CONTROLLER], env=service.environment, stderr=subprocess.PIPE
    )
    try:
        wait_until(
            lambda: api.get("/status")["controller"]["holder"].endswith(f"-{second.pid}"),
            30,
            "the second controller leads",
        )
        epoch = api.get("/status")["controller"]["epoch"]
        time.sleep(3 * 0.6)
        os.kill(old.pid, signal.SIGCONT)
        job = api.wait_job(job_id)
        assert job["attempt"] == 1
        status = api.get("/status")["controller"]
        assert status["epoch"] == epoch
        assert status["holder"].endswith(f"-{second.pid}")
    finally:
        second.kill()
        second.communicate()


def test_a_job_over_its_limits_fails_with_the_numbers(service: Service, api: Api) -> None:
    slow = api.submit(kind="sleep", steps=1000, step_s=0.05, time_limit_s=1.0)
    job = api.wait_job(slow, "failed", timeout_s=30)
    assert job["failure"]["code"] == "out_of_time"
    fat = api.submit(kind="sleep", steps=1000, step_s=0.05, memory_limit_bytes=1 << 20)
    job = api.wait_job(fat, "failed", timeout_s=30)
    assert job["failure"]["code"] == "out_of_memory"


def test_more_jobs_than_slots_wait_and_say_why(service: Service, api: Api) -> None:
    ids = [api.submit(kind="sleep", steps=15, step_s=0.05) for _ in range(4)]
    wait_until(
        lambda: any("slot" in (api.job(i)["waiting_for"] or "") for i in ids), 10, "a job waits"
    )
    for job_id in ids:
        assert api.wait_job(job_id)["waiting_for"] is None


def test_without_a_bell_everything_still_moves(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("quiet") / "home"
    with (
        running_service(home, bell="false", poll_s="0.2", lease_s="0.6") as quiet,
        Api(quiet) as api,
    ):
        assert api.wait_job(api.submit(kind="sleep", steps=3, step_s=0.02))["state"] == "succeeded"
