"""Every code block of the README, the quickstart and the how-to pages does what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, RUN, read_blocks, run_page
from tests.service import Service, running_service

PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / "CHANGELOG.md",
    *ROOT.glob("docs/**/*.md"),
]
HOW_TO = sorted(path.name for path in ROOT.glob("docs/how-to/*.md"))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader in a fresh clone, whose own home is elsewhere and whose port is free."""
    desk = tmp_path / "clone"
    desk.mkdir()
    for entry in ROOT.iterdir():
        if entry.name != ".venv":
            (desk / entry.name).symlink_to(entry)
    # An environment that is ready, whose programs are those of this test: `make` installs nothing.
    (desk / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        (desk / ".venv" / entry.name).symlink_to(entry)
    (desk / ".venv" / ".ready").unlink(missing_ok=True)
    (desk / ".venv" / ".ready").touch()
    home = tmp_path / "home"
    monkeypatch.chdir(desk)
    monkeypatch.setenv("MODELRY_HOME", str(home))
    monkeypatch.setenv("MODELRY_PORT", "0")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("MODELRY_URL", "MODELRY_KEY", "MODELRY_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    # A reader has not switched hubs off, and the client asks nobody but the service here.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield desk
    Service(home).kill_everything()
    Service(desk / "restored").kill_everything()


@pytest.fixture
def serving(reader: Path, tmp_path: Path) -> Iterator[Path]:
    """The same reader, whose service runs already."""
    with running_service(tmp_path / "home"):
        yield reader


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_works_as_it_stands(reader: Path) -> None:
    run_page(ROOT / "README.md")
    for name in ("training-curves.png", "held-out-digits.png"):
        assert (reader / "quickstart-pictures" / name).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_chinese_readme_works_as_it_stands(reader: Path) -> None:
    run_page(ROOT / "README.zh-CN.md", without={"make quickstart"})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quickstart_works_as_it_stands(reader: Path) -> None:
    run_page(ROOT / "docs" / "quickstart.md")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", HOW_TO)
def test_each_how_to_works_as_it_stands(serving: Path, name: str) -> None:
    run_page(ROOT / "docs" / "how-to" / name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_its_language(page: Path) -> None:
    assert {block.language for block in read_blocks(page)} <= {*RUN, "text"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_chinese_readme_tells_the_same_as_the_english_one() -> None:
    pages = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
    english, chinese = ([block.language for block in read_blocks(page)] for page in pages)
    assert english == chinese
    english_links, chinese_links = (
        set(re.findall(r"\]\((docs/[^)]+)\)", page.read_text())) for page in pages
    )
    assert english_links == chinese_links
