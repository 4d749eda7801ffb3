"""`NoisePainter`: new pictures from noise and a style, of any size, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylenorm.catalog import generation_file, network_file
from stylenorm.checkpoint import load_network
from stylenorm.config import SEEDS
from stylenorm.device import choose_device, in_turn, memory_format, turn
from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError, StyleError, StylenormError, WeightsError, counted
from stylenorm.functional import EPSILON
from stylenorm.generator import GeneratorConfig
from stylenorm.layouts import Layout, Shares
from stylenorm.metadata import read_metadata
from stylenorm.noise import Between, Noise
from stylenorm.settling import canvas, canvas_moments
from stylenorm.style import Style, interpolate, regions

SMALLEST, MOST_PIXELS = 64, 40_000_000
TILE, REGION_TILE = 1024, 512  # px; a style per pixel takes more memory
KEYS = 9  # styles on a walk that moments are taken for


class NoisePainter:
    """A network that paints noise, in the styles of the stylizing network that it was trained from.

    weights: as for `Stylizer`. network: the file; by default generate.safetensors beside the stylizing network.
    stylizer: one that is loaded already, of the same weights.

    The moments that its normalizations strip are taken once for a style, of a canvas of noise, and not of the picture.
    The noise being the same kind of noise everywhere, they fit any part of any picture. So each pixel depends on the
    seed, the style and the noise about it alone: tiles fit together, and a larger picture goes on where a smaller ends.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        network: str | Path | None = None,
        device: str = "auto",
        stylizer: Stylizer | None = None,
    ) -> None:
        file = generation_file(weights) if network is None else Path(network)
        loaded = load_network(file)
        if loaded.about.get("styles_of") != read_metadata(network_file(weights), "network").get("hash"):
            raise WeightsError(f"{file} paints with the styles of another network; make one for this with train-generate")
        self.stylizer = stylizer or Stylizer(weights, device, "torch")
        self.device = choose_device(device)
        with turn(self.device):
            self.generator = loaded.generator.to(self.device, memory_format=memory_format(self.device))
        training = loaded.about.get("training", {})
        self.noise_kind = {key: float(training[key]) for key in ("slope", "contrast", "color") if key in training}
        self.margin = reach(self.generator.config)

    # ---- pictures ------------------------------------------------------------------------------

    def generate(
        self,
        style,
        size: tuple[int, int] = (1024, 1024),
        seed: int = 0,
        seamless: bool = False,
        layout: Layout | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """A picture of ``size`` = (width, height) px, the same for the same seed.

        style: anything that `Stylizer.stylize` takes; with a ``layout``, a sequence of them, one for each of its colours.
        seamless: it goes on across its own edges; both sides must be multiples of 16 px, as the network's grid is.
        progress is called with tiles done and of how many.
        """
        self.check_size(size, seamless)
        noise = self.noise(seed, size if seamless else None)
        if layout is None:
            image = self.paint(noise, [self.settled(style)], size, None, progress)
            return well_cut(image) if seamless else image
        layout.check_size(*size)
        styles = [self.settled(s) for s in style]
        if int(layout.index.max()) >= len(styles):
            raise StylenormError(f"the layout has {counted(int(layout.index.max()) + 1, 'colour')} for {counted(len(styles), 'style')}")
        image = self.paint(noise, styles, size, layout.shares(*size, seamless), progress)
        return well_cut(image, self.generator.config.stride) if seamless else image

    def walk(
        self, start, end, frames: int, size: tuple[int, int] = (512, 512), seeds: tuple[int, int] = (0, 0), seamless: bool = False
    ) -> Iterator[Image.Image]:
        """``frames`` pictures that pass from one style, and seed, to another."""
        self.check_size(size, seamless)
        if frames < 2:
            raise StylenormError(f"a walk takes at least 2 frames, not {frames}")
        near, far = (self.noise(seed, size if seamless else None) for seed in seeds)
        styles = self._path(self.stylizer.resolve(start), self.stylizer.resolve(end))
        for number in range(frames):
            t = number / (frames - 1)
            noise = near if near == far else Between(near, far, t)
            yield self.paint(noise, [styles(t)], size)

    def _path(self, start: Style, end: Style) -> Callable[[float], Style]:
        """The settled style at t from 0 to 1; between a few where moments are taken, a straight line."""
        if start is end:
            only = self.settled(start)
            return lambda t: only
        keys = [self.settled(interpolate(start, end, k / (KEYS - 1))) for k in range(KEYS)]

        def at(t: float) -> Style:
            k = min(int(t * (KEYS - 1)), KEYS - 2)
            return interpolate(keys[k], keys[k + 1], t * (KEYS - 1) - k)

        return at

    # ---- parts ---------------------------------------------------------------------------------

    def noise(self, seed: int, size: tuple[int, int] | None = None) -> Noise:
        if not 0 <= seed < SEEDS:
            raise StylenormError(f"a seed lies between 0 and 2^63 - 1, not at {seed}")
        return Noise(seed, None if size is None else (size[1], size[0]), **self.noise_kind)

    @in_turn
    @torch.inference_mode()
    def settled(self, style) -> Style:
        """γ and β with the moments of a canvas of noise in them: γ / σ and β - γ μ / σ, for maps as they are."""
        style = self.stylizer.resolve(style).to(self.device)
        if style.has_regions:
            raise StyleError("a style with regions is for a picture of its size; noise is painted in several styles with a layout")
        pairs, noise = [], canvas(**self.noise_kind).to(self.device)
        for (gamma, beta), (mean, var) in zip(style, canvas_moments(self.generator, style, noise)):
            scale = gamma * torch.rsqrt(var + EPSILON).flatten(1)
            pairs.append((scale, beta - mean.flatten(1) * scale))
        return Style(*map(tuple, zip(*pairs)), style.name, style.provenance, style.network)

    def paint(
        self,
        noise: Noise | Between,
        styles: Sequence[Style],
        size: tuple[int, int],
        shares: Shares | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Image.Image:
        """Paint tiles in settled styles, each a margin larger than it is kept, so that no tile's edge shows."""
        width, height = size
        tile = TILE if shares is None else REGION_TILE
        corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
        out = np.empty((height, width, 3), np.uint8)
        for number, (top, left) in enumerate(corners, 1):
            rows, columns = min(tile, height - top), min(tile, width - left)
            stride = self.generator.config.stride
            place = (top - self.margin, left - self.margin, *(-(-n // stride) * stride + 2 * self.margin for n in (rows, columns)))
            with turn(self.device):
                style = styles[0] if shares is None else self._mixed(styles, shares, place)
                out[top : top + rows, left : left + columns] = self._window(noise, style, place)[:rows, :columns]
            if progress:
                progress(number, len(corners))
        return Image.fromarray(out)

    @torch.inference_mode()
    def _window(self, noise: Noise | Between, style: Style, place: tuple[int, int, int, int]) -> np.ndarray:
        canvas = noise.window(*place).to(self.device, memory_format=memory_format(self.device))
        none = torch.zeros(1, 1, 1, 1, device=self.device), torch.full((1, 1, 1, 1), 1 - EPSILON, device=self.device)
        painted = self.generator(canvas, style, lambda index, x: none)
        kept = painted[0, :, self.margin : -self.margin, self.margin : -self.margin]
        return (kept * 255 + 0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def _mixed(self, styles: Sequence[Style], shares: Shares, place: tuple[int, int, int, int]) -> Style:
        masks = shares.window(*place).to(self.device)
        there = (masks.amax((1, 2)) > 0).nonzero().flatten().tolist()
        if len(there) == 1:
            return styles[there[0]]
        return regions([styles[k] for k in there], masks[there], self.generator.region_sizes(*place[2:]))

    def check_size(self, size: tuple[int, int], seamless: bool = False) -> None:
        """Raises `ImageError`, in one sentence, for a picture that cannot be made."""
        width, height = size
        if min(size) < SMALLEST or width * height > MOST_PIXELS:
            raise ImageError(
                f"a picture has sides from {SMALLEST} px up and at most {MOST_PIXELS // 10**6} megapixels, not {width} x {height}"
            )
        stride = self.generator.config.stride
        if seamless and (width % stride or height % stride):
            near = " x ".join(str(max(SMALLEST, round(n / stride) * stride)) for n in size)
            raise ImageError(f"a seamless picture's sides must be multiples of {stride} px, not {width} x {height}; {near} is near")


def well_cut(image: Image.Image, most: int | None = None) -> Image.Image:
    """A seamless picture, shifted so that it is cut where neighbours are most alike; by up to ``most`` px if given.

    The steps between neighbouring columns differ with their place in the network's grid, on which the edges lie.
    """
    pixels = np.asarray(image)
    for axis in (0, 1):
        length = pixels.shape[axis] if most is None else min(most, pixels.shape[axis])
        steps = [_step(pixels.take(i, axis), pixels.take((i + 1) % pixels.shape[axis], axis)) for i in range(length)]
        pixels = np.roll(pixels, -1 - int(np.argmin(steps)), axis)
    return Image.fromarray(pixels)


def _step(line: np.ndarray, next_one: np.ndarray) -> float:
    return np.abs(line.astype(np.int16) - next_one).mean()


def reach(config: GeneratorConfig) -> int:
    """How far, in px, a pixel of the result may depend on the content: a multiple of the stride."""
    levels = len(config.widths)
    down = 2 + sum(2**level for level in range(1, levels))  # the stem, and each strided convolution on its input
    deep = 2 * config.blocks[-1] * config.stride
    up = sum(2 ** (i + 1) * (1 + 2 * config.blocks[i]) + 2 ** (i + 2) for i in range(levels - 1))  # and the upsampling
    total = down + deep + up + 2 + 2  # unfolded, and folded, in pairs of pixels
    return -(-total // config.stride) * config.stride
