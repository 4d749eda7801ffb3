"""The lab on ε: what happens without it, how it bounds the gradient, and how small it may be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylenorm.functional import minimum_epsilon, normalize
from stylenorm.lab_layers import KINDS, SHORT, norm_layer, randn
from stylenorm.lab_result import Panel, Result, Row, Series, near

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def gradient_norm(variance: float, eps: float) -> float:
    """1/√(σ²+ε): the largest singular value of the Jacobian of a group of three elements or more."""
    return 1 / math.sqrt(variance + eps)


def smallest_safe(dtype: torch.dtype) -> float:
    """M^(-2/3), M the largest number of ``dtype``: below it ε^(-3/2) overflows."""
    return torch.finfo(dtype).max ** (-2 / 3)


def epsilon(quick: bool = False, seed: int = 0) -> Result:
    """What is ε for, and how small may it be?

    A constant map has x - μ = 0 and σ² = 0, so that without ε a norm is 0 times infinity: NaN. With it, 0.

    The Jacobian of y = (x - μ) r, r = 1/√(σ²+ε), over a group of n elements is r (1 - 1/n - y y'/n). Its singular
    values are 0 along the constant vector, r ε/(σ²+ε) along y, and r on the rest:

        ||dy/dx|| = 1/√(σ²+ε) ≤ 1/√ε

    The gradient of r by σ² is -r³/2, and autograd forms r³ first. For σ² = 0 it is ε^(-3/2), at most the largest
    number M of the dtype where

        ε ≥ M^(-2/3)        6.2e-4 in float16, 2.1e-26 in float32, 3.1e-206 in float64

    which `minimum_epsilon` promises, with some units of rounding to spare. The package keeps statistics in
    float32 or float64, and those two are measured through `stylenorm.functional.normalize`; the float16 and
    bfloat16 figures are of the same arithmetic done bare, and say why statistics are not kept in them.
    The smallest ε is found by bisection.

    Paper: Ioffe and Szegedy 2015 have ε; the bounds are derived here and in `minimum_epsilon`.
    """
    rows = _constant_maps() + _bounds(seed) + [row for dtype in DTYPES for row in _limits(dtype)]
    return Result(
        "epsilon",
        "Without ε a constant map gives NaN; with it the gradient is at most 1/√ε; and ε has a smallest safe value.",
        "||dy/dx|| = 1/√(σ²+ε) ≤ 1/√ε,  ε ≥ M^(-2/3)",
        tuple(rows),
        (_jacobian_panel(seed, quick), _overflow_panel()),
        paper="Ioffe and Szegedy 2015; the bounds are derived in `stylenorm.functional.minimum_epsilon`",
        note="float16 and bfloat16 are shown for comparison: the package keeps statistics in float32 or float64.",
    )


def _constant_maps() -> list[Row]:
    x, rows = torch.full((2, 8, 4, 4), 3.0), []
    for kind in KINDS:
        bare, safe = (norm_layer(kind, 8, eps=eps)(x).abs().max() for eps in (0.0, 1e-5))
        rows.append(near(f"{SHORT[kind]} of a constant map without ε", math.nan, bare))
        rows.append(near(f"{SHORT[kind]} of a constant map with ε = 1e-5", 0, safe))
    return rows


def _spectral_norm(deviation: float, eps: float, seed: int) -> tuple[float, float]:
    """(σ², the Jacobian's largest singular value) of IN for one channel of 4 x 4 elements."""
    x = deviation * randn(1, 1, 4, 4, seed=seed, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(norm_layer("instance", 1, eps=eps), x).reshape(16, 16)
    finite = bool(torch.isfinite(jacobian).all())  # of others there is no singular value
    return x.var(correction=0).item(), torch.linalg.matrix_norm(jacobian, 2).item() if finite else math.nan


def _bounds(seed: int) -> list[Row]:
    rows = []
    for deviation in (0.0, 1e-3, 1.0):
        variance, measured = _spectral_norm(deviation, 1e-5, seed)
        told = "σ = 0" if not deviation else f"σ near {deviation:g}"
        rows.append(near(f"gradient norm of IN, {told}, ε = 1e-5", gradient_norm(variance, 1e-5), measured, relative=1e-6))
    return rows


def _jacobian_panel(seed: int, quick: bool) -> Panel:
    deviations, series = torch.logspace(-5, 1, 7 if quick else 13).tolist(), []
    for color, eps in enumerate((1e-7, 1e-5, 1e-3)):
        points = [_spectral_norm(d, eps, seed) for d in deviations]
        sigma = [math.sqrt(v) for v, _ in points]
        label = f"ε = {eps:g}"
        series.append(Series(f"1/√(σ²+ε), {label}", sigma, [gradient_norm(v, eps) for v, _ in points], "line", color))
        series.append(Series(f"measured, {label}", sigma, [m for _, m in points], color=color))
    title, y_label = "The gradient is bounded by 1/√ε", "largest singular value of dy/dx"
    return Panel(title, "σ of the map", y_label, tuple(series), x_log=True, y_log=True)


def _root_gradient(eps: float, dtype: torch.dtype) -> Tensor:
    """d/dσ² of (x - μ)/√(σ²+ε) at x - μ = 1, σ² = 0: -ε^(-3/2)/2, computed with statistics in ``dtype``."""
    variance = torch.zeros(1, dtype=dtype, requires_grad=True)
    if dtype in (torch.float32, torch.float64):
        y = normalize(torch.ones(1, dtype=dtype), torch.zeros(1, dtype=dtype), variance, eps)
    else:
        y = torch.rsqrt(variance + torch.tensor(eps, dtype=dtype))
    return torch.autograd.grad(y.sum(), variance)[0]


def _smallest_finite(dtype: torch.dtype) -> float:
    """The least ε whose `_root_gradient` is finite, by bisection of its exponent."""
    low, high = torch.finfo(dtype).tiny, 1.0
    for _ in range(70):
        middle = math.sqrt(low) * math.sqrt(high)
        if torch.isfinite(_root_gradient(middle, dtype)).all():
            high = middle
        else:
            low = middle
    return high


def _limits(dtype: torch.dtype) -> list[Row]:
    name, info = str(dtype)[6:], torch.finfo(dtype)
    promised = minimum_epsilon(dtype)
    share = 8 * info.eps + 1e-13  # the power -2/3 of 1e308 costs float64 three digits
    return [
        near(f"{name}: least ε with a finite gradient", smallest_safe(dtype), _smallest_finite(dtype), relative=share),
        near(f"{name}: gradient at minimum_epsilon, {promised:.2g}, over ε^(-3/2)/2",
             1, _root_gradient(promised, dtype).abs().item() * promised**1.5 * 2, relative=2 * share),
        near(f"{name}: gradient just below M^(-2/3)",
             math.inf, _root_gradient(smallest_safe(dtype) * (1 - share), dtype).abs()),
    ]  # fmt: skip


def _overflow_panel() -> Panel:
    series = []
    for color, dtype in enumerate((torch.float16, torch.float32)):
        start = math.log10(smallest_safe(dtype))
        values = torch.logspace(start - 1.5, 0, 14, dtype=torch.float64).tolist()
        line = [v for v in values if v >= smallest_safe(dtype)]
        finite = [(v, g) for v in values if math.isfinite(g := _root_gradient(v, dtype).abs().item())]
        name = str(dtype)[6:]
        series.append(Series(f"ε^(-3/2)/2, to M^(-2/3) of {name}", line, [0.5 * v**-1.5 for v in line], "line", color))
        series.append(Series(f"measured where finite, {name}", *zip(*finite), color=color))
    title = "Below the smallest safe ε the gradient overflows"
    return Panel(title, "ε", "gradient of 1/√(σ²+ε) by σ², at σ² = 0", tuple(series), x_log=True, y_log=True)
