"""The operators that an imported graph may use: those whose meaning is known and that ONNX Runtime brings along."""

from __future__ import annotations

import onnx

#: Of com.microsoft: arithmetic, quantised arithmetic and fused layers. Not those that run whole searches.
_MICROSOFT = frozenset(
    """
    Attention AttnLSTM BiasGelu BifurcationDetector CDist ConvTransposeWithDynamicPads CropAndResize DequantizeLinear
    DynamicQuantizeLSTM DynamicQuantizeMatMul EmbedLayerNormalization ExpandDims FastGelu FusedConv FusedGemm
    FusedMatMul GatherBlockQuantized GatherND Gelu GridSample GroupQueryAttention Inverse MatMulBnb4 MatMulInteger16
    MatMulIntegerToFloat MatMulNBits MaxpoolWithMask MoE MultiHeadAttention MurmurHash3 NhwcMaxPool Pad QAttention
    QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool
    QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu
    Range RotaryEmbedding SkipLayerNormalization SkipSimplifiedLayerNormalization SparseToDenseMatMul
    TransposeMatMul Trilu Unique WordConvEmbedding
    """.split()  # noqa: SIM905
)
_STANDARD = ("", "ai.onnx.ml")


def is_known(domain: str, operator: str) -> bool:
    """Whether a graph may use the operator."""
    if domain == "com.microsoft":
        return operator in _MICROSOFT
    return domain in _STANDARD and bool(onnx.defs.has(operator, domain))
