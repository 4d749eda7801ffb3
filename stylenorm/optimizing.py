"""The slow, best version: optimize the pixels themselves (Gatys et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from stylenorm.catalog import vgg_file
from stylenorm.config import check_types, need_config
from stylenorm.device import autocast, choose_device, memory_format, telling_memory
from stylenorm.errors import ImageError, StylenormError, WeightsError, in_short
from stylenorm.images import Picture, fit, read_picture, rewrap, short_side, to_image, to_tensor
from stylenorm.perceptual import CONTENT_LAYER, LAYERS, STYLE_LAYERS, VGGFeatures, content_loss, grams, style_loss
from stylenorm.tensors import need_image


@dataclass(frozen=True)
class OptimizeConfig:
    """How to optimize. ``start`` is "content" (the photograph) or "noise"; ``method`` is "adam" or "lbfgs"."""

    steps: int = 200
    method: str = "adam"
    learning_rate: float = 0.05
    content_weight: float = 1.0
    style_weight: float = 10.0
    content_layer: str = CONTENT_LAYER
    style_layers: tuple[str, ...] = STYLE_LAYERS
    start: str = "content"
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        if self.method not in ("adam", "lbfgs"):
            raise StylenormError(f"no method {self.method!r}; choose adam or lbfgs")
        if self.start not in ("content", "noise"):
            raise StylenormError(f"no start {self.start!r}; choose content or noise")
        for name in ("learning_rate", "content_weight", "style_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise StylenormError(f"{name} must be a finite number from 0 up, not {getattr(self, name)}")
        if not -(2**63) <= self.seed < 2**63:
            raise StylenormError(f"seed must lie between -2^63 and 2^63 - 1, not at {self.seed}")
        if self.steps < 1 or not self.style_layers:
            raise StylenormError("optimizing needs at least one step and one style layer")
        unknown = [n for n in (self.content_layer, *self.style_layers) if n not in LAYERS]
        if unknown:
            raise StylenormError(f"no layer {unknown[0]!r} in VGG-16; choose among {', '.join(LAYERS)}")


@torch.inference_mode(False)  # it descends whatever the caller has switched off
def optimize(
    vgg: VGGFeatures,
    content: Image.Image,
    painting: Image.Image,
    config: OptimizeConfig = OptimizeConfig(),
    progress: Callable[[int, float], None] | None = None,
) -> Image.Image:
    """The picture, as large as ``content``, whose content and style losses together are least (Gatys et al. 2016).

    vgg: ``VGGFeatures.from_file(vgg_file())``, of `stylenorm.perceptual` and `stylenorm.catalog`, on the device to compute on.
    content, painting: PIL images, "RGB", used as large as they are. ``progress`` receives the step, from 1, and the total loss. On a CPU
    with bfloat16 the features are computed in it. `optimize_file` takes files.

    Raises `ImageError` for a picture that is too small or not "RGB", `StylenormError` where the loss is not finite.
    """
    if not isinstance(vgg, nn.Module):
        raise StylenormError(f"vgg is what VGGFeatures.from_file(vgg_file()) returns, which {in_short(vgg)} is not")
    need_config(config, OptimizeConfig)
    _check_side("photograph", content, (config.content_layer, *config.style_layers))
    _check_side("painting", painting, config.style_layers)
    device = next(vgg.parameters()).device
    with torch.no_grad():
        target = vgg(_tensor(content, device), [config.content_layer])[config.content_layer]
        goals = grams(vgg(_tensor(painting, device), config.style_layers), config.style_layers)
    pixels = to_tensor(content).to(device)  # L-BFGS flattens it, which channels-last does not allow
    if config.start == "noise":
        generator = torch.Generator("cpu").manual_seed(config.seed)
        pixels = torch.rand(pixels.shape, generator=generator, device="cpu", dtype=torch.float32).to(device)
    pixels = pixels.requires_grad_()

    def loss() -> Tensor:
        with autocast(device):
            seen = vgg(pixels, [*config.style_layers, config.content_layer])
            style = style_loss(grams(seen, config.style_layers), goals)
            return (config.content_weight * content_loss(seen[config.content_layer], target) + config.style_weight * style).sum()

    for step in _descend(pixels, loss, config):
        with torch.no_grad():
            pixels.clamp_(0, 1)
        if progress:
            progress(*step)
    return to_image(pixels.detach())


def _descend(pixels: Tensor, loss: Callable[[], Tensor], config: OptimizeConfig):
    """Take ``config.steps`` steps, yielding (step, loss) after each."""
    if config.method == "adam":
        optimizer = torch.optim.Adam([pixels], config.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps, config.learning_rate / 10)
    else:
        optimizer = torch.optim.LBFGS([pixels], lr=1.0, max_iter=1, max_eval=20, history_size=20, line_search_fn="strong_wolfe")
        schedule = None

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        return value

    for step in range(1, config.steps + 1):
        value = optimizer.step(closure)
        if not torch.isfinite(value):
            raise StylenormError(f"the loss is not finite at step {step}; try smaller weights or a smaller learning rate")
        if schedule:
            schedule.step()
        yield step, value.item()


@telling_memory("give a smaller --size or --style-size")
def optimize_file(
    photo,
    painting,
    size: int = 512,
    style_size: int = 512,
    config: OptimizeConfig = OptimizeConfig(),
    device: str = "auto",
    weights: str | Path | None = None,
    vgg: str | Path | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Image.Image:
    """`optimize` from pictures of any kind, as `stylenorm.Stylizer.stylize` takes them and returns them.

    size: longer side of the result in px. style_size: short side of the painting in px. vgg: a file of VGG-16's
    features; by default the one beside the network in ``weights``, or the shipped one, which ends at relu4_3.
    """
    picture = photo if isinstance(photo, Picture) else read_picture(photo)
    style = short_side(read_picture(painting).seen, style_size)
    last = max((config.content_layer, *config.style_layers), key=LAYERS.index)
    content = fit(picture.rgb, size)
    if min(content.size) < _least_side([last]):
        raise ImageError(f"the photograph is too narrow: {content.width} x {content.height} px at this size; cut it, or give a larger --size")
    where = choose_device(device)
    features = _features(vgg or vgg_file(weights), last).to(where, memory_format=memory_format(where))
    return rewrap(picture, optimize(features, content, style, config, progress))


def _least_side(layers: Sequence[str]) -> int:
    """Px below which a picture has no features at one of the layers: VGG-16 halves it before each of its later blocks."""
    return max(2 ** (int(layer[4]) - 1) for layer in layers)


def _check_side(what: str, image: Image.Image, layers: Sequence[str]) -> None:
    need_image(image)
    if min(image.size) < (least := _least_side(layers)):
        raise ImageError(
            f"the {what} is too small to optimize with: {image.width} x {image.height} px; "
            f"give one of {least} px or more at its shorter side"
        )


def _features(path: str | Path, last: str) -> VGGFeatures:
    """VGG-16 up to the layer ``last``; the sentence for a file that ends before it names both."""
    try:
        return VGGFeatures.from_file(path, last)
    except WeightsError:
        VGGFeatures.from_file(path, LAYERS[0])  # raises where the file is none of VGG-16's at all
    raise StylenormError(f"{path} ends before the layer {last}; choose an earlier layer, or give a file of all features with --vgg")


def _tensor(image: Image.Image, device: torch.device) -> Tensor:
    return to_tensor(image).to(device, memory_format=memory_format(device))
