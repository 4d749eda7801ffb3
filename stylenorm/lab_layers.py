"""The layers that the lab tests, and a second way to say which elements each of them groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stylenorm.layers import BatchNorm2d, ConditionalNorm, GroupNorm, InstanceNorm2d, LayerNorm2d

SHORT = {"batch": "BN", "layer": "LN", "group": "GN", "instance": "IN", "none": "none"}
KINDS = ("batch", "layer", "group", "instance")


def norm_layer(kind: str, channels: int, groups: int = 4, affine: bool = False, **options) -> nn.Module:
    """The package's layer of ``kind`` for (N, C, H, W), in training mode; for "none", one that does nothing."""
    if kind == "none":
        return nn.Identity()
    if kind == "group":
        return GroupNorm(groups, channels, affine=affine, **options)
    layers = {"batch": BatchNorm2d, "layer": LayerNorm2d, "instance": InstanceNorm2d}
    return layers[kind](channels, affine=affine, **options)


def conditional(kind: str, channels: int, groups: int = 4, **options) -> ConditionalNorm:
    return ConditionalNorm(channels, kind, groups, **options)


def group_numbers(shape: tuple[int, ...], kind: str, groups: int = 4) -> Tensor:
    """For each element of a map (N, C, H, W) the number of the group that it belongs to, from the definitions:

    batch: c        layer: n        instance: n C + c        group: n G + floor(c G / C)

    This is not how the layers find their groups, which is what makes it a check on them.
    """
    n, c, h, w = shape
    sample, channel = torch.arange(n)[:, None, None, None], torch.arange(c)[None, :, None, None]
    numbers = {
        "batch": channel,
        "layer": sample,
        "instance": sample * c + channel,
        "group": sample * groups + channel * groups // c,
    }
    return numbers[kind].expand(n, c, h, w)


def group_moments(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each group, in float64, for ``x`` and ``numbers`` (N, C, H, W); two of (groups,)."""
    flat, index = x.detach().double().flatten(), numbers.flatten()
    count = torch.bincount(index).double()

    def mean_of(values: Tensor) -> Tensor:
        mean = torch.bincount(index, values) / count
        return mean + torch.bincount(index, values - mean[index]) / count  # what the long sum has lost to rounding

    mean = mean_of(flat)
    return mean, mean_of((flat - mean[index]).square())


def randn(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of mean 0 and variance 1, the same for the same ``seed``."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
