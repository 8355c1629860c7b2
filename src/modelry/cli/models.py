"""`models`: bring them, versions, aliases, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from modelry.cli import model_imports
from modelry.cli.connection import connect
from modelry.cli.measures import main_measure
from modelry.cli.quantities import show_bytes
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import (
    JsonOption,
    PictureOption,
    moment,
    print_facts,
    print_json,
    print_table,
    say,
)
from modelry.core.records import Model, ModelVersion

app = typer.Typer(help="Models: bring them, versions, aliases, export.", no_args_is_help=True)
model_imports.register(app)
_WAY = ("RUNTIME", "OPTIONS", "THREADS", "ROWS/S", "ONE ROW, MS", "DIFFERS BY")
RefArgument = Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME:3 or NAME@ALIAS.")]


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the project's models.

    \b
    Example:
      modelry models list
    """
    with connect() as client:
        found = client.models.list()
    if as_json:
        print_json(found)
        return
    rows = [
        [item.name, item.latest_version, _aliases(item), moment(item.created_at)] for item in found
    ]
    print_table(
        ["NAME", "VERSION", "ALIASES", "CREATED"],
        rows,
        empty="No models yet; `modelry train` makes one, `modelry models import` brings one.",
    )


@app.command()
def show(model: RefArgument, as_json: JsonOption = False) -> None:
    """Show a version: how good it is, where it came from, what it takes.

    \b
    Examples:
      modelry models show mnist
      modelry models show mnist@production --json
    """
    with connect() as client:
        version = client.models.version(model)
        others = client.models.versions(version.model)
    if as_json:
        print_json(version)
        return
    print_facts(_facts(version))
    if measured := version.manifest.get("measurements"):
        print_table(["", *_WAY], [_way(way) for way in measured])
    print_table(["CLASS", "ROWS", "PRECISION", "RECALL"], _class_rows(version.manifest["metrics"]))
    print_table(["VERSION", "ACCURACY", "ALIASES", "CREATED"], [_row(item) for item in others])


@app.command()
def alias(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    alias: Annotated[str, typer.Argument(help="The alias, such as production.")],
    version: Annotated[int | None, typer.Argument(help="The version it is to name.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take the alias away.")] = False,
) -> None:
    """Point an alias at a version; MODEL@ALIAS then names it.

    \b
    Examples:
      modelry models alias mnist production 3
      modelry models alias mnist production --delete
    """
    if delete == (version is not None):
        raise typer.BadParameter("Give a version, or --delete.")
    with connect() as client:
        if version is None:
            client.models.delete_alias(model, alias)
            say(f"{model}@{alias} is gone.")
        else:
            client.models.set_alias(model, alias, version)
            say(f"{model}@{alias} is {model}:{version}.")


@app.command()
def export(
    model: RefArgument,
    to: Annotated[
        Path | None, typer.Option(help="A new folder, or a new file that ends with .zip.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="One file instead, for `models import` without a network.")
    ] = None,
) -> None:
    """Download the package; it loads with ONNX Runtime or PyTorch, without Modelry.

    \b
    Examples:
      modelry models export mnist --to ./mnist-model
      modelry models export mnist:2 --to mnist.zip
      modelry models export mnist --bundle mnist.bundle
    """
    place = to or bundle
    if place is None or (to is not None and bundle is not None):
        raise typer.BadParameter("Give --to, or --bundle.")
    with connect() as client:
        target = client.models.export(model, place, bundle=bundle is not None)
    print(target)


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="NAME, NAME:3 or NAME@ALIAS; two or more."),
    ],
    to: PictureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put versions side by side: how good each is, and what was done differently.

    \b
    Examples:
      modelry models compare digits:1 digits:2
      modelry models compare digits:1 gru:4 --to curves.png
    """
    if len(models) < 2:
        raise typer.BadParameter("Name two versions or more.")
    from modelry.cli.comparing import plain_comparison, print_comparison
    from modelry.cli.reports import gather

    with connect() as client:
        reports = [gather(client, ref, with_rows=False) for ref in models]
    if to is not None:
        from modelry.cli.pictures import draw_comparison

        draw_comparison(to, reports)
    if as_json:
        print_json(plain_comparison(reports))
        return
    print_comparison(reports)
    if to is not None:
        say(f"Drawn: {to}")


@app.command()
def report(
    model: RefArgument,
    to: Annotated[Path | None, typer.Option(help="The page to write, such as report.html.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a page about a version: curves, confusion, calibration, its worst errors, how it was made.

    The page is one file without links to anything else. It shows rows of the test split, if your key may read them.

    \b
    Examples:
      modelry models report digits --to digits.html
      modelry models report digits:2 --json
    """
    if (to is None) != as_json:
        raise typer.BadParameter("Give --to FILE.html, or --json.")
    if to is not None and (to.suffix.lower() not in (".html", ".htm") or not to.parent.is_dir()):
        raise typer.BadParameter(f"'{to}' is no .html file in a folder that is there.")
    from modelry.cli.reports import gather, write_page

    with connect() as client:
        found = gather(client, model, with_rows=to is not None)
    if to is None:
        print_json(found.plain())
        return
    write_page(to, found)
    say(f"Written: {to}")


