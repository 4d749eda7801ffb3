"""Sixteen bits from file to file. The files are made, and what is written is read, by pypng and tifffile."""

from __future__ import annotations

import base64
import importlib.util
import io
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from test_images import ADOBE_RGB, DISPLAY_P3, GREY_LINEAR, SRGB, WIDE, fixed, icc, photo_exif, rgb_profile

from stylenorm import Stylizer, decode, depth, modes, profiles, stills
from stylenorm.backends import OpenVINOBackend, TorchBackend
from stylenorm.cli import main
from stylenorm.errors import ImageError
from stylenorm.exif import append_main, parse_exif
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.images import read_picture, rewrap, write_picture
from stylenorm.style import Style

png = pytest.importorskip("png")
tifffile = pytest.importorskip("tifffile")
torch.set_num_threads(1)
TURNED = {3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2)}


def samples(channels=3, height=40, width=56, seed=0) -> np.ndarray:
    """Smooth, with more than 256 levels in every channel; alpha is never near to nothing."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(2 * x + 3 * k * y + seed + k) for k in range(channels)]
    deep = ((0.5 + 0.45 * np.stack(waves, -1)) * 65535).astype(np.uint16)
    if channels in (2, 4):
        deep[..., -1] = deep[..., -1] // 2 + 20_000
    return deep


def as_png(deep: np.ndarray, **options) -> bytes:
    height, width, channels = deep.shape
    kind = {"greyscale": channels < 3, "alpha": channels in (2, 4)}
    png.Writer(width, height, bitdepth=16, **kind, **options).write(file := io.BytesIO(), deep.reshape(height, -1).tolist())
    return file.getvalue()


def as_tiff(deep: np.ndarray, **options) -> bytes:
    separate = options.get("planarconfig") == "separate"
    options = {"photometric": "minisblack" if deep.shape[2] == 1 else "rgb"} | options
    if deep.shape[2] == 4:
        options = {"extrasamples": ["unassalpha"]} | options
    array = np.ascontiguousarray(deep.transpose(2, 0, 1)) if separate else deep if deep.shape[2] > 1 else deep[..., 0]
    tifffile.imwrite(file := io.BytesIO(), array, metadata=None, **options)
    return file.getvalue()


def from_png(data: bytes) -> np.ndarray:
    width, height, rows, info = png.Reader(bytes=data).read()
    assert info["bitdepth"] == 16
    return np.array([list(row) for row in rows], np.uint16).reshape(height, width, -1)


def from_tiff(data: bytes) -> np.ndarray:
    deep = tifffile.imread(io.BytesIO(data))
    assert deep.dtype == np.uint16
    return deep


READ = {"png": from_png, "tiff": from_tiff}
MADE = {"png": as_png, "tiff": as_tiff}


def written(image: Image.Image, format: str) -> bytes:
    write_picture(image, file := io.BytesIO(), format=format)
    return file.getvalue()


def levels(deep: np.ndarray) -> int:
    return min(len(np.unique(deep[..., i])) for i in range(3))


# ---- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("interlace", [False, True])
def test_a_png_is_read_sample_by_sample(channels, interlace):
    deep = samples(channels)
    picture = read_picture(as_png(deep, interlace=interlace))
    assert picture.deep.dtype == np.uint16, "and not in the byte order of the file"
    assert np.array_equal(picture.deep[..., :3], deep[..., :3] if channels > 2 else np.repeat(deep[..., :1], 3, 2))
    assert (picture.alpha is None) == (channels in (1, 3))
    if channels in (2, 4):
        assert np.array_equal(picture.deep[..., 3], deep[..., -1])
        assert np.array_equal(np.asarray(picture.alpha), np.rint(deep[..., -1] / 257))
    assert np.array_equal(np.asarray(picture.rgb), np.rint(picture.deep[..., :3] / 257))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "packbits", "rowsperstrip": 7},
        {"tile": (16, 16), "compression": "zlib"},
        {"compression": "lzw"},
    ],
    ids=lambda layout: "-".join(map(str, layout.values())),
)
def test_a_tiff_is_read_sample_by_sample(channels, order, layout):
    if layout.get("compression") in ("lzw", "packbits"):
        pytest.importorskip("imagecodecs")  # tifffile writes these with that only
    deep = samples(channels)
    picture = read_picture(as_tiff(deep, byteorder=order, **layout))
    assert np.array_equal(picture.deep, deep if channels > 1 else np.repeat(deep, 3, 2))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", "<>")
def test_planes_are_read_and_not_taken_for_eight_bits(channels, order):
    deep = samples(channels)
    picture = read_picture(as_tiff(deep, byteorder=order, planarconfig="separate"))
    assert np.array_equal(picture.deep, deep)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}, {"rowsperstrip": 5, "predictor": True}])
def test_compressed_planes_have_all_their_bits(channels, order, layout):
    deep = samples(channels)
    data = as_tiff(deep, byteorder=order, planarconfig="separate", compression="zlib", **layout)
    picture = read_picture(data)
    assert np.array_equal(picture.deep, deep) and picture.format == "tiff"
    whole = np.rint(picture.deep / 257)
    assert np.array_equal(np.asarray(picture.rgb), whole[..., :3]) or channels == 4  # hidden colours are filled


@pytest.mark.parametrize("packing", [None, "zlib"])
def test_grey_and_alpha_of_eight_bits_may_lie_in_planes(packing):
    grey = (samples(2) >> 8).astype(np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "separate", "compression": packing, "extrasamples": ["unassalpha"]}
    picture = read_picture(as_tiff(grey, **options))
    assert np.array_equal(np.dstack([picture.rgb, picture.alpha]), grey[..., [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_grey_tiff_with_alpha_has_its_grey_profile_whoever_reads_it(kind):
    white = 1 if kind == "f4" else np.iinfo(kind).max
    grey = np.full((8, 8, 2), white, kind)
    grey[2:, :, 0] = 64 / 255 * white
    for planar in ("contig", "separate"):
        picture = read_picture(as_tiff(grey, photometric="minisblack", extrasamples=["unassalpha"], planarconfig=planar, iccprofile=GREY_LINEAR))
        assert np.abs(np.asarray(picture.rgb)[2:].astype(int) - 137).max() <= 1 and picture.alpha.getextrema() == (255, 255)
        assert picture.deep is None or np.abs(picture.deep[2:, :, :3] / 257 - 137).max() < 1


@pytest.mark.parametrize("kind, opaque", [("u4", 2**32 - 1), ("u4", 65535), ("u4", 255), ("i4", 2**31 - 1), ("i2", 32767), ("f4", 1), ("f4", 255)])
def test_opacity_of_any_type_has_its_range_and_not_that_of_its_own_extremes(kind, opaque):
    colours = samples() / 65535 * opaque
    for share in (1, 0.25):  # of a picture that is opaque all over, and of one that is so half
        alpha = np.full((40, 56, 1), opaque, float)
        alpha[20:] = round(share * opaque) if opaque > 1 else share
        picture = read_picture(as_tiff(np.concatenate([colours, alpha], -1).astype(kind)))
        assert picture.alpha.getextrema() == (round(255 * share), 255)


def test_a_plane_that_is_neither_colour_nor_transparency_is_left_out():
    deep = samples(4)
    data = as_tiff(deep, planarconfig="separate", compression="zlib", extrasamples=["unspecified"])
    assert np.array_equal(read_picture(data).deep, deep[..., :3])


def test_where_white_is_0_no_negative_is_read():
    deep = samples(1)
    picture = read_picture(as_tiff(deep, photometric="miniswhite"))
    np.testing.assert_array_equal(picture.deep, np.repeat(65535 - deep, 3, 2))
    assert np.abs(np.asarray(picture.rgb).astype(int) - np.rint((65535 - deep) / 257)).max() == 0
    floats = as_tiff(deep / np.float32(65535), photometric="miniswhite")
    assert np.abs(read_picture(floats).deep.astype(int) - (65535 - deep)).max() <= 1


def test_premultiplied_colours_are_divided():
    deep = samples(4)
    drawn = deep.copy()
    drawn[..., :3] = (deep[..., :3].astype(int) * deep[..., 3:] + 32767) // 65535
    picture = read_picture(as_tiff(drawn, extrasamples=["assocalpha"]))
    assert np.abs(picture.deep.astype(int) - deep).max() <= 3


@pytest.mark.parametrize("kind", ["f4", "u2", "u1"])
@pytest.mark.parametrize("channels, layout", [(2, {}), (4, {}), (4, {"planarconfig": "separate"}), (4, {"planarconfig": "separate", "compression": "zlib"})])
def test_premultiplied_colours_are_divided_by_whoever_reads_them(kind, channels, layout):
    deep = samples(channels)
    alpha, white = deep[..., -1:] / 65535, 1 if kind == "f4" else np.iinfo(kind).max
    data = np.concatenate([deep[..., :-1] / 65535 * alpha, alpha], -1) * white
    data = data.astype(kind) if kind == "f4" else np.rint(data).astype(kind)
    tifffile.imwrite(
        file := io.BytesIO(),
        np.ascontiguousarray(data.transpose(2, 0, 1)) if layout else data,
        photometric="minisblack" if channels == 2 else "rgb",
        extrasamples=["assocalpha"],
        metadata=None,
        **({"planarconfig": "contig"} | layout),
    )
    picture = read_picture(file.getvalue())
    found = np.dstack([picture.rgb, picture.alpha]) / 255 if picture.deep is None else picture.deep / 65535
    wanted = deep[..., [0, 0, 0, 1] if channels == 2 else slice(None)] / 65535
    assert np.abs(found - wanted).max() < (0.02 if kind == "u1" else 2e-4)


def test_a_transparent_colour_of_sixteen_bits():
    deep = samples()
    picture = read_picture(as_png(deep, transparent=tuple(int(v) for v in deep[5, 6])))
    clear = (deep == deep[5, 6]).all(-1)
    assert np.array_equal(np.asarray(picture.alpha) == 0, clear) and clear.sum() < 9
    assert np.array_equal(picture.deep[~clear][:, :3], deep[~clear])


def test_arithmetic_in_sixteen_bits_is_exact():
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (300, 7, 4), dtype=np.uint16)
    deep[0, :, 3], deep[1] = 1, 65535
    times, alpha = deep[..., :3].astype(np.int64), deep[..., 3:].astype(np.int64).clip(1)
    divided = deep.copy()
    depth.divide_by_alpha(divided)
    assert np.array_equal(divided[..., :3], np.minimum((2 * times * 65535 + alpha) // (2 * alpha), 65535))  # rounded to nearest
    assert np.array_equal(divided[..., 3], deep[..., 3])
    smaller = depth.resized(deep, (5, 40))
    for k in range(4):
        floats = Image.fromarray(deep[..., k].astype(np.float32)).resize((5, 40), Image.Resampling.LANCZOS)
        assert np.array_equal(smaller[..., k], np.clip(np.rint(np.asarray(floats)), 0, 65535))
    assert depth.resized(deep, (7, 300)) is deep


def test_a_grey_of_sixteen_bits_that_is_transparent():
    grey = (np.arange(30).reshape(5, 6, 1) * 2000).astype(np.uint16)
    picture = read_picture(as_png(grey, transparent=2000 * 7))
    alpha = np.full((5, 6), 65535)
    alpha[1, 1] = 0
    assert np.array_equal(picture.deep[..., 3], alpha) and np.array_equal(picture.deep[alpha > 0][:, :3], grey.repeat(3, 2)[alpha > 0])


@pytest.mark.parametrize("orientation", TURNED)
def test_sixteen_bits_are_turned(orientation):
    deep = samples()
    for layout in ({}, {"planarconfig": "separate"}):
        data = as_tiff(deep, compression="zlib", extratags=[(274, 3, 1, orientation, True)], **layout)
        assert np.array_equal(read_picture(data).deep, TURNED[orientation](deep)), layout
    image = Image.open(io.BytesIO(as_png(samples(1))))
    image.info["exif"] = photo_exif(orientation)
    assert np.array_equal(read_picture(image).deep, np.repeat(TURNED[orientation](samples(1)), 3, 2))


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_floats_in_colour_which_pillow_cannot_read(kind, planar):
    deep = samples()
    picture = read_picture(as_tiff((deep / 65535).astype(kind), planarconfig=planar))
    assert np.abs(picture.deep.astype(int) - deep).max() <= (32 if kind == np.float16 else 1)


@pytest.mark.parametrize("kind, order", [("f4", "<"), ("f4", ">"), ("f2", "<")])
@pytest.mark.parametrize("planar", [False, True])
def test_floats_that_are_packed_in_planes_of_bytes(kind, order, planar):
    """As Photoshop and darktable deflate them: tifffile leaves those to another package."""
    deep = samples(4)
    floats = (deep / 65535).astype(kind)
    height, width, channels = deep.shape
    step = 1 if planar else channels
    rows = np.moveaxis(floats, -1, 0).reshape(-1, width) if planar else floats.reshape(height, -1)
    size = floats.itemsize
    planes = np.ascontiguousarray(rows.astype(f">{kind}")).view(np.uint8).reshape(*rows.shape, size).transpose(0, 2, 1).reshape(len(rows), -1, step)
    stored = np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).reshape(len(rows), -1).view(f"{order}{kind}")
    stored = stored.reshape(channels, height, width).transpose(1, 2, 0) if planar else stored.reshape(deep.shape)
    layout = {"planarconfig": "separate"} if planar else {}
    data = as_tiff(stored, byteorder=order, compression="zlib", rowsperstrip=16, extratags=[(65000, "H", 1, 3, True)], **layout)
    data = data.replace(*(struct.pack(order + "HHI", tag, 3, 1) for tag in (65000, 317)))  # the predictor, which tifffile writes itself or not at all
    assert np.abs(read_picture(data).deep - deep.astype(int)).max() <= (0 if kind == "f4" else 32)


@pytest.mark.parametrize("kind, channels, predictor", [("u2", 2, 1), ("u2", 2, 2), ("u2", 5, 2), ("f4", 3, 1), ("f4", 3, 2)])
def test_what_photoshop_packs_by_lzw_needs_no_other_package(kind, channels, predictor):
    """Grey or colour of 16 bits with channels of its own, and floats. Pillow packs the bytes as a grey picture, whose tags are changed."""
    deep = samples(channels)
    deep[..., 3:4] |= 0x4000  # nothing is hidden
    values = deep.astype("<u2") if kind == "u2" else (deep / 65535).astype("<f4")
    whole = values.view(f"<u{values.itemsize}")
    stored = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1])) if predictor == 2 else whole
    image = Image.fromarray(np.ascontiguousarray(stored).view(np.uint8).reshape(40, -1))
    image.save(file := io.BytesIO(), "TIFF", compression="tiff_lzw")
    tree, data = parse_exif(file.getvalue())[0], bytearray(file.getvalue())
    bits, form = 8 * values.itemsize, 1 if kind == "u2" else 3
    tags = {256: (56,), 258: (bits,) * channels, 262: (1 if channels == 2 else 2,), 277: (channels,), 317: (predictor,), 339: (form,) * channels}
    tags |= {338: {2: (2,), 5: (2, 0)}[channels]} if channels != 3 else {}
    append_main(data, tree | {tag: (3, len(n), struct.pack(f"<{len(n)}H", *n)) for tag, n in tags.items()}, "<")
    found = read_picture(bytes(data))
    assert np.array_equal(found.deep, deep[..., [0, 0, 0, 1]] if channels == 2 else deep[..., :4])


@pytest.mark.parametrize("kind, channels, mode", [("separated", 5, "CMYK"), ("cielab", 3, "LAB")])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_for_the_press_that_pillow_has_no_mode_for(kind, channels, mode, bits):
    """CMYK with one more channel, and Lab of 16 bits, as Photoshop saves them."""
    planes = samples(channels).astype(np.uint16) >> 16 - bits
    data = as_tiff(planes.astype(f"u{bits // 8}"), photometric=kind, **({"extrasamples": ["unspecified"]} if channels == 5 else {}))
    picture, high = read_picture(data), (planes >> bits - 8).astype(np.uint8)[..., : len(mode)]
    wanted = Image.frombytes(mode, (56, 40), np.ascontiguousarray(high).tobytes()).convert("RGB")
    assert np.abs(np.asarray(picture.rgb, int) - np.asarray(wanted)).max() <= 1 and picture.alpha is None


def test_floats_are_scaled_in_little_memory():
    floats = np.linspace(-1, 3, 3000 * 400, dtype=np.float32).reshape(3000, 400)
    tracemalloc.start()
    found = modes.scaled(floats, 0, 1, 65535)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * floats.nbytes
    assert np.array_equal(found, np.rint(floats.astype(float).clip(0, 1) * 65535))


@pytest.mark.parametrize("kind", ["f4", "i2", "i4", "u4"])
def test_a_grey_tiff_is_the_same_in_either_byte_order_and_however_it_is_packed(kind):
    ramp = np.linspace(0, 1, 40 * 30).reshape(40, 30)
    low, high = (0, 1) if kind == "f4" else (np.iinfo(kind).min, np.iinfo(kind).max)
    grey = (low + ramp * (high - low)).astype(kind)
    for order in "<>":
        for packing in (None, "zlib"):
            picture = read_picture(as_tiff(grey[..., None], byteorder=order, compression=packing))
            assert np.abs(picture.deep[..., 0] / 65535 - ramp).max() < 1e-4, (order, packing)


def test_a_grey_tiff_of_twelve_bits_is_not_dark():
    grey = np.linspace(0, 4095, 40 * 56).astype(int).reshape(40, 56)
    first, second = grey[:, ::2], grey[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1).reshape(40, 84, 1).astype(np.uint8)
    tiff = as_tiff(packed)  # of 8 bits, with what says so changed
    for said, true in (((256, 4, 1, 84), (256, 4, 1, 56)), ((258, 3, 1, 8), (258, 3, 1, 12))):
        said, true = (struct.pack("<HHII", *entry) for entry in (said, true))
        assert said in tiff
        tiff = tiff.replace(said, true)
    assert np.abs(read_picture(tiff).deep[..., 0] / 65535 - grey / 4095).max() < 1e-4


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_for_more_than_4_gb_is_read_in_any_depth(order):
    deep, big = samples(), {"byteorder": order, "bigtiff": True}
    assert np.array_equal(read_picture(as_tiff(deep, **big)).deep, deep)
    assert np.abs(read_picture(as_tiff((deep / 65535).astype(np.float32), **big)).deep.astype(int) - deep).max() <= 1
    eight = np.asarray(read_picture(as_tiff((deep >> 8).astype(np.uint8), **big)).rgb)
    assert np.array_equal(eight, deep >> 8)


def test_a_tiff_of_very_many_samples_a_pixel_is_refused_before_they_are_unpacked():
    """Pillow refuses one, and it went on to tifffile: 12 MB became 12 GB."""
    tifffile.imwrite(
        file := io.BytesIO(), np.zeros((40, 40, 1000), np.uint8), bigtiff=True, photometric="minisblack", planarconfig="contig", metadata=None
    )
    with pytest.raises(ImageError, match="a rare kind of colour"):
        read_picture(file.getvalue())


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_strip_that_unpacks_to_much_more_than_it_holds_is_refused(compression):
    floats = np.zeros((3000, 100, 3), np.float32)
    tiff = as_tiff(floats, compression=compression, rowsperstrip=3000)
    assert len(tiff) < 9_000 and not read_picture(tiff).deep.any()
    for tag in (257, 278):  # of the height and of the rows in a strip
        said = [struct.pack("<HHII", tag, kind, 1, 3000) for kind in (3, 4)]
        assert sum(map(tiff.count, said)) == 1
        for entry in said:
            tiff = tiff.replace(entry, entry[:8] + struct.pack("<I", 1))
    with pytest.raises(ImageError, match="holds too much"):
        read_picture(tiff)


def as_heic(deep: np.ndarray, **options) -> bytes:
    """Of 10 bits, and without loss."""
    plugin = pytest.importorskip("pillow_heif")
    height, width, channels = deep.shape
    image = plugin.from_bytes({3: "RGB;16", 4: "RGBA;16"}[channels], (width, height), deep.tobytes())
    image.save(file := io.BytesIO(), quality=-1, chroma=444, matrix_coefficients=0, **options)
    return file.getvalue()


@pytest.mark.parametrize("white", [65535, 4095])
def test_a_ppm_in_colour_is_read_sample_by_sample(white):
    deep = samples() // (65536 // (white + 1))
    data = b"P6 # as dcraw makes it\n56 40\n%d\n" % white + deep.astype(">u2").tobytes()
    assert np.array_equal(read_picture(data).deep, np.rint(deep / white * 65535))
    with pytest.raises(ImageError):
        read_picture(data[:-2])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_heic_of_ten_bits_has_all_of_them(channels):
    deep = samples(channels, 64, 96)
    picture = read_picture(as_heic(deep))
    assert np.array_equal(picture.deep, np.rint((deep >> 6) / 1023 * 65535))
    assert np.array_equal(picture.rgb, modes.eight_bit(picture.deep[..., :3], 0, 65535)) and picture.format == "heic"


def test_a_heic_of_ten_bits_lies_as_it_says_and_keeps_what_it_tells():
    deep = samples(3, 64, 96)
    picture = read_picture(as_heic(deep, exif=photo_exif(6)))
    assert np.array_equal(picture.deep, TURNED[6](np.rint((deep >> 6) / 1023 * 65535)))
    assert picture.size == (64, 96) and b"Maker\0" in picture.exif


# White, 4 x 4, of 16 bits, by OpenJPEG: which Pillow gives as black.
WHITE_IN_JPEG_2000 = (
    "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAABAAAAAQAAw8HAAAAAAAPY29scgEAAAAAABAAAACQanAyY/9P/1EALwAAAAAA"
    "BAAAAAQAAAAAAAAAAAAAAAQAAAAEAAAAAAAAAAAAAw8BAQ8BAQ8BAf9SAAwAAAABAQAEBAAB/1wABECA/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIu"
    "NS40/5AACgAAAAAAGAAB/5PP/DAQFABcr4CA/9k="
)

WHITE_OF_12_BITS = (
    "/0//UQAvAAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAADCwEBCwEBCwEB/1IADAAAAAEBAAQEAAH/XAAEQGD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZl"
    "cnNpb24gMi41LjD/kAAKAAAAAAAXAAH/k8/kEBQAXK+AgP/Z"
)


@pytest.mark.parametrize("start", [0, 85])  # a codestream begins there
def test_a_jpeg_2000_of_sixteen_bits_in_colour_is_read_or_said_what_it_takes(monkeypatch, start):
    data = base64.b64decode(WHITE_IN_JPEG_2000)[start:]
    monkeypatch.setattr(stills, "import_module", lambda name: raised(ImportError()))
    monkeypatch.setattr(decode, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"white Pillow takes for black; .*install.*, or save it as PNG"):
        read_picture(data)
    monkeypatch.undo()
    pytest.importorskip("av")
    picture = read_picture(data)
    assert picture.deep.shape == (4, 4, 3) and picture.deep.min() == 65535 and picture.rgb.getextrema() == ((255, 255),) * 3
    with pytest.raises(ImageError):
        read_picture(data[:-60])


def by_opencv(suffix: str, deep: np.ndarray, *options: int) -> bytes:
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("av")
    if not cv2.haveImageWriter(suffix):  # AVIF before 4.11
        pytest.skip(f"this OpenCV writes no {suffix}")
    return cv2.imencode(suffix, np.ascontiguousarray(deep[..., [2, 1, 0, 3][: deep.shape[2]]]), options)[1].tobytes()


@pytest.mark.parametrize("channels", [3, 4])
def test_a_jpeg_2000_is_read_sample_by_sample(channels):
    deep = samples(channels, 64, 96)
    assert np.array_equal(read_picture(by_opencv(".jp2", deep, 272, 1000)).deep, deep)  # IMWRITE_JPEG2000_COMPRESSION_X1000
    assert read_picture(base64.b64decode(WHITE_OF_12_BITS)).deep.min() == 65535


@pytest.mark.parametrize("bits", [10, 12])
def test_an_avif_of_more_than_eight_bits_has_all_of_them(bits, monkeypatch):
    deep = samples(3, 64, 96)
    data = by_opencv(".avif", deep >> 16 - bits, 512, 100, 513, bits, 514, 9)  # IMWRITE_AVIF_QUALITY, _DEPTH, _SPEED
    picture = read_picture(data)
    assert np.abs(picture.deep - deep.astype(int)).mean() < 0.15 * 257, "rounded to 8 bits it would be 0.25"
    monkeypatch.setattr(stills, "import_module", lambda name: raised(ImportError()))
    assert read_picture(data).deep is None and np.abs(np.asarray(read_picture(data).rgb, int) - np.asarray(picture.rgb)).max() <= 2


def raised(error: Exception):
    raise error


def test_arrays_of_sixteen_bits_are_kept_and_left_alone():
    deep = samples()
    before = deep.copy()
    picture = read_picture(deep)
    assert np.array_equal(picture.deep, deep) and picture.deep is not deep
    rewrap(picture, picture.deep)
    assert np.array_equal(deep, before) and np.array_equal(picture.deep, before)
    assert read_picture(samples(3).astype(np.uint8)).deep is None
    assert np.array_equal(read_picture(deep.astype(">u2")).deep, deep) and np.array_equal(read_picture(deep.astype("<u2")).deep, deep)


def test_what_is_hidden_is_filled_in_both_depths():
    deep = samples(4)
    deep[10:20, 10:20, 3] = 0
    deep[10:20, 10:20, :3] = (0, 65535, 0)
    picture = read_picture(as_png(deep))
    assert np.array_equal(np.asarray(picture.rgb), np.rint(picture.deep[..., :3] / 257))
    assert (picture.deep[10:20, 10:20, 1] < 65535).all() and np.array_equal(picture.deep[:10], deep[:10])


@pytest.mark.parametrize("make", [as_png, as_tiff])
def test_cut_short_a_deep_file_is_refused(make):
    noise = np.random.default_rng(0).integers(0, 65536, (60, 60, 3), dtype=np.uint16)
    data = make(noise)
    for share in (0.3, 0.7, 0.97):
        with pytest.raises(ValueError, match="is damaged, cut short or"):
            read_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "make", [as_png, as_tiff, lambda a: as_tiff(a / np.float32(65535)), lambda a: as_tiff(a, compression="zlib")]
)
def test_with_any_bytes_changed_a_deep_file_is_read_or_refused(make):
    source = make(samples(4))
    for seed in range(40):
        random = np.random.default_rng(seed)
        damaged = bytearray(source)
        for at in random.integers(0, min(len(source), 500), 3):
            damaged[at] = random.integers(256)
        try:
            picture = read_picture(bytes(damaged), max_pixels=100_000)
        except ImageError as error:
            assert str(error).isprintable()
            continue
        result = rewrap(picture, picture.rgb if picture.deep is None else picture.deep[..., :3])
        assert written(result, "png") and written(result, "tiff")


# ---- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format", READ)
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("size", [(1, 1), (40, 56), (600, 31)])
def test_what_is_written_another_program_reads(format, channels, size):
    deep = samples(channels, *size)
    picture = read_picture(deep)
    result = rewrap(picture, picture.deep[..., :3])
    data = written(result, format)
    assert np.array_equal(READ[format](data), deep)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == result.mode == ("RGB" if channels == 3 else "RGBA")
        assert np.abs(np.asarray(image).astype(int) - np.asarray(result)).max() <= 1  # Pillow cuts where we round
    assert np.array_equal(read_picture(data).deep, deep)


@pytest.mark.parametrize("format", READ)
def test_profile_dpi_exif_and_alpha_go_with_sixteen_bits(format):
    exifread = pytest.importorskip("exifread")
    image = read_picture(samples(4))
    image = rewrap(image, image.deep[..., :3])
    image.info |= {"icc_profile": ADOBE_RGB, "exif": photo_exif(), "dpi": (300, 150)}
    data = written(image, format)
    tags = exifread.process_file(io.BytesIO(data), details=False)
    assert str(tags["EXIF DateTimeOriginal"]) == "2024:02:29 23:59:58" and str(tags["GPS GPSLatitude"]) == "[48, 51, 59/2]"
    again = read_picture(data)
    assert (again.icc, again.dpi) == (ADOBE_RGB, (300, 150))
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == ADOBE_RGB
    if format == "tiff":
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            page = tiff.pages[0]
            assert (page.tags["XResolution"].value, page.tags["YResolution"].value) == ((300, 1), (150, 1))
            assert page.iccprofile == ADOBE_RGB and [int(e) for e in page.extrasamples] == [2]


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
def test_a_format_of_eight_bits_gets_eight(format):
    picture = read_picture(samples())
    image = Image.open(io.BytesIO(written(rewrap(picture, picture.deep), format))).convert("RGB")
    assert np.abs(np.asarray(image).astype(int) - np.rint(samples() / 257)).mean() < 3


@pytest.mark.parametrize("change", [lambda i: i.rotate(180), lambda i: i.point(lambda v: 255 - v), lambda i: i.crop((0, 0, 9, 9))])
def test_an_image_that_was_changed_is_written_as_it_is_now(change):
    picture = read_picture(samples())
    result = rewrap(picture, picture.deep)
    changed = change(result)
    changed.info["deep"] = result.info["deep"]
    again = Image.open(io.BytesIO(written(changed, "png")))
    assert np.array_equal(np.asarray(again), np.asarray(changed))


# ---- colour ------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("profile", [ADOBE_RGB, DISPLAY_P3], ids=["adobe", "p3"])
def test_what_stays_of_a_picture_has_its_colours_outside_srgb_as_well(profile, deep):
    """Full green of a wide space, which sRGB has not, and noise; turned, to be seen upright."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint16) * (257 if deep else 1)
    pixels[:12] = 0, 65535 if deep else 255, 0
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray((pixels // 257 if deep else pixels).astype(np.uint8))
    if deep:
        image = rewrap(read_picture(pixels), pixels)
    image.info |= {"icc_profile": profile, "exif": exif.tobytes()}
    picture = read_picture(written(image, "tiff" if deep else "png"))
    upright = np.rot90(pixels, -1)
    assert (picture.deep is not None) == deep and picture.size == (24, 32)
    inside = Image.new("L", picture.size)
    inside.paste(255, (0, 0, 24, 10))
    painted = np.zeros_like(picture.deep[..., :3]) if deep else Image.new("RGB", picture.size)
    result = rewrap(picture, painted, inside=inside)
    found = result.info["deep"] if deep else np.asarray(result)
    assert (found[:10] == 0).all() and (found[10:] == upright[10:]).all()
    without = rewrap(picture, picture.deep[..., :3] if deep else picture.rgb)
    assert np.abs(np.asarray(without).astype(int) - (upright // (257 if deep else 1)))[:, 12:].max() > 30, "as it was, through sRGB"
    smaller = np.asarray(rewrap(picture, painted[::2, ::2] if deep else painted.resize((12, 16)), inside=Image.new("L", (12, 16))))
    assert (smaller[:, 10:] == (0, 255, 0)).all(), "at another size as well"
    half = np.asarray(rewrap(picture, painted, inside=Image.new("L", picture.size, 128)))
    assert np.abs(half[:, 16:].astype(int) - (0, 127, 0)).max() <= 1


@pytest.mark.parametrize("deep", [False, True])
def test_what_stays_of_a_picture_with_alpha_has_them_too_and_nothing_of_what_is_hidden(deep):
    rgba = np.random.default_rng(0).integers(0, 256, (24, 32, 4), np.uint16)
    rgba[:12] = 0, 255, 0, 255
    rgba[20:] = 255, 0, 255, 0
    hidden = rgba[..., 3] < modes.TRUSTED_ALPHA
    rgba *= 257 if deep else 1
    image = rewrap(read_picture(rgba), rgba[..., :3]) if deep else Image.fromarray(rgba.astype(np.uint8))
    picture = read_picture(written(with_profile(image, DISPLAY_P3), "png"))
    assert (picture.deep is not None) == deep
    painted = np.zeros_like(rgba[..., :3]) if deep else Image.new("RGB", picture.size)
    result = rewrap(picture, painted, inside=Image.new("L", picture.size))
    found = result.info["deep"] if deep else np.asarray(result)
    assert (found[~hidden] == rgba[~hidden]).all() and (found[..., 3] == rgba[..., 3]).all()
    assert (np.abs(np.asarray(result)[21:, :, :3].astype(int) - (255, 0, 255)).max(-1) > 60).all()


def test_what_stays_of_a_picture_in_srgb_is_as_it_was():
    plain = read_picture(Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)))
    assert plain.own is None
    for given in (plain, replace(read_picture(with_profile(plain.rgb, DISPLAY_P3)), icc=None)):
        kept = rewrap(given, Image.new("RGB", (8, 8)), inside=Image.new("L", (8, 8)))
        assert np.array_equal(kept, rewrap(given, given.rgb))


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image = image.copy()
    image.info["icc_profile"] = profile
    return image


def adobe_to_srgb(unit: np.ndarray) -> np.ndarray:
    """By the definitions of both, in floats."""
    to_xyz = [[0.5766690, 0.1855582, 0.1882286], [0.2973450, 0.6273636, 0.0752915], [0.0270314, 0.0706889, 0.9913375]]
    to_linear = [[3.2409699, -1.5373832, -0.4986108], [-0.9692436, 1.8759675, 0.0415551], [0.0556301, -0.2039770, 1.0569715]]
    linear = (unit**2.19921875 @ np.array(to_xyz).T @ np.array(to_linear).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_sixteen_bits_are_converted_by_the_definition_of_the_space():
    deep = samples()
    picture = read_picture(as_tiff(deep, iccprofile=ADOBE_RGB))
    wanted = adobe_to_srgb(deep / 65535) * 65535
    inside = (wanted > 3000).all(-1) & (wanted < 65000).all(-1)
    assert np.abs(picture.deep - wanted)[inside].max() < 60 and inside.mean() > 0.3  # 0.1 of a level of 255: the test's profile
    back = rewrap(picture, picture.deep).info["deep"]
    assert np.abs(back.astype(int) - deep)[inside].max() <= 8


@pytest.mark.parametrize("profile", [ADOBE_RGB, DISPLAY_P3, WIDE], ids=["adobe", "p3", "wide"])
def test_sixteen_bits_and_littlecms_agree(profile):
    """LittleCMS, as Pillow has it, in 8 bits, there and back."""
    deep = samples()
    shallow = np.rint(deep / 257).astype(np.uint8)
    image = Image.fromarray(shallow)
    image.info["icc_profile"] = profile
    eight, sixteen = read_picture(image), read_picture(as_tiff(shallow.astype(np.uint16) * 257, iccprofile=profile))
    assert np.abs(np.asarray(eight.rgb).astype(int) - np.asarray(sixteen.rgb)).max() <= 1
    theirs, ours = rewrap(eight, eight.rgb), rewrap(sixteen, np.asarray(eight.rgb).astype(np.uint16) * 257)
    assert np.abs(np.asarray(theirs).astype(int) - np.asarray(ours)).max() <= 1
    assert ours.info["icc_profile"] == profile


def test_grey_with_a_profile_and_srgb_itself():
    light = read_picture(as_png(np.full((4, 4, 1), 16384, np.uint16)))
    assert (light.deep == 16384).all()
    grey = Image.open(io.BytesIO(as_png(np.full((4, 4, 1), 16384, np.uint16))))
    grey.info["icc_profile"] = GREY_LINEAR
    picture = read_picture(grey)
    assert np.abs(picture.deep.astype(int) - round(0.5370987 * 65535)).max() < 30 and picture.icc is None  # sRGB of 0.25
    same = read_picture(as_tiff(samples(), iccprofile=SRGB))
    assert np.array_equal(same.deep, samples()) and same.icc == SRGB


@pytest.mark.parametrize(
    "kind, numbers, wanted",
    [
        (0, (1.8,), lambda x: x**1.8),
        (1, (2.2, 1.1, -0.1), lambda x: np.where(x >= 0.1 / 1.1, (1.1 * x - 0.1).clip(0) ** 2.2, 0)),
        (1, (2.2, 0.9, 0.1), lambda x: (0.9 * x + 0.1) ** 2.2),
        (2, (2.2, 0.9, -0.1, 0.08), lambda x: np.where(x >= 0.1 / 0.9, (0.9 * x - 0.1).clip(0) ** 2.2 + 0.08, 0.08)),
        (3, (2.0, 0.9, 0.1, 0.36, 1 / 9), lambda x: np.where(x >= 1 / 9, (0.9 * x + 0.1) ** 2, 0.36 * x)),
        (4, (2.0, 0.8, 0.1, 0.5, 0.1, 0.07, 0.0524), lambda x: np.where(x >= 0.1, (0.8 * x + 0.1) ** 2 + 0.07, 0.5 * x + 0.0524)),
    ],
)
def test_parametric_curves_are_those_of_the_definition(kind, numbers, wanted):
    """ICC.1:2022, table 68."""
    x = np.linspace(0, 1, 65536)
    for found in profiles.space_of(rgb_profile(*ADOBE_POINTS, curve=parametric(kind, *numbers))).curves:
        assert np.abs(found - wanted(x)).max() < 2e-4


ADOBE_POINTS = (0.64, 0.33), (0.21, 0.71), (0.15, 0.06)


def parametric(kind: int, *numbers: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">H2x", kind) + fixed(*numbers)


@pytest.mark.parametrize("black", [0.002, 0.02, 0.15])
def test_black_that_gives_some_light_becomes_black_as_in_eight_bits(black):
    """By LittleCMS as it is exact, without a table for colours between."""
    factor = (1 - black) ** (1 / 2.4) / 1.055
    curve = parametric(4, 2.4, factor, 0.055 * factor, (1 - black) / 12.92, 0.04045, black, black)  # sRGB's, from this black up
    profile, ramp = rgb_profile(*ADOBE_POINTS, curve=curve), np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    for pixels, icc_profile in ((ramp, profile), (ramp[..., 0], icc(b"GRAY", {b"kTRC": curve}))):
        eight = read_picture(with_profile(Image.fromarray(pixels), icc_profile))
        deep = read_picture(as_tiff(np.atleast_3d(pixels).astype(np.uint16) * 257, iccprofile=icc_profile)).deep
        assert np.abs(np.asarray(eight.rgb) - deep / 257).max() <= 1 and deep[0, 0].max() < 8
    cube = np.stack(np.meshgrid(*[np.arange(0, 256, 17, np.uint8)] * 3), -1).reshape(16, -1, 3)
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOOPTIMIZE
    for ends in ((profile, SRGB), (SRGB, profile)):
        theirs = ImageCms.buildTransform(*map(io.BytesIO, ends), "RGB", "RGB", 1, flags=flags).apply(Image.fromarray(cube))
        assert np.abs(np.asarray(theirs) - profiles.converted(cube.astype(np.uint16) * 257, *ends) / 257).max() <= 1


def test_a_curve_that_falls_or_a_matrix_without_a_way_back_is_no_space():
    falling = b"curv\0\0\0\0" + struct.pack(">I3H", 3, 0, 65535, 30000)
    assert profiles.space_of(rgb_profile(*ADOBE_POINTS, curve=falling)) is None
    tags = {name: b"XYZ \0\0\0\0" + fixed(0.3, 0.3, 0.3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")}
    assert profiles.space_of(icc(b"RGB ", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"curv" + bytes(8)))) is None


def test_a_profile_with_tables_leaves_eight_bits():
    from test_images import cmyk_profile

    assert profiles.space_of(cmyk_profile()) is None and profiles.space_of(ADOBE_RGB[:200]) is None
    with_table = ADOBE_RGB.replace(b"cprt", b"A2B0")
    assert profiles.space_of(with_table) is None


# ---- painting ----------------------------------------------------------------------------------


def tiny(kind=GeneratorConfig(widths=(8, 8, 16), blocks=(1, 0, 2))):
    torch.manual_seed(0)
    generator = Generator(kind).eval()
    flat = torch.randn(1, 2, sum(kind.channels)) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 2, 1)
    return generator, Style.from_flat(flat, kind.channels)


@torch.no_grad()
def test_the_torch_backend_paints_in_sixteen_bits():
    generator, style = tiny()
    deep = samples(3, 17, 30)
    y = generator(torch.from_numpy(deep.astype(np.float32) / 65535).permute(2, 0, 1)[None], style)[0].permute(1, 2, 0)
    painted = TorchBackend(generator, torch.device("cpu"))(deep, style)
    assert painted.dtype == np.uint16 and np.abs(painted - y.numpy() * 65535).max() < 4


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_openvino_paints_in_sixteen_bits_what_torch_paints():
    generator, style = tiny()
    ours, theirs = TorchBackend(generator, torch.device("cpu")), OpenVINOBackend(generator, threads=1)
    for size in ((33, 47), (8, 8)):
        a, b = ours(samples(3, *size), style), theirs(samples(3, *size), style)
        assert a.dtype == b.dtype == np.uint16 and a.shape == b.shape
        assert np.abs(a.astype(int) - b).max() < 64  # a quarter of a level of 255
    assert theirs(samples(3).astype(np.uint8), style).dtype == np.uint8


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


@pytest.mark.parametrize(
    "options", [{}, {"strength": 0.5}, {"preserve_color": True}, {"size": 90}, {"size": 30, "preserve_color": True}]
)
def test_a_result_of_sixteen_bits_is_the_one_of_eight_but_finer(stylizer, options, monkeypatch):
    monkeypatch.setattr(stylizer, "_predicted", lambda *_: stylizer.style("blue-tree"))  # the arithmetic is what counts
    deep = samples()
    result = stylizer.stylize(deep, "red-hill", **options)
    fine = result.info["deep"]
    coarse = np.asarray(stylizer.stylize(np.rint(deep / 257).astype(np.uint8), "red-hill", **options)).astype(int)
    assert fine.shape == coarse.shape and fine.dtype == np.uint16
    assert np.abs(np.asarray(result).astype(int) - coarse).mean() < 2
    assert (fine % 257 != 0).mean() > 0.8 and levels(fine) > 256


def test_strength_0_gives_the_photograph_back_bit_by_bit(stylizer):
    for channels in (3, 4):
        result = stylizer.stylize(samples(channels), "red-hill", strength=0)
        assert np.array_equal(result.info["deep"], samples(channels))


@pytest.mark.parametrize("source", ["png", "tiff"])
def test_a_file_of_sixteen_bits_becomes_one(weights, tmp_path, source):
    (tmp_path / f"a.{source}").write_bytes(MADE[source](samples(4)))
    words = ["--style", "red-hill", "--weights", weights, "--backend", "torch", "--device", "cpu"]
    for target in ("png", "tiff", "jpeg"):
        front = ["stylize", tmp_path / f"a.{source}", "-o", tmp_path / f"b.{target}"]
        assert main([str(w) for w in (*front, *words)]) == 0
        if target in READ:
            deep = READ[target]((tmp_path / f"b.{target}").read_bytes())
            assert levels(deep) > 256 and np.array_equal(deep[..., 3], samples(4)[..., 3])
    assert main([str(w) for w in ("batch", tmp_path, tmp_path / "out", *words, "--no-recursive", "-q")]) == 0
    assert levels(READ[source]((tmp_path / "out" / f"a.{source}").read_bytes())) > 256
