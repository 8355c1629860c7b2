"""What was used is counted once: through kill -9 of web processes and of the controller, and through a restart."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance import pausing
from tests.acceptance.pausing import NAME, Asked, Crowd, deploy
from tests.api import Api
from tests.service import Service, wait_until

WEB, CONTROLLER = "modelry.server.api.serve", "modelry.server.control.controller"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Api]]:
    """Two web processes before a model that answers at once."""
    home = tmp_path_factory.mktemp("usage") / "home"
    with (
        pausing.service_with_pausing(home, 0.001, web="2", lease_s="0.6") as (service, _),
        Api(service) as api,
    ):
        deploy(api, max_batch=32)
        yield service, api


def new_key(api: Api) -> tuple[str, str]:
    made = api.post("/keys", {"label": "counted", "scopes": ["infer"], "project": "default"})
    time.sleep(0.1)
    return made["text"], made["key"]["id"]


def counted(api: Api, key_id: str) -> dict[str, Any]:
    """What the store says of a key."""
    rows = api.get("/usage", params={"by": "key"})
    return next((row for row in rows if row["key"] == key_id), {"requests": 0, "rows": 0})


def settled(api: Api, key_id: str) -> dict[str, Any]:
    """What it says once nothing more comes in."""
    seen: list[tuple[float, int]] = []

    def is_still() -> bool:
        seen.append((time.monotonic(), counted(api, key_id)["requests"]))
        return any(
            at < seen[-1][0] - 4 and all(n == seen[-1][1] for t, n in seen if t >= at)
            for at, _ in seen
        )

    wait_until(is_still, 30, "the usage is settled")
    return counted(api, key_id)


def crowd_while(
    service: Service, key: str, rate: float, duration_s: float, *strikes: tuple[float, str]
) -> list[Asked]:
    """Asks while processes are killed: (after so many seconds, words of their command line)."""

    def strike() -> None:
        began = time.monotonic()
        for after_s, words in strikes:
            time.sleep(max(0.0, began + after_s - time.monotonic()))
            victims = service.find(words)
            if victims:
                victims[0].kill()

    thread = threading.Thread(target=strike)
    thread.start()
    asked = asyncio.run(Crowd(service.url, key).come(rate, duration_s, rows=3))
    thread.join()
    return asked


def test_every_request_is_counted_with_its_rows_bytes_and_compute_time(
    house: tuple[Service, Api],
) -> None:
    service, api = house
    key, key_id = new_key(api)
    asked = crowd_while(service, key, 50, 1.0)
    assert {one.status for one in asked} == {200}
    found = settled(api, key_id)
    assert found["requests"] == len(asked) == 50
    assert (found["rows"], found["errors"]) == (150, 0)
    assert found["bytes_in"] == sum(len(pausing.body_of(one.number, 3)) for one in asked)
    assert found["bytes_out"] > 0
    assert 0.0 < found["compute_s"] < 50.0


def test_kill_9_of_web_processes_loses_no_answer_and_counts_none_twice(
    house: tuple[Service, Api],
) -> None:
    service, api = house
    key, key_id = new_key(api)
    strikes = ((0.7, WEB), (1.5, WEB), (2.4, CONTROLLER), (2.9, WEB))
    asked = crowd_while(service, key, 150, 4.0, *strikes)
    answered = sum(one.status == 200 for one in asked)
    assert answered > len(asked) / 4
    assert any(one.status == 0 for one in asked), "nobody noticed the deaths"
    found = settled(api, key_id)
    # More than the promise, which leaves out the last second: tables outlive their process.
    assert answered <= found["requests"] <= len(asked)
    assert found["rows"] >= 3 * answered


def test_a_restart_of_everything_changes_no_count_and_leaves_no_file(
    house: tuple[Service, Api],
) -> None:
    service, api = house
    key, key_id = new_key(api)
    asked = crowd_while(service, key, 100, 1.0)
    service.kill_everything()
    service.start()
    found = settled(api, key_id)
    assert found["requests"] == len(asked)
    running = {path.name for path in (service.home / "run" / "counters").iterdir()}
    assert sum(name.startswith("web") for name in running) == 2
    journals = list((service.home / "run" / "usage").iterdir())
    assert all(path.name.partition(".")[0] in running for path in journals)


def test_usage_is_told_apart_as_asked_and_the_command_shows_it(
    house: tuple[Service, Api],
) -> None:
    service, api = house
    day = time.strftime("%Y-%m-%d", time.gmtime())
    by_version = api.get("/usage", params={"by": "version,day"})
    assert [(r["deployment"], r["model"], r["version"]) for r in by_version] == [(NAME, NAME, 1)]
    assert by_version[0]["day"] in (
        day,
        time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400)),
    )
    assert by_version[0]["key"] is None
    everywhere = api.get("/usage", params={"all_projects": "true"})
    assert [row["project"] for row in everywhere] == ["default"]
    assert api.get("/usage", params={"since": time.time() + 7200}) == []
    environment = {**os.environ, "MODELRY_URL": service.url, "MODELRY_KEY": service.key}
    shown = subprocess.run(
        [sys.executable, "-m", "modelry.cli.main", "usage", "--by", "key", "--since", "1d", "--json"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert sum(row["requests"] for row in json.loads(shown.stdout)) == everywhere[0]["requests"]
