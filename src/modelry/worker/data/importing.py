"""The job `import-data`: files in, an immutable data set version out.

Unpack, understand, examine every row, and only then write. Whatever is wrong is told with the file and the reason
(`InvalidData`), and nothing names what a failed import left in the artifacts.
"""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from modelry.core.errors import InvalidData, InvalidParameter, StorageFull
from modelry.core.importing import check_import, table_options, target_of
from modelry.core.jobs import ImportParams
from modelry.core.results import to_result
from modelry.worker.context import JobContext
from modelry.worker.data.examining import examine
from modelry.worker.data.kinds import Kind
from modelry.worker.data.parts import Draft
from modelry.worker.data.readers.arrays import read_arrays
from modelry.worker.data.readers.digits import read_digits
from modelry.worker.data.readers.images import read_images
from modelry.worker.data.readers.series import read_series
from modelry.worker.data.readers.sounds import read_sounds
from modelry.worker.data.readers.tables import choose_tables, read_tables
from modelry.worker.data.readers.texts import are_labelled, read_passages, read_texts
from modelry.worker.data.sources import SourceFile, list_source
from modelry.worker.data.unpacking import Unpacker
from modelry.worker.data.writing import write_dataset

_NAMED_FILES = 20
#: Options that the origin names where they were given.
_NAMED_OPTIONS = ("label", "features", "text", "time", "task", "kinds", "columns")
_TABLES = (Kind.CSV, Kind.PARQUET, Kind.JSON)
_READERS = {Kind.IMAGE: read_images, Kind.AUDIO: read_sounds, Kind.SERIES: read_series}
_TEXT_REMEDY = (
    "Put texts (.txt) in a folder for each label, say that they are for --task text-generation, or name a table's "
    "columns with --columns; nothing was imported."
)


def run(context: JobContext) -> dict[str, Any]:
    """Imports what the parameters name; the result is a `MadeDataset`."""
    params = msgspec.convert(context.spec.params, ImportParams)
    _check(params)
    unpacked = context.work / "unpacked"
    try:
        return _import(context, params, unpacked)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(place=str(context.work)) from error
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _import(context: JobContext, params: ImportParams, unpacked: Path) -> dict[str, Any]:
    files = _sources(context, params)
    draft = read_digits() if params.source == "builtin" else _read(context, files, params, unpacked)
    for name in draft.left_out:
        context.log(f"{name} is no data and was left out.", level="warning")

    def tick(done: int, total: int) -> None:
        context.check_stop()
        context.progress("checking data", step=done, total_steps=total)

    examined = examine(draft, params.test_share, tick, params.task)
    total = sum(len(split.indices) for split in examined.splits.values())
    written = 0

    def wrote(rows: int) -> None:
        nonlocal written
        written += rows
        context.check_stop()
        context.progress("writing data", step=written, total_steps=total)

    made = write_dataset(examined, _origin(draft, params, files), context.artifacts, wrote)
    parts = ", ".join(f"{name} {split.rows}" for name, split in made.manifest.splits.items())
    context.log(f"Imported {total} rows: {parts}.")
    return to_result(made)


def _check(params: ImportParams) -> None:
    check_import(params)
    if params.source == "builtin" and params.location != "digits":
        raise InvalidParameter(name="location", value=params.location, expected="'digits'")


def _sources(context: JobContext, params: ImportParams) -> list[SourceFile]:
    if params.source == "builtin":
        return []
    context.progress("listing files")
    root = context.fetch("upload") if params.source == "upload" else Path(params.location)
    return list_source(root)


def _read(
    context: JobContext, files: list[SourceFile], params: ImportParams, unpacked: Path
) -> Draft:
    context.progress("unpacking", total_steps=len(files))
    packed = sum(file.size_bytes for file in files)
    unpacker = Unpacker(unpacked, packed, context.check_stop)
    found: list[tuple[SourceFile, Kind]] = []
    for number, file in enumerate(files):
        found += unpacker.expand(file)
        context.check_stop()
        context.progress("unpacking", step=number + 1, total_steps=len(files))
    return read_draft(found, params)


def read_draft(found: list[tuple[SourceFile, Kind]], params: ImportParams) -> Draft:
    """Chooses the reader by the files' kinds; raises `InvalidData` for mixed ones and for none."""
    if params.task == "text-generation" and found:
        return read_passages(found, params)
    data, left_out = _choose(found, params)
    if not data:
        return _read_texts(found, params)
    draft = _read_kind(data, params)
    return replace(draft, left_out=[*left_out, *draft.left_out])


def _read_texts(found: list[tuple[SourceFile, Kind]], params: ImportParams) -> Draft:
    """A source of texts alone: they are data where folders (or names, if that was said) label them."""
    files = [file for file, _ in found]
    if are_labelled(files, params):
        _refuse_table_options(params, files[0], Kind.TEXT)
        return read_texts(files, params)
    raise InvalidData(
        file=files[0].name if files else "the source",
        reason="it holds no data of a kind that is known here",
        remedy=_TEXT_REMEDY,
    )


def _refuse_table_options(params: ImportParams, file: SourceFile, kind: Kind) -> None:
    if options := table_options(params):
        reason = f"its kind is '{kind}', and '{options[0]}' is said of the columns of a table"
        raise InvalidData(file=file.name, reason=reason, remedy="Leave the option away.")


def _choose(
    found: list[tuple[SourceFile, Kind]], params: ImportParams
) -> tuple[list[tuple[SourceFile, Kind]], list[str]]:
    """The files that are data, and the names of those that are not: read-me files, licences and the like."""
    data = [each for each in found if each[1] not in (Kind.TEXT, Kind.JSON)]
    if params.columns is not None and all(kind is Kind.CSV for _, kind in data):
        texts = [each for each in found if each[1] is not Kind.JSON]
        if texts:
            return choose_tables(texts, params.columns)
    # JSON beside other data is about them: names of classes, settings.
    data = data or [each for each in found if each[1] is Kind.JSON]
    chosen = {file.name for file, _ in data}
    return data, [file.name for file, _ in found if file.name not in chosen]


def _read_kind(data: list[tuple[SourceFile, Kind]], params: ImportParams) -> Draft:
    first, kind = data[0]
    arrays = (Kind.NPY, Kind.IDX)
    for file, other in data:
        if other is not kind and not (kind in arrays and other in arrays):
            reason = f"its kind is '{other}', but {first.name} is '{kind}'; import one at a time"
            raise InvalidData(file=file.name, reason=reason)
    files = [file for file, _ in data]
    if kind in _TABLES:
        return read_tables(data, params)
    _refuse_table_options(params, first, kind)
    if kind in arrays:
        return read_arrays(data, params)
    return _READERS[kind](files, params)


def _origin(draft: Draft, params: ImportParams, files: list[SourceFile]) -> dict[str, Any]:
    return {
        "reader": draft.reader,
        "source": params.source,
        "location": params.location,
        "files": [
            {"name": file.name, "size_bytes": file.size_bytes} for file in files[:_NAMED_FILES]
        ],
        "file_count": len(files),
        "left_out": draft.left_out[:_NAMED_FILES],
        "target": target_of(params),
        **{name: getattr(params, name) for name in _NAMED_OPTIONS if getattr(params, name)},
        "labels_from": params.labels_from,
        "test_share": params.test_share,
    }
