"""The job kind `predict-batch`: walks over a data set once, whatever happens to its process.

A checkpoint names finished shards and the next row. Everything after it is forgotten when the process dies, so
that no row is answered twice in the result and none is left out. Memory holds one portion, whatever the data's size.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from modelry.core.errors import NotFound, WorkFailed
from modelry.core.feeding import plan_feed
from modelry.core.files import FileRef
from modelry.core.jobs import PredictBatchParams
from modelry.core.manifests import DatasetManifest, Split, read_model
from modelry.core.results import MadeDataset, to_result
from modelry.core.specs import StopReason
from modelry.core.tensors import Array
from modelry.worker.context import JobContext
from modelry.worker.data.reading import OpenDataset, open_dataset
from modelry.worker.data.writing import SHARD_BYTES
from modelry.worker.models.content import check_content
from modelry.worker.models.runtimes import Runtime, load_runtime
from modelry.worker.predicting.answers import Answers, Tally
from modelry.worker.predicting.feeding import Package, to_inputs
from modelry.worker.predicting.reading import portions
from modelry.worker.predicting.writing import Shard

_STATE = "predicting.json"
#: The pauses between checkpoints grow with the job, so that a long one does not end in countless shards.
_PAUSE_SHARE = 1 / 50


class Place(msgspec.Struct):
    """How far the job is, as a checkpoint keeps it; the finished shards lie beside it."""

    #: The part being read, and its next row.
    split: str = ""
    row: int = 0
    #: Rows over all parts, and seconds over all attempts.
    done: int = 0
    spent_s: float = 0.0
    #: One row's shape of the model's output, and what was counted; None before the first row.
    shape: list[int] | None = None
    tally: Tally | None = None


def run(context: JobContext) -> dict[str, Any]:
    """Asks the model about every row, from the last checkpoint on; the result is a `MadeDataset`."""
    order = msgspec.convert(context.spec.params, PredictBatchParams)
    context.progress("loading")
    data = open_dataset(context.fetch("data"))
    folder = context.fetch("model")
    check_content(context.spec.inputs["model"], folder)
    model = read_model((folder / "model.json").read_bytes())
    runtime = load_runtime(folder, model, context.spec.threads)
    return to_result(Walk(context, order, data, Package(model, folder), runtime).run())


class Walk:
    """One attempt at the whole data set."""

    def __init__(
        self,
        context: JobContext,
        order: PredictBatchParams,
        data: OpenDataset,
        package: Package,
        runtime: Runtime,
    ) -> None:
        self._context, self._order, self._data = context, order, data
        self._package, self._runtime = package, runtime
        self._model = package.manifest
        self._feed = plan_feed(data.manifest, self._model)
        self._fixed = self._model.inputs[0].shape[0]
        self._splits = _chosen(data.manifest, order.split)
        self._place, self._shards = _restore(context)
        self._answers: Answers | None = None
        self._entered_at = self._kept_at = time.monotonic()
        self._spent_before_s, self._done_before = self._place.spent_s, self._place.done

    def run(self) -> MadeDataset:
        """The finished version; its files are in the artifacts."""
        names = list(self._splits)
        if self._place.split not in names:
            self._place.split = names[0]
        for name in names[names.index(self._place.split) :]:
            if name != self._place.split:
                self._place.split, self._place.row = name, 0
            if self._place.row < self._splits[name].rows:
                self._walk(name, self._splits[name])
        return self._finish()

    def _walk(self, name: str, split: Split) -> None:
        """The rest of one part."""
        self._context.opened(name, split.rows)
        shard: Shard | None = None
        try:
            for rows in self._portions(split):
                output = self._ask(rows)
                answers, tally = self._answering(output.shape[1:])
                shard = shard or self._new_shard(name)
                shard.add(answers.table(tally, rows, output, split=name, start=self._place.row))
                self._place.row += rows.num_rows
                self._place.done += rows.num_rows
                self._tell()
                if self._is_due(shard):
                    self._keep(shard)
                    shard = None
                self._context.check_stop()
            if self._place.row != split.rows:
                found = f"{self._place.row} rows of '{name}' where {split.rows} are promised"
                raise WorkFailed(f"The data set holds {found}.", remedy="Import it again.")
            if shard is not None:
                self._keep(shard)
                shard = None
        finally:
            if shard is not None:
                shard.abandon()

    def _portions(self, split: Split) -> Any:
        files = [self._data.folder / file for file in split.files]
        features = self._data.manifest.features
        kept = [
            name for name, one in features.items() if one.kind not in ("image", "tensor", "audio")
        ]
        columns = list(dict.fromkeys((*self._feed.columns, *kept)))
        size = self._fixed or self._order.max_batch
        return portions(files, columns, start=self._place.row, size=size)

    def _ask(self, rows: Any) -> Array:
        """The first output for these rows; a batch of a fixed size is filled up."""
        inputs = to_inputs(self._feed, rows, self._data.manifest.features, self._package)
        missing = (self._fixed or rows.num_rows) - rows.num_rows
        if missing:
            inputs = {
                name: np.concatenate((array, np.repeat(array[-1:], missing, axis=0)))
                for name, array in inputs.items()
            }
        outputs = self._runtime.run(inputs)
        return outputs[self._model.outputs[0].name][: rows.num_rows]

    def _answering(self, shape: tuple[int, ...]) -> tuple[Answers, Tally]:
        if self._answers is None:
            self._answers = Answers(self._data.manifest, self._model, shape)
        if self._place.tally is None:
            self._place.tally, self._place.shape = self._answers.begin(), list(shape)
        return self._answers, self._place.tally

    def _new_shard(self, split: str) -> Shard:
        number = len(_of_split(self._shards, split))
        return Shard(self._context.artifacts, f"{split}-{number:05}.parquet")

    def _is_due(self, shard: Shard) -> bool:
        """At a wish to stop, when the shard is large, and now and then."""
        if self._context.stop_requested is not None:
            return self._context.stop_requested is not StopReason.CANCEL
        pause_s = max(self._order.checkpoint_s, self._spent_s * _PAUSE_SHARE)
        return shard.size_bytes >= SHARD_BYTES or time.monotonic() - self._kept_at >= pause_s

    def _keep(self, shard: Shard) -> None:
        self._shards.append(shard.finish())
        self._place.spent_s = self._spent_s
        state: dict[str, Path | bytes | FileRef] = {kept.path: kept for kept in self._shards}
        state[_STATE] = msgspec.json.encode(self._place)
        self._context.checkpoint(self._place.done, state)
        self._kept_at = time.monotonic()

    @property
    def _spent_s(self) -> float:
        return self._spent_before_s + time.monotonic() - self._entered_at

    def _tell(self) -> None:
        rows = sum(split.rows for split in self._splits.values())
        took_s = max(time.monotonic() - self._entered_at, 1e-6)
        speed = (self._place.done - self._done_before) / took_s
        left_s = (rows - self._place.done) / max(speed, 1e-6)
        self._context.progress(
            "predicting",
            step=self._place.done,
            total_steps=rows,
            samples_per_s=speed,
            eta_s=left_s,
        )

    def _finish(self) -> MadeDataset:
        """`dataset.json`, and every file of the version."""
        answers, tally = self._answering(tuple(self._place.shape or ()))
        source = self._data.manifest
        manifest = DatasetManifest(
            features=answers.features,
            target=source.target,
            splits={
                name: Split(rows=split.rows, files=_of_split(self._shards, name))
                for name, split in self._splits.items()
            },
            statistics=answers.statistics(
                tally, is_whole=list(self._splits) == list(source.splits)
            ),
            preview=tally.preview,
            fingerprint=tally.digest,
            source=self._source(),
            licence=source.licence,
        )
        if tally.right is not None:
            self._context.note("accuracy", tally.right / self._place.done)
        described = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        described_file = self._context.artifacts.put_bytes(described, "dataset.json")
        return MadeDataset(manifest=manifest, files=[*self._shards, described_file])

    def _source(self) -> dict[str, Any]:
        names = self._context.spec.names
        data, model = names.get("data", {}), names.get("model", {})
        return {
            "reader": "predict-batch",
            "data": f"{data.get('name')}:{data.get('version')}",
            "data_fingerprint": self._data.manifest.fingerprint,
            "model": f"{model.get('name')}:{model.get('version')}",
            "split": self._order.split or "all",
        }


def _chosen(data: DatasetManifest, wanted: str | None) -> dict[str, Split]:
    """The parts to be read; raises `NotFound`, also where there is no row."""
    if wanted is not None and wanted not in data.splits:
        known = ", ".join(data.splits)
        raise NotFound(noun="split", name=wanted, remedy=f"The data set has: {known}.")
    chosen = {name: one for name, one in data.splits.items() if wanted in (None, name) and one.rows}
    if not chosen:
        raise NotFound(noun="row", name=wanted or "any split", remedy="Choose data that have rows.")
    return chosen


def _restore(context: JobContext) -> tuple[Place, list[FileRef]]:
    """Where the last checkpoint was; its shards stay where they are."""
    files = context.spec.checkpoint or []
    shards = [file for file in files if file.path != _STATE]
    for file in files:
        if file.path == _STATE:
            state = context.artifacts.read_bytes(file.digest)
            return msgspec.json.decode(state, type=Place), shards
    return Place(), []


def _of_split(shards: list[FileRef], split: str) -> list[str]:
    return [shard.path for shard in shards if shard.path.rpartition("-")[0] == split]
