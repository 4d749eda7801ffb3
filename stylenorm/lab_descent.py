"""The lab on training: what earlier weights do to a layer's mean, and how smooth the descent is."""

from __future__ import annotations

import math
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenorm.lab_layers import KINDS, SHORT, norm_layer, randn
from stylenorm.lab_result import Panel, Result, Row, Series, near

ALL = ("none", *KINDS)
WIDTH, SIDE = 8, 12


class Network(nn.Module):
    """Convolutions of 3 x 3 over a wrapped border, each with a norm of ``kind`` and a ReLU, and a 1 x 1 convolution.

    (N, 3, H, W) to (N, 3, H, W). Weights are He et al.'s 2015, from ``seed``: the same for all kinds.
    """

    def __init__(self, kind: str, depth: int, seed: int, **options) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(seed)

        def weight(inputs: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(WIDTH, inputs, 3, 3, generator=source) * math.sqrt(2 / (9 * inputs)))

        self.weights = nn.ParameterList(weight(WIDTH if i else 3) for i in range(depth))
        self.norms = nn.ModuleList(norm_layer(kind, WIDTH, **options) for _ in range(depth))
        self.head = nn.Parameter(torch.randn(3, WIDTH, 1, 1, generator=source) / math.sqrt(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        for weight, norm in zip(self.weights, self.norms):
            x = F.relu(norm(wrapped_conv(x, weight)))
        return F.conv2d(x, self.head)


def wrapped_conv(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight)


def filtering_task(seed: int, count: int = 16) -> tuple[Tensor, Tensor]:
    """Blurred noise, and what a random filter and a tanh make of it: twice (N, 3, 12, 12).

    Each channel of each input has the mean 0 and the deviation 1, so that no norm takes away what is asked for.
    The target has them over all: a network that answers 0 has a loss of 1.
    """
    noise = randn(count + 1, 3, SIDE, SIDE, seed=seed)
    x = noise[:count] + 3 * F.avg_pool2d(noise[:count], 3, 1, 1)
    x = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)
    y = wrapped_conv(x, noise[count, :, :3, :3].expand(3, 3, 3, 3) * randn(3, 3, 1, 1, seed=seed + 1))
    y = torch.tanh(1.5 * y / y.std())
    return x, (y - y.mean()) / y.std()


def descend(parameters: list[Tensor], loss: Tensor, rate: float) -> None:
    """One step of plain gradient descent."""
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters)):
        p.data.sub_(g, alpha=rate)


# ---- 5. drift ----------------------------------------------------------------------------------


def sample_means(first: Tensor, second: Tensor, x: Tensor) -> Tensor:
    """1/C 1' K₂ K₁ m: mean output of two wrapped convolutions for each sample of ``x``, (N, 3, H, W) to (N,).

    K is a convolution's kernel summed over its 9 positions, m a sample's channel means: over a wrapped border
    each pixel meets each weight once.
    """
    return (x.mean((2, 3)) @ first.sum((2, 3)).T @ second.sum((2, 3)).T).mean(1)


