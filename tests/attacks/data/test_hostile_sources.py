"""Hostile and broken sources: each is refused with the file and the reason, and nothing is published."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelry.core.errors import InvalidData, ModelryError, PathRefused
from modelry.worker.data import sources, unpacking
from tests.conftest import Importer
from tests.unit.worker.data.making import (
    idx,
    npy,
    npz,
    picture_files,
    pictures,
    png,
    tarred,
    zipped,
)

_X, _Y = pictures(20), np.arange(20) % 2


def _refused(
    importer: Importer, files: dict[str, bytes], reason: str, file: str, **params: Any
) -> None:
    before = importer.artifacts.usage()
    for path, data in files.items():
        importer.artifacts.put_bytes(data, path)
    uploaded = importer.artifacts.usage()
    with pytest.raises(InvalidData, match=reason) as caught:
        importer.upload(files, **params)
    assert file in str(caught.value.facts["file"])
    assert caught.value.remedy
    assert importer.artifacts.usage() == uploaded, "something was published"
    assert uploaded[0] >= before[0]
    assert not list(importer.root.glob("run/*/work/unpacked/*"))


def _tar_of(info: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(info)
    return out.getvalue()


def _tar_member(name: str, type_: bytes, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type = type_
    info.linkname = target
    return _tar_of(info)


def _zip_link() -> bytes:
    info = zipfile.ZipInfo("cat/1.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


def _zip_encrypted() -> bytes:
    data = bytearray(zipped({"cat/1.png": png(_X[0])}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _zip_twice() -> bytes:
    return zipped({"cat/1.png": b"1", "cat/2.png": b"2"}).replace(b"cat/2.png", b"cat/1.png")


def _zip_bad_checksum() -> bytes:
    data = zipped({"x.npy": npy(_X)})
    at = data.index(b"PK\x01\x02") + 16
    return data[:at] + bytes(4) + data[at + 4 :]


_ARCHIVES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zip climbs out": ("a.zip", lambda: zipped({"../evil.png": b"x"}), "leaves its folder"),
    "zip climbs out deep": ("a.zip", lambda: zipped({"a/../../e.png": b"x"}), "leaves its folder"),
    "zip is absolute": ("a.zip", lambda: zipped({"/etc/evil.png": b"x"}), "leaves its folder"),
    "zip with backslashes": ("a.zip", lambda: zipped({"..\\e.png": b"x"}), "backslashes"),
    "zip with a link": ("a.zip", _zip_link, "a link or a device"),
    "zip that is encrypted": ("a.zip", _zip_encrypted, "encrypted"),
    "zip with a name twice": ("a.zip", _zip_twice, "twice"),
    "zip with a wrong checksum": ("a.zip", _zip_bad_checksum, "damaged or truncated"),
    "zip truncated": ("a.zip", lambda: zipped(picture_files(["a"]))[:-30], "damaged or truncated"),
    "zip in a zip": (
        "a.zip",
        lambda: zipped({"b.zip": zipped(picture_files(["a"]))}),
        "archive within an archive",
    ),
    "tar in a zip": (
        "a.zip",
        lambda: zipped({"b.tar": tarred(picture_files(["a"]))}),
        "archive within an archive",
    ),
    "gzip in a gzip": ("a.gz", lambda: gzip.compress(gzip.compress(b"x")), "within an archive"),
    "zip of nothing": ("a.zip", lambda: zipped({}), "no data"),
    "tar climbs out": ("a.tar", lambda: tarred({"../evil.png": b"x"}), "leaves its folder"),
    "tar is absolute": ("a.tar", lambda: tarred({"/evil.png": b"x"}), "leaves its folder"),
    "tar with a link": (
        "a.tar",
        lambda: _tar_member("a/1.png", tarfile.SYMTYPE, "/etc/passwd"),
        "a link or a device",
    ),
    "tar with a hard link": (
        "a.tar",
        lambda: _tar_member("a/1.png", tarfile.LNKTYPE, "../../x"),
        "a link or a device",
    ),
    "tar with a device": (
        "a.tar",
        lambda: _tar_member("a/1.png", tarfile.CHRTYPE),
        "a link or a device",
    ),
    "tar with a pipe": (
        "a.tar",
        lambda: _tar_member("a/1.png", tarfile.FIFOTYPE),
        "a link or a device",
    ),
    "tar truncated in a member": (
        "a.tar",
        lambda: tarred({"a/1.png": bytes(100_000)})[:50_000],
        "truncated",
    ),
    "tar truncated between members": (
        "a.tar",
        lambda: tarred({"a/1.png": bytes(512), "a/2.png": bytes(512)})[:1024],
        "truncated",
    ),
    "tar.gz truncated": (
        "a.tar.gz",
        lambda: tarred({"a/1.png": png(pictures(1, (99, 99))[0])}, "w:gz")[:-400],
        "damaged or truncated",
    ),
    "gzip with a wrong checksum": (
        "a.gz",
        lambda: gzip.compress(idx(_X))[:-8] + bytes(8),
        "damaged or truncated",
    ),
    "npz truncated": ("a.npz", lambda: npz(x=_X, y=_Y)[:-100], "damaged or truncated"),
    "an archive by name only": ("a.zip", lambda: b"hello", "no zip archive"),
}


@pytest.mark.parametrize("case", _ARCHIVES)
def test_hostile_archives_are_refused(importer: Importer, case: str) -> None:
    name, make, reason = _ARCHIVES[case]
    _refused(importer, {name: make()}, reason, name)


@pytest.fixture
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1 << 20)


@pytest.mark.usefixtures("_small_budget")
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "train-images-idx3-ubyte.gz", "a.npz"])
def test_bombs_are_stopped_while_they_unpack(importer: Importer, name: str) -> None:
    zeros = np.zeros((40 << 20,), np.uint8)
    bombs = {
        "a.zip": lambda: zipped({"x.npy": npy(zeros)}),
        "a.tar.gz": lambda: tarred({"x.npy": npy(zeros)}, "w:gz"),
        "train-images-idx3-ubyte.gz": lambda: gzip.compress(idx(zeros)),
        "a.npz": lambda: zipped({f"x{n}.npy": npy(zeros[: 4 << 20]) for n in range(10)}),
    }
    _refused(importer, {name: bombs[name]()}, "archive bomb", name)


@pytest.mark.usefixtures("_small_budget")
def test_what_a_zip_claims_of_its_sizes_is_not_believed(importer: Importer) -> None:
    data = bytearray(zipped({"x.npy": npy(np.zeros(8 << 20, np.uint8))}))
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = struct.pack("<I", 1000)
    _refused(importer, {"a.zip": bytes(data)}, "damaged|bomb", "a.zip")


def test_an_archive_of_endless_files_is_refused(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_FILES", 50)
    files = {f"a/{number}.png": b"x" for number in range(51)}
    _refused(importer, {"a.zip": zipped(files)}, "more than 50 files", "a.zip")
    _refused(importer, {"a.tar": tarred(files)}, "more than 50 files", "a.tar")


def test_a_tar_header_cannot_fill_the_memory(importer: Importer) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 40 << 20
    data = info.tobuf() + b"a" * info.size + bytes(1024)
    _refused(importer, {"a.tar": data}, "a header in it is too long", "a.tar")


def _lying_npy(shape: str, descr: str = "'|u1'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch /tmp/modelry-was-attacked",)


_ARRAYS: dict[str, tuple[dict[str, bytes], str, str]] = {
    "npy that lies about its size": (
        {"x.npy": _lying_npy("(9999999999, 99999)")},
        "promises",
        "x.npy",
    ),
    "npy with a negative size": ({"x.npy": _lying_npy("(-1, 8)")}, "negative size", "x.npy"),
    "npy that nests too deep": ({"x.npy": _lying_npy("(" * 4000)}, "damaged", "x.npy"),
    "npy with a call in its header": ({"x.npy": _lying_npy("exit()")}, "damaged", "x.npy"),
    "npy of structures": (
        {"x.npy": _lying_npy("(8,)", "[('a', '<f4'), ('b', '<f4')]")},
        "not numbers",
        "x.npy",
    ),
    "npy of another major format": (
        {"x.npy": b"\x93NUMPY\x09\x00" + bytes(80)},
        "damaged",
        "x.npy",
    ),
    "npy truncated": ({"x.npy": npy(_X)[:-1]}, "promises", "x.npy"),
    "npy with more than promised": ({"x.npy": npy(_X) + b"!"}, "promises", "x.npy"),
    "npy by name only": ({"x.npy": b"1,2,3"}, "no numpy array", "x.npy"),
    "npy of texts": ({"x.npy": npy(np.array(["a", "b"]))}, "not numbers", "x.npy"),
    "npy of complex numbers": ({"x.npy": npy(np.ones(9, complex))}, "not numbers", "x.npy"),
    "npz of objects": (
        {"a.npz": npz(x=_X, y=np.array([_Trap()] * 20, object))},
        "Python objects",
        "a.npz/y.npy",
    ),
    "an empty array": ({"a.npz": npz(x=_X[:0], y=_Y[:0])}, "no rows", "a.npz/x.npy"),
    "a single number": ({"x.npy": npy(np.array(7))}, "no rows", "x.npy"),
    "an empty file": ({"x.npy": b""}, "empty", "x.npy"),
    "NaN": ({"x.npy": npy(np.array([[1.0], [np.nan]]))}, "row 1 holds NaN", "x.npy"),
    "infinity": ({"x.npy": npy(np.array([[1.0], [2.0], [-np.inf]]))}, "row 2", "x.npy"),
    "more labels than rows": (
        {"a.npz": npz(x=_X, y=np.zeros(21, int))},
        "21 labels for the 20",
        "y.npy",
    ),
    "negative labels": ({"a.npz": npz(x=_X, y=_Y - 1)}, "negative label -1", "a.npz/y.npy"),
    "labels between": ({"a.npz": npz(x=_X, y=_Y + 0.5)}, "whole numbers", "a.npz/y.npy"),
    "labels that are NaN": ({"a.npz": npz(x=_X, y=np.full(20, np.nan))}, "row 0", "a.npz/y.npy"),
    "labels as vectors": ({"a.npz": npz(x=_X, y=np.eye(20))}, "20×20", "a.npz/y.npy"),
    "empty labels": (
        {"a.npz": npz(x=_X, y=np.array(["a", ""] * 10))},
        "empty label",
        "a.npz/y.npy",
    ),
    "labels without inputs": ({"y.npy": npy(_Y)}, "no inputs", "y.npy"),
    "a label that only the test part has": (
        {"a.npz": npz(x_train=_X, y_train=_Y, x_test=_X[:2], y_test=np.array([1, 7]))},
        "row 1 has the label '7'",
        "a.npz/y_test.npy",
    ),
    "labels for one part only": (
        {"a.npz": npz(x_train=_X, y_train=_Y, x_test=_X)},
        "has no labels",
        "a.npz/x_test.npy",
    ),
    "parts of different shapes": (
        {"a.npz": npz(x_train=_X, y_train=_Y, x_test=pictures(4, (9, 9)), y_test=_Y[:4])},
        "9×9×1.*8×8×1",
        "a.npz/x_test.npy",
    ),
    "parts of different types": (
        {"a.npz": npz(x_train=_X, y_train=_Y, x_test=_X / 255, y_test=_Y)},
        "float64",
        "a.npz/x_test.npy",
    ),
    "a test part without a training part": (
        {"a.npz": npz(x_test=_X, y_test=_Y, x_val=_X, y_val=_Y)},
        "called train",
        "a.npz",
    ),
    "two claims to one role": (
        {"a.npz": npz(x=_X, y=_Y), "b.npz": npz(x=_X, y=_Y)},
        "both claim",
        "b.npz/x.npy",
    ),
    "IDX that promises more": ({"a-idx": idx(_X)[:-1]}, "promises", "a-idx"),
    "IDX that promises less": ({"a-idx": idx(_X) + b"!"}, "promises", "a-idx"),
    "IDX that promises the world": (
        {"a-idx": struct.pack(">4B3I", 0, 0, 8, 3, *(3 * (0xFFFFFFFF,)))},
        "promises",
        "a-idx",
    ),
    "IDX that ends in its header": ({"a-idx": idx(_X)[:9]}, "within its header", "a-idx"),
    "an unknown kind": ({"a.bin": bytes(range(256))}, "no kind of data file", "a.bin"),
    "a program": ({"a.pkl": pickle.dumps(_Trap())}, "no kind of data file", "a.pkl"),
    "words only": ({"README.md": b"hello"}, "no data", "README.md"),
    "two kinds at once": ({"x.npy": npy(_X), "a/1.png": png(_X[0])}, "one at a time", "x.npy"),
    "all rows equal": ({"a.npz": npz(x=_X * 0, y=_Y * 0)}, "too few different rows", "x.npy"),
}


@pytest.mark.parametrize("case", _ARRAYS)
def test_hostile_arrays_are_refused(importer: Importer, case: str) -> None:
    files, reason, file = _ARRAYS[case]
    _refused(importer, files, reason, file)
    assert not Path("/tmp/modelry-was-attacked").exists()


def _png_bomb() -> bytes:
    """A PNG that claims 50,000 × 50,000 pixels."""
    data = bytearray(png(_X[0]))
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


_GOOD = picture_files(["a", "b"])
_IMAGES: dict[str, tuple[dict[str, bytes], str, str]] = {
    "not an image": ({"a/x.png": b"\x00\x01\x02 no image"}, "no image", "a/x.png"),
    "a web page": ({"a/x.png": b"<html></html>"}, "no image", "a/x.png"),
    "a truncated image": ({"a/x.png": png(pictures(1)[0])[:-20]}, "no readable image", "a/x.png"),
    "a decompression bomb": ({"a/x.png": _png_bomb()}, "2500000000 pixels", "a/x.png"),
    "another size": ({"a/x.png": png(pictures(1, (8, 9))[0])}, "9×8 grey, but .* 8×8", "a/x.png"),
    "another mode": ({"a/x.png": png(pictures(1, (8, 8, 3))[0])}, "8×8 colour", "a/x.png"),
    "outside the class folders": ({"x_1.png": png(_X[0])}, "outside the class folders", "x_1.png"),
    "a label of the test part alone": (
        {
            **{f"train/{n}": d for n, d in _GOOD.items()},
            "test/c/1.png": png(_X[0]),
        },
        "label 'c'",
        "test/c/1.png",
    ),
}


@pytest.mark.parametrize("case", _IMAGES)
def test_hostile_pictures_are_refused(importer: Importer, case: str) -> None:
    files, reason, file = _IMAGES[case]
    others = {} if "train/a/0.png" in files else _GOOD
    _refused(importer, {**others, **files}, reason, file)


def test_pictures_without_labels_are_refused(importer: Importer) -> None:
    files = {f"{number}.png": png(_X[number]) for number in range(9)}
    _refused(importer, files, "no label before", "0.png")
    _refused(importer, files, "in no folder", "0.png", labels_from="folder")
    _refused(importer, _GOOD, "target cannot be chosen", "a/0.png", target="label")


_TABLES: dict[str, tuple[bytes, str]] = {
    "ragged": (b"a,y\n1,0\n2\n3,1\n", "no sound CSV.*Expected 2 columns, got 1"),
    "infinite": (b"a,y\n1.5,0\ninf,1\n", "row 1 of the column 'a' is infinite"),
    "a hole in the target": (b"a,y\n1,0\n2,\n", "row 1 of the target 'y' is empty"),
    "an empty label": (b"a,y\n1,u\n2,\n", "row 1 has an empty label"),
    "a name twice": (b"a,a,y\n1,2,0\n", "different names"),
    "no such target": (b"a,b\n1,0\n2,1\n", "no column 'y'; it has: a, b"),
    "the target alone": (b"y\n1\n0\n", "no column beside the target"),
    "no rows": (b"a,y\n", "no rows"),
    "texts for labels": (b"a,y\n1," + b"x" * 300 + b"\n2,y\n", "over 256 letters"),
    "another encoding": ("a,y\n1,caf\u00e9\n".encode("latin-1"), "no CSV table|no sound CSV|UTF-8"),
    "a broken line late": (b"a,y\n" + b"1,0\n" * 40_000 + b"\xff\xfe,1\n", "no sound CSV|UTF-8"),
}


@pytest.mark.parametrize("case", _TABLES)
def test_hostile_tables_are_refused(importer: Importer, case: str) -> None:
    data, reason = _TABLES[case]
    _refused(importer, {"t.csv": data}, reason, "t.csv", target="y")


#: Options that do not fit the table `a,b,y` → what the refusal says.
_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no such feature": ({"features": ["a", "c"]}, "no column 'c'; it has: a, b, t, h, y"),
    "no such kind's column": ({"kinds": {"c": "text"}}, "no column 'c'"),
    "no such text": ({"text": "c"}, "no column 'c'"),
    "no such time": ({"time": "c"}, "no column 'c'"),
    "texts said to be numbers": (
        {"kinds": {"b": "number"}},
        "row 1 of the column 'b' is 'red', which is no number",
    ),
    "texts said to be the number to predict": (
        {"target": "b", "kinds": {"b": "number"}},
        "row 1 of the column 'b' is 'red'",
    ),
    "fractions said to be labels": ({"target": None, "label": "a"}, "row 0 has the label 1.5"),
    "a hole in the number to predict": (
        {"task": "tabular-regression", "target": "h"},
        "row 1 of the column 'h' is the target and is empty",
    ),
    "a task of other data": ({"task": "image-classification"}, "image-classification reads"),
    "days before years": ({"time": "t"}, "row 0 of the column 't' is '31/12/2026', which does not"),
    "times of two shapes": ({"time": "b"}, "row 1 of the column 'b' is 'red', written otherwise"),
    "a time that is missing": ({"time": "h"}, "row 1 of the column 'h' tells no time"),
    "too few rows for the last ones": (
        {"time": "a", "test_share": 0.1},
        "2 rows are too few to keep the last ones",
    ),
    "columns that are not so many": ({"columns": ["a", "y"]}, "do not have the 2 columns"),
    "columns that are there": ({"columns": ["a", "b", "t", "h", "y"]}, "names the columns already"),
}


@pytest.mark.parametrize("case", _OPTIONS)
def test_options_that_do_not_fit_are_refused(importer: Importer, case: str) -> None:
    options, reason = _OPTIONS[case]
    table = b"a,b,t,h,y\n1.5,9,31/12/2026,1,0\n2.5,red,01/01/2027,,1\n"
    _refused(importer, {"t.csv": table}, reason, "t.csv", **{"target": "y", **options})


def test_a_table_s_options_are_refused_for_other_data(importer: Importer) -> None:
    _refused(
        importer, {"a.npz": npz(x=_X, y=_Y)}, "'kinds' is said of", "x.npy", kinds={"x": "text"}
    )
    _refused(importer, _GOOD, "'time' is said of", "a/0.png", time="day")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good server folder with a secret beside it."""
    (tmp_path / "secret.png").write_bytes(png(_X[0]))
    root = tmp_path / "root"
    for name, data in _GOOD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def _path_refused(importer: Importer, folder: Path, reason: str) -> ModelryError:
    with pytest.raises(InvalidData, match=reason) as caught:
        importer.path(folder)
    assert importer.artifacts.usage() == (0, 0)
    return caught.value


