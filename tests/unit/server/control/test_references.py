"""How versions are named."""

from __future__ import annotations

import pytest

from modelry.core.errors import InvalidName, InvalidRequest, ModelryError
from modelry.server.control.references import (
    read_data_reference,
    read_model_reference,
    read_version,
)


def test_data_is_named_with_or_without_a_number() -> None:
    assert read_data_reference("digits") == ("digits", None)
    assert read_data_reference("手写:12") == ("手写", 12)


def test_a_model_may_also_be_named_by_an_alias() -> None:
    assert read_model_reference("digits") == ("digits", None)
    assert read_model_reference("digits:3") == ("digits", 3)
    assert read_model_reference("digits@production") == ("digits", "production")


def test_a_version_in_a_path_is_a_number_an_alias_or_latest() -> None:
    assert read_version("7") == 7
    assert read_version("latest") is None
    assert read_version("production") == "production"


@pytest.mark.parametrize("text", ["digits:", "digits:0", "digits:-1", "digits:1.0", "digits:٣"])
def test_a_number_is_a_whole_number_from_one(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_data_reference(text)


@pytest.mark.parametrize("text", ["", ":3", "a/b", "digits@", "digits@a:1", "@production", "a..b"])
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises((InvalidName, InvalidRequest)):
        read_model_reference(text)


def test_a_huge_number_is_no_number() -> None:
    with pytest.raises(ModelryError):
        read_version("9" * 5000)
