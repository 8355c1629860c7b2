"""The job `import-model`: bring, check by allow-list, convert, measure, publish an immutable model version.

Nothing opens a file before its content is on the list, and nothing but a confined process opens a foreign graph.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import NotConvertible, StorageFull
from modelry.core.jobs import ImportModelParams
from modelry.core.manifests import ModelManifest
from modelry.core.results import MadeModel, to_result
from modelry.core.texts import STRING
from modelry.worker.context import JobContext
from modelry.worker.models.importing.base import Format, load_converter
from modelry.worker.models.importing.bundle import open_bundle
from modelry.worker.models.importing.checking import CheckedFile, FileKind, check_files
from modelry.worker.models.importing.origin import Origin
from modelry.worker.models.importing.sources import bring

_MANIFEST = "model.json"
#: Files that the manifest names one by one.
_NAMED_FILES = 50
#: What every import was looked at for, in words; the version shows it.
_CHECKS = (
    "every file is of a known kind by its content; no pickle, no program, no code in a configuration",
    "paths stay inside the source; sizes, counts and nesting are bounded",
    "SHA-256 of every file recorded",
)
_CHECKS_OF = {
    Format.ONNX: "known operators only; loaded and run in a confined process; rows together answer as rows alone",
    Format.KERAS: "Keras' own layers only; the ONNX form compared with Keras",
    Format.HUGGING_FACE: "safetensors only, no remote code; the ONNX form compared with the original",
    Format.MODELRY: "files are those that model.json names; the network built anew and compared",
}


def run(context: JobContext) -> dict[str, Any]:
    """Imports what the parameters name; the result is a `MadeModel`."""
    params = msgspec.convert(context.spec.params, ImportModelParams)
    try:
        return to_result(import_model(context, params))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(place=str(context.work)) from error
        raise
    finally:
        for name in ("unpacked", "copied", "checked", "hub"):
            shutil.rmtree(context.work / name, ignore_errors=True)


def import_model(context: JobContext, params: ImportModelParams) -> MadeModel:
    """The model as files in the artifacts; raises `UnsafeFile`, `NotConvertible` and what a conversion raises."""
    files, origin = bring(context, params)
    context.check_stop()
    context.progress("checking files", total_steps=len(files))
    checked = open_bundle(check_files(files))
    format = detect(checked, params.format)
    folder = _lay_out(checked, context.work / "checked")
    out = context.work / "package"
    out.mkdir()
    context.log(f"{len(checked)} files, {format.value}.")
    draft = load_converter(format)(folder, params, out, context)
    context.check_stop()
    manifest = _complete(context, draft, params, origin, format, checked)
    # Written before the measuring, because a runtime may compare the files with them.
    manifest = msgspec.structs.replace(manifest, files=_digests(out))
    manifest = _measure(context, manifest, out)
    (out / _MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    paths = sorted(path for path in out.rglob("*") if path.is_file())
    refs = [context.artifacts.put_file(path, path.relative_to(out).as_posix()) for path in paths]
    return MadeModel(manifest=manifest, files=refs)


def detect(checked: list[CheckedFile], wanted: str) -> Format:
    """What the files are; raises `NotConvertible` where they are nothing, or not what was asked for."""
    found = _detect(checked)
    if found is None:
        kinds = sorted({file.kind.value for file in checked})
        raise NotConvertible(
            reason=f"there is no model among the files ({', '.join(kinds)})",
            remedy=(
                "Bring an .onnx file, a .keras file, a Hugging Face folder (config.json and safetensors), "
                "or what `modelry models export` wrote."
            ),
        )
    is_wanted = wanted in ("auto", found.value) or {wanted, found} == {"bundle", Format.MODELRY}
    if not is_wanted:
        raise NotConvertible(
            reason=f"the files are {found.value}, not {wanted}",
            remedy="Leave --format away, or bring other files.",
        )
    return found


def _detect(checked: list[CheckedFile]) -> Format | None:
    names = {file.name for file in checked}
    kinds = {file.kind for file in checked}
    if _MANIFEST in names:
        return Format.MODELRY
    if FileKind.KERAS in kinds:
        return Format.KERAS
    if "config.json" in names and FileKind.SAFETENSORS in kinds:
        return Format.HUGGING_FACE
    return Format.ONNX if FileKind.ONNX in kinds else None


def _lay_out(checked: list[CheckedFile], folder: Path) -> Path:
    """The checked files under their own names, as links: what was checked is what is read."""
    for file in checked:
        if file.kind is FileKind.PICTURE:
            continue
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.place, target)
        except OSError:
            shutil.copyfile(file.place, target)
    return folder


def _complete(
    context: JobContext,
    draft: ModelManifest,
    params: ImportModelParams,
    origin: Origin,
    format: Format,
    checked: list[CheckedFile],
) -> ModelManifest:
    """The draft with where it came from and what was checked."""
    source = {
        **(draft.source or {}),
        "kind": origin.kind,
        "location": origin.location,
        "format": format.value,
        "revision": origin.revision,
        "licence": origin.licence or params.licence or (draft.source or {}).get("licence"),
        **origin.more,
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in checked[:_NAMED_FILES]
        ],
        "file_count": len(checked),
        "size_bytes": sum(file.size_bytes for file in checked),
        "checks": [*_CHECKS, _CHECKS_OF[format]],
    }
    lineage = {
        **draft.lineage,
        "import": {"job": context.spec.job_id, "attempt": context.spec.attempt},
    }
    return msgspec.structs.replace(draft, source=source, lineage=lineage)


def _measure(context: JobContext, manifest: ModelManifest, out: Path) -> ModelManifest:
    """The ways to run it, tried on random rows, because an import brings no real ones."""
    if any(spec.dtype == STRING for spec in manifest.inputs):
        return manifest
    # Here, because these rooms need libraries that a refusal must not depend on.
    from modelry.worker.models.importing.sampling import sample_rows
    from modelry.worker.models.measuring import measure

    context.progress("measuring")
    samples = sample_rows(manifest, context.work)
    measured = measure(context, out, manifest, samples)
    source = {
        **(measured.source or {}),
        "measured_on": "random rows in the input's plausible range",
    }
    return msgspec.structs.replace(measured, source=source)


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _MANIFEST:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found
