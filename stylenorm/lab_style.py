"""The lab on style: the means and deviations of VGG's features, swapped between two photographs."""

from __future__ import annotations

import torch
from torch import Tensor

from stylenorm.catalog import photos_folder, vgg_file
from stylenorm.functional import EPSILON, adain, moments
from stylenorm.images import read_picture, to_tensor
from stylenorm.lab_layers import norm_layer
from stylenorm.lab_result import Panel, Photo, Result, Row, Series, near
from stylenorm.perceptual import STYLE_LAYERS, VGGFeatures, grams, style_loss

PHOTOS = ("chelsea.jpg", "coffee.jpg")  # whose content, and whose style
CONTENT = "relu3_3"
STATISTICS_WEIGHT = 3.0

Maps = dict[str, Tensor]


def swapped_deviation(content_variance: float, style_variance: float, eps: float = EPSILON) -> float:
    """√((σ_s²+ε) σ_c²/(σ_c²+ε)): a channel's deviation after `adain`, σ_s wherever σ_c² is far above ε."""
    return ((style_variance + eps) * content_variance / (content_variance + eps)) ** 0.5


def style(quick: bool = False, seed: int = 0) -> Result:
    """Where does VGG-16 keep a picture's style?

    Exactly, for the features of a photograph a and of another, b, at each layer: `adain(a, b)` has b's means and
    deviations, IN of it is IN of a, and `adain` of that with a returns a.

        mean = μ_b,   deviation = √((σ_b²+ε) σ_a²/(σ_a²+ε)),   IN(adain(a, b)) = IN(a)

    By experience: a picture with such features is sought by L-BFGS over its pixels, from photograph a. What it
    minimizes is the squared distance to the swapped features, relative to their square, and 3 times that of the
    channels' means and deviations; without the latter it would be stopped by swapped features below 0, which no
    picture has after a ReLU. Style distance is `style_loss` of Gram matrices; content distance the root mean square between the
    features after IN at relu3_3. Predicted: more than half of the style distance goes, and the content distance is
    at most half of what lies between the two photographs. Then a's moments are put back in the same way, and at
    least nine tenths of the way back must be gone.

    The pictures start from the photographs, so ``seed`` does nothing here.

    Paper: Huang and Belongie 2017; Li et al. 2017, "Demystifying neural style transfer"; Gatys et al. 2016.
    """
    side, steps = (64, 15) if quick else (128, 60)
    vgg = VGGFeatures.from_file(vgg_file())
    a, b = (_photograph(name, side) for name in PHOTOS)
    seen_a, seen_b = _seen(vgg, a), _seen(vgg, b)
    there = _inverted(vgg, _swapped(seen_a, seen_b), a, steps)
    seen_there = _seen(vgg, there)
    back = _inverted(vgg, _swapped(seen_there, seen_a), there, steps)
    seen_back = _seen(vgg, back)

    goals_a, goals_b = grams(seen_a), grams(seen_b)
    to_b = [style_loss(grams(seen), goals_b).item() for seen in (seen_a, seen_there, seen_back)]
    to_a = [style_loss(grams(seen), goals_a).item() for seen in (seen_there, seen_back)]
    content = [_content_distance(seen, seen_a) for seen in (seen_a, seen_there, seen_back, seen_b)]
    rows = _feature_rows(seen_a, seen_b) + [
        Row("picture: share of the style distance to b that is gone", 0.5, _gone(*to_b[:2]), "≥"),
        Row("picture: content distance to a, over that between a and b", 0.5, content[1] / content[3], "≤"),
        Row("picture, swapped back: share of the way back to a's style", 0.9, _gone(*to_a), "≥"),
        Row("picture, swapped back: content distance to a, over that between a and b", 0.5, content[2] / content[3], "≤"),
    ]
    stages = [0, 1, 2]
    bars = Panel("0: photograph a, 1: with b's moments, 2: with a's again", "stage", "share of the distance between a and b", (
        Series("style distance to b", stages, [v / to_b[0] for v in to_b], "both", 0),
        Series("content distance to a", stages, [v / content[3] for v in content[:3]], "both", 1),
        Series("half", stages, [0.5] * 3, "line", 7),
    ), x_ticks=stages)  # fmt: skip
    titles = ("a", "b", "a with b's moments", "and a's again")
    photos = (Photo(t, _pixels(x)) for t, x in zip(titles, (a, b, there, back)))
    return Result(
        "style",
        "Style lies in the means and deviations of features: swapping them moves most of it, and keeps the content.",
        "mean = μ_b,  deviation = √((σ_b²+ε) σ_a²/(σ_a²+ε)),  IN(adain(a, b)) = IN(a)",
        tuple(rows),
        (*photos, bars),
        paper="Huang and Belongie 2017; Li et al. 2017; Gatys et al. 2016",
        note="The rows on features are laws; those on pictures are expectations, with one half where the claim says most.",
    )


