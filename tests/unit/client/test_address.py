"""Where the client looks for the service, and to whom it shows the admin key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelry.client.address import DEFAULT_URL, find_address
from modelry.core.errors import InvalidSetting


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "admin.key").write_text("mk_admin_secret\n")
    return {"MODELRY_HOME": str(tmp_path)}


def write_service(environ: dict[str, str], url: str) -> None:
    Path(environ["MODELRY_HOME"], "service.json").write_text(json.dumps({"url": url, "pid": 1}))


def test_without_a_word_it_is_the_default_address_and_the_local_key(
    environ: dict[str, str],
) -> None:
    found = find_address(environ=environ)
    assert (found.url, found.key, found.project) == (DEFAULT_URL, "mk_admin_secret", None)


def test_the_running_service_of_the_home_is_found(environ: dict[str, str]) -> None:
    write_service(environ, "http://127.0.0.1:9999/")
    assert find_address(environ=environ).url == "http://127.0.0.1:9999"


def test_variables_beat_the_home_and_arguments_beat_variables(environ: dict[str, str]) -> None:
    write_service(environ, "http://127.0.0.1:9999")
    environ |= {
        "MODELRY_URL": "http://127.0.0.1:7",
        "MODELRY_KEY": "mk_b_b",
        "MODELRY_PROJECT": "vision",
    }
    found = find_address(environ=environ)
    assert (found.url, found.key, found.project) == ("http://127.0.0.1:7", "mk_b_b", "vision")
    found = find_address("http://127.0.0.1:8", "mk_c_c", "speech", environ=environ)
    assert (found.url, found.key, found.project) == ("http://127.0.0.1:8", "mk_c_c", "speech")


def test_a_stranger_is_never_shown_the_admin_key(environ: dict[str, str]) -> None:
    write_service(environ, "http://127.0.0.1:9999")
    assert find_address("https://elsewhere.example", environ=environ).key is None
    assert find_address("http://127.0.0.1.evil.example:8642", environ=environ).key is None


def test_the_homes_own_service_is_shown_the_key_wherever_it_listens(
    environ: dict[str, str],
) -> None:
    write_service(environ, "https://10.0.0.5:8642")
    assert find_address(environ=environ).key == "mk_admin_secret"


def test_a_home_without_a_service_gives_no_key(tmp_path: Path) -> None:
    assert find_address(environ={"MODELRY_HOME": str(tmp_path)}).key is None


@pytest.mark.parametrize("url", ["localhost:8642", "ftp://x", "http://", "8642"])
def test_half_an_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting):
        find_address(url, environ={})


def test_the_key_is_not_in_the_representation(environ: dict[str, str]) -> None:
    assert "secret" not in repr(find_address(environ=environ))
