"""The HDF5 file inside a `.keras` file: plain arrays of numbers within bounds, and no link out of the file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from modelry.worker.models.importing.base import refuse

MEMBER = "model.weights.h5"
_MAX_ITEMS = 100_000
_MAX_DEPTH = 64
_MAX_BYTES = (2 << 30) - (64 << 20)
_KINDS = "fiub"
#: HDF5's own: deflate, shuffle, a check sum.
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_WAY_OUT = "Save the model anew with `model.save('model.keras')`."


def check_weights(name: str, place: Path, scratch: Path) -> None:
    """Raises `UnsafeFile` for links, external and virtual storage, filters of others, and absurd sizes."""
    file = scratch / MEMBER
    with zipfile.ZipFile(place) as archive, archive.open(MEMBER) as content, file.open("wb") as out:
        while piece := content.read(1 << 20):
            out.write(piece)
    try:
        with h5py.File(file, "r") as weights:
            _check_group(name, weights)
    except (OSError, RuntimeError, KeyError, ValueError, RecursionError) as error:
        reason = f"its weights cannot be read ({str(error).splitlines()[0][:200]})"
        raise refuse(name, reason, "Get an undamaged copy.") from None
    finally:
        file.unlink(missing_ok=True)


def _check_group(name: str, root: h5py.Group) -> None:
    todo, items, size = [(root, 0)], 0, 0
    while todo:
        group, depth = todo.pop()
        for key in group:
            items += 1
            if items > _MAX_ITEMS or depth > _MAX_DEPTH:
                raise refuse(name, "its weights are in too many or too deep groups", _WAY_OUT)
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise refuse(name, f"its weights link to another place ('{key[:100]}')", _WAY_OUT)
            item = group[key]
            if isinstance(item, h5py.Group):
                todo.append((item, depth + 1))
                continue
            size += _check_array(name, item)
            if size > _MAX_BYTES:
                raise refuse(name, f"its weights claim more than {_MAX_BYTES >> 20} MiB", _WAY_OUT)


def _check_array(name: str, item: h5py.Dataset | h5py.Datatype) -> int:
    """The array's size in bytes."""
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in _KINDS:
        raise refuse(name, "its weights hold something else than numbers", _WAY_OUT)
    if item.external or item.is_virtual:
        raise refuse(name, "its weights lie in another file", _WAY_OUT)
    settings = item.id.get_create_plist()
    filters = {settings.get_filter(at)[0] for at in range(settings.get_nfilters())}
    if not filters <= _FILTERS:
        raise refuse(name, "its weights are packed in a way that needs a plug-in", _WAY_OUT)
    return int(item.size or 0) * int(item.dtype.itemsize)
