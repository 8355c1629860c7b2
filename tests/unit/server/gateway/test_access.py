"""Who may ask: every kind of key that may not, and the two that may."""

from __future__ import annotations

import time
from typing import Any

import pytest

from modelry.core.errors import InvalidKey, ModelryError, NoKey, NotFound, ScopeTooSmall
from modelry.core.keys import KeyText, key_hmac, new_key
from modelry.core.records import Key, KeyRow, Snapshot
from modelry.server.gateway.access import authorize

PEPPER = b"p" * 32


def snapshot(text: KeyText, **fields: Any) -> Snapshot:
    given: dict[str, Any] = {"project": "red", "scopes": ("infer",), **fields}
    key = Key(id=text.id, label="test", created_at=0.0, **given)
    return Snapshot(
        number=1, routes={}, keys={text.id: KeyRow(key=key, secret_hmac=key_hmac(PEPPER, text))}
    )


def check(text: str | None, named: str | None = None, **fields: Any) -> str:
    return authorize(snapshot(KEY, **fields), PEPPER, text, named, "infer").project


KEY = new_key()
INSTANCE: dict[str, Any] = {"project": None, "scopes": ("admin",)}


def test_a_project_key_works_in_its_project() -> None:
    assert check(KEY.text) == "red"
    assert check(KEY.text, "red") == "red"


def test_an_instance_key_names_a_project_with_each_call() -> None:
    assert check(KEY.text, "blue", **INSTANCE) == "blue"
    assert check(KEY.text, **INSTANCE) == "default"


@pytest.mark.parametrize(
    ("text", "fields", "error"),
    [
        (None, {}, NoKey),
        ("", {}, NoKey),
        ("nonsense", {}, InvalidKey),
        (new_key().text, {}, InvalidKey),
        (f"mk_{KEY.id}_wrong", {}, InvalidKey),
        (KEY.text, {"revoked_at": 1.0}, InvalidKey),
        (KEY.text, {"expires_at": time.time() - 1}, InvalidKey),
        (KEY.text, {"scopes": ("read", "train")}, ScopeTooSmall),
    ],
)
def test_all_others_are_refused(
    text: str | None, fields: dict[str, Any], error: type[ModelryError]
) -> None:
    with pytest.raises(error):
        check(text, **fields)


def test_another_project_looks_as_if_it_did_not_exist() -> None:
    with pytest.raises(NotFound):
        check(KEY.text, "blue")
