"""Waiting for deployments: what is wished now counts, not a state of before."""

from __future__ import annotations

from typing import Any

import pytest

from modelry.client._sync import deployments
from modelry.core.errors import DeadlineExceeded, ModelUnloadable, NotFound, to_wire
from tests.unit.client.answering import talking
from tests.unit.client.test_predictions import DEPLOYMENT

GONE = (404, {"error": to_wire(NotFound(noun="deployment", name="digits"))})


def look(state: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {**DEPLOYMENT, "replicas_list": [], "state": state, **more}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "POLL_S", 0.001)
    monkeypatch.setattr(deployments, "_FAILED_S", 0.01)


def test_deploying_waits_until_it_answers() -> None:
    starting = look("starting", ready_replicas=0)
    with talking(starting, starting, look("ready")) as (server, client):
        assert client.deploy("mnist:3").record.state == "ready"
        assert b'"name":"mnist"' in server.asked[0].body
        assert len(server.asked) == 3


def test_ready_replicas_of_the_version_before_do_not_count() -> None:
    stale = look("ready", version=4, ready_replicas=0)
    with talking(look("ready"), stale, stale, look("ready", version=4)) as (server, client):
        handle = client.deployments.get("digits")
        handle.update(model="mnist:4")
        assert handle.wait_ready().version == 4
        assert len(server.asked) == 4


def test_a_failure_of_before_is_not_believed_at_once() -> None:
    with talking(look("failed"), look("failed"), look("ready")) as (_, client):
        assert client.deployments.get("digits").wait_ready().state == "ready"


def test_a_failure_that_stays_is_raised_as_what_it_is() -> None:
    failure = {"code": "model_unloadable", "message": "It is damaged.", "remedy": "Train again."}
    with (
        talking(look("failed", failure=failure)) as (_, client),
        pytest.raises(ModelUnloadable, match="damaged"),
    ):
        client.deployments.get("digits").wait_ready()


def test_waiting_has_an_end() -> None:
    starting = look("starting", ready_replicas=0)
    with talking(starting) as (_, client), pytest.raises(DeadlineExceeded, match="starting"):
        client.deployments.get("digits").wait_ready(timeout_s=0.01)


def test_nothing_is_wished_of_a_stopped_deployment() -> None:
    with talking(look("stopped", replicas=0, ready_replicas=0)) as (_, client):
        assert client.deployments.get("digits").wait_ready().state == "stopped"


def test_deleting_waits_until_it_is_gone() -> None:
    with talking(look("ready"), (202, None), look("deleting"), GONE) as (server, client):
        client.deployments.get("digits").delete()
        assert [asked.method for asked in server.asked] == ["GET", "DELETE", "GET", "GET"]


CANARY = {"version": 4, "model_version_id": "mdv_4", "percent": 10.0}


def test_each_act_is_one_call_that_says_what_is_wished() -> None:
    acts = [look("ready")]
    with talking(*acts) as (server, client):
        handle = client.deployments.get("digits")
        handle.update(min_replicas=1, max_replicas=4, idle_s=600.0, threads=None)
        handle.canary("mnist:4", percent=10)
        handle.canary(percent=50)
        handle.promote()
        handle.rollback()
        handle.stop()
        handle.start()
    said = [(one.method, one.path.rpartition("/deployments")[2], one.body) for one in server.asked]
    assert said[1:] == [
        ("PATCH", "/digits", b'{"min_replicas":1,"max_replicas":4,"idle_s":600.0}'),
        ("PATCH", "/digits", b'{"canary":{"model":"mnist:4","percent":10}}'),
        ("PATCH", "/digits", b'{"canary":{"percent":50}}'),
        ("POST", "/digits/promote", b""),
        ("POST", "/digits/rollback", b""),
        ("POST", "/digits/stop", b""),
        ("POST", "/digits/start", b""),
    ]


def test_a_canary_is_waited_for_until_one_of_its_replicas_answers() -> None:
    replica = {
        "id": "rep_1",
        "deployment_id": "dep_1",
        "model_version_id": "mdv_4",
        "version": 4,
        "max_batch": 32,
        "threads": 1,
        "worker_id": "rep_1",
        "state": "starting",
        "address": None,
        "created_at": 0.0,
    }
    begins = look("ready", canary=CANARY, replicas_list=[replica])
    answers = look("ready", canary=CANARY, replicas_list=[{**replica, "state": "ready"}])
    with talking(begins, begins, begins, answers) as (server, client):
        client.deployments.get("digits").wait_canary()
        assert len(server.asked) == 4


def test_what_holds_a_canary_back_is_raised() -> None:
    failure = {"code": "model_unloadable", "message": "It is damaged.", "remedy": "Train again."}
    broken = look("degraded", canary=CANARY, failure=failure)
    with talking(broken) as (_, client), pytest.raises(ModelUnloadable, match="damaged"):
        client.deployments.get("digits").wait_canary()
