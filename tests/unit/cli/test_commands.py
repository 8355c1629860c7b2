"""Commands against prepared answers: what they send, what they print, how they end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from modelry.cli.main import app
from modelry.core.errors import InUse, NotFound, to_wire
from tests.unit.cli.conftest import Run
from tests.unit.client.answering import answering
from tests.unit.client.test_predictions import DEPLOYMENT, answer
from tests.unit.client.test_uploading import JOB

MODEL = {
    "id": "mdl_1", "project": "default", "name": "手写数字", "created_at": 1.0, "latest_version": 3,
    "aliases": {"production": 2},
}  # fmt: skip
MISSING = (404, {"error": to_wire(NotFound(noun="model", name="x"))})


def every_command() -> list[tuple[tuple[str, ...], Any]]:
    def walk(path: tuple[str, ...], command: Any) -> list[tuple[tuple[str, ...], Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            return [(path, command)]
        return [item for name, child in children.items() for item in walk((*path, name), child)]

    return walk((), get_command(app))


@pytest.mark.parametrize(
    ("path", "command"),
    every_command(),
    ids=lambda item: " ".join(item) if isinstance(item, tuple) else "",
)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...], command: Any) -> None:
    assert command.help, path
    examples = re.findall(r"^\s+modelry (.*)$", command.help, re.MULTILINE)
    assert any(" ".join(path) in example for example in examples), path
    unexplained = [
        param.name
        for param in command.params
        if not getattr(param, "help", None) and param.name != "help"
    ]
    assert unexplained == [], path


def test_the_first_page_is_help(modelry: Run) -> None:
    ended = modelry()
    assert ended.status == 2
    assert "quickstart" in ended.out + ended.err
    assert modelry("--version").out.startswith("modelry 0.")


def test_an_error_is_a_sentence_and_a_remedy_on_standard_error(modelry: Run) -> None:
    with answering(MISSING) as server:
        ended = modelry("models", "show", "x", url=server.url)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines()[0] == "Error: The model 'x' does not exist."
    assert "Check the name" in ended.err


def test_no_service_is_told_with_the_remedy(modelry: Run) -> None:
    ended = modelry("status", url="http://127.0.0.1:9")
    assert ended.status == 1
    assert "modelry up" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["train", "cnn"],
        ["train", "cnn", "--data", "a", "--model", "b", "--set", "epochs"],
        ["data", "add", "x"],
        ["deployments", "update", "x"],
        ["deployments", "scale", "x"],
        ["deployments", "canary", "x"],
        ["deployments", "scale", "x", "--idle", "soon"],
        ["models", "alias", "m", "a"],
        ["rm", "nothing", "x"],
    ],
)
def test_wrong_use_ends_with_status_2(modelry: Run, arguments: list[str]) -> None:
    assert modelry(*arguments).status == 2


def test_lists_are_tables_for_people_and_json_for_programs(modelry: Run) -> None:
    with answering((200, [MODEL])) as server:
        table = modelry("models", "list", url=server.url).out
        plain = json.loads(modelry("models", "list", "--json", url=server.url).out)
    header, row = table.splitlines()
    assert header.split() == ["NAME", "VERSION", "ALIASES", "CREATED"]
    assert row.split()[:3] == ["手写数字", "3", "production=2"]
    assert plain == [MODEL]


def test_an_empty_list_says_how_to_begin(modelry: Run) -> None:
    with answering((200, [])) as server:
        ended = modelry("deployments", "list", url=server.url)
    assert "modelry deploy" in ended.err


def test_train_sends_what_was_said_and_prints_the_id(modelry: Run) -> None:
    words = [
        "train",
        "cnn",
        "--data",
        "mnist:2",
        "--model",
        "m",
        "--set",
        "epochs=5",
        "--set",
        "channels=8,16",
    ]
    more = ["--preset", "fast", "--threads", "2", "--memory", "2GiB", "--time", "10m"]
    with answering((202, {**JOB, "kind": "train"})) as server:
        ended = modelry(*words, *more, url=server.url)
        body = json.loads(server.asked[0].body)
    assert ended.out == "job_1\n"
    assert body == {
        "kind": "train", "recipe": "cnn", "data": "mnist:2", "model": "m", "preset": "fast",
        "params": {"epochs": "5", "channels": "8,16"}, "threads": 2, "memory_limit_bytes": 2**31,
        "time_limit_s": 600.0,
    }  # fmt: skip


def test_a_parameter_may_have_the_name_of_an_option(modelry: Run) -> None:
    words = [
        "train",
        "cnn",
        "--data",
        "a",
        "--model",
        "m",
        "--set",
        "model=x",
        "--set",
        "threads=3",
    ]
    with answering((202, JOB)) as server:
        modelry(*words, url=server.url)
        assert json.loads(server.asked[0].body)["params"] == {"model": "x", "threads": "3"}


def test_watching_ends_with_status_1_when_the_job_failed(modelry: Run) -> None:
    failure = {
        "code": "diverged",
        "message": "The loss became nan.",
        "remedy": "Go slower.",
        "detail": "Traceback …",
    }
    failed = (200, {**JOB, "state": "failed", "failure": failure})
    words = ["train", "cnn", "--data", "a", "--model", "m", "--watch"]
    with answering((202, JOB), failed) as server:
        ended = modelry(*words, url=server.url)
    assert ended.status == 1
    for text in ("The loss became nan.", "Traceback …", "Go slower."):
        assert text in ended.err
    with answering(failed) as server:
        assert modelry("jobs", "watch", "job_1", url=server.url).status == 1
        assert modelry("jobs", "show", "job_1", url=server.url).status == 0


def test_following_a_log_ends_with_the_job(modelry: Run) -> None:
    line = {"number": 1, "at": 1.0, "level": "warning", "text": "slow [disk]", "attempt": 1}
    failed = (200, {**JOB, "state": "failed", "failure": None})
    with answering(failed, failed, (200, [line])) as server:
        ended = modelry("jobs", "logs", "-f", "job_1", url=server.url)
    assert ended.status == 1
    assert ended.out.rstrip().endswith("warning: slow [disk]")


def test_removing_goes_on_after_a_refusal_and_fails_in_the_end(modelry: Run) -> None:
    refusal = (409, {"error": to_wire(InUse(noun="model", name="a", users="deployment 'd'"))})
    with answering(refusal, (204, b"")) as server:
        ended = modelry("rm", "model", "a", "b:2", url=server.url)
        paths = [asked.path for asked in server.asked]
    assert ended.status == 1
    assert "deployment 'd'" in ended.err
    assert "model b:2 is removed" in ended.err
    assert paths == ["/api/v1/models/a", "/api/v1/models/b/versions/2"]


def test_predict_names_each_file_with_its_answer(modelry: Run, tmp_path: Path) -> None:
    files = [tmp_path / "七.png", tmp_path / "[1].png"]
    for file in files:
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
    names = [str(file) for file in files]
    with answering(answer("7", "一")) as server:
        table = modelry("predict", "digits", *names, url=server.url).out
        plain = json.loads(modelry("predict", "digits", *names, "--json", url=server.url).out)
    assert [line.split()[:3] for line in table.splitlines()[1:]] == [
        [names[0], "7", "90.0%"],
        [names[1], "一", "90.0%"],
    ]
    assert [item["label"] for item in plain] == ["7", "一"]
    assert plain[1]["file"] == names[1]


def test_a_keys_text_stands_alone_on_standard_output(modelry: Run) -> None:
    key = {
        "id": "abc",
        "label": "web",
        "project": "default",
        "scopes": ["infer"],
        "created_at": 1.0,
    }
    with answering((201, {"key": key, "text": "mk_abc_secret"})) as server:
        ended = modelry("keys", "create", "--scope", "infer", "--label", "web", url=server.url)
        body = json.loads(server.asked[0].body)
    assert ended.out == "mk_abc_secret\n"
    assert "not shown again" in ended.err
    assert body == {"label": "web", "scopes": ["infer"], "project": "default"}


def test_global_options_choose_service_and_project(modelry: Run) -> None:
    with answering((200, [])) as server:
        modelry("--url", server.url, "--project", "vision", "models", "list")
        assert server.asked[0].headers["x-modelry-project"] == "vision"


def test_typer_is_not_in_the_way_of_our_errors() -> None:
    assert isinstance(app, typer.Typer)
    assert app.pretty_exceptions_enable is False


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (
            ["scale", "digits", "--min", "1", "--max", "4", "--idle", "10m"],
            {"min_replicas": 1, "max_replicas": 4, "idle_s": 600},
        ),
        (
            ["canary", "digits", "mnist:4", "--percent", "12.5"],
            {"canary": {"model": "mnist:4", "percent": 12.5}},
        ),
        (
            ["update", "digits", "--deadline", "2s", "--max-queue", "5"],
            {"deadline_s": 2, "max_queue": 5},
        ),
    ],
)
def test_a_deployment_is_changed_as_it_was_said(
    modelry: Run, words: list[str], body: dict[str, object]
) -> None:
    with answering((200, DEPLOYMENT)) as server:
        ended = modelry("deployments", *words, "--no-wait", url=server.url)
        assert ended.status == 0, ended.err
        assert json.loads(server.asked[-1].body) == body
    assert "digits" in ended.err


def test_a_deployment_shows_its_versions_side_by_side(modelry: Run) -> None:
    canary = {"version": 4, "model_version_id": "mdv_4", "percent": 10.0}
    versions = [
        {
            "version": 3,
            "role": "serving",
            "percent": 90.0,
            "ready_replicas": 2,
            "answered": 900,
            "failed": 1,
            "refused": 0,
            "mean_ms": 1.25,
            "p99_ms": 4.0,
            "queue_ms": 0.5,
            "errors": {},
        },
        {
            "version": 4,
            "role": "canary",
            "percent": 10.0,
            "ready_replicas": 1,
            "answered": 0,
            "failed": 0,
            "refused": 0,
            "mean_ms": None,
            "p99_ms": None,
            "queue_ms": None,
            "errors": {},
        },
    ]
    shown = {**DEPLOYMENT, "canary": canary, "replicas_list": [], "versions": versions}
    with answering((200, shown)) as server:
        out = modelry("deployments", "show", "digits", url=server.url).out
    assert "mnist:3, 10 % to :4" in out
    [line] = [line for line in out.splitlines() if "serving" in line]
    assert line.split() == [
        "3",
        "serving",
        "90",
        "%",
        "2",
        "900",
        "1",
        "1.25",
        "ms",
        "4",
        "ms",
        "0.5",
        "ms",
    ]
