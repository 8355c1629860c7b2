"""`models import` and `models catalogue`: bring pretrained and foreign models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from modelry.cli.connection import connect
from modelry.cli.quantities import parse_seconds, show_bytes
from modelry.cli.screen import JsonOption, print_json, print_table, say

_LIST_KEYS = ("mean", "std")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("import")(import_)
    app.command()(catalogue)


def import_(
    source: Annotated[
        str | None,
        typer.Argument(
            help="A file or folder on this machine (it is uploaded), or hf://org/name@revision."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it; a bundle knows its own name.")
    ] = None,
    server_path: Annotated[
        str | None, typer.Option(help="A path on the server instead, below MODELRY_IMPORT_ROOTS.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of an hf:// source. [main]")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Hugging Face's name of the task, where the files do not say."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="The classes' names: one a line, or JSON (a list, id2label)."),
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            help="How pictures become the input: imagenet, unit, symmetric, raw or caffe-bgr, or NAME=VALUE "
            "(mean=104,117,123); any number of times."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence, where the source does not say it.")
    ] = None,
    format: Annotated[
        Literal["auto", "onnx", "keras", "huggingface", "modelry", "bundle"],
        typer.Option(help="What the files are; auto looks."),
    ] = "auto",
    time: Annotated[str | None, typer.Option(help="Time limit, such as 30m.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Print the job's id and do not wait.")
    ] = False,
) -> None:
    """Import an ONNX, Keras or Hugging Face model, or a bundle; everything is checked before it is loaded.

    \b
    Examples:
      modelry models import squeezenet.onnx --name squeezenet --labels classes.txt --preprocess imagenet
      modelry models import hf://distilbert/distilbert-base-cased-distilled-squad --name answers
      modelry models import classifier.keras --name classifier
      modelry models import digits.bundle
    """
    if (source is None) == (server_path is None):
        raise typer.BadParameter("Give a source, or --server-path.")
    with connect() as client:
        options: dict[str, Any] = {
            "server_path": server_path,
            "revision": revision,
            "format": format,
            "task": task,
            "labels": labels,
            "preprocess": parse_preprocess(preprocess or []),
            "licence": licence,
            "time_limit_s": None if time is None else parse_seconds(time),
        }
        if detach:
            job = client.models.import_(source, name, **options, wait=False)
            print(job.id, flush=True)
            say(f"See it with: modelry jobs watch {job.id}")
            return
        version = client.models.import_(source, name, **options)
    said = version.manifest.get("source") or {}
    licensed = f", licence {said['licence']}" if said.get("licence") else ""
    say(f"{version.model}:{version.version} is ready: {version.manifest['task']}{licensed}.")
    say(f"Put it to work with: modelry deploy {version.model}")


def catalogue(as_json: JsonOption = False) -> None:
    """List well-known models that can be imported, and what can be trained here.

    \b
    Example:
      modelry models catalogue
    """
    with connect() as client:
        entries = client.models.catalogue()
    if as_json:
        print_json(entries)
        return
    pretrained = [entry for entry in entries if entry.kind == "pretrained"]
    print_table(
        ["REPOSITORY", "TASK", "LICENCE", "STATE", "REVISION", "SIZE", "WHAT IT IS"],
        [
            [
                entry.name,
                entry.task,
                entry.recorded_licence or f"{entry.licence} (expected)",
                entry.model or entry.state,
                (entry.revision or "")[:12],
                "" if entry.size_bytes is None else show_bytes(entry.size_bytes),
                entry.summary,
            ]
            for entry in pretrained
        ],
    )
    print_table(
        ["MADE HERE WITH", "TASK", "TAKES", "WHAT IT IS"],
        [
            [entry.command, entry.task, entry.duration, entry.summary]
            for entry in entries
            if entry.kind == "trainable"
        ],
    )
    say("Import one with: modelry models import hf://REPOSITORY --name NAME")


def parse_preprocess(given: list[str]) -> dict[str, Any] | str | None:
    """`["imagenet"]`, `["scale=1", "order=bgr"]` or both kinds as what the service takes."""
    values: dict[str, Any] = {}
    for part in given:
        key, equals, value = part.partition("=")
        if not equals:
            if "preset" in values:
                raise typer.BadParameter(f"Two presets: {values['preset']} and {part}.")
            values["preset"] = part
        else:
            values[key] = (
                [item.strip() for item in value.split(",")] if key in _LIST_KEYS else value
            )
    if set(values) == {"preset"}:
        return str(values["preset"])
    return values or None
