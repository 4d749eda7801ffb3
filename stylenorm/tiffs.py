"""What Pillow cannot do with TIFF: writing 16 bits in colour, reading planes and floats in colour. Most of it by tifffile."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from stylenorm.depth import coloured, divide_by_alpha, is_planar, rounded
from stylenorm.exif import HEADS, KEPT_TAGS, LONG, SHORT, VALUE_BYTES, append_main, pack_exif, parse_exif, read_dpi
from stylenorm.modes import scaled, white_of

GREY, RGB, CMYK, LAB = 1, 2, 5, 8  # kinds of photometric interpretation
PREMULTIPLIED, CLEAR = 1, 2  # kinds of an extra sample: opacity that the colours are multiplied by, and such that they are not
SUBFILE, WIDTH, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, PREDICTOR, SUB_DIRECTORIES, EXTRA = 254, 256, 258, 262, 274, 277, 317, 330, 338  # tags
LAYOUT = (WIDTH, 257, 259, 266, 278, PREDICTOR, 322, 323)  # tags of sizes and of how strips and tiles are packed
PIECES = {273, 279, 324, 325}  # tags of where strips and tiles lie, all of one plane before those of the next
MOST_SAMPLES = 6  # a pixel, as Pillow has it: thousands of them would make gigabytes of a small file
DEFLATE, LZW, LZMA = (8, 32946), 5, 34925  # kinds of compression
LESS_THE_ONE_BEFORE, PLANES_OF_BYTES = 2, 3  # predictors
SMALL = 1
SMALL_OR_MASK = SMALL | 4  # bits of a page's subfile type


def misread(image: Image.Image) -> bool:
    """Whether Pillow would take an undecoded TIFF of 16 bits, a plane each, for one of 8, or cannot unpack or place one of its planes."""
    if not is_planar(image):
        return False
    beyond = max(image.tag_v2.get(BITS, (8,))) > 8 or image.tag_v2.get(EXTRA, (CLEAR,)) != (CLEAR,)
    return image.mode == "LA" or beyond and image.tile[0].codec_name == "raw"


def is_preview(image: Image.Image) -> bool:
    """Whether an undecoded TIFF shows a smaller copy of what lies behind it, as cameras' raw files (DNG, NEF, ARW) do."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    return bool(tags.get(SUBFILE, 0) & SMALL and (SUB_DIRECTORIES in tags or tags.next))


def packed_planes(image: Image.Image) -> int:
    """How many planes `read_planes` is to read of an undecoded TIFF, compressed, of 16 bits and a plane a colour; else 0."""
    if not is_planar(image) or image.tile[0].codec_name != "libtiff":
        return 0
    return {"RGB;16N": 3, "RGBX;16N": 3, "RGBA;16N": 4, "RGBa;16N": 4}.get(image.tile[0].args[0], 0)


def read_planes(stream, count: int) -> np.ndarray | None:
    """The samples (H,W,count) of which Pillow gives 8 bits: each plane by Pillow as a grey picture, of which it gives 16.

    tifffile does not know all the compressions that libtiff does. None where the file's head is not the usual one.
    """
    stream.seek(0)
    tiff = stream.read()
    tree, order = parse_exif(tiff)
    if not tree or HEADS[tiff[:4]][1]:
        return None
    longer, planes = bytearray(tiff), []
    for number in range(count):
        append_main(longer, _plane(tree, number, order), order)
        with TiffImageFile(BytesIO(longer)) as image:
            planes.append(np.asarray(image).astype(np.uint16))
    deep = np.stack(planes, -1)
    if count == 4 and _shorts(tree, EXTRA, order)[0] == PREMULTIPLIED:
        divide_by_alpha(deep)
    return deep


