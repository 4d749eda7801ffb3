"""A style: one (γ, β) pair a normalization. Blending, strength and regions are arithmetic on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from operator import index
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenorm.architecture import CLAMP, FARTHEST, shares
from stylenorm.errors import StyleError, StylenormError, counted, in_short
from stylenorm.generator import pad_to


@dataclass(frozen=True, eq=False)
class Style(Sequence):
    """γ and β for every normalization of one generator.

    gammas, betas: one tensor a normalization, (N, C), or (N, C, h, w) where regions differ.
    name: what people call it. provenance: painting, artist, year, licence and whatever else is known.
    network: hash of the generator that it belongs to, or None where that is not known yet.

    Iterating gives the (γ, β) pairs that `Generator.forward` takes.
    """

    gammas: tuple[Tensor, ...] = field(repr=False)
    betas: tuple[Tensor, ...] = field(repr=False)
    name: str = ""
    provenance: Mapping[str, object] = field(default_factory=dict)
    network: str | None = None

    def __len__(self) -> int:
        return len(self.gammas)

    def __getitem__(self, index):  # noqa: D105
        pairs = self.gammas[index], self.betas[index]
        return tuple(zip(*pairs)) if isinstance(index, slice) else pairs

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(self.gammas, self.betas))

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(g.shape[1] for g in self.gammas)

    @property
    def has_regions(self) -> bool:
        return any(t.dim() == 4 for t in self.gammas + self.betas)

    def flat(self) -> Tensor:
        """(N, 2, T): γ, then β, of all T channels in a row. Only for a style without regions."""
        if any(t.dim() != 2 for t in self.gammas + self.betas):
            raise StyleError("a style with regions has a γ and β for each position and no flat form")
        return torch.stack([torch.cat(self.gammas, 1), torch.cat(self.betas, 1)], 1)

    def row(self) -> np.ndarray:
        """`flat` in numpy, float32."""
        return self.flat().detach().float().cpu().numpy()

    def with_row(self, row: np.ndarray) -> "Style":
        """The same with other γ and β, by what `row` gives."""
        return Style.from_flat(torch.tensor(row, device="cpu", dtype=torch.float32), self.channels, name=self.name, provenance=self.provenance, network=self.network)

    @classmethod
    def from_flat(cls, flat: Tensor, channels: Sequence[int], **about: Any) -> "Style":
        """The opposite of `flat`: (N, 2, T), T the sum of ``channels``."""
        if not isinstance(flat, Tensor):
            raise StyleError(f"a style is made of a tensor (N, 2, T), which {in_short(flat)} is not")
        total = _total(channels)
        if flat.dim() != 3 or flat.shape[1] != 2 or flat.shape[2] != total:
            raise StyleError(f"a style for this network is (N, 2, {total}), this one is {tuple(flat.shape)}")
        gammas, betas = (part.split(list(channels), 1) for part in flat.unbind(1))
        return cls(tuple(gammas), tuple(betas), **about)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Style":
        """``function`` of every γ and β."""
        return self._with(tuple(map(function, self.gammas)), tuple(map(function, self.betas)))

    def to(self, *args: Any, **kwargs: Any) -> "Style":
        """Every γ and β through `torch.Tensor.to`."""
        return self.map(lambda t: t.to(*args, **kwargs))

    def _with(self, gammas, betas) -> "Style":
        return Style(tuple(gammas), tuple(betas), self.name, self.provenance, self.network)


StyleLike = str | Style | Mapping[str, float] | Sequence[tuple["StyleLike", float]]  # what `Stylizer.stylize` takes for one


def blend(styles: Sequence[tuple[Style, float]]) -> Style:
    """The weighted mean of styles of one network: Σ w γ / Σ w, and the same for β (Dumoulin et al. 2017).

    Weights may be any finite numbers from 0 up whose sum is positive; they are divided by their sum. Raises `StyleError`
    for others, for no style at all, and where the networks or the sizes of regions differ.
    """
    try:
        styles = [(style, float(weight)) for style, weight in styles]
    except StylenormError:  # of what gives the pairs one by one
        raise
    except (TypeError, ValueError):
        raise StyleError("a blend is made of (Style, weight) pairs") from None
    if not styles:
        raise StyleError("a blend needs at least one style")
    counts = shares([w for _, w in styles])
    network = _check_alike([s for s, _ in styles])
    parts = [(s, w) for (s, given), w in zip(styles, counts) if given > 0]
    if len(parts) == 1:
        return parts[0][0]

    def mean(tensors: Sequence[Tensor]) -> Tensor:
        return sum(t * w for t, (_, w) in zip(_broadcast(*tensors), parts))

    gammas = tuple(mean(ts) for ts in zip(*(s.gammas for s, _ in parts)))
    betas = tuple(mean(ts) for ts in zip(*(s.betas for s, _ in parts)))
    name = "+".join(f"{s.name or 'style'}:{w:.2g}" for s, w in parts)
    return Style(gammas, betas, name, {}, network)


def interpolate(a: Style, b: Style, t: float) -> Style:
    """(1 - t) a + t b. ``t`` outside 0 to 1 extrapolates: more than all of ``b``. Raises `StyleError` as `blend` does."""
    if not isinstance(t, (Real, Tensor)) or not math.isfinite(t):
        raise StyleError(f"styles are interpolated by a finite number, not {in_short(t)}")
    network = _check_alike([a, b])

    def between(x: Tensor, y: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, y.dtype)  # which lerp alone does not do
        return torch.lerp(*_broadcast(x.to(dtype), y.to(dtype)), t)

    return Style(tuple(map(between, a.gammas, b.gammas)), tuple(map(between, a.betas, b.betas)), b.name, b.provenance, network)


def regions(styles: Sequence[Style], masks: Tensor, sizes: Sequence[tuple[int, int]]) -> Style:
    """A style that differs from place to place.

    styles: S styles with one row each. masks: (S, H, W), how much of each style is wanted where; they are
    divided by their sum at each pixel, and must not all be zero anywhere. sizes: the (h, w) of each
    normalization's map, from `Generator.region_sizes`. A soft edge in the masks is a soft edge between styles.
    Masks as large as the picture lie on it pixel by pixel; others are stretched over it and the margin that
    the generator adds at its right and lower edges. `Stylizer.region_style` does all this for a picture's size.

    Raises `StyleError` where styles, masks and sizes do not fit one another.
    """
    try:
        styles, sizes = list(styles), [(index(height), index(width)) for height, width in sizes]
    except StylenormError:  # of what gives the styles one by one
        raise
    except (TypeError, ValueError):
        raise StyleError("regions are made of styles, and of sizes (h, w) as Generator.region_sizes gives them") from None
    network = _check_alike(styles) if styles else None
    if not isinstance(masks, Tensor):
        raise StyleError(f"the masks are a tensor (S, H, W), which {in_short(masks)} is not; Stylizer.region_style takes pictures and arrays")
    if any(t.dim() != 2 or t.shape[0] != 1 for s in styles for t in s.gammas + s.betas):
        raise StyleError("regions are made of styles with one row each and no regions of their own")
    if not styles or masks.dim() != 3 or masks.shape[0] != len(styles):
        raise StyleError(f"{counted(len(styles), 'style needs', 'styles need')} masks of shape ({len(styles)}, H, W), not {tuple(masks.shape)}")
    if len(sizes) != len(styles[0]):
        raise StyleError(f"a style of {counted(len(styles[0]), 'normalization')} needs as many sizes, not {len(sizes)}")
    total = masks.float().sum(0, keepdim=True)
    if not torch.isfinite(masks).all() or (masks < 0).any() or (total <= 0).any():
        raise StyleError("the masks must not be negative, and at every pixel at least one must be above zero")
    share = (masks / total)[None]  # 1, S, H, W
    share = _with_margin(share, sizes)
    scaled = {hw: F.interpolate(share, hw, mode="area")[0] for hw in set(sizes)}  # each S, h, w

    def spread(rows: Sequence[Tensor], hw: tuple[int, int]) -> Tensor:
        stacked = torch.stack([r.reshape(-1) for r in rows])  # S, C
        return torch.einsum("sc,shw->chw", stacked, scaled[hw].to(stacked))[None]  # 1, C, h, w

    gammas = tuple(spread(rows, hw) for rows, hw in zip(zip(*(s.gammas for s in styles)), sizes))
    betas = tuple(spread(rows, hw) for rows, hw in zip(zip(*(s.betas for s in styles)), sizes))
    return Style(gammas, betas, "|".join(s.name for s in styles), {}, network)


def _with_margin(share: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Masks of the picture's size, with the margin that `Generator.forward` adds to the picture."""
    (height, width), (deep, _) = max(sizes), min(sizes)
    padded = pad_to(share, 2 * height // deep)
    return padded if padded.shape[-2:] == (2 * height, 2 * width) else share


def _broadcast(*tensors: Tensor) -> Sequence[Tensor]:
    """(N, C) as (N, C, 1, 1) where another one is (N, C, h, w)."""
    maps = {t.shape[-2:] for t in tensors if t.dim() == 4}
    if len(maps) > 1:
        raise StyleError("styles with regions blend only where they were made for pictures of one size")
    return [t[:, :, None, None] if t.dim() == 2 else t for t in tensors] if maps else tensors


def _total(channels: Sequence[int]) -> int:
    try:
        return sum(map(index, channels))
    except TypeError:
        raise StyleError(f"channels has a number for each normalization, and is not {in_short(channels)}") from None


def _check_alike(styles: Sequence[Style]) -> str | None:
    """The network that ``styles`` belong to, as far as it is known, or a `StyleError` where they differ."""
    for style in styles:
        if not isinstance(style, Style):
            raise StyleError(f"{style!r} is no Style; Stylizer.style gives that of a name, Stylizer.resolve that of all else")
    first = next((s for s in styles if s.network is not None), styles[0])
    for style in styles:
        if style.channels != first.channels or style.network not in (None, first.network):
            raise StyleError(f"the styles {first.name!r} and {style.name!r} belong to different networks")
    return first.network


class StyleEncoder(nn.Module):
    """Predicts γ and β from a painting's VGG statistics (after Ghiasi et al. 2017).

    ``encoder(statistics)``: (N, D) from `stylenorm.perceptual.style_statistics` to (N, 2, T), γ then β of all
    T channels. The statistics are standardized with ``mean`` and ``std``, measured over the training paintings.

    What is no painting at all (noise, a checkerboard, small print) lies far outside of what the encoder has learned,
    and its γ would be anything. Statistics farther from the mean than `FARTHEST` are drawn back to that distance.
    """

    FARTHEST = FARTHEST  # root mean square of the standardized statistics; paintings have 0.5 to 1.9, a checkerboard 6

    def __init__(self, channels: Sequence[int], statistics: int = 1920, hidden: int = 384) -> None:
        super().__init__()
        self.total = _total(channels)
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))
        self.layers = nn.Sequential(
            nn.Linear(statistics, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2 * self.total)
        )  # fmt: skip
        with torch.no_grad():  # starts near γ = 1, β = 0, with a small difference between paintings to build on
            self.layers[-1].weight.mul_(0.3)
            self.layers[-1].bias.zero_()

    def forward(self, statistics: Tensor) -> Tensor:
        standard = ((statistics - self.mean) / self.std).clamp(-CLAMP, CLAMP)
        distance = standard.square().mean(1, keepdim=True).sqrt()
        standard = standard * (self.FARTHEST / distance.clamp_min(self.FARTHEST))
        flat = self.layers(standard).unflatten(1, (2, self.total))
        return flat + (1 - torch.arange(2, device=flat.device))[:, None]  # 1 and 0, made where they are needed
