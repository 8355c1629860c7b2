"""A text's tokens as vectors: the first layer of every network that reads texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Numbers of tokens that every vocabulary of ours has: padding and the unknown token.
PADDING, UNKNOWN = 0, 1


class TokenVectors(nn.Embedding):
    """batch × tokens → batch × tokens × width; while training, a share of the tokens becomes the unknown one."""

    def __init__(self, tokens: int, width: int, spread: float, word_dropout: float) -> None:
        super().__init__(tokens, width, padding_idx=PADDING)
        self._word_dropout = word_dropout
        with torch.no_grad():
            nn.init.normal_(self.weight, std=spread)
            self.weight[PADDING].zero_()

    def forward(self, input: Tensor) -> Tensor:
        if self.training and self._word_dropout:
            is_hit = torch.rand(input.shape, device=input.device) < self._word_dropout
            input = input.masked_fill(is_hit & (input != PADDING), UNKNOWN)
        return super().forward(input)