def drift(quick: bool = False, seed: int = 0) -> Result:
    """How far does a layer's mean output for a sample drift while the weights before it train?

    Two convolutions without a ReLU between, then a norm or none, a ReLU and a 1 x 1 convolution learn to filter 16
    pictures by gradient descent. After each step the mean over C, H, W of the norm's output is taken for each
    picture. Drift is the largest change of it since the start, over the pictures.

        none: 1/C 1' K₂ K₁ m (`sample_means`), which moves with the weights
        LN: 0 by definition      IN, GN: 0, since each of their groups' is      BN: 0 for the batch's channels only

    That a sample drifts under BN has no closed form here: the row asks for a thousand times LN's rounding.

    Paper: Ioffe and Szegedy 2015 name it internal covariate shift. Santurkar et al. 2018 show that it is not what
    makes BN train faster; this experiment measures the drift only.
    """
    steps = 40 if quick else 150
    runs = {kind: _drifts(kind, steps, seed) for kind in ALL}
    predicted, rows = runs["none"]["predicted"], []
    rows.append(near("none: largest drift of a sample's mean", max(predicted), max(runs["none"]["sample"]), relative=1e-3))
    for kind in ("layer", "group", "instance"):
        rows.append(near(f"{SHORT[kind]}: largest drift of a sample's mean", 0, max(runs[kind]["sample"]), absolute=1e-6))
    rows.append(near("BN: largest mean of a channel over the batch", 0, max(runs["batch"]["channel"]), absolute=1e-6))
    rows.append(Row("BN: largest drift of a sample's mean", 1e-3, max(runs["batch"]["sample"]), "≥"))
    series = [Series("none, predicted", range(steps + 1), [max(v, 1e-9) for v in predicted], "line", 0)]
    marks = slice(None, None, max(1, steps // 20))
    for color, kind in enumerate(ALL):
        seen = [max(v, 1e-9) for v in runs[kind]["sample"]]
        series.append(Series(f"{SHORT[kind]}, measured", list(range(steps + 1))[marks], seen[marks], color=color))
    panel = Panel("Drift of a sample's mean (1e-9 stands for less)", "steps of training", "largest change of the mean since the start",
                  tuple(series), y_log=True)  # fmt: skip
    return Result(
        "drift",
        "While the weights before it train, LN holds each sample's mean at 0, as do GN and IN; BN holds the batch's only.",
        "none: mean = 1/C 1' K₂ K₁ m;  LN, GN, IN: 0",
        tuple(rows),
        (panel,),
        paper="Ioffe and Szegedy 2015; Santurkar et al. 2018",
        note="That BN's samples drift at all is an expectation, not a formula.",
    )


def _drifts(kind: str, steps: int, seed: int) -> dict[str, list[float]]:
    x, y = filtering_task(seed)
    x = x + 0.5 * randn(len(x), 3, 1, 1, seed=seed + 2)  # pictures of different brightness and colour
    network = Network("none", 2, seed)
    norm, parameters = norm_layer(kind, WIDTH), list(network.parameters())
    found: dict[str, list[float]] = {"predicted": [], "sample": [], "channel": []}
    start = None
    for _ in range(steps + 1):
        z = norm(wrapped_conv(wrapped_conv(x, network.weights[0]), network.weights[1]))
        means = torch.stack([sample_means(*network.weights, x), z.mean((1, 2, 3))]).detach()
        start = means if start is None else start
        predicted, sample = (means - start).abs().amax(1).tolist()
        # What a fixed mean is, the start does not say: from 0 for the norms, from the start for none.
        if kind in ("layer", "group", "instance"):
            sample = means[1].abs().max().item()
        channel = z.mean((0, 2, 3)).abs().max().item()
        for key, value in (("predicted", predicted), ("sample", sample), ("channel", channel)):
            found[key].append(value)
        descend(parameters, F.mse_loss(F.conv2d(F.relu(z), network.head), y), 0.1)
    return found


# ---- 11. smoother descent ----------------------------------------------------------------------

LEARNS, GOAL = 0.9, 0.7  # losses; 1 is a network that answers 0
SMOOTH_RATE = 0.1


def scaled_gradient(norm: float, scale: float) -> float:
    """|∇L(aW)| = |∇L(W)|/a, because L(aW) = L(W) for the weights W before a norm."""
    return norm / scale


def grown(weight: float, gradient: float, rate: float) -> float:
    """|W - η∇L| = √(|W|² + η² |∇L|²), because the gradient is at a right angle to W."""
    return math.sqrt(weight**2 + (rate * gradient) ** 2)


def descent(quick: bool = False, seed: int = 0) -> Result:
    """Does a norm make the descent smoother, and why?

    Exactly, for the weights W of a convolution before any of the norms (ε → 0), since a factor a cancels:

        L(aW) = L(W)        ∇L(aW) = ∇L(W)/a        W·∇L = 0        |W - η∇L|² = |W|² + η²|∇L|²

    A step too long makes W longer, and so the next one shorter: the descent brakes by itself.

    By experience: networks of several depths learn to filter pictures (`filtering_task`) by plain gradient
    descent, without a norm and with each kind, at rates that double from 2^-6 on. "Learns" means that the loss is
    below 0.9 in the last 5 steps, where 1 is the answer 0. Predicted are inequalities, as ratios to the
    network without: the largest rate that learns is no smaller for any kind and at least twice for BN and IN; the
    fewest steps to a loss of 0.7 are no more for any kind. A rate below those tried counts as the least, a loss
    never reached as all steps. Quick mode trains one network of each kind, and predicts nothing of LN: of single
    networks, 3 of 12 learn worse with it. Last, the gradient's change along the step,

        |∇L(θ - η∇L) - ∇L(θ)| / |∇L(θ)|,   the largest of 10 steps at η = 0.1

    for BN and IN is predicted to be at most 0.7 of that without, up to 6 layers. Full mode takes the median of three networks.

    Paper: Santurkar et al. 2018 on BN; Ioffe and Szegedy 2015, section 3.3, on aW; van Laarhoven 2017.
    """
    depths, steps = ((2, 6), 30) if quick else ((2, 6, 12), 40)
    rates = [2.0**k for k in range(-5 if quick else -6, 3)]
    seeds = [seed] if quick else [seed, seed + 1, seed + 2]
    found = {(kind, depth): _race(kind, depth, rates, steps, seeds) for kind in ALL for depth in depths}
    rows = [row for kind in KINDS for row in _invariances(kind, seed)]
    for depth in depths:
        bare = found["none", depth]
        for kind in KINDS:
            if quick and kind == "layer":  # which one network does not tell
                continue
            told, (rate, fewest, change) = f"{SHORT[kind]}, {depth} layers", found[kind, depth]
            paper = kind in ("batch", "instance")
            rows.append(Row(f"{told}: largest rate that learns, times that without", 2 if paper else 1, rate / bare[0], "≥"))
            rows.append(Row(f"{told}: steps to a loss of {GOAL}, times those without", 1, fewest / bare[1], "≤"))
            if paper and depth <= 6:
                rows.append(Row(f"{told}: the gradient's change, times that without", 0.7, change / bare[2], "≤"))
    return Result(
        "descent",
        "Before a norm a weight's size does not count, which slows steps that are too long; BN and IN bear larger rates.",
        "L(aW) = L(W),  ∇L(aW) = ∇L(W)/a,  W·∇L = 0",
        tuple(rows),
        _descent_panels(found, depths),
        paper="Santurkar et al. 2018; Ioffe and Szegedy 2015; van Laarhoven 2017",
        note="The first rows are laws; rates, steps and changes are expectations from experience. The gradient's "
        "change is predicted for BN and IN up to 6 layers only: LN's at 6 layers, and every kind's at 12, is no smaller "
        "than that without a norm, as the figure shows. Quick mode trains one network of each kind, "
        "of which LN's learns worse than that without a norm for 3 of 12 seeds: nothing is predicted of it there.",
    )


def _gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(F.mse_loss(network(x), y), list(network.parameters())))


def _norm(tensors) -> float:
    return math.sqrt(sum(t.square().sum().item() for t in tensors))


def _invariances(kind: str, seed: int) -> list[Row]:
    """The laws for the first convolution of three, in float64."""
    x, y = (t.double() for t in filtering_task(seed))
    network = Network(kind, 3, seed, eps=1e-14).double()
    weight = network.weights[0]

    def gradient_now() -> Tensor:
        return torch.autograd.grad(F.mse_loss(network(x), y), weight)[0]

    gradient = gradient_now()
    size, before, rate = _norm([weight]), _norm([gradient]), 1.0
    cosine = (weight * gradient).sum().item() / (size * before)
    stepped = _norm([weight - rate * gradient])
    with torch.no_grad():
        weight.mul_(2)
    after = _norm([gradient_now()])
    name = SHORT[kind]
    return [
        near(f"{name}: |∇L| after doubling W", scaled_gradient(before, 2), after, relative=1e-6),
        near(f"{name}: cosine between W and ∇L", 0, cosine, absolute=1e-6),
        near(f"{name}: |W| after a step of rate 1", grown(size, before, rate), stepped, relative=1e-6),
    ]


def _race(kind: str, depth: int, rates: list[float], steps: int, seeds: list[int]) -> tuple[float, float, float]:
    """(largest rate that learns, fewest steps to GOAL, largest change of the gradient), medians over ``seeds``."""
    best, fewest, change = [], [], []
    for seed in seeds:
        largest, first = None, steps
        for rate in sorted(rates, reverse=True):  # once one has learnt, a smaller one has only to be sooner at the goal
            run = _losses(kind, depth, rate, first if largest else steps, seed)
            first = min(first, next((i for i, v in enumerate(run) if v <= GOAL), steps))
            if not largest and len(run) == steps and max(run[-5:]) < LEARNS:
                largest = rate
        best.append(largest or rates[0])
        fewest.append(first)
        change.append(_change_along_steps(kind, depth, seed))
    return median(best), median(fewest), median(change)


def _losses(kind: str, depth: int, rate: float, steps: int, seed: int) -> list[float]:
    """The loss before each step, up to where it is no number or beyond a thousand."""
    x, y = filtering_task(seed)
    network, found = Network(kind, depth, seed), []
    parameters = list(network.parameters())
    for _ in range(steps):
        loss = F.mse_loss(network(x), y)
        if not loss.item() < 1e3:
            break
        found.append(loss.item())
        descend(parameters, loss, rate)
    return found


def _change_along_steps(kind: str, depth: int, seed: int) -> float:
    """The largest |∇L(θ - η∇L) - ∇L(θ)|/|∇L(θ)| of 10 steps, η = SMOOTH_RATE."""
    x, y = filtering_task(seed)
    network, changes = Network(kind, depth, seed), []
    now = _gradients(network, x, y)
    for _ in range(10):
        for p, g in zip(network.parameters(), now):
            p.data.sub_(g, alpha=SMOOTH_RATE)
        then = _gradients(network, x, y)
        changes.append(_norm(b - a for a, b in zip(now, then)) / max(_norm(now), 1e-30))
        now = then
    return max(changes)


def _descent_panels(found: dict, depths: tuple[int, ...]) -> tuple[Panel, ...]:
    titles = (
        ("Largest rate that learns", "learning rate", True),
        (f"Fewest steps to a loss of {GOAL}", "steps", False),
        (f"Change of the gradient along a step of {SMOOTH_RATE}", "relative change, largest of 10 steps", True),
    )
    panels = []
    for i, (title, label, log) in enumerate(titles):
        series = (Series(SHORT[k], depths, [found[k, d][i] for d in depths], "both", c) for c, k in enumerate(ALL))
        panels.append(Panel(title, "convolutions", label, tuple(series), y_log=log, x_ticks=depths))
    return tuple(panels)
