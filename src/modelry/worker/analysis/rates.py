"""How fast this machine multiplies and moves, measured where the job runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from modelry.core.analysis import Rates

_SIDE = 1024
#: Numbers of a copy that no cache holds.
_LONG = 32 << 20
_TRIES = 7


def measure_rates(threads: int) -> Rates:
    """The best of some tries each; takes about half a second."""
    torch.set_num_threads(threads)
    matrix, product = torch.rand(_SIDE, _SIDE), torch.empty(_SIDE, _SIDE)
    source, target = torch.zeros(_LONG), torch.empty(_LONG)
    multiply_s = _best(lambda: torch.mm(matrix, matrix, out=product))
    copy_s = _best(lambda: target.copy_(source))
    return Rates(
        threads=threads,
        flops_per_s=2 * _SIDE**3 / multiply_s,
        bytes_per_s=2 * source.nbytes / copy_s,
    )


def _best(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)
