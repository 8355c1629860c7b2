"""A model package as one file, for machines without a network; equal packages give equal bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from modelry.core.bundles import (
    BUNDLE_DATE,
    BUNDLE_MANIFEST,
    BundledFile,
    BundleManifest,
    read_bundle_manifest,
    write_bundle_manifest,
)
from modelry.core.errors import InvalidData
from modelry.core.records import ModelVersion

_CHUNK = 1 << 20
_MAX_MANIFEST_BYTES = 16 << 20
#: A plain file that all may read.
_MODE = 0o100644 << 16


def write_bundle(folder: Path, version: ModelVersion, target: Path) -> None:
    """Packs a downloaded package with `bundle.json`. Nothing is compressed: weights hardly get smaller."""
    manifest = BundleManifest(
        model=version.model,
        version=version.version,
        files={
            file.path: BundledFile(sha256=file.digest, size_bytes=file.size_bytes)
            for file in version.files
        },
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member(BUNDLE_MANIFEST), write_bundle_manifest(manifest))
        for path in sorted(manifest.files):
            member = _member(path)
            member.file_size = (folder / path).stat().st_size
            with (folder / path).open("rb") as source, archive.open(member, "w") as out:
                while piece := source.read(_CHUNK):
                    out.write(piece)


def find_bundle_name(file: Path) -> str | None:
    """What the model in a bundle was called; None for a file that is no bundle."""
    if not file.is_file() or not zipfile.is_zipfile(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive, archive.open(BUNDLE_MANIFEST) as content:
            return read_bundle_manifest(content.read(_MAX_MANIFEST_BYTES)).model
    except (KeyError, InvalidData, zipfile.BadZipFile, RuntimeError, OSError):
        return None


def _member(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, BUNDLE_DATE)
    info.external_attr = _MODE
    info.create_system = 3
    return info
