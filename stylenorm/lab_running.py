"""The lab on running estimates: their noise and lag, and what a shift of the data does to them."""

from __future__ import annotations

import math

import torch
from torch import nn

from stylenorm.functional import EPSILON
from stylenorm.lab_layers import norm_layer
from stylenorm.lab_result import Panel, Result, Series, near

# ---- 9. momentum -------------------------------------------------------------------------------

SIGMA, COUNT = 1.0, 4  # deviation of an element, elements a batch and channel
DRIFT = 0.02  # of the true mean, a batch


def running_variance(momentum: float, sigma: float = SIGMA, count: int = COUNT) -> float:
    """σ² m/(2-m)/n: variance of the running mean r' = (1-m) r + m x̄ of batch means x̄ of variance σ²/n."""
    return sigma**2 / count * momentum / (2 - momentum)


def running_lag(momentum: float, drift: float = DRIFT) -> float:
    """d (1-m)/m: how far the running mean stays behind a true mean that moves by d a batch."""
    return drift * (1 - momentum) / momentum


def squared_error(momentum: float) -> float:
    """Variance and squared lag together: the mean squared error of the running mean."""
    return running_variance(momentum) + running_lag(momentum) ** 2


def best_momentum(sigma: float = SIGMA, count: int = COUNT, drift: float = DRIFT) -> float:
    """The m where `squared_error` is least: the root of (σ²/n) m³ = d² (1-m) (2-m)², by bisection.

    The left side rises from 0 and the right one falls to 0 at m = 1, so there is one root.
    """
    low, high = 0.0, 1.0
    for _ in range(60):
        m = (low + high) / 2
        low, high = (m, high) if sigma**2 / count * m**3 < drift**2 * (1 - m) * (2 - m) ** 2 else (low, m)
    return low


def momentum(quick: bool = False, seed: int = 0) -> Result:
    """How should a running mean be weighted when the true mean drifts?

    Batches of n = 4 elements a channel, of deviation σ = 1, whose true mean grows by d = 0.02 a batch. BN's running
    mean r' = (1-m) r + m x̄ then has, once the start is forgotten,

        variance σ² m/(2-m)/n        lag d (1-m)/m

    the first of which wants a small m and the second a large one. Their sum, variance + lag², is least where
    (σ²/n) m³ = d² (1-m)(2-m)². The layer runs 12/m batches, after which e^-12 of the start is left. Its channels
    are so many independent runs: the variance is taken over them, the lag is their mean. The tolerance is five
    standard errors. The least measured sum is found between momenta 12 % apart.

    Paper: Ioffe and Szegedy 2015 use the running mean; the closed forms are those of any exponential average.
    """
    channels = 3000 if quick else 20000
    best = best_momentum()
    grid = [best * 1.12**k for k in range(-4, 5)]
    wide = [0.02, 0.05, 0.1, 0.3, 0.6]
    found = {m: _run(m, channels, seed) for m in sorted(grid + wide)}
    rows = []
    for m in wide:
        variance, lag = found[m]
        spread = 5 * math.sqrt(2 / channels)
        rows.append(near(f"variance of the running mean, m = {m}", running_variance(m), variance, relative=spread))
        error = 5 * math.sqrt(running_variance(m) / channels)
        rows.append(near(f"lag behind the true mean, m = {m}", running_lag(m), lag, relative=1e-4, absolute=error))
    least = _vertex(grid, [found[m][0] + found[m][1] ** 2 for m in grid])
    rows.append(near("momentum of the least squared error", best, least, relative=0.1))
    return Result(
        "momentum",
        "The running mean's noise grows with the momentum m and its lag falls with it: one m in between is best.",
        "variance σ²m/(2-m)/n,  lag d(1-m)/m",
        tuple(rows),
        (_momentum_panel(found),),
        paper="Ioffe and Szegedy 2015",
    )


def _run(momentum: float, channels: int, seed: int) -> tuple[float, float]:
    """(variance over channels, mean lag) of BN's running mean after 12/m batches."""
    layer = norm_layer("batch", channels, momentum=momentum)
    source, steps = torch.Generator().manual_seed(seed), math.ceil(12 / momentum)
    for step in range(1, steps + 1):
        layer(SIGMA * torch.randn(COUNT, channels, 1, 1, generator=source) + DRIFT * step)
    running = layer.running_mean.double()
    return running.var().item(), DRIFT * steps - running.mean().item()


def _vertex(x: list[float], y: list[float]) -> float:
    """Where the parabola through log x that fits y best is least; NaN where it has no least value."""
    a = torch.tensor([[1.0, math.log(v), math.log(v) ** 2] for v in x], dtype=torch.float64)
    _, tilt, bend = torch.linalg.lstsq(a, torch.tensor(y, dtype=torch.float64)[:, None]).solution.flatten().tolist()
    return math.exp(-tilt / (2 * bend)) if bend > 0 else math.nan


def _momentum_panel(found: dict[float, tuple[float, float]]) -> Panel:
    curve = torch.logspace(math.log10(min(found)), math.log10(0.7), 60).tolist()
    m = list(found)
    variance, square = [v for v, _ in found.values()], [lag**2 for _, lag in found.values()]
    parts = (
        ("variance", running_variance, variance),
        ("lag²", lambda v: running_lag(v) ** 2, square),
        ("sum", squared_error, [a + b for a, b in zip(variance, square)]),
    )
    series = []
    for color, (name, formula, measured) in enumerate(parts):
        series.append(Series(f"{name}, predicted", curve, [formula(v) for v in curve], "line", color))
        series.append(Series(f"{name}, measured", m, measured, color=color))
    low, high = min(square), max(square)
    series.append(Series(f"best m = {best_momentum():.3f}", [best_momentum()] * 2, [low, high], "line", 7))
    title, ticks = "Error of BN's running mean under drift", (0.02, 0.05, 0.1, 0.2, 0.5)
    return Panel(title, "momentum m", "squared error, in σ²", tuple(series), x_log=True, y_log=True, x_ticks=ticks)


