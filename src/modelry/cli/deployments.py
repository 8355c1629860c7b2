"""`deploy`, `predict` and `deployments`: models at work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelry.cli.connection import connect
from modelry.cli.removal import NamesArgument, remove
from modelry.cli.screen import JsonOption, moment, print_facts, print_json, print_table, say
from modelry.cli.serving import (
    DeadlineOption,
    IdleOption,
    MaxBatchOption,
    MaxInFlightOption,
    MaxOption,
    MaxQueueOption,
    MinOption,
    NameArgument,
    ReplicasOption,
    ThreadsOption,
    WaitOption,
    describe_bounds,
    describe_version,
    say_state,
    seconds,
)
from modelry.core.records import Deployment, Replica, VersionTraffic

if TYPE_CHECKING:
    from modelry.client import Prediction
    from modelry.client.serving import Serving

app = typer.Typer(help="Deployments: look, change, end.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands that stand at the top."""
    app.command()(deploy)
    app.command()(predict)


def deploy(
    model: Annotated[str, typer.Argument(help="NAME, NAME:3 or NAME@ALIAS.")],
    name: Annotated[
        str | None, typer.Option(help="The deployment's name; the model's if not given.")
    ] = None,
    replicas: ReplicasOption = None,
    fewest: MinOption = None,
    most: MaxOption = None,
    idle: IdleOption = None,
    max_batch: MaxBatchOption = None,
    threads: ThreadsOption = None,
    max_in_flight: MaxInFlightOption = None,
    max_queue: MaxQueueOption = None,
    deadline: DeadlineOption = None,
    wait: Annotated[bool, typer.Option(help="Wait until it answers.")] = True,
) -> None:
    """Put a model version to work.

    \b
    Examples:
      modelry deploy mnist --name digits
      modelry deploy mnist@production --replicas 2
      modelry deploy mnist --min 1 --max 4 --idle 10m
    """
    with connect() as client:
        handle = client.deploy(
            model,
            name=name,
            wait=wait,
            replicas=replicas,
            min_replicas=fewest,
            max_replicas=most,
            idle_s=seconds(idle),
            max_batch=max_batch,
            threads=threads,
            max_in_flight=max_in_flight,
            max_queue=max_queue,
            deadline_s=seconds(deadline),
        )
        url = client.address.url
    record = handle.record
    say(f"{record.name} is {record.state.value}: {record.model}:{record.version}.")
    say(f"Ask it with: modelry predict {record.name} FILE, or POST {url}/predict/{record.name}")


