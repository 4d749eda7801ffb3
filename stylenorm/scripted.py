"""The layers for TorchScript and torch.fx, as `torch.jit.script` and `torch.fx.symbolic_trace` take torch.nn's.

TorchScript reads source: neither the gradient that `stylenorm.functional` writes out nor its kernels are in reach
of it. What is here are the same results in tensor operations, of which it derives the gradient itself.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.fx.proxy import TraceError


def restyled(
    x: Tensor, gamma: Optional[Tensor], beta: Optional[Tensor], kind: str, num_groups: int, eps: float,
    given: Optional[Tuple[Tensor, Tensor]],
) -> Tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``x`` (N, C, H, W) with its own moments, or the ``given`` ones, stripped, then gamma and beta put in; the mean and the variance.

    gamma and beta: (C,), (N, C) or (N, C, H, W), or None for 1 and 0. Numbers other than float64 are computed in float32.
    bfloat16 numbers beyond 1.8e19, for which `stylenorm.functional.renormalize` takes care, overflow here.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    if given is not None:
        mean, var = given[0].to(wide.dtype), given[1].to(wide.dtype)
        centred = wide - mean
    else:
        groups = num_groups if kind == "group" else x.size(1)
        view = wide.reshape(x.size(0), groups, x.size(1) // groups, x.size(2), x.size(3)) if kind == "group" else wide.unsqueeze(2)
        dims: List[int] = [3, 4]
        if kind == "batch":
            dims = [0, 3, 4]
        elif kind == "layer":
            dims = [1, 3, 4]
        elif kind == "group":
            dims = [2, 3, 4]
        mean = view.mean(dims, keepdim=True)
        parts = view - mean
        var = parts.square().mean(dims, keepdim=True)
        repeated = x.size(1) // groups
        mean = mean.expand(-1, -1, repeated, -1, -1).flatten(1, 2)
        var = var.expand(-1, -1, repeated, -1, -1).flatten(1, 2)
        centred = parts.reshape(x.shape)
    y = centred * torch.rsqrt(var + eps)
    if gamma is not None:
        y = y * _per_channel(gamma, y)
    if beta is not None:
        y = y + _per_channel(beta, y)
    return y.to(x.dtype), mean, var


def _per_channel(gamma: Tensor, x: Tensor) -> Tensor:
    full = gamma.to(x.dtype)
    return full if full.dim() == 4 else full.reshape(-1, full.size(-1), 1, 1)


def is_traced(*values: object) -> bool:
    """Whether `torch.fx.symbolic_trace` calls, with what stands for tensors."""
    return any(isinstance(value, Proxy) for value in values)


def leaf(layer: nn.Module, *values: object) -> Proxy:
    """A call of the layer as a node of the graph, which is what torch.fx makes of torch.nn's layers.

    Where it is no part of what is traced but all of it, it is what its method ``traced_alone`` makes of its first value.

    Raises:
        torch.fx.proxy.TraceError: that makes nothing of it, as torch.fx nothing of a torch.nn.BatchNorm2d.
    """
    tracer = next(value for value in values if isinstance(value, Proxy)).tracer
    try:
        path = tracer.path_of_module(layer)
    except (AttributeError, NameError):
        path = ""
    if not path and (node := layer.traced_alone(values[0])) is not None:
        return node
    if not path:
        raise TraceError(f"a {type(layer).__name__} cannot be traced by itself; put it in a torch.nn.Sequential")
    while values and values[-1] is None:
        values = values[:-1]
    return tracer.create_proxy("call_module", path, values, {})
