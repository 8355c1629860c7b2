"""The kinds of jobs and their parameters: what the web accepts and the runner is given."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelry.core.errors import InvalidParameter
from modelry.core.recipes import get_recipe

#: Every kind a user may ask for through `POST /api/v1/jobs`; imports come through `POST /api/v1/datasets`.
USER_KINDS = ("train", "predict-batch", "analyze", "sleep")
#: What a finished job of a kind adds a version to: the noun that `Job.makes` names.
MAKES: dict[str, Literal["dataset", "model"]] = {
    "import-data": "dataset",
    "train": "model",
    "import-model": "model",
    "predict-batch": "dataset",
}


class TrainParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`train`: learn a model from a data set; from the weights of the input `model`, where there is one."""

    recipe: str
    #: Complete and checked by the recipe's card.
    params: dict[str, Any]
    #: Name of the model the version will belong to.
    model: str
    #: Seconds between checkpoints, or steps where that is given (tests do).
    checkpoint_s: float = 10.0
    checkpoint_steps: int | None = None
    #: With an input `model`, whose weights are the beginning: only the last layer learns.
    freeze: bool = False


class ImportParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`import-data`: turn uploaded files, a server folder or a built-in into a data set version."""

    #: Name of the data set.
    dataset: str
    source: Literal["upload", "path", "builtin"]
    #: For `path`: the folder or file on the server; for `builtin`: its name (`digits`).
    location: str = ""
    #: The column or array to predict; for tables and for npz files with unusual names.
    target: str | None = None
    #: The same, said to be a label.
    label: str | None = None
    #: For tables: the input columns that are kept; None: all.
    features: list[str] | None = None
    #: For tables: an input column that is a text.
    text: str | None = None
    #: For tables: the column that orders the rows.
    time: str | None = None
    #: One of `core.importing.TASKS`; None: what the data tell.
    task: str | None = None
    #: For tables: what a column is, where its content would be judged otherwise; one of `core.importing.COLUMN_KINDS`.
    kinds: dict[str, str] = {}
    #: The columns' names, for a table without a first line that tells them.
    columns: list[str] | None = None
    #: Where labels of files come from: the folder's name, or the file's name before the first '_' or '-'.
    labels_from: Literal["auto", "folder", "file"] = "auto"
    #: Share of the rows that become the test split where the source has none.
    test_share: float = 0.2


class ImportModelParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`import-model`: check a foreign model, convert it where needed, measure it, make it a version."""

    #: Name of the model the version will belong to.
    model: str
    source: Literal["upload", "path", "hub"]
    #: For `path`: the folder or file on the server; for `hub`: `org/name@revision`.
    location: str = ""
    #: What the files are; `auto` looks.
    format: Literal["auto", "onnx", "keras", "huggingface", "modelry", "bundle"] = "auto"
    #: Hugging Face's name of the task; None: what the files say.
    task: str | None = None
    #: The names of the classes, in the order of the output.
    labels: list[str] | None = None
    #: How an image becomes the input, as `ImageInput`'s fields or a preset's name (`imagenet`, `unit`, …).
    preprocess: dict[str, Any] | str | None = None
    #: What the user says of the licence, where the source does not.
    licence: str | None = None


class PredictBatchParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`predict-batch`: a model's answers for every row of a data set version, as a new data set."""

    #: Name of the data set that is made.
    dataset: str
    #: The split to read; None: all.
    split: str | None = None
    #: Rows per runtime call.
    max_batch: int = 32
    #: Seconds between checkpoints.
    checkpoint_s: float = 10.0


class AnalyzeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`analyze`: count and time what each layer of a model costs."""

    #: What it is called in the answer: `digits:1`, or `cnn on mnist:1`.
    name: str
    #: The recipe whose network is built for the data's rows; None: the model version that is the input.
    recipe: str | None = None
    #: Complete and checked by the recipe's card.
    params: dict[str, Any] = {}
    #: For a recipe: also train small copies and tell how descent behaves.
    behaviour: bool = False
    #: The step of that plain descent; the recipe's own is for its optimiser.
    learning_rate: float = 0.05


class SleepParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`sleep`: count steps and do nothing else; it shows that jobs survive."""

    steps: int = 10
    step_s: float = 0.1
    #: Steps between checkpoints.
    checkpoint_steps: int = 1


def check_train_params(
    recipe: str, given: dict[str, Any], preset: str | None, kind: str = ""
) -> dict[str, Any]:
    """The recipe's complete parameters: defaults, those for this kind of data, then the preset, then what was given."""
    card = get_recipe(recipe)
    if preset is not None and preset not in card.presets:
        known = " or ".join(f"'{name}'" for name in card.presets)
        raise InvalidParameter(name="preset", value=preset, expected=known)
    values = card.presets[preset] if preset is not None else {}
    return card.check({**card.defaults_for.get(kind, {}), **values, **given})
