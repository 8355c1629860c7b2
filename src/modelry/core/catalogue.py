"""Well-known small pretrained models under permissive licences, and what can be made here instead.

Only names, tasks and the licence to expect stand here. Revision, size, hashes and the licence that was really found
are recorded when a model is imported; an entry that nobody has imported is *untried*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """One repository of the Hugging Face hub."""

    repository: str
    #: Hugging Face's name of the task.
    task: str
    #: What its card is expected to say, as the hub writes licences.
    licence: str
    #: One sentence.
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """One thing that can be made here from data."""

    recipe: str
    preset: str
    task: str
    summary: str
    command: str
    #: How long it takes, where it was measured.
    duration: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A line of the catalogue as a project sees it."""

    kind: Literal["pretrained", "trainable"]
    name: str
    task: str
    summary: str
    #: How to get it.
    command: str
    #: `imported`, `untried`, or `can be made`.
    state: Literal["imported", "untried", "can be made"]
    licence: str | None = None
    duration: str = ""
    #: Of the newest import in this project: `name:version`, and what was recorded then.
    model: str | None = None
    revision: str | None = None
    size_bytes: int | None = None
    recorded_licence: str | None = None


def _hub(repository: str, task: str, licence: str, summary: str) -> Pretrained:
    return Pretrained(repository=repository, task=task, licence=licence, summary=summary)


_IMAGE, _TEXT, _TOKENS = "image-classification", "text-classification", "token-classification"
_ANSWERS, _EMBEDDINGS, _MASK = "question-answering", "feature-extraction", "fill-mask"
_ZERO, _AUDIO = "zero-shot-classification", "audio-classification"

PRETRAINED: tuple[Pretrained, ...] = (
    _hub("microsoft/resnet-18", _IMAGE, "apache-2.0", "ResNet-18: 1,000 kinds of things."),
    _hub("microsoft/resnet-50", _IMAGE, "apache-2.0", "ResNet-50: 1,000 kinds of things."),
    _hub("facebook/deit-tiny-patch16-224", _IMAGE, "apache-2.0", "DeiT tiny: a small transformer."),
    _hub("facebook/convnext-tiny-224", _IMAGE, "apache-2.0", "ConvNeXt tiny: a modern CNN."),
    _hub("google/vit-base-patch16-224", _IMAGE, "apache-2.0", "ViT base: the usual transformer."),
    _hub(
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        _TEXT,
        "apache-2.0",
        "Whether an English sentence is positive or negative.",
    ),
    _hub("SamLowe/roberta-base-go_emotions", _TEXT, "mit", "28 emotions in English texts."),
    _hub(
        "papluca/xlm-roberta-base-language-detection",
        _TEXT,
        "mit",
        "Which of 20 languages a text is in.",
    ),
    _hub(
        "MoritzLaurer/deberta-v3-xsmall-zeroshot-v1.1-all-33",
        _ZERO,
        "mit",
        "Sorts texts under labels given with the call.",
    ),
    _hub("dslim/bert-base-NER", _TOKENS, "mit", "Persons, places, organisations in English."),
    _hub("dslim/distilbert-NER", _TOKENS, "apache-2.0", "The same, smaller."),
    _hub(
        "elastic/distilbert-base-cased-finetuned-conll03-english",
        _TOKENS,
        "apache-2.0",
        "Named entities, trained on CoNLL-2003.",
    ),
    _hub(
        "distilbert/distilbert-base-cased-distilled-squad",
        _ANSWERS,
        "apache-2.0",
        "Finds the answer to a question in a text.",
    ),
    _hub("deepset/tinyroberta-squad2", _ANSWERS, "cc-by-4.0", "Answers, or says there is none."),
    _hub("deepset/minilm-uncased-squad2", _ANSWERS, "cc-by-4.0", "The same, smaller."),
    _hub(
        "sentence-transformers/all-MiniLM-L6-v2",
        _EMBEDDINGS,
        "apache-2.0",
        "The usual small model for meaning and search.",
    ),
    _hub(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        _EMBEDDINGS,
        "apache-2.0",
        "Meaning across some fifty languages.",
    ),
    _hub("BAAI/bge-small-en-v1.5", _EMBEDDINGS, "mit", "English retrieval."),
    _hub("intfloat/e5-small-v2", _EMBEDDINGS, "mit", "English retrieval, with query and passage."),
    _hub("distilbert/distilbert-base-uncased", _MASK, "apache-2.0", "Fills a gap in a sentence."),
    _hub("distilbert/distilroberta-base", _MASK, "apache-2.0", "The same, with upper case."),
    _hub(
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        _AUDIO,
        "bsd-3-clause",
        "527 kinds of sounds.",
    ),
)

TRAINABLE: tuple[Trainable, ...] = (
    Trainable(
        recipe="cnn",
        preset="fast",
        task=_IMAGE,
        summary="A small CNN for images of one size, such as digits.",
        command="modelry train cnn --preset fast --data DATA --model NAME",
        duration="a few minutes for MNIST on two cores",
    ),
    Trainable(
        recipe="cnn",
        preset="reference",
        task=_IMAGE,
        summary="The same network, trained longer at one learning rate.",
        command="modelry train cnn --preset reference --data DATA --model NAME",
    ),
    Trainable(
        recipe="rnn",
        preset="reference",
        task="sequence-classification",
        summary="LSTM, GRU or plain recurrent layers over sequences of one length.",
        command="modelry train rnn --preset reference --data DATA --model NAME",
    ),
)
