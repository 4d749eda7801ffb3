"""`Generator.forward` for pictures of any size, in little memory: one strip of rows after another.

The moments that a normalization strips belong to the whole map, so a strip cannot go through the network alone:
that would give a quilt. Instead the whole picture goes through one convolution at a time, strip by strip. Each
strip is read with one more row above and below, convolved, kept (see `stylenorm.spill`) and measured; when the
last one has been, the moments are known, and whoever reads the map next normalizes as it reads. What comes out
is the picture that `Generator.forward` would give, to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylenorm.bands import Pixels, put_together, rows_of, size_of
from stylenorm.generator import Generator, ResidualBlock, StyledConv, padded_length, reflected_index
from stylenorm.spill import IN_MEMORY, Kept, Spill
from stylenorm.style import Style

STRIP = 8 << 20  # bytes of a strip; larger ones are fetched from the system anew each time, at twice the cost


@dataclass(frozen=True)
class Rows:
    """A map (1, C, H, W) that is read by the row, as channels-last float32 on the device that paints.

    shape: (C, H, W). read: ``read(first, last)`` gives rows ``first`` to ``last`` (not included), (1, C, rows, W).
    kept: what it is read from and what goes when it does.
    """

    shape: tuple[int, int, int]
    read: Callable[[int, int], Tensor]
    kept: tuple[Kept, ...] = ()


@torch.inference_mode()
def paint_strips(
    generator: Generator,
    photo: Pixels,
    style: Style,
    device: torch.device = torch.device("cpu"),
    folder: Path | None = None,
    strip: int = STRIP,
    in_memory: int = IN_MEMORY,
) -> Pixels:
    """The painting of ``photo``, an "RGB" image or (H, W, 3), uint8 or uint16; it is alike. ``style`` may have regions.

    folder: for the temporary files; see `disk_needed`. strip, in_memory: bytes of a strip, and of maps in memory.
    Raises `ImageError` where the disk is full.
    """
    with Spill(folder, in_memory) as spill:
        walk = _Walk(generator, photo, style.to(device), device, spill, strip)
        return put_together(photo, walk.painted())


def disk_needed(generator: Generator, size: tuple[int, int], in_memory: int = IN_MEMORY) -> int:
    """Bytes of disk that `paint_strips` takes at most for a picture of ``size`` = (width, height)."""
    spill = Spill(in_memory=in_memory, dry=True)
    nothing = [(torch.ones(1, c, device="cpu"), torch.zeros(1, c, device="cpu")) for c in generator.config.channels]
    blank = np.broadcast_to(np.uint8(0), (*size[::-1], 3))  # takes no memory
    _Walk(generator, blank, nothing, torch.device("cpu"), spill, STRIP).result()
    return spill.peak


class _Walk:
    """The generator's modules in the order of its forward, each over the whole map."""

    def __init__(self, generator: Generator, photo: Pixels, pairs, device: torch.device, spill: Spill, strip: int) -> None:
        self.generator, self.photo, self.device, self.spill, self.strip = generator, photo, device, spill, strip
        self.pairs = iter(pairs)

    def painted(self) -> Iterator[tuple[int, np.ndarray]]:
        """(top, (rows, W, 3)) of each strip of the picture, from above."""
        width, height = size_of(self.photo)
        dtype = rows_of(self.photo, 0, 1).dtype
        white = np.iinfo(dtype).max
        result = self.result()
        for first, last in self.strips(result.shape):
            x = F.pixel_shuffle(torch.sigmoid(result.read(first, last)), 2)[0, :, : max(0, height - 2 * first), :width]
            if x.shape[1]:  # else all of it is margin
                pixels = (x * white + 0.5).clamp(0, white).to(torch.int32 if white > 255 else torch.uint8)
                yield 2 * first, pixels.permute(1, 2, 0).contiguous().cpu().numpy().astype(dtype, copy=False)

    def result(self) -> Rows:
        """The map (12, H/2, W/2) before the sigmoid."""
        generator = self.generator
        # The first map is the largest, and cheaper to compute again from the photograph than to keep
        x = self.styled(generator.stem, self.folded_photo(), keep=False)
        skips = []
        for down in generator.down:
            skips.append(x)
            x = self.styled(down, x)
        for block in generator.deep:
            x = self.residual(block, x)
        for up, wide in zip(generator.up, generator.wide):
            below, x = x, self.styled(up, doubled(x), relu=False)
            self.free(below)
            x = added(x, skips.pop(), relu=True)
            if wide:
                x = self.settled(x)
            for block in wide:
                x = self.residual(block, x)
        weight, bias = generator.out.folded()
        return convolved(x, lambda strip: F.conv2d(strip, weight, bias), len(weight))

    def residual(self, block: ResidualBlock, x: Rows) -> Rows:
        inner = self.styled(block.first, x)
        outer = self.styled(block.second, inner, relu=False)
        self.free(inner)
        return self.settled(added(outer, x))

    def styled(self, layer: StyledConv, x: Rows, relu: bool = True, keep: bool = True) -> Rows:
        """The convolution, measured; the normalization is done by whoever reads."""
        stride = layer.conv.stride[0]
        raw = convolved(x, layer.conv, layer.conv.out_channels, stride)
        gamma, beta = next(self.pairs)
        kept = self.spill.new(raw.shape) if keep else None
        moments = self.passed(raw, kept, None if layer.norm.kind == "batch" else Tally(layer.norm.kind, layer.norm.num_groups))
        source = self.stored(kept) if keep else raw

        def read(first: int, last: int) -> Tensor:
            here = [t[:, :, first:last] if t.dim() == 4 else t for t in (gamma, beta)]
            y = layer.norm(source.read(first, last), *here, moments)
            return F.relu(y) if relu else y

        return Rows(raw.shape, read, source.kept)

    def passed(self, x: Rows, kept: Kept | None, tally: Tally | None) -> tuple[Tensor, Tensor] | None:
        """Read all of ``x`` once, keep it, and take its moments; None for the norm that has its own."""
        if self.spill.dry or (kept is None and tally is None):
            return None
        for first, last in self.strips(x.shape):
            strip = x.read(first, last)
            if tally is not None:
                tally.add(strip)
            if kept is not None:
                kept.write(first, strip)
        return None if tally is None else tuple(t.to(self.device) for t in tally.moments())

    def settled(self, x: Rows) -> Rows:
        """The same map, computed and written over the first of what it is read from; the rest is freed."""
        self.passed(x, x.kept[0], None)
        self.free(x, but=x.kept[0])
        return self.stored(x.kept[0])

    def stored(self, kept: Kept) -> Rows:
        return Rows(kept.shape, lambda first, last: kept.read(first, last).to(self.device), (kept,))

    def free(self, x: Rows, but: Kept | None = None) -> None:
        for kept in x.kept:
            if kept is not but:
                self.spill.free(kept)

    def strips(self, shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
        channels, height, width = shape
        rows = max(1, self.strip // (4 * channels * width))
        return ((first, min(first + rows, height)) for first in range(0, height, rows))

    def folded_photo(self) -> Rows:
        """The photograph with its margin, folded: (12, H/2, W/2)."""
        photo, stride = self.photo, self.generator.config.stride
        own_width, own_height = size_of(photo)
        height, width = padded_length(own_height, stride), padded_length(own_width, stride)
        at_row = reflected_index(own_height, height, torch.device("cpu"))
        at_column = reflected_index(own_width, width, self.device)

        def read(first: int, last: int) -> Tensor:
            wanted = at_row[2 * first : 2 * last]
            low, high = int(wanted.min()), int(wanted.max()) + 1
            band = rows_of(photo, low, high)  # rows, W, 3
            white = np.iinfo(band.dtype).max
            pixels = np.array(band, np.uint8 if white == 255 else np.int32)  # no device computes in uint16
            x = torch.from_numpy(pixels)[wanted - low].to(self.device)[:, at_column]
            return F.pixel_unshuffle(x.permute(2, 0, 1)[None].float() / white, 2)

        return Rows((12, height // 2, width // 2), read)


def convolved(x: Rows, convolution: Callable[[Tensor], Tensor], channels: int, stride: int = 1) -> Rows:
    """A 3 x 3 convolution over a reflected border. An output row takes the row above and the row below it."""
    _, height, width = x.shape

    def read(first: int, last: int) -> Tensor:
        low, high = stride * first - 1, stride * (last - 1) + 2
        strip = x.read(max(low, 0), min(high, height))
        return convolution(F.pad(strip, (1, 1, int(low < 0), int(high > height)), mode="reflect"))

    return Rows((channels, height // stride, width // stride), read)


def doubled(x: Rows) -> Rows:
    """`F.interpolate` by 2, bilinear. A row lies between two of ``x``; at its upper and lower edge it is the edge's."""
    channels, height, width = x.shape

    def read(first: int, last: int) -> Tensor:
        low, high = max(first // 2 - 1, 0), min((last - 1) // 2 + 2, height)
        strip = F.interpolate(x.read(low, high), scale_factor=2.0, mode="bilinear", align_corners=False)
        return strip[:, :, first - 2 * low : last - 2 * low]

    return Rows((channels, 2 * height, 2 * width), read, x.kept)


def added(x: Rows, y: Rows, relu: bool = False) -> Rows:
    def read(first: int, last: int) -> Tensor:
        total = x.read(first, last) + y.read(first, last)
        return F.relu(total) if relu else total

    return Rows(x.shape, read, x.kept + y.kept)


class Tally:
    """`stylenorm.functional.moments` of one picture's map, of which strips come one after another.

    Each strip's mean and sum of squares about it are taken in float32 and put together in float64 by the
    formula of Chan et al. (1979), which loses nothing where the mean is far from zero.
    """

    def __init__(self, kind: str, num_groups: int | None = None) -> None:
        self.groups = {"instance": None, "layer": 1, "group": num_groups}[kind]
        self.count, self.mean, self.squares = 0, None, None

    def add(self, strip: Tensor) -> None:
        """strip: (1, C, rows, W)."""
        flat = strip[0].permute(1, 2, 0).flatten(0, 1)  # rows * W, C
        mean = flat.mean(0)
        squares = (flat - mean).square_().sum(0).cpu().double()  # C; there is no float64 on MPS
        mean, count = mean.cpu().double(), len(flat)
        if self.mean is None:
            self.count, self.mean, self.squares = count, mean, squares
            return
        total, apart = self.count + count, mean - self.mean
        self.squares += squares + apart.square() * (self.count * count / total)
        self.mean += apart * (count / total)
        self.count = total

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and biased variance, (1, C, 1, 1) each, in float32."""
        mean, var = self.mean, self.squares / self.count  # C
        if self.groups:
            means = mean.view(self.groups, -1)  # G, C/G
            whole = means.mean(1, keepdim=True)
            spread = (var.view_as(means) + (means - whole).square()).mean(1, keepdim=True)
            mean, var = (t.expand_as(means).flatten() for t in (whole, spread))
        return tuple(t.float()[None, :, None, None] for t in (mean, var))
