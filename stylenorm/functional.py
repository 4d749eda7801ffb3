"""Moments, normalizing and modulating: the pure functions that every layer here is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from stylenorm.architecture import EPSILON, KINDS
from stylenorm.fused import can_fuse, fused, fused_gradient, vmapped

SPATIAL = (-2, -1)


def minimum_epsilon(dtype: torch.dtype, gradient: float = 1.0) -> float:
    """Smallest ``eps`` for which ``rsqrt(var + eps)`` and its gradient are finite in ``dtype``.

    A constant map has variance 0, so ``eps`` can be all that stands under the root. With M the largest
    number of ``dtype``, r = eps^(-1/2) and g the largest gradient that arrives at r:

    - eps must be a normal number, eps >= tiny: processors may flush anything smaller to zero;
    - r must be finite, r <= M: eps >= M^(-2);
    - the gradient -(g/2) r^3 must be finite. Autograd forms r^3 first, so both r^3 <= M and (g/2) r^3 <= M:
      eps >= (max(1, g/2) / M)^(2/3).

    The third bound always exceeds the second. The result is the larger of the first and the third, and a few
    units of rounding more, since r and its cube are rounded too: 2.1e-26 in float32, 6.2e-4 in float16.

    Args:
        dtype: the dtype of the statistics, not of the activations.
        gradient: g, the largest magnitude of dL/dr that must come through.
    """
    info = torch.finfo(dtype)
    slope = (max(1.0, gradient / 2) / info.max) ** (2 / 3)
    return max(info.tiny, slope) * (1 + 8 * info.eps)


def moments(
    x: Tensor, kind: str = "instance", num_groups: int | None = None, *, dims: tuple[int, ...] | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of ``x`` over the elements that ``kind`` takes together.

        mean = 1/n sum x        var = 1/n sum (x - mean)^2

    ``x`` is (N, C, H, W). "batch" takes N, H, W together (Ioffe and Szegedy 2015), "layer" C, H, W (Ba et al.
    2016), "instance" H, W (Ulyanov et al. 2016) and "group" C/G, H, W (Wu and He 2018). ``dims`` names the
    axes instead, for ``x`` of any shape.

    Returns two tensors that broadcast against ``x``, in float32, or float64 for float64 ``x``. The variance
    of bfloat16 numbers beyond 1.8e19 is beyond float32, and comes out infinite; `renormalize` needs it not.

    Raises:
        ValueError: unknown ``kind``, ``num_groups`` that does not divide C, or ``x`` of other axes without ``dims``.
    """
    if dims is None:
        x, dims = _split(x, kind, num_groups)
        return _unscale(*(_join(t, x) for t in _centre(x, dims)[1:]))
    return _unscale(*_centre(x, dims)[1:])


def normalize(x: Tensor, mean: Tensor, var: Tensor, eps: float = EPSILON) -> Tensor:
    """``(x - mean) / sqrt(var + eps)`` with moments that broadcast against ``x``; shape and dtype of ``x``.

    `moments` gives such; those of channels are (C, 1, 1) or (N, C, 1, 1).

    Raises:
        ValueError: ``mean`` or ``var`` does not fit ``x``, or ``x`` is not of floating point.
    """
    return inject(x, mean, var, None, None, eps)


