"""The recipe `transformer-classifier`: a transformer encoder over a text's tokens (Vaswani and others, 2017).

Layers normalise before they attend (Xiong and others, 2020): such a network learns from scratch without a warm-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelry.worker.recipes.network import Network, init_dense
from modelry.worker.recipes.tokens import PADDING, TokenVectors

#: Of a token's numbers at first: with 1 (torch's own) banking77 ends 5 points lower.
_SPREAD = 0.1


class TransformerClassifier(Network):
    """Takes the numbers of a text's tokens; a shorter row of a batch ends with zeros."""

    input_name, input_dtype = "ids", "int64"
    tokens: TokenVectors
    positions: nn.Embedding
    encoder: nn.ModuleList
    norm: nn.LayerNorm
    dropout: nn.Dropout
    classes: nn.Linear

    def __init__(self, params: Mapping[str, Any], tokens: int, classes: int) -> None:
        super().__init__()
        self.input_shape = (None,)
        width = params["width"]
        self.add_module("tokens", TokenVectors(tokens, width, _SPREAD, params["word_dropout"]))
        self.add_module("positions", nn.Embedding(params["max_length"], width))
        self.add_module(
            "encoder", nn.ModuleList(EncoderLayer(params) for _ in range(params["layers"]))
        )
        self.add_module("norm", nn.LayerNorm(width))
        self.add_module("dropout", nn.Dropout(params["dropout"]))
        self.add_module("classes", nn.Linear(2 * width, classes))
        nn.init.normal_(self.positions.weight, std=0.02)
        init_dense(self.classes)

    def forward(self, rows: Tensor) -> Tensor:
        is_padding = rows == PADDING
        # A text without a token attends to one step of padding rather than to nothing, whoever is beside it.
        is_first = torch.arange(rows.shape[1], device=rows.device) == 0
        is_padding = is_padding & ~(is_padding.all(dim=1, keepdim=True) & is_first)
        places = torch.arange(rows.shape[1], device=rows.device)
        values = self.dropout(self.tokens(rows) + self.positions(places))
        for layer in self.encoder:
            values = layer(values, is_padding)
        values = self.norm(values)
        is_there = (~is_padding)[..., None]
        mean = (values * is_there).sum(dim=1) / is_there.sum(dim=1)
        largest = values.masked_fill(~is_there, -1e4).amax(dim=1)
        return self.classes(self.dropout(torch.cat((mean, largest), dim=1)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention, then two dense layers; each adds to what came in."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        super().__init__()
        width = params["width"]
        self._heads = params["heads"]
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.dense_norm = nn.LayerNorm(width)
        self.dense_in = nn.Linear(width, params["feedforward"])
        self.dense_out = nn.Linear(params["feedforward"], width)
        self.dropout = nn.Dropout(params["dropout"])
        for layer in (
            self.queries_keys_values,
            self.attention_out,
            self.dense_in,
            self.dense_out,
        ):
            init_dense(layer)

    def forward(self, values: Tensor, is_padding: Tensor) -> Tensor:
        values = values + self.dropout(self._attend(self.attention_norm(values), is_padding))
        hidden = nn.functional.gelu(self.dense_in(self.dense_norm(values)))
        return values + self.dropout(self.dense_out(self.dropout(hidden)))  # type: ignore[no-any-return]

    def _attend(self, values: Tensor, is_padding: Tensor) -> Tensor:
        rows, steps, width = values.shape
        split = self.queries_keys_values(values).view(rows, steps, 3, self._heads, -1)
        queries, keys, offers = split.permute(2, 0, 3, 1, 4).unbind(0)
        may_see = (~is_padding)[:, None, None, :]
        found = nn.functional.scaled_dot_product_attention(queries, keys, offers, attn_mask=may_see)
        return self.attention_out(found.transpose(1, 2).reshape(rows, steps, width))  # type: ignore[no-any-return]


def transformer_classifier(
    params: Mapping[str, Any], tokens: int, classes: int
) -> TransformerClassifier:
    """The untrained network for texts of so many different tokens."""
    return TransformerClassifier(params, tokens, classes)
