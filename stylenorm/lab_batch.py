"""The lab on batches: what a sample's neighbours do to it, in training and in inference."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stylenorm.functional import EPSILON
from stylenorm.lab_layers import SHORT, norm_layer, randn
from stylenorm.lab_result import Panel, Result, Series, near, slope

# ---- 8. training against inference -------------------------------------------------------------

PROBE = (0.8, 0.2)  # the fixed picture's mean in each of two channels; the larger one is its class
TEXTURE = 0.5  # deviation of every picture within a channel
BATCH = 8


def batch_margin(other: float, eps: float = EPSILON) -> float:
    """z_0 - z_1, by which a picture with the channel means p is of class 0, among B - 1 neighbours with the means q.

        z_c = k (p_c - q_c) / √(s² + k (p_c - q_c)²/B + ε)        k = (B - 1)/B

    since the batch's mean is p/B + k q, and its variance s² within pictures and k (p - q)²/B between them.
    Here q = (``other``, 0). The sign changes at q_0 = p_0 - p_1 whatever s and B are.
    """
    k = (BATCH - 1) / BATCH
    gaps = (PROBE[0] - other, PROBE[1])
    z = [k * gap / math.sqrt(TEXTURE**2 + k * gap * gap / BATCH + eps) for gap in gaps]
    return z[0] - z[1]


def inference(quick: bool = False, seed: int = 0) -> Result:
    """Can a picture's neighbours in the batch change its class?

    The classifier is BN and a mean over each of two channels; the larger mean is the class. The picture has the
    means p = (0.8, 0.2), so it is of class 0. Its B - 1 = 7 neighbours have the means q = (q_0, 0), and all have
    the same texture of deviation s. With batch statistics class 0 wins by

        z_0 - z_1,   z_c = k (p_c - q_c) / √(s² + k (p_c - q_c)²/B + ε),   k = (B - 1)/B

    and loses from q_0 = p_0 - p_1 = 0.6 on. With the running estimates of eval mode the result is a function of the
    picture alone: the same to the last bit for all neighbours. Those estimates come from 50 batches of training.

    Paper: Ioffe and Szegedy 2015, section 3.1.
    """
    layer = _trained(norm_layer("batch", 2), seed)
    others = torch.linspace(-1, 3, 17 if quick else 41, dtype=torch.float64).tolist()
    batch = [_margin(layer, other, batch=True) for other in others]
    running = [_margin(layer, other, batch=False) for other in others]
    predicted = [batch_margin(other) for other in others]
    errors = [abs(p - m) for p, m in zip(predicted, batch)]
    rows = (
        near("batch statistics: neighbours' mean at which the class flips", PROBE[0] - PROBE[1], _flip(layer), absolute=1e-6),
        near("batch statistics: largest error of the margin", 0, max(errors), absolute=1e-6),
        near("batch statistics: classes that the one picture gets", 2, len({m > 0 for m in batch})),
        near("running estimates: classes that the one picture gets", 1, len({m > 0 for m in running})),
        near("running estimates: spread of the margin over all neighbours", 0, max(running) - min(running)),
    )
    series = (
        Series("batch statistics, predicted", others, predicted, "line"),
        Series("batch statistics, measured", others, batch, color=0),
        Series("running estimates, measured", others, running, color=1),
        Series("class 0 above, class 1 below", [others[0], others[-1]], [0, 0], "line", 7),
    )
    title, x_label = "One picture's class among different neighbours", "neighbours' mean in channel 0"
    panel = Panel(title, x_label, "margin of class 0, z_0 - z_1", series)
    return Result(
        "inference",
        "With batch statistics in inference the neighbours decide a picture's class; with running estimates they never do.",
        "flip at q_0 = p_0 - p_1",
        rows,
        (panel,),
        paper="Ioffe and Szegedy 2015",
    )


def _picture(mean: tuple[float, float]) -> Tensor:
    """(1, 2, 4, 4) of the given channel means and, within each channel, a deviation of exactly TEXTURE."""
    board = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(8).reshape(1, 1, 4, 4)
    return torch.tensor(mean, dtype=torch.float64)[None, :, None, None] + TEXTURE * board


def _trained(layer: nn.Module, seed: int) -> nn.Module:
    layer.double().train()
    for means in randn(50, BATCH, 2, seed=seed, dtype=torch.float64):
        layer(torch.cat([_picture((a, b)) for a, b in means.tolist()]))
    return layer


def _margin(layer: nn.Module, other: float, batch: bool) -> float:
    """Channel 0's mean less channel 1's, after BN of the probe among its neighbours."""
    layer.eval()
    if batch:
        layer = norm_layer("batch", 2, track_running_stats=False)  # has none but the batch's, in eval mode, too
    pictures = torch.cat([_picture(PROBE)] + [_picture((other, 0.0))] * (BATCH - 1))
    z = layer(pictures)[0].mean((1, 2))
    return (z[0] - z[1]).item()


def _flip(layer: nn.Module) -> float:
    """The neighbours' mean at which the margin is 0, by bisection."""
    low, high = -1.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _margin(layer, middle, batch=True) > 0 else (low, middle)
    return low


