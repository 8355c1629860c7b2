"""Which parts a Keras configuration may name. Everything else is refused before Keras reads the file.

Safe mode keeps Keras from running pickled functions; this list also keeps it from layers that load other files
(`TFSMLayer`, `TorchModuleWrapper`), from functions called as if they were layers, and from all custom code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelry.core.errors import ModelryError, NotConvertible
from modelry.worker.models.importing.base import refuse

REMEDY = "Export it to ONNX with `model.export('model.onnx', format='onnx')` and import that file."

#: Modules under which Keras writes its layers and networks.
_LAYER_MODULES = (
    "keras.layers",
    "keras",
    "keras.models",
    "keras.src.models.functional",
    "keras.src.models.sequential",
    "keras.src.models.model",
)
#: Parts that hold numbers and names only.
_PART_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")
_NETWORKS = ("Functional", "Sequential", "Model")
_OPERATIONS = ("Add", "Subtract", "Multiply", "TrueDivide")
_MARKS = ("__keras_tensor__", "__tuple__")
#: Python code, however it is written.
_CODE = (
    "Lambda",
    "__lambda__",
    "function",
    "TFSMLayer",
    "TorchModuleWrapper",
    "JaxLayer",
    "FlaxLayer",
)


def check_configuration(name: str, config: Any, layers: frozenset[str]) -> None:
    """Raises `UnsafeFile` for what could run code, and `NotConvertible` for a layer that is not known here.

    `layers` are the classes of layers that can be converted.
    """
    for item in _objects(config):
        problem = _problem(name, item, layers)
        if problem is not None:
            raise problem


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Everything that Keras would build, at any depth; how it was trained is never built."""
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            todo += [value for key, value in item.items() if key != "compile_config"]
        elif isinstance(item, list):
            todo += item


def _problem(name: str, item: dict[str, Any], layers: frozenset[str]) -> ModelryError | None:
    kind, module, registered = (
        item.get(key) for key in ("class_name", "module", "registered_name")
    )
    if kind in _MARKS:
        return None
    shown = f"{module}.{kind}"[:100]
    if kind in _CODE:
        return refuse(name, f"it has {shown!r}, which is or loads program code", REMEDY)
    is_named = registered in (None, kind)
    if not is_named or not isinstance(module, str) or not isinstance(kind, str):
        return refuse(name, f"it has the custom object {shown!r}, which is program code", REMEDY)
    if module in _PART_MODULES or (kind, module) == ("DTypePolicy", "keras"):
        return None
    if module in _LAYER_MODULES and (kind in layers or kind in _NETWORKS):
        return None
    if module == "keras.src.ops.numpy" and kind in _OPERATIONS:
        return None
    if module in _LAYER_MODULES or module.startswith("keras.src.ops."):
        called = str(item.get("name") or (item.get("config") or {}).get("name") or kind)[:100]
        return NotConvertible(
            reason=f"its layer '{called}' is a {kind}, which is not known here", remedy=REMEDY
        )
    return refuse(name, f"it has the custom object {shown!r}, which is program code", REMEDY)
