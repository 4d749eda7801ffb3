"""The normalization layers: four that own a weight and a bias, and one that is given its gamma and beta."""

from __future__ import annotations

import math
from numbers import Integral
from typing import TYPE_CHECKING, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from stylenorm.functional import EPSILON, KINDS, inject, renormalize
from stylenorm.scripted import is_traced, leaf, restyled

Moments = Optional[Tuple[Tensor, Tensor]]  # in the spelling that TorchScript reads


class _Norm(nn.Module):
    """What the layers share: whose moments to strip, and running ones where they are kept. Maps are N, C, H, W."""

    if TYPE_CHECKING:  # TorchScript would look for types in these strings
        weight: nn.Parameter | None
        bias: nn.Parameter | None
        running_mean: Tensor | None
        running_var: Tensor | None
        num_batches_tracked: Tensor | None

    __constants__ = ["kind", "num_groups", "eps", "momentum", "track_running_stats"]

    _version = 2  # torch.nn's: a state dict of an earlier one, or of none, may lack num_batches_tracked

    def __init__(
        self,
        num_features: int,
        kind: str,
        num_groups: int | None = None,
        eps: float = EPSILON,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"no norm {kind!r}; choose one of {', '.join(KINDS)}")
        if kind == "group" and (not isinstance(num_groups, Integral) or num_groups < 1 or num_features % num_groups):
            raise ValueError(f"num_groups={num_groups} does not divide {num_features} channels")
        self.num_features, self.kind, self.num_groups = num_features, kind, num_groups
        self.eps, self.momentum = eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats

        def filled(value: float, wanted: bool) -> Tensor | None:
            return torch.full((num_features,), value, device=device, dtype=dtype) if wanted else None

        self.register_parameter("weight", nn.Parameter(filled(1.0, True)) if affine else None)
        self.register_parameter("bias", nn.Parameter(filled(0.0, True)) if affine and bias else None)
        self.register_buffer("running_mean", filled(0.0, track_running_stats))
        self.register_buffer("running_var", filled(1.0, track_running_stats))
        count = torch.zeros((), dtype=torch.long, device=device) if track_running_stats else None
        self.register_buffer("num_batches_tracked", count)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the weight to 1, the bias to 0 and the running moments to those of no batch."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                parameter.fill_(value)

    def reset_running_stats(self) -> None:
        """Set the running moments, where there are any, to those of no batch: mean 0 and variance 1."""
        if self.running_mean is not None and self.track_running_stats:  # else they stay, as in torch.nn, for they are used
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def forward(self, x: Tensor, moments: Moments = None) -> Tensor:
        if torch.jit.is_scripting():
            return self._scripted(x, self.weight, self.bias, moments)
        else:  # which TorchScript does not read
            return leaf(self, x, moments) if is_traced(x, moments) else self._styled(x, moments)

    def traced_alone(self, x: Proxy) -> Proxy | None:
        """What torch.fx makes of the layer by itself: the function that it is, if it is one, as of a torch.nn.GroupNorm."""
        if self.kind not in ("group", "layer"):
            return None
        arguments = x, self.num_groups or 1, self.weight, self.bias, self.eps
        return x.tracer.create_proxy("call_function", group_normalized, arguments, {})

    def _styled(self, x: Tensor, moments: Moments) -> Tensor:
        return self._restyle(x, self.weight, self.bias, moments)

    def extra_repr(self) -> str:
        groups = f", num_groups={self.num_groups}" if self.kind == "group" else ""
        told = f"{self.num_features}, kind={self.kind}{groups}, eps={self.eps}"
        if not isinstance(self, ConditionalNorm):
            told += f", affine={self.affine}" + (", bias=False" if self.affine and self.bias is None else "")
        if self.kind in ("batch", "instance"):
            told += f", track_running_stats={self.track_running_stats}" + (f", momentum={self.momentum}" if self.track_running_stats else "")
        return told

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, *rest) -> None:
        count = self.num_batches_tracked
        if count is not None and (local_metadata.get("version") or 1) < 2:
            state_dict.setdefault(prefix + "num_batches_tracked", torch.tensor(0, device="cpu") if count.is_meta else count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def _restyle(self, x: Tensor, gamma: Tensor | None, beta: Tensor | None, moments: Moments) -> Tensor:
        if x.dim() != 4 or x.shape[1] != self.num_features:
            raise ValueError(f"expected a map of (N, {self.num_features}, H, W), not {tuple(x.shape)}")
        running = self.running_mean is not None and not self.training
        if moments is None and running and (self.kind == "batch" or self.track_running_stats):  # a flag that may be unset later
            moments = (self.running_mean[:, None, None], self.running_var[:, None, None])  # C, 1, 1
        if moments is not None:
            return inject(x, *moments, gamma, beta, self.eps)
        self._require_values(x)
        y, mean, var = renormalize(x, gamma, beta, self.kind, self.num_groups, self.eps)
        if self.training and self.track_running_stats:
            self._track(mean, var, x)
        return y

    def _require_values(self, x: Tensor) -> None:
        """Refuse what torch.nn refuses: one value a channel, or for "group" and "layer" one value in a group."""
        n, c, h, w = x.shape
        values = {"batch": n * h * w, "instance": h * w, "layer": n * c * h * w}.get(self.kind)
        if values is None:
            values = n * c // self.num_groups * h * w
        if values == 1:
            raise ValueError(f"a map of {tuple(x.shape)} has no variance: it takes more than 1 value per channel")

    def _scripted(self, x: Tensor, gamma: Optional[Tensor], beta: Optional[Tensor], moments: Moments) -> Tensor:
        """`_restyle` in TorchScript, also for the other numbers of axes that a layer may take."""
        maps, shape, groups = x, x.shape, 1 if self.num_groups is None else self.num_groups
        if self.kind == "instance" and x.dim() == 3:
            maps = x.unsqueeze(0)
        elif self.kind == "group" and x.dim() > 1 and x.dim() != 4:
            maps = x.reshape(x.size(0), x.size(1), -1, 1)
            if moments is not None:
                mean, var = moments
                moments = (mean.reshape(mean.size(0), mean.size(1), -1, 1), var.reshape(var.size(0), var.size(1), -1, 1))
        if maps.dim() != 4 or maps.size(1) != self.num_features:
            raise ValueError("expected a map of another shape")
        if not x.is_floating_point():
            raise ValueError("expected a map of floating point")
        if self.running_mean is not None and self.running_var is not None:
            if moments is None and not self.training and (self.kind == "batch" or self.track_running_stats):
                moments = (self.running_mean.reshape(-1, 1, 1), self.running_var.reshape(-1, 1, 1))
        per_channel = maps.size(2) * maps.size(3)
        if self.kind == "batch":
            per_channel = per_channel * maps.size(0)
        if moments is None:
            values = per_channel
            if self.kind == "layer":
                values = values * maps.size(0) * maps.size(1)
            if self.kind == "group":
                values = values * maps.size(0) * (maps.size(1) // groups)
            if values == 1:
                raise ValueError("a map of one value per channel has no variance")
        y, mean, var = restyled(maps, gamma, beta, self.kind, groups, self.eps, moments)
        if self.training and self.track_running_stats and moments is None:
            step = -1.0 if self.momentum is None else self.momentum
            if self.kind == "batch" and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                if self.momentum is None:
                    step = 1.0 / float(self.num_batches_tracked.item())
            if self.running_mean is not None and self.running_var is not None and step >= 0 and x.numel() > 0:  # else as in `_track`
                with torch.no_grad():
                    self.running_mean.mul_(1 - step).add_(mean.mean([0, 2, 3]).to(self.running_mean.dtype) * step)
                    unbiased = var * (per_channel / (per_channel - 1))
                    self.running_var.mul_(1 - step).add_(unbiased.mean([0, 2, 3]).to(self.running_var.dtype) * step)
        return y.reshape(shape)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, x: Tensor) -> None:
        """Move the running moments towards ``mean`` and ``var``, the latter unbiased as in torch.nn."""
        n, _, h, w = x.shape
        count = n * h * w if self.kind == "batch" else h * w
        step = self.momentum
        counted = self.kind == "batch" and self.num_batches_tracked is not None
        if counted:
            self.num_batches_tracked.add_(1)
        if self.running_mean is None or x.numel() == 0:
            return  # taken away since; and an empty batch has no moments
        if step is None and not counted:
            return  # torch.nn.InstanceNorm2d knows no cumulative average, nor does it count
        if step is None:
            step = self.num_batches_tracked.to(torch.promote_types(self.running_mean.dtype, torch.float32)).reciprocal()
        for running, now in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
            if isinstance(step, Tensor) and step.dtype != running.dtype:  # in half precision 1 - step is none that 1 is left of
                running.copy_(torch.lerp(running.to(step.dtype), now.mean((0, 2, 3)).to(step.dtype), step))
            else:
                running.mul_(1 - step).add_(now.mean((0, 2, 3)).to(running.dtype) * step)


class BatchNorm2d(_Norm):
    """Batch normalization (Ioffe and Szegedy 2015), the results and state dict of `torch.nn.BatchNorm2d`.

        y = weight (x - mean) / sqrt(var + eps) + bias

    with the moments of each channel over N, H, W. In training they are the batch's, and ``running_mean`` and
    ``running_var`` (unbiased) move towards them by ``momentum``, or average all batches where that is None. In
    eval mode the running ones are used, unless ``track_running_stats`` is false; a sample's result is then a
    function of that sample alone. With ``affine`` there are a weight and, unless ``bias`` is false, a bias.

    It is no subclass of `torch.nn.BatchNorm2d`, so what looks for that class passes it over:
    `torch.nn.SyncBatchNorm.convert_sync_batchnorm`, `torch.optim.swa_utils.update_bn`.

    Shapes: x and y (N, C, H, W), weight and bias (C,); ``forward``'s ``moments``, a (mean, var) used instead of
    all others, broadcast against x. Statistics are float32, float64 for float64 x; y has the dtype of x.

    Raises:
        ValueError: x is not (N, C, H, W) or not of floating point, or holds one value per channel when batch moments are
            wanted.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = EPSILON,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, "batch", None, eps, momentum, affine, track_running_stats, device, dtype, bias)


class InstanceNorm2d(_Norm):
    """Instance normalization (Ulyanov et al. 2016), the results and state dict of `torch.nn.InstanceNorm2d`.

    As `BatchNorm2d` with the moments of each channel of each sample over H, W. With ``track_running_stats``
    the running moments follow the average over the batch and are used in eval mode; a ``momentum`` of None
    leaves them as they are, as in torch.nn. A single sample may come without its N, as (C, H, W).

    Raises:
        ValueError: x is not (N, C, H, W) or (C, H, W), not of floating point, or 1 x 1 when its own moments are wanted.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = EPSILON,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, "instance", None, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def _styled(self, x: Tensor, moments: Moments) -> Tensor:
        single = x.dim() == 3 and x.shape[0] == self.num_features
        return super()._styled(x[None], moments)[0] if single else super()._styled(x, moments)


class LayerNorm2d(_Norm):
    """Layer normalization (Ba et al. 2016) of each sample over C, H, W, with a weight and a bias per channel.

        y = weight (x - mean) / sqrt(var + eps) + bias

    Shapes: x and y (N, C, H, W), weight and bias (C,). This is `torch.nn.GroupNorm` with one group, its results
    and state dict. It is not `torch.nn.LayerNorm`, whose weight has the shape of all that is normalized.

    Raises:
        ValueError: x is not (N, C, H, W) or not of floating point, or holds a single value.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = EPSILON,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, "layer", eps=eps, affine=affine, device=device, dtype=dtype, bias=bias)


class GroupNorm(_Norm):
    """Group normalization (Wu and He 2018), the results and state dict of `torch.nn.GroupNorm`.

    As `LayerNorm2d` for each of ``num_groups`` runs of C / ``num_groups`` neighbouring channels. As in torch.nn, x may
    have any number of axes after N and C: (N, C), (N, C, L), (N, C, D, H, W).

    Raises:
        ValueError: ``num_groups`` does not divide ``num_channels``; x is not (N, C, ...) or not of floating point, or
            holds a single value in each group.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = EPSILON,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_channels, "group", num_groups, eps, affine=affine, device=device, dtype=dtype, bias=bias)
        self.num_channels = num_channels

    def _styled(self, x: Tensor, moments: Moments) -> Tensor:
        if x.dim() == 4 or x.shape[1:2] != (self.num_channels,):
            return super()._styled(x, moments)
        if moments is not None:
            moments = tuple(_flattened(t[(None,) * (x.dim() - t.dim())]) for t in moments)
        return super()._styled(_flattened(x), moments).reshape(x.shape)


