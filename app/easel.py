"""`Easel`: what the tab for pictures from noise does, without the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from .archive import SUFFIXES
from .library import MOST_PIXELS, ImageError, Layout, NoisePainter, StylenormError, color_of, generation_file
from .studio import SCREEN, Studio, Wish, check_format, write

COLORS = {"gold": "#e0c020", "red": "#c03030", "green": "#208050"}  # that a layout is painted in; the ground is white
GROUND = (255, 255, 255)
GRID = 16  # px: a seamless picture's sides are multiples of this
OPAQUE = 128  # of 255


class Easel:
    """Paints noise, with the styles of a studio."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lock = threading.Lock()
        self._painter: NoisePainter | None = None

    def usable(self) -> bool:
        """Whether there is a network for it."""
        try:
            return generation_file(self.studio.weights).is_file()
        except StylenormError:
            return False

    def painter(self) -> NoisePainter:
        with self._lock:
            if self._painter is None:
                self._painter = NoisePainter(self.studio.weights, stylizer=self.studio.stylizer)
            return self._painter

    def generate(
        self,
        visitor: str,
        wish: Wish,
        size: tuple[float, float],
        seed: float,
        seamless: bool,
        layers: Sequence = (),
        bound: Sequence[str | None] = (),
        soft: float = 4.0,
        format: str = "png",
        quality: int = 95,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Path, Path | None, Path]:
        """(what to show, a 2 x 2 repeat if it is seamless, the file).

        layers: what was painted, in `COLORS`; ``bound`` are the styles of these, and the wish's is that of the ground.
        A seamless picture's sides are rounded to what it needs. progress is called with tiles done and of how many.
        """
        width, height = (whole(n, "a size") for n in size)
        check_format(format, quality, max(width, height))
        most = min(MOST_PIXELS, self.studio.limits.pixels)
        if width * height > most:
            raise ImageError(f"a picture here has at most {most / 1e6:g} megapixels; choose a smaller size")
        if seamless:
            width, height = (max(4, round(n / GRID)) * GRID for n in (width, height))
        drawn = [layer for layer in layers if isinstance(layer, Path)]
        self.studio.shelf.hold(visitor, "generate style", [wish.painting, wish.style_file, *drawn])
        style, layout = self.studio.style(wish), self._layout(layers, (width, height), soft)
        if layout is not None:
            style = [style, *self._bound(layout, bound, wish)]
        image = self.painter().generate(style, (width, height), whole(seed, "a seed"), seamless, layout, progress)
        return self._laid_out(visitor, image, seamless, f"generated-{whole(seed, 'a seed')}", format, int(quality))

    def _bound(self, layout: Layout, bound: Sequence[str | None], wish: Wish) -> list:
        """The styles of the colours; those of colours that were not used do not matter."""
        used, found = set(layout.index.flatten().tolist()), []
        for number, (color, name) in enumerate(zip(COLORS, bound), 1):
            if number in used and not name:
                raise StylenormError(f"choose a style for what you painted {color}")
            chosen = [(name, 1)] if number in used else wish.styles
            found.append(self.studio.style(Wish(chosen, wish.painting, wish.style_file)))
        return found

    def _layout(self, layers: Sequence, size: tuple[int, int], soft: float) -> Layout | None:
        """What was painted, stretched over the picture; None where nothing was."""
        drawn = [self.studio.read(layer, "the layout") for layer in layers]
        if not drawn:
            return None
        canvas = Image.new("RGB", drawn[0].rgb.size, GROUND)
        for picture in drawn:
            alpha = picture.alpha or Image.new("L", picture.rgb.size, 255)
            canvas.paste(picture.rgb.resize(canvas.size), (0, 0), alpha.resize(canvas.size).point(lambda a: 255 * (a >= OPAQUE)))
        scale = min(1.0, 1024 / max(size))
        canvas = canvas.resize([max(1, round(n * scale)) for n in size], Image.Resampling.NEAREST)
        layout = Layout.of(canvas, [GROUND, *map(color_of, COLORS.values())], soft, nearest=True)
        return layout if layout.index.any() else None

    def _laid_out(
        self, visitor: str, image: Image.Image, seamless: bool, stem: str, format: str, quality: int
    ) -> tuple[Path, Path | None, Path]:
        shelf = self.studio.shelf
        file, shown = shelf.new(f"{stem}{SUFFIXES[format]}"), shelf.new(f"{stem}-preview.jpg")
        write(image, file, format=format, quality=quality)
        write(smaller(image), shown, quality=92)
        repeat = None
        if seamless:
            tile, repeat = smaller(image), shelf.new(f"{stem}-repeated.jpg")
            four = Image.new("RGB", (2 * tile.width, 2 * tile.height))
            for corner in ((0, 0), (tile.width, 0), (0, tile.height), tile.size):
                four.paste(tile, corner)
            write(four, repeat, quality=92)
        shelf.hold(visitor, "generate after", [shown, repeat])
        shelf.hold(visitor, "generate file", [file])
        return shown, repeat, file


def smaller(image: Image.Image) -> Image.Image:
    """For the screen."""
    scale = SCREEN / max(image.size)
    size = [max(1, round(n * scale)) for n in image.size]
    return image if scale >= 1 else image.resize(size, Image.Resampling.LANCZOS)


def whole(value, what: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise StylenormError(f"{what} is a whole number, not {'empty' if value is None else repr(value)}") from None
