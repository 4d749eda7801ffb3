"""What Pillow cannot do with TIFF, by tifffile: writing 16 bits in colour, reading planes and floats in colour."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from stylenorm.depth import coloured, is_planar, rounded
from stylenorm.exif import read_dpi
from stylenorm.modes import scaled, white_of

GREY, RGB, CLEAR = 1, 2, 2  # two kinds of photometric interpretation, and of an extra sample


def misread(image: Image.Image) -> bool:
    """Whether Pillow would take an undecoded TIFF of 16 bits, a plane each, for one of 8."""
    return is_planar(image) and image.tile[0].codec_name == "raw" and max(image.tag_v2.get(258, (8,))) > 8


def read_tiff(stream, check: Callable[[tuple[int, int]], None]) -> tuple[Image.Image, np.ndarray]:
    """The first picture of a file that Pillow has no mode for: its image of 8 bits, and the samples of 16.

    check: called with (width, height) before anything is decoded. Raises whatever tifffile does.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages[0]
        check((page.imagewidth, page.imagelength))
        colours = {GREY: 1, RGB: 3}.get(page.photometric)
        if colours is None:
            raise ValueError("TIFF of a rare kind of colour")
        samples = page.asarray()
        profile = page.tags.valueof(34675)
        clear = CLEAR in page.extrasamples[:1]
    if page.planarconfig == 2 and samples.ndim == 3:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(*samples.shape[:2], -1)[..., : colours + clear]
    if samples.dtype != np.uint16:
        samples = np.dstack([_sixteen(samples[..., :colours]), *([_sixteen(samples[..., colours:])] if clear else [])])
    deep = coloured(samples)
    image = rounded(deep)
    image.format = "TIFF"
    stream.seek(0)
    image.info = {"exif": b"Exif\0\0" + stream.read()} | ({"icc_profile": profile} if profile else {})
    return image, deep


def _sixteen(samples: np.ndarray) -> np.ndarray:
    mode = {"f": "F", "u": {1: "L", 2: "I;16"}.get(samples.dtype.itemsize, "I")}.get(samples.dtype.kind, "I")
    return scaled(samples, *((0, 255) if mode == "L" else white_of(samples, mode)), 65535)


def deep_tiff(deep: np.ndarray, icc: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    import tifffile

    resolution = {"resolution": dpi, "resolutionunit": "INCH"} if (dpi := read_dpi(dpi, Image.Exif())) else {}
    tifffile.imwrite(
        buffer := BytesIO(),
        deep,
        photometric="rgb",
        extrasamples=["unassalpha"] if deep.shape[2] == 4 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=64,
        iccprofile=icc,
        metadata=None,
        software=False,
        **resolution,
    )
    return buffer.getvalue()
