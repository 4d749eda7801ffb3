"""What is asked for most, without torch: importing that takes longer than painting a photograph in a named style.

Also what `stylenorm.engine` has in common with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stylenorm.architecture import GeneratorConfig
from stylenorm.catalog import cache_folder, network_file, style_entries
from stylenorm.errors import StyleError, WeightsError
from stylenorm.graph import PRECISIONS, CompiledGraph
from stylenorm.kept import Kept, state_of
from stylenorm.machine import free_main_memory, may_have_gpu
from stylenorm.metadata import read_metadata
from stylenorm.stored import generator_hash, intact, part, ranges_file, read_arrays, read_ranges

# What reads pictures is imported when the first one comes: a thread takes the kept graph in the meantime.
if TYPE_CHECKING:
    from PIL import Image

    from stylenorm.images import Picture

AROUND = 50  # bytes a pixel that strength and colours take beside the backend, measured: see BENCHMARKS.md

UNUSABLE = (ImportError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)  # what bad files raise


@dataclass(frozen=True)
class PlainStyle:
    """Named styles with their weights. flat: (1, 2, T) float32, γ, then β."""

    name: str
    flat: np.ndarray
    parts: Sequence[tuple[str, float]]


class PlainStylizer:
    """`stylenorm.engine.Stylizer` for named styles, the network in OpenVINO on the CPU.

    Paints the same picture. One that it cannot (of 16 bits, of next to one colour, or larger than half of the free
    memory) it hands to ``stylizer()``, which gives a `Stylizer`; it is called once, if at all.

    Raises whatever is wrong with the network file, not always in one sentence: `plain_stylizer` takes care of that.
    """

    def __init__(self, weights: str | Path | None, backend: str, memory: float | None, stylizer: Callable) -> None:
        file = network_file(weights)
        values = read_metadata(file, "network")
        self._config = GeneratorConfig.from_dict(values["config"])
        digest, beside = values["hash"], ranges_file(file)

        @cache
        def generator() -> dict[str, np.ndarray]:
            found = part(read_arrays(file, "generator."), "generator.")  # the encoder's two thirds are of no use here
            if generator_hash(self._config.to_dict(), found) != digest:
                raise WeightsError(f"{file} is damaged")
            return found

        has_ranges = beside.is_file() and read_metadata(beside, "ranges").get("network") == digest
        ranges = (lambda: read_ranges(file, digest, generator())) if has_ranges else None
        keep = Kept(cache_folder(), (digest, state_of(file), state_of(beside)))
        self._graph = CompiledGraph(self._config, generator, precision=PRECISIONS[backend], ranges=ranges, keep=keep)
        self._memory = None if memory is None else memory * 1e9
        self._files = {entry.name: entry.file for entry in style_entries(file)}
        self._stylizer, self._made = stylizer, None

    def resolve(self, parts: Sequence[tuple[str, float]]):
        """What `stylize` takes for (name, weight) pairs, as `stylenorm.style.blend` has it."""
        try:
            total = sum(weight for _, weight in parts)
            if not 0 < total < math.inf:
                raise ValueError(total)
            shares = [(name, self._row(name), weight / total) for name, weight in parts if weight > 0]
        except (KeyError, ValueError, TypeError):  # told by who reads it with more care
            return self._full().resolve(parts)
        if len(shares) == 1:
            return PlainStyle(shares[0][0], shares[0][1], parts)
        name = "+".join(f"{name}:{share:.2g}" for name, _, share in shares)
        return PlainStyle(name, sum(row * share for _, row, share in shares), parts)

    def stylize(self, image, style, preserve_color: bool = False, size: int | None = None, strip: bool = False, **others):
        """As `Stylizer.stylize`, whose further options may be given as well; style is what `resolve` gave."""
        from PIL import Image

        from stylenorm.images import Picture, fit, read_picture, recolored, rewrap

        check_options(1.0, size=size)
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = picture.rgb if size is None else fit(picture.rgb, size)
        if not self._is_plain(style, picture, photo, others) or not self._works():
            full = self._full()
            wanted = full.resolve(style.parts) if isinstance(style, PlainStyle) else style
            return full.stylize(picture, wanted, preserve_color=preserve_color, size=size, strip=strip, **others)
        beyond = margin_of(photo.size, self._config.stride)
        painted = self._graph(mirrored_beyond(np.asarray(photo), beyond), style.flat)[beyond:, beyond:]
        painted = Image.fromarray(np.ascontiguousarray(painted))
        return rewrap(picture, recolored(painted, photo) if preserve_color else painted, strip=strip)

    def _works(self) -> bool:
        """Whether there is a graph, once it was waited for: if the kept one is of no use, the network file may be neither."""
        try:
            return self._graph.compiled is not None
        except UNUSABLE:
            return False

    def _is_plain(self, style, picture: Picture, photo: Image.Image, others: dict) -> bool:
        from stylenorm.flat import own_share

        usual = {"strength": 1.0, "paint_at": None, "notice": others.get("notice")}
        if not isinstance(style, PlainStyle) or picture.deep is not None or not others.items() <= usual.items():
            return False
        free = free_main_memory()
        most = self._memory if self._memory is not None else math.inf if free is None else free / 2
        needs = math.prod(photo.size) * (self._graph.bytes_per_pixel + AROUND)
        return needs <= most and (self._config.norm == "batch" or own_share(photo) == 1)

    def _full(self):
        self._made = self._made or self._stylizer()
        return self._made

    def _row(self, name: str) -> np.ndarray:
        file = self._files[name]
        values, arrays = read_metadata(file, "style"), read_arrays(file)
        row = np.stack([arrays["gamma"], arrays["beta"]])[None].astype(np.float32)
        if row.shape != (1, 2, sum(self._config.channels)) or not np.isfinite(row).all() or not intact(arrays, values):
            raise ValueError(file)
        return row


def plain_stylizer(
    weights: str | Path | None, device: str, backend: str, memory: float | None, stylizer: Callable
) -> PlainStylizer | None:
    """A `PlainStylizer` where `Stylizer` with these arguments would paint by OpenVINO on the CPU, else None."""
    if device not in ("auto", "cpu") or backend not in PRECISIONS or find_spec("openvino") is None:
        return None
    if device == "auto" and may_have_gpu():
        return None
    try:
        return PlainStylizer(weights, backend, memory, stylizer)
    except UNUSABLE:
        return None  # `Stylizer` says in one sentence what is wrong


def check_options(strength: float, **sides: int | None) -> None:
    if not 0 <= strength <= 1:
        raise StyleError(f"strength must lie between 0 and 1, not {strength}")
    for what, side in sides.items():
        if side is not None and not 16 <= side <= 30000:
            raise StyleError(f"{what} must lie between 16 and 30000 px, not {side}")


def margin_of(size: tuple[int, int], stride: int) -> int:
    """Pixels that are painted beyond the upper and the left edge and cut off again.

    The network draws a few coloured lines along an upper edge, as it has learned to know it by its reflection.
    One stride, so that the grid of its maps stays where it is; none for a picture that is no larger itself.
    """
    return stride if min(size) > stride else 0


def mirrored_beyond(pixels: np.ndarray, margin: int) -> np.ndarray:
    """(H, W, C) with ``margin`` more rows above and columns to the left, mirrored."""
    return np.pad(pixels, ((margin, 0), (margin, 0), (0, 0)), "symmetric") if margin else pixels
