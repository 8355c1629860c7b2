"""The bundle: a model package in one file, for machines without a network. A zip that is the same wherever it is made.

bundle.json   format, the model's name and version, size and SHA-256 of every other file
model.json …  the package
"""

from __future__ import annotations

import msgspec

from modelry.core.errors import FormatTooNew, InvalidData

BUNDLE_FORMAT = 1
BUNDLE_MANIFEST = "bundle.json"
#: Every member's date: a zip cannot say less.
BUNDLE_DATE = (1980, 1, 1, 0, 0, 0)


class BundledFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file of the bundle must be."""

    sha256: str
    size_bytes: int


class BundleManifest(msgspec.Struct, frozen=True, kw_only=True):
    """`bundle.json`."""

    format_version: int = BUNDLE_FORMAT
    #: What the model was called where it came from.
    model: str
    version: int
    #: Path in the package → what it must be; `model.json` among them.
    files: dict[str, BundledFile]


def write_bundle_manifest(manifest: BundleManifest) -> bytes:
    """The bytes of `bundle.json`: equal manifests give equal bytes."""
    ordered = msgspec.structs.replace(manifest, files=dict(sorted(manifest.files.items())))
    return msgspec.json.format(msgspec.json.encode(ordered), indent=2)


def read_bundle_manifest(data: bytes) -> BundleManifest:
    """Parses `bundle.json`; raises `InvalidData` and `FormatTooNew`."""
    try:
        found = msgspec.json.decode(data, type=BundleManifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidData(
            file=BUNDLE_MANIFEST, reason=f"it describes no bundle ({error})"
        ) from None
    if found.format_version > BUNDLE_FORMAT:
        raise FormatTooNew(file=BUNDLE_MANIFEST, version=found.format_version, known=BUNDLE_FORMAT)
    return found
