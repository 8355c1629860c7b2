"""Tables: what is missing, what is predicted, what columns are said to be, and files without a line of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelry.core.errors import InvalidData, InvalidParameter
from modelry.core.manifests import DatasetManifest, Feature, read_dataset
from tests.conftest import Importer
from tests.unit.worker.data.making import npz, pictures, zipped

_HOLES = b"a,b,note,y\n" + b"".join(
    b"%s,%s,a remark of its own no. %d,%d\n"
    % (
        [b"1", b"", b"?", b"NA", b"nan", b"null"][n % 6],
        [b"red", b"?", b"blue", b"NA", b"", b"null"][n % 6],
        n,
        n % 2,
    )
    for n in range(24)
)


def _kinds(manifest: DatasetManifest) -> dict[str, str]:
    return {name: feature.kind for name, feature in manifest.features.items()}


def test_cells_that_hold_nothing_are_missing(importer: Importer) -> None:
    made = importer.upload({"t.csv": _HOLES}, target="y", test_share=0)
    features = made.manifest.features
    assert (features["a"].kind, features["a"].dtype) == ("number", "float64")
    assert (features["b"].kind, features["note"].kind) == ("category", "text")
    table = importer.open(made).table("train", ["a", "b"])
    assert table["a"].to_pylist()[:6] == [1.0, None, None, None, None, None]
    assert table["b"].to_pylist()[:6] == ["red", None, "blue", None, None, "null"]
    figures = made.manifest.statistics
    assert figures["a"] == {"minimum": 1, "maximum": 1, "mean": 1, "std": 0, "missing": 20}
    assert (figures["b"]["missing"], figures["b"]["counts"]) == (
        12,
        {"blue": 4, "null": 4, "red": 4},
    )
    assert figures["note"]["letters"]["maximum"] == len("a remark of its own no. 10")


def test_numbers_without_holes_keep_their_type(importer: Importer) -> None:
    made = importer.upload({"t.csv": b"a,y\n1,0\n2,1\n3,0\n4,1\n"}, target="y")
    assert made.manifest.features["a"].dtype == "int64"
    assert made.manifest.statistics["a"]["missing"] == 0


def test_an_empty_text_stays_a_text(importer: Importer) -> None:
    rows = b"".join(b'"%s",%d\n' % ([b"", b"all of it %d" % n][n % 2], n % 2) for n in range(20))
    made = importer.upload({"t.csv": b"t,y\n" + rows}, target="y", text="t", test_share=0)
    texts = importer.open(made).table("train", ["t"])["t"]
    assert texts.null_count == 0
    assert texts.to_pylist()[:2] == ["", "all of it 1"]


def test_a_column_without_values_is_left_out_and_said(importer: Importer) -> None:
    table = b"a,none,y\n" + b"".join(b"%d,,%d\n" % (n, n % 2) for n in range(10))
    made = importer.upload({"t.csv": table}, target="y")
    assert list(made.manifest.features) == ["a", "y"]
    assert made.manifest.source["left_out"] == ["t.csv: the empty column 'none'"]
    with pytest.raises(InvalidData, match="'none' holds no value"):
        importer.upload({"t.csv": table}, target="y", features=["a", "none"])


def test_fractions_are_predicted_as_numbers_and_whole_ones_as_labels(importer: Importer) -> None:
    table = b"a,price,rooms\n" + b"".join(b"%d,%f,%d\n" % (n, n / 4, n % 3) for n in range(40))
    prices = importer.upload({"t.csv": table}, target="price").manifest
    assert prices.features["price"] == Feature(kind="number", dtype="float64")
    assert (prices.target, prices.task) == ("price", "tabular-regression")
    assert list(prices.features) == ["a", "rooms", "price"]
    assert prices.splits["test"].rows == 8
    rooms = importer.upload({"t.csv": table}, target="rooms").manifest
    assert (rooms.features["rooms"].kind, rooms.task) == ("label", "tabular-classification")
    for options in ({"task": "tabular-regression"}, {"kinds": {"rooms": "number"}}):
        made = importer.upload({"t.csv": table}, target="rooms", **options)
        assert made.manifest.features["rooms"] == Feature(kind="number", dtype="float64")
        assert made.manifest.fingerprint != rooms.fingerprint


def test_rows_of_equal_inputs_stay_on_one_side_whatever_is_predicted(importer: Importer) -> None:
    table = b"a,y\n" + b"".join(b"%d,%f\n" % (n % 20, n / 7) for n in range(100))
    made = importer.upload({"t.csv": table}, target="y", test_share=0.3)
    data = importer.open(made)
    train, test = (set(data.table(name, ["a"])["a"].to_pylist()) for name in ("train", "test"))
    assert train
    assert test
    assert not train & test


def test_two_targets_of_one_table_are_two_data_sets(importer: Importer) -> None:
    table = b"a,b\n" + b"".join(b"%f,%f\n" % (n / 3, n / 7) for n in range(20))
    kept = [
        importer.upload({"t.csv": table}, target=name, features=[other], test_share=0)
        for name, other in (("a", "b"), ("b", "a"))
    ]
    assert kept[0].manifest.fingerprint != kept[1].manifest.fingerprint


def test_a_number_is_no_index_of_labels(importer: Importer) -> None:
    pairs = b"a,y\n" + b"".join(b"%d,%f\n" % (n, n / 4) for n in range(10))
    made = importer.upload({"t.csv": pairs}, target="y")
    assert importer.open(made).manifest.features["y"].labels is None


def test_options_correct_what_columns_are_seen_as(importer: Importer) -> None:
    table = b"zip,town,noise,remark,y\n" + b"".join(
        b"%05d,%s,%d,short,%d\n" % (n % 5, b"Bath" if n % 3 else b"Cork", n, n % 2)
        for n in range(40)
    )
    seen = importer.upload({"t.csv": table}, target="y").manifest
    assert _kinds(seen) == {
        "zip": "number", "town": "category", "noise": "number", "remark": "category", "y": "label",
    }  # fmt: skip
    said = importer.upload(
        {"t.csv": table},
        label="y",
        features=["zip", "town", "remark"],
        kinds={"zip": "category"},
        text="remark",
    ).manifest
    assert _kinds(said) == {"zip": "category", "town": "category", "remark": "text", "y": "label"}
    assert said.statistics["zip"]["counts"] == {f"0000{n}": 8 for n in range(5)}
    assert said.source["features"] == ["zip", "town", "remark"]


def test_both_target_and_label_are_refused(importer: Importer) -> None:
    with pytest.raises(InvalidParameter, match="label"):
        importer.upload({"t.csv": b"a,y\n1,0\n"}, target="y", label="y")


def test_a_file_of_tabs_without_names_has_no_quotes(importer: Importer) -> None:
    lines = b"".join(
        b'%s\tHe said "%d and went\n' % (b"spam" if n % 4 == 0 else b"ham", n) for n in range(40)
    )
    files = {"SMSCollection": lines, "readme": b"Words, and more words.\nAnd a line.\n"}
    made = importer.upload(files, columns=["label", "text"], label="label", test_share=0)
    assert _kinds(made.manifest) == {"text": "text", "label": "label"}
    assert made.manifest.task == "text-classification"
    assert made.manifest.source["left_out"] == ["readme"]
    assert made.manifest.splits["train"].rows == 40
    texts = importer.open(made).table("train", ["text"])["text"].to_pylist()
    assert texts[3] == 'He said "3 and went'


def test_a_cell_of_several_lines_has_one_row_also_without_names(importer: Importer) -> None:
    rows = b"".join(b'%d,"first, %d\nsecond",%d\n' % (n, n, n % 2) for n in range(6_000))
    made = importer.upload({"t.data": rows}, columns=["n", "remark", "y"], target="y", test_share=0)
    assert made.manifest.splits["train"].rows == 6_000
    table = importer.open(made).table("train", ["remark"])
    assert table["remark"][7].as_py() == "first, 7\nsecond"


def test_the_data_file_is_found_beside_other_texts(importer: Importer) -> None:
    lines = "".join(f"One {n}.\tUn {n} !\n" for n in range(30)).encode()
    packed = zipped({"_about.txt": b"See www.example.org\n\nAbout, these.\n", "fra.txt": lines})
    made = importer.upload(
        {"fra.zip": packed}, columns=["en", "fr"], target="fr", kinds={"fr": "text"}
    )
    assert _kinds(made.manifest) == {"en": "text", "fr": "text"}
    assert made.manifest.task == "translation"
    assert made.manifest.source["left_out"] == ["fra.zip/_about.txt"]


def test_parts_without_names_may_write_a_point_behind_labels(importer: Importer) -> None:
    train = b"".join(b"%d, %s\n" % (n, [b">50K", b"<=50K"][n % 2]) for n in range(10))
    test = b"".join(b"%d, %s.\n" % (n, [b">50K", b"<=50K"][n % 2]) for n in range(4))
    made = importer.upload(
        {"a-train.data": train, "a-test.data": test}, columns=["age", "income"], target="income"
    )
    assert made.manifest.features["income"].labels == ["<=50K", ">50K"]
    assert made.manifest.splits["test"].rows == 4


def test_a_gzipped_table_is_a_table(importer: Importer) -> None:
    import gzip

    made = importer.upload({"t.csv.gz": gzip.compress(_HOLES)}, target="y")
    assert "note" in made.manifest.features


def test_what_older_versions_wrote_is_read() -> None:
    old = (
        b'{"format_version":1,"features":{"x":{"kind":"number","dtype":"int64"}},"target":null,"splits":{},'
        b'"statistics":{},"preview":[],"fingerprint":"f","source":{}}'
    )
    manifest = read_dataset(old)
    assert (manifest.task, manifest.time, manifest.features["x"].sample_rate) == (None, None, None)


def test_fingerprints_of_known_data_never_change(importer: Importer) -> None:
    """Versions are told apart by these: another one would make a second version of the same data."""
    table = "size,weight,colour,label\n" + "".join(
        f"{n},{n / 4},{'red' if n % 3 else 'blue'},{'猫' if n % 2 else 'dog'}\n" for n in range(40)
    )
    made = importer.upload({"p.csv": table.encode()}, target="label")
    assert made.manifest.fingerprint.startswith("63413e5d579c100bc66e2cd5a0fd6728")
    arrays = importer.upload({"a.npz": npz(x=pictures(40), y=np.arange(40) % 4)})
    assert arrays.manifest.fingerprint.startswith("807b53aa5e36535331ffcf0ba2af60a5")


@pytest.mark.data
def test_the_census_as_uci_publishes_it(importer: Importer, shared_data: Path) -> None:
    numbers = ["age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    names = [
        *["age", "workclass", "fnlwgt", "education", "education-num", "marital-status"],
        *["occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"],
        *["hours-per-week", "native-country", "income"],
    ]
    made = importer.path(shared_data / "adult", columns=names, label="income")
    manifest = made.manifest
    assert (manifest.splits["train"].rows, manifest.splits["test"].rows) == (32_561, 16_281)
    assert manifest.features["income"].labels == ["<=50K", ">50K"]
    kinds = _kinds(manifest)
    assert [name for name, kind in kinds.items() if kind == "number"] == numbers
    assert kinds["native-country"] == "category"
    assert manifest.statistics["workclass"]["missing"] == 1836 + 963
    assert manifest.task == "tabular-classification"


@pytest.mark.data
def test_short_messages_as_uci_publishes_them(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "sms-spam", columns=["label", "text"], label="label")
    splits = made.manifest.splits
    assert splits["train"].rows + splits["test"].rows == 5_574
    assert made.manifest.statistics["label"]["counts"] == {"ham": 4_827, "spam": 747}
    assert made.manifest.features["text"].kind == "text"
