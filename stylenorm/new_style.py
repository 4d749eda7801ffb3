"""A new style in minutes: the network stays as it is, and one γ/β row is optimized."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stylenorm.catalog import check_name, network_file, photos_folder, user_styles_folder, vgg_file
from stylenorm.checkpoint import checked_provenance, load_network, save_style, statistics_text
from stylenorm.config import check_types, need_config
from stylenorm.data import RandomCrops, find_images, held_out, painting_rgb, refuse_blank, uneven
from stylenorm.device import autocast, choose_device, memory_format, telling_memory, turn
from stylenorm.engine import listed
from stylenorm.errors import StyleError, StylenormError, path_of
from stylenorm.images import Source, fit, to_tensor
from stylenorm.perceptual import (
    CONTENT_LAYER,
    STYLE_LAYERS,
    VGGFeatures,
    content_loss,
    grams,
    resized_short_side,
    style_loss,
    style_statistics,
)
from stylenorm.style import Style
from stylenorm.training_state import alone_in, no_empty

STEPS, MINUTES = 250, 4.5  # of a training that is told neither
LARGEST_RATE = 10  # γ and β are some units large
THUMBNAIL = 96  # px, longer side: about 3 kB in a file of a few


@dataclass(frozen=True)
class NewStyleConfig:
    """How to train one style. ``minutes`` ends the training by the clock, else ``steps`` does.

    With neither it takes 250 steps, or 4.5 minutes where these are too many for the machine.
    style_size: short side in px at which the paintings are seen. size: side of the squares cut from the photographs,
    of which there are ``crops``: they come round again and again, and what VGG sees in them is kept (8 MB each at 512 px).
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 1
    size: int = 512
    photo_scales: tuple[int, int] = (512, 576)
    crops: int = 32
    style_size: int = 512
    learning_rate: float = 0.1
    content_weight: float = 1.0
    style_weight: float = 10.0
    seed: int = 0
    device: str | torch.device = "auto"

    def __post_init__(self) -> None:
        check_types(self)
        unending = self.minutes is not None and not 0 < self.minutes < math.inf
        if (self.steps is not None and self.steps < 1) or self.batch < 1 or unending:
            raise StylenormError("training a style needs at least one step of one picture, or some minutes")
        if self.crops < 1:
            raise StylenormError(f"training a style needs at least one square of a photograph, not {self.crops}")
        for name in ("size", "style_size"):
            if getattr(self, name) < 64:
                raise StylenormError(f"{name} must be at least 64 px, not {getattr(self, name)}")
        for name in ("learning_rate", "content_weight", "style_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise StylenormError(f"{name} must be a finite number from 0 up, not {getattr(self, name)}")
        if self.learning_rate > LARGEST_RATE:
            raise StylenormError(f"learning_rate must be at most {LARGEST_RATE}, not {self.learning_rate:g}: 0.1 is usual")

    def done(self, step: int, seconds: float) -> float:
        """The share of the training that lies behind after ``step`` steps and so many seconds."""
        neither = self.steps is None and self.minutes is None
        by_clock = seconds / (60 * (self.minutes or MINUTES)) if self.minutes or neither else 0.0
        by_steps = step / (self.steps or STEPS) if self.minutes is None else 0.0
        return max(by_clock, by_steps)


@dataclass(frozen=True)
class StyleProgress:
    """After each step: the losses (means over the batch), seconds left, and the style as it is now."""

    step: int
    steps: int
    content: float
    style: float
    total: float
    seconds_left: float
    current: Style


class Cancelled(StylenormError):
    """The caller asked to stop; nothing was written."""


@torch.inference_mode(False)  # it learns whatever the caller has switched off
@telling_memory("read the paintings at a smaller style size, or train on smaller batches")
def train_style(
    name: str,
    paintings: Source | Sequence[Source],
    photos: str | Path | None = None,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    config: NewStyleConfig = NewStyleConfig(),
    about: Mapping[str, object] | None = None,
    progress: Callable[[StyleProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Path:
    """Find the γ and β of a style and write its file, usable at once by ``name``.

    It starts from what the encoder predicts for the paintings and moves nothing but that row (Dumoulin et al.
    2017). paintings: one picture or a list of several of one style, each a path, a PIL image or an array.
    photos: a folder of photographs to learn on, of a large one what `held_out` keeps, by default the few that come with
    the package. weights: the network's folder or file. folder: where the style goes, by default the user's own styles. about: provenance
    to store (title, artist, year, licence). ``should_stop`` is asked at every step.

    Raises `StyleError` if the name is taken or unusable, `StylenormError` if another training is at work on it, `Cancelled` if
    stopped; then nothing is written.
    """
    file = network_file(weights)
    folder = path_of(folder, "a folder of styles") if folder is not None else user_styles_folder()
    need_config(config, NewStyleConfig)
    check_name(name, file, folder)
    with no_empty(folder), alone_in(folder, name):
        target = folder / f"{check_name(name, file, folder)}.safetensors"  # the other one may just have ended
        save_style(target, _trained(name, paintings, photos, file, config, about, progress, should_stop))
    return target


def _trained(name: str, paintings, photos, file: Path, config: NewStyleConfig, about, progress, should_stop) -> Style:
    """The style of `train_style`, by the network in ``file``."""
    paintings = listed(paintings)
    if not paintings:
        raise StyleError("a style needs at least one painting")
    about = checked_provenance(about)
    device = choose_device(config.device)
    network = load_network(file)
    if network.encoder is None:
        raise StyleError(f"the network in {file} has no style encoder to start from")
    pictures = [painting_rgb(p) for p in paintings]
    crops = RandomCrops(held_out(find_images(photos or photos_folder()))[0], config.size, config.photo_scales, config.seed)
    refuse_blank(crops)
    vgg = VGGFeatures.from_file(vgg_file(file))
    with turn(device):
        vgg = vgg.to(device, memory_format=memory_format(device))
        goals, statistics = _describe(vgg, [resized_short_side(to_tensor(p), config.style_size).to(device) for p in pictures])
        generator = network.generator.to(device, memory_format=memory_format(device)).requires_grad_(False)
        with torch.no_grad():
            row = network.encoder.to(device)(statistics).clone().requires_grad_()
        statistics = statistics.cpu()
        learning = _Learning(generator, vgg, goals, row, config)
    for record in learning.steps(crops, name, network.hash):
        if should_stop and should_stop():
            raise Cancelled(f"the training of {name!r} was stopped; nothing was kept")
        if progress:
            progress(record)
    details = about | {
        "paintings": [Path(str(p)).name for p in paintings if isinstance(p, (str, Path))],
        "style_size": config.style_size,
        "training": {"steps": learning.step, "images": learning.step * config.batch, "learning_rate": config.learning_rate},
        "thumbnail": _thumbnail(pictures[0]),
        "statistics": statistics_text(statistics),
    }
    style = learning.style(name, network.hash)
    return Style(style.gammas, style.betas, name, details, network.hash)


class _Learning:
    """The state of one training: the row, its moving average and its optimizer."""

    def __init__(self, generator, vgg: VGGFeatures, goals: dict[str, Tensor], row: Tensor, config: NewStyleConfig) -> None:
        self.generator, self.vgg, self.goals, self.row, self.config = generator, vgg, goals, row, config
        self.average = row.detach().clone()
        self.optimizer = torch.optim.Adam([row], betas=(0.9, 0.99))
        self.step = 0
        self.seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # what `_shown` gives, by number

    def steps(self, crops: RandomCrops, name: str, digest: str):
        """Yield a `StyleProgress` after each step until the steps, or the minutes, are over."""
        config, started = self.config, time.monotonic()
        done = 0.0
        while done < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1, (self.step + 1) / 10) * 0.5 * (1 + math.cos(math.pi * done))
            first = self.step * config.batch
            with turn(self.row.device):
                shown = [self._shown(crops, (first + i) % config.crops) for i in range(config.batch)]
                content, style = self._move(*map(torch.stack, zip(*shown)))
            elapsed = time.monotonic() - started
            done = config.done(self.step, elapsed)
            total = config.content_weight * content + config.style_weight * style
            if not math.isfinite(total):
                raise StylenormError(f"the loss is not finite at step {self.step}; try a learning rate below {config.learning_rate:g}")
            left = elapsed * (1 - done) / done
            yield StyleProgress(
                self.step, round(self.step / done), content, style, total, max(0.0, left), self.style(name, digest)
            )

    def _shown(self, crops: RandomCrops, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """A square of a photograph (3, size, size), what its content is measured by (C, size/4, size/4), and whether it is uneven, ()."""
        if index not in self.seen:
            photo = crops[index].pixels[None].to(self.row.device, memory_format=memory_format(self.row.device))
            with torch.no_grad(), autocast(self.row.device):
                content = self.vgg(photo, [CONTENT_LAYER])[CONTENT_LAYER]
            self.seen[index] = photo[0], content[0], uneven(photo)[0]
        return self.seen[index]

    def _move(self, photos: Tensor, target: Tensor, uneven: Tensor) -> tuple[float, float]:
        """A step on photographs (N, 3, H, W), whose contents are ``target`` (N, C, h, w): the means of both losses.

        uneven: (N,); the others have no loss, whose gradient would be beyond all numbers, see `stylenorm.training`.
        """
        config = self.config
        photos = photos.contiguous(memory_format=memory_format(self.row.device))
        with autocast(self.row.device):
            flat = self.row.expand(len(photos), -1, -1)
            seen = self.vgg(self.generator(photos, Style.from_flat(flat, self.generator.config.channels)))
            content = torch.where(uneven, content_loss(seen[CONTENT_LAYER], target), 0.0).mean()
            style = torch.where(uneven, style_loss(grams(seen), self.goals), 0.0).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (config.content_weight * content + config.style_weight * style).backward()
        self.optimizer.step()
        self.step += 1
        self.average.lerp_(self.row.detach(), 1 - min(0.97, (1 + self.step) / (10 + self.step)))
        return content.item(), style.item()

    def style(self, name: str, digest: str) -> Style:
        with turn(self.average.device):
            flat = self.average.float().cpu().clone()
        return Style.from_flat(flat, self.generator.config.channels, name=name, network=digest)


@torch.no_grad()
def _describe(vgg: VGGFeatures, paintings: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Gram matrices and statistics of several paintings of one style: their means."""
    seen = [vgg(p) for p in paintings]
    goals = {layer: torch.cat([grams(f)[layer] for f in seen]).mean(0, keepdim=True) for layer in STYLE_LAYERS}
    return goals, torch.cat([style_statistics(f) for f in seen]).mean(0, keepdim=True)


def _thumbnail(picture) -> str:
    """A small JPEG of the painting, base64, for lists of styles."""
    buffer = io.BytesIO()
    fit(picture, THUMBNAIL).save(buffer, "JPEG", quality=80)
    return base64.b64encode(buffer.getvalue()).decode()
