"""The original: weights from safetensors into the library's own network, on the processor, in float32.

Nothing is fetched and no code but the library's is run. Weights that are missing would be random numbers: refused.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch

from modelry.core.errors import NotConvertible
from modelry.worker.models.importing.huggingface.settings import Settings

_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "zero-shot-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
    "feature-extraction": "AutoModel",
    "sentence-similarity": "AutoModel",
    "image-classification": "AutoModelForImageClassification",
    "audio-classification": "AutoModelForAudioClassification",
}
#: Bytes of a graph that ONNX keeps in one file.
_MAX_BYTES = (2 << 30) - (64 << 20)
_FREE_BYTES = 64 << 20
#: Weights in half precision, or shared ones that are stored once, grow when they are loaded.
_MOST_GROWTH = 8
_REMEDY = "Export it to ONNX with `optimum-cli export onnx` and import that file."


def load_original(settings: Settings) -> Any:
    """The network, ready to predict; raises `NotConvertible`."""
    transformers: Any = importlib.import_module("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    auto = getattr(transformers, _CLASSES[settings.task])
    _check_size(settings, auto, transformers)
    try:
        model, told = _from_folder(auto, settings)
    except (
        ImportError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        AttributeError,
    ) as error:
        raise not_convertible(error, "it cannot be loaded") from None
    missing = [name for name in told.get("missing_keys", ()) if not _is_unused(name, settings)]
    if missing:
        raise NotConvertible(
            reason=f"its files lack the weights {_few(missing)}, so it was not trained for {settings.task}",
            remedy="Import it for the task it was trained for (leave --task away), or train it first.",
        )
    return model.eval().requires_grad_(False)


def not_convertible(error: Exception, what: str) -> NotConvertible:
    """What a library raised, in one line, with the way out."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = (lines or [type(error).__name__])[0].rstrip(".")
    return NotConvertible(reason=f"{what}: {reason[:300]}", remedy=_REMEDY)


def _from_folder(auto: Any, settings: Settings) -> tuple[Any, dict[str, Any]]:
    """The network and what its loading told; networks of only one kind of attention take no choice of it."""
    options: dict[str, Any] = {
        "local_files_only": True,
        "trust_remote_code": False,
        "use_safetensors": True,
        "output_loading_info": True,
        "dtype": torch.float32,
    }
    place = str(settings.weights_folder)
    try:
        return auto.from_pretrained(place, attn_implementation="eager", **options)  # type: ignore[no-any-return]
    except ValueError as error:
        if "attention" not in str(error).lower():
            raise
        return auto.from_pretrained(place, **options)  # type: ignore[no-any-return]


def _check_size(settings: Settings, auto: Any, transformers: Any) -> None:
    """Raises `NotConvertible` where the settings make a network that the weights at hand cannot fill."""
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(settings.weights_folder), local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            empty = auto.from_config(config, trust_remote_code=False)
    except (
        ImportError,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        AttributeError,
    ) as error:
        raise not_convertible(error, f"no {settings.task} is known for it") from None
    wanted = 4 * sum(parameter.numel() for parameter in empty.parameters())
    here = sum(file.stat().st_size for file in settings.weights_folder.glob("*.safetensors"))
    if wanted > _MAX_BYTES:
        raise NotConvertible(
            reason=f"its weights take {wanted >> 20} MiB, and one ONNX file holds {_MAX_BYTES >> 20}",
            remedy="Choose a smaller model.",
        )
    if wanted > _MOST_GROWTH * here + _FREE_BYTES:
        raise NotConvertible(
            reason=f"its settings need {wanted >> 20} MiB of weights and its files have {here >> 20}",
            remedy="Get an undamaged copy.",
        )


def _is_unused(name: str, settings: Settings) -> bool:
    """Weights that no output of the task needs."""
    is_features = settings.task in ("feature-extraction", "sentence-similarity")
    return "position_ids" in name or (is_features and name.split(".")[0] == "pooler")


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
