"""`data`: bring data sets and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import show_bytes
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, print_table, say
from modelry.core.importing import TASKS
from modelry.core.records import DatasetVersion

#: How large rows are → what that is called.
_UNITS = {"lengths": "steps", "letters": "letters", "seconds": "s"}

app = typer.Typer(help="Data sets: bring them, look at them, remove them.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="NAME, or NAME:VERSION.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call it; a new version if it exists.")],
    path: Annotated[
        Path | None, typer.Argument(help="File or folder on this machine; it is uploaded.")
    ] = None,
    builtin: Annotated[
        str | None, typer.Option(help="A built-in instead of a path: digits.")
    ] = None,
    server_path: Annotated[
        str | None, typer.Option(help="A path on the server instead, below MODELRY_IMPORT_ROOTS.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="The column or array to be predicted (tables, npz).")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The same, where its values are the names of classes.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Keep only these input columns: a,b,c.", metavar="COLUMNS")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="This input column is a text.", metavar="COLUMN")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            help="Sort the rows by this column; the last ones become the test split.",
            metavar="COLUMN",
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help=f"What the data are for: {', '.join(TASKS)}.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="What a column is: number, category, text, label; may be repeated.",
            metavar="COLUMN=KIND",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="The columns' names, a,b,c, for a file without a first line that tells them.",
            metavar="COLUMNS",
        ),
    ] = None,
    labels_from: Annotated[
        Literal["auto", "folder", "file"],
        typer.Option(help="Where labels of files come from: the folder's or the file's name."),
    ] = "auto",
    test_share: Annotated[
        float, typer.Option(help="Share of rows for the test split, where the source has none.")
    ] = 0.2,
) -> None:
    """Make a data set of arrays (npz, npy, IDX, .ts), of folders or archives of images, recordings
    or texts, or of tables with --target (CSV, Parquet, JSON).

    \b
    Examples:
      modelry data add mnist ./mnist/
      modelry data add flowers flowers.zip --labels-from folder
      modelry data add people people.csv --target income
      modelry data add spam SMSSpamCollection --columns label,text --label label
      modelry data add air pollution.csv --target pm2.5 --time No --task time-series-forecasting
      modelry data add story story.txt --task text-generation
      modelry data add digits --builtin digits
    """
    if sum(given is not None for given in (path, builtin, server_path)) != 1:
        raise typer.BadParameter("Give a path, or --builtin, or --server-path.")
    with connect() as client:
        version = client.data.add(
            name,
            path,
            builtin=builtin,
            server_path=server_path,
            target=target,
            label=label,
            features=_split(features),
            text=text,
            time=time,
            task=task,
            kinds=_kinds(kind or []),
            columns=_split(columns),
            labels_from=labels_from,
            test_share=test_share,
        )
    say(f"{version.dataset}:{version.version} holds {_rows(version)}.")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the project's data sets.

    \b
    Example:
      modelry data list
    """
    with connect() as client:
        found = client.data.list()
    if as_json:
        print_json(found)
        return
    rows = [[item.name, item.latest_version, moment(item.created_at)] for item in found]
    print_table(
        ["NAME", "VERSION", "CREATED"],
        rows,
        empty="No data sets yet; `modelry data add` brings one.",
    )


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what a version holds: features, labels, splits, statistics.

    \b
    Examples:
      modelry data show mnist
      modelry data show mnist:2 --json
    """
    with connect() as client:
        version = client.data.version(name)
    if as_json:
        print_json(version)
        return
    print_facts(_facts(version))
    print_table(["", "FEATURE", "KIND", "TYPE", "SHAPE", "VALUES"], _features(version.manifest))


@app.command()
def rm(names: NamesArgument) -> None:
    """Remove data sets (NAME) or single versions (NAME:VERSION).

    \b
    Example:
      modelry data rm mnist:1
    """
    remove("data", names)


def _split(names: str | None) -> list[str] | None:
    return None if names is None else [name.strip() for name in names.split(",")]


def _kinds(given: list[str]) -> dict[str, str]:
    """`COLUMN=KIND`, … as column → kind; a column's own name may hold '='."""
    kinds: dict[str, str] = {}
    for each in given:
        column, sign, kind = each.rpartition("=")
        if not sign or column in kinds:
            raise typer.BadParameter(f"'{each}' is no COLUMN=KIND of a column of its own.")
        kinds[column] = kind
    return kinds


def _facts(version: DatasetVersion) -> list[tuple[str, Any]]:
    manifest = version.manifest
    return [
        ("data set", f"{version.dataset}:{version.version}"),
        ("rows", _rows(version)),
        ("task", manifest.get("task")),
        ("target", manifest.get("target")),
        *_time(manifest),
        ("size", show_bytes(version.size_bytes)),
        ("fingerprint", version.fingerprint),
        ("licence", manifest.get("licence")),
        ("source", ", ".join(f"{key} {value}" for key, value in manifest["source"].items())),
        ("job", version.job_id),
        ("created", moment(version.created_at)),
    ]


def _time(manifest: dict[str, Any]) -> list[tuple[str, Any]]:
    name = manifest.get("time")
    if name is None:
        return []
    ends = manifest["statistics"][name]
    return [("time", f"{name}, {ends['minimum']} … {ends['maximum']}")]


def _rows(version: DatasetVersion) -> str:
    splits = version.manifest["splits"]
    return ", ".join(f"{split['rows']} rows to {name}" for name, split in splits.items())


def _features(manifest: dict[str, Any]) -> list[list[Any]]:
    rows = []
    for name, feature in manifest["features"].items():
        mark = "target" if name == manifest.get("target") else ""
        shape = "×".join(str(size) for size in feature.get("shape") or [])
        values = _values(feature, manifest["statistics"].get(name, {}))
        rows.append([mark, name, feature["kind"], feature["dtype"], shape, values])
    return rows


def _values(feature: dict[str, Any], statistics: dict[str, Any]) -> str:
    parts = []
    if feature.get("labels"):
        parts.append(_shortened(feature["labels"]))
    elif "minimum" in statistics:
        parts.append(f"{statistics['minimum']:g} … {statistics['maximum']:g}")
    elif "counts" in statistics:
        parts.append(_shortened(list(statistics["counts"]), in_all=statistics["distinct"]))
    for unit, called in _UNITS.items():
        if sizes := statistics.get(unit):
            ends = f"{sizes['minimum']:g} … {sizes['maximum']:g} {called}"
            parts.append(f"{ends} (mean {sizes['mean']:.3g})")
    if feature.get("sample_rate"):
        parts.append(f"{feature['sample_rate']} Hz")
    if statistics.get("missing"):
        parts.append(f"{statistics['missing']} missing")
    return "; ".join(parts)


def _shortened(labels: list[str], limit: int = 12, in_all: int = 0) -> str:
    count = in_all or len(labels)
    more = f" … ({count} in all)" if count > limit else ""
    return ", ".join(labels[:limit]) + more
