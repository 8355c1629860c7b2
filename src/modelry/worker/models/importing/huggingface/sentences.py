"""What a sentence-transformers folder says of its embeddings: pooling, length 1, prompts, similarity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelry.core.errors import NotConvertible
from modelry.worker.models.importing.huggingface.settings import Settings, read_optional

_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}
_REMEDY = "Choose a model that pools by mean, maximum or first token."


def sentence_options(settings: Settings) -> dict[str, Any]:
    """`pooling`, `normalize`, `prompts`, `default_prompt`, `similarity` and `max_length`, as far as they are said.

    A plain encoder pools by mean and leaves its vectors as they are. Raises `NotConvertible` for other modules.
    """
    options: dict[str, Any] = {"pooling": "mean", "normalize": False}
    if not settings.modules:
        return options
    for module in settings.modules[1:]:
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Pooling":
            options["pooling"] = _pooling(settings.folder / str(module.get("path", "")))
        elif kind == "Normalize":
            options["normalize"] = True
        else:
            raise NotConvertible(
                reason=f"its module {kind or 'without a type'} is not known", remedy=_REMEDY
            )
    return options | _own(settings)


def _pooling(folder: Path) -> str:
    config = read_optional(folder / "config.json") or {}
    chosen = [
        name for name, value in config.items() if name.startswith("pooling_mode_") and value is True
    ]
    if isinstance(config.get("pooling_mode"), str):
        chosen = [
            f"pooling_mode_{config['pooling_mode']}_tokens".replace("cls_tokens", "cls_token")
        ]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise NotConvertible(
            reason=f"it pools by {', '.join(chosen) or 'nothing known'}", remedy=_REMEDY
        )
    return _POOLINGS[chosen[0]]


def _own(settings: Settings) -> dict[str, Any]:
    """Of the files beside the modules."""
    options: dict[str, Any] = {}
    more = read_optional(settings.folder / "config_sentence_transformers.json") or {}
    prompts = {name: text for name, text in (more.get("prompts") or {}).items() if text}
    if prompts:
        options["prompts"] = prompts
    if more.get("default_prompt_name") in prompts:
        options["default_prompt"] = more["default_prompt_name"]
    similarity = more.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise NotConvertible(reason=f"it compares by {similarity}", remedy=_REMEDY)
    options["similarity"] = similarity
    limits = read_optional(settings.weights_folder / "sentence_bert_config.json") or {}
    if limits.get("do_lower_case"):
        raise NotConvertible(
            reason="it makes texts lower-case outside of its tokenizer",
            remedy="Save it with a tokenizer that does so itself.",
        )
    if isinstance(limits.get("max_seq_length"), int):
        options["max_length"] = limits["max_seq_length"]
    return options