def predict(
    name: Annotated[str | None, typer.Argument(help="The deployment's name.")] = None,
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Images, recordings, or .npy and .json files with one input each."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A text instead of a file; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(help="So many labels with their scores.")] = 3,
    version: Annotated[int | None, typer.Option(help="Ask this version.")] = None,
    batch: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Ask about every row of a data set, in a job."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --batch: NAME, NAME:3 or NAME@ALIAS.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--name", help="With --batch: the data set that is made; DATA-by-MODEL."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --batch: only this part.")] = None,
    max_batch: Annotated[int | None, typer.Option(help="With --batch: rows per call.")] = None,
    threads: Annotated[int | None, typer.Option(help="With --batch: compute threads.")] = None,
    wait: Annotated[bool, typer.Option(help="With --batch: wait until it is done.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Ask a deployment about files, or a model about a whole data set.

    \b
    Examples:
      modelry predict digits seven.png
      modelry predict digits *.png --json
      modelry predict intents --text "I have lost my card" --top 1
      modelry predict --batch mnist --model digits@production --split test
    """
    if batch is not None:
        if name is not None or model is None or text or version is not None:
            raise typer.BadParameter(
                "--batch takes a data set and --model, and no deployment, text or --version."
            )
        from modelry.cli.batch import predict_batch

        predict_batch(
            data=batch,
            model=model,
            name=to,
            split=split,
            max_batch=max_batch,
            threads=threads,
            wait=wait,
            as_json=as_json,
        )
        return
    if name is None or not (files or text):
        raise typer.BadParameter(
            "Give a deployment and a file or --text at least, or --batch and --model."
        )
    if any(given is not None for given in (model, to, split, max_batch, threads)):
        raise typer.BadParameter("--model, --name, --split, --max-batch, --threads need --batch.")
    from modelry.client import Text

    with connect() as client:
        asked = [*(files or ()), *map(Text, text or ())]
        found = client.predict_many(name, asked, top_k=top, version=version)
    answers = list(zip((*(files or ()), *(text or ())), found, strict=True))
    if as_json:
        print_json([{"file": source, **_plain(answer)} for source, answer in answers])
        return
    if any(answer.values is not None for answer in found):
        print_table(
            ["INPUT", "VALUES"], [[source, str(answer.values)] for source, answer in answers]
        )
        return
    print_table(
        ["INPUT", "LABEL", "SCORE", "NEXT"],
        [
            [source, answer.label, f"{answer.score:.1%}", _others(answer)]
            for source, answer in answers
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
    rows = [[item.name, describe_version(item), item.state.value, _ready(item)] for item in found]
    print_table(
        ["NAME", "MODEL", "STATE", "READY"],
        rows,
        empty="No deployments yet; `modelry deploy` makes one.",
    )


@app.command()
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one deployment, its versions side by side, and its replicas.

    \b
    Example:
      modelry deployments show digits
    """
    with connect() as client:
        handle = client.deployments.get(name)
        replicas, versions = handle.replicas(), handle.versions()
    if as_json:
        print_json({"deployment": handle.record, "replicas": replicas, "versions": versions})
        return
    print_facts(_facts(handle.record))
    print_table(
        ["VERSION", "ROLE", "SHARE", "READY", "ANSWERED", "FAILED", "MEAN", "P99", "QUEUED"],
        [_version_row(version) for version in versions],
    )
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
    replicas: ReplicasOption = None,
    max_batch: MaxBatchOption = None,
    threads: ThreadsOption = None,
    max_in_flight: MaxInFlightOption = None,
    max_queue: MaxQueueOption = None,
    deadline: DeadlineOption = None,
    wait: WaitOption = True,
) -> None:
    """Roll to another version, or change how it is served; no request fails meanwhile.

    \b
    Examples:
      modelry deployments update digits --model mnist:2
      modelry deployments update digits --replicas 3
    """
    wished: Serving = {
        "replicas": replicas,
        "max_batch": max_batch,
        "threads": threads,
        "max_in_flight": max_in_flight,
        "max_queue": max_queue,
        "deadline_s": seconds(deadline),
    }
    if model is None and all(given is None for given in wished.values()):
        raise typer.BadParameter("Give what is to change: --model, --replicas, …")
    with connect() as client:
        handle = client.deployments.get(name)
        record = handle.update(model=model, **wished)
        if wait:
            record = handle.wait_ready()
    say_state(record)


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
    if answer.values is None:
        return {key: value for key, value in found.items() if key != "values"}
    return {"version": answer.version, "values": answer.values}


def _others(answer: Prediction) -> str:
    rest = list(answer.scores.items())[1:]
    return ", ".join(f"{label} {score:.1%}" for label, score in rest)


def _ready(item: Deployment) -> str:
    return f"{item.ready_replicas}/{item.replicas}"


def _facts(item: Deployment) -> list[tuple[str, Any]]:
    failure = item.failure or {}
    return [
        ("deployment", item.name),
        ("model", describe_version(item)),
        ("version before", item.previous_version),
        ("state", item.state.value),
        ("ready", f"{_ready(item)} replicas"),
        ("scaling", describe_bounds(item)),
        ("max batch", item.max_batch),
        ("threads", item.threads),
        ("max in flight", item.max_in_flight),
        ("max queue", item.max_queue),
        ("deadline", None if item.deadline_s is None else f"{item.deadline_s:g} s"),
        ("failure", failure.get("message")),
        ("remedy", failure.get("remedy")),
        ("created", moment(item.created_at)),
        ("updated", moment(item.updated_at)),
    ]


def _version_row(one: VersionTraffic) -> list[Any]:
    return [
        one.version,
        one.role,
        f"{one.percent:g} %",
        one.ready_replicas,
        one.answered,
        one.failed,
        _milliseconds(one.mean_ms),
        _milliseconds(one.p99_ms),
        _milliseconds(one.queue_ms),
    ]


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms"


def _replica_row(replica: Replica) -> list[Any]:
    failure = (replica.failure or {}).get("message")
    return [replica.id, replica.version, replica.state.value, moment(replica.ready_at), failure]