def modulate(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """``gamma * x + beta`` for ``x`` (N, C, H, W) and ``gamma``, ``beta`` (N, C) or, by region, (N, C, H, W).

    Computed in float32, or float64 for float64 ``x``; shape and dtype of ``x``. A gamma and beta of one
    sample serve the whole batch.

    Raises:
        ValueError: ``gamma`` or ``beta`` does not fit ``x``, or ``x`` is not of floating point.
    """
    _require_floats(x)
    return torch.addcmul(per_channel(beta, x), widen(x), per_channel(gamma, x)).to(x.dtype)


def inject(
    x: Tensor, mean: Tensor, var: Tensor, gamma: Tensor | None, beta: Tensor | None, eps: float = EPSILON
) -> Tensor:
    """``modulate(normalize(x, mean, var, eps), gamma, beta)`` with fewer passes over memory and one rounding.

    ``gamma`` and ``beta`` may be None, for 1 and 0.

    Raises:
        ValueError: ``mean``, ``var``, ``gamma`` or ``beta`` does not fit ``x``, or ``x`` is not of floating point.
    """
    _require_floats(x)
    _require_moments(x, mean, var)
    wide = widen(x)
    centred, scale = wide - mean.to(wide.dtype), torch.rsqrt(var.to(wide.dtype) + eps)
    gamma, beta = _both(gamma, beta)
    if gamma is None:
        return (centred * scale).to(x.dtype)
    return torch.addcmul(per_channel(beta, x), centred, per_channel(gamma, x) * scale).to(x.dtype)


def renormalize(
    x: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    kind: str = "instance",
    num_groups: int | None = None,
    eps: float = EPSILON,
) -> tuple[Tensor, Tensor, Tensor]:
    """Strip the moments of ``x`` (N, C, H, W) and put ``gamma`` and ``beta`` in their place.

        y = gamma (x - mean) / sqrt(var + eps) + beta        mean, var = moments(x, kind, num_groups)

    The same as `moments` then `inject`, but with the gradient written out, which is several times faster on
    a CPU and keeps ``x`` in its own dtype for the backward pass instead of a float32 copy. It is also right
    for every finite bfloat16 input, where the variance may be beyond float32.

    ``gamma`` and ``beta`` are (N, C) or (N, C, H, W), or None for 1 and 0. Returns y, in the dtype and memory
    format of ``x``, and mean and var as `moments` does but without a gradient, for running statistics.

    Raises:
        ValueError: unknown ``kind``, ``num_groups`` that does not divide C, ``gamma`` that does not fit ``x``, or ``x``
            is not of floating point.
    """
    _require_floats(x)
    view, dims = _split(x, kind, num_groups)
    gamma, beta = _both(gamma, beta)
    if gamma is not None:
        gamma, beta = (_split(per_channel(t, x), kind, num_groups)[0] for t in (gamma, beta))
    # A compiler derives and fuses the gradient itself, an exporter wants none, and forward mode has another one.
    plain = torch.compiler.is_compiling() or torch.jit.is_tracing() or forward_ad._current_level >= 0
    y, *statistics = (_renormalize if plain else _Renormalize.apply)(view, gamma, beta, dims, eps)
    mean, var = _unscale(*(_join(t, view) for t in statistics))
    return y.flatten(1, 2) if kind == "group" else y, mean.detach(), var.detach()


def adain(content: Tensor, style: Tensor, eps: float = EPSILON) -> Tensor:
    """Adaptive instance normalization (Huang and Belongie 2017): ``content`` with the moments of ``style``.

        y = sigma(style) (content - mu(content)) / sigma(content) + mu(style)        sigma = sqrt(var + eps)

    ``content`` is (N, C, H, W) and ``style`` (N, C, H', W') or (1, C, H', W'), of any height and width. The
    moments are those of each channel of each sample. Returns the shape and dtype of ``content``.

    Raises:
        ValueError: channels or samples of ``style`` do not fit ``content``, or ``content`` is not of floating point.
    """
    _require_tensors(content, style)
    if content.dim() == 4 and (style.dim() != 4 or style.shape[1] != content.shape[1] or style.shape[0] not in (1, content.shape[0])):
        raise ValueError(f"a style of shape {tuple(style.shape)} does not fit a content of {tuple(content.shape)}")
    _, mean, var, factor = _centre(style, SPATIAL)
    sigma = torch.sqrt(var + _scaled(eps, factor))
    if factor is not None:
        mean, sigma = mean / factor, sigma / factor
    return renormalize(content, sigma, mean, eps=eps)[0]


def _both(gamma: Tensor | None, beta: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """The one that is missing of the two as 1 or 0; None where both are."""
    if gamma is None and beta is not None:
        gamma = torch.ones_like(beta)
    if beta is None and gamma is not None:
        beta = torch.zeros_like(gamma)
    return gamma, beta


def _require_tensors(*maps: Tensor) -> None:
    for x in maps:
        if not isinstance(x, Tensor):
            raise TypeError(f"expected a tensor, not a {type(x).__name__}")


def _require_floats(x: Tensor) -> None:
    _require_tensors(x)
    if not x.is_floating_point():
        raise ValueError(f"a map of {x.dtype} cannot be normalized, which takes floating point; convert it with .float()")


def _require_moments(x: Tensor, mean: Tensor, var: Tensor) -> None:
    """Refuse what would make ``x`` larger, and (C,), as running moments are: where W is C, it would lie along W."""
    _require_tensors(mean, var)
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    for t in (mean, var):
        alike = all(n in (1, wanted) for n, wanted in zip(t.shape[::-1], x.shape[::-1]))
        if not alike or t.dim() > x.dim() or (t.dim() < x.dim() - 1 and t.numel() > 1):
            channels = "; those of channels are (C, 1, 1)" if x.dim() == 4 else ""
            raise ValueError(f"a mean or variance of shape {tuple(t.shape)} does not fit a map of {tuple(x.shape)}{channels}")


def widen(x: Tensor) -> Tensor:
    """``x`` in the dtype that statistics are kept in: float64 for float64, float32 for all others."""
    return x if x.dtype == torch.float64 else x.float()


def per_channel(gamma: Tensor, x: Tensor) -> Tensor:
    """``gamma``, (C,), (N, C) or (N, C, H, W), with four axes and the wide dtype, to broadcast against ``x``.

    Raises:
        ValueError: it does not fit ``x``.
    """
    _require_tensors(gamma)
    full = gamma.reshape(-1, *gamma.shape[-1:], 1, 1) if gamma.dim() in (1, 2) else gamma  # N, C, h, w
    fits = full.dim() == 4 and full.shape[0] in (1, x.shape[0]) and full.shape[1] == x.shape[1]
    if not fits or tuple(full.shape[2:]) not in ((1, 1), tuple(x.shape[2:])):
        raise ValueError(f"gamma and beta of shape {tuple(gamma.shape)} do not fit a map of {tuple(x.shape)}")
    return full.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def _split(x: Tensor, kind: str, num_groups: int | None) -> tuple[Tensor, tuple[int, ...]]:
    """A view of ``x`` (N, C, H, W) and the axes to take moments over; for "group" it is N, G, C/G, H, W."""
    _require_tensors(x)
    if x.dim() != 4:
        raise ValueError(f"expected a map of (N, C, H, W), not {tuple(x.shape)}")
    if kind == "group":
        if not num_groups or num_groups < 0 or x.shape[1] % num_groups:
            raise ValueError(f"num_groups={num_groups} does not divide {x.shape[1]} channels")
        return x.unflatten(1, (num_groups, -1)), (2, 3, 4)
    dims = {"batch": (0, 2, 3), "layer": (1, 2, 3), "instance": (2, 3)}
    if kind not in dims:
        raise ValueError(f"no norm {kind!r}; choose one of {', '.join(KINDS)}")
    return x, dims[kind]


def _join(t: Tensor | None, view: Tensor) -> Tensor | None:
    """Undo `_split` for a statistic: N, G, 1, 1, 1 -> N, C, 1, 1."""
    if t is None or view.dim() == 4:
        return t
    return t.expand(-1, -1, view.shape[2], 1, 1).flatten(1, 2)


def _centre(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """``factor * x - mean``, the mean and variance over ``dims`` of ``factor * x``, and `_range_factor`.

    Two passes, because `torch.var_mean` takes one with an algorithm ten times slower on a CPU, and the
    centred map is wanted anyway.
    """
    wide = widen(x)
    ranged = x.dtype == torch.bfloat16 and not torch.jit.is_tracing()  # which cannot read numbers as integers
    factor = _range_factor(x, dims) if ranged and x.numel() else None  # nothing has no largest
    if factor is not None:
        wide = wide.mul_(factor)
    mean = wide.mean(dims, keepdim=True)
    centred = wide - mean if wide.dtype == x.dtype else wide.sub_(mean)  # a function transform makes another object of x itself
    var = centred.square().mean(dims, keepdim=True)
    return centred, mean, var, factor


def _range_factor(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The power of two that brings max |x| over ``dims`` below 8, where it is 2^41 or more; elsewhere 1.

    bfloat16 reaches as far as float32, so that a sum of two numbers can overflow there, and a square does
    beyond 1.8e19. Below 2^41 none do. float16 ends at 65504 and needs no such care. float32 does, but gets
    from here what it gets from torch.nn, because the search for the largest is not free.

    Read as integers, bfloat16 numbers without their sign keep their order, and integers compare faster.
    """
    try:
        largest = (x.detach().view(torch.int16) & 0x7FFF).amax(dims, keepdim=True)
    except RuntimeError:  # inside of a torch.func.vmap, by torch 2.10
        largest = x.detach().abs().amax(dims, keepdim=True).float()
        fraction, exponent = torch.frexp(largest)
        return torch.where(exponent > 41, 8 * fraction / largest, 1.0)
    exponent = largest.int() >> 7  # above 7 bits of fraction; 127 stands for 2^0
    return (torch.where(exponent > 127 + 40, 127 + 129 - exponent, 127) << 23).view(torch.float32)


def _scaled(eps: float, factor: Tensor | None) -> float | Tensor:
    """``eps`` beside a variance of ``factor * x``, kept where the reciprocal root is finite."""
    if factor is None:
        return eps
    return (eps * factor * factor).clamp(min=min(eps, minimum_epsilon(factor.dtype)))


def _unscale(mean: Tensor, var: Tensor, factor: Tensor | None) -> tuple[Tensor, Tensor]:
    return (mean, var) if factor is None else (mean / factor, var / factor / factor)


def _renormalize(x, gamma, beta, dims, eps):
    """The result of `renormalize` and the last three of `_centre`, in the form that OpenVINO fuses into an MVN."""
    centred, mean, var, factor = _centre(x, dims)
    y = centred / torch.sqrt(var + _scaled(eps, factor))
    return (y if gamma is None else y * gamma + beta).to(x.dtype), mean, var, factor


class _Renormalize(torch.autograd.Function):
    """`_renormalize` and its gradient. With r = 1/sqrt(var + eps), z = r (x - mean) and h = gamma dy:

    dx = r (h - mean(h) - z mean(h z))        dgamma = sum(z dy)        dbeta = sum(dy)
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, gamma, beta, dims, eps):
        quick = fused(x, gamma, beta, dims, eps) if can_fuse(x, gamma, beta, dims) else None
        if quick is not None:
            return *quick, None
        centred, mean, var, factor = _centre(x, dims)
        scale = torch.rsqrt(var + _scaled(eps, factor))
        # Autograd does not watch here; and on a CPU fresh memory costs more than the arithmetic.
        if gamma is None:
            y = centred.mul_(scale)
        elif vmapped(gamma, beta):  # there are more of them than of x
            y = torch.addcmul(beta, centred, gamma * scale)
        else:
            y = centred.mul_(gamma * scale).add_(beta)
        return y.to(x.dtype), mean, var, factor

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, gamma, beta, ctx.dims, ctx.eps = inputs
        y, *statistics = output
        ctx.beta_shape = None if beta is None else beta.shape
        ctx.fused = can_fuse(x, gamma, beta, ctx.dims)
        ctx.save_for_backward(x, gamma, *statistics)
        ctx.mark_non_differentiable(*(t for t in statistics if t is not None))

    @staticmethod
    def backward(ctx, dy, *_):
        x, gamma, mean, var, factor = ctx.saved_tensors
        if not x.numel():  # no sum of nothing is a gradient of what it would be a mean of
            empty = None if gamma is None else gamma.new_zeros(gamma.shape), None if gamma is None else gamma.new_zeros(ctx.beta_shape)
            return torch.zeros_like(x), *empty, None, None
        again = torch.is_grad_enabled()  # for a second derivative, where the moments are functions of x
        if ctx.fused and factor is None and not again and not vmapped(dy):
            rows = gamma  # as many as beta has, which may be more
            if gamma is not None:
                rows = gamma.expand(max(gamma.shape[0], ctx.beta_shape[0]), *gamma.shape[1:])
            dx, dgamma, dbeta = fused_gradient(dy, x, rows, mean, var, ctx.dims, ctx.eps)
            if gamma is None:
                return dx, None, None, None, None
            return dx, dgamma.sum_to_size(gamma.shape), dbeta.sum_to_size(ctx.beta_shape), None, None
        if again:
            centred, mean, var, factor = _centre(x, ctx.dims)
        else:
            wide = widen(x)
            wide = wide if factor is None else wide.mul_(factor)
            centred = wide - mean if wide.dtype == x.dtype else wide.sub_(mean)
        r = torch.rsqrt(var + _scaled(ctx.eps, factor))  # of factor * x, like z's

        # With one gamma a channel h need not be formed: gamma comes after the sums over H and W.
        dy = h = widen(dy)
        dgamma = dbeta = None
        regions = gamma is not None and gamma.shape[-2:] != (1, 1)
        if regions:
            h = gamma * dy
        product = h * centred
        sum_h, sum_hz = h.sum(SPATIAL, keepdim=True), r * product.sum(SPATIAL, keepdim=True)  # N, C, 1, 1
        slope = r
        if gamma is not None:
            dgamma = (dy * centred * r if regions else sum_hz).sum_to_size(gamma.shape)
            dbeta = (dy if regions or ctx.beta_shape[-2:] != (1, 1) else sum_h).sum_to_size(ctx.beta_shape)
            if not regions:
                slope, sum_h, sum_hz = gamma * r, gamma * sum_h, gamma * sum_hz

        count = math.prod([x.shape[d] for d in ctx.dims])
        mean_h, mean_hz = (s.sum(ctx.dims, keepdim=True) / count for s in (sum_h, sum_hz))
        shift, tilt = -r * mean_h, r * r * mean_hz
        if factor is not None:
            slope, shift, tilt = slope * factor, shift * factor, tilt * factor
        if again or vmapped(dy):  # inside of which writing into a tensor is slow, and warned of
            dx = torch.addcmul(torch.addcmul(shift, h, slope), centred, tilt, value=-1)
        else:
            dx = torch.addcmul(shift, h, slope, out=product).addcmul_(centred, tilt, value=-1)
        return dx.to(x.dtype), dgamma, dbeta, None, None
