"""Sixteen bits a channel: uint16 (H,W,3), or (H,W,4) with alpha. Pillow holds them in grey only.

It reads them in colour all the same, half at a time, and writes none, so PNG is put together here; for
TIFF see `tiffs`.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from stylenorm.bands import BAND, Pixels
from stylenorm.modes import eight_bit, numbers, range_of, scaled
from stylenorm.tensors import fit

# Pillow unpacks the high byte of a sample. Told the other byte order, it unpacks the low one.
OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
PLANAR = 284, 2  # a TIFF of a plane each: Pillow unpacks those otherwise
WRITTEN = ("png", "tiff")


# ---- reading -----------------------------------------------------------------------------------


def raw_mode(image: Image.Image) -> str | None:
    """How the samples lie in a file of 16 bits in colour, or None for any other. Known until it is decoded."""
    if image.format not in ("PNG", "TIFF"):
        return None
    modes = {tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile}
    mode = modes.pop() if len(modes) == 1 else None
    kind, _, order = mode.partition(";") if isinstance(mode, str) else ("", "", "")
    known = kind in ("RGB", "RGBA", "RGBa", "RGBX") and order in OTHER_ORDER or mode == "LA;16B"
    return mode if known and not is_planar(image) else None


def ppm_white(image: Image.Image) -> int:
    """The greatest sample of an undecoded PPM of more than 8 bits in colour, else 0."""
    tile = image.tile[0] if image.format == "PPM" and image.mode == "RGB" else None
    return tile.args[1] if tile and tile.codec_name == "ppm" and tile.args[1] > 255 else 0


def read_ppm(stream: BinaryIO, start: int, size: tuple[int, int], white: int) -> np.ndarray:
    """Its samples, of which Pillow gives 8 bits. start: where they begin."""
    stream.seek(start)
    count = 3 * size[0] * size[1]
    return scaled(np.frombuffer(stream.read(2 * count), ">u2", count).reshape(size[1], size[0], 3), 0, white, 65535)


def is_planar(image: Image.Image) -> bool:
    return image.format == "TIFF" and image.tag_v2.get(PLANAR[0]) == PLANAR[1]


def read_deep(image: Image.Image, mode: str, again: Callable[[], Image.Image]) -> np.ndarray:
    """The samples of a decoded image. mode: its `raw_mode`. again: opens it once more, undecoded."""
    kind, _, order = mode.partition(";")
    if kind == "LA":
        return coloured(_unpacked(again(), "RGBA").view(">u2"))  # (H,W,4) bytes are (H,W,2) samples
    high = _unpacked(again(), f"RGBA;{order}") if kind == "RGBa" else np.asarray(image)
    other = again()
    deep = high.astype(np.uint16) << 8
    deep |= _unpacked(other, f"{kind.upper()};{OTHER_ORDER[order]}")
    if kind == "RGBa":
        divide_by_alpha(deep)
    key = other.info.get("transparency") if kind == "RGB" else None
    return deep[..., :3] if kind == "RGBX" else with_key(deep, key)


def _unpacked(image: Image.Image, mode: str) -> np.ndarray:
    image.tile = [
        tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:])) for tile in image.tile
    ]
    image.load()
    return np.asarray(image)


def divide_by_alpha(deep: np.ndarray) -> None:
    """Bring (H,W,4) whose colours are multiplied by alpha to what they are without, in place."""
    for top in range(0, len(deep), BAND):
        band = deep[top : top + BAND].astype(np.uint32)
        colours = (band[..., :3] * 65535 + band[..., 3:] // 2) // band[..., 3:].clip(1)
        deep[top : top + BAND, :, :3] = colours.clip(0, 65535)


def deep_grey(image: Image.Image) -> np.ndarray | None:
    """The samples of a decoded image of mode I or F, in any of their kinds, else None."""
    if not image.mode.startswith(("I", "F")):
        return None
    values = numbers(image)
    key = image.info.get("transparency")
    deep = coloured(scaled(values, *range_of(image, values), 65535))
    if not isinstance(key, int):
        return deep
    return np.dstack([deep, np.where(values == key, 0, 65535).astype(np.uint16)])


def with_key(deep: np.ndarray, key) -> np.ndarray:
    """key: the one colour that is transparent, or None."""
    if key is None:
        return deep
    return np.dstack([deep, np.where((deep == key).all(-1), 0, 65535).astype(np.uint16)])


def coloured(array: np.ndarray) -> np.ndarray:
    """uint16 (H,W) or (H,W,1|2|3|4) to (H,W,3|4), always a copy, in this machine's byte order."""
    array = array.reshape(*array.shape[:2], -1)
    channels = [0, 0, 0, 1][: 3 + (array.shape[2] == 2)] if array.shape[2] < 3 else slice(None)
    return array.astype(np.uint16)[..., channels]


