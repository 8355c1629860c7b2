"""Texts as data: one long text in pieces, texts in folders, pairs of texts whose sources stay together."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelry.core.errors import InvalidData, InvalidParameter
from modelry.core.manifests import Feature
from modelry.core.results import MadeDataset
from modelry.worker.data.readers.texts import PIECE_LETTERS
from modelry.worker.data.translating import compared
from tests.conftest import Importer
from tests.unit.worker.data.making import zipped

_TEXT = Feature(kind="text", dtype="string")
_STORY = "Ein Drache 🐉 schläft.\r\nDie Stadt\tauch; niemand weckt ihn.\n" * 4000


def _column(importer: Importer, made: MadeDataset, split: str, name: str = "text") -> list[str]:
    texts: list[str] = importer.open(made).table(split, [name])[name].to_pylist()
    return texts


def _generation(importer: Importer, files: dict[str, bytes], **options: object) -> MadeDataset:
    return importer.upload(files, task="text-generation", **options)


def test_pieces_of_a_long_text_give_it_back_letter_for_letter(importer: Importer) -> None:
    made = _generation(importer, {"story.txt": _STORY.encode()}, test_share=0.3)
    assert made.manifest.features == {"text": _TEXT}
    assert (made.manifest.target, made.manifest.task) == (None, "text-generation")
    train, test = (_column(importer, made, split) for split in ("train", "test"))
    assert "".join(train) + "".join(test) == _STORY
    assert len("".join(test)) == round(0.3 * len(_STORY))
    assert max(len(piece) for piece in train + test) == PIECE_LETTERS
    assert made.manifest.statistics["text"]["letters"]["maximum"] == PIECE_LETTERS


def test_a_folder_is_read_in_the_order_of_its_names(importer: Importer) -> None:
    files = {"b/2.txt": b"two\n", "b/1.txt": b"one\n", "a.txt": b"nought\n", "about.md": b"words"}
    made = _generation(importer, files, test_share=0)
    assert _column(importer, made, "train") == ["nought\none\ntwo\n"]
    assert made.manifest.source["left_out"] == ["about.md"]


def test_texts_named_after_splits_are_splits(importer: Importer) -> None:
    made = _generation(importer, {"train.txt": b"learn this", "test.txt": b"and this not"})
    assert _column(importer, made, "train") == ["learn this"]
    assert _column(importer, made, "test") == ["and this not"]


def test_a_word_for_a_split_in_one_name_alone_is_none(importer: Importer) -> None:
    files = {"1.txt": b"one ", "a-test-of-time.txt": b"and another"}
    made = _generation(importer, files, test_share=0)
    assert _column(importer, made, "train") == ["one and another"]


def test_a_column_of_a_table_is_a_line_for_each_row(importer: Importer) -> None:
    table = b'n,line\n1,"So it began,"\n2,\n3,"and ended.\n"\n'
    made = _generation(importer, {"t.csv": table}, text="line", test_share=0)
    assert _column(importer, made, "train") == ["So it began,\nand ended.\n"]
    lines = b'{"line": "u"}\n{"line": "v"}\n'
    other = _generation(importer, {"t.jsonl": lines}, test_share=0)
    assert _column(importer, other, "train") == ["u\nv\n"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.txt": b"x"}, "1 letters are too few"),
        ({"a.txt": b"good\n" * 20_000 + b"\xff\n"}, "a.txt: line 20001 is not UTF-8"),
        ({"a.txt": b"\xef\xbb\xbf"}, "too few|no text"),
        ({"a.csv": b"a,b\nu,v\n"}, "not named; its columns of text: a, b"),
        ({"a.png": b"\x89PNG\r\n\x1a\n"}, "no text file"),
    ],
)
def test_what_is_no_long_text_is_refused(
    importer: Importer, files: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(InvalidData, match=reason):
        _generation(importer, files)


@pytest.mark.parametrize("options", [{"target": "a"}, {"time": "a"}, {"kinds": {"a": "text"}}])
def test_generation_has_no_columns(importer: Importer, options: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        _generation(importer, {"a.txt": b"some text"}, **options)


def _reviews(split: str, each: int = 5) -> dict[str, bytes]:
    return {
        f"reviews/{split}/{label}/{n}.txt": f"{label} words {n} of {split}".encode()
        for label in ("good", "bad")
        for n in range(each)
    }


def test_texts_in_folders_are_labelled_by_them(importer: Importer) -> None:
    files = {**_reviews("train"), **_reviews("test", each=2), "reviews/README": b"Of films."}
    made = importer.upload(files)
    assert list(made.manifest.features) == ["text", "label"]
    assert made.manifest.features["text"] == _TEXT
    assert made.manifest.features["label"].labels == ["bad", "good"]
    assert made.manifest.task == "text-classification"
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 10,
        "test": 4,
    }
    assert made.manifest.source["left_out"] == ["reviews/README"]
    assert set(_column(importer, made, "test")) == {
        f"{label} words {n} of test" for label in ("good", "bad") for n in range(2)
    }


def test_names_of_text_files_do_not_matter(importer: Importer) -> None:
    files = _reviews("train")
    renamed = {name[:-5] + f"{9 - n}.txt": data for n, (name, data) in enumerate(files.items())}
    marks = {importer.upload(each).manifest.fingerprint for each in (files, renamed)}
    assert len(marks) == 1


def test_texts_that_nothing_labels_are_refused_with_the_ways(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="no data of a kind") as caught:
        importer.upload({"a.txt": b"words", "b.txt": b"more words"})
    assert "text-generation" in caught.value.remedy
    made = importer.upload(
        {f"{label}_{n}.txt": f"{label}{n}".encode() for label in "ab" for n in range(5)},
        labels_from="file",
    )
    assert made.manifest.features["label"].labels == ["a", "b"]


def test_sources_are_compared_without_case_punctuation_and_blanks() -> None:
    assert compared("  Don't  STOP!") == compared("dont stop") == "dontstop"
    assert compared("ﬁn　。") == "fin"
    assert compared("caf\u00e9") == compared("cafe\u0301")
    assert compared("2+2") != compared("22")


def test_all_translations_of_a_source_stay_on_one_side(importer: Importer) -> None:
    lines = "".join(
        f"{['Go on', 'go on!', 'GO  ON.'][n % 3]} {n // 3}\tVersion {n}\n" for n in range(90)
    )
    made = importer.upload(
        {"pairs.zip": zipped({"fra.txt": lines.encode()})},
        columns=["en", "fr"],
        target="fr",
        task="translation",
    )
    assert list(made.manifest.features.items()) == [("en", _TEXT), ("fr", _TEXT)]
    assert (made.manifest.target, made.manifest.task) == ("fr", "translation")
    train, test = (
        {compared(text) for text in _column(importer, made, split, "en")}
        for split in ("train", "test")
    )
    assert (len(train), len(test)) == (24, 6)
    assert not train & test


def test_a_translation_has_one_source(importer: Importer) -> None:
    lines = b"".join(b"one %d\tun %d\tsource %d\n" % (n, n, n) for n in range(20))
    options = {"columns": ["en", "fr", "by"], "target": "fr", "task": "translation"}
    with pytest.raises(
        InvalidData, match="one column of text beside the target.*: en, by"
    ) as found:
        importer.upload({"t.txt": lines}, **options)
    assert "--features" in found.value.remedy
    made = importer.upload({"t.txt": lines}, **options, features=["en"])
    assert list(made.manifest.features) == ["en", "fr"]


@pytest.mark.data
def test_a_real_corpus_is_split_at_a_letter(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "tinyshakespeare", task="text-generation", test_share=0.1)
    whole = (shared_data / "tinyshakespeare" / "input.txt").read_bytes().decode()
    train, test = ("".join(_column(importer, made, split)) for split in ("train", "test"))
    assert train + test == whole
    assert len(test) == round(0.1 * len(whole))


@pytest.mark.data
def test_real_translations_share_no_source(importer: Importer, shared_data: Path) -> None:
    made = importer.path(
        shared_data / "tatoeba-eng-fra", columns=["en", "fr"], target="fr", task="translation"
    )
    splits = made.manifest.splits
    assert splits["train"].rows + splits["test"].rows == 167_130
    assert abs(splits["test"].rows / 167_130 - 0.2) < 0.001
    train, test = (
        {compared(text) for text in _column(importer, made, split, "en")}
        for split in ("train", "test")
    )
    assert not train & test
