"""`predict --batch`: a model's answers for a whole data set, as a job."""

from __future__ import annotations

from modelry.cli.connection import connect
from modelry.cli.screen import print_json, say


def predict_batch(
    *,
    data: str,
    model: str,
    name: str | None,
    split: str | None,
    max_batch: int | None,
    threads: int | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Starts the job and, with `wait`, shows its progress until the new data set is there."""
    with connect() as client:
        job = client.predict_batch(
            data=data, model=model, name=name, split=split, max_batch=max_batch, threads=threads
        )
        if not as_json:
            print(job.id, flush=True)
        if not wait:
            if as_json:
                print_json(job.record)
            say(f"See it with: modelry jobs watch {job.id}")
            return
        record = job.watch()
        made = client.data.version(f"{record.makes}:{record.notes['version']}")
    if as_json:
        print_json(made)
        return
    accuracy = record.notes.get("accuracy")
    rows = sum(part["rows"] for part in made.manifest["splits"].values())
    measured = "" if accuracy is None else f", {accuracy:.2%} of them as their label says"
    say(f"{made.dataset}:{made.version} holds {rows} answers{measured}.")
    say(f"Look at it with: modelry data show {made.dataset}")
