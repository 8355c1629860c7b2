"""`train`: start a training job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelry.cli.connection import connect
from modelry.cli.measures import main_measure
from modelry.cli.quantities import parse_bytes, parse_seconds, parse_settings
from modelry.cli.screen import say

if TYPE_CHECKING:
    from modelry.client import Client
    from modelry.core.records import ModelVersion

#: Versions before the new one that are shown beside it.
_COMPARED = 4


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    recipe: Annotated[str, typer.Argument(help="The recipe; `modelry recipes` lists them.")],
    data: Annotated[str, typer.Option(help="The data set: NAME, or NAME:VERSION.")],
    model: Annotated[str, typer.Option(help="The model that gets the new version.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter, NAME=VALUE; any number of times."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A named group of settings.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", help="Begin with this version's weights: NAME, NAME:VERSION, NAME@ALIAS."
        ),
    ] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="With --from: only the last layer learns.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Compute threads; part of what makes runs repeatable.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory limit, such as 2GiB; over it the job fails.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Time limit, such as 30m or 2h.")] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show the progress until the end; fail if the job fails."),
    ] = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Watch, and put the versions of the model side by side."),
    ] = False,
) -> None:
    """Train a model on a data set. Prints the job's id.

    \b
    Examples:
      modelry train cnn --data mnist --model mnist --set epochs=5 --watch
      modelry train rnn --data mnist --model mnist-rnn --set cell=gru --time 1h --compare
      modelry train cnn --data letters --model letters --from mnist --freeze --set epochs=2
    """
    with connect() as client:
        job = client.train(
            recipe,
            data=data,
            model=model,
            preset=preset,
            start=start,
            freeze=freeze or None,
            threads=threads,
            memory_limit_bytes=None if memory is None else parse_bytes(memory),
            time_limit_s=None if time is None else parse_seconds(time),
            params=parse_settings(settings or []),
        )
        print(job.id, flush=True)
        if not (watch or compare):
            say(f"See it with: modelry jobs watch {job.id}")
            return
        record = job.watch()
        version = client.models.version(f"{model}:{record.notes['version']}")
        if compare:
            _compare(client, version)
    measure = main_measure(version.manifest["metrics"])
    measured = f", {measure[0]} {measure[1]}" if measure else ""
    say(f"{version.model}:{version.version} is ready{measured}.")
    say(f"Put it to work with: modelry deploy {version.model}")


def _compare(client: Client, version: ModelVersion) -> None:
    """Beside the newest of the versions before it."""
    from modelry.cli.comparing import print_comparison
    from modelry.cli.reports import gather

    numbers = sorted(one.version for one in client.models.versions(version.model))
    shown = [number for number in numbers if number < version.version][-_COMPARED:]
    names = [f"{version.model}:{number}" for number in (*shown, version.version)]
    print_comparison([gather(client, name, with_rows=False) for name in names])
