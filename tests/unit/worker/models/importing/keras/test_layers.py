"""Every kind of layer answers in ONNX as it does in Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.worker.models.importing.keras.conftest import Convert

import keras  # isort: skip
from keras import layers  # isort: skip

TOLERANCE = 2e-5
ACTIVATIONS = [
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "softmax",
    "log_softmax",
    "softplus",
    "softsign",
    "elu",
    "selu",
    "celu",
    "mish",
    "exponential",
    "gelu",
    "silu",
    "hard_silu",
]

PICTURE, SEQUENCE, ROW = (10, 9, 3), (11, 4), (7,)
ON_PICTURES: dict[str, Any] = {
    "convolution": lambda: layers.Conv2D(4, 3, activation="relu"),
    "convolution, same": lambda: layers.Conv2D(4, (3, 2), padding="same"),
    "convolution, strides": lambda: layers.Conv2D(4, 3, strides=2, padding="same"),
    "convolution, uneven strides": lambda: layers.Conv2D(4, (2, 3), strides=(2, 3), padding="valid"),
    "convolution, dilation": lambda: layers.Conv2D(4, 3, dilation_rate=2, padding="same", use_bias=False),
    "convolution, groups": lambda: layers.Conv2D(6, 3, groups=3),
    "depthwise": lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
    "depthwise, strides": lambda: layers.DepthwiseConv2D(3, strides=2, use_bias=False),
    "separable": lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2, padding="same", activation="tanh"),
    "transposed": lambda: layers.Conv2DTranspose(4, 3, strides=2),
    "transposed, same": lambda: layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
    "transposed, odd": lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"),
    "transposed, gaps": lambda: layers.Conv2DTranspose(4, 2, strides=3, padding="same"),
    "maximum": lambda: layers.MaxPooling2D(2),
    "maximum, same": lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
    "average": lambda: layers.AveragePooling2D((2, 3)),
    "average, same": lambda: layers.AveragePooling2D((2, 3), strides=(2, 1), padding="same"),
    "global maximum": lambda: layers.GlobalMaxPooling2D(),
    "global average": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "batch normalisation": lambda: layers.BatchNormalization(),
    "batch normalisation, bare": lambda: layers.BatchNormalization(center=False, scale=False, axis=1),
    "zero padding": lambda: layers.ZeroPadding2D(((1, 2), (0, 3))),
    "cropping": lambda: layers.Cropping2D(((1, 2), (0, 3))),
    "enlarging": lambda: layers.UpSampling2D((2, 3)),
    "enlarging smoothly": lambda: layers.UpSampling2D(2, interpolation="bilinear"),
    "slopes": lambda: layers.PReLU(shared_axes=[1, 2]),
    "flattening": lambda: layers.Flatten(),
    "permuting": lambda: layers.Permute((3, 1, 2)),
    "rescaling": lambda: layers.Rescaling(1 / 127.5, offset=-1.0),
    "random flips": lambda: layers.RandomFlip(),
    "spatial dropout": lambda: layers.SpatialDropout2D(0.5),
}  # fmt: skip
ON_SEQUENCES: dict[str, Any] = {
    "convolution": lambda: layers.Conv1D(5, 3, strides=2),
    "convolution, causal": lambda: layers.Conv1D(5, 3, padding="causal", dilation_rate=2),
    "depthwise": lambda: layers.DepthwiseConv1D(3, padding="same"),
    "separable": lambda: layers.SeparableConv1D(5, 3),
    "maximum": lambda: layers.MaxPooling1D(2),
    "average": lambda: layers.AveragePooling1D(3, strides=2, padding="same"),
    "global average": lambda: layers.GlobalAveragePooling1D(),
    "global maximum": lambda: layers.GlobalMaxPooling1D(),
    "zero padding": lambda: layers.ZeroPadding1D((2, 1)),
    "cropping": lambda: layers.Cropping1D((0, 2)),
    "enlarging": lambda: layers.UpSampling1D(3),
    "dense over time": lambda: layers.TimeDistributed(layers.Dense(3, activation="relu")),
    "layer normalisation": lambda: layers.LayerNormalization(),
    "layer normalisation, bare": lambda: layers.LayerNormalization(center=False, scale=False),
    "slopes": lambda: layers.PReLU(),
}
ON_ROWS: dict[str, Any] = {
    "dense": lambda: layers.Dense(5, use_bias=False),
    "reshaping": lambda: layers.Reshape((7, -1)),
    "repeating": lambda: layers.RepeatVector(4),
    "relu": lambda: layers.ReLU(max_value=0.4, negative_slope=0.2),
    "leaky relu": lambda: layers.LeakyReLU(negative_slope=0.3),
    "elu": lambda: layers.ELU(alpha=0.7),
    "softmax": lambda: layers.Softmax(),
    "normalisation": lambda: layers.Normalization(mean=[0.1] * 7, variance=[0.5] * 7),
    "learned normalisation": lambda: layers.Normalization(),
    "dropout": lambda: layers.Dropout(0.5),
    "noise": lambda: layers.GaussianNoise(0.5),
    "regularisation": lambda: layers.ActivityRegularization(0.1),
    "identity": lambda: layers.Identity(),
}
RECURRENT: dict[str, Any] = {
    "lstm": lambda: layers.LSTM(6),
    "lstm, sequences": lambda: layers.LSTM(6, return_sequences=True),
    "lstm, states": lambda: layers.LSTM(6, return_sequences=True, return_state=True),
    "lstm, backwards": lambda: layers.LSTM(6, return_sequences=True, go_backwards=True, return_state=True),
    "lstm, no bias": lambda: layers.LSTM(6, use_bias=False, dropout=0.2, recurrent_dropout=0.3),
    "lstm, other activations": lambda: layers.LSTM(6, activation="relu", recurrent_activation="tanh"),
    "gru": lambda: layers.GRU(6),
    "gru, reset before": lambda: layers.GRU(6, reset_after=False, return_sequences=True),
    "gru, states": lambda: layers.GRU(6, return_state=True),
    "gru, no bias": lambda: layers.GRU(6, use_bias=False, go_backwards=True),
    "simple": lambda: layers.SimpleRNN(6, return_sequences=True),
    "simple, states": lambda: layers.SimpleRNN(6, activation="relu", return_state=True),
    "both ways": lambda: layers.Bidirectional(layers.LSTM(6, return_sequences=True)),
    "both ways, end": lambda: layers.Bidirectional(layers.GRU(6)),
    "both ways, states": lambda: layers.Bidirectional(layers.LSTM(6, return_state=True)),
    "both ways, gru before": lambda: layers.Bidirectional(layers.GRU(6, reset_after=False, return_sequences=True)),
    **{
        f"both ways, {mode}": lambda mode=mode: layers.Bidirectional(
            layers.SimpleRNN(6, return_sequences=True), merge_mode=mode
        )
        for mode in ("sum", "mul", "ave", None)
    },
}  # fmt: skip


def differ(convert: Convert, shape: tuple[int | None, ...], layer: Any, rows: int = 5) -> float:
    inputs = keras.Input(shape)
    converted = convert(keras.Model(inputs, layer(inputs)))
    name = converted.manifest.inputs[0].name
    lengths = [6 if length is None else length for length in shape]
    values = np.random.default_rng(1).uniform(-2, 2, (rows, *lengths)).astype("f4")
    return max(converted.differences({name: values}))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(convert: Convert, name: str) -> None:
    assert differ(convert, ROW, layers.Dense(5, activation=name)) < TOLERANCE


@pytest.mark.parametrize("name", ON_PICTURES)
def test_layers_on_pictures(convert: Convert, name: str) -> None:
    assert differ(convert, PICTURE, ON_PICTURES[name]()) < TOLERANCE


@pytest.mark.parametrize("name", ON_SEQUENCES)
def test_layers_on_sequences(convert: Convert, name: str) -> None:
    assert differ(convert, SEQUENCE, ON_SEQUENCES[name]()) < TOLERANCE


@pytest.mark.parametrize("name", ON_ROWS)
def test_layers_on_rows(convert: Convert, name: str) -> None:
    assert differ(convert, ROW, ON_ROWS[name]()) < TOLERANCE


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers(convert: Convert, name: str) -> None:
    assert differ(convert, SEQUENCE, RECURRENT[name]()) < TOLERANCE


@pytest.mark.parametrize("name", ["lstm", "both ways", "gru, reset before"])
def test_sequences_of_any_length(convert: Convert, name: str) -> None:
    assert differ(convert, (None, 4), RECURRENT[name]()) < TOLERANCE


def test_pictures_of_any_size(convert: Convert) -> None:
    assert (
        differ(convert, (None, None, 3), layers.Conv2D(4, 3, padding="same", strides=2)) < TOLERANCE
    )


MERGES = ["Add", "Multiply", "Maximum", "Minimum", "Average", "Concatenate", "Subtract"]


@pytest.mark.parametrize("name", MERGES)
def test_merging(convert: Convert, name: str) -> None:
    inputs = keras.Input(ROW)
    parts = [
        layers.Dense(4, name=f"part{at}")(inputs) for at in range(2 if name == "Subtract" else 3)
    ]
    converted = convert(keras.Model(inputs, getattr(layers, name)()(parts)))
    values = np.random.default_rng(1).uniform(-2, 2, (5, *ROW)).astype("f4")
    assert max(converted.differences({converted.manifest.inputs[0].name: values})) < TOLERANCE


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_embeddings_take_whole_numbers_however_they_come(convert: Convert, dtype: str) -> None:
    inputs = keras.Input((8,), dtype=dtype, name="words")
    converted = convert(keras.Model(inputs, layers.LSTM(3)(layers.Embedding(50, 5)(inputs))))
    assert converted.manifest.inputs[0].dtype == dtype
    words = np.random.default_rng(1).integers(0, 50, (6, 8)).astype(dtype)
    assert max(converted.differences({"words": words})) < TOLERANCE
