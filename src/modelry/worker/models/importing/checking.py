"""The allow-list: every file's kind by its content, before any library opens it. Whatever is not known is refused.

Names decide nothing but the words of a refusal and which reader a text gets; a pickle called `labels.txt` is a pickle.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from modelry.core.errors import UnsafeFile
from modelry.worker.data.sources import SourceFile
from modelry.worker.models.importing.base import EXPORT_TO_ONNX, refuse
from modelry.worker.models.importing.keras_config import check_keras
from modelry.worker.models.importing.pickles import compression_of, is_pickle
from modelry.worker.models.importing.protobuf import is_onnx
from modelry.worker.models.importing.safetensors import check_safetensors, looks_like_safetensors
from modelry.worker.models.importing.texts import check_json, read_json
from modelry.worker.models.importing.zips import ZipKind, look_into

#: A model of more files than this is no model.
MAX_FILES = 2000
#: All files of an import together.
MAX_BYTES = 32 << 30
#: Read-me files and vocabularies; more is no text but something that calls itself one.
_MAX_TEXT_BYTES = 64 << 20
_HEAD_BYTES = 1 << 20

_REMOVE = "Remove this file from the source, or import the model's own file alone."
_SAVE_KERAS = (
    "Load it with the Keras version that wrote it and save it anew: `model.save('model.keras')`; "
    "or export it to ONNX with tf2onnx."
)
_SAVED_MODEL = (
    "Convert it: `python -m tf2onnx.convert --saved-model FOLDER --output model.onnx`, and import that file; "
    "or save the Keras model with `model.save('model.keras')`."
)


class FileKind(StrEnum):
    """What a file of the source is."""

    ONNX = "ONNX model"
    SAFETENSORS = "safetensors"
    KERAS = "Keras model"
    JSON = "JSON"
    TEXT = "text"
    #: Looked at by nobody, and left out.
    PICTURE = "picture"
    #: Raw numbers; good only where an ONNX graph names the file.
    DATA = "data"


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file that may be read."""

    name: str
    place: Path
    kind: FileKind
    size_bytes: int
    sha256: str


def check_amount(files: list[SourceFile]) -> None:
    """Raises `UnsafeFile` for more files or bytes than a model has; nothing is opened."""
    if len(files) > MAX_FILES:
        raise refuse(
            files[0].name,
            f"the source has {len(files)} files; {MAX_FILES} are allowed",
            "Bring the model alone.",
        )
    total = sum(file.size_bytes for file in files)
    if total > MAX_BYTES:
        reason = f"the source has {total >> 20} MiB; {MAX_BYTES >> 20} MiB are allowed"
        raise refuse(files[0].name, reason, "Import a smaller model.")


def check_files(files: list[SourceFile]) -> list[CheckedFile]:
    """Every file with its kind and SHA-256; raises `UnsafeFile` for the first that is not on the list."""
    check_amount(files)
    if any(file.base == "saved_model.pb" for file in files):
        raise refuse("saved_model.pb", "it is a TensorFlow SavedModel", _SAVED_MODEL)
    checked = [_check(file) for file in files]
    _refuse_strange_data(checked)
    return checked


def check_file(name: str, place: Path) -> FileKind:
    """The kind of one file; raises `UnsafeFile`."""
    with place.open("rb") as content:
        head = content.read(_HEAD_BYTES)
    _refuse_known(name, head)
    if looks_like_safetensors(head):
        check_safetensors(name, place)
        return FileKind.SAFETENSORS
    if head.startswith(b"PK"):
        return _check_zip(name, place)
    if is_onnx(place):
        return FileKind.ONNX
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")):
        return FileKind.PICTURE
    if _is_text(place):
        return _check_text(name, place)
    return FileKind.DATA


def _check(file: SourceFile) -> CheckedFile:
    if not file.name.isprintable():
        raise refuse(ascii(file.name), "its name has characters that nobody sees", "Rename it.")
    if file.size_bytes == 0:
        raise refuse(file.name, "it is empty", _REMOVE)
    kind = check_file(file.name, file.place)
    with file.place.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return CheckedFile(file.name, file.place, kind, file.size_bytes, digest)


def _refuse_known(name: str, head: bytes) -> None:
    """Kinds that have a way out of their own, and those that no model needs."""
    if is_pickle(head):
        raise refuse(name, "it is a pickle, which runs its author's code when it is loaded")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise refuse(name, "it is an HDF5 file (old Keras), which may hold code", _SAVE_KERAS)
    if head.startswith(b"\x93NUMPY"):
        reason = "it is a numpy array, which can hold pickled objects, and no model"
        raise refuse(name, reason)
    if head.startswith(b"GGUF"):
        raise refuse(name, "it is a GGUF file; language models are not imported yet", _REMOVE)
    if head.startswith((b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")):
        raise refuse(name, "it is a program", _REMOVE)
    if (packing := compression_of(head)) is not None:
        raise refuse(name, f"it is packed with {packing} and is not looked into", _unpacked())


def _unpacked() -> str:
    return f"Bring it unpacked, or in a .zip, .tar or .gz. {EXPORT_TO_ONNX}"


def _check_zip(name: str, place: Path) -> FileKind:
    if look_into(name, place) is ZipKind.KERAS:
        check_keras(name, place)
        return FileKind.KERAS
    raise refuse(name, "it is an archive within the source", "Bring the files unpacked.")


def _is_text(place: Path) -> bool:
    """Whether all of it is UTF-8 without a NUL; what is larger than a text may be is none."""
    if place.stat().st_size > _MAX_TEXT_BYTES:
        return False
    data = place.read_bytes()
    if b"\0" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check_text(name: str, place: Path) -> FileKind:
    ending = Path(name).suffix.lower()
    if ending == ".json":
        check_json(name, read_json(name, place))
        return FileKind.JSON
    if ending in (".py", ".pyc", ".sh", ".so", ".ipynb"):
        raise refuse(name, "it is program code, which an import never runs", _REMOVE)
    if ending in (".onnx", ".safetensors", ".keras", ".bin", ".pt", ".pth", ".h5"):
        raise refuse(name, "it is text and not what its name says", "Get an undamaged copy.")
    return FileKind.TEXT


def _refuse_strange_data(checked: list[CheckedFile]) -> None:
    """Files of numbers without a name of their own belong to an ONNX graph, or to nothing that is known."""
    has_graph = any(file.kind is FileKind.ONNX for file in checked)
    for file in checked:
        if file.kind is FileKind.DATA and (not has_graph or file.name.lower().endswith(_MODELS)):
            raise _strange(file)


_MODELS = (".onnx", ".safetensors", ".keras", ".pt", ".pth", ".pkl", ".h5")


def _strange(file: CheckedFile) -> UnsafeFile:
    ending = Path(file.name).suffix.lower()
    if ending == ".onnx":
        return refuse(
            file.name,
            "it is no whole ONNX model: damaged, truncated or something else",
            "Export it again, or get an undamaged copy.",
        )
    if ending == ".safetensors":
        return refuse(
            file.name, "it is no whole safetensors file", "Save it again, or get an undamaged copy."
        )
    return refuse(file.name, "its content is of no kind that an import takes")
