"""The first walk over a draft: every row is checked, counted and digested before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelry.core.manifests import Feature, fingerprinted
from modelry.worker.data.labelling import index_labels
from modelry.worker.data.parts import Draft, Part, check_alike
from modelry.worker.data.picturing import Array
from modelry.worker.data.splitting import digest_order, draw_test, take_last
from modelry.worker.data.statistics import Statistics
from modelry.worker.data.tasks import check_task, infer_task

#: Rows are examined and written in batches of about this size.
BATCH_BYTES = 4 << 20

#: Called with rows done and rows in all; raises to end the work.
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Selection:
    """Chosen rows of one part, in the order they are to be written."""

    part: Part
    indices: Array
    #: Indices into the label names, one per chosen row.
    labels: Array | None
    #: SHA-256 of each chosen row's inputs, as four words.
    digests: Array


@dataclass(frozen=True)
class Examined:
    """A source that was found good."""

    features: dict[str, Feature]
    target: str | None
    splits: dict[str, Selection]
    statistics: dict[str, dict[str, Any]]
    fingerprint: str
    task: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class _Digests:
    """SHA-256 of each row of a part, as four words: of all it holds, and of what decides its side of a drawn split."""

    rows: Array
    keys: Array


def examine(
    draft: Draft, test_share: float, tick: Tick, wanted_task: str | None = None
) -> Examined:
    """Checks everything and decides the splits and the task; raises `InvalidData`."""
    check_alike(draft.parts)
    labelled = index_labels(draft.parts)
    names, indices = labelled or ([], {})
    features = _features(draft, names if labelled else None)
    target = draft.target if draft.target in features else None
    if wanted_task is not None:
        check_task(wanted_task, features, target, draft.parts["train"].file)
    statistics = Statistics()
    digests = _digest_rows(draft, statistics, tick)
    for labels in indices.values():
        statistics.add_counts(draft.target, names, np.bincount(labels, minlength=len(names)))
    splits = _select(draft, indices, digests, test_share)
    # Once more: what all recordings agree on is known after the walk.
    features = _features(draft, names if labelled else None)
    found_task = draft.task or infer_task(features, target, in_time=draft.is_in_time)
    figures = statistics.result()
    if draft.time is not None:
        figures[draft.time.name] = {"minimum": draft.time.minimum, "maximum": draft.time.maximum}
    told = _told(draft, features, target, None if wanted_task == found_task else wanted_task)
    return Examined(
        features=features,
        target=target,
        splits=splits,
        statistics=figures,
        fingerprint=_fingerprint(features, splits, told),
        task=wanted_task or found_task,
        time=draft.time.name if draft.time else None,
    )


def _features(draft: Draft, labels: list[str] | None) -> dict[str, Feature]:
    features = dict(draft.parts["train"].content.features)
    if labels is not None:
        features[draft.target] = Feature(kind="label", dtype="int64", labels=labels)
    return features


def batch_rows(row_bytes: int) -> int:
    """How many rows of this size make a batch."""
    return max(1, BATCH_BYTES // max(1, row_bytes))


def _digest_rows(draft: Draft, statistics: Statistics, tick: Tick) -> dict[str, _Digests]:
    total = sum(part.content.rows for part in draft.parts.values())
    done, digests = 0, {}
    for name, part in draft.parts.items():
        content = part.content
        found = np.empty((content.rows, 4), np.uint64)
        keys = found if part.keys is None else np.empty_like(found)
        # Opening and decoding dominate for files: small steps keep progress and cancelling prompt.
        step = batch_rows(content.row_bytes) if content.is_ordered else 64
        for start in range(0, content.rows, step):
            stop = min(start + step, content.rows)
            found[start:stop] = _words(content.examine(start, stop, statistics))
            if part.keys is not None:
                keys[start:stop] = _words(part.keys(start, stop))
            tick(done + stop, total)
        done += content.rows
        digests[name] = _Digests(found, keys)
    return digests


def _words(digests: list[bytes]) -> Array:
    return np.frombuffer(b"".join(digests), ">u8").reshape(-1, 4)


def _select(
    draft: Draft, labels: dict[str, Array], digests: dict[str, _Digests], test_share: float
) -> dict[str, Selection]:
    splits: dict[str, Selection] = {}
    for name, part in draft.parts.items():
        order = _order(part, digests[name].rows, labels.get(name))
        splits[name] = _choose(part, order, labels.get(name), digests[name].rows)
    if "test" not in splits:
        whole, found = splits["train"], digests["train"]
        if draft.is_in_time:
            is_test = take_last(len(whole.indices), test_share, whole.part.file)
        else:
            keys = found.keys[whole.indices]
            is_test = draw_test(keys, whole.labels, test_share, whole.part.file)
        chosen = {"train": whole.indices[~is_test], "test": whole.indices[is_test]}
        for name, indices in chosen.items():
            if len(indices):
                splits[name] = _choose(whole.part, indices, labels.get("train"), found.rows)
    return splits


def _order(part: Part, digests: Array, labels: Array | None) -> Array:
    if part.content.is_ordered:
        return np.arange(part.content.rows)
    by_label = np.arange(len(digests)) if labels is None else np.argsort(labels, kind="stable")
    return np.asarray(by_label[digest_order(digests[by_label])])


def _choose(part: Part, indices: Array, labels: Array | None, digests: Array) -> Selection:
    chosen = None if labels is None else labels[indices]
    return Selection(part=part, indices=indices, labels=chosen, digests=digests[indices])


def _told(
    draft: Draft, features: dict[str, Feature], target: str | None, task: str | None
) -> dict[str, Any]:
    """What makes equal columns another data set: the target that is no label, the time, a task of another name."""
    is_label = target is not None and features[target].kind == "label"
    told = {
        "target": None if is_label else target,
        "time": draft.time.name if draft.time else None,
        "in_time": draft.is_in_time or None,
        "task": task,
    }
    return {name: value for name, value in told.items() if value is not None}


def _fingerprint(
    features: dict[str, Feature], splits: dict[str, Selection], told: dict[str, Any]
) -> str:
    described = {name: fingerprinted(feature) for name, feature in features.items()}
    mark = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    if told:
        mark.update(json.dumps(told, sort_keys=True).encode())
    for name in sorted(splits):
        split = splits[name]
        mark.update(f"\n{name} {len(split.indices)}\n".encode())
        mark.update(split.digests.astype(">u8").tobytes())
        if split.labels is not None:
            mark.update(split.labels.astype("<i8").tobytes())
    return mark.hexdigest()
