"""Log-mel spectrograms as layers of a network, so that the published graph takes samples and nothing is done twice.

For a recording x at rate R, frame t, window w of N samples, a Fourier transform of M ≥ N points:

    X[t, k] = Σ_n w[n] · x[t·hop + n] · e^(-2πi·kn/M)         n = 0 … N-1, k = 0 … M/2
    S[t, b] = ln( Σ_k F[b, k] · |X[t, k]|² + floor )

w is Hann's window. F are triangles that overlap by half, equally spaced on the mel scale, on which equal steps sound
equal: mel(f) = 2595 · log10(1 + f/700) (O'Shaughnessy, Speech Communication, 1987). A filter bank on that scale for
recognising speech is Davis and Mermelstein's (IEEE Transactions on ASSP 28(4), 1980).
The transform is a convolution whose kernels are the windowed cosines and sines; kernels and triangles are constants,
not weights: they end up in the ONNX graph, but in no file of weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Seconds of a frame, and from one frame's start to the next.
WINDOW_S, HOP_S = 0.025, 0.010
#: Hz where the lowest triangle begins; the highest ends at half the sampling rate.
_LOWEST_HZ = 20.0
#: Added to each energy, so that silence has a logarithm; a full-scale tone's energy is some 10³.
_FLOOR = 1e-6
#: Smallest spread that is divided by.
_LEAST_VARIANCE = 1e-5


class LogMel(nn.Module):
    """batch × samples (-1 to 1) → batch × mels × frames.

    A recording is followed by silence for one window, so that its last samples are in a frame too: there are
    samples // hop + 1 frames, of any number of samples.
    """

    kernels: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, mels: int) -> None:
        super().__init__()
        self.window, self.hop = round(sample_rate * WINDOW_S), round(sample_rate * HOP_S)
        points = 1 << (self.window - 1).bit_length()
        self.register_buffer("kernels", _kernels(self.window, points), persistent=False)
        self.register_buffer("filters", _filters(sample_rate, mels, points), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        padded = functional.pad(waves, (0, self.window))[:, None]
        real, imaginary = functional.conv1d(padded, self.kernels, stride=self.hop).chunk(2, dim=1)
        energies = torch.matmul(self.filters, real * real + imaginary * imaginary)
        return torch.log(energies + _FLOOR)

    def is_heard(self, waves: Tensor) -> Tensor:
        """batch × 1 × frames: 1 where a frame has a sample that is not zero, else 0.

        What pads a shorter recording of a batch is never heard.
        """
        padded = functional.pad(waves.abs(), (0, self.window))[:, None]
        return (functional.max_pool1d(padded, self.window, self.hop) > 0).float()


def standardised(values: Tensor, is_heard: Tensor) -> Tensor:
    """batch × mels × frames: each recording with mean 0 and spread 1 over the frames that are heard, 0 elsewhere.

    Loudness falls out. A recording without a sound is all zeros.
    """
    count = (is_heard.sum(dim=(1, 2), keepdim=True) * values.shape[1]).clamp(min=1.0)
    mean = (values * is_heard).sum(dim=(1, 2), keepdim=True) / count
    centred = (values - mean) * is_heard
    variance = (centred * centred).sum(dim=(1, 2), keepdim=True) / count
    return centred / torch.sqrt(variance + _LEAST_VARIANCE)


def masked(values: Tensor, most_mels: int, most_frames: int) -> Tensor:
    """A copy in which each recording has one random run of bands and one of frames set to 0.

    Runs are 0 to `most_mels` and 0 to `most_frames` long, as SpecAugment has them (Park and others, Interspeech 2019).
    """
    rows, mels, frames = values.shape
    bands = _random_runs(rows, mels, most_mels)[:, :, None]
    stretches = _random_runs(rows, frames, most_frames)[:, None, :]
    return values.masked_fill(bands | stretches, 0.0)


def _random_runs(rows: int, places: int, longest: int) -> Tensor:
    """rows × places: True in one run of neighbours in each row."""
    starts = torch.randint(places, (rows, 1))
    lengths = torch.randint(longest + 1, (rows, 1))
    places_of = torch.arange(places)[None]
    return (places_of >= starts) & (places_of < starts + lengths)


def _kernels(window: int, points: int) -> Tensor:
    """2 · (points/2 + 1) × 1 × window: cosines, then sines, under Hann's window."""
    times = torch.arange(window, dtype=torch.float64)
    hann = 0.5 - 0.5 * torch.cos(2 * math.pi * times / window)
    frequencies = torch.arange(points // 2 + 1, dtype=torch.float64)
    angles = 2 * math.pi * frequencies[:, None] * times / points
    return torch.cat((torch.cos(angles) * hann, -torch.sin(angles) * hann))[:, None].float()


def _filters(sample_rate: int, mels: int, points: int) -> Tensor:
    """mels × (points/2 + 1): triangles with a peak of 1."""
    low, high = _to_mel(_LOWEST_HZ), _to_mel(sample_rate / 2)
    steps = torch.linspace(low, high, mels + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (steps / 2595.0) - 1.0)
    at = torch.arange(points // 2 + 1, dtype=torch.float64) * sample_rate / points
    begin, peak, end = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (at - begin) / (peak - begin), (end - at) / (end - peak)
    return torch.minimum(rising, falling).clamp(min=0.0).float()


def _to_mel(hz: float) -> float:
    return 2595.0 * math.log10(1.0 + hz / 700.0)
