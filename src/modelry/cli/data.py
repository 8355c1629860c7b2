"""`data`: bring data sets and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import show_bytes
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, print_table, say
from modelry.core.records import DatasetVersion

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
        str | None, typer.Option(help="The column or array to be predicted (CSV, npz).")
    ] = None,
    labels_from: Annotated[
        Literal["auto", "folder", "file"],
        typer.Option(help="Where labels of images come from: the folder's or the file's name."),
    ] = "auto",
    test_share: Annotated[
        float, typer.Option(help="Share of rows for the test split, where the source has none.")
    ] = 0.2,
) -> None:
    """Make a data set of npz, npy, IDX, image folders or archives, or CSV with --target.

    \b
    Examples:
      modelry data add mnist ./mnist/
      modelry data add flowers flowers.zip --labels-from folder
      modelry data add people people.csv --target income
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


def _facts(version: DatasetVersion) -> list[tuple[str, Any]]:
    manifest = version.manifest
    return [
        ("data set", f"{version.dataset}:{version.version}"),
        ("rows", _rows(version)),
        ("target", manifest.get("target")),
        ("size", show_bytes(version.size_bytes)),
        ("fingerprint", version.fingerprint),
        ("licence", manifest.get("licence")),
        ("source", ", ".join(f"{key} {value}" for key, value in manifest["source"].items())),
        ("job", version.job_id),
        ("created", moment(version.created_at)),
    ]


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
    if feature.get("labels"):
        return _shortened(feature["labels"])
    if "minimum" in statistics:
        return f"{statistics['minimum']:g} … {statistics['maximum']:g}"
    return ""


def _shortened(labels: list[str], limit: int = 12) -> str:
    more = f" … ({len(labels)} in all)" if len(labels) > limit else ""
    return ", ".join(labels[:limit]) + more
