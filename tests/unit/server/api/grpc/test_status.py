"""Every error has a gRPC code, a text that fits, and its stable code in the metadata."""

from __future__ import annotations

from modelry.core.errors import (
    InvalidRequest,
    NoKey,
    NoReadyReplica,
    NotFound,
    RateLimited,
    every_error,
)
from modelry.server.api.errors import STATUS_OF_CODE
from modelry.server.api.grpc.status import CODE_OF_STATUS, Code, code_of, metadata_of, text_of


def test_every_status_that_an_error_has_is_in_the_table() -> None:
    assert set(STATUS_OF_CODE.values()) <= set(CODE_OF_STATUS)
    assert all(code_of(error("x")) != 0 for error in every_error().values())


def test_clients_see_the_codes_that_they_know_how_to_treat() -> None:
    assert code_of(NoKey()) is Code.UNAUTHENTICATED
    assert code_of(NotFound(noun="model", name="x")) is Code.NOT_FOUND
    assert code_of(NoReadyReplica(name="x", reason="y")) is Code.UNAVAILABLE
    assert code_of(RateLimited(limit=1, unit="requests")) is Code.RESOURCE_EXHAUSTED


def test_the_text_says_what_to_do_and_is_cut_between_letters() -> None:
    assert text_of(NoKey()).endswith(NoKey().remedy)
    long = text_of(InvalidRequest("字" * 5000))
    assert 1900 < len(long.encode()) <= 2000
    assert set(long) == {"字"}


def test_programs_find_the_stable_code_and_when_to_try_again() -> None:
    assert metadata_of(NoKey()) == (("x-modelry-error", "no_key"),)
    assert dict(metadata_of(NoReadyReplica(name="x", reason="y")))["retry-after"]