def _photograph(name: str, side: int) -> Tensor:
    """The middle square of an example photograph: (1, 3, side, side)."""
    image = read_picture(photos_folder() / name).rgb
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return to_tensor(image.crop((left, top, left + short, top + short)).resize((side, side)))


@torch.no_grad()
def _seen(vgg: VGGFeatures, x: Tensor) -> Maps:
    return vgg(x, STYLE_LAYERS)


def _swapped(content: Maps, style: Maps) -> Maps:
    return {layer: adain(content[layer], style[layer]) for layer in STYLE_LAYERS}


def _statistics(features: Tensor) -> Tensor:
    """Means and deviations of each channel, (1, 2 C)."""
    mean, variance = moments(features)
    return torch.cat([mean, (variance + EPSILON).sqrt()], 1).flatten(1)


def _inverted(vgg: VGGFeatures, wanted: Maps, start: Tensor, steps: int) -> Tensor:
    """The picture (1, 3, H, W) whose features come nearest to ``wanted``, by L-BFGS from ``start``."""
    pixels = start.clone().requires_grad_()
    goals = {layer: _statistics(wanted[layer]) for layer in STYLE_LAYERS}
    descent = torch.optim.LBFGS([pixels], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def off(found: Tensor, goal: Tensor) -> Tensor:
        return (found - goal).square().sum() / goal.square().sum()

    def loss() -> Tensor:
        descent.zero_grad()
        seen = vgg(pixels, STYLE_LAYERS)
        value = sum(
            off(seen[layer], wanted[layer]) + STATISTICS_WEIGHT * off(_statistics(seen[layer]), goals[layer])
            for layer in STYLE_LAYERS
        )
        value.backward()
        return value

    descent.step(loss)
    return pixels.detach().clamp(0, 1)


def _standardized(features: Tensor) -> Tensor:
    return norm_layer("instance", features.shape[1])(features)


def _content_distance(a: Maps, b: Maps) -> float:
    return (_standardized(a[CONTENT]) - _standardized(b[CONTENT])).square().mean().sqrt().item()


def _feature_rows(a: Maps, b: Maps) -> list[Row]:
    """What holds exactly for the features at every layer, in float64."""
    worst = {"mean": 0.0, "deviation": 0.0, "content": 0.0, "back": 0.0}

    def note(key: str, found: Tensor, wanted: Tensor) -> None:
        worst[key] = max(worst[key], ((found - wanted).abs().max() / wanted.abs().max()).item())

    for layer in STYLE_LAYERS:
        x, y = a[layer].double(), b[layer].double()
        swapped = adain(x, y)
        variance_x, variance_y = (t.var((2, 3), correction=0)[0] for t in (x, y))
        wanted = [swapped_deviation(v, w) for v, w in zip(variance_x.tolist(), variance_y.tolist())]
        alive = variance_x > 1  # ε counts in a channel that the picture leaves dark, and 1/σ is large there
        note("mean", swapped.mean((2, 3)), y.mean((2, 3)))
        note("deviation", swapped.std((2, 3), correction=0)[0], torch.tensor(wanted, dtype=x.dtype))
        both = alive & (variance_y > 1)
        note("content", _standardized(swapped)[:, both], _standardized(x)[:, both])
        note("back", adain(swapped, x)[:, both], x[:, both])
    return [
        near("features: largest error of a swapped mean, of the largest", 0, worst["mean"], absolute=1e-9),
        near("features: largest error of a swapped deviation, of the largest", 0, worst["deviation"], absolute=1e-9),
        near("features: largest change of IN(a) by the swap, of the largest", 0, worst["content"], absolute=1e-4),
        near("features: largest difference from a after swapping back, of the largest", 0, worst["back"], absolute=1e-4),
    ]


def _gone(before: float, after: float) -> float:
    """Share of a distance that is gone; NaN where there was none."""
    return 1 - after / before if before else float("nan")


def _pixels(x: Tensor) -> list:
    return x[0].permute(1, 2, 0).tolist()
