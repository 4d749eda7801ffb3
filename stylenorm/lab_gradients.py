"""The lab on gradients: the noise that moments of few elements bring in, and which channels a norm ties together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylenorm.functional import EPSILON
from stylenorm.lab_layers import SHORT, conditional, group_moments, group_numbers, norm_layer, randn
from stylenorm.lab_result import Heat, Panel, Result, Row, Series, near, slope

# ---- 6. gradient noise -------------------------------------------------------------------------

PIXEL = 1.5  # the fixed pixel's value, in deviations of the rest
CHANNELS, SIDE = 64, 4
# (kind, groups) from the most elements to the fewest
SIZES = (("layer", 1), ("group", 2), ("group", 4), ("group", 8), ("group", 16), ("group", 32), ("instance", 64), ("batch", 64))


def gradient_variance(elements: int, pixel: float = PIXEL) -> float:
    """(2a)² (1 + a²/2) / m: variance of dL/dγ, L = (γz)²/2, at γ = 1 for a pixel z of true value a.

    z = (a - mean)/deviation. Over m normal elements the mean has the variance 1/m and the deviation 1/(2m), and
    the two are independent, so that z varies by (1 + a²/2)/m, and dL/dγ = z² by (2a)² times that, to first order.
    """
    return (2 * pixel) ** 2 * (1 + pixel**2 / 2) / elements


def gradient_noise(quick: bool = False, seed: int = 0) -> Result:
    """How much noise do estimated moments put into a gradient, at batch 1?

    A map of 64 channels of 4 x 4 has one pixel of the fixed value a = 1.5; all others are normal numbers of
    mean 0 and variance 1, drawn anew in each trial. With L = (γz)²/2 of that pixel after the norm, dL/dγ at
    γ = 1 would be a² if the moments were the true ones. With moments of m elements it has the variance

        var(dL/dγ) = (2a)² (1 + a²/2) / m

    m = C H W / G: 1024 for LN, 16 for IN, and for BN, too, at batch 1. The law is of first order in 1/m, so small
    groups are off by a few times 1/m; the tolerance is 3/m and five standard errors of a variance over the trials.

    Paper: Wu and He 2018 on batch size; Ba et al. 2016. The formula is the delta method's.
    """
    trials = 4000 if quick else 16000
    rows, sizes, measured = [], [], []
    for kind, groups in SIZES:
        m = CHANNELS // groups * SIDE * SIDE
        value = _weight_gradients(kind, groups, trials, seed).var().item()
        told = f"{SHORT[kind]}{f', G = {groups}' if kind == 'group' else ''}, m = {m}"
        rows.append(near(f"variance of dL/dγ, {told}", gradient_variance(m), value, relative=3 / m + 5 * math.sqrt(2 / trials)))
        sizes.append(m)
        measured.append(value)
    large = [(m, v) for m, v in zip(sizes, measured) if m >= 64]
    rows.append(near("slope of log variance over log m, m ≥ 64", -1, slope(*zip(*large)), absolute=0.05))
    line = Series("(2a)² (1 + a²/2) / m", sizes, [gradient_variance(m) for m in sizes], "line")
    points = Series("measured", sizes, measured, color=1)
    panel = Panel("Noise of the gradient at batch 1: IN left, GN between, LN right", "m, elements that share a mean and variance",
                  "variance of dL/dγ", (line, points), x_log=True, y_log=True, x_ticks=sizes[:7])  # fmt: skip
    return Result(
        "gradient-noise",
        "The variance that estimated moments add to a gradient falls as 1/m: at batch 1, LN adds least, IN and BN most.",
        "var(dL/dγ) = (2a)² (1 + a²/2) / m",
        tuple(rows),
        (panel,),
        paper="Wu and He 2018; Ba et al. 2016",
        note="m counts independent elements. A real map's neighbouring pixels are alike, and count for fewer.",
    )


def _weight_gradients(kind: str, groups: int, trials: int, seed: int) -> Tensor:
    """dL/dγ of the fixed pixel's channel in each trial, by autograd through the layer: (trials,)."""
    # Each trial is a batch of its own: for BN, where samples mix, that takes as many calls, and one channel will do.
    channels, size = (1, 1) if kind == "batch" else (CHANNELS, 500)
    layer, found = conditional(kind, channels, groups), []
    for part in range(trials // 500):
        x = randn(500, CHANNELS, SIDE, SIDE, seed=seed * 1000 + part)[:, :channels]
        x[:, 0, 0, 0] = PIXEL
        for piece in x.split(size):
            gamma = torch.ones(piece.shape[:2], requires_grad=True)
            loss = layer(piece, gamma, torch.zeros_like(gamma))[:, 0, 0, 0].square().sum() / 2
            found.append(torch.autograd.grad(loss, gamma)[0][:, 0])
    return torch.cat(found)


# ---- 7. coupling -------------------------------------------------------------------------------


def block_norm(z: Tensor, a: int, b: int, r: float, elements: int) -> float:
    """Frobenius norm of dy_a/dx_b, two channels a and b of one group of ``elements``, ``z`` (C, H W) normalized.

        dy_a/dx_b = r ([a = b] 1 - (1 1' + z_a z_b')/m)

    With S the sum and Q the sum of squares of z over a channel and p its positions, the norm off the diagonal is
    r/m √(p² + 2 S_a S_b + Q_a Q_b), and on it r √(p - 2 (p + Q)/m + (p² + 2 S² + Q²)/m²).
    """
    p, s, q = z.shape[1], z.sum(1), z.square().sum(1)
    square = (p * p + 2 * s[a] * s[b] + q[a] * q[b]).item() / elements**2
    if a == b:
        square += p - 2 * (p + q[a].item()) / elements
    return r * math.sqrt(square)


def coupling(quick: bool = False, seed: int = 0) -> Result:
    """Which channels, and which samples, does a norm tie together?

    The Jacobian of a layer for a map of 8 channels of 4 x 4, cut into a block for each pair of channels. Within a
    group of m elements, r = 1/√(σ²+ε),

        dy_a/dx_b = r ([a = b] 1 - (1 1' + z_a z_b')/m)

    and between groups it is zero: for IN all blocks off the diagonal, for GN those between groups, for LN none.
    For BN the same holds between samples instead of channels. `block_norm` has the norms' closed form.

    Paper: the Jacobian is Ioffe and Szegedy's 2015, section 3.
    """
    x = randn(2, 8, 4, 4, seed=seed, dtype=torch.float64)
    x = x * torch.linspace(0.5, 2, 8, dtype=torch.float64)[:, None, None]
    rows, maps = [], []
    for kind, groups in (("instance", 8), ("group", 2), ("layer", 1)):
        measured = _block_norms(kind, groups, x[:1]).tolist()
        predicted = _predicted_norms(kind, groups, x[:1])
        rows += _compared(kind, groups, predicted, measured)
        label = f"{SHORT[kind]}{f', G = {groups}' if kind == 'group' else ''}: channels"
        maps.append(Heat(label, "channel of x", "channel of y", measured, "norm of the block dy/dx; black: 0", log=True))
    between = _sample_blocks(x)
    for kind in ("batch", "instance", "layer"):
        predicted, relation = (0.1, "≥") if kind == "batch" else (0, "=")
        rows.append(Row(f"{SHORT[kind]}: norm of dy of one sample by x of the other", predicted, between[kind], relation))
    return Result(
        "coupling",
        "IN's channels do not see one another: the blocks between them are zero. LN's all do, GN's within their group.",
        "dy_a/dx_b = r ([a = b] 1 - (1 1' + z_a z_b')/m) in a group, else 0",
        tuple(rows),
        tuple(maps),
        paper="Ioffe and Szegedy 2015",
    )


def _jacobian(kind: str, groups: int, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    found = torch.autograd.functional.jacobian(norm_layer(kind, c, groups), x)
    return found.reshape(n, c, h * w, n, c, h * w)


def _block_norms(kind: str, groups: int, x: Tensor) -> Tensor:
    return _jacobian(kind, groups, x)[0, :, :, 0].square().sum((1, 3)).sqrt()  # C, C


def _predicted_norms(kind: str, groups: int, x: Tensor) -> list[list[float]]:
    channels, numbers = x.shape[1], group_numbers(tuple(x.shape), kind, groups)
    mean, variance = group_moments(x, numbers)
    own = numbers[0, :, 0, 0].tolist()
    r = (variance + EPSILON).rsqrt()
    z = ((x - mean[numbers]) * r[numbers])[0].flatten(1)  # C, H W
    size = x[0].numel() // groups

    def norm(a: int, b: int) -> float:
        return block_norm(z, a, b, r[own[a]].item(), size) if own[a] == own[b] else 0.0

    return [[norm(a, b) for b in range(channels)] for a in range(channels)]


def _compared(kind: str, groups: int, predicted: list[list[float]], measured: list[list[float]]) -> list[Row]:
    pairs = [(p, m, a == b) for a, line in enumerate(predicted) for b, (p, m) in enumerate(zip(line, measured[a]))]
    name = SHORT[kind] + (f", G = {groups}" if kind == "group" else "")
    inside = [(p, m) for p, m, same in pairs if p and not same]
    outside = [m for p, m, same in pairs if not p]
    rows = [near(f"{name}: largest error of a block's norm", 0, max(abs(p - m) for p, m, _ in pairs), absolute=1e-9)]
    if outside:
        rows.append(near(f"{name}: largest norm of {len(outside)} blocks between groups", 0, max(outside)))
    if inside:
        mean_p, mean_m = (sum(column) / len(inside) for column in zip(*inside))
        rows.append(near(f"{name}: mean norm of {len(inside)} blocks between channels of a group", mean_p, mean_m, relative=1e-9))
    return rows


def _sample_blocks(x: Tensor) -> dict[str, float]:
    """Norm of the first sample's output by the second's input, for each kind."""
    return {kind: _jacobian(kind, 1, x)[0, :, :, 1].norm().item() for kind in ("batch", "instance", "layer")}
