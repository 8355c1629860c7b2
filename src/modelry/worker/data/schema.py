"""Which columns of a table are inputs and which is the target, and of what kind each is: said by options, or judged
by all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelry.core.errors import InvalidData
from modelry.core.importing import target_kind, target_of
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data import cells
from modelry.worker.data.lists import is_list, settle_lists
from modelry.worker.data.whole import Whole

#: A column of texts with at most this many different ones, each used twice on average, is a category.
_MAX_CATEGORIES = 100
_MAX_LABEL_LETTERS = 256
_NAMED_COLUMNS = 50


@dataclass
class Schema:
    """The columns that are kept, converted; rows stand as in the whole."""

    target: str
    features: dict[str, Feature] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    #: The target's column where it is a label: whole numbers or texts, with the nulls that are to be refused.
    labels: Any = None
    #: Columns without a single value.
    empty: list[str] = field(default_factory=list)


def settle_schema(whole: Whole, params: ImportParams) -> Schema:
    """Raises `InvalidData` for columns that are not there, and for cells that are not of the kind that was said."""
    target = check_names(whole, params)
    schema = Schema(target)
    for name in whole.names:
        if name in (target, params.time) or (params.features and name not in params.features):
            continue
        _settle_input(whole, name, params, schema)
    _settle_target(whole, params, schema)
    is_history = params.task == "time-series-forecasting"
    if not schema.features or (list(schema.features) == [target] and not is_history):
        raise InvalidData(file=whole.pieces[0].file, reason="it has no column beside the target")
    return schema


def check_names(whole: Whole, params: ImportParams) -> str:
    """The target; raises `InvalidData` if one of the options names a column that is not there."""
    file, known = whole.pieces[0].file, ", ".join(whole.names[:_NAMED_COLUMNS])
    target = target_of(params)
    if target is None:
        reason = f"it was not said which column is to be predicted; it has: {known}"
        raise InvalidData(
            file=file, reason=reason, remedy="Name it with --target; nothing was imported."
        )
    named = [target, *(params.features or ()), *params.kinds]
    for name in [*named, *(one for one in (params.text, params.time) if one is not None)]:
        if name not in whole.names:
            raise InvalidData(file=file, reason=f"it has no column '{name}'; it has: {known}")
    return target


def _settle_input(whole: Whole, name: str, params: ImportParams, schema: Schema) -> None:
    column = whole.table.column(name)
    said = "text" if name == params.text else params.kinds.get(name)
    if is_list(column.type):
        _refuse_said(whole, name, said)
        schema.features[name], schema.columns[name] = settle_lists(whole, name)
        return
    kind = said or _judge(column, whole.is_spelled, params)
    if kind == "number":
        found = cells.numbers(whole, name)
    else:
        found = cells.names(whole, name) if kind == "category" else cells.texts(whole, name)
    if kind != "text" and found.null_count == len(found):
        _leave_out(whole, name, said, params, schema)
        return
    dtype = _DTYPES.get(str(found.type), str(found.type)) if kind == "number" else "string"
    schema.features[name] = Feature(kind=kind, dtype=dtype)
    schema.columns[name] = found


def _leave_out(
    whole: Whole, name: str, said: str | None, params: ImportParams, schema: Schema
) -> None:
    """A column without values teaches nothing; one that was asked for is refused instead."""
    if said is not None or params.features is not None:
        reason = f"its column '{name}' holds no value in any row"
        remedy = "Leave the column away; nothing was imported."
        raise InvalidData(file=whole.pieces[0].file, reason=reason, remedy=remedy)
    schema.empty.append(name)


def _judge(column: Any, is_spelled: bool, params: ImportParams) -> str:
    """The kind of an input column that nobody named."""
    if cells.is_plain_number(column.type) or pa.types.is_null(column.type):
        return "number"
    if pa.types.is_boolean(column.type):
        return "category"
    if is_spelled and cells.find_numbers(column) is not None:
        return "number"
    if params.task in ("text-classification", "translation"):
        return "text"
    distinct = pc.count_distinct(cells.spelled(column)).as_py()
    is_category = distinct <= _MAX_CATEGORIES and 2 * distinct <= len(column)
    return "category" if is_category else "text"


def _settle_target(whole: Whole, params: ImportParams, schema: Schema) -> None:
    name = schema.target
    column = whole.table.column(name)
    said = target_kind(params)
    if is_list(column.type):
        raise whole.refusal(0, name, "is a list, and a target is one value a row")
    if said == "text":
        schema.columns[name] = cells.texts(whole, name)
        schema.features[name] = Feature(kind="text", dtype="string")
        return
    found = _target_numbers(column, whole.is_spelled)
    if said == "number" or (said is None and found is not None and cells.has_fractions(found)):
        schema.columns[name] = _target_of_numbers(whole, name, params)
        schema.features[name] = Feature(kind="number", dtype="float64")
        return
    schema.labels = found if found is not None else pc.utf8_trim_whitespace(cells.spelled(column))
    _check_labels(whole, name, schema.labels)


def _target_numbers(column: Any, is_spelled: bool) -> Any:
    """The target as numbers where it is made of them; None for names."""
    if cells.is_plain_number(column.type):
        return cells.plain_numbers(column)
    return cells.find_numbers(column) if is_spelled else None


def _target_of_numbers(whole: Whole, name: str, params: ImportParams) -> Any:
    found = pc.cast(cells.numbers(whole, name), pa.float64(), safe=False)
    if found.null_count and params.time is None:
        remedy = "Remove the row, or name the column of a series in time with --time; nothing was imported."
        raise whole.refusal(_first_null(found), name, "is the target and is empty", remedy)
    if found.null_count == len(found):
        raise whole.refusal(0, name, "and every other one of the target is empty")
    return found


def _check_labels(whole: Whole, name: str, labels: Any) -> None:
    if cells.is_text(labels.type):
        longest = pc.max(pc.utf8_length(labels)).as_py() or 0
        if longest > _MAX_LABEL_LETTERS:
            reason = f"the target '{name}' holds texts of over {_MAX_LABEL_LETTERS} letters"
            remedy = (
                "If texts are to be written, give the target the kind text; nothing was imported."
            )
            raise InvalidData(file=whole.pieces[0].file, reason=reason, remedy=remedy)


def _first_null(column: Any) -> int:
    return int(pc.index(pc.is_null(column), True).as_py())


def _refuse_said(whole: Whole, name: str, said: str | None) -> None:
    if said is not None:
        raise whole.refusal(0, name, f"is a list of numbers and cannot be a {said}")


#: numpy's names for Arrow's.
_DTYPES = {"float": "float32", "double": "float64"}
