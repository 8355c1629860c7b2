"""Addresses that try keys: each is held up alone, and remembering them costs little."""

from __future__ import annotations

import pytest

from modelry.core.errors import TooManyWrongKeys
from modelry.server.gateway import strangers
from modelry.server.gateway.strangers import Strangers
from tests.unit.server.gateway.counting import Clock


def tries(known: Strangers, address: str, number: int) -> int:
    """How many were looked up."""
    found = 0
    for _ in range(number):
        try:
            known.enter(address)
        except TooManyWrongKeys:
            continue
        found += 1
    return found


def test_an_address_is_held_up_after_a_burst_and_let_in_again_at_its_rate() -> None:
    clock = Clock()
    known = Strangers(2.0, clock)
    assert tries(known, "10.0.0.1", 100) == 20
    assert tries(known, "10.0.0.2", 5) == 5
    with pytest.raises(TooManyWrongKeys) as refused:
        known.enter("10.0.0.1")
    assert refused.value.facts["retry_after_s"] == pytest.approx(0.5)
    clock.now += 3
    assert tries(known, "10.0.0.1", 100) == 6


def test_only_so_many_addresses_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "REMEMBERED", 3)
    known = Strangers(1.0, Clock())
    for number in range(10):
        known.enter(f"10.0.0.{number}")
    assert len(known._buckets) == 3