# ---- 10. a shift of the test data --------------------------------------------------------------


def shifted_output(gamma: float, shift: float, variance: float, eps: float = EPSILON) -> float:
    """γ (μ_test - μ)/√(σ²+ε): how far BN's mean output in eval mode moves when the data's mean has."""
    return gamma * shift / math.sqrt(variance + eps)


def shift(quick: bool = False, seed: int = 0) -> Result:
    """What does a shift of all test data, a brighter light for instance, do to the output?

    BN and IN, each with γ = 1.5 and β = 0.3, see 40 batches of pictures whose 3 channels have means and deviations
    of their own; BN averages their moments. Then come test pictures whose values are all higher by s. In eval mode
    BN's mean output moves from that of the pictures without s by

        γ s/√(σ²+ε)

    with the σ² of the training pictures, taken in float64 over all of them; and its mean less β is that of
    s = μ_test - μ. IN subtracts each picture's own mean,
    so that its output stays. A second row gives each channel a shift of its own, as a colour cast does.

    Paper: Ioffe and Szegedy 2015; Ulyanov et al. 2016 on contrast.
    """
    gamma, beta, channels = 1.5, 0.3, 3
    layers = {kind: _affine(norm_layer(kind, channels, affine=True, **options), gamma, beta)
              for kind, options in (("batch", {"momentum": None}), ("instance", {}))}  # fmt: skip
    pictures = _pictures(40 * 16, seed)
    for batch in pictures.split(16):
        layers["batch"].train()(batch)
    variance = pictures.double().var((0, 2, 3)).tolist()
    test = _pictures(64, seed + 1)

    def moved(kind: str, cast: list[float]) -> list[float]:
        layer = layers[kind].eval()
        change = layer(test + torch.tensor(cast)[:, None, None]) - layer(test)
        return change.double().mean((0, 2, 3)).tolist()

    rows, shifts = [], [-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]
    measured = {kind: [moved(kind, [s] * channels) for s in shifts] for kind in layers}
    for s, now in zip(shifts, measured["batch"]):
        if s:
            predicted = shifted_output(gamma, s, variance[0])
            rows.append(near(f"BN: output of channel 0 moves by, shift {s:g}", predicted, now[0], relative=0.01))
    for c, (s, now) in enumerate(zip((0.5, -0.2, 0.1), moved("batch", [0.5, -0.2, 0.1]))):
        predicted = shifted_output(gamma, s, variance[c])
        rows.append(near(f"BN: output of channel {c} moves by, colour cast {s:g}", predicted, now, relative=0.01))
    means = [(test[:, 0] + 1).double().mean().item(), pictures[:, 0].double().mean().item()]
    level = layers["batch"].eval()(test + 1)[:, 0].double().mean().item() - beta
    apart = shifted_output(gamma, means[0] - means[1], variance[0])
    rows.append(near("BN: mean output of channel 0 less β, shift 1", apart, level, relative=0.01))
    largest = max(abs(v) for now in measured["instance"] for v in now)
    cast = max(map(abs, moved("instance", [0.5, -0.2, 0.1])))
    rows.append(near("IN: largest move of a channel's output, any shift", 0, largest, absolute=1e-5))
    rows.append(near("IN: largest move of a channel's output, colour cast", 0, cast, absolute=1e-5))
    series = []
    for c in range(channels):
        line = [shifted_output(gamma, s, variance[c]) for s in shifts]
        series.append(Series(f"BN, channel {c}: γs/√(σ²+ε)", shifts, line, "line", c))
        series.append(Series(f"BN, channel {c}, measured", shifts, [now[c] for now in measured["batch"]], color=c))
    series.append(Series("IN, measured", shifts, [now[0] for now in measured["instance"]], color=3))
    return Result(
        "shift",
        "A shift of all test data moves BN's output in proportion; IN takes each picture's own mean away and stays.",
        "Δ mean(y) = γ (μ_test - μ)/√(σ²+ε)",
        tuple(rows),
        (Panel("A shift of the test data", "shift s of every pixel", "move of the mean output", tuple(series)),),
        paper="Ioffe and Szegedy 2015; Ulyanov et al. 2016",
        note="The running variance averages the batches' own, of 16 pictures, which is within 1 % of that of all.",
    )


def _pictures(count: int, seed: int):
    """(count, 3, 8, 8): normal numbers about a mean of each picture's own, with other moments in each channel."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 8, 8, generator=source) + 0.3 * torch.randn(count, 3, 1, 1, generator=source)
    scale, offset = torch.tensor([0.25, 0.5, 1.0]), torch.tensor([0.2, 0.5, -0.3])
    return x * scale[:, None, None] + offset[:, None, None]


def _affine(layer: nn.Module, gamma: float, beta: float) -> nn.Module:
    with torch.no_grad():
        layer.weight.fill_(gamma)
        layer.bias.fill_(beta)
    return layer.requires_grad_(False)
