"""The lab on moments: what a norm leaves, over which elements, and how its work is undone."""

from __future__ import annotations

import torch
from torch import Tensor

from stylenorm.functional import EPSILON
from stylenorm.lab_layers import KINDS, SHORT, conditional, group_moments, group_numbers, norm_layer, randn
from stylenorm.lab_result import Heat, Panel, Result, Row, Series, near

SHAPE = (8, 16, 12, 12)  # N, C, H, W
GROUPS = 4


# ---- 1. standardizing --------------------------------------------------------------------------


def standardized_variance(variance: float, eps: float) -> float:
    """σ²/(σ²+ε): the variance of (x - μ) / √(σ²+ε) where x has the variance σ²."""
    return variance / (variance + eps)


def standardizing(quick: bool = False, seed: int = 0) -> Result:
    """What is the mean and the variance of each group after normalizing?

        y = (x - μ) / √(σ²+ε)        mean(y) = 0        var(y) = σ²/(σ²+ε)

    x is a map of 8 x 16 x 12 x 12 normal numbers. Each group of elements is stretched to a deviation of its own,
    from a tenth to ten times √ε, so that ε counts for some and not for others. Groups are found as
    `group_numbers` finds them, moments are taken in float64.

    Paper: Ioffe and Szegedy 2015, algorithm 1.
    """
    eps, rows, series = EPSILON, [], []
    for color, kind in enumerate(KINDS):
        numbers = group_numbers(SHAPE, kind, GROUPS)
        count = int(numbers.max()) + 1
        deviation = eps**0.5 * torch.logspace(-1, 1, count)
        x = randn(*SHAPE, seed=seed + color) * deviation[numbers]
        y = norm_layer(kind, SHAPE[1], GROUPS, eps=eps)(x)
        variance, (mean_y, variance_y) = group_moments(x, numbers)[1], group_moments(y, numbers)
        predicted = [standardized_variance(v, eps) for v in variance.tolist()]
        errors = [abs(a - b) for a, b in zip(predicted, variance_y.tolist())]
        rows += [
            near(f"{SHORT[kind]}: mean furthest from 0, of {count} groups", 0, mean_y.abs().max(), absolute=1e-6),
            near(f"{SHORT[kind]}: variance where σ² is least", predicted[0], variance_y[0], relative=1e-5),
            near(f"{SHORT[kind]}: largest error of the variance", 0, max(errors), absolute=1e-5),
        ]
        series.append(Series(f"{SHORT[kind]}, measured", (variance / eps).tolist(), variance_y.tolist(), color=color + 1))
    ratio = torch.logspace(-2, 2, 60).tolist()
    line = Series("σ²/(σ²+ε)", ratio, [standardized_variance(r, 1.0) for r in ratio], "line")
    return Result(
        "standardizing",
        "After a norm each of its groups of elements has the mean 0 and the variance σ²/(σ²+ε): 1 where σ² is far above ε, 0 where far below.",
        "mean(y) = 0,  var(y) = σ²/(σ²+ε)",
        tuple(rows),
        (Panel("Variance of each group after the norm", "σ²/ε of the group before it", "variance after it",
               (line, *series), x_log=True, y_log=True),),
        paper="Ioffe and Szegedy 2015",
    )  # fmt: skip


# ---- 2. grouping -------------------------------------------------------------------------------


