"""How paths and bodies name a deployment and pin a version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import InvalidRequest
from modelry.server.api.doors.door import Target
from modelry.server.api.doors.names import is_name, read_reference, read_version


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("digits", Target("digits")),
        ("digits:3", Target("digits", 3)),
        ("digits@production", Target("digits", "production")),
        ("digits@3", Target("digits", 3)),
        ("team/数字@最新", Target("team/数字", "最新")),
    ],
)
def test_a_reference_names_a_deployment_and_perhaps_a_version(text: str, target: Target) -> None:
    assert read_reference(text) == target


@pytest.mark.parametrize("text", ["", "@x", "a@", "a:", "a:x", "a:0", "a/b/c", "/a", "a@b/c", ":1"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_reference(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert is_name(read_reference(text).name)
    except InvalidRequest:
        return


def test_a_version_is_a_number_an_alias_or_none() -> None:
    assert [read_version(text) for text in ("12", "production", "", "0")] == [
        *(12, "production", None),
        "0",
    ]
