"""Images of any mode and arrays of any type taken apart: base and alpha, in 8 bits.

What holds more than 8 bits goes a second way, see `depth`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from stylenorm.errors import ImageError


ROWS = 256  # at once: doubles of a whole picture are several times its size
NATIVE = {"F;32BF": "F;32NF", "I;16BS": "I;16NS", "I;32BS": "I;32NS"}


def correct_order(image: Image.Image) -> None:
    """Have a compressed TIFF of one channel unpacked in this machine's byte order, in which libtiff hands it over.

    Pillow would unpack signed numbers and floats in the file's own order.
    """
    if image.format == "TIFF":
        image.tile = [
            tile._replace(args=(NATIVE.get(tile.args[0], tile.args[0]), *tile.args[1:])) if tile.codec_name == "libtiff" else tile
            for tile in image.tile
        ]


def correct_key(image: Image.Image) -> None:
    """Put a PNG's transparent colour into the units that the decoded pixels will have.

    The file gives it in its own bit depth and Pillow leaves it so, while it stretches 1, 2 and
    4 bits to 8 and cuts 16-bit RGB down to 8.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None or not image.tile:
        return
    depth = image.tile[0][3]
    if depth in ("1", "L;2", "L;4"):
        white = {"1": 1, "L;2": 3, "L;4": 15}[depth]
        image.info["transparency"] = min(key, white) * 255 // white
    elif depth == "RGB;16B":
        image.info["transparency"] = tuple(v >> 8 for v in key)


def split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(base, alpha or None) of an image of any mode: base is "L", "RGB", "CMYK" or "LAB"."""
    if image.mode.startswith(("I", "F")):
        return split_deep(image)
    if image.mode in ("LAB", "CMYK"):
        return image, None
    grey = image.mode in ("1", "L", "LA", "La")
    if not image.has_transparency_data:
        return image.convert("L" if grey else "RGB"), None
    image = image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB"), image.getchannel("A")


def split_deep(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The same for one channel of 16 or 32 bits."""
    values = numbers(image)
    base = Image.fromarray(eight_bit(values, *range_of(image, values)))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return base, None
    return base, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))


def numbers(image: Image.Image) -> np.ndarray:
    """The values of one channel of 16 or 32 bits; those of a TIFF without a sign Pillow takes for signed ones."""
    values = np.asarray(image)
    unsigned = image.format == "TIFF" and image.mode == "I" and image.tag_v2.get(339, (1,))[0] == 1
    return values.view(np.uint32) if unsigned else values