# ---- pixels ------------------------------------------------------------------------------------


def rounded(deep: np.ndarray) -> Image.Image:
    """The "RGB" or "RGBA" image of these samples."""
    return Image.fromarray(eight_bit(deep, 0, 65535))


def each_plane(deep: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """What ``change`` makes of each plane, as an image of mode I;16."""
    planes = [np.asarray(change(Image.fromarray(np.ascontiguousarray(plane)))) for plane in np.moveaxis(deep, -1, 0)]
    return np.stack(planes, -1)


def resized(deep: np.ndarray, size: tuple[int, int], how: Image.Resampling = Image.Resampling.LANCZOS) -> np.ndarray:
    """To ``size`` = (width, height); the same array if it has it."""
    if deep.shape[1::-1] == size:
        return deep

    def change(plane: Image.Image) -> Image.Image:  # in floats: Pillow cuts 16 bits off between its two passes
        floats = np.asarray(plane.convert("F").resize(size, how))
        return Image.fromarray(scaled(floats, 0, 65535, 65535))

    return each_plane(deep, change)


def at_size(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """An image or samples at ``size`` = (width, height), by Lanczos; the same one if it has it."""
    if isinstance(picture, np.ndarray):
        return resized(picture, size)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def larger_of(photo: Image.Image, original: Image.Image) -> Image.Image:
    """``original``, of which ``photo`` is a copy, where that shows more, as people and faces that are looked for; else the copy."""
    return original if original.width > photo.width else photo


def to_paint(picture, photo: Image.Image, pixels: Pixels, side: int | None) -> tuple[Image.Image, Pixels]:
    """What is painted of a `Picture`, in 8 bits and as its ``pixels`` are: its ``photo``, with ``side`` a copy whose longer side is that.

    photo, pixels: at the size that is wanted, which may be less than both.
    """
    if side is None:
        return photo, pixels
    finer = side > max(photo.size)
    small = fit(picture.rgb if finer else photo, side)
    return small, small if picture.deep is None else at_size(picture.deep[..., :3] if finer else pixels, small.size)


def samples_of(image: Image.Image) -> np.ndarray | None:
    """The samples that an image's `.info` holds, if they still are those of its pixels, else None."""
    deep = image.info.get("deep")
    if not isinstance(deep, np.ndarray) or deep.dtype != np.uint16 or deep.shape != (*image.size[::-1], len(image.getbands())):
        return None
    for top in range(0, image.height, BAND):
        pixels = np.asarray(image.crop((0, top, image.width, min(top + BAND, image.height))))
        if not np.array_equal(pixels, eight_bit(deep[top : top + BAND], 0, 65535)):
            return None
    return deep


# ---- writing -----------------------------------------------------------------------------------


def deep_png(deep: np.ndarray, frame: bytes) -> bytes:
    """A PNG of 16 bits. frame: a PNG of 8, of which all is kept but the pixels: profile, EXIF, resolution."""
    height, width, channels = deep.shape
    parts, at = [frame[:8]], 8
    while at < len(frame):
        length, kind = struct.unpack_from(">I4s", frame, at)
        if kind == b"IHDR":
            colour = {3: 2, 4: 6}[channels]
            parts.append(chunk(kind, struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)))
        elif kind == b"IDAT":
            parts += [chunk(kind, data) for data in _packed_rows(deep)]
        else:
            parts.append(frame[at : at + 12 + length])
        at += 12 + length
    return b"".join(parts)


def _packed_rows(deep: np.ndarray):
    """Each row less the one above it (filter 2), deflated."""
    squeeze = zlib.compressobj(6)
    above = np.zeros((1, deep.shape[1] * deep.shape[2] * 2), np.uint8)
    for top in range(0, len(deep), BAND):
        rows = deep[top : top + BAND].astype(">u2").view(np.uint8).reshape(-1, above.shape[1])
        filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)
        filtered[:, 1:] = rows - np.concatenate([above, rows[:-1]])
        above = rows[-1:]
        yield squeeze.compress(filtered)
    yield squeeze.flush()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
