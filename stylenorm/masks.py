"""Masks: where in a picture which style is wanted, and where it is to be painted at all. No torch, but in `mask_tensor`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from stylenorm.errors import ImageError, StyleError, how_to_install
from stylenorm.flow import opencv
from stylenorm.formats import BACKGROUND, PEOPLE
from stylenorm.images import Picture, read_picture
from stylenorm.modes import split_deep

if TYPE_CHECKING:
    import torch

OPAQUE = 12  # of 255: a brush need not be opaque, where it went at all is inside
COLOURED = 8  # levels of 255 by which the channels of what is no greyscale differ somewhere
MIDDLE_TONES, FEW = slice(16, 240), 32  # levels of 255, and how many a greyscale mask may have there
SMALL = 512, 512  # px, that a photograph of any size is rough at
ROUGH = 1.2  # levels by which a pixel differs from the mean of its neighbours, twice, on average: more than a gradient's rounding
REACH, WELL = 0.06, 0.09  # of the longer side: how far a mask may grow to an edge, and how far from its border it stays, or
MIDDLE = 1.2  # times the mean distance to it, which is half of that in the middle of a stroke
ROUNDS = 4  # of GrabCut
GRABBING = threading.Lock()
UPRIGHT = 1.05  # proportions from which on a picture counts as upright, or as lying


def mask_tensor(mask, size: tuple[int, int]) -> torch.Tensor:
    """A mask, as a PIL image (see `mask_levels`) or an array (h, w), to a float32 tensor of ``size`` = (H, W) px.

    White is 1, and an array's numbers are what they are. Raises `StyleError` for anything else, and for numbers that are
    negative or not finite.
    """
    import torch

    array = np.asarray(_grey(mask), np.float32) / 255 if isinstance(mask, Image.Image) else _numbers(mask)
    tensor = torch.from_numpy(np.array(array))[None, None]
    if tensor.shape[-2:] != size:
        tensor = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)
    return tensor[0, 0]


def mask_levels(mask, size: tuple[int, int]) -> Image.Image:
    """A mask as an image of mode L and of ``size`` = (width, height) px, over which it is stretched: 255 is inside.

    mask: a picture, as a path, a PIL image or a `Picture`: white is inside, black and what is transparent is not. Of a cut-out, whatever
    is opaque is inside: that is a picture with something transparent, in colours, all black, or mostly of many middle greys, as a
    black-and-white photograph is. Or an array (h, w) of bool, of numbers from 0 to 1, or of levels up to 255.

    Raises `ImageError` for a file that is no picture, `StyleError` for all else, and for a mask that lies on its side.
    """
    mask = opened_mask(mask)
    if isinstance(mask, Image.Image):
        grey = _grey(mask)
    else:
        numbers = _numbers(mask)
        if numbers.max() > 255:
            raise StyleError(f"a mask is an array of numbers from 0 to 1, or of levels from 0 to 255, and not of up to {numbers.max():g}")
        grey = Image.fromarray(np.rint(numbers * (255 if numbers.max() <= 1 else 1)).astype(np.uint8))
    turned, wide = (width / height for width, height in (grey.size, size))
    if min(turned, 1 / wide) > UPRIGHT or min(1 / turned, wide) > UPRIGHT:
        sizes = f"{grey.width} x {grey.height} px and the picture {size[0]} x {size[1]}"
        raise StyleError(f"the mask is {sizes}: one of them lies on its side; turn the mask as the picture is seen")
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


def inverted_mask(mask) -> Image.Image:
    """The rest of what `mask_levels` takes, as such."""
    mask = opened_mask(mask)
    return ImageOps.invert(mask_levels(mask, mask.size))


def opened_mask(mask):
    """A mask's file as an image, and an image upright; all else as it is."""
    if isinstance(mask, Image.Image):
        image = ImageOps.exif_transpose(mask)
        return _labels(np.asarray(image), image) if image.mode.startswith("I;16") else image
    if isinstance(mask, str) and mask in (PEOPLE, BACKGROUND):
        raise StyleError(f"{mask!r} is found in a photograph, and here is none; give a picture, such as stylenorm.find_people(photo) makes")
    if not isinstance(mask, (str, os.PathLike, Picture)):
        return mask
    picture = read_picture(mask)
    image = picture.rgb.copy() if picture.deep is None else _labels(picture.deep[..., :3], picture.rgb.copy())
    if picture.alpha is not None:
        image.putalpha(picture.alpha)
    return image


def _labels(deep: np.ndarray, image: Image.Image) -> Image.Image:
    """Samples of 16 bits that are 0 and 1 as an image of 8, which else would be black; else ``image``."""
    return Image.fromarray(deep.astype(np.uint8)) if deep.max() == 1 else image


