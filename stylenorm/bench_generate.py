"""How good generated pictures are: near the style, apart from one another, and how quickly made."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylenorm.catalog import vgg_file
from stylenorm.data import find_images, style_name
from stylenorm.device import memory_format
from stylenorm.errors import StylenormError, counted
from stylenorm.generating import NoisePainter
from stylenorm.images import read_picture, short_side, to_tensor
from stylenorm.optimizing import OptimizeConfig, optimize
from stylenorm.perceptual import VGGFeatures, diversity, grams, style_loss

LAYER = "relu4_3"
STYLE_SIZE = 512  # px, short side of a painting, as in training


def run_generate(
    styles: str | Path,
    names: Sequence[str] = (),
    pictures: int = 8,
    size: int = 256,
    steps: int = 200,
    weights: str | Path | None = None,
    network: str | Path | None = None,
    dead: str | Path | None = None,
    device: str = "auto",
    speeds: Sequence[int] = (512, 1024, 2048),
    progress: Callable[[str], None] | None = None,
) -> list[dict]:
    """Rows with ``what``, ``style`` (distance to the whole painting), ``diversity``, and ``seconds`` a megapixel.

    For each style, whose painting lies in ``styles``: ``pictures`` generated ones of ``size`` px; as many crops of the
    painting itself; direct optimization from noise; a network that was trained without the diversity term, if ``dead``
    is one; and noise of no contrast, which is the same for every seed. diversity: the mean of
    `stylenorm.perceptual.diversity` over pairs of pictures one after the other, between 0, all alike, and about 1.
    speeds: sides of the pictures that are timed.
    """
    painter = NoisePainter(weights, network, device)
    others = {"diversity term off": NoisePainter(weights, dead, device, painter.stylizer)} if dead else {}
    vgg = VGGFeatures.from_file(vgg_file(weights)).to(painter.device, memory_format=memory_format(painter.device))
    files = {style_name(path): path for path in find_images(styles)}
    chosen = list(names) or [name for name in painter.stylizer.styles if name in files]
    missing = [name for name in chosen if name not in files]
    if missing or not chosen:
        raise StylenormError(f"{styles} has no painting named {(missing or ['as a style is'])[0]!r}; it has {', '.join(files)}")
    rows = []
    for name in chosen:
        painting = short_side(read_picture(files[name]).seen, STYLE_SIZE)
        judge = Judge(vgg, painting, painter.device)
        rows.append(judge.row(name, "generated", made(painter, name, size, pictures)))
        rows.append(judge.row(name, "crops of the painting", crops(painting, size, pictures)))
        if steps:
            rows.append(judge.row(name, f"optimized, {counted(steps, 'step')}", [optimized(vgg, painting, size, steps)]))
        rows += [judge.row(name, what, made(other, name, size, pictures)) for what, other in others.items()]
        rows.append(judge.row(name, "noise of no contrast", made(silent(painter), name, size, 2)))
        if progress:
            progress(name)
    whats = dict.fromkeys(row["what"] for row in rows)
    rows += [mean_row(what, [row for row in rows if row["what"] == what]) for what in whats]
    return rows + [speed_row(painter, chosen[0], side) for side in speeds]


class Judge:
    """Judges pictures against one painting."""

    def __init__(self, vgg: VGGFeatures, painting: Image.Image, device: torch.device) -> None:
        self.vgg, self.device = vgg, device
        self.goals = grams(self._features(painting))

    @torch.inference_mode()
    def _features(self, image: Image.Image) -> dict[str, Tensor]:
        return self.vgg(to_tensor(image).to(self.device, memory_format=memory_format(self.device)))

    def row(self, name: str, what: str, pictures: Iterable[Image.Image]) -> dict:
        features = [self._features(picture) for picture in pictures]
        distance = float(np.mean([style_loss(grams(f), self.goals).item() for f in features]))
        pairs = [diversity(torch.cat([a[LAYER], b[LAYER]]))[0].item() for a, b in zip(features, features[1:])]
        apart = round(float(np.mean(pairs)), 4) if pairs else None
        return {"name": name, "what": what, "style": round(distance, 4), "diversity": apart}


def made(painter: NoisePainter, name: str, size: int, count: int) -> list[Image.Image]:
    style = painter.settled(name)
    return [painter.paint(painter.noise(seed), [style], (size, size)) for seed in range(count)]


def crops(painting: Image.Image, size: int, count: int) -> list[Image.Image]:
    """Squares of the painting at random places."""
    random = np.random.default_rng(0)
    places = [(random.integers(painting.width - size + 1), random.integers(painting.height - size + 1)) for _ in range(count)]
    return [painting.crop((x, y, x + size, y + size)) for x, y in places]


def optimized(vgg: VGGFeatures, painting: Image.Image, size: int, steps: int) -> Image.Image:
    config = OptimizeConfig(steps, content_weight=0.0, start="noise")
    return optimize(vgg, Image.new("RGB", (size, size), "grey"), painting, config)


def silent(painter: NoisePainter) -> NoisePainter:
    """The same painter with noise of no contrast: a dead generator."""
    dead = copy.copy(painter)
    dead.noise_kind = painter.noise_kind | {"contrast": 0.0}
    # Its moments would be those of a constant; it takes the living one's.
    dead.settled = painter.settled
    return dead


def mean_row(what: str, rows: Sequence[dict]) -> dict:
    apart = [row["diversity"] for row in rows if row["diversity"] is not None]
    style = round(float(np.mean([row["style"] for row in rows])), 4)
    return {"name": "all", "what": what, "style": style, "diversity": round(float(np.mean(apart)), 4) if apart else None}


def speed_row(painter: NoisePainter, name: str, side: int) -> dict:
    """Seconds a megapixel, style settled; the best of two."""
    style, times = painter.settled(name), []
    for seed in (0, 1):
        start = time.perf_counter()
        painter.paint(painter.noise(seed), [style], (side, side))
        times.append(time.perf_counter() - start)
    return {"name": name, "what": f"{side} x {side} px", "seconds": round(min(times) / (side * side / 1e6), 2)}
