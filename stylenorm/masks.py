"""Masks: where in a picture which style is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps

from stylenorm.errors import ImageError, StyleError
from stylenorm.modes import split_deep

OPAQUE = 12  # of 255: a brush need not be opaque, where it went at all is inside


def mask_tensor(mask, size: tuple[int, int]) -> torch.Tensor:
    """A mask, as a PIL image (white: 1; of any mode) or an array (h, w), to a float32 tensor of ``size`` = (H, W) px.

    What is transparent in an image is not in the mask. Raises `StyleError` for anything else, and for numbers that are
    negative or not finite.
    """
    try:
        array = np.asarray(_grey(mask) if isinstance(mask, Image.Image) else mask, dtype=np.float32)
    except (TypeError, ValueError):  # texts, or rows of several lengths
        array = np.empty(0, np.float32)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all() or array.min() < 0:
        raise StyleError("a mask is a greyscale picture, or an array (height, width) of finite numbers from 0 up")
    if isinstance(mask, Image.Image):
        array = array / 255
    tensor = torch.from_numpy(np.array(array))[None, None]
    if tensor.shape[-2:] != size:
        tensor = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)
    return tensor[0, 0]


def _grey(mask: Image.Image) -> Image.Image:
    deep = mask.mode.startswith(("I", "F"))  # whose values Pillow's convert would cut at 255
    if deep:
        return split_deep(mask)[0]
    if mask.has_transparency_data:  # whose hidden colours may be white
        mask = Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask.convert("RGBA"))
    return mask.convert("L")


def drawn_mask(layers: Sequence[Image.Image], edge: float = 0.0) -> tuple[Image.Image, Image.Image]:
    """(mask, the rest) from drawn layers' opacities, each an image of mode L: white where any of them was painted on.

    edge: width of the soft edge, in % of the picture's width, from 0 to 50. The two add up to white everywhere.
    Raises `ImageError` where nothing is painted.
    """
    if not 0 <= edge <= 50:
        raise ImageError(f"the soft edge must lie between 0 and 50 %, not {edge:g}")
    if not layers:
        raise ImageError("paint over a part of the photograph first")
    mask = layers[0]
    for layer in layers[1:]:
        mask = ImageChops.lighter(mask, layer.resize(mask.size))
    if mask.getbbox() is None:
        raise ImageError("paint over a part of the photograph first")
    mask = mask.point(lambda a: 255 if a > OPAQUE else 0)
    if edge:
        mask = mask.filter(ImageFilter.GaussianBlur(edge / 100 * mask.width / 2))
    return mask, ImageOps.invert(mask)
