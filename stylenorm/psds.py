"""Photoshop's files where Pillow has them wrong: 16 bits, opacity, more channels than colours (Adobe Photoshop File Formats Specification, 2019)."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from stylenorm.bands import BAND

CHANNELS, VERSION = 1053, 1057  # resources
RAW, PACKBITS = 0, 1
PLAIN = {"L": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}  # colours of the modes that are read here
MAY_BE_CLEAR = 1, 3, 8  # kinds of colours: grey, RGB, duotone; of the others further channels are inks, or hardly anybody has them
LAYERS_OF_DEEP = (b"Lr16", b"Lr32")
HEAD = ">12xHIIHH"  # channels, height, width, bits, kind of colours


def as_shallow(stream: BinaryIO) -> BinaryIO:
    """A PSD that says 8 bits where it has 16, for Pillow, which opens no others and has the sizes and resources from it."""
    stream.seek(0)
    if stream.read(24)[22:] != b"\0\x10":
        return stream
    stream.seek(0)
    data = bytearray(stream.read())
    data[23] = 8
    return BytesIO(data)


def is_left_empty(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether a PSD has its layers alone, and white in the place of the picture that they make."""
    return any(number == VERSION and data[4:5] == b"\0" for number, _, data in image.resources) and _layers(stream) != 0


def read_psd(image: Image.Image, stream: BinaryIO) -> Image.Image | np.ndarray:
    """An undecoded PSD's picture: decoded, or samples uint16 (H,W,1|2|3|4). Raises ValueError for rare kinds and where it is cut short."""
    stream.seek(0)
    channels, height, width, bits, kind = struct.unpack(HEAD, stream.read(26))
    colours = PLAIN.get(image.mode)
    if colours is None and bits == 16:
        raise ValueError("PSD of a rare kind of colour")
    if colours is None:
        past = 2 * height * (channels - len(image.tile))  # Pillow takes sizes of rows in further channels for rows
        image.tile = [tile._replace(offset=tile.offset + past) if tile.codec_name == "packbits" else tile for tile in image.tile]
        image.load()
        return image
    clear = kind in MAY_BE_CLEAR and channels > colours and not has_selection(image, stream)
    samples = np.stack(_planes(stream, channels, (width, height), bits, colours + clear), -1)
    if clear:
        take_white_out(samples)
    if image.mode == "CMYK":
        return Image.frombytes("CMYK", (width, height), (255 - (samples >> bits - 8).astype(np.uint8)).tobytes())
    if bits == 16:
        return samples
    return Image.fromarray(samples[..., 0] if colours + clear == 1 else samples)


def has_selection(image: Image.Image, stream: BinaryIO) -> bool:
    """Whether the first channel after the colours is a selection that somebody saved, and no opacity.

    It is opacity where the number of layers is told as a negative one (layer info); where there are none, unless channels
    have numbers and none has 0.
    """
    if count := _layers(stream):
        return count > 0
    numbers = [n for number, _, data in image.resources if number == CHANNELS for (n,) in struct.iter_unpack(">I", data[: len(data) // 4 * 4])]
    return bool(numbers) and all(numbers)


def _layers(stream: BinaryIO) -> int:
    end = _section(stream, 2)
    if end - stream.tell() < 6:
        return 0
    (size,) = struct.unpack(">I", stream.read(4))
    if size:
        return struct.unpack(">h", stream.read(2))[0]
    (size,) = struct.unpack(">I", stream.read(4))
    stream.seek(size, 1)
    while stream.tell() + 14 <= end:  # of 16 bits they are here
        kind, size = struct.unpack(">4x4sI", stream.read(12))
        if kind in LAYERS_OF_DEEP:
            return struct.unpack(">h", stream.read(2))[0]
        stream.seek(size + -size % 4, 1)
    return 0


def _section(stream: BinaryIO, number: int) -> int:
    """Go to the contents of that section after the head, of palette, resources, layers; returns where it ends."""
    end = 26
    for _ in range(number + 1):
        stream.seek(end)
        (size,) = struct.unpack(">I", stream.read(4))
        end = stream.tell() + size
    return end


def _planes(stream: BinaryIO, channels: int, size: tuple[int, int], bits: int, count: int) -> list[np.ndarray]:
    """The first of the channels."""
    width, height = size
    kind = np.dtype(">u2" if bits == 16 else np.uint8)
    row = width * kind.itemsize
    stream.seek(_section(stream, 2))
    (packing,) = struct.unpack(">H", stream.read(2))
    if packing not in (RAW, PACKBITS):
        raise ValueError("PSD packed in a rare way")
    if packing == PACKBITS:
        sizes = np.frombuffer(stream.read(2 * channels * height), ">u2").reshape(channels, height).sum(1).tolist()
        packed = [(stream.read(n), "packbits", "L") for n in sizes[:count]]
    else:
        packed = [(stream.read(row * height), "raw", "L") for _ in range(count)]
    rows = [Image.frombytes("L", (row, height), *piece).tobytes() for piece in packed]
    return [np.frombuffer(data, kind).reshape(height, width).astype(kind.newbyteorder("=")) for data in rows]


def take_white_out(samples: np.ndarray) -> None:
    """Bring (H,W,2|4) that Photoshop has laid on white to its own colours, in place.

    Samples of other programs that have not are left: there colours are darker than white can have made them.
    """
    top = np.iinfo(samples.dtype).max
    bands = [samples[first : first + BAND] for first in range(0, len(samples), BAND)]
    if any((band[..., :-1] < top - top // 128 - band[..., -1:].astype(np.int32)).any() for band in bands):
        return
    for band in bands:
        alpha = band[..., -1:].astype(np.int64)
        colours = ((band[..., :-1] + alpha - top) * top + alpha // 2) // alpha.clip(1)
        band[..., :-1] = colours.clip(0, top)
