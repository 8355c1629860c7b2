"""Tiny models with random weights, as Hugging Face folders; converted once, served in this process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from modelry.core.calls import TaskAnswer, TaskCall, pack, unpack
from modelry.core.manifests import ModelManifest
from modelry.worker.models.importing.huggingface.converting import convert_folder
from modelry.worker.models.importing.huggingface.settings import read_settings
from modelry.worker.models.runtimes import Runtime, load_runtime
from modelry.worker.tasks import open_task

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = [
    "Marie Curie worked in Paris and won two Nobel prizes.",
    "The ferry leaves at half past six; nobody expected rain.",
    "Ada Lovelace lived in London, near the river.",
    "Die Brücke über den Fluss wurde 1908 gebaut.",
    "Send the invoice again, it was not in the last message.",
]
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "initializer_range": 0.3,
}


@dataclass(eq=False)
class Served:
    """A converted folder: what a replica has in its hand."""

    manifest: ModelManifest
    folder: Path
    runtime: Runtime
    #: The folder it was converted from.
    source: Path

    def answer(self, inputs: Any = None, media: bytes = b"", **parameters: Any) -> TaskAnswer:
        """One call, run alone."""
        opened = open_task(pack(TaskCall(inputs=inputs, media=media, parameters=parameters)), self)
        return unpack(opened.finish(self.runtime.run(opened.inputs)), TaskAnswer)

    def value(self, inputs: Any = None, media: bytes = b"", **parameters: Any) -> Any:
        """The answer's value."""
        return self.answer(inputs, media, **parameters).value


def word_pieces() -> tokenizers.Tokenizer:
    """A lower-casing WordPiece tokenizer with BERT's template; always the same one."""
    return tokenizers.Tokenizer.from_str(_word_pieces())


@lru_cache
def _word_pieces() -> str:
    """Trained once on `TEXTS`: where pairs are equally frequent, another training chooses others."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.WordPieceTrainer(vocab_size=150, special_tokens=SPECIAL, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.decoder = decoders.WordPiece()
    text: str = tokenizer.to_str()
    return text


def byte_pairs() -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer with RoBERTa's template, trained on `TEXTS`."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save_tokenizer(folder: Path, family: str = "bert", length: int = 64) -> Any:
    """The trained tokenizer as transformers saves it; returns transformers' own."""
    if family == "roberta":
        named = {
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": "<mask>",
        }
        inner, names = byte_pairs(), ["input_ids", "attention_mask"]
    else:
        named = {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        }
        inner, names = word_pieces(), ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=length, model_input_names=names, **named
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_text_model(
    folder: Path, head: str, *, family: str = "bert", labels: list[str] | None = None, **more: Any
) -> Path:
    """A random encoder with this head (`SequenceClassification`, …) and its tokenizer."""
    tokenizer = save_tokenizer(folder, family)
    names = {"bert": "Bert", "roberta": "Roberta", "distilbert": "DistilBert", "mpnet": "MPNet"}
    sizes = {
        **_SIZES,
        "vocab_size": len(tokenizer),
        # RoBERTa's positions begin after the padding's.
        "max_position_embeddings": 66 if family == "roberta" else 64,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if family == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37}
    if labels is not None:
        sizes |= {
            "id2label": dict(enumerate(labels)),
            "label2id": {n: i for i, n in enumerate(labels)},
        }
    torch.manual_seed(0)
    config = getattr(transformers, f"{names[family]}Config")(**sizes, **more)
    kind = getattr(transformers, f"{names[family]}{head}")
    kind(config).eval().save_pretrained(folder)
    return folder


def served(source: Path, out: Path, task: str | None = None) -> Served:
    """The folder converted in this process."""
    out.mkdir(parents=True)
    manifest = convert_folder(read_settings(source, task), None, out, out.parent / "samples.npz")
    return Served(manifest, out, load_runtime(out, manifest, 1), source)
