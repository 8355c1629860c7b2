"""A Hugging Face folder's settings, looked at before the library sees them: which task, whose code, how large.

Knows JSON and names, not transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelry.core.errors import NotConvertible
from modelry.worker.models.importing.base import EXPORT_TO_ONNX, refuse
from modelry.worker.models.importing.texts import read_json, walk

#: Ends of class names → Hugging Face's name of the task. The first that fits counts.
_HEADS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForAudioClassification": "audio-classification",
}
#: Models of sound whose classifiers are named after sequences.
_SOUND = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "unispeech",
    "data2vec-audio",
    "sew",
    "audio-spectrogram",
    "whisper",
)
TASKS = (
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "zero-shot-classification",
    "feature-extraction",
    "sentence-similarity",
    "image-classification",
    "audio-classification",
)
_GENERATION = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel", "ForCTC")
#: Settings that make the library look for more than weights and numbers.
_REFUSED = {
    "auto_map": "it needs Python code that comes with it, and such code is never run",
    "custom_pipelines": "it needs Python code that comes with it, and such code is never run",
    "quantization_config": "its weights are packed in a way that needs code of its own",
    "transformers_weights": "it names its weights by itself",
    "fast_tokenizer_files": "it names its tokenizer by itself",
}
_FILES = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
#: Layers, widths and vocabularies beyond this are no setting of a real encoder.
_LARGEST = 1 << 24
_NOT_SIZES = ("model_max_length", "max_length")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is known of the folder before anything is loaded."""

    folder: Path
    config: dict[str, Any]
    task: str
    #: The folder's modules of the library sentence-transformers, as their files say; empty for all others.
    modules: list[dict[str, Any]]

    @property
    def weights_folder(self) -> Path:
        """Where `config.json` and the weights lie."""
        path = str(self.modules[0].get("path", "")) if self.modules else ""
        return self.folder / path if path else self.folder


def read_settings(folder: Path, task: str | None) -> Settings:
    """Raises `UnsafeFile` for what needs code of its own, `NotConvertible` for a task that is not done here."""
    modules = read_optional(folder / "modules.json")
    modules = modules if isinstance(modules, list) else []
    for module in modules:
        _check_path(folder, str(module.get("path", "")))
    place = folder / str(modules[0].get("path", "")) if modules else folder
    for name in _FILES:
        _check_file(place / name)
    if any(folder.rglob("adapter_config.json")):
        raise NotConvertible(
            reason="it is an adapter and not a whole model",
            remedy="Merge it first: `model.merge_and_unload().save_pretrained(folder)`.",
        )
    if not any(place.glob("*.safetensors")):
        raise refuse("config.json", "there are no safetensors beside it", _SAVE)
    config = read_json("config.json", place / "config.json")
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise refuse("config.json", "it names no model_type")
    return Settings(folder, config, _task(config, task, has_modules=bool(modules)), modules)


_SAVE = f"Save the model with `save_pretrained(folder, safe_serialization=True)`. {EXPORT_TO_ONNX}"


def read_optional(file: Path) -> Any:
    """The JSON of a file, None where there is no such file."""
    return read_json(file.name, file) if file.is_file() else None


def _check_file(file: Path) -> None:
    """Raises `UnsafeFile` for settings that would make the library run or fetch more than is here."""
    content = read_optional(file)
    if content is None:
        return
    if not isinstance(content, dict):
        raise refuse(file.name, "it is no table of settings")
    for key, value in walk(file.name, content):
        if key in _REFUSED and value:
            raise refuse(file.name, f"it has '{key}': {_REFUSED[key]}")
        is_size = isinstance(value, int | float) and not isinstance(value, bool)
        if file.name == "config.json" and is_size and key not in _NOT_SIZES and value > _LARGEST:
            raise refuse(file.name, f"its '{key}' is {value:g}")


def _check_path(folder: Path, path: str) -> None:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise refuse("modules.json", f"it names '{path[:100]}', which is outside of the folder")


def _task(config: dict[str, Any], wanted: str | None, *, has_modules: bool) -> str:
    """What the model was trained for, or what is asked for; raises `NotConvertible`."""
    architecture = next(iter(config.get("architectures") or []), "")
    if wanted is not None:
        if wanted not in TASKS:
            raise NotConvertible(
                reason=f"the task '{wanted}' is not served",
                remedy=f"Choose one of {', '.join(TASKS)}.",
            )
        return wanted
    if has_modules:
        return "feature-extraction"
    if str(architecture).endswith(_GENERATION):
        raise NotConvertible(
            reason=f"{architecture} generates; only encoders are imported",
            remedy=f"Choose a model for one of {', '.join(TASKS)}.",
        )
    for head, task in _HEADS.items():
        if str(architecture).endswith(head):
            return _refined(config, task)
    return "feature-extraction"


def _refined(config: dict[str, Any], task: str) -> str:
    if task != "text-classification":
        return task
    if str(config["model_type"]).startswith(_SOUND):
        return "audio-classification"
    labels = config.get("id2label")
    names = labels.values() if isinstance(labels, dict) else ()
    judges = any(str(name).lower().startswith("entail") for name in names)
    return "zero-shot-classification" if judges else task
