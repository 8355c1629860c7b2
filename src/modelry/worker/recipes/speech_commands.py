"""The recipe `speech-commands`: a recording's samples to a log-mel spectrogram, convolutions, classes.

Small convolutional networks over log-mel frames are how spoken commands are told apart on small devices (Sainath and
Parada, Interspeech 2015); each convolution here is followed by batch normalisation (Ioffe and Szegedy, ICML 2015).
After every layer what lies beyond a recording's end is zero again, so that the recordings it shares a batch with change
no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelry.worker.recipes.log_mel import HOP_S, LogMel, masked, standardised
from modelry.worker.recipes.network import Network, init_dense

#: Blocks that halve the time too: four frames of 10 ms become one of 40 ms.
_HALVING_TIME = 2


class SpeechCommands(Network):
    """Takes samples from -1 to 1, as many as there are; a shorter row of a batch ends with zeros."""

    log_mel: LogMel
    blocks: nn.ModuleList
    dropout: nn.Dropout
    classes: nn.Linear

    def __init__(self, params: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.input_shape = (None,)
        #: Samples that are heard of a recording.
        self.longest = round(params["seconds"] * params["sample_rate"])
        self._masks = params["mel_mask"], round(params["time_mask"] / HOP_S)
        self.add_module("log_mel", LogMel(params["sample_rate"], params["mels"]))
        self.add_module("blocks", nn.ModuleList(_blocks(params)))
        self.add_module("dropout", nn.Dropout(params["dropout"]))
        self.add_module("classes", nn.Linear(2 * params["channels"][-1], classes))
        init_dense(self.classes)

    def forward(self, rows: Tensor) -> Tensor:
        waves = rows[:, : self.longest]
        is_heard = self.log_mel.is_heard(waves)
        values = standardised(self.log_mel(waves), is_heard)
        if self.training and any(self._masks):
            values = masked(values, *self._masks)
        values, is_heard = values[:, None], is_heard[:, None]
        for block in self.blocks:
            values, is_heard = block(values, is_heard)
        # batch × channels × time; nothing is below 0, so what is not heard is never the largest.
        values, is_heard = values.mean(dim=2), is_heard[:, :, 0]
        mean = values.sum(dim=2) / is_heard.sum(dim=2).clamp(min=1.0)
        pooled = torch.cat((values.amax(dim=2), mean), dim=1)
        return self.classes(self.dropout(pooled))  # type: ignore[no-any-return]


class Block(nn.Module):
    """A 3×3 convolution, normalisation, the larger of 0; then the largest of `pooling` (bands × time) neighbours."""

    def __init__(self, inputs: int, outputs: int, pooling: tuple[int, int]) -> None:
        super().__init__()
        self._pooling = pooling
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = Norm(outputs)

    def forward(self, values: Tensor, is_heard: Tensor) -> tuple[Tensor, Tensor]:
        """batch × channels × bands × time, and 1 where it is heard (batch × 1 × 1 × time); both come back pooled."""
        values = functional.relu(self.norm(self.convolution(values))) * is_heard
        # A last frame without a neighbour is kept, as it would be with silence beside it.
        values = functional.max_pool2d(values, self._pooling, ceil_mode=True)
        return values, functional.max_pool2d(is_heard, (1, self._pooling[1]), ceil_mode=True)


class Norm(nn.BatchNorm2d):
    """Keeps its means and spreads where its weights are frozen."""

    def train(self, mode: bool = True) -> Norm:
        return super().train(mode and self.weight.requires_grad)


def speech_commands(params: Mapping[str, Any], classes: int) -> SpeechCommands:
    """The untrained network for recordings."""
    return SpeechCommands(params, classes)


def _blocks(params: Mapping[str, Any]) -> list[Block]:
    blocks, inputs, bands = [], 1, params["mels"]
    last = len(params["channels"]) - 1
    for number, channels in enumerate(params["channels"]):
        across = 2 if bands > 1 and number < max(last, 1) else 1
        blocks.append(Block(inputs, channels, (across, 2 if number < _HALVING_TIME else 1)))
        inputs, bands = channels, -(-bands // across)
    return blocks
