"""The first walk over a draft: every row is checked, counted and digested before anything is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from modelry.core.manifests import Feature
from modelry.worker.data.labelling import index_labels
from modelry.worker.data.parts import Draft, Part, check_alike
from modelry.worker.data.picturing import Array
from modelry.worker.data.splitting import digest_order, draw_test
from modelry.worker.data.statistics import Statistics

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


def examine(draft: Draft, test_share: float, tick: Tick) -> Examined:
    """Checks everything and decides the splits; raises `InvalidData`."""
    check_alike(draft.parts)
    labelled = index_labels(draft.parts)
    names, indices = labelled or ([], {})
    statistics = Statistics()
    digests = _digest_rows(draft, statistics, tick)
    for labels in indices.values():
        statistics.add_counts(draft.target, names, np.bincount(labels, minlength=len(names)))
    splits = _select(draft, indices, digests, test_share)
    features = dict(draft.parts["train"].content.features)
    if labelled:
        features[draft.target] = Feature(kind="label", dtype="int64", labels=names)
    return Examined(
        features=features,
        target=draft.target if labelled else None,
        splits=splits,
        statistics=statistics.result(),
        fingerprint=_fingerprint(features, splits),
    )


def batch_rows(row_bytes: int) -> int:
    """How many rows of this size make a batch."""
    return max(1, BATCH_BYTES // max(1, row_bytes))


def _digest_rows(draft: Draft, statistics: Statistics, tick: Tick) -> dict[str, Array]:
    total = sum(part.content.rows for part in draft.parts.values())
    done, digests = 0, {}
    for name, part in draft.parts.items():
        content = part.content
        found = np.empty((content.rows, 4), np.uint64)
        # Opening and decoding dominate for files: small steps keep progress and cancelling prompt.
        step = batch_rows(content.row_bytes) if content.is_ordered else 64
        for start in range(0, content.rows, step):
            stop = min(start + step, content.rows)
            batch = b"".join(content.examine(start, stop, statistics))
            found[start:stop] = np.frombuffer(batch, ">u8").reshape(-1, 4)
            tick(done + stop, total)
        done += content.rows
        digests[name] = found
    return digests


def _select(
    draft: Draft, labels: dict[str, Array], digests: dict[str, Array], test_share: float
) -> dict[str, Selection]:
    splits: dict[str, Selection] = {}
    for name, part in draft.parts.items():
        order = _order(part, digests[name], labels.get(name))
        splits[name] = _choose(part, order, labels.get(name), digests[name])
    if "test" not in splits:
        whole = splits["train"]
        is_test = draw_test(whole.digests, whole.labels, test_share, whole.part.file)
        chosen = {"train": whole.indices[~is_test], "test": whole.indices[is_test]}
        for name, indices in chosen.items():
            if len(indices):
                splits[name] = _choose(whole.part, indices, labels.get("train"), digests["train"])
    return splits


def _order(part: Part, digests: Array, labels: Array | None) -> Array:
    if part.content.is_ordered:
        return np.arange(part.content.rows)
    by_label = np.arange(len(digests)) if labels is None else np.argsort(labels, kind="stable")
    return np.asarray(by_label[digest_order(digests[by_label])])


def _choose(part: Part, indices: Array, labels: Array | None, digests: Array) -> Selection:
    chosen = None if labels is None else labels[indices]
    return Selection(part=part, indices=indices, labels=chosen, digests=digests[indices])


def _fingerprint(features: dict[str, Feature], splits: dict[str, Selection]) -> str:
    described = {name: msgspec.to_builtins(feature) for name, feature in features.items()}
    mark = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(splits):
        split = splits[name]
        mark.update(f"\n{name} {len(split.indices)}\n".encode())
        mark.update(split.digests.astype(">u8").tobytes())
        if split.labels is not None:
            mark.update(split.labels.astype("<i8").tobytes())
    return mark.hexdigest()