def range_of(image: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """`white_of` the image's values; a TIFF may count the other way, which Pillow sees to in 8 bits alone, or have 12 bits."""
    black, white = white_of(values, image.mode)
    if image.format != "TIFF":
        return black, white
    if image.tag_v2.get(258) == (12,):  # Pillow has no mode for that, and leaves the numbers as they are in one of 16
        white = 4095
    return (white, black) if image.tag_v2.get(262) == 0 else (black, white)


def white_of(values: np.ndarray, mode: str) -> tuple[float, float]:
    """(black, white): the values that become 0 and 255.

    "I;16" has a range, 0..65535. The 32-bit modes have none, so it is told by the values: floats
    around [0, 1], highlights apart, have white at 1; else it is 255 or 65535, if that holds all of them; else they
    are stretched between their own extremes.
    """
    if mode.startswith("I;16"):
        return 0, 65535
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if mode == "F" and -0.1 <= low and (high <= 2 or _has_highlights(finite)):  # sharpening overshoots a little
        return 0, 1
    return next(((0, top) for top in (255, 65535) if 0 <= low and high <= top), (low, high))


def _has_highlights(values: np.ndarray) -> bool:
    """Whether floats are those of a picture in high dynamic range, of which most is darker than its white, at 1.

    Levels up to 255 may be as dark, but are whole numbers then.
    """
    bright, lit = (np.count_nonzero(values > least) for least in (1, 0))
    return 2 * bright <= lit and not np.array_equal(values, np.rint(values))


def eight_bit(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Any numbers -> uint8, rounded to nearest; NaN becomes black."""
    return scaled(values, black, white, 255)


def scaled(values: np.ndarray, black: float, white: float, top: int) -> np.ndarray:
    """The same to 0..top: uint8 if that is 255, else uint16."""
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        return scaled(np.arange(65536), black, white, top)[values]  # an eighth of the memory
    levels = np.empty(values.shape, np.uint8 if top == 255 else np.uint16)
    for first in range(0, len(values), ROWS):
        unit = (values[first : first + ROWS].astype(np.float64) - black) / (white - black or 1e-12)
        levels[first : first + ROWS] = np.rint(np.nan_to_num(unit, posinf=1).clip(0, 1) * top)
    return levels


def from_array(array: np.ndarray, name: str) -> Image.Image:
    """(H,W) or (H,W,1|2|3|4) -> an "L", "LA", "RGB" or "RGBA" image."""
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (2, 3, 4)):
        raise ImageError(f"{name} has shape {array.shape}; give (H,W), (H,W,3) or (H,W,4)")
    if 0 in shape:
        raise ImageError(f"{name} has shape {array.shape} and no pixels; give at least 1 x 1")
    if array.dtype != np.uint8:
        array = eight_bit(array, 0, _array_white(array, name))
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)))


def _array_white(array: np.ndarray, name: str) -> int:
    if array.dtype == np.uint16:
        return 65535
    if array.dtype != bool and array.dtype.kind != "f":
        raise ImageError(f"{name} is of type {array.dtype}; use uint8, uint16 or floats in [0, 1]")
    if not (array.min() >= 0 and array.max() <= 1):  # written so that NaN is caught as well
        raise ImageError(f"{name} has values outside [0, 1]; scale them, or use uint8")
    return 1


# ---- transparency ------------------------------------------------------------------------------

# Below this alpha a stored colour counts for less: at alpha 1 of 255 it is mostly rounding.
TRUSTED_ALPHA = 16


def fill_hidden(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Replace colours that nobody can see by those of the visible pixels around them.

    A file may hold anything under its transparent pixels, and the network would take it into its
    statistics and smear it over the edge. One flat colour would be safe but has an outline of
    its own, to be painted as a halo. So the visible colours are spread outward: averaged down to
    1 x 1, weighted by alpha, then back up, each level showing where the finer one has nothing.
    Pixels of alpha >= TRUSTED_ALPHA keep their colour; where all of these have one, all get it. A wholly transparent picture becomes grey.
    """
    box, visible = visible_in(alpha)
    alpha = alpha.point(lambda a: min(255, a * 255 // TRUSTED_ALPHA))
    if alpha.getextrema()[0] == 255:
        return rgb
    if box:
        first = int(np.asarray(visible.crop((0, box[1], rgb.width, box[1] + 1))).argmax())
        plain = Image.new("RGB", rgb.size, rgb.getpixel((first, box[1])))
        if Image.composite(rgb, plain, visible).getextrema() == plain.getextrema():  # spread out, it would be off by rounding, which is a pattern
            return plain
    level = rgb.copy()
    level.putalpha(alpha)
    levels = [level]
    while max(levels[-1].size) > 1:
        levels.append(_halve(levels[-1]))
    filled = Image.new("RGB", (1, 1), (128, 128, 128))
    for level in reversed(levels):
        filled = filled.resize(level.size, Image.Resampling.BILINEAR)
        filled.paste(level.convert("RGB"), mask=level.getchannel("A"))
    return filled


def visible_in(alpha: Image.Image) -> tuple[tuple[int, int, int, int] | None, Image.Image]:
    """The box around what is to be seen, None where nothing is, and a mask of it."""
    mask = alpha.point(lambda a: 255 if a >= TRUSTED_ALPHA else 0)
    return mask.getbbox(), mask


def _halve(rgba: Image.Image) -> Image.Image:
    """Half the size, colours weighted by alpha (Pillow does). Alpha is raised, not to fade out."""
    width, height = rgba.size
    rgba = rgba.resize(((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX)
    rgba.putalpha(rgba.getchannel("A").point(lambda a: min(255, a * 8)))
    return rgba