def _numbers(mask) -> np.ndarray:
    """(h, w) float32, or a `StyleError`."""
    if hasattr(mask, "detach"):  # a tensor, of which numpy takes neither a GPU's nor one with a gradient
        mask = mask.detach().cpu().float()
    try:
        array = np.asarray(mask, dtype=np.float32)
    except (TypeError, ValueError):  # texts, or rows of several lengths
        array = np.empty(0, np.float32)
    if array.ndim != 2 or not array.size or not np.isfinite(array).all() or array.min() < 0:
        raise StyleError("a mask is a greyscale picture, or an array (height, width) of finite numbers from 0 up")
    return array


def _grey(mask: Image.Image) -> Image.Image:
    """As "L", white inside."""
    grey = _levels(mask)
    return grey.point(lambda level: 255 * level) if grey.getextrema() == (0, 1) else grey  # labels, as programs that find things write them


def _levels(mask: Image.Image) -> Image.Image:
    deep = mask.mode.startswith(("I", "F"))  # whose values Pillow's convert would cut at 255
    if deep:
        return split_deep(mask)[0]
    if not mask.has_transparency_data:
        return mask.convert("L")
    mask = mask.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", mask.size, "black"), mask).convert("RGB")  # hidden colours may be white
    red, green, blue = flat.split()
    apart = ImageChops.lighter(ImageChops.difference(red, green), ImageChops.difference(green, blue))
    alpha, grey = mask.getchannel("A"), flat.convert("L")
    cut_out = apart.getextrema()[1] > COLOURED or not grey.getbbox() or _is_photograph(grey, alpha)  # or a silhouette
    return alpha if cut_out and alpha.getextrema()[0] < 255 else grey


def _is_photograph(grey: Image.Image, alpha: Image.Image) -> bool:
    """Whether what is opaque has mostly middle tones, and many, and is rough: a mask's are few, those of its soft edges, or a gradient's."""
    opaque = alpha.point(lambda a: 255 * (a == 255))
    tones = grey.histogram(opaque)
    middle = tones[MIDDLE_TONES]
    if 2 * sum(middle) <= sum(tones) or sum(map(bool, middle)) <= FEW or grey.width < 3:
        return False
    grey, opaque = (ImageOps.contain(image, SMALL, Image.Resampling.BOX) if max(image.size) > max(SMALL) else image for image in (grey, opaque))
    levels, inside = np.asarray(grey, np.int16), np.asarray(opaque) == 255
    bends = np.abs(levels[:, :-2] - 2 * levels[:, 1:-1] + levels[:, 2:])[inside[:, :-2] & inside[:, 1:-1] & inside[:, 2:]]
    return bends.size > 0 and bends.mean() > ROUGH


def drawn_mask(layers: Sequence[Image.Image], edge: float = 0.0, photo: Image.Image | None = None) -> tuple[Image.Image, Image.Image]:
    """(mask, the rest) from drawn layers' opacities, each an image of mode L: white where any of them was painted on.

    edge: width of the soft edge, in % of the picture's width, from 0 to 50. photo: "RGB", whose own edges the mask is to
    follow (`followed`). The two add up to white everywhere. Raises `ImageError` where nothing is painted.
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
    if photo is not None:
        mask = followed(mask, photo)
    if edge:
        mask = mask.filter(ImageFilter.GaussianBlur(edge / 100 * mask.width / 2))
    return mask, ImageOps.invert(mask)


def followed(mask: Image.Image, photo: Image.Image) -> Image.Image:
    """A mask of black and white, roughly drawn, brought to the edges of what it lies on, by GrabCut (Rother et al. 2004).

    The middle of its strokes stays inside, and what lies farther than `REACH` from them outside. As it is where all of the picture
    is inside. Raises `ImageError` without OpenCV.
    """
    cv2 = opencv()
    if cv2 is None:
        raise ImageError(f"following the photograph's edges takes another library: {how_to_install('video')}")
    drawn = (np.array(mask.convert("L")) > 127).astype(np.uint8)
    if drawn.all() or not drawn.any():
        return mask
    side, places = max(mask.size), np.full(drawn.shape, cv2.GC_BGD, np.uint8)
    outside, inside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (1 - drawn, drawn))  # px to the other part
    places[outside < REACH * side] = cv2.GC_PR_BGD
    places[inside > 0] = cv2.GC_PR_FGD
    places[inside >= min(WELL * side, MIDDLE * inside[inside > 0].mean(), inside.max())] = cv2.GC_FGD
    seen = np.ascontiguousarray(np.asarray(photo.resize(mask.size, Image.Resampling.LANCZOS))[..., ::-1])
    with GRABBING:  # whose random numbers are the process's
        cv2.setRNGSeed(0)
        cv2.grabCut(seen, places, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    return Image.fromarray(np.isin(places, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8) * np.uint8(255))