def _plane(tree: dict, number: int, order: str) -> dict:
    """The tags of one plane as a grey picture. tree: those of all of them."""
    total = _shorts(tree, SAMPLES, order)[0]
    found = {tag: tree[tag] for tag in (*LAYOUT, ORIENTATION) if tag in tree}  # Pillow turns it, as it has turned the whole
    for tag in PIECES & tree.keys():
        kind, length, value = tree[tag]
        size = VALUE_BYTES[kind] * (length // total)
        found[tag] = kind, length // total, value[number * size : (number + 1) * size]
    for tag, value in ((BITS, 16), (SAMPLES, 1), (PHOTOMETRIC, GREY)):
        found[tag] = SHORT, 1, struct.pack(order + "H", value)
    return found


def _shorts(tree: dict, tag: int, order: str) -> tuple[int, ...]:
    _, count, value = tree[tag]
    return struct.unpack(f"{order}{count}H", value)


def read_tiff(stream, check: Callable[[tuple[int, int]], None]) -> tuple[Image.Image, np.ndarray | None]:
    """The first picture of a file that Pillow has no mode for: its image of 8 bits, and the samples of 16 but of CMYK and Lab.

    check: called with (width, height) before anything is decoded. Raises whatever tifffile does.
    """
    import tifffile

    stream.seek(0)
    with tifffile.TiffFile(stream) as tiff:
        page = tiff.pages[0]
        check((page.imagewidth, page.imagelength))
        check((page.tilewidth or 1, page.tilelength or 1))
        colours = {GREY: 1, RGB: 3, CMYK: 4, LAB: 3}.get(page.photometric)
        if colours is None or page.samplesperpixel * page.imagedepth > MOST_SAMPLES:
            raise ValueError("TIFF of a rare kind of colour")
        _check_pieces(page)
        whole_bytes = page.dtype is not None and page.bitspersample == 8 * page.dtype.itemsize
        if page.compression == LZW and page.planarconfig == 1 and whole_bytes and not (page.is_tiled or tiff.is_bigtiff):
            samples = _by_libtiff(stream, page)
        else:
            samples = _by_tifffile(page)
        profile = page.tags.valueof(34675)
        extra = page.extrasamples[:1]
        clear = extra in ((PREMULTIPLIED,), (CLEAR,))
    if page.planarconfig == 2 and samples.ndim == 3:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(*samples.shape[:2], -1)[..., : colours + clear]
    if page.photometric in (CMYK, LAB):
        image, deep = _of_press(samples[..., :colours], page.photometric == LAB), None
    else:
        image, deep = _with_deep(samples, colours, extra == (PREMULTIPLIED,))
    if colours == 1:
        image = image.convert("LA" if clear else "L")  # for which there are other profiles
    image.format = "TIFF"
    stream.seek(0)
    tree, order = parse_exif(stream.read())
    exif = pack_exif({tag: tree[tag] for tag in KEPT_TAGS & tree.keys()}, order)  # Pillow's Exif class reads no BigTIFF
    image.info = {"exif": exif} | ({"icc_profile": profile} if profile else {})
    return image, deep


def _of_press(samples: np.ndarray, lab: bool) -> Image.Image:
    """"CMYK" or "LAB" of (H,W,4|3) of 8 or 16 bits."""
    if samples.dtype.kind not in "ui" or samples.itemsize > 2:
        raise ValueError("TIFF of a rare kind of colour")
    high = (samples >> 8 * (samples.itemsize - 1)).astype(np.uint8)
    return Image.frombytes("LAB" if lab else "CMYK", samples.shape[1::-1], high.tobytes())


def _with_deep(samples: np.ndarray, colours: int, multiplied: bool) -> tuple[Image.Image, np.ndarray]:
    if samples.dtype != np.uint16:
        alpha = [_opacity(samples[..., colours:])] if samples.shape[2] > colours else []
        samples = np.dstack([_sixteen(samples[..., :colours]), *alpha])
    deep = coloured(samples)
    if multiplied:
        divide_by_alpha(deep)
    return rounded(deep), deep


def _by_tifffile(page) -> np.ndarray:
    in_planes = page.predictor == PLANES_OF_BYTES and not page.is_tiled
    page.predictor = 1 if in_planes else page.predictor
    samples = page.asarray()
    if in_planes:
        return _put_together(samples, page.samplesperpixel if page.planarconfig == 1 else 1, page.parent.byteorder)
    return samples


def _by_libtiff(stream, page) -> np.ndarray:
    """The samples (H,W,C) of a page whose packing tifffile leaves to another package: Pillow unpacks it as grey bytes."""
    stream.seek(0)
    tiff = stream.read()
    tree, order = parse_exif(tiff)
    kind = page.dtype.newbyteorder(order)
    shape = page.imagelength, page.imagewidth, page.samplesperpixel
    found = {tag: tree[tag] for tag in (*LAYOUT, *PIECES) if tag in tree and tag != PREDICTOR}
    found[WIDTH] = LONG, 1, struct.pack(order + "I", shape[1] * shape[2] * kind.itemsize)
    for tag, value in ((BITS, 8), (SAMPLES, 1), (PHOTOMETRIC, GREY)):
        found[tag] = SHORT, 1, struct.pack(order + "H", value)
    longer = bytearray(tiff)
    append_main(longer, found, order)
    with TiffImageFile(BytesIO(longer)) as image:
        samples = np.frombuffer(image.tobytes(), kind).reshape(shape).astype(page.dtype)
    if page.predictor == PLANES_OF_BYTES:
        return _put_together(samples, shape[2], order)
    if page.predictor == LESS_THE_ONE_BEFORE:
        return samples.view(f"u{kind.itemsize}").cumsum(1, dtype=f"u{kind.itemsize}").view(page.dtype)
    return samples


def _put_together(floats: np.ndarray, step: int, order: str) -> np.ndarray:
    """Floats of which each row has all first bytes, then all second ones..., each less the one ``step`` before (Adobe, TIFF Technical Note 3).

    tifffile leaves that to another package. order: of bytes in the file.
    """
    size, row = floats.itemsize, step * floats.shape[-1 if step == 1 else -2]
    stored = floats.astype(floats.dtype.newbyteorder(order)).view(np.uint8).reshape(-1, size * row // step, step)
    planes = stored.cumsum(1, dtype=np.uint8).reshape(-1, size, row)
    return np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}").reshape(floats.shape).astype(floats.dtype)


def _check_pieces(page) -> None:
    """Raises ValueError where a strip or a tile of tifffile's page holds more than belongs there.

    It is unpacked whole before anybody looks at its size, so that some megabytes could become gigabytes.
    """
    if page.compression in DEFLATE:
        unpacker = zlib.decompressobj
    elif page.compression == LZMA:
        from lzma import LZMADecompressor as unpacker  # not every Python was built with it
    else:
        return
    most = 2 * math.prod(page.chunks) * page.dtype.itemsize  # some programs fill up
    for place, size in zip(page.dataoffsets[: math.prod(page.chunked)], page.databytecounts):
        page.parent.filehandle.seek(place)
        if len(unpacker().decompress(page.parent.filehandle.read(size), most + 1)) > most:
            raise ValueError("a strip or a tile holds too much")


def page_count(source: Path | bytes) -> int:
    """Pages of a TIFF file, without thumbnails and masks; 1 for all else, a pipe included, whose bytes come once.

    By hand, because tifffile goes round for ever where the last page names the first one as the next.
    """
    try:
        if isinstance(source, Path) and not source.is_file():
            return 1
        with open(source, "rb") if isinstance(source, Path) else BytesIO(source) as file:
            return max(1, sum(not kind & SMALL_OR_MASK for kind in _page_kinds(file)))
    except (OSError, OverflowError, struct.error):  # cut short or mere numbers; reading it tells
        return 1


def _page_kinds(file: BinaryIO) -> Iterator[int]:
    """The subfile type (tag 254) of each page, 0 where it has none; nothing of a file that is no TIFF."""
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    big = order is not None and head[2:4] == struct.pack(order + "H", 43)
    if order is None or not (big or head[2:4] == struct.pack(order + "H", 42)):
        return
    count, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")

    def number(kind: str) -> int:
        return struct.unpack(order + kind, file.read(struct.calcsize(kind)))[0]

    file.seek(8 if big else 4)
    seen = set()
    while (at := number(offset)) and at not in seen:
        seen.add(at)
        file.seek(at)
        tags = file.read(min(number(count), 65535) * entry)
        found = [tags[i : i + entry] for i in range(0, len(tags), entry) if tags[i : i + 2] == struct.pack(order + "H", 254)]
        yield max(found[0][-8:] if big else found[0][-4:]) if found else 0  # a small number: one byte of these is not 0


def _sixteen(samples: np.ndarray) -> np.ndarray:
    mode = {"f": "F", "u": {1: "L", 2: "I;16"}.get(samples.dtype.itemsize, "I")}.get(samples.dtype.kind, "I")
    return scaled(samples, *((0, 255) if mode == "L" else white_of(samples, mode)), 65535)


def _opacity(samples: np.ndarray) -> np.ndarray:
    """The same of opacity, of which whole numbers are not stretched between their own extremes: all of it may be opaque."""
    if samples.dtype.kind == "f":
        return _sixteen(samples)
    known = (255, 65535) if samples.itemsize > 2 else ()
    return scaled(samples, 0, next((top for top in known if samples.max() <= top), np.iinfo(samples.dtype).max), 65535)


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
