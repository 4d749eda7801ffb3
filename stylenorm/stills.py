"""Stills of more than 8 bits of which Pillow gives 8, or wrong ones: AVIF and JPEG 2000, by PyAV where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO

import numpy as np
from PIL import Image

from stylenorm.modes import scaled

COLOURED = ("rgb48le", "rgba64le")  # FFmpeg's names
NEAR = 2  # levels of 255, that two decoders differ by in the mean; wrong colours or another picture are further off


def read_jpeg_2000(stream, size: tuple[int, int], bits: Sequence[int]) -> np.ndarray | None:
    """Its samples uint16 (H,W,3|4), or None without PyAV and for what FFmpeg does not take for RGB. bits: of each component."""
    av = _av()
    if av is None or len(set(bits)) > 1 or bits[0] > 16:
        return None
    stream.seek(0)
    try:
        frame = av.CodecContext.create("jpeg2000", "r").decode(av.Packet(stream.read()))[0]
    except (av.FFmpegError, IndexError):
        return None
    if frame.format.name not in COLOURED or (frame.width, frame.height) != size:
        return None
    return scaled(frame.to_ndarray(), 0, 65536 - (65536 >> bits[0]), 65535)  # shifted to 16 bits


def read_avif(image: Image.Image | None, stream) -> tuple[np.ndarray | None, tuple[int, int] | None]:
    """The samples uint16 (H,W,3) of an opaque AVIF, and what the coded picture tells of its colours (ITU-T H.273's numbers).

    image: as Pillow has decoded it, or None if the samples are not wanted. None for samples that are not near to that, as where it
        lies in tiles; twice None without PyAV.
    """
    av = _av()
    if av is None:
        return None, None
    stream.seek(0)
    try:
        with av.open(BytesIO(stream.read()), format="mov") as file:
            frame = next(file.decode(video=0))
            deep = frame.reformat(format=COLOURED[0]).to_ndarray() if image else None
    except (av.FFmpegError, ValueError, StopIteration, IndexError):
        return None, None
    numbers = int(getattr(frame, "color_primaries", 2)), int(getattr(frame, "color_trc", 2))
    same = image and image.mode == "RGB" and deep.shape[1::-1] == image.size and np.abs(deep[::8] / 257 - np.asarray(image)[::8]).mean() < NEAR
    return deep if same else None, numbers


def _av():
    try:
        return import_module("av")
    except ImportError:
        return None
