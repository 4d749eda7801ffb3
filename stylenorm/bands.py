"""Large pictures, an image or an array alike, a few rows at a time: floats of a whole one are 12x its size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

BAND = 256  # rows

Pixels = Image.Image | np.ndarray  # "RGB", or (H,W,3) of uint8 or uint16


def size_of(picture: Pixels) -> tuple[int, int]:
    """Width and height."""
    return picture.shape[1::-1] if isinstance(picture, np.ndarray) else picture.size


def rows_of(picture: Pixels, first: int, last: int) -> np.ndarray:
    """Rows ``first`` to ``last`` (not included), (rows,W,3); of an array they are its own memory."""
    return picture[first:last] if isinstance(picture, np.ndarray) else np.asarray(picture.crop((0, first, picture.width, last)))


def put_together(like: Pixels, pieces: Iterable[tuple[int, np.ndarray]]) -> Pixels:
    """The picture, as large and of the same kind as ``like``, of (top, rows)."""
    if isinstance(like, np.ndarray):
        result = np.empty_like(like)
        for top, rows in pieces:
            result[top : top + len(rows)] = rows
        return result
    result = Image.new("RGB", like.size)
    for top, rows in pieces:
        result.paste(Image.fromarray(rows), (0, top))
    return result


def in_bands(function: Callable[..., np.ndarray], *pictures: Pixels) -> Pixels:
    """``function(top, *bands)`` of bands of rows of pictures of one size, put together to one like the first.

    A band is an array (rows,W,3), one for each picture, and so is what the function returns.
    """
    height = size_of(pictures[0])[1]
    spans = ((top, min(top + BAND, height)) for top in range(0, height, BAND))
    return put_together(pictures[0], ((top, function(top, *(rows_of(p, top, last) for p in pictures))) for top, last in spans))


def with_missing(photo: Pixels, painted: Pixels, again: Pixels, strength: float) -> Pixels:
    """``painted``, with what ``again``, made of the photograph in its own style in the same way, lacks of it, which fades as the style grows.

    Like ``photo``; the other two may have 16 bits where that has 8.
    """

    def faded(_, here: np.ndarray, there: np.ndarray, again: np.ndarray) -> np.ndarray:
        white = np.iinfo(here.dtype).max
        share = np.float32(white / np.iinfo(there.dtype).max)
        changed = there * share - (1 - strength) * (again * share)
        return np.clip(changed + (1 - strength) * here.astype(np.float32) + 0.5, 0, white).astype(here.dtype)

    return in_bands(faded, photo, painted, again)


def painted_inside(painted: Pixels, photo: Pixels, mask: Image.Image) -> Pixels:
    """``painted`` where ``mask`` (mode "L") is 255, the very pixels of ``photo`` where it is 0, and between them a mixture. All of one size."""

    def mixed(_, there: np.ndarray, here: np.ndarray, inside: np.ndarray) -> np.ndarray:
        share = inside[..., None].astype(np.int32)
        return ((there * share + here * (255 - share) + 127) // 255).astype(here.dtype)

    return in_bands(mixed, painted, photo, mask)
