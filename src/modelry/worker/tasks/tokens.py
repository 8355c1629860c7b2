"""Text → tokens → rows of a model's tensor inputs, padded to a few lengths so that different texts share a batch.

The tokenizer comes from the package and so from a stranger: its file is looked at before the library sees it, and
whatever the library does with it, a panic among that, becomes an error of this model or of this request alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from modelry.core.errors import InvalidInput, ModelUnloadable
from modelry.core.manifests import TensorSpec, TextInput
from modelry.core.tensors import Array
from modelry.worker.tasks.opening import TaskModel
from modelry.worker.tasks.tokenizer_files import MAX_BYTES, complaint

#: Lengths that rows are padded to; longer ones to a multiple of the last.
BUCKETS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512)
#: Characters of one text, and texts or windows of one call.
LONGEST_TEXT, MOST_ROWS = 200_000, 2048

Cut = Literal["longest_first", "only_first", "only_second"]

_known: WeakKeyDictionary[TaskModel, Tokens] = WeakKeyDictionary()


def tokenizer_of(model: TaskModel) -> Tokens:
    """The model's tokenizer, loaded once; raises `ModelUnloadable`."""
    if model not in _known:
        media = model.manifest.media
        assert isinstance(media, TextInput)
        _known[model] = Tokens(model.folder, media, model.manifest.inputs)
    return _known[model]


def bucket(length: int, longest: int) -> int:
    """The length a row of so many tokens is padded to; never more than the model takes, never less than asked."""
    step = BUCKETS[-1]
    wanted = next((size for size in BUCKETS if size >= length), -(-length // step) * step)
    return max(length, min(wanted, longest))


class Tokens:
    """A package's tokenizer. One thread at a time: how texts are cut is a state of the library's object."""

    def __init__(self, folder: Path, media: TextInput, inputs: list[TensorSpec]) -> None:
        self.media = media
        self._inputs = {spec.name: spec for spec in inputs}
        self._tokenizer = _load(folder / media.tokenizer)

    @property
    def special_tokens(self) -> dict[int, str]:
        """Tokens beside the vocabulary's own, by id."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {index: token.content for index, token in added.items() if token.special}

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        cut: Cut | None = "longest_first",
        limit: int | None = None,
        stride: int | None = None,
        special: bool = True,
    ) -> list[Any]:
        """The library's encodings: one, or with a `stride` as many windows, overlapping by it, as the text needs.

        `cut` says what is left out beyond `limit` tokens (the model's own if None); with None a longer text is
        refused. Raises `InvalidInput`.
        """
        for part in (text, pair or ""):
            if len(part) > LONGEST_TEXT:
                raise InvalidInput(
                    reason=f"a text has {len(part)} characters", expected=f"at most {LONGEST_TEXT}"
                )
        longest = min(limit or self.media.max_length, self.media.max_length)
        with self._guarded():
            self._set_cut(cut, longest, stride or 0, is_pair=pair is not None)
            encoding = self._tokenizer.encode(text, pair, add_special_tokens=special)
        windows = [encoding, *(() if stride is None else encoding.overflowing)]
        if len(encoding.ids) > longest:
            raise InvalidInput(
                reason=f"a text has {len(encoding.ids)} tokens",
                expected=f"at most {longest} tokens",
            )
        return windows

    def rows(self, encodings: Sequence[Any]) -> dict[str, Array]:
        """The model's inputs, a row for each encoding, all padded at the end to one bucket; raises `InvalidInput`."""
        if not encodings or len(encodings) > MOST_ROWS:
            raise InvalidInput(
                reason=f"it has {len(encodings)} texts or parts of texts",
                expected=f"1 to {MOST_ROWS} of them",
            )
        takes_empty = bool(self.media.options.get("takes_empty"))
        if not takes_empty and not all(encoding.ids for encoding in encodings):
            raise InvalidInput(reason="a text has no tokens", expected="texts with a word at least")
        longest = max(1, *(len(encoding.ids) for encoding in encodings))
        width = bucket(longest, self.media.max_length)
        roles = {
            "ids": ([encoding.ids for encoding in encodings], self.media.pad_id),
            "mask": ([[1] * len(encoding.ids) for encoding in encodings], 0),
            "types": ([encoding.type_ids for encoding in encodings], 0),
        }
        return {
            name: _padded(*roles[role], width, self._inputs[name].dtype)
            for role, name in self.media.inputs.items()
        }

    def example(self) -> dict[str, Array]:
        """A row to try the model and its tokenizer on; raises `ModelUnloadable`."""
        try:
            return self.rows(self.encode("One word, 1 number and 字."))
        except InvalidInput as error:
            raise ModelUnloadable(reason=f"its tokenizer fails: {error.message}") from None

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of tokens."""
        with self._guarded():
            text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def join(self, tokens: Sequence[str]) -> str:
        """The text of tokens that are given by their names."""
        decoder = self._tokenizer.decoder
        if decoder is None:
            return " ".join(tokens)
        with self._guarded():
            text: str = decoder.decode(list(tokens))
        return text

    def token(self, index: int) -> str | None:
        """The name of a token."""
        found: str | None = self._tokenizer.id_to_token(index)
        return found

    def find(self, token: str) -> int | None:
        """The id of a token, or None where the vocabulary lacks it."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    @property
    def knows_words(self) -> bool:
        """Whether tokens inside a word are marked, so that words can be put together again."""
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))

    @property
    def unknown_id(self) -> int | None:
        """The token for what the vocabulary lacks."""
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        return None if unknown is None else self.find(unknown)

    def _set_cut(self, cut: Cut | None, longest: int, stride: int, *, is_pair: bool) -> None:
        if cut is None:
            self._tokenizer.no_truncation()
            return
        room = longest - self._tokenizer.num_special_tokens_to_add(is_pair)
        if not 0 <= stride < room:
            raise InvalidInput(
                reason=f"windows of {longest} tokens cannot overlap by {stride}",
                expected=f"a stride under {max(room, 1)}",
            )
        self._tokenizer.enable_truncation(longest, stride=stride, strategy=cut)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Whatever the library raises, panics among that, is about this text."""
        try:
            yield
        except InvalidInput:
            raise
        except BaseException as error:
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            raise InvalidInput(
                reason=f"the tokenizer fails ({_first_line(error)})",
                expected="a shorter or plain text",
            ) from None


def _load(file: Path) -> Any:
    """The library's tokenizer; raises `ModelUnloadable`."""
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        raise ModelUnloadable(reason=f"{file.name} is absent or over {MAX_BYTES >> 20} MiB")
    data = file.read_bytes()
    if (reason := complaint(data)) is not None:
        raise ModelUnloadable(reason=f"{file.name} {reason}")
    # Threads of the library's pool would not survive a fork, and the cores belong to the runtime.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_buffer(data)
        tokenizer.no_padding()
        tokenizer.no_truncation()
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        raise ModelUnloadable(reason=f"{file.name}: {_first_line(error)}") from None
    return tokenizer


def _padded(rows: Sequence[Sequence[int]], fill: int, width: int, dtype: str) -> Array:
    padded = np.full((len(rows), width), fill, dtype=dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded


def _is_panic(error: BaseException) -> bool:
    """Rust's panics come as a class of their own, beside `Exception`."""
    return type(error).__name__ == "PanicException"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