def group_normalized(x: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`GroupNorm` of x (N, C, ...) as a function; of one group it is `LayerNorm2d`."""
    maps = x if x.dim() == 4 else _flattened(x)
    return renormalize(maps, weight, bias, "group", num_groups, eps)[0].reshape(x.shape)


def _flattened(x: Tensor) -> Tensor:
    """(N, C, ...) as (N, C, L, 1)."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]), 1)


class ConditionalNorm(_Norm):
    """Normalization whose scale and shift come from outside (Dumoulin et al. 2017; Huang and Belongie 2017).

        y = gamma (x - mean) / sqrt(var + eps) + beta

    ``kind`` says whose moments are stripped: "instance", "layer", "group" (of ``num_groups``) or "batch". The last
    keeps running moments as `BatchNorm2d` does, and uses them in eval mode. There is no weight and no bias.

    Shapes: x and y (N, C, H, W); ``forward``'s gamma and beta (N, C), or (N, C, H, W) for a style per pixel, where
    an N of 1 serves the whole batch; its ``moments``, a (mean, var) used instead of all others, broadcast
    against x. Statistics are float32, float64 for float64 x; y has the dtype and memory format of x.

    Raises:
        ValueError: unknown ``kind``, ``num_groups`` that does not divide C; x, gamma or beta of another shape; x
            not of floating point, or with too few values to have moments when its own are wanted.
    """

    def __init__(
        self,
        num_features: int,
        kind: str = "instance",
        num_groups: int | None = None,
        eps: float = EPSILON,
        momentum: float | None = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        tracked = kind == "batch"
        super().__init__(num_features, kind, num_groups, eps, momentum, False, tracked, device, dtype)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor, moments: Moments = None) -> Tensor:
        if torch.jit.is_scripting():
            return self._scripted(x, gamma, beta, moments)
        else:
            traced = is_traced(x, gamma, beta, moments)
            return leaf(self, x, gamma, beta, moments) if traced else self._restyle(x, gamma, beta, moments)
