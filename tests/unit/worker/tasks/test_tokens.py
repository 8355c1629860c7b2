"""Tokenizers from strangers: buckets change no answer, and no file or text brings a replica down."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from modelry.core.errors import InvalidInput, ModelUnloadable
from modelry.core.manifests import TensorSpec, TextInput
from modelry.worker.tasks.tokenizer_files import complaint
from modelry.worker.tasks.tokens import BUCKETS, Tokens, bucket
from tests.unit.worker.tasks.tiny import TEXTS, word_pieces

NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}


def load(folder: Path, text: str | None = None, **more: Any) -> Tokens:
    (folder / "t.json").write_text(word_pieces().to_str() if text is None else text)
    media = TextInput(tokenizer="t.json", max_length=40, inputs=NAMES, pad_id=7, **more)
    specs = [TensorSpec(name=name, dtype="int64", shape=[None, None]) for name in NAMES.values()]
    return Tokens(folder, media, specs)


def changed(**parts: Any) -> str:
    return json.dumps({**json.loads(word_pieces().to_str()), **parts})


@pytest.mark.parametrize("length", [1, 16, 17, 40, 500, 513, 1025])
def test_a_bucket_holds_the_row_and_is_one_of_few(length: int) -> None:
    size = bucket(length, 2048)
    assert size >= length
    assert size in BUCKETS or size % BUCKETS[-1] == 0
    assert bucket(length, length) == length


def test_rows_are_padded_at_their_end_and_masked_there(tmp_path: Path) -> None:
    tokens = load(tmp_path)
    encodings = [tokens.encode(text)[0] for text in ("ferry", TEXTS[1])]
    rows = tokens.rows(encodings)
    lengths = [len(each.ids) for each in encodings]
    assert {array.shape for array in rows.values()} == {(2, bucket(max(lengths), 40))}
    for at, length in enumerate(lengths):
        assert rows["attention_mask"][at].tolist() == [1] * length + [0] * (
            rows["input_ids"].shape[1] - length
        )
        assert rows["input_ids"][at, :length].tolist() == encodings[at].ids
        assert np.all(rows["input_ids"][at, length:] == 7)


def test_what_the_file_says_of_padding_and_cutting_is_not_followed(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    tokenizer.enable_padding(length=39)
    tokenizer.enable_truncation(5)
    tokens = load(tmp_path, tokenizer.to_str())
    assert len(tokens.encode("ferry")[0].ids) == len(word_pieces().encode("ferry").ids)
    assert len(tokens.encode(" ".join(TEXTS))[0].ids) == 40


def test_windows_overlap_by_the_stride_and_lose_no_token(tmp_path: Path) -> None:
    tokens = load(tmp_path)
    text = " ".join(TEXTS)
    windows = tokens.encode(text, stride=5)
    whole = word_pieces().encode(text).offsets[1:-1]
    seen = [offset for window in windows for offset in window.offsets[1:-1]]
    assert sorted(set(seen)) == sorted(set(whole))
    assert windows[0].offsets[-6:-1] == windows[1].offsets[1:6]


@pytest.mark.parametrize(
    "text", ["", "\x00", "\u202e\ufeff", "a" * 5000, "字" * 3000, "\U0001f600" * 400]
)
def test_strange_texts_become_rows_or_a_refusal(tmp_path: Path, text: str) -> None:
    tokens = load(tmp_path)
    assert tokens.rows(tokens.encode(text))["input_ids"].shape[1] <= 40


def test_texts_beyond_the_bounds_are_refused(tmp_path: Path) -> None:
    tokens = load(tmp_path)
    with pytest.raises(InvalidInput, match="characters"):
        tokens.encode("a" * 200_001)
    with pytest.raises(InvalidInput, match="texts"):
        tokens.rows(tokens.encode("a") * 2049)
    with pytest.raises(InvalidInput, match="tokens"):
        tokens.encode(TEXTS[0] * 9, cut=None)
    with pytest.raises(InvalidInput, match="stride"):
        tokens.encode(TEXTS[0], stride=38)


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        load(tmp_path).encode("\ud800")


def test_a_panic_of_the_library_is_this_texts_refusal(tmp_path: Path) -> None:
    tokens = load(tmp_path)
    # The question leaves room for two tokens of the context, and windows of two cannot overlap by five.
    with pytest.raises(InvalidInput, match="tokenizer fails"):
        tokens.encode("ferry " * 20, "ferry " * 30, cut="only_second", limit=25, stride=5)
    assert tokens.encode("ferry")


BOMB = [{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}] * 20
CHARSMAP = base64.b64encode((0).to_bytes(4, "little") + b"x\0" + b"y" * 500 + b"\0").decode()
HOSTILE = {
    "empty": "",
    "no JSON": "{",
    "a list": "[]",
    "another file": '{"a": 1}',
    "nested": "[" * 100_000,
    "no model": '{"model": {}}',
    "unknown model": '{"model": {"type": "Evil"}}',
    "growing": changed(normalizer={"type": "Sequence", "normalizers": BOMB}),
    "growing by one": changed(
        normalizer={"type": "Replace", "pattern": {"Regex": "."}, "content": "b" * 400}
    ),
    "growing by a table": changed(
        normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP}
    ),
    "many steps": changed(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}] * 500}
    ),
    "a broken pattern": changed(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "("},
            "behavior": "Removed",
            "invert": False,
        }
    ),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_cannot_be_loaded_and_say_why(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelUnloadable, match=r"t\.json"):
        load(tmp_path, text)


def test_a_file_that_is_not_there_or_too_large_is_no_tokenizer(tmp_path: Path) -> None:
    media = TextInput(tokenizer="none.json", max_length=8, inputs=NAMES)
    with pytest.raises(ModelUnloadable, match="absent"):
        Tokens(tmp_path, media, [])
    with (tmp_path / "none.json").open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(ModelUnloadable, match="absent or over"):
        Tokens(tmp_path, media, [])


@pytest.mark.data
def test_real_vocabularies_are_no_cause_for_complaint(shared_data: Path) -> None:
    vocabulary = (
        (shared_data / "tokenizers" / "bert-base-uncased-vocab.txt").read_text().splitlines()
    )
    known = {word: index for index, word in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(known, unk_token="[UNK]"))
    assert complaint(tokenizer.to_str().encode()) is None
