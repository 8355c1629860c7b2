"""`quickstart`: the whole story on real handwritten digits, in about a minute."""

from __future__ import annotations

import os
import shlex
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelry.cli.screen import print_table, say
from modelry.cli.service import down, is_running, start_detached
from modelry.core.errors import NotFound

if TYPE_CHECKING:
    from modelry.cli.held_out import HeldOut
    from modelry.client import Client, DeploymentHandle, JobHandle, Prediction
    from modelry.core.records import ModelVersion

NAME = "digits"
EPOCHS = 30
#: Answers in the printed table.
_SHOWN = 10


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(quickstart)


def quickstart(
    keep: Annotated[
        bool, typer.Option("--keep", help="Use the default home and leave the service running.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("quickstart-pictures"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = EPOCHS,
) -> None:
    """See the whole story in about a minute.

    Starts a service of its own (with --keep: yours), imports 1,797 real handwritten digits, trains the cnn, deploys
    it, sends it digits it has never seen, and prints how to go on.

    \b
    Examples:
      modelry quickstart
      modelry quickstart --keep
    """
    with _service(keep), _client() as client:
        job = _train(client, epochs)
        deployment = _deploy(client)
        held_out, answers = _ask(client, deployment)
        version = client.models.version(f"{NAME}:{deployment.record.version}")
        _show_answers(held_out, answers)
        picture = _draw(out, job, version, held_out, answers)
        url = client.address.url
    _say_how_to_go_on(url, picture, keep=keep)


@contextmanager
def _service(keep: bool) -> Iterator[None]:
    """A service for the time of the block; for good with `keep`, where one may run already."""
    if keep:
        _start_default()
        yield
        return
    with tempfile.TemporaryDirectory(prefix="modelry-") as home:
        before = dict(os.environ)
        _forget_other_services()
        os.environ.update(MODELRY_HOME=home, MODELRY_PORT="0", MODELRY_HOST="127.0.0.1")
        try:
            _say_step("Starting a service in a folder of its own")
            start_detached(dict(os.environ))
            yield
        finally:
            down()
            os.environ.clear()
            os.environ.update(before)


def _start_default() -> None:
    from modelry.client.address import find_home

    _forget_other_services()
    if is_running(find_home()):
        _say_step("Using the service that runs already")
        return
    environment = dict(os.environ)
    if "MODELRY_PORT" not in environment and not _is_free(8642):
        environment["MODELRY_PORT"] = "0"
    _say_step(f"Starting the service on {find_home().root}")
    start_detached(environment)


def _forget_other_services() -> None:
    """The story is told on this machine, whatever service the environment points at."""
    for name in ("MODELRY_URL", "MODELRY_KEY", "MODELRY_PROJECT"):
        os.environ.pop(name, None)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _client() -> Client:
    from modelry.client import Client

    return Client()


def _train(client: Client, epochs: int) -> JobHandle:
    _say_step("Importing 1,797 real handwritten digits, 28×28 pixels")
    data = client.data.add(NAME, builtin="digits")
    rows = ", ".join(
        f"{split['rows']} for {name}" for name, split in data.manifest["splits"].items()
    )
    _say_step(f"Training the cnn for {epochs} epochs ({rows})")
    # One thread: on a machine that does other things too, several wait for each other at every step of so small a net.
    job = client.train("cnn", data=f"{NAME}:{data.version}", model=NAME, epochs=epochs, threads=1)
    job.watch()
    return job


def _deploy(client: Client) -> DeploymentHandle:
    _say_step(f"Deploying it as '{NAME}'")
    try:
        deployment = client.deployments.get(NAME)
    except NotFound:
        return client.deploy(NAME, name=NAME)
    deployment.update(model=NAME)
    deployment.wait_ready()
    return deployment


def _ask(client: Client, deployment: DeploymentHandle) -> tuple[HeldOut, list[Prediction]]:
    from modelry.cli.held_out import read_held_out

    held_out = read_held_out(client, client.data.version(NAME))
    _say_step(f"Sending {len(held_out.labels)} digits that it has never seen, over HTTP")
    return held_out, deployment.predict_many(held_out.images)


def _show_answers(held_out: HeldOut, answers: list[Prediction]) -> None:
    pairs = list(zip(held_out.labels, answers, strict=True))
    print_table(
        ["DIGIT", "ANSWER", "CONFIDENCE", ""],
        [
            [label, answer.label, f"{answer.score:.1%}", "" if label == answer.label else "wrong"]
            for label, answer in pairs[:_SHOWN]
        ],
    )
    right = sum(label == answer.label for label, answer in pairs)
    print(f"\nTest accuracy: {right / len(pairs):.2%} ({right} of {len(pairs)} right)", flush=True)


def _draw(
    folder: Path,
    job: JobHandle,
    version: ModelVersion,
    held_out: HeldOut,
    answers: list[Prediction],
) -> Path:
    """Writes the pictures and one held-out digit as a file to ask about; answers the digit's path."""
    from modelry.cli import pictures

    folder.mkdir(parents=True, exist_ok=True)
    accuracy = version.manifest["metrics"].get("accuracy")
    pictures.draw_curves(folder / "training-curves.png", job.metrics(), accuracy)
    pictures.draw_answers(folder / "held-out-digits.png", held_out, answers)
    digit = folder / "seven.png"
    pictures.save_digit(digit, held_out, label="7")
    for path in sorted(folder.glob("*.png")):
        print(f"Picture: {path}")
    return digit


def _say_how_to_go_on(url: str, picture: Path, *, keep: bool) -> None:
    file = shlex.quote(str(picture))
    key_file = "${MODELRY_HOME:-$HOME/.modelry}/admin.key"
    if not keep:
        url = "http://127.0.0.1:8642"
        print("\nThe service of this run has ended. Run it again and leave it running:")
        print("  modelry quickstart --keep")
    print("\nGo on with curl:")
    print(f'  curl -H "Authorization: Bearer $(cat "{key_file}")" \\')
    print(f"       -H 'Content-Type: image/png' --data-binary @{file} {url}/predict/{NAME}")
    print("\n… with the command line:")
    print(f"  modelry predict {NAME} {file}")
    print("\n… or with Python:")
    print("  import modelry")
    print("  client = modelry.Client()")
    print(f'  print(client.deployments.get("{NAME}").predict({str(picture)!r}))')
    if keep:
        print("\nEnd the service with: modelry down")


def _say_step(text: str) -> None:
    say(f"▸ {text}")
