"""Log lines: for people as they are, for programs as one object each."""

from __future__ import annotations

import json
import logging
import sys

from modelry.server.logs import JsonLines


def line_of(message: str, *values: object, broken: bool = False) -> dict[str, object]:
    info = None
    if broken:
        try:
            raise ValueError("no\nway")
        except ValueError:
            info = sys.exc_info()
    record = logging.LogRecord("modelry.test", logging.INFO, "", 0, message, values, info)
    text = JsonLines().format(record)
    assert "\n" not in text
    return dict(json.loads(text))


def test_a_line_is_an_object_with_its_pairs_as_fields() -> None:
    line = line_of("job ordered job=%s attempt=%s", "job_1", 2)
    assert line["level"] == "info"
    assert line["message"] == "job ordered job=job_1 attempt=2"
    assert (line["job"], line["attempt"]) == ("job_1", "2")


def test_no_pair_takes_the_place_of_a_lines_own_field() -> None:
    assert line_of("odd level=5 message=x")["level"] == "info"


def test_an_exception_is_part_of_its_line() -> None:
    assert "ValueError" in str(line_of("it broke", broken=True)["trace"])
