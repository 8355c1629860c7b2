"""`keys limit`, limits of new keys, and `usage`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from modelry.cli.keys import show_limits
from modelry.core.records import KeyLimits
from tests.unit.cli.conftest import Run
from tests.unit.client.answering import answering

KEY = {
    "id": "abc",
    "label": "web",
    "project": "default",
    "scopes": ["infer"],
    "created_at": 1.0,
    "limits": {"requests_per_s": 20.0, "rows_per_month": 1000},
}


def test_a_new_key_is_made_with_its_limits(modelry: Run) -> None:
    with answering((201, {"key": KEY, "text": "mk_abc_secret"})) as server:
        modelry(
            "keys", "create", "--scope", "infer", "--label", "web",
            "--requests-per-second", "20", "--rows-per-month", "1000", url=server.url,
        )  # fmt: skip
        body = json.loads(server.asked[0].body)
    assert body["limits"] == {
        "requests_per_s": 20.0,
        "rows_per_s": None,
        "burst_s": 1.0,
        "requests_per_month": None,
        "rows_per_month": 1000,
    }


def test_a_change_of_limits_sends_what_is_named_and_nothing_else(modelry: Run) -> None:
    with answering((200, KEY)) as server:
        ended = modelry(
            "keys", "limit", "abc", "--requests-per-second", "20", "--rows-per-second", "none",
            "--requests-per-month", "7", "--burst", "2s", url=server.url,
        )  # fmt: skip
        (asked,) = server.asked
    assert (asked.method, asked.path) == ("PATCH", "/api/v1/keys/abc/limits")
    assert json.loads(asked.body) == {
        "requests_per_s": 20.0,
        "rows_per_s": None,
        "requests_per_month": 7,
        "burst_s": 2.0,
    }
    assert "20.0 requests/s, 1,000 rows/month" in ended.err


@pytest.mark.parametrize(
    "arguments", [[], ["--requests-per-second", "many"], ["--requests-per-month", "1.5"]]
)
def test_a_change_that_says_nothing_is_refused(modelry: Run, arguments: list[str]) -> None:
    assert modelry("keys", "limit", "abc", *arguments).status == 2


def test_no_limits_are_no_words() -> None:
    assert show_limits(KeyLimits()) == ""


def test_usage_is_a_table_with_what_it_is_told_apart_by(modelry: Run) -> None:
    amounts = {
        "requests": 1200,
        "errors": 1,
        "bytes_in": 2_000_000,
        "bytes_out": 5,
        "compute_s": 1.25,
    }
    row = {"key": "abc", "day": "2026-11-24", "rows": 3000, **amounts}
    with answering((200, [row])) as server:
        ended = modelry("usage", "--by", "key", "--by", "day", "--since", "2d", url=server.url)
        query = parse_qs(urlsplit(server.asked[0].path).query)
    head, line = ended.out.splitlines()
    assert head.split() == ["KEY", "DAY", "REQUESTS", "ERRORS", "ROWS", "IN", "OUT", "COMPUTE"]
    assert line.split() == [
        "abc",
        "2026-11-24",
        "1,200",
        "1",
        "3,000",
        "2.0",
        "MB",
        "5",
        "B",
        "1.2",
        "s",
    ]
    assert query["by"] == ["key,day"]
    assert abs(float(query["since"][0]) - (time.time() - 2 * 86400)) < 60


def test_a_date_is_taken_in_utc_and_nothing_used_is_said(modelry: Run) -> None:
    with answering((200, [])) as server:
        ended = modelry("usage", "--since", "2026-11-01", "--all-projects", url=server.url)
        query = parse_qs(urlsplit(server.asked[0].path).query)
    assert float(query["since"][0]) == datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    assert query["all_projects"] == ["true"]
    assert "Nothing was used." in ended.err
