"""`deploy`, `predict` and `deployments`: models at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, print_table, say
from modelry.core.records import Deployment, Replica

if TYPE_CHECKING:
    from modelry.client import Prediction

app = typer.Typer(help="Deployments: look, change, end.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="The deployment's name.")]


def register(app: typer.Typer) -> None:
    """Adds the commands that stand at the top."""
    app.command()(deploy)
    app.command()(predict)


def deploy(
    model: Annotated[str, typer.Argument(help="NAME, NAME:3 or NAME@ALIAS.")],
    name: Annotated[
        str | None, typer.Option(help="The deployment's name; the model's if not given.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Rows per runtime call at most.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads of each replica.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it answers.")] = True,
) -> None:
    """Put a model version to work.

    \b
    Examples:
      modelry deploy mnist --name digits
      modelry deploy mnist@production --replicas 2
    """
    with connect() as client:
        handle = client.deploy(
            model, name=name, replicas=replicas, max_batch=max_batch, threads=threads, wait=wait
        )
        url = client.address.url
    record = handle.record
    say(f"{record.name} is {record.state.value}: {record.model}:{record.version}.")
    say(f"Ask it with: modelry predict {record.name} FILE, or POST {url}/predict/{record.name}")


def predict(
    name: NameArgument,
    files: Annotated[
        list[str], typer.Argument(help="Images, or .npy and .json files with one tensor each.")
    ],
    top: Annotated[int, typer.Option(help="So many labels with their scores.")] = 3,
    version: Annotated[int | None, typer.Option(help="Ask this version.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a deployment about files.

    \b
    Examples:
      modelry predict digits seven.png
      modelry predict digits *.png --json
    """
    with connect() as client:
        found = client.predict_many(name, files, top_k=top, version=version)
    if as_json:
        print_json(
            [{"file": file, **_plain(answer)} for file, answer in zip(files, found, strict=True)]
        )
        return
    print_table(
        ["FILE", "LABEL", "SCORE", "NEXT"],
        [
            [file, answer.label, f"{answer.score:.1%}", _others(answer)]
            for file, answer in zip(files, found, strict=True)
        ],
    )


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the project's deployments.

    \b
    Example:
      modelry deployments list
    """
    with connect() as client:
        found = client.deployments.list()
    if as_json:
        print_json(found)
        return
    rows = [
        [item.name, f"{item.model}:{item.version}", item.state.value, _ready(item)]
        for item in found
    ]
    print_table(
        ["NAME", "MODEL", "STATE", "READY"],
        rows,
        empty="No deployments yet; `modelry deploy` makes one.",
    )


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one deployment and its replicas.

    \b
    Example:
      modelry deployments show digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        replicas = handle.replicas()
    if as_json:
        print_json({"deployment": handle.record, "replicas": replicas})
        return
    print_facts(_facts(handle.record))
    print_table(
        ["REPLICA", "VERSION", "STATE", "READY SINCE", "FAILURE"],
        [_replica_row(replica) for replica in replicas],
    )


@app.command()
def update(
    name: NameArgument,
    model: Annotated[
        str | None, typer.Option(help="Roll to this version: NAME, NAME:3 or NAME@ALIAS.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Processes that answer.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="Rows per runtime call at most.")] = None,
    threads: Annotated[int | None, typer.Option(help="Compute threads of each replica.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is done.")] = True,
) -> None:
    """Roll to another version, or change how it is served; no request fails meanwhile.

    \b
    Examples:
      modelry deployments update digits --model mnist:2
      modelry deployments update digits --replicas 3
    """
    if all(given is None for given in (model, replicas, max_batch, threads)):
        raise typer.BadParameter("Give what is to change: --model, --replicas, …")
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.update(model=model, replicas=replicas, max_batch=max_batch, threads=threads)
        if wait:
            record = handle.wait_ready()
    say(f"{record.name} is {record.state.value}: {record.model}:{record.version}.")


@app.command()
def rm(names: NamesArgument) -> None:
    """End deployments; what they have accepted is answered first. The models stay.

    \b
    Example:
      modelry deployments rm digits
    """
    remove("deployment", names)


def _plain(answer: Prediction) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(answer)
    return found


def _others(answer: Prediction) -> str:
    rest = list(answer.scores.items())[1:]
    return ", ".join(f"{label} {score:.1%}" for label, score in rest)


def _ready(item: Deployment) -> str:
    return f"{item.ready_replicas}/{item.replicas}"


def _facts(item: Deployment) -> list[tuple[str, Any]]:
    failure = item.failure or {}
    return [
        ("deployment", item.name),
        ("model", f"{item.model}:{item.version}"),
        ("state", item.state.value),
        ("ready", f"{_ready(item)} replicas"),
        ("max batch", item.max_batch),
        ("threads", item.threads),
        ("failure", failure.get("message")),
        ("remedy", failure.get("remedy")),
        ("created", moment(item.created_at)),
        ("updated", moment(item.updated_at)),
    ]


def _replica_row(replica: Replica) -> list[Any]:
    failure = (replica.failure or {}).get("message")
    return [replica.id, replica.version, replica.state.value, moment(replica.ready_at), failure]
