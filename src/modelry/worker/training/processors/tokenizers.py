"""Tokenizers that are trained on a data set's own texts, with Hugging Face's library and in its format."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Threads of the library's pool would not be the job's.
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

#: In the order of their numbers, see `recipes/tokens.py`.
SPECIAL = ("[PAD]", "[UNK]")


def train_tokenizer(texts: Sequence[str], kind: str, vocabulary: int) -> Any:
    """Of a kind (`words`, `pieces`, `characters`), with so many tokens at most; the same texts give the same one."""
    make = {"words": _words, "pieces": _pieces, "characters": _characters}[kind]
    tokenizer, trainer = make(vocabulary)
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    described = json.loads(tokenizer.to_str())
    # They stay in the vocabulary; who writes "[PAD]" in a text means these letters.
    described["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(described))


def load_tokenizer(file: Path) -> Any:
    """One that was trained before."""
    return Tokenizer.from_file(str(file))


def _words(vocabulary: int) -> tuple[Any, Any]:
    """Lower-case words, and each mark between them."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )


def _pieces(vocabulary: int) -> tuple[Any, Any]:
    """Byte pairs (Sennrich and others, 2016): nothing is unknown, rare words fall into pieces."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def _characters(vocabulary: int) -> tuple[Any, Any]:
    """Each character by itself, spaces too."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer, trainers.WordLevelTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