def test_a_link_that_leaves_the_server_folder_is_refused(importer: Importer, folder: Path) -> None:
    (folder / "a" / "evil.png").symlink_to(folder.parent / "secret.png")
    assert _path_refused(importer, folder, "out of the folder").facts["file"] == "a/evil.png"


def test_a_link_within_the_server_folder_is_read(importer: Importer, folder: Path) -> None:
    (folder / "c").mkdir()
    (folder / "c" / "same.png").symlink_to(folder / "a" / "0.png")
    assert importer.path(folder, test_share=0).manifest.splits["train"].rows == len(_GOOD) + 1


def test_links_to_folders_and_to_nothing_are_refused(importer: Importer, folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    _path_refused(importer, folder, "a link to a folder")
    (folder / "loop").unlink()
    (folder / "a" / "gone.png").symlink_to(folder / "nowhere")
    _path_refused(importer, folder, "no ordinary file")


def test_a_pipe_is_refused_and_never_waited_for(importer: Importer, folder: Path) -> None:
    os.mkfifo(folder / "a" / "pipe.png")
    _path_refused(importer, folder, "no ordinary file")


def test_a_folder_of_nothing_or_of_too_much_is_refused(
    importer: Importer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "empty").mkdir()
    _path_refused(importer, folder.parent / "empty", "no files")
    with pytest.raises(PathRefused):
        importer.path(folder / "missing")
    monkeypatch.setattr(sources, "MAX_FILES", 3)
    _path_refused(importer, folder, "more than 3 files")


def test_a_name_that_is_not_utf8_is_refused(importer: Importer, folder: Path) -> None:
    path = os.fsencode(folder / "a") + b"/\xff.png"
    try:
        Path(os.fsdecode(path)).write_bytes(png(_X[0]))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    _path_refused(importer, folder, "not UTF-8")


def test_what_systems_leave_behind_is_passed_over(importer: Importer, folder: Path) -> None:
    (folder / "a" / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._0.png").write_bytes(b"junk")
    assert importer.path(folder, test_share=0).manifest.splits["train"].rows == len(_GOOD)
