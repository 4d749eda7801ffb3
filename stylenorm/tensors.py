"""Images and tensors, and sizes."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from PIL import Image

from stylenorm.errors import ImageError, in_short
from stylenorm.formats import FULL, USUAL_PIXELS

MOST = 100_000_000  # pixels that a picture is enlarged to


def need_image(image: Image.Image) -> None:
    if not isinstance(image, Image.Image):
        raise ImageError(f"a PIL image is wanted, which {in_short(image)} is not; read_picture(...).rgb is one")


def need_rgb(*images: Image.Image) -> None:
    for image in images:
        need_image(image)
        if image.mode != "RGB":
            raise ImageError(f"an image has mode {image.mode}; read_picture makes RGB of it")


def to_tensor(rgb: Image.Image):
    """An "RGB" image -> a contiguous float32 tensor (1,3,H,W) in [0, 1]."""
    return to_bytes(rgb)[None].float().div_(255)  # (1,3,H,W)


def to_bytes(rgb: Image.Image):
    """An "RGB" image -> a contiguous uint8 tensor (3,H,W)."""
    import torch

    need_rgb(rgb)
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()  # a copy: PIL's own memory is read-only


def to_image(tensor) -> Image.Image:
    """A tensor (3,H,W) or (1,3,H,W), 1 for white -> an "RGB" image; clamped, rounded to nearest."""
    import torch

    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4) or shape[-3] != 3 or (len(shape) == 4 and shape[0] != 1):
        raise ImageError(f"a tensor of shape {shape} is no picture; give (3,H,W) or (1,3,H,W)")
    if 0 in shape:
        raise ImageError(f"a tensor of shape {shape} has no pixels; give at least 1 x 1")
    tensor = tensor.detach().reshape(shape[-3:]).float()
    if torch.isnan(tensor).any():
        raise ImageError("the result has values that are no numbers (NaN); try full precision")
    pixels = tensor.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)  # (H,W,3)
    return Image.fromarray(pixels.contiguous().cpu().numpy())


def fit(rgb: Image.Image, size: int) -> Image.Image:
    """Resize (Lanczos) so that the longer side has `size` pixels; the same image if it has."""
    need_image(rgb)
    return _scaled(rgb, size, max(rgb.size))


def fit_even(rgb: Image.Image, size: int) -> Image.Image:
    """The same for an even ``size``, with the shorter side rounded to an even number of pixels, 2 at least."""
    width, height = (max(2, 2 * round(length * size / max(rgb.size) / 2)) for length in rgb.size)
    return rgb if rgb.size == (width, height) else rgb.resize((width, height), Image.Resampling.LANCZOS)


def short_side(rgb: Image.Image, size: int) -> Image.Image:
    """Resize (Lanczos) so that the shorter side has `size` pixels; the same image if it has. Raises as `short_side_shape`."""
    if size > 0:
        short_side_shape(rgb.height, rgb.width, size)
    return _scaled(rgb, size, min(rgb.size))


def short_side_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) with the shorter one ``size``. Raises `ImageError` where that is vast, as of a strip of a few pixels' height."""
    scale = size / min(height, width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    if math.prod(shape) > max(MOST, height * width):
        raise ImageError(f"a picture of {width} x {height} px cannot be enlarged to a shorter side of {size} px; cut a piece out of it")
    return shape


def _scaled(rgb: Image.Image, size: int, side: int) -> Image.Image:
    if not isinstance(size, Real) or not 1 <= size < math.inf:
        raise ImageError(f"a picture cannot have a side of {in_short(size)} pixels; use 1 or more")
    if size == side:
        return rgb
    return rgb.resize(_scaled_size(rgb.size, size, side), Image.Resampling.LANCZOS)


def fitted(size: tuple[int, int], longer: int | None) -> tuple[int, int]:
    """The width and height that `fit` gives a picture of ``size`` px; its own where ``longer`` is None."""
    return size if longer is None else _scaled_size(size, longer, max(size))


def usual_side(size: tuple[int, int]) -> int | None:
    """Longer side in px at which a picture of ``size`` = (width, height) px is painted if nothing is said; None: as it is."""
    pixels = math.prod(size)
    return max(1, round(max(size) * (USUAL_PIXELS / pixels) ** 0.5)) if pixels > USUAL_PIXELS else None


def side_to_paint(size: tuple[int, int], paint_at: int | str | None) -> int | None:
    """The same for what `Stylizer.stylize` takes as ``paint_at``."""
    return usual_side(size) if paint_at is None else None if paint_at == FULL else paint_at


def _scaled_size(size: tuple[int, int], wanted: int, side: int) -> tuple[int, int]:
    width, height = (max(1, round(length * wanted / side)) for length in size)
    return width, height
