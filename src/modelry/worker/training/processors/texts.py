"""Texts: a tokenizer is trained on the training split (or taken from the start), and goes into the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.learning import Lesson
from modelry.core.manifests import TextInput
from modelry.worker.data.reading import OpenDataset
from modelry.worker.recipes.network import Network
from modelry.worker.recipes.tokens import PADDING
from modelry.worker.training.processors import Start
from modelry.worker.training.processors.targets import read_targets
from modelry.worker.training.processors.tokenizers import load_tokenizer, train_tokenizer
from modelry.worker.training.samples import RaggedSamples, Samples

TOKENIZER = "tokenizer.json"
_TEXTS_AT_ONCE = 4096


class TextProcessor:
    """See `Processor`."""

    task = "text-classification"

    def __init__(
        self, lesson: Lesson, data: OpenDataset, params: Mapping[str, Any], start: Start | None
    ) -> None:
        self._lesson, self._data = lesson, data
        self._longest = int(params["max_length"])
        if start is not None and isinstance(start.manifest.media, TextInput):
            self._tokenizer = load_tokenizer(start.folder / start.manifest.media.tokenizer)
        else:
            self._tokenizer = train_tokenizer(
                self._texts("train"), params["tokenizer"], params["vocabulary"]
            )
        self._tokenizer.enable_truncation(self._longest)
        self.sizes: dict[str, Any] = {"tokens": self._tokenizer.get_vocab_size()}

    def samples(self, split: str, network: Network) -> Samples:
        texts = self._texts(split)
        ids: list[int] = []
        ends = [0]
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            for encoding in self._tokenizer.encode_batch(texts[start : start + _TEXTS_AT_ONCE]):
                ids += encoding.ids
                ends.append(len(ids))
        return RaggedSamples(
            torch.from_numpy(np.array(ids, np.int64)),
            torch.tensor(ends),
            read_targets(self._data, split, self._lesson),
            fill=PADDING,
        )

    def settle(self, network: Network) -> None:
        """Tokens need no scale."""

    def media(self, network: Network) -> TextInput:
        return TextInput(
            tokenizer=TOKENIZER,
            max_length=self._longest,
            inputs={"ids": network.input_name},
            pad_id=PADDING,
            # The networks know what a text without a token is, and were measured on such ones, too.
            options={"takes_empty": True},
        )

    def write(self, folder: Path) -> None:
        self._tokenizer.no_truncation()
        (folder / TOKENIZER).write_text(self._tokenizer.to_str(pretty=True), encoding="utf-8")
        self._tokenizer.enable_truncation(self._longest)

    def _texts(self, split: str) -> list[str]:
        texts: list[str] = self._data.table(split, self._lesson.columns).column(0).to_pylist()
        return texts
