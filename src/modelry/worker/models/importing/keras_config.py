"""A `.keras` file before Keras sees it: only its three members, and a configuration of Keras' own parts alone."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import Any

import msgspec

from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.texts import MAX_JSON_BYTES, walk
from modelry.worker.models.importing.zips import KERAS_FILES

#: Weights may not unpack to more, nor to so many times what they take packed.
_MAX_WEIGHTS_BYTES = 16 << 30
_MAX_RATIO = 100
_FREE_BYTES = 64 << 20
_HDF5 = b"\x89HDF\r\n\x1a\n"
#: Python modules whose classes a configuration may name.
_MODULES = ("keras", "keras.", "keras_hub.", "tf_keras")
_PLAIN = frozenset(
    {"__tuple__", "__bytes__", "__numpy__", "__tensor__", "__keras_tensor__", "slice"}
)
#: Functions that a layer may be given: activations, initial values and the like, by name.
_FUNCTION_MODULES = ("keras.", "keras.src.")
_FUNCTION_ROOMS = (
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
)
_WAY_OUT = (
    "Build the model of Keras' own layers, save it anew with `model.save('model.keras')`, or export it to ONNX "
    "(`model.export('model.onnx', format='onnx')`) and import that file."
)


def check_keras(name: str, place: Path) -> None:
    """Raises `UnsafeFile` where loading would need more than Keras' own layers and numbers."""
    with zipfile.ZipFile(place) as archive:
        infos = archive.infolist()
        if sorted(info.filename for info in infos) != sorted(KERAS_FILES):
            extra = sorted({info.filename for info in infos} - KERAS_FILES) or ["one file twice"]
            raise refuse(
                name, f"it holds more than a Keras model does: {extra[0][:100]!r}", _WAY_OUT
            )
        for info in infos:
            _check_member(name, info)
        try:
            config = _read(archive, name, "config.json")
            _read(archive, name, "metadata.json")
            with archive.open("model.weights.h5") as weights:
                head = weights.read(len(_HDF5))
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
            raise refuse(name, f"it is a damaged zip ({error})", "Get an undamaged copy.") from None
    if head != _HDF5:
        raise refuse(name, "its weights are no HDF5 file", "Get an undamaged copy.")
    check_config(name, config)


def check_config(name: str, config: Any) -> None:
    """Raises `UnsafeFile` for Lambda layers, for code in base64, and for classes that are not Keras' own."""
    for key, value in walk(name, [config]):
        if key == "class_name" and value in ("Lambda", "__lambda__"):
            raise refuse(name, "it has a Lambda layer, which is Python code", _WAY_OUT)
        if (
            key in ("module", "registered_name")
            and isinstance(value, str)
            and "lambda" in value.lower()
        ):
            raise refuse(name, f"it names {value[:100]!r}, which is Python code", _WAY_OUT)
    _check_objects(name, config)


def _check_member(name: str, info: zipfile.ZipInfo) -> None:
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.flag_bits & 1:
        raise refuse(name, f"its member {info.filename} is a link, or encrypted", _WAY_OUT)
    limit = max(_FREE_BYTES, _MAX_RATIO * info.compress_size)
    if info.file_size > min(limit, _MAX_WEIGHTS_BYTES):
        raise refuse(
            name, f"{info.filename} unpacks out of proportion to its size: an archive bomb"
        )


def _read(archive: zipfile.ZipFile, name: str, member: str) -> Any:
    with archive.open(member) as content:
        data = content.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise refuse(name, f"its {member} is larger than {MAX_JSON_BYTES >> 20} MiB")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise refuse(name, f"its {member} is no JSON ({error})", "Get an undamaged copy.") from None
    if not isinstance(value, dict):
        raise refuse(name, f"its {member} is no table", "Get an undamaged copy.")
    return value


def _check_objects(name: str, config: Any) -> None:
    """Every serialised object, wherever it stands. What only training needs is never loaded and not looked at."""
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                _check_object(name, item)
            todo += [value for key, value in item.items() if key != "compile_config"]
        elif isinstance(item, list):
            todo += item


def _check_object(name: str, item: dict[str, Any]) -> None:
    class_name, module = str(item["class_name"]), item.get("module")
    registered = item.get("registered_name")
    if class_name in _PLAIN:
        return
    if class_name == "function":
        _check_function(name, item)
        return
    is_ours = module is None or (isinstance(module, str) and module.startswith(_MODULES))
    is_custom = isinstance(registered, str) and ">" in registered
    if not is_ours or is_custom:
        shown = f"{module}.{class_name}"[:100]
        raise refuse(name, f"it has the custom object {shown!r}, which is Python code", _WAY_OUT)


def _check_function(name: str, item: dict[str, Any]) -> None:
    module = str(item.get("module"))
    inside = module.removeprefix("keras.src.").removeprefix("keras.").split(".")[0]
    if not module.startswith(_FUNCTION_MODULES) or inside not in _FUNCTION_ROOMS:
        shown = f"{module}.{item.get('config')}"[:100]
        raise refuse(name, f"it calls the function {shown!r}, which is Python code", _WAY_OUT)
