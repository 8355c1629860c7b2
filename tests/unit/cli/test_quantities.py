"""Amounts as people write them."""

from __future__ import annotations

import pytest
import typer

from modelry.cli.quantities import parse_bytes, parse_seconds, parse_settings, show_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000", 1000), ("2GB", 2 * 10**9), ("2GiB", 2**31), ("2g", 2**31), ("1.5 MB", 1_500_000)],
)
def test_memory_is_read_in_both_families_of_units(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2XB", "-1", "1,5MB"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no amount of memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("0", 0)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "h", "1x", "-5", "1h x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no length of time"):
        parse_seconds(text)


def test_settings_keep_everything_after_the_first_equals_sign() -> None:
    assert parse_settings(["epochs=5", "note=a=b", "x="]) == {"epochs": "5", "note": "a=b", "x": ""}


@pytest.mark.parametrize("pair", ["epochs", "=5", ""])
def test_a_setting_without_a_name_or_value_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="name=value"):
        parse_settings([pair])


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2 * 10**9, "2.0 GB"), (5e13, "50.0 TB")],
)
def test_sizes_read_well(size: float, text: str) -> None:
    assert show_bytes(size) == text
