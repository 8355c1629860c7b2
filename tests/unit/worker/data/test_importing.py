"""Imports of every kind, as whole jobs: what is understood, kept, split and fingerprinted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelry.core.errors import InvalidData, InvalidParameter
from modelry.core.specs import OutcomeStatus, StopReason
from modelry.worker.context import Stopped
from modelry.worker.data import importing, writing
from tests.conftest import Importer
from tests.unit.worker.data.making import (
    idx,
    idx_gz,
    npy,
    npz,
    picture_files,
    pictures,
    png,
    tarred,
    zipped,
)

_X, _Y = pictures(40), np.arange(40) % 4
_X_TEST, _Y_TEST = pictures(12, seed=1), np.arange(12) % 4
_SPLIT = {"x_train": _X, "y_train": _Y, "x_test": _X_TEST, "y_test": _Y_TEST}


def test_an_npz_with_splits_keeps_them_in_order(importer: Importer) -> None:
    made = importer.upload({"data.npz": npz(**_SPLIT)})
    data = importer.open(made)
    train, test = data.split("train"), data.split("test")
    assert np.array_equal(train.inputs[..., 0], _X)
    assert np.array_equal(test.inputs[..., 0], _X_TEST)
    assert train.labels is not None
    assert test.labels is not None
    assert train.labels.tolist() == _Y.tolist()
    assert test.labels.tolist() == _Y_TEST.tolist()
    assert train.labels.dtype == np.int64
    assert train.label_names == ["0", "1", "2", "3"]
    assert (train.feature_name, train.feature.shape) == ("image", [8, 8, 1])
    assert train.feature.scale == pytest.approx(1 / 255)
    assert made.manifest.target == "label"


@pytest.mark.parametrize(
    "files",
    [
        {"in.zip": zipped({"deep/data.npz": npz(**_SPLIT)})},
        {"in.tar.gz": tarred({"./data.npz": npz(**_SPLIT)}, "w:gz")},
        {f"{name}.npy": npy(array) for name, array in _SPLIT.items()},
        {
            "train.npz": npz(x=_X, y=_Y.astype(np.float32)),
            "test.npz": npz(x=_X_TEST, y=_Y_TEST[:, np.newaxis].astype(np.uint8)),
        },
        {
            "train-images-idx3-ubyte.gz": idx_gz(_X),
            "train-labels-idx1-ubyte.gz": idx_gz(_Y.astype("u1")),
            "t10k-images-idx3-ubyte": idx(_X_TEST),
            "t10k-labels-idx1-ubyte": idx(_Y_TEST.astype("u1")),
            "README": b"some words",
        },
        {
            "medical.npz": npz(
                train_images=_X, train_labels=_Y, test_images=_X_TEST, test_labels=_Y_TEST
            )
        },
    ],
    ids=["zip", "tar.gz", "npy files", "npz per split", "idx", "other names"],
)
def test_the_same_arrays_have_the_same_fingerprint_and_shards(
    importer: Importer, files: dict[str, bytes]
) -> None:
    plain = importer.upload({"data.npz": npz(**_SPLIT)})
    other = importer.upload(files)
    assert other.manifest.fingerprint == plain.manifest.fingerprint
    assert other.files[:-1] == plain.files[:-1]  # all but dataset.json, which names the source


def test_importing_twice_gives_the_same_version(importer: Importer, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name, data in picture_files(["cat", "dog"]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    first, second = importer.path(folder), importer.path(folder)
    assert first.manifest.fingerprint == second.manifest.fingerprint
    assert first.files == second.files


def test_one_changed_value_or_label_changes_the_fingerprint(importer: Importer) -> None:
    changed = _X.copy()
    changed[7, 3, 3] += 1
    swapped = _Y.copy()
    swapped[:2] = swapped[1::-1]
    sources = [npz(x=_X, y=_Y), npz(x=changed, y=_Y), npz(x=_X, y=swapped), npz(x=_X)]
    prints = {importer.upload({"a.npz": source}).manifest.fingerprint for source in sources}
    assert len(prints) == len(sources)


def test_a_source_without_splits_gets_a_stratified_test_fifth(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(images=_X, labels=_Y)})
    data = importer.open(made)
    train, test = data.split("train"), data.split("test")
    assert (train.rows, test.rows) == (32, 8)
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [2, 2, 2, 2]
    together = np.concatenate([train.inputs, test.inputs])[..., 0]
    assert sorted(row.tobytes() for row in together) == sorted(row.tobytes() for row in _X)


def test_rows_fall_into_the_same_split_in_whatever_order_they_come(importer: Importer) -> None:
    shuffled = np.random.default_rng(3).permutation(len(_X))
    tests = []
    for order in (np.arange(len(_X)), shuffled):
        made = importer.upload({"a.npz": npz(x=_X[order], y=_Y[order])})
        tests.append({row.tobytes() for row in importer.open(made).split("test").inputs})
    assert tests[0] == tests[1]


def test_equal_rows_are_never_on_both_sides(importer: Importer) -> None:
    doubled = np.repeat(pictures(20), 4, axis=0)
    made = importer.upload({"a.npz": npz(x=doubled, y=np.zeros(80, int))}, test_share=0.5)
    data = importer.open(made)
    sides = [{row.tobytes() for row in data.split(name).inputs} for name in ("train", "test")]
    assert not sides[0] & sides[1]


def test_no_test_split_is_drawn_where_none_is_wanted(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=_X, y=_Y)}, test_share=0)
    assert list(made.manifest.splits) == ["train"]
    with pytest.raises(InvalidParameter):
        importer.upload({"a.npz": npz(x=_X, y=_Y)}, test_share=1.0)


def test_floats_keep_their_shape_and_type(importer: Importer) -> None:
    values = np.random.default_rng(0).normal(size=(30, 12, 5)).astype(">f4")
    made = importer.upload({"a.npz": npz(x=values, y=np.arange(30) % 2)}, test_share=0)
    rows = importer.open(made).split("train")
    assert rows.feature.kind == "tensor"
    assert (rows.feature_name, rows.feature.shape, rows.feature.scale) == ("x", [12, 5], 1.0)
    assert rows.inputs.dtype == np.float32
    assert np.array_equal(rows.inputs, values)
    figures = made.manifest.statistics["x"]
    assert figures["mean"] == pytest.approx(float(values.astype(float).mean()))
    assert figures["std"] == pytest.approx(float(values.astype(float).std()))
    assert figures["minimum"] == float(values.min())


def test_columns_of_fortran_and_truths_become_rows(importer: Importer) -> None:
    truths = np.asfortranarray(np.random.default_rng(0).random((20, 6)) > 0.5)
    made = importer.upload({"x.npy": npy(truths), "y.npy": npy(np.arange(20) % 2)}, test_share=0)
    assert np.array_equal(importer.open(made).split("train").inputs, truths.astype(np.uint8))


def test_arrays_without_labels_are_fine(importer: Importer) -> None:
    made = importer.upload({"x.npy": npy(_X)})
    rows = importer.open(made).split("train")
    assert rows.labels is None
    assert rows.label_names == []
    assert made.manifest.target is None


def test_texts_can_be_labels(importer: Importer) -> None:
    names = np.array(["手写数字", "cafe\u0301", "seven", "手写数字"] * 10)
    made = importer.upload({"a.npz": npz(x=_X, y=names)}, test_share=0)
    rows = importer.open(made).split("train")
    assert rows.label_names == ["caf\u00e9", "seven", "手写数字"]
    assert rows.labels is not None
    assert rows.labels[:4].tolist() == [2, 0, 1, 2]
    assert made.manifest.statistics["label"]["counts"]["手写数字"] == 20


def test_labels_need_not_begin_at_nought(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=_X, y=_Y * 5 + 1)}, test_share=0)
    assert importer.open(made).split("train").label_names == ["1", "6", "11", "16"]


def test_unusual_names_are_understood_with_a_target(importer: Importer) -> None:
    source = npz(pixels=_X, weather=_Y)
    made = importer.upload({"a.npz": source}, target="weather")
    assert made.manifest.target == "label"
    with pytest.raises(
        InvalidData, match="no array is called 'wether'; there are: pixels, weather"
    ):
        importer.upload({"a.npz": source}, target="wether")
    with pytest.raises(InvalidData, match="pixels, weather"):
        importer.upload({"a.npz": source})


def test_an_array_that_is_neither_is_left_out_and_said(importer: Importer) -> None:
    made = importer.upload({"a.npz": npz(x=_X, y=_Y, extra=_Y)})
    assert made.manifest.source["left_out"] == ["a.npz/extra.npy"]


@pytest.mark.parametrize("pack", ["folder", "zip", "zip with a top folder", "tar", "tar.gz"])
def test_pictures_in_folders(importer: Importer, pack: str) -> None:
    files = picture_files(["七", "eight"])
    sources = {
        "folder": files,
        "zip": {"a.zip": zipped(files)},
        "zip with a top folder": {
            "b.zip": zipped({f"all/{name}": data for name, data in files.items()})
        },
        "tar": {"c.tar": tarred({f"./{name}": data for name, data in files.items()})},
        "tar.gz": {"d.tar.gz": tarred(files, "w:gz")},
    }
    made = importer.upload(sources[pack])
    plain = importer.upload({f"x/{n.replace('/', '/z')}": d for n, d in files.items()})
    assert made.manifest.fingerprint == plain.manifest.fingerprint
    assert made.manifest.features["image"].kind == "image"
    data = importer.open(made)
    train, test = data.split("train"), data.split("test")
    assert train.label_names == ["eight", "七"]
    assert train.inputs.shape == (8, 8, 8, 1)
    assert test.inputs.shape == (2, 8, 8, 1)
    assert set(map(bytes, np.concatenate([train.inputs, test.inputs]))) == set(
        map(bytes, pictures(10))
    )


def test_picture_splits_and_labels_from_folders(importer: Importer) -> None:
    train = {f"set/train/{n}": d for n, d in picture_files(["0", "1", "10", "2"]).items()}
    test = {f"set/test/{n}": d for n, d in picture_files(["10"], each=3, seed=9).items()}
    made = importer.upload({**train, **test})
    data = importer.open(made)
    assert data.split("train").label_names == ["0", "1", "2", "10"]
    assert (data.split("train").rows, data.split("test").rows) == (20, 3)
    assert set(np.asarray(data.split("test").labels).tolist()) == {3}


def test_archives_named_after_splits_are_splits(importer: Importer) -> None:
    made = importer.upload(
        {
            "train.zip": zipped(picture_files(["a", "b"])),
            "test.zip": zipped(picture_files(["a", "b"], each=2, seed=4)),
        }
    )
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 10,
        "test": 4,
    }


def test_picture_labels_from_file_names(importer: Importer) -> None:
    images = pictures(12)
    names = ["七_%d.png", "七-%d.png", "cat_a_%d.png"] * 4
    files = {name % number: png(images[number]) for number, name in enumerate(names)}
    made = importer.upload(files)
    assert importer.open(made).split("train").label_names == ["cat", "七"]


def test_colour_pictures_of_any_format(importer: Importer) -> None:
    images = pictures(8, (6, 5, 3))
    formats = ["PNG", "BMP", "WEBP", "JPEG"] * 2
    files = {
        f"{'ab'[n % 2]}/{n}.{kind.lower()}": png(images[n], kind) for n, kind in enumerate(formats)
    }
    made = importer.upload(files, test_share=0)
    assert importer.open(made).split("train").inputs.shape == (8, 6, 5, 3)
    assert made.manifest.preview[0]["image"].startswith("data:image/png;base64,")


_CSV = "size,weight,colour,label\n" + "".join(
    f"{n},{n / 4},{'red' if n % 3 else 'blue'},{'猫' if n % 2 else 'dog'}\n" for n in range(40)
)


def test_a_table_with_a_target(importer: Importer) -> None:
    made = importer.upload({"pets.csv": _CSV.encode()}, target="label")
    features = made.manifest.features
    assert {name: (feature.kind, feature.dtype) for name, feature in features.items()} == {
        "size": ("number", "int64"),
        "weight": ("number", "float64"),
        "colour": ("category", "string"),
        "label": ("label", "int64"),
    }
    assert features["label"].labels == ["dog", "猫"]
    assert {name: split.rows for name, split in made.manifest.splits.items()} == {
        "train": 32,
        "test": 8,
    }
    assert made.manifest.statistics["size"]["maximum"] == 39
    assert made.manifest.statistics["colour"]["counts"] == {"red": 26, "blue": 14}
    assert made.manifest.preview[0]["colour"] in ("red", "blue")


def test_a_column_s_type_is_decided_by_all_its_rows(importer: Importer) -> None:
    rows = [b"%d,%d" % (number, number % 2) for number in range(300_000)]
    table = b"a,y\n" + b"\n".join([*rows, b"0.5,1"])
    made = importer.upload({"t.csv": table}, target="y")
    assert made.manifest.features["a"].dtype == "float64"


def test_tables_per_split_agree_on_types(importer: Importer) -> None:
    made = importer.upload(
        {
            "train.csv": b"\xef\xbb\xbfa;when;y\n1;2026-01-01;0\n2;2026-01-02;1\n",
            "test.csv": b"a;when;y\n1.5;later;1\n",
        },
        target="y",
    )
    assert made.manifest.features["a"].dtype == "float64"
    assert made.manifest.features["when"].kind == "text"


def test_a_table_without_a_target_is_refused_with_its_columns(importer: Importer) -> None:
    with pytest.raises(InvalidData, match="size, weight, colour, label") as caught:
        importer.upload({"pets.csv": _CSV.encode()})
    assert "--target" in caught.value.remedy


def test_the_built_in_digits(importer: Importer) -> None:
    made = importer.builtin("digits")
    data = importer.open(made)
    train, test = data.split("train"), data.split("test")
    assert train.rows + test.rows == 1797
    assert test.rows == pytest.approx(1797 / 5, abs=5)
    assert train.inputs.shape[1:] == (28, 28, 1)
    assert train.inputs.max() == 255
    assert train.label_names == [str(digit) for digit in range(10)]
    assert len(made.manifest.preview) == 8
    assert made.manifest.fingerprint == importer.builtin("digits").manifest.fingerprint


def test_an_import_can_be_stopped(importer: Importer) -> None:
    file = importer.artifacts.put_bytes(npz(x=_X, y=_Y), "a.npz")
    context = importer.context([file], source="upload")
    context.stop_requested = StopReason.CANCEL
    with pytest.raises(Stopped) as caught:
        importing.run(context)
    context.close()
    assert caught.value.status is OutcomeStatus.CANCELLED
    assert not list(context.work.glob("unpacked/*"))


def test_large_sources_become_several_shards_with_the_same_fingerprint(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"a.npz": npz(x=pictures(2000), y=np.arange(2000) % 3)}
    whole = importer.upload(source)
    monkeypatch.setattr(writing, "SHARD_BYTES", 64 * 300)
    made = importer.upload(source)
    assert [len(split.files) for split in made.manifest.splits.values()] == [6, 2]
    assert made.manifest.fingerprint == whole.manifest.fingerprint
    mine, its = (importer.open(each).split("train") for each in (made, whole))
    assert np.array_equal(mine.inputs, its.inputs)
    assert np.array_equal(np.asarray(mine.labels), np.asarray(its.labels))


@pytest.mark.data
def test_mnist_as_it_is_published(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "mnist")
    data = importer.open(made)
    assert (data.split("train").rows, data.split("test").rows) == (60_000, 10_000)
    assert data.split("train").inputs.shape == (60_000, 28, 28, 1)
    assert made.manifest.source["reader"] == "idx"
    assert np.asarray(data.split("test").labels)[:3].tolist() == [7, 2, 1]


@pytest.mark.data
def test_real_photos_of_many_sizes_are_refused(importer: Importer, shared_data: Path) -> None:
    photos = list((shared_data / "photos").rglob("*.jpg"))
    files = {f"photos/{path.name.replace('.', '_1.', 1)}": path.read_bytes() for path in photos}
    with pytest.raises(InvalidData, match=r"_1\.jpg: it is \d+×\d+ .*, but photos/.* is \d+×\d+"):
        importer.upload(files)


@pytest.mark.data
def test_real_texts_in_a_table(importer: Importer, shared_data: Path) -> None:
    made = importer.path(shared_data / "banking77", target="category")
    assert made.manifest.features["text"].kind == "text"
    assert len(made.manifest.features["category"].labels or []) == 77
    assert (made.manifest.splits["train"].rows, made.manifest.splits["test"].rows) == (
        10_003,
        3_080,
    )
