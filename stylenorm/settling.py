"""The moments of a canvas of noise in a style, which pictures from noise are painted, and trained, with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stylenorm.config import SEEDS
from stylenorm.functional import EPSILON, moments
from stylenorm.generator import Generator, Moments, Pairs
from stylenorm.noise import Noise

CANVAS = 768  # px, side of the noise that moments are taken of: 36 of the largest cells
MOST, FARTHEST = 4.0, 5.0  # standard deviations of a channel, see `stripping`


def canvas(**kind: float) -> Tensor:
    """(1, 3, 768, 768): noise of a seed that no picture is likely to have; kind as of `Noise`."""
    return Noise(SEEDS - 1, **kind).window(0, 0, CANVAS, CANVAS)


@torch.no_grad()
def canvas_moments(generator: Generator, style: Pairs, canvas: Tensor) -> list[Moments]:
    """What each normalization strips of ``canvas`` in a style: (mean, variance), (1, C, 1, 1) both, in their order."""
    found = []

    def record(index: int, x: Tensor) -> Moments:
        found.append(_stripped(generator, index, x))
        return found[-1]

    generator(canvas, style, record)
    return found


def _stripped(generator: Generator, index: int, x: Tensor) -> Moments:
    """The moments that the network's kind of normalization strips of x (1, C, h, w); batch norm's are the running ones."""
    config = generator.config
    if config.norm != "batch":
        return moments(x, config.norm, config.num_groups)
    norm = generator.get_submodule(config.names[index]).norm
    return norm.running_mean[None, :, None, None], norm.running_var[None, :, None, None]


def stripping(generator: Generator, given: list[list[Moments]], count: int) -> Callable[[int, Tensor], Moments]:
    """What strips ``given`` of maps, for a training: `Generator`'s ``moments``.

    given: for each style its `canvas_moments`; each serves ``count`` pictures in turn. The gradient is that of batch
    renormalization (Ioffe 2017) by the moments of these pictures together. For that of numbers that are given, a larger
    weight would be a larger contrast, and weights would grow; as it is, a normalization normalizes.

    A channel that is next to dead on the canvas may live in a picture: its contrast is held to `MOST` of what is
    normalized, and its mean to `FARTHEST`, or gradients would grow from layer to layer beyond all numbers.
    """
    wanted = [[torch.cat(parts) for parts in zip(*layer)] for layer in zip(*given)]  # [layer] (styles, C, 1, 1), twice
    config = generator.config

    def strip(index: int, x: Tensor) -> Moments:
        means, variances = (m.unflatten(0, (-1, count)) for m in moments(x, config.norm, config.num_groups))
        mean = means.mean(1)
        var = variances.mean(1) + (means - mean[:, None]).square().mean(1)
        mean_given, var_given = wanted[index]
        spread = (var + EPSILON).sqrt()
        with torch.no_grad():
            spread_given = (var_given + EPSILON).sqrt()
            ratio = (spread / spread_given).clamp_max(MOST)
            shift = ((mean - mean_given) / spread_given).clamp(-FARTHEST, FARTHEST)
        # (x - mean) / spread * ratio + shift, as the mean and variance that give it
        mean, var = mean - shift * spread / ratio, (spread / ratio).square() - EPSILON
        return mean.repeat_interleave(count, 0), var.repeat_interleave(count, 0)

    return strip
