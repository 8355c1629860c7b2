"""Names, identifiers, keys, errors on the wire, events read by offset, settings that refuse."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelry.core.errors import (
    LONGEST_FACT,
    InvalidName,
    InvalidSetting,
    NotFound,
    every_error,
    from_wire,
    to_wire,
)
from modelry.core.events import Log, Metric, decode_events, encode_event
from modelry.core.ids import check_name, new_id
from modelry.core.keys import is_same_hmac, key_hmac, new_key, parse_key
from modelry.core.settings import load_settings


def test_names_of_every_script_are_welcome() -> None:
    for name in ("digits", "手写数字", "Ziffern-2", "a.b_c", "٣"):
        assert check_name(name, "model") == name
    assert check_name("e\u0301t\u00e9", "model") == "\u00e9t\u00e9"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a b", "-a", "a..b", "x" * 65, "a\n", "a:b", "a@b"]
)
def test_names_that_could_be_paths_or_references_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        check_name(name, "model")


def test_identifiers_are_unlike() -> None:
    ids = {new_id("job") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"job_[2-9a-hjkmnp-z]{16}", one) for one in ids)


def test_a_key_is_known_again_and_its_secret_is_never_shown() -> None:
    key = new_key()
    assert parse_key(key.text) == key
    assert key.secret not in repr(key)
    pepper = b"p" * 32
    assert is_same_hmac(key_hmac(pepper, key), key_hmac(pepper, key))
    assert not is_same_hmac(key_hmac(pepper, key), key_hmac(b"q" * 32, key))


@pytest.mark.parametrize("text", ["", "mk", "mk_a", "mk__b", "sk_a_b", "mk_a_b_c"])
def test_other_texts_are_no_keys(text: str) -> None:
    assert parse_key(text) is None


def test_errors_survive_the_wire() -> None:
    error = NotFound(noun="model", name="digits")
    again = from_wire(to_wire(error))
    assert type(again) is NotFound
    assert str(again) == str(error)


def test_every_error_has_a_code_of_its_own_and_a_sentence() -> None:
    def count(cls: type) -> int:
        return 1 + sum(count(sub) for sub in cls.__subclasses__())

    errors = every_error()
    assert len(errors) == count(errors["error"])
    assert all(cls.sentence for cls in errors.values())


@given(cut=st.integers(0, 400))
def test_a_torn_line_is_not_an_event_yet(cut: int) -> None:
    events = [
        Log(at=1.0, text="七\n"),
        Metric(at=2.0, name="loss", step=3, value=0.5),
        Log(at=3.0, text="x" * 100),
    ]
    data = b"".join(map(encode_event, events))[:cut]
    first, offset = decode_events(data)
    assert first == events[: len(first)]
    rest = b"".join(map(encode_event, events))[offset:]
    assert first + decode_events(rest)[0] == events


def test_a_line_torn_by_death_and_continued_by_another_life_is_passed_over() -> None:
    torn = encode_event(Log(at=1.0, text="half"))[:10]
    whole = encode_event(Log(at=2.0, text="whole"))
    events, offset = decode_events(torn + b"\n" + whole)
    assert events == [Log(at=2.0, text="whole")]
    assert offset == len(torn) + 1 + len(whole)


def test_unknown_settings_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_PROT", "1")
    with pytest.raises(InvalidSetting, match="MODELRY_PROT"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "text"), [("PORT", "many"), ("WEB", "0"), ("START_METHOD", "magic")]
)
def test_malformed_settings_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"MODELRY_{name}", text)
    with pytest.raises(InvalidSetting, match=f"MODELRY_{name}"):
        load_settings()


def test_a_certificate_without_its_key_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_TLS_CERT", "/tmp/cert.pem")
    with pytest.raises(InvalidSetting, match="belong together"):
        load_settings()


def test_settings_survive_the_way_to_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRY_IMPORT_ROOTS", "/a:/b")
    monkeypatch.setenv("MODELRY_ALLOWED_HOSTS", "One.example, two.example")
    settings = load_settings(port=1234)
    for name, text in settings.environment().items():
        monkeypatch.setenv(name, text)
    assert load_settings() == settings
    assert settings.allowed_hosts == ("one.example", "two.example")


def test_a_sentence_never_echoes_a_megabyte() -> None:
    error = NotFound(noun="model", name="x" * 1_000_000, remedy="Look again.")
    assert len(error.message) < LONGEST_FACT + 100
    assert error.message.endswith("…' does not exist.")


def test_half_a_character_in_an_error_reaches_the_wire_spelled_out() -> None:
    for error in (NotFound(noun="model", name="\ud800"), NotFound("\ud800", remedy="\udfff")):
        assert r"\ud800" in str(to_wire(error)["message"]).encode().decode()
        assert str(error).encode()