# ---- 12. noise as regularization ---------------------------------------------------------------

PIXELS = 4  # 2 x 2
VALUE = 1.0  # the sample's pixels are +1, -1, +1, -1: of the mean 0 and the variance 1 that all pixels have


def companion_variance(batch: int) -> float:
    """(1 + a²/2) (m - k)/m², m = k N: variance of a pixel's z over random companions in a batch of N samples.

    The k pixels of the sample itself are fixed, and m - k normal ones drawn: the mean has the variance (m - k)/m²
    and the deviation half of it, to first order. For large N it is (1 + a²/2)/m: the 1/N law.
    """
    m = PIXELS * batch
    return (1 + VALUE**2 / 2) * (m - PIXELS) / m**2


def batch_noise(quick: bool = False, seed: int = 0) -> Result:
    """How much does one sample's output vary with its random companions?

    A sample of 2 x 2 pixels, +1 and -1, is put into batches of N samples whose pixels are normal numbers of mean 0
    and variance 1. Under BN in training a pixel's output has, over draws of the companions, the variance

        (1 + a²/2) (m - k)/m²,  m = 4 N,  k = 4,  a = 1        about 0.375/N

    which regularizes training as added noise does, the less so the larger the batch. The outputs of LN, IN and
    GN are the same for all companions. Each channel of BN serves as one draw. First order in 1/m: the tolerance
    is 4/m and five standard errors.

    Paper: Ioffe and Szegedy 2015, section 3.4; Luo et al. 2019.
    """
    draws = 4000 if quick else 40000
    sizes = [2, 4, 8, 16, 32, 64]
    measured = [_spread_bn(n, draws, seed) for n in sizes]
    rows = [
        near(f"BN: variance of one output, batch of {n}", companion_variance(n), v,
             relative=1 / n + 5 * math.sqrt(2 / draws))
        for n, v in zip(sizes, measured)
    ]  # fmt: skip
    rows.append(near("BN: slope of log variance over log N, N ≥ 8", -1, slope(sizes[2:], measured[2:]), absolute=0.08))
    for kind in ("layer", "instance", "group"):
        rows.append(near(f"{SHORT[kind]}: largest change of one output over 50 sets of companions", 0, _change(kind, seed)))
    line = Series("BN, (1 + a²/2)(m - k)/m²", sizes, [companion_variance(n) for n in sizes], "line")
    panel = Panel("Noise that random companions add (LN, IN and GN: none)", "samples in the batch, N", "variance of one output",
                  (line, Series("BN, measured", sizes, measured, color=1)), x_log=True, y_log=True, x_ticks=sizes)  # fmt: skip
    return Result(
        "batch-noise",
        "In training BN makes a sample's output depend on its random companions, by a noise that falls as 1/N; the rest do not.",
        "var(y) = (1 + a²/2) (m - k)/m²,  m = 4N, k = 4",
        tuple(rows),
        (panel,),
        paper="Ioffe and Szegedy 2015; Luo et al. 2019",
        note="The lab shows the noise and its law. That it helps a network to generalize is not shown here.",
    )


def _with_sample(companions: Tensor) -> Tensor:
    sample = VALUE * torch.tensor([[1.0, -1.0], [1.0, -1.0]]).expand(1, companions.shape[1], 2, 2)
    return torch.cat([sample, companions])


def _spread_bn(batch: int, draws: int, seed: int) -> float:
    """Variance of the sample's first pixel over the channels, each of which has drawn its own companions."""
    values = []
    for part in range(draws // 2000):
        x = _with_sample(randn(batch - 1, 2000, 2, 2, seed=seed * 1000 + part))
        values.append(norm_layer("batch", 2000)(x)[0, :, 0, 0])
    return torch.cat(values).var().item()


def _change(kind: str, seed: int) -> float:
    layer = norm_layer(kind, 8)
    outputs = [layer(_with_sample(randn(7, 8, 2, 2, seed=seed + draw)))[0] for draw in range(50)]
    return max((y - outputs[0]).abs().max().item() for y in outputs)
