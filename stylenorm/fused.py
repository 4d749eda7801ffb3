"""Strip and restore with the kernels that PyTorch has for it on a CPU: a quarter of the passes over memory.

The same as `stylenorm.functional.renormalize` writes out in tensor operations, for the maps that such kernels take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

BATCH, INSTANCE, LAYER, GROUP = (0, 2, 3), (2, 3), (1, 2, 3), (2, 3, 4)  # axes of x, which for "group" is N, G, C/G, H, W
DTYPES = (torch.float32, torch.bfloat16)
RUN = 4096  # positions whose squares the kernel adds up one by one, in float32


def can_fuse(x: Tensor, gamma: Tensor | None, beta: Tensor | None, dims: tuple[int, ...]) -> bool:
    """Whether `fused` takes it: channels-last on a CPU, a γ and β a channel, for "batch" the same ones for all samples."""
    if not x.is_cpu or x.numel() == 0 or x.dtype not in DTYPES or dims not in (BATCH, INSTANCE, LAYER, GROUP):
        return False
    pair = () if gamma is None else (gamma, beta)
    if any(t.shape[-2:] != (1, 1) or (dims == BATCH and t.shape[0] != 1) for t in pair) or vmapped(x, *pair):
        return False
    if any(type(t) not in (Tensor, nn.Parameter) for t in (x, *pair)):  # of another class, as a DTensor: it would be lost, or refused
        return False
    if torch._C._len_torch_dispatch_stack():  # something looks on that knows not these kernels, or there are no numbers at all
        return False
    return _maps(x).is_contiguous(memory_format=torch.channels_last) and math.prod(x.shape[d] for d in dims) > 1


def vmapped(*tensors: Tensor) -> bool:
    """Whether one of them is inside of a torch.func.vmap, whose tensors know neither memory formats nor these kernels."""
    try:
        for t in tensors:
            _maps(t).is_contiguous(memory_format=torch.channels_last)
    except RuntimeError:
        return True
    return False


def fused(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, dims: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor, Tensor] | None:
    """y, mean and var of x, the moments with 1 for each of ``dims``. None where a bfloat16 map's variance is beyond float32."""
    maps, weights, biases = _dense(_maps(x)), _rows(gamma, x, 1.0), _rows(beta, x, 0.0)
    n, c, h, w = maps.shape
    positions = maps.permute(0, 2, 3, 1).view(1 if dims == BATCH else n, -1, c)
    mean, var = map(torch.stack, zip(*(_channel_moments(p) for p in positions)))  # N or 1, C
    if groups := _groups(x, dims):
        means, variances = (t.view(n, groups, -1) for t in (mean, var))
        mean, var = (t.flatten(1) for t in _joined(means, variances, 2))  # N, G
    if x.dtype == torch.bfloat16 and not torch.isfinite(var).all():
        return None
    y = torch.empty_strided(x.shape, _like(maps, x).stride(), dtype=x.dtype, device=x.device)  # no view: autograd lets nobody write into one
    none = x.new_empty(0, dtype=torch.float32)
    moments = [t.repeat_interleave(c // groups, 1) if groups else t for t in (mean, var)]
    count = 1 if all(len(t) == 1 for t in (*moments, weights, biases)) else n  # of kernels to call
    for source, target, m, v, weight, bias in zip(maps.chunk(count), _dense(_maps(y)).chunk(count), *_each(count, *moments, weights, biases)):
        torch.native_batch_norm(source, weight, bias, m, v, False, 0.0, eps, out=(target, none, none))
    shape = [1 if d in dims else size for d, size in enumerate(x.shape)]
    return y, mean.view(shape), var.view(shape)


def fused_gradient(
    dy: Tensor, x: Tensor, gamma: Tensor | None, mean: Tensor, var: Tensor, dims: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """dx, dγ and dβ of what `fused` returned, the last two (N or 1, C, 1, 1), or for "group" (N or 1, G, C/G, 1, 1)."""
    maps, slopes = (_dense(_maps(t).contiguous(memory_format=torch.channels_last)) for t in (x, dy))
    weights, groups, wanted = _rows(gamma, x, 1.0), _groups(x, dims), [True, True, True]
    means, scales = mean.flatten(1), torch.rsqrt(var + eps).flatten(1)  # N, G or N, C or 1, C
    n, c, h, w = maps.shape
    count = 1 if dims == BATCH or n == 1 or (groups and len(weights) == 1) else n
    parts = []
    for slope, part, weight, m, r in zip(slopes.chunk(count), maps.chunk(count), *_each(count, weights), means.chunk(count), scales.chunk(count)):
        if groups:
            backward = torch.ops.aten.native_group_norm_backward
            parts.append(backward(slope, part, m.contiguous(), r.contiguous(), weight, n // count, c, h * w, groups, wanted))
        else:
            backward = torch.ops.aten.native_batch_norm_backward
            parts.append(backward(slope, part, weight, None, None, m[0], r[0], True, eps, wanted))
    dx = parts[0][0] if count == 1 else torch.cat([p[0] for p in parts])
    dgamma, dbeta = (torch.stack([p[i] for p in parts]).view(count, *x.shape[1:-2], 1, 1) for i in (1, 2))
    return _like(dx, x), dgamma, dbeta


def _channel_moments(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of each channel of (L, C).

    In runs: the kernel adds up squares in float32 one after the other, and of a million they would come out short.
    """
    c = positions.shape[1]
    unused = positions.new_zeros(2, c, dtype=torch.float32)  # running moments, which make the kernel compute in float32
    runs = positions.split(RUN)
    moments = [torch.ops.aten.batch_norm_update_stats(_dense(r.t()[None, ..., None]), *unused, 0.0) for r in runs]
    if len(moments) == 1:
        return moments[0]
    shares = positions.new_tensor([len(r) / len(positions) for r in runs], dtype=torch.float32)[:, None]
    mean, var = _joined(*map(torch.stack, zip(*moments)), 0, shares)
    return mean[0], var[0]


def _joined(means: Tensor, variances: Tensor, dim: int, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Moments of parts along ``dim`` to those of the whole; ``shares``, which broadcast against them, are even if not given."""
    shares = 1 / means.shape[dim] if shares is None else shares
    mean = (shares * means).sum(dim, keepdim=True)
    return mean, (shares * (variances + (means - mean).square())).sum(dim, keepdim=True)


def _maps(x: Tensor) -> Tensor:
    """(N, C, H, W), of N, G, C/G, H, W too."""
    return x if x.dim() == 4 else x.flatten(1, 2)


def _like(y: Tensor, x: Tensor) -> Tensor:
    return y if x.dim() == 4 else y.unflatten(1, x.shape[1:3])


def _dense(maps: Tensor) -> Tensor:
    """The same channels-last maps with the strides that kernels know them by: where a length is 1, views keep any stride."""
    n, c, h, w = maps.shape
    return maps.as_strided(maps.shape, (h * w * c, 1, w * c, c))


def _groups(x: Tensor, dims: tuple[int, ...]) -> int:
    """Groups of channels that are stripped together in each sample; 0 where each channel is by itself."""
    return {LAYER: 1, GROUP: x.shape[1]}.get(dims, 0)


def _rows(gamma: Tensor | None, x: Tensor, otherwise: float) -> Tensor:
    """(N, C) or (1, C)."""
    return x.new_full((1, math.prod(x.shape[1:-2])), otherwise, dtype=torch.float32) if gamma is None else gamma.flatten(1)


def _each(count: int, *rows: Tensor) -> Sequence[Sequence[Tensor]]:
    """``count`` rows (C,) of each of (count, C) or (1, C)."""
    return [t.expand(count, -1).contiguous().unbind() for t in rows]
