"""Time series in the `.ts` format of the UEA and UCR archives, as aeon and sktime read it.

Lines of `#` remarks and `@` settings, then one series a line: its dimensions between `:`, values between `,`, the
class last. Series of one length are tensors (steps × dimensions), others sequences. All are held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from modelry.core.errors import InvalidData
from modelry.core.importing import target_of
from modelry.core.jobs import ImportParams
from modelry.worker.data.labelling import whole_labels
from modelry.worker.data.lists import sequences
from modelry.worker.data.parts import Content, Draft, Part, settle_splits
from modelry.worker.data.picturing import Array
from modelry.worker.data.readers.naming import split_of_name
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.tables import TableContent
from modelry.worker.data.tensors import TensorContent

_MAX_LINE_BYTES = 64 << 20
_SHOWN_LETTERS = 40


@dataclass
class _Series:
    """What one file holds."""

    file: SourceFile
    #: steps × dimensions, float32.
    rows: list[Array] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def read_series(files: list[SourceFile], params: ImportParams) -> Draft:
    """The parts that the files' names tell (`_TRAIN`, `_TEST`); raises `InvalidData`."""
    if target_of(params) is not None:
        reason = "its classes stand last in each line; a target cannot be chosen"
        raise InvalidData(file=files[0].name, reason=reason, remedy="Leave the target away.")
    by_split: dict[str | None, _Series] = {}
    for file in files:
        split = split_of_name(file) if len(files) > 1 else None
        if split in by_split:
            reason = f"it and {by_split[split].file.name} would be the same part of the data"
            remedy = "Name the files after their splits (TRAIN, TEST), or import them one by one."
            raise InvalidData(file=file.name, reason=reason, remedy=remedy)
        by_split[split] = _read(file)
    is_even = len({len(row) for series in by_split.values() for row in series.rows}) == 1
    parts = {split: _part(series, is_even=is_even) for split, series in by_split.items()}
    has_labels = any(part.labels is not None for part in parts.values())
    task = "sequence-classification" if has_labels else None
    return Draft("series", settle_splits(parts), task=task)


def _part(series: _Series, *, is_even: bool) -> Part:
    name = series.file.name
    labels = whole_labels(np.array(series.labels), name) if series.labels else None
    content: Content
    if is_even:
        content = TensorContent(np.stack(series.rows), name)
    else:
        lengths = np.array([row.size for row in series.rows])
        values = np.concatenate([row.reshape(-1) for row in series.rows])
        feature, column = sequences(values, lengths, series.rows[0].shape[1])
        content = TableContent(pa.table({"x": column}), {"x": feature})
    return Part(name, content, labels, name)


def _read(file: SourceFile) -> _Series:
    series = _Series(file)
    settings: dict[str, list[str]] = {}
    for number, line in _lines(file):
        if line.startswith("@") and "data" not in settings:
            name, *values = line[1:].split()
            settings[name.lower()] = values
            _check_setting(file, number, name.lower(), values)
        elif "data" not in settings:
            raise _refusal(file, number, "stands before @data and begins with neither '#' nor '@'")
        else:
            _add(series, number, line, settings)
    if not series.rows:
        raise InvalidData(file=file.name, reason="it holds no series")
    return series


def _lines(file: SourceFile) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1."""
    with file.place.open("rb") as opened:
        number = 0
        while data := opened.readline(_MAX_LINE_BYTES + 1):
            number += 1
            if len(data) > _MAX_LINE_BYTES:
                raise _refusal(file, number, f"is longer than {_MAX_LINE_BYTES >> 20} MiB")
            try:
                line = data.decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                raise _refusal(file, number, "is not UTF-8") from None
            if line and not line.startswith("#"):
                yield number, line


def _check_setting(file: SourceFile, number: int, name: str, values: list[str]) -> None:
    is_true = [value.lower() for value in values[:1]] == ["true"]
    if name == "timestamps" and is_true:
        raise _refusal(file, number, "says that values have times of their own, which is not read")
    if name == "targetlabel" and is_true:
        raise _refusal(file, number, "says that series have numbers to predict; classes are read")
    if name == "classlabel" and is_true and len(values) < 2:
        raise _refusal(file, number, "names no classes")


def _add(series: _Series, number: int, line: str, settings: dict[str, list[str]]) -> None:
    file = series.file
    *dimensions, last = line.split(":")
    has_class, *classes = settings.get("classlabel") or ["false"]
    if has_class.lower() == "true":
        label = last.strip()
        if label not in classes:
            shown = label[:_SHOWN_LETTERS]
            raise _refusal(
                file, number, f"has the class '{shown}', which @classLabel does not name"
            )
        series.labels.append(label)
    else:
        dimensions.append(last)
    columns = [_values(file, number, place, text) for place, text in enumerate(dimensions, 1)]
    _check_width(series, number, len(columns), settings.get("dimensions"))
    for place, column in enumerate(columns, 1):
        if len(column) != len(columns[0]):
            what = (
                f"has {len(column)} values in dimension {place} and {len(columns[0])} in the first"
            )
            raise _refusal(file, number, what)
    series.rows.append(np.stack(columns, axis=1))


def _check_width(series: _Series, number: int, width: int, told: list[str] | None) -> None:
    wanted = series.rows[0].shape[1] if series.rows else width
    if told and told[0].isdecimal():
        wanted = int(told[0])
    if width != wanted or not width:
        what = f"has {width} dimensions, and others (or @dimensions) have {wanted}"
        raise _refusal(series.file, number, what)


def _values(file: SourceFile, number: int, place: int, text: str) -> Array:
    cells = text.split(",")
    try:
        with np.errstate(
            over="ignore"
        ):  # what float32 cannot hold becomes infinite, which is refused below
            values = np.array(cells, dtype=np.float64).astype(np.float32)
    except ValueError:
        bad = next(cell for cell in cells if not _is_number(cell)).strip()[:_SHOWN_LETTERS]
        what = f"has '{bad}' in dimension {place}, which is no number"
        raise _refusal(file, number, what) from None
    if not np.isfinite(values).all():
        raise _refusal(file, number, f"has NaN, or an infinite number, in dimension {place}")
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _refusal(file: SourceFile, number: int, what: str) -> InvalidData:
    return InvalidData(file=file.name, reason=f"line {number} {what}")