@app.command()
def rm(names: NamesArgument) -> None:
    """Remove models (NAME) or single versions (NAME:VERSION).

    \b
    Example:
      modelry models rm mnist:1
    """
    remove("model", names)


def _aliases(model: Model) -> str:
    return ", ".join(f"{alias}={version}" for alias, version in model.aliases.items())


def _row(version: ModelVersion) -> list[Any]:
    measure = main_measure(version.manifest["metrics"])
    return [
        version.version,
        measure[1] if measure else "",
        ", ".join(version.aliases),
        moment(version.created_at),
    ]


def _class_rows(metrics: dict[str, Any]) -> list[list[Any]]:
    return [
        [item["label"], item["support"], f"{item['precision']:.2%}", f"{item['recall']:.2%}"]
        for item in metrics.get("classes", [])
    ]


def _facts(version: ModelVersion) -> list[tuple[str, Any]]:
    manifest = version.manifest
    recipe = manifest.get("recipe") or {}
    measure = main_measure(manifest["metrics"])
    return [
        ("model", f"{version.model}:{version.version}"),
        ("aliases", ", ".join(version.aliases)),
        ("task", manifest["task"]),
        ("recipe", recipe.get("name")),
        ("takes", _tensors(manifest["inputs"])),
        ("answers", _answers(manifest)),
        measure or ("test accuracy", None),
        *(
            (f"runs on {name}", _verified(form.get("verification")))
            for name, form in manifest["runtimes"].items()
        ),
        ("size", f"{show_bytes(version.size_bytes)} in {len(version.files)} files"),
        *_origin(manifest.get("source") or {}),
        ("job", version.job_id),
        ("created", moment(version.created_at)),
    ]


def _answers(manifest: dict[str, Any]) -> str:
    labels = f" for {len(manifest['labels'])} labels" if manifest["labels"] else ""
    return _tensors(manifest["outputs"]) + labels


def _origin(source: dict[str, Any]) -> list[tuple[str, Any]]:
    """Where an imported model came from, and what was looked at."""
    if not source:
        return []
    revision = f" at {source['revision']}" if source.get("revision") else ""
    rows = (source.get("graph") or {}).get("rows")
    return [
        ("came from", f"{source['kind']}: {source['location']}{revision} ({source['format']})"),
        ("licence", source.get("licence") or "not told"),
        ("rows", rows),
        *(("checked", check) for check in source.get("checks", [])),
        ("measured on", source.get("measured_on")),
    ]


def _tensors(specs: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{spec['name']} {spec['dtype']} "
        + "×".join("N" if size is None else str(size) for size in spec["shape"])
        for spec in specs
    )


def _way(way: dict[str, Any]) -> list[Any]:
    """A line of the table of ways to run the model; the fastest comes first, the mark is at the one that serves."""
    mark = "serves" if way["is_kept"] else "" if way["is_faithful"] else "too far off"
    options = ", ".join(f"{name} {value}" for name, value in way["options"].items())
    return [
        mark,
        way["runtime"],
        options,
        way["threads"],
        f"{way['rows_per_s']:,.0f}",
        f"{way['single_ms']:.3f}",
        f"{way['max_difference']:.1e}",
    ]


def _verified(check: dict[str, Any] | None) -> str:
    if check is None:
        return "as it came"
    return (
        f"differs by {check['max_difference']:.1e} at most on {check['samples']} samples "
        f"({check['tolerance']:.0e} allowed), {check['rows_per_s']:,.0f} rows/s"
    )
