"""What a bundle says of its files must be true of them, and of nothing else."""

from __future__ import annotations

from modelry.core.bundles import BUNDLE_MANIFEST, read_bundle_manifest
from modelry.core.errors import InvalidData
from modelry.worker.models.importing.base import refuse
from modelry.worker.models.importing.checking import CheckedFile

_REMEDY = "Get the bundle again: `modelry models export NAME --bundle FILE` writes it."


def open_bundle(checked: list[CheckedFile]) -> list[CheckedFile]:
    """The files without `bundle.json`, compared with it; the same files where there is none. Raises `UnsafeFile`."""
    found = {file.name: file for file in checked}
    described = found.pop(BUNDLE_MANIFEST, None)
    if described is None:
        return checked
    try:
        manifest = read_bundle_manifest(described.place.read_bytes())
    except InvalidData as error:
        raise refuse(BUNDLE_MANIFEST, str(error.facts.get("reason")), _REMEDY) from None
    strange = sorted(set(found) ^ set(manifest.files))
    if strange:
        word = "is not named in bundle.json" if strange[0] in found else "is missing"
        raise refuse(strange[0], f"it {word}", _REMEDY)
    for name, file in found.items():
        told = manifest.files[name]
        if (told.sha256, told.size_bytes) != (file.sha256, file.size_bytes):
            raise refuse(
                name, "it is not the file that bundle.json names: its SHA-256 differs", _REMEDY
            )
    return list(found.values())
