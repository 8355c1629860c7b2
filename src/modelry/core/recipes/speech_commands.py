"""The card of `speech-commands`: a convolutional network that tells short recordings apart."""

from __future__ import annotations

from modelry.core.recipes.card import Param, RecipeCard
from modelry.core.recipes.training import CLASSIFICATION_PARAMS, TRAINING_PARAMS, check_training

SPEECH_COMMANDS = RecipeCard(
    name="speech-commands",
    summary="A log-mel spectrogram made inside the network, then convolutions: short recordings to classes.",
    task="audio-classification",
    takes=("audio",),
    implementation="modelry.worker.recipes.speech_commands:speech_commands",
    params=(
        Param(
            name="sample_rate",
            type="int",
            default=8000,
            minimum=8000,
            maximum=48_000,
            help="Samples a second that the network hears; recordings at another rate are resampled.",
            is_structural=True,
        ),
        Param(
            name="seconds",
            type="float",
            default=1.0,
            minimum=0.1,
            maximum=30.0,
            help="What is heard of a recording: its first seconds; a shorter one is followed by silence.",
        ),
        Param(
            name="mels",
            type="int",
            default=40,
            minimum=8,
            maximum=64,
            help="Bands of the spectrogram, spaced as the ear spaces pitches.",
            is_structural=True,
        ),
        Param(
            name="channels",
            type="ints",
            default=[32, 64, 64, 96],
            minimum=1,
            maximum=1024,
            help="Filters of each 3×3 convolution; the first two halve time and bands, later ones the bands.",
            is_structural=True,
        ),
        Param(
            name="dropout",
            type="float",
            default=0.3,
            minimum=0.0,
            maximum=0.95,
            help="Share of the last layer's inputs switched off at random while training.",
        ),
        Param(
            name="mel_mask",
            type="int",
            default=8,
            minimum=0,
            maximum=64,
            help="Most neighbouring bands of each recording that are blanked while training (SpecAugment); 0: none.",
        ),
        Param(
            name="time_mask",
            type="float",
            default=0.1,
            minimum=0.0,
            maximum=10.0,
            help="Most seconds of each recording that are blanked while training (SpecAugment); 0: none.",
        ),
        *CLASSIFICATION_PARAMS,
        *TRAINING_PARAMS,
    ),
    rules=(check_training,),
    defaults_for={
        "audio": {
            "label_smoothing": 0.1,
            "optimizer": "adamw",
            "learning_rate": 3e-3,
            "weight_decay": 0.01,
            "warmup": 0.1,
            "clip_norm": 1.0,
            "epochs": 12,
        },
    },
)
