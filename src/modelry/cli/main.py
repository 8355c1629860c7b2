"""`modelry`: puts the commands together, and turns errors into a sentence, a remedy and an exit status."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from modelry.cli import (
    analyze,
    data,
    deployments,
    doctor,
    explain,
    jobs,
    keys,
    models,
    projects,
    quickstart,
    recipes,
    removal,
    rollouts,
    service,
    train,
    upkeep,
    usage,
)
from modelry.cli.screen import print_error, say
from modelry.core.errors import ModelryError

_HELP = """AI models as a service, on your own machine.

\b
  modelry up --detach                       start the service
  modelry data add mnist ./mnist/           bring data
  modelry train cnn --data mnist --model mnist --watch
  modelry deploy mnist --name digits        put the model to work
  modelry predict digits seven.png          ask it

`modelry quickstart` shows all of it in about a minute. `modelry COMMAND --help` explains each command.
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_INTERRUPTED = 130


def _show_version(wanted: bool) -> None:
    if wanted:
        from modelry import __version__

        print(f"modelry {__version__}")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[
        str | None, typer.Option(help="The service's folder. [MODELRY_HOME; ~/.modelry]")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The service's address. [MODELRY_URL]")] = None,
    project: Annotated[
        str | None, typer.Option(help="The project to work in. [MODELRY_PROJECT]")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Tell it.")
    ] = False,
) -> None:
    for name, value in (("HOME", home), ("URL", url), ("PROJECT", project)):
        if value is not None:
            os.environ[f"MODELRY_{name}"] = value


quickstart.register(app)
service.register(app)
doctor.register(app)
app.add_typer(data.app, name="data")
recipes.register(app)
train.register(app)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
deployments.register(app)
rollouts.register(deployments.app)
app.add_typer(deployments.app, name="deployments")
explain.register(app)
analyze.register(app)
app.add_typer(keys.app, name="keys")
usage.register(app)
app.add_typer(projects.app, name="projects")
removal.register(app)
upkeep.register(app)


def main() -> None:
    """The entry point of the `modelry` command."""
    try:
        app()
    except ModelryError as error:
        print_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
