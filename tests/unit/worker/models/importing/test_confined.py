"""A confined process: values and errors come back, limits end it, and the caller's secrets stay with the caller."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import pytest

from modelry.core.errors import InvalidData
from modelry.worker.models.importing.confined import Exceeded, Limits, run_confined

_LIMITS = Limits(memory_bytes=1 << 30, time_s=20.0)
_HERE = "tests.unit.worker.models.importing.test_confined"


def doubles(value: Any) -> Any:
    return [value, value]


def raises(value: Any) -> Any:
    raise InvalidData(file=value, reason="it is bad")


def eats_memory(value: Any) -> Any:
    return len(bytearray(4 << 30))


def never_ends(value: Any) -> Any:
    while True:
        time.sleep(0.01)


def crashes(value: Any) -> Any:
    return ctypes.string_at(0)


def tells_environment(value: Any) -> Any:
    return dict(os.environ)


@pytest.fixture(autouse=True)
def _find_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner process imports this module."""
    monkeypatch.setenv("PYTHONPATH", os.getcwd())


def test_a_value_goes_in_and_a_value_comes_back() -> None:
    assert run_confined(f"{_HERE}:doubles", {"a": [1, "二"]}, _LIMITS) == [{"a": [1, "二"]}] * 2


def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(InvalidData, match="x.onnx: it is bad") as caught:
        run_confined(f"{_HERE}:raises", "x.onnx", _LIMITS)
    assert caught.value.facts["file"] == "x.onnx"


def test_too_much_memory_is_said() -> None:
    with pytest.raises(Exceeded, match="1024 MiB of memory"):
        run_confined(f"{_HERE}:eats_memory", None, _LIMITS)


def test_too_much_time_is_said() -> None:
    limits = Limits(memory_bytes=1 << 30, time_s=1.0)
    began = time.monotonic()
    with pytest.raises(Exceeded, match="more than 1 s"):
        run_confined(f"{_HERE}:never_ends", None, limits)
    assert time.monotonic() - began < 10


def test_a_crash_ends_only_the_inner_process() -> None:
    with pytest.raises(Exceeded, match="SIGSEGV"):
        run_confined(f"{_HERE}:crashes", None, _LIMITS)


def test_a_wish_to_stop_ends_it() -> None:
    class Wish(Exception):
        pass

    def stop() -> None:
        raise Wish

    with pytest.raises(Wish):
        run_confined(f"{_HERE}:never_ends", None, _LIMITS, stop)


def test_no_token_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    told = run_confined(f"{_HERE}:tells_environment", None, _LIMITS)
    assert "secret" not in str(told)
