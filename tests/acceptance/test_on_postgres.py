"""The whole story on a real PostgreSQL: data, job, model, deployment, prediction, and a database that goes away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api import Api
from tests.postgres import PostgresServer, running_postgres
from tests.service import running_service

SMALL = {"epochs": 1, "channels": [4], "hidden": [8]}


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.mark.postgres
@pytest.mark.slow
def test_one_whole_story(server: PostgresServer, tmp_path: Path) -> None:
    address = server.new_database()
    picture = [[[0.5]] * 28] * 28
    with running_service(tmp_path / "home", database_url=address) as service, Api(service) as api:
        assert api.get("/status")["database"] == "postgresql"
        assert not (tmp_path / "home" / "modelry.db").exists()
        api.add_digits("手写数字")
        job_id = api.train(model="数字", data="手写数字", params=SMALL)
        assert api.wait_job(job_id)["notes"]["version"] == 1
        assert api.metrics(job_id, "epoch/train_loss")
        api.deploy("数字", "seven")
        body = {"instances": [picture]}
        first = api.call("POST", "/v1/models/seven:predict", json=body)

        server.stop()
        assert api.call("POST", "/v1/models/seven:predict", json=body) == first
        refused = api.ask("GET", "/api/v1/models", patience_s=0)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "store_unavailable"
        server.start()
        assert [model["name"] for model in api.get("/models")] == ["数字"]

        service.kill_everything()
        service.start()
        api.wait_deployment("seven", "ready")
        assert api.call("POST", "/v1/models/seven:predict", json=body) == first
        api.delete("/deployments/seven")