def group_size(kind: str, shape: tuple[int, int, int, int], groups: int) -> int:
    """Elements in a group: N H W for "batch", C H W for "layer", H W for "instance", C/G H W for "group"."""
    n, c, h, w = shape
    return {"batch": n * h * w, "layer": c * h * w, "instance": h * w, "group": c // groups * h * w}[kind]


def grouping(quick: bool = False, seed: int = 0) -> Result:
    """Which elements does each kind take together?

    One element of x (N, C, H, W) is changed. The outputs that change are its group, and its size must be

        BN: N H W        LN: C H W        IN: H W        GN: (C/G) H W

    and no element outside the group may change. From the definitions three pairs must be equal: GN with G = 1
    and LN, GN with G = C and IN, IN and BN at N = 1. Everything in float64.

    Paper: Wu and He 2018, figure 2.
    """
    shape = (6, 16, 5, 7)
    x, changed = randn(*shape, seed=seed, dtype=torch.float64), (2, 9, 3, 4)
    other = x.clone()
    other[changed] += 1
    rows, maps = [], []
    for kind in KINDS:
        layer, numbers = norm_layer(kind, shape[1], GROUPS), group_numbers(shape, kind, GROUPS)
        moved = (layer(other) - layer(x)).abs() > 1e-12
        mine = numbers == numbers[changed]
        rows += [
            near(f"{SHORT[kind]}: outputs that one input moves", group_size(kind, shape, GROUPS), moved.sum()),
            near(f"{SHORT[kind]}: outputs moved outside the group, or not within it", 0, (moved != mine).sum()),
        ]
        share = moved.double().mean((2, 3)).tolist()
        maps.append(Heat(SHORT[kind], "channel", "sample", share, "share of positions that move"))
    return Result(
        "grouping",
        "The kinds differ only in which elements they take together, and meet where their groups do.",
        "BN: N·H·W   LN: C·H·W   IN: H·W   GN: C/G·H·W  elements",
        (*rows, *_equalities(x)),
        tuple(maps),
        paper="Wu and He 2018",
        note="The maps show which outputs move when one input of sample 2, channel 9 does.",
    )


def _equalities(x: Tensor) -> list[Row]:
    channels = x.shape[1]

    def out(kind: str, x: Tensor = x, groups: int = GROUPS) -> Tensor:
        return norm_layer(kind, channels, groups)(x)

    def same(pair: str, a: Tensor, b: Tensor) -> Row:
        return near(f"{pair}: largest difference", 0, (a - b).abs().max(), absolute=1e-12)

    return [
        same("GN with G = 1 against LN", out("group", groups=1), out("layer")),
        same("GN with G = C against IN", out("group", groups=channels), out("instance")),
        same("IN against BN at N = 1", out("instance", x[:1]), out("batch", x[:1])),
        Row("IN against BN at N = 6: largest difference", 0.1, (out("instance") - out("batch")).abs().max(), "≥"),
    ]


# ---- 4. undoing --------------------------------------------------------------------------------


def rounding_bound(largest: float, dtype: torch.dtype) -> float:
    """Largest |y - x| that rounding can leave, 16 u max|x|: the unit of rounding u = eps/2 of float32 or float64, and
    for a narrower ``dtype`` its own u once more, because the result is rounded to it."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    own = 0.0 if dtype == wide else torch.finfo(dtype).eps / 2
    return (16 * torch.finfo(wide).eps / 2 + own) * largest


def undoing(quick: bool = False, seed: int = 0) -> Result:
    """Can γ and β bring back what a norm has taken away?

        γ (x - μ) / √(σ²+ε) + β = x        with γ = √(σ²+ε), β = μ

    μ and σ² of each group are taken from x in float64 (`group_moments`), not from the layer. What is left is
    rounding: mean, root, product and sum each err by a few units u of the largest |x|, in the layer and again in
    what γ and β are made from. The bound used here is 16 u max|x|. float16 and bfloat16 maps are computed in
    float32, and their result is rounded once more.

    Paper: Ioffe and Szegedy 2015, section 3: "the transformation can represent the identity".
    """
    rows = []
    for kind in KINDS:
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            x = (3 * randn(*SHAPE, seed=seed) + 5).to(dtype)
            rows.append(_undone(f"{SHORT[kind]}, {str(dtype)[6:]}: largest |y - x|", x, kind))
    offsets = [10.0**k for k in range(7)]
    points = [_undone("", randn(*SHAPE, seed=seed) + offset, "instance") for offset in offsets]
    figure = Panel(
        "What is left after undoing, IN in float32",
        "mean of the map, in deviations",
        "largest |y - x|, in deviations",
        (
            Series("bound 16 u max|x|", offsets, [row.predicted for row in points], "line"),
            Series("measured", offsets, [row.measured for row in points], color=1),
        ),
        x_log=True,
        y_log=True,
    )
    far = points[3]
    rows.append(Row("IN, float32, mean 1000 deviations from 0: largest |y - x|", far.predicted, far.measured, "≤"))
    return Result(
        "undoing",
        "With γ = √(σ²+ε) and β = μ a norm returns its input: γ and β can carry all that it strips.",
        "γ (x - μ)/√(σ²+ε) + β = x,  to 16 u max|x|",
        tuple(rows),
        (figure,),
        paper="Ioffe and Szegedy 2015",
        note="A mean far from 0 costs digits: the absolute error grows with it.",
    )


def _undone(quantity: str, x: Tensor, kind: str) -> Row:
    numbers = group_numbers(tuple(x.shape), kind, GROUPS)
    mean, variance = (m[numbers][:, :, 0, 0].to(torch.float64) for m in group_moments(x, numbers))  # N, C
    y = conditional(kind, x.shape[1], GROUPS)(x, (variance + EPSILON).sqrt(), mean)
    return Row(quantity, rounding_bound(x.double().abs().max().item(), x.dtype), (y.double() - x.double()).abs().max(), "≤")
