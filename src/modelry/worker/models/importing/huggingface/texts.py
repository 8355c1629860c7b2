"""Texts before a network: the tokenizer as one file, its limits, and samples of many lengths.

The file is believed when it makes the same tokens of a few sentences as the library's tokenizer does.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelry.core.errors import ModelryError, NotConvertible
from modelry.core.manifests import TensorSpec, TextInput
from modelry.core.tensors import Array
from modelry.worker.models.importing.base import EXPORT_TO_ONNX
from modelry.worker.models.importing.comparing import Case
from modelry.worker.models.importing.huggingface.front import Front
from modelry.worker.models.importing.huggingface.loading import not_convertible
from modelry.worker.models.importing.huggingface.sentences import sentence_options
from modelry.worker.models.importing.huggingface.settings import Settings
from modelry.worker.tasks.tokens import BUCKETS, Tokens

TOKENIZER = "tokenizer.json"
#: What attention takes grows with the square of the length: longer texts are cut.
LONGEST = 2048
_DEFAULT_LENGTH = 512
#: The role of each argument, in the order of the graph's inputs.
_ROLES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
_SENTENCES = (
    "The ferry leaves at half past six.",
    "Could you send me the invoice again? It was not in the last e-mail, dated 14 March 2024.",
    "Die Brücke über den Fluss wurde 1908 gebaut.",
    "这座桥建于一九零八年，至今仍在使用。",
    "Nobody expected rain.",
    "Marie Curie worked in Paris; Ada Lovelace lived in London, and both changed how we think.",
    "ok",
    "Прошлым летом мы ездили к морю.",
)
#: One of these a tokenizer is made of.
_VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_QUESTION = "Who worked in Paris?"


def text_front(settings: Settings, model: Any, out: Path) -> Front:
    """Writes the tokenizer to `out`; raises `NotConvertible`."""
    library = _load_tokenizer(settings)
    arguments = _arguments(library, model)
    roles = {role: name for role, name in _ROLES.items() if name in arguments}
    try:
        library.backend_tokenizer.save(str(out / TOKENIZER))
    except Exception as error:
        raise not_convertible(error, "its tokenizer cannot be written") from None
    media = TextInput(
        tokenizer=TOKENIZER,
        max_length=_max_length(settings, library, model),
        inputs=roles,
        pad_id=library.pad_token_id or 0,
        options=_options(settings, library, model),
    )
    inputs = [
        TensorSpec(name=name, dtype="int64", shape=[None, None], example=[BUCKETS[0]])
        for name in roles.values()
    ]
    tokens = _checked(out, media, inputs, library)
    return Front(media, inputs, _cases(tokens, settings.task, inputs))


def _load_tokenizer(settings: Settings) -> Any:
    import transformers

    # Without any of its files the library makes up a tokenizer that knows no word.
    places = [settings.weights_folder, settings.folder]
    place = next(
        (each for each in places if any((each / name).is_file() for name in _VOCABULARIES)), None
    )
    if place is None:
        raise NotConvertible(
            reason="there is no tokenizer in its folder",
            remedy="Save it beside the model: `tokenizer.save_pretrained(folder)`.",
        )
    try:
        library = transformers.AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # Tokenizers raise whatever their parsers do.
        raise not_convertible(error, "its tokenizer cannot be loaded") from None
    if not getattr(library, "is_fast", False):
        raise NotConvertible(
            reason="its tokenizer has no fast form (tokenizer.json)",
            remedy=f"Save it with a fast tokenizer: `PreTrainedTokenizerFast`. {EXPORT_TO_ONNX}",
        )
    return library


def _arguments(library: Any, model: Any) -> list[str]:
    """What both the tokenizer makes and the network takes."""
    taken = inspect.signature(model.forward).parameters
    made = ["input_ids", "attention_mask"]
    if "token_type_ids" in library.model_input_names:
        made.append("token_type_ids")
    return [name for name in made if name in taken]


def _max_length(settings: Settings, library: Any, model: Any) -> int:
    """The smallest of what tokenizer, positions and sentence settings allow."""
    known = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for name, table in model.named_modules()
        if isinstance(table, torch.nn.Embedding) and name.endswith("position_embeddings")
    ]
    # A tokenizer that knows no limit says so with an astronomic number.
    if library.model_max_length < 1 << 30:
        known.append(int(library.model_max_length))
    if (given := sentence_options(settings).get("max_length")) is not None:
        known.append(int(given))
    return min([*known, LONGEST]) if known else _DEFAULT_LENGTH


def _options(settings: Settings, library: Any, model: Any) -> dict[str, Any]:
    match settings.task:
        case "fill-mask":
            if library.mask_token_id is None:
                raise NotConvertible(reason="its tokenizer has no token for a mask")
            return {"mask_token_id": int(library.mask_token_id)}
        case "zero-shot-classification":
            return {"entailment_id": _entailment(model.config.id2label)}
        case "question-answering":
            cls = library.cls_token_id
            return {} if cls is None else {"cls_token_id": int(cls)}
        case "feature-extraction" | "sentence-similarity":
            options = sentence_options(settings)
            options.pop("max_length", None)
            return options
    return {}


def _entailment(labels: dict[int, str]) -> int:
    for index, label in labels.items():
        if str(label).lower().startswith("entail"):
            return int(index)
    raise NotConvertible(
        reason="none of its labels is 'entailment', so it judges no hypotheses",
        remedy="Import it as text-classification, or choose a model of natural language inference.",
    )


def _checked(out: Path, media: TextInput, inputs: list[TensorSpec], library: Any) -> Tokens:
    """The tokenizer as it will serve; raises `NotConvertible` where it reads a sentence in another way."""
    try:
        tokens = Tokens(out, media, inputs)
        tokens.example()
        for text in _SENTENCES:
            for pair in (None, _QUESTION):
                _compare(tokens, library, text, pair)
    except NotConvertible:
        raise
    except ModelryError as error:
        raise NotConvertible(reason=error.message.rstrip(".")) from None
    return tokens


def _compare(tokens: Tokens, library: Any, text: str, pair: str | None) -> None:
    longest = tokens.media.max_length
    ours = tokens.encode(text, pair, cut="longest_first")[0]
    theirs = library(text, pair, truncation="longest_first", max_length=longest)
    same = ours.ids == theirs["input_ids"]
    if same and "types" in tokens.media.inputs:
        same = ours.type_ids == theirs["token_type_ids"]
    if not same:
        raise NotConvertible(reason="its tokenizer does more than its tokenizer.json says")


def _cases(tokens: Tokens, task: str, inputs: list[TensorSpec]) -> list[Case]:
    """Two texts, one, all of them, and one as long as may be."""
    every = [_encode(tokens, task, text) for text in _SENTENCES]
    long = _encode(tokens, task, " ".join(_SENTENCES * 60))
    batches = [every[:2], every[2:3], every, [long]]
    return [_case(tokens, batch, inputs) for batch in batches]


def _encode(tokens: Tokens, task: str, text: str) -> Any:
    if task == "question-answering":
        return tokens.encode(_QUESTION, text, cut="only_second")[0]
    if task == "zero-shot-classification":
        return tokens.encode(text, "This is a test.", cut="only_first")[0]
    if task == "fill-mask":
        mask = tokens.token(tokens.media.options["mask_token_id"])
        return tokens.encode(f"{mask} {text}")[0]
    return tokens.encode(text)[0]


def _case(tokens: Tokens, encodings: list[Any], inputs: list[TensorSpec]) -> Case:
    return Case(tokens.rows(encodings), [_alone(tokens, each) for each in encodings])


def _alone(tokens: Tokens, encoding: Any) -> dict[str, Array]:
    values = {"ids": encoding.ids, "mask": [1] * len(encoding.ids), "types": encoding.type_ids}
    return {name: np.array([values[role]], np.int64) for role, name in tokens.media.inputs.items()}
