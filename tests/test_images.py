"""Pictures in and out. Written files are taken apart with struct here, not only read back by Pillow."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin, features

from stylenorm import colour, encode, images
from stylenorm import exif as exif_module
from stylenorm.errors import ImageError, StylenormError
from stylenorm.formats import FULL
from stylenorm.images import Picture, fit, keep_color, read_picture, rewrap, short_side, to_image, to_tensor, write_picture
from stylenorm.resources import lean_png
from stylenorm.tensors import fit_even, fitted, side_to_paint, usual_side

WRITTEN = ("jpeg", "png", "webp", "tiff")
EXIF, GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


# ---- what the tests are made of ----------------------------------------------------------------


def smooth(width=64, height=48) -> Image.Image:
    """An RGB picture of middling colours, without symmetry."""
    y, x = np.mgrid[:height, :width]
    planes = [60 + 130 * x / width, 70 + 110 * y / height, 180 - 90 * (x + y) / (width + height)]
    return Image.fromarray(np.stack(planes, 2).round().astype(np.uint8))


def noise(width=64, height=48, channels=3, seed=0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, format="PNG", **options) -> bytes:
    image.save(buffer := io.BytesIO(), format, **options)
    return buffer.getvalue()


def written(image: Image.Image, format: str, **options) -> bytes:
    write_picture(image, buffer := io.BytesIO(), format=format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def distance(a, b) -> int:
    """The largest difference between two images or arrays of one size, in levels of 255."""
    a, b = (np.asarray(x).astype(int) for x in (a, b))
    assert a.shape == b.shape
    return int(np.abs(a - b).max())


def photo_exif(orientation=1, size=(64, 48), note=b"maker\x00note" * 3) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model", orientation
    exif[0x0100], exif[0x0111] = 64, 8  # image width and strip offset: of the old file, not of the picture
    exif[0x011A], exif[0x011B], exif[0x0128] = 144.0, 72.0, 2
    exif[EXIF] = {
        0x9003: "2024:02:29 23:59:58",
        0x829A: TiffImagePlugin.IFDRational(1, 250),
        0x927C: note,
        0x9286: b"ASCII\x00\x00\x00a comment",
        0x9290: "12345",
        0xA002: size[0],
        0xA003: size[1],
        0xA005: {1: "R98"},
    }
    exif[GPS] = {1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.25)}
    return exif.tobytes()


def with_thumbnail(exif: bytes, jpeg: bytes) -> bytes:
    """Append a second directory with a thumbnail to EXIF bytes; big-endian."""
    body = exif[6:]
    assert body[:2] == b"MM"
    (first,) = struct.unpack_from(">I", body, 4)
    (count,) = struct.unpack_from(">H", body, first)
    link = first + 2 + 12 * count
    start = len(body)
    second = struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, start + 30, 0x0202, 4, 1, len(jpeg), 0)
    return exif[:6] + body[:link] + struct.pack(">I", start) + body[link + 4 :] + second + jpeg


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, bits, colour, rows: bytes, extra=b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def raw_tiff(width, height, bits, photometric, data: bytes, samples=1, sample_format=1) -> bytes:
    """Uncompressed, little-endian, one strip."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    offset = 8 + 2 + 12 * 10 + 4
    tags += [(273, 4, offset), (277, 3, samples), (278, 4, height), (279, 4, len(data)), (339, 3, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, 10) + entries + struct.pack("<I", 0) + data


def fixed(*values) -> bytes:
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


def icc(space: bytes, tags: dict[bytes, bytes], kind=b"mntr", pcs=b"XYZ ") -> bytes:
    """An ICC v2 profile from its tags."""
    text = b"made for a test\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0" + text,
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
    } | tags
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        body += bytes(-len(body) % 4)
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    header = struct.pack(">I4sI", 128 + len(table) + len(body), b"test", 0x02400000) + kind + space + pcs
    header = header.ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)
    return header.ljust(128, b"\0") + table + body


def gamma_curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def rgb_profile(red, green, blue, gamma=2.2, curve: bytes | None = None) -> bytes:
    """A matrix profile from the xy of its primaries, white D65."""

    def lift(x, y):
        return np.array([x / y, 1, (1 - x - y) / y])

    primaries = np.stack([lift(*red), lift(*green), lift(*blue)], 1)
    white = lift(0.3127, 0.3290)
    to_xyz = primaries * np.linalg.solve(primaries, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gain = (bradford @ [0.9642, 1, 0.8249]) / (bradford @ white)
    to_d50 = np.linalg.solve(bradford, gain[:, None] * bradford) @ to_xyz
    tags = {name: b"XYZ \0\0\0\0" + fixed(*to_d50[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return icc(b"RGB ", tags | {name: curve or gamma_curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def cmyk_profile() -> bytes:
    """Inks of our own: white paper, and Lab from four tables; black ink is only dark grey (L* 25)."""
    inks = np.indices((2, 2, 2, 2)).reshape(4, -1).T  # (16,4), the last ink fastest
    light = 100 - 75 * np.maximum(inks[:, 3], inks[:, :3].mean(1))
    lab = np.stack([light, 40 * (inks[:, 1] - inks[:, 0]), 40 * (inks[:, 2] - inks[:, 0])], 1)
    table = np.stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128], 1).round().clip(0, 255).astype(np.uint8)
    ramp, matrix = bytes(range(256)), fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    to_lab = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + table.tobytes() + ramp * 3
    inks = bytes([0, 0, 0, 255] * 4 + [0, 0, 0, 0] * 4)  # black ink alone, the less of it the lighter
    from_lab = b"mft1\0\0\0\0" + bytes([3, 4, 2, 0]) + matrix + ramp * 3 + inks + ramp * 4
    return icc(b"CMYK", {b"A2B0": to_lab, b"B2A0": from_lab}, kind=b"prtr", pcs=b"Lab ")


def scanner_profile() -> bytes:
    """A table that takes red to a light grey, and none back."""
    lab = np.array([[0, 128, 128]] * 4 + [[76 * 2.55, 128, 128]] * 3 + [[255, 128, 128]]).round().astype(np.uint8)
    ramp, matrix = bytes(range(256)), fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    to_lab = b"mft1\0\0\0\0" + bytes([3, 3, 2, 0]) + matrix + ramp * 3 + lab.tobytes() + ramp * 3
    return icc(b"RGB ", {b"A2B0": to_lab}, kind=b"scnr", pcs=b"Lab ")


ADOBE_RGB = rgb_profile((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
WIDE = rgb_profile((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), gamma=1.8)
SRGB_CURVE = b"para\0\0\0\0\0\3\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
DISPLAY_P3 = rgb_profile((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), curve=SRGB_CURVE)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_LINEAR = icc(b"GRAY", {b"kTRC": gamma_curve(1.0)})
SCANNER = scanner_profile()


# ---- readers of our own, for what was written --------------------------------------------------


def jpeg_segments(data: bytes) -> dict[int, list[bytes]]:
    """Marker -> payloads, up to the start of the scan."""
    found, at = {}, 2
    while data[at + 1] != 0xDA:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        found.setdefault(marker, []).append(data[at + 4 : at + 2 + length])
        at += 2 + length
    return found


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, at + 8 + length)[0]
        found[kind] = found.get(kind, b"") + body
        at += 12 + length
    return found


def riff_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    found, at = {}, 12
    while at < len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        found[kind] = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return found


def directory(data: bytes, offset: int | None = None) -> tuple[dict[int, object], int]:
    """({tag: value}, offset of the next) of a TIFF directory: ASCII, SHORT, LONG, RATIONAL, bytes."""
    end = "<" if data[:2] == b"II" else ">"
    if offset is None:
        (offset,) = struct.unpack_from(end + "I", data, 4)
    (count,) = struct.unpack_from(end + "H", data, offset)
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 12: 8}
    found = {}
    for entry in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(end + "HHI", data, entry)
        at = entry + 8
        if sizes[kind] * number > 4:
            (at,) = struct.unpack_from(end + "I", data, at)
            assert at % 2 == 0  # TIFF wants it
        raw = data[at : at + sizes[kind] * number]
        if kind in (3, 4):
            found[tag] = struct.unpack(f"{end}{number}{' HI'[kind - 2]}", raw)
        elif kind == 5:
            parts = struct.unpack(f"{end}{2 * number}I", raw)
            found[tag] = tuple(a / b for a, b in zip(parts[::2], parts[1::2]))
        else:
            found[tag] = raw.rstrip(b"\0") if kind == 2 else raw
        if kind in (3, 4, 5) and number == 1:
            found[tag] = found[tag][0]
    return found, struct.unpack_from(end + "I", data, offset + 2 + 12 * count)[0]


def exif_block(data: bytes, format: str) -> bytes | None:
    """The TIFF structure with the EXIF of a written file."""
    if format == "tiff":
        return data
    if format == "png":
        return png_chunks(data).get(b"eXIf")
    if format == "webp":
        return riff_chunks(data).get(b"EXIF")
    return next((s[6:] for s in jpeg_segments(data).get(0xE1, []) if s.startswith(b"Exif\0\0")), None)


def icc_block(data: bytes, format: str) -> bytes | None:
    if format == "tiff":
        return directory(data)[0].get(34675)
    if format == "png":
        body = png_chunks(data).get(b"iCCP")
        return body and zlib.decompress(body.split(b"\0", 1)[1][1:])
    if format == "webp":
        return riff_chunks(data).get(b"ICCP")
    parts = [s for s in jpeg_segments(data).get(0xE2, []) if s.startswith(b"ICC_PROFILE\0")]
    return b"".join(s[14:] for s in sorted(parts, key=lambda s: s[12])) or None


# ---- a picture goes through and comes back -----------------------------------------------------


@pytest.mark.parametrize("suffix, format", images.FORMATS.items())
def test_a_picture_is_written_in_the_format_of_its_suffix(tmp_path, suffix, format):
    if format == "heic":
        pytest.importorskip("pillow_heif")
    write_picture(smooth(), tmp_path / f"a{suffix.upper()}")
    picture = read_picture(tmp_path / f"a{suffix.upper()}")
    assert (picture.format, picture.size, picture.rgb.mode) == (format, (64, 48), "RGB")
    assert distance(picture.rgb, smooth()) <= (0 if format in ("png", "tiff") else 6)
    assert picture.alpha is picture.exif is picture.icc is None


@pytest.mark.parametrize("format", WRITTEN)
def test_exif_profile_dpi_and_size_survive(format):
    source = saved(smooth(), "JPEG", exif=photo_exif(), icc_profile=ADOBE_RGB, dpi=(144, 72), quality=95)
    picture = read_picture(source)
    data = written(rewrap(picture, picture.rgb), format)
    again = read_picture(data)
    assert again.size == (64, 48)
    assert again.dpi == (144, 72)
    assert icc_block(data, format) == again.icc == ADOBE_RGB

    block = exif_block(data, format)
    main, _ = directory(block)
    assert (main[0x010F], main[0x0112]) == (b"Maker", 1)
    photo, _ = directory(block, main[0x8769])
    assert (photo[0x9003], photo[0x829A]) == (b"2024:02:29 23:59:58", 0.004)
    assert (photo[0x927C], photo[0x9286]) == (b"maker\x00note" * 3, b"ASCII\x00\x00\x00a comment")
    assert directory(block, photo[0xA005])[0] == {1: b"R98"}
    gps, _ = directory(block, main[0x8825])
    assert (gps[1], gps[2], gps[3], gps[4]) == (b"N", (48, 51, 29.5), b"E", (2, 17, 40.25))


@pytest.mark.parametrize("format", WRITTEN)
def test_dpi_survives_without_exif(format):
    picture = read_picture(saved(smooth(), dpi=(300, 200)))
    assert picture.exif is None
    data = written(rewrap(picture, picture.rgb), format)
    assert read_picture(data).dpi == (300, 200)
    if format == "jpeg":
        assert jpeg_segments(data)[0xE0][0][7:12] == struct.pack(">BHH", 1, 300, 200)
    if format == "png":
        assert png_chunks(data)[b"pHYs"] == struct.pack(">IIB", 11811, 7874, 1)
    if format == "tiff":
        assert [directory(data)[0][tag] for tag in (282, 283, 296)] == [300, 200, 2]


@pytest.mark.parametrize("format", ["avif", "heic"])
def test_dpi_survives_where_there_is_no_field_for_it(format):
    if format == "heic":
        pytest.importorskip("pillow_heif")
    elif not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture = Picture(smooth(), dpi=(300.0, 150.0))
    assert read_picture(written(rewrap(picture, picture.rgb), format)).dpi == (300, 150)


def test_a_resolution_in_centimetres_is_one_in_inches():
    exif = Image.Exif()
    exif[0x128], exif[0x11A], exif[0x11B] = 3, 100.0, 50.0
    assert read_picture(saved(smooth(), "WEBP", exif=exif.tobytes())).dpi == pytest.approx((254, 127))


@pytest.mark.parametrize("dpi", [(0, 0), (-5, 72), (float("nan"), 72), (1e9, 1e9), "much", (72,), 7])
def test_an_implausible_dpi_is_left_out(dpi):
    image = smooth()
    image.info["dpi"] = dpi
    assert read_picture(image).dpi is None


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """The upright (H,W,3), from what orientation means: the place of row 0 and of column 0."""
    across = array.transpose(1, 0, 2)
    return {
        1: array,
        2: array[:, ::-1],  # top, right
        3: array[::-1, ::-1],  # bottom, right
        4: array[::-1],  # bottom, left
        5: across,  # left, top
        6: across[:, ::-1],  # right, top
        7: across[::-1, ::-1],  # right, bottom
        8: across[::-1],  # left, bottom
    }[orientation]


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright_once(format, orientation):
    options = {"jpeg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}, "tiff": {"compression": None}}
    source = saved(smooth(), format, exif=photo_exif(orientation), **options.get(format, {}))
    picture = read_picture(source)
    upright = turned(np.asarray(smooth()), orientation)
    assert distance(picture.rgb, upright) <= (3 if format == "jpeg" else 0)

    exif = picture.exif[6:]
    main, _ = directory(exif)
    if format != "tiff":  # Pillow turns a TIFF itself, and drops the tag
        assert main[0x0112] == 1
    photo, _ = directory(exif, main[0x8769])
    assert (photo[0xA002], photo[0xA003]) == picture.size
    again = read_picture(written(rewrap(picture, picture.rgb), "png"))
    assert distance(again.rgb, picture.rgb) == 0


def test_a_compressed_tiff_is_turned_too():
    image = smooth()
    image.info["exif"] = photo_exif(6)
    source = written(image, "tiff")
    assert directory(source)[0][0x0112] == 6
    assert distance(read_picture(source).rgb, turned(np.asarray(smooth()), 6)) == 0


def test_alpha_is_turned_with_the_picture():
    rgba = Image.fromarray(noise(6, 4, 4))
    picture = read_picture(saved(rgba, exif=photo_exif(6)))
    assert distance(picture.alpha, turned(np.asarray(rgba), 6)[..., 3]) == 0


@pytest.mark.parametrize("orientation", [0, 9, 600])
def test_a_meaningless_orientation_turns_nothing(orientation):
    assert distance(read_picture(saved(smooth(), exif=photo_exif(orientation))).rgb, smooth()) == 0


def test_the_thumbnail_and_tags_of_the_old_file_are_left_out():
    thumbnail = saved(smooth(16, 12), "JPEG")
    source = saved(smooth(), "JPEG", exif=with_thumbnail(photo_exif(), thumbnail))
    assert opened(source).getexif().get_ifd(ExifTags.IFD.IFD1)[0x0202] == len(thumbnail)  # the test's own work
    picture = read_picture(source)
    main, following = directory(picture.exif[6:])
    assert following == 0 and thumbnail[:20] not in picture.exif
    assert 0x0100 not in main and 0x0111 not in main


@pytest.mark.parametrize("format", WRITTEN)
def test_sizes_in_exif_follow_the_result(format):
    picture = read_picture(saved(smooth(), exif=photo_exif()))
    block = exif_block(written(rewrap(picture, smooth(96, 72)), format), format)
    photo, _ = directory(block, directory(block)[0][0x8769])
    assert (photo[0xA002], photo[0xA003]) == (96, 72)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"II*\0", b"\0" * 40])
def test_a_broken_exif_is_dropped_and_the_pixels_kept(exif):
    image = smooth()
    image.info["exif"] = exif
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = read_picture(image)
    assert picture.exif is None and distance(picture.rgb, smooth()) == 0


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("format", WRITTEN)
def test_exif_keeps_its_types_in_either_byte_order(format, order):
    """Pillow's own class would write UNDEFINED as BYTE and signed fractions as unsigned."""
    photo = {
        0x829A: (5, 1, struct.pack(order + "II", 1, 250)),
        0x9000: (7, 4, b"0232"),
        0x9204: (10, 1, struct.pack(order + "ii", 0, 3)),
        0x9208: (3, 1, struct.pack(order + "H", 4)),
        0x9999: (11, 2, struct.pack(order + "ff", 0.5, -2)),
        0xA437: (129, 5, "Zoë\0".encode()),  # the photographer, in UTF-8, since EXIF 3.0
    }
    tree = {0x010F: (2, 6, b"Maker\0"), 0x8298: (129, 8, "© Zoë\0".encode()), EXIF: photo}
    image = smooth()
    image.info["exif"] = exif_module.pack_exif(tree, order)
    picture = read_picture(image)
    assert picture.exif == image.info["exif"]
    block = exif_block(written(rewrap(picture, picture.rgb), format), format)
    found, found_order = exif_module.parse_exif(block)
    assert found_order == ("<" if format == "tiff" else order)
    assert found[0x010F] == tree[0x010F] and found[0x8298] == tree[0x8298] and found[EXIF][0xA437] == photo[0xA437]
    assert {tag: entry[:2] for tag, entry in found[EXIF].items()} == {tag: entry[:2] for tag, entry in photo.items()}
    for tag, layout in ((0x829A, "II"), (0x9204, "ii"), (0x9208, "H"), (0x9999, "ff"), (0x9000, "4s")):
        assert struct.unpack(found_order + layout, found[EXIF][tag][2]) == struct.unpack(order + layout, photo[tag][2])


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("turned_by_its_file", [False, True])
def test_an_avif_keeps_exif_byte_for_byte_too(turned_by_its_file):
    """Pillow writes EXIF anew that has an orientation, and reads it so where the file has another: letters beyond ASCII became "?"."""
    tree = {0x010E: (2, 5, "Zoë\0".encode()), EXIF: {0x9000: (7, 4, b"0232"), 0x9204: (10, 1, struct.pack("<ii", -1, 3))}}
    if turned_by_its_file:
        data = saved(smooth(), "AVIF", exif=exif_module.pack_exif(tree, "<"))
        colours = data.index(b"colrnclx") - 4  # in their place a quarter turn, which is essential, and nothing in what is left
        data = data[:colours] + struct.pack(">I4sBI4s2x", 9, b"irot", 3, 10, b"free") + data[colours + 19 :]
        data = data.replace(b"\0\1\0\1\4\1\2\x83\4", b"\0\1\0\1\4\1\2\x83\x84")
        picture = read_picture(data)
        assert picture.size == (48, 64)
    else:
        image = smooth()
        image.info["exif"] = exif_module.pack_exif(tree | {0x0112: (3, 1, struct.pack("<H", 1))}, "<")
        picture = read_picture(written(rewrap(read_picture(image), image), "avif"))
    assert exif_module.parse_exif(picture.exif)[0] == tree


def test_exif_whose_mark_stands_twice_is_read():
    once = photo_exif()
    assert exif_module.parse_exif(b"Exif\0\0" + once) == exif_module.parse_exif(once) != ({}, "<")


def test_an_odd_exif_value_costs_only_itself():
    tree = {0x010F: (2, 6, b"Maker\0"), 0x0110: (99, 1, b"Cam\0"), 0x0131: (2, 1 << 30, b"Pro\0")}
    image = smooth()
    image.info["exif"] = exif_module.pack_exif(tree | {EXIF: (4, 1, b"\xff\xff\xff\x7f"), GPS: (2, 2, b"N\0")}, "<")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert directory(read_picture(image).exif[6:])[0] == {0x010F: b"Maker"}


def test_exif_directories_in_a_circle_end():
    circle = bytearray(exif_module.pack_exif({EXIF: {0xA005: (4, 1, b"\0\0\0\0")}}, "<"))
    for at in range(len(circle) - 3):  # every pointer to the main directory
        if circle[at : at + 2] in (b"\x69\x87", b"\x05\xa0"):
            struct.pack_into("<I", circle, at + 8, struct.unpack_from("<I", circle, 10)[0])
    image = smooth()
    image.info["exif"] = bytes(circle)
    assert distance(read_picture(image).rgb, smooth()) == 0


def test_exif_whose_values_overlap_is_dropped():
    """A thousand tags that each hold the whole of it: packed again it would be a thousand times as long."""
    tree = {EXIF: {tag: (7, 5, b"12345") for tag in range(1, 1000)}}
    exif = bytearray(exif_module.pack_exif(tree, "<"))
    for at in range(6, len(exif) - 12):
        if exif[at + 2 : at + 8] == b"\x07\0\x05\0\0\0":
            struct.pack_into("<II", exif, at + 4, len(exif) - 6, 0)
    image = smooth()
    image.info["exif"] = bytes(exif)
    picture = read_picture(image)
    assert picture.exif is None and distance(picture.rgb, smooth()) == 0


def test_exif_of_a_tiff_and_of_a_png_in_words():
    image = smooth()
    image.info["exif"] = photo_exif()
    tiff = written(image, "tiff")
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n  9\n" + photo_exif().hex())
    for source in (tiff, opened(tiff), saved(smooth(), pnginfo=text)):
        main, _ = directory(read_picture(source).exif[6:])
        assert main[0x010F] == b"Maker" and 0x0111 not in main and 0x8769 in main


# ---- transparency ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "webp", "tiff"])
def test_alpha_survives(format):
    source = noise(40, 30, 4)
    picture = read_picture(source)
    assert distance(picture.alpha, source[..., 3]) == 0
    again = opened(written(rewrap(picture, picture.rgb), format))
    assert again.mode == "RGBA" and distance(again.getchannel("A"), source[..., 3]) == 0


def test_alpha_follows_the_size_of_the_result_without_ghosts():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, 20:] = 255
    picture = read_picture(np.dstack([noise(40, 40), alpha]))
    result = rewrap(picture, smooth(80, 60))
    assert result.size == (80, 60)
    found = pixels(result.getchannel("A"))
    assert (found[:, :36] == 0).all() and (found[:, 44:] == 255).all()


def test_a_jpeg_of_a_transparent_picture_lies_on_white():
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, 16:] = (200, 30, 40, 255)
    rgba[:, :8, 3] = 128
    found = pixels(opened(written(Image.fromarray(rgba), "jpeg", quality=100)))
    assert np.abs(found[:, :8] - 127).max() <= 2
    assert np.abs(found[:, 8:16] - 255).max() <= 2
    assert np.abs(found[:, 16:] - (200, 30, 40)).max() <= 2
    grey = Image.merge("LA", [Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 0)])
    assert np.asarray(opened(written(grey, "jpeg"))).min() == 255


def hole(hidden) -> np.ndarray:
    """Red and blue halves with a transparent square of other colours in it."""
    rgba = np.empty((40, 60, 4), np.uint8)
    rgba[:, :30], rgba[:, 30:] = (200, 30, 30, 255), (30, 30, 200, 255)
    rgba[10:30, 15:45, :3] = hidden
    rgba[10:30, 15:45, 3] = 0
    return rgba


def test_hidden_colours_never_reach_the_network():
    first, second = read_picture(hole(noise(30, 20))), read_picture(hole((0, 255, 0)))
    assert distance(first.rgb, second.rgb) == 0


def test_what_is_of_one_colour_stays_so_under_what_is_transparent():
    rgba = np.zeros((60, 90, 4), np.uint8)
    rgba[20:40, 30:70] = 220, 30, 31, 255
    rgba[10:20, 30:70] = 220, 30, 31, 16
    rgba[40, 30:70] = 90, 200, 80, 15  # hardly there
    assert read_picture(rgba).rgb.getextrema() == ((220, 220), (30, 30), (31, 31)), "spread out it was off by a level here and there"
    rgba[25, 40] = 219, 30, 31, 255
    assert read_picture(rgba).rgb.getpixel((40, 25)) == (219, 30, 31)


def test_transparent_margins_are_no_part_of_a_painting():
    rgba = np.zeros((60, 90, 4), np.uint8)
    rgba[20:40, 30:70] = np.random.default_rng(0).integers(16, 256, (20, 40, 4))
    assert read_picture(rgba).seen.size == (40, 20) and np.array_equal(read_picture(rgba).seen, rgba[20:40, 30:70, :3])
    for picture in (read_picture(rgba[..., :3]), read_picture(rgba[20:40, 30:70]), read_picture(np.zeros((9, 9, 4), np.uint8))):
        assert picture.seen is picture.rgb


def test_hidden_pixels_take_the_colours_around_them():
    source = hole((0, 255, 0))
    found = pixels(read_picture(source).rgb)
    seen = source[..., 3] == 255
    assert (found[seen] == source[seen][:, :3]).all()
    edge = found[20, 16], found[20, 43]  # just inside, beside red and beside blue
    assert np.abs(edge[0] - (200, 30, 30)).max() < 40 and np.abs(edge[1] - (30, 30, 200)).max() < 40
    assert found[..., 1].max() <= 32  # nowhere any green


def test_one_visible_pixel_colours_everything_and_none_at_all_gives_grey():
    for size in ((1, 1), (257, 129), (300, 1)):
        rgba = np.zeros((size[1], size[0], 4), np.uint8)
        rgba[..., :3] = noise(*size) if size != (1, 1) else 9
        empty = read_picture(rgba)
        assert (pixels(empty.rgb) == 128).all()
        rgba[0, -1] = (90, 160, 30, 255)
        assert np.abs(pixels(read_picture(rgba).rgb) - (90, 160, 30)).max() <= 2


def test_translucent_pixels_keep_their_colours():
    source = noise(20, 20, 4)
    source[..., 3] = 40
    assert distance(read_picture(source).rgb, source[..., :3]) == 0


# ---- modes and bit depths ----------------------------------------------------------------------


def test_modes_that_hold_colour():
    rgb = smooth(8, 6)
    for mode in ("RGB", "RGBX", "RGBA"):
        assert distance(read_picture(rgb.convert(mode)).rgb, rgb) == 0
    for mode in ("YCbCr", "HSV", "CMYK", "LAB"):
        assert distance(read_picture(rgb.convert(mode)).rgb, rgb) <= 8
    assert distance(read_picture(saved(rgb.convert("LAB"), "TIFF")).rgb, rgb) <= 8
    palette = rgb.quantize(256)
    assert distance(read_picture(palette).rgb, palette.convert("RGB")) == 0
    assert distance(read_picture(Image.fromarray(noise(8, 6, 4)).convert("RGBa")).alpha, noise(8, 6, 4)[..., 3]) == 0


def test_modes_that_hold_grey():
    grey = Image.fromarray(noise(8, 6, 1))
    threefold = np.repeat(np.asarray(grey)[..., None], 3, 2)
    assert distance(read_picture(grey).rgb, threefold) == 0
    bits = grey.point(lambda v: 255 * (v > 127), "1")
    assert distance(read_picture(saved(bits)).rgb, (threefold > 127) * 255) == 0
    alpha = Image.fromarray(noise(8, 6, 1, seed=1) | 16)
    for mode in ("LA", "La"):
        picture = read_picture(Image.merge("LA", [grey, alpha]).convert(mode))
        assert distance(picture.alpha, alpha) == 0 and distance(picture.rgb, threefold) <= (0 if mode == "LA" else 9)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_sixteen_bits_are_scaled_and_not_clipped(mode):
    values = np.array([[0, 128, 129, 257, 32896, 65535]])
    image = Image.frombytes(mode, (6, 1), values.astype(">u2" if mode.endswith("B") else "<u2").tobytes())
    assert pixels(read_picture(image).rgb)[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_files_of_sixteen_bits():
    grey = raw_png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0, 32896, 65535))
    assert pixels(read_picture(grey).rgb)[0, :, 0].tolist() == [0, 128, 255]
    rgb = raw_png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0, 32896, 65535, 65535, 257, 514))
    assert pixels(read_picture(rgb).rgb)[0].tolist() == [[0, 128, 255], [255, 1, 2]]
    both = read_picture(raw_png(2, 1, 16, 4, b"\0" + struct.pack(">4H", 32896, 65535, 257, 32896)))
    assert pixels(both.rgb)[0, :, 0].tolist() == [128, 1] and pixels(both.alpha)[0].tolist() == [255, 128]
    plain = b"P5 2 1 65535\n" + struct.pack(">2H", 32896, 65535)
    assert pixels(read_picture(plain).rgb)[0, :, 0].tolist() == [128, 255]


@pytest.mark.parametrize(
    "dtype, values, expected",
    [
        ("<i4", [0, 51, 255], [0, 51, 255]),
        ("<i4", [0, 25700, 51400], [0, 100, 200]),
        ("<i4", [-1000, 0, 1000], [0, 128, 255]),
        ("<i4", [0, 500_000, 1_000_000], [0, 128, 255]),
        ("<f4", [0, 0.2, 1], [0, 51, 255]),
        ("<f4", [-0.02, 0.2, 1.1], [0, 51, 255]),
        ("<f4", [0.2, 0.4, 8], [51, 102, 255]),
        ("<f4", [-0.02, 0.4, 1e6], [0, 102, 255]),
        ("<f4", [0, 1, 200], [0, 1, 200]),
        ("<f4", [0.6, 50.6, 255], [1, 51, 255]),
        ("<f4", [0, 51, 255], [0, 51, 255]),
        ("<f4", [0, 25700, 51400], [0, 100, 200]),
        ("<f4", [-10, 0, 10], [0, 128, 255]),
        ("<f4", [float("nan"), 1, float("inf")], [0, 255, 255]),
        ("<f4", [-3e38, 0, 3e38], [0, 128, 255]),
        ("<f4", [float("nan")] * 3, [0, 0, 0]),
        ("<f4", [7e5] * 3, [0, 0, 0]),
    ],
)
def test_thirty_two_bits_are_scaled_sensibly(dtype, values, expected):
    data = np.array(values, dtype).tobytes()
    tiff = raw_tiff(3, 1, 32, 1, data, sample_format=3 if dtype == "<f4" else 2)
    found = pixels(read_picture(tiff).rgb)[0, :, 0]
    assert np.abs(found - expected).max() <= (1 if -1000 in values or -10 in values else 0), found


@pytest.mark.parametrize(
    "bits, colour, row, key, alpha",
    [
        (1, 0, b"\x80", b"\0\1", [0, 255]),
        (2, 0, b"\x60", b"\0\2", [255, 0]),
        (4, 0, b"\x5f", b"\0\5", [0, 255]),
        (8, 0, b"\5\7", b"\0\5", [0, 255]),
        (16, 0, b"\x12\x34\x12\x35", b"\x12\x34", [0, 255]),
        (8, 2, bytes([1, 2, 3, 1, 2, 4]), b"\0\1\0\2\0\3", [0, 255]),
        (16, 2, struct.pack(">6H", 256, 512, 768, 256, 512, 1024), struct.pack(">3H", 256, 512, 768), [0, 255]),
    ],
)
def test_a_transparent_colour_is_found_at_every_depth(bits, colour, row, key, alpha):
    picture = read_picture(raw_png(2, 1, bits, colour, b"\0" + row, chunk(b"tRNS", key)))
    assert pixels(picture.alpha)[0].tolist() == alpha


@pytest.mark.parametrize("layers, number, clear", [(0, None, True), (0, 3, False), (0, 0, True), (2, None, False), (-1, 3, True)])
def test_a_selection_saved_in_a_psd_is_no_transparency(layers, number, clear):
    """layers: how many there are, told as a negative number where the first of the further channels is opacity. number: of that channel."""
    told = b"" if number is None else b"8BIM" + struct.pack(">HHII", 1053, 0, 4, number)
    held = struct.pack(">Ihxx", 4, layers) if layers else b""
    pixels = noise(channels=4)
    pixels[..., 3] |= 128  # so that no colour is hidden
    picture = read_picture(psd(pixels.transpose(2, 0, 1), told, held))
    assert (picture.alpha is not None, picture.format) == (clear, "psd") and distance(picture.rgb, pixels[..., :3]) == 0


def psd(planes: np.ndarray, told: bytes = b"", held: bytes = b"", packed: bool = False, kind: int = 3) -> bytes:
    """planes: (C,H,W) of uint8 or uint16. told: resources. held: layers."""
    rows = [row.astype(row.dtype.newbyteorder(">")).tobytes() for plane in planes for row in plane]
    if packed:  # one run of up to 128 bytes as they are
        rows = [bytes([len(row) - 1]) + row for row in rows]
    sizes = b"".join(struct.pack(">H", len(row)) for row in rows) if packed else b""
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, *planes.shape, 8 * planes.itemsize, kind)
    return head + b"".join(struct.pack(">I", len(part)) + part for part in (b"", told, held)) + bytes([0, packed]) + sizes + b"".join(rows)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind, colours, channels", [(1, 1, 2), (1, 1, 3), (3, 3, 5), (4, 4, 5), (4, 4, 4), (7, 1, 3), (9, 3, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_psd_with_more_channels_than_colours_is_read(kind, colours, channels, packed, dtype):
    planes = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (channels, 48, 64), dtype, True)
    planes[colours:] |= np.iinfo(dtype).max // 2 + 1  # nothing is hidden
    data = psd(planes, packed=packed, kind=kind)
    if (kind, dtype) == (9, np.uint16):
        with pytest.raises(ImageError, match="rare kind"):
            read_picture(data)
        return
    picture, wanted = read_picture(data), np.rint(planes.transpose(1, 2, 0) / np.iinfo(dtype).max * 255)
    assert (picture.alpha is not None) == (kind < 4) and (picture.deep is not None) == (dtype == np.uint16 and kind != 4)
    if kind < 4:
        assert distance(picture.rgb, np.repeat(wanted[..., :colours], 3 // colours, 2)) == 0
        assert np.array_equal(picture.alpha, wanted[..., colours])
    else:
        plain = (planes[:colours] >> 8 * (planes.itemsize - 1)).astype(np.uint8)
        assert distance(picture.rgb, read_picture(psd(plain, kind=kind)).rgb) <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_that_photoshop_lays_under_clear_colours_is_taken_out(dtype):
    top = np.iinfo(dtype).max
    alpha = np.linspace(0.3, 1, 64)[None, :, None]
    laid = np.rint((noise() / 255 * alpha + 1 - alpha) * top).astype(dtype)
    opacity = np.rint(alpha * top).astype(dtype).repeat(48, 0)
    picture = read_picture(psd(np.dstack([laid, opacity]).transpose(2, 0, 1)))
    assert np.array_equal(picture.alpha, np.rint(opacity[..., 0] / top * 255)) and distance(picture.rgb, noise()) <= (5 if top == 255 else 1)


def test_a_psd_of_layers_alone_is_refused():
    told = b"8BIM" + struct.pack(">HHII?x", 1057, 0, 5, 1, False)
    with pytest.raises(ImageError, match="its layers alone, .*Maximize Compatibility"):
        read_picture(psd(noise().transpose(2, 0, 1), told, struct.pack(">Ihxx", 4, 1)))
    assert distance(read_picture(psd(noise().transpose(2, 0, 1), told)).rgb, noise()) == 0, "without layers there is nothing else"


def test_layers_of_sixteen_bits_tell_of_opacity_where_they_are():
    planes = np.full((4, 8, 8), 40_000, np.uint16)
    for count, clear in ((2, False), (-1, True)):
        held = bytes(8) + b"8BIMPatt" + struct.pack(">I2x", 1) + bytes(2) + b"8BIMLr16" + struct.pack(">Ih2x", 4, count)
        assert (read_picture(psd(planes, held=held)).alpha is not None) == clear


def test_palettes_with_transparency():
    palette = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90]))
    many = read_picture(raw_png(3, 1, 8, 3, b"\0\0\1\2", palette + chunk(b"tRNS", b"\x80\x20\xff")))
    assert pixels(many.alpha)[0].tolist() == [128, 32, 255]
    assert pixels(many.rgb)[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    one = read_picture(raw_png(3, 1, 8, 3, b"\0\0\1\2", palette + chunk(b"tRNS", b"\xff\0\xff")))
    assert pixels(one.alpha)[0].tolist() == [255, 0, 255]
    both = Image.merge("PA", [Image.new("P", (4, 4)), Image.new("L", (4, 4), 77)])
    assert pixels(read_picture(both).alpha).max() == 77


def test_a_damaged_text_in_a_png_is_left_out():
    plain = saved(smooth())
    for kind in (b"tEXt", b"iCCP", b"prVt"):
        damaged = chunk(kind, b"Title\0\0words").replace(b"words", b"swords"[:5])
        assert distance(read_picture(plain[:33] + damaged + plain[33:]).rgb, smooth()) == 0
    with pytest.raises(ImageError, match="damaged"):
        read_picture(plain[:-20] + b"x" + plain[-19:])


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 10, 10), (10, 250, 10))]
    for format in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        source = saved(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert distance(read_picture(source).rgb, frames[0]) == 0, format
    clear = frames[0].quantize(2)
    picture = read_picture(saved(clear, "GIF", transparency=clear.getpixel((0, 0))))
    assert pixels(picture.alpha).max() == 0


def test_a_tiff_in_ycbcr():
    image = smooth().convert("YCbCr")
    for options in ({"compression": "tiff_lzw"}, {"compression": "jpeg", "quality": 95}):  # raw needs Pillow 13
        assert distance(read_picture(saved(image, "TIFF", **options)).rgb, smooth()) <= 8


def test_a_jpeg_without_its_end_mark_is_whole_and_one_cut_short_is_not():
    data = saved(Image.fromarray(noise()), "JPEG", exif=photo_exif(6))
    for other in (data[:-2], data[:-1], data[:-2] + bytes(9999), data + b"\xff\xda and what a phone puts behind it"):
        picture = read_picture(other)
        assert distance(picture.rgb, read_picture(data).rgb) == 0 and picture.exif == read_picture(data).exif
    scans = saved(Image.fromarray(noise()), "JPEG", progressive=True)
    assert distance(read_picture(scans + b"\xff\xda and more").rgb, read_picture(scans).rgb) == 0
    for short in (data[:-6], data[:-20], data[: len(data) // 2], data[: len(data) // 2] + bytes(9999), scans[: scans.rindex(b"\xff\xda")]):
        with pytest.raises(ImageError, match="cut short"):
            read_picture(short)


def cmyk_jpeg(planes: np.ndarray) -> bytes:
    return saved(Image.frombytes("CMYK", (32, 32), planes.tobytes()), "JPEG", quality=100)


def flat_cmyk(*inks) -> np.ndarray:
    return np.full((32, 32, 4), inks, np.uint8)


INKS = [((0, 0, 0, 0), (255, 255, 255)), ((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 255), (0, 0, 0))]


@pytest.mark.parametrize("inks, rgb", INKS)
def test_cmyk_jpegs_are_not_inverted(inks, rgb):
    source = cmyk_jpeg(flat_cmyk(*inks))
    assert any(s.startswith(b"Adobe") for s in jpeg_segments(source)[0xEE])
    assert distance(read_picture(source).rgb, np.full((32, 32, 3), rgb)) <= 2
    tiff = saved(Image.frombytes("CMYK", (32, 32), flat_cmyk(*inks).tobytes()), "TIFF")
    assert distance(read_picture(tiff).rgb, np.full((32, 32, 3), rgb)) == 0


def test_a_ycck_jpeg():
    """The same with its Adobe marker saying YCCK: libjpeg takes Y, Cb, Cr for 255 - CMY, and Adobe inverts all."""
    y, cb, cr, k = 179, 171, 1, 255  # no cyan, all magenta and yellow, no black
    source = bytearray(cmyk_jpeg(255 - flat_cmyk(y, cb, cr, k)))  # Pillow inverts when it writes
    at = source.index(b"Adobe") + 11
    assert source[at] == 0
    source[at] = 2
    found = read_picture(bytes(source))
    assert distance(found.rgb, np.full((32, 32, 3), (255, 0, 0))) <= 4


# ---- colour profiles ---------------------------------------------------------------------------


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("profile", [ADOBE_RGB, WIDE], ids=["adobe", "wide"])
def test_colours_go_to_srgb_and_come_back(format, profile):
    lossless = {"webp": {"lossless": True}, "jpeg": {"quality": 100, "subsampling": 0}}.get(format, {})
    wide = ImageCms.profileToProfile(smooth(), io.BytesIO(SRGB), io.BytesIO(profile), 1)
    source = saved(wide, format, icc_profile=profile, **lossless)
    stored = opened(source).convert("RGB")
    picture = read_picture(source)
    assert distance(stored, smooth()) > 8
    assert distance(picture.rgb, smooth()) <= (16 if format == "jpeg" else 3)
    result = rewrap(picture, picture.rgb)
    assert result.info["icc_profile"] == profile and distance(result, stored) <= 2
    if format in ("png", "tiff"):
        assert distance(opened(written(result, format)), stored) <= 2


def test_the_conversion_is_the_one_of_the_primaries():
    """Adobe RGB by its definition: gamma 563/256, its matrix, the transfer curve of sRGB."""
    adobe = np.array([[[120, 140, 100], [200, 190, 60], [90, 90, 90]]], np.uint8)
    light = (adobe / 255) ** 2.19921875
    to_xyz = [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    to_linear = [[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]]
    linear = (light @ np.array(to_xyz).T @ np.array(to_linear).T).clip(0, 1)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    image = Image.fromarray(adobe)
    image.info["icc_profile"] = ADOBE_RGB
    assert distance(read_picture(image).rgb, expected.round()) <= 1


@pytest.mark.parametrize("space, mark, counts", [(65535, b"R03", True), (2, b"R98", True), (65535, b"R98", False), (1, b"R03", False)])
def test_a_camera_may_tell_in_exif_alone_that_its_colours_are_adobe_rgb(space, mark, counts):
    wide = ImageCms.profileToProfile(smooth(), io.BytesIO(SRGB), io.BytesIO(ADOBE_RGB), 1)
    tree = {EXIF: {0xA001: (3, 1, struct.pack("<H", space)), exif_module.INTEROP: {1: (2, 4, mark + b"\0")}}}
    data = saved(wide, "JPEG", exif=exif_module.pack_exif(tree, "<"), quality=100, subsampling=0)
    picture = read_picture(data)
    assert distance(picture.rgb, smooth() if counts else opened(data)) <= (9 if counts else 0)
    assert distance(opened(written(rewrap(picture, picture.rgb), "png")), opened(data)) <= 2
    assert (picture.icc is not None) == counts and read_picture(saved(wide, "JPEG", icc_profile=SRGB, exif=exif_module.pack_exif(tree, "<"))).icc == SRGB


ADOBE_IN_EXIF = exif_module.pack_exif({EXIF: {0xA001: (3, 1, b"\xff\xff"), exif_module.INTEROP: {1: (2, 4, b"R03\0")}}}, "<")


def test_exif_is_not_asked_for_colours_that_the_file_itself_tells():
    """A converter has brought the photograph to sRGB, and left the camera's EXIF."""
    exif = chunk(b"eXIf", ADOBE_IN_EXIF.removeprefix(b"Exif\0\0"))
    for data in (told_in_numbers(45455, more=exif), told_in_numbers(45455, SRGB_POINTS, more=exif), told_in_numbers(100_000, more=chunk(b"sRGB", b"\0") + exif)):
        picture = read_picture(data)
        assert picture.icc is None and distance(picture.rgb, noise()) == 0
    assert read_picture(raw_png(1, 1, 8, 2, b"\0abc", exif)).icc == read_picture(told_in_numbers(0, more=exif)).icc is not None
    box = b"uuidJpgTiffExif->JP2" + ADOBE_IN_EXIF.removeprefix(b"Exif\0\0")
    data = saved(smooth(), "JPEG2000")  # which says sRGB
    at = data.index(b"jp2c") - 4
    picture = read_picture(data[:at] + struct.pack(">I", 4 + len(box)) + box + data[at:])
    assert picture.icc is None and distance(picture.rgb, smooth()) == 0 and picture.exif


@pytest.mark.parametrize("mode, profile", [("L", GREY_LINEAR), ("CMYK", None), ("RGB", SCANNER)], ids=["grey", "press", "scanner"])
def test_a_picture_that_is_brought_to_srgb_for_good_does_not_say_adobe_rgb(mode, profile):
    """Its EXIF said so, and the result was read as that."""
    options = {"icc_profile": profile} if profile else {}
    picture = read_picture(saved(smooth().convert(mode), "JPEG", exif=ADOBE_IN_EXIF, quality=100, **options))
    again = read_picture(written(rewrap(picture, picture.rgb), "png"))
    assert again.icc is None and distance(again.rgb, picture.rgb) == 0 and again.exif


def told_in_numbers(gamma: int, points: tuple[int, ...] = (), rows: np.ndarray = noise(), more: bytes = b"") -> bytes:
    """A PNG with gAMA and, of points, cHRM, both times 100 000."""
    extra = chunk(b"gAMA", struct.pack(">I", gamma)) + (chunk(b"cHRM", struct.pack(f">{len(points)}I", *points)) if points else b"") + more
    height, width = rows.shape[:2]
    return raw_png(width, height, 8, 2, b"".join(b"\0" + row.tobytes() for row in rows), extra)


def test_what_a_png_tells_of_its_colours_in_numbers_is_a_profile():
    """Adobe RGB, and light itself: as with the profile, and the result has them in one."""
    wide = np.asarray(ImageCms.profileToProfile(smooth(), io.BytesIO(SRGB), io.BytesIO(ADOBE_RGB), 1))
    adobe = read_picture(told_in_numbers(45472, (31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000), wide))
    assert distance(adobe.rgb, smooth()) <= 3
    assert distance(opened(written(rewrap(adobe, adobe.rgb), "png")), wide) <= 2
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    light = read_picture(told_in_numbers(100_000, rows=ramp))
    curve = np.where(ramp <= 0.0031308 * 255, 12.92 * ramp, (1.055 * (ramp / 255) ** (1 / 2.4) - 0.055) * 255)
    assert distance(light.rgb, curve.round()) <= 1
    assert distance(ImageCms.profileToProfile(rewrap(light, light.rgb), io.BytesIO(light.icc), io.BytesIO(SRGB), 1), light.rgb) <= 7


SRGB_POINTS = 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000


@pytest.mark.parametrize(
    "gamma, points, more",
    [
        (45455, (), b""),
        (45455, SRGB_POINTS, b""),
        (100_000, SRGB_POINTS, chunk(b"sRGB", b"\0")),
        (0, (), b""),
        (45455, (31270, 0, *SRGB_POINTS[2:]), b""),
        (45455, (33000, 33000) * 4, b""),
        (45455, SRGB_POINTS[:4], b""),
        (45455, (), chunk(b"gAMA", b"\0\1")),
    ],
)
def test_numbers_of_srgb_or_of_no_colours_change_no_pixel(gamma, points, more):
    picture = read_picture(told_in_numbers(gamma, points, more=more))
    assert picture.icc is None and distance(picture.rgb, noise()) == 0


@pytest.mark.parametrize("gamma, same", [(55556, False), (43000, False), (44000, True)])
def test_the_gamma_of_old_macs_is_a_profile_and_one_within_five_percent_is_srgb(gamma, same):
    assert (read_picture(told_in_numbers(gamma)).icc is None) == same


def test_a_png_with_a_profile_of_more_than_a_megabyte_is_read():
    """Printers and scanners have such ones; Pillow writes it, and refuses to read what it wrote."""
    large = ADOBE_RGB + noise(2000, 300).tobytes()
    large = struct.pack(">I", len(large)) + large[4:]
    wide = ImageCms.profileToProfile(smooth(), io.BytesIO(SRGB), io.BytesIO(ADOBE_RGB), 1)
    with pytest.raises(ValueError, match="MAX_TEXT_CHUNK"):
        opened(saved(wide, icc_profile=large))
    picture = read_picture(saved(wide, icc_profile=large))
    assert distance(picture.rgb, smooth()) <= 3 and picture.icc == large
    again = read_picture(written(rewrap(picture, picture.rgb), "png"))
    assert distance(again.rgb, picture.rgb) <= 2 and again.icc == large


@pytest.mark.parametrize("kind, head", [(b"iCCP", b"a\0\0"), (b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")])
@pytest.mark.parametrize("behind", [False, True])
def test_what_unpacks_to_very_much_in_a_png_is_left_out_and_its_pixels_read(kind, head, behind):
    bomb = chunk(kind, head + zlib.compress(bytes(60_000_000)))
    plain = raw_png(1, 1, 8, 2, b"\0\x10\x20\x30")
    at = len(plain) - 12 if behind else 33
    picture = read_picture(plain[:at] + bomb + plain[at:])
    assert picture.rgb.getpixel((0, 0)) == (16, 32, 48) and picture.icc is None


def test_of_very_many_packed_texts_no_more_is_unpacked_than_pillow_would(monkeypatch):
    unpacked = []

    class Counting:
        def __init__(self) -> None:
            self.made, self.unconsumed_tail = zlib_decompressobj(), b""

        def decompress(self, data: bytes, most: int) -> bytes:
            unpacked.append(part := self.made.decompress(data, most))
            return part

    zlib_decompressobj = zlib.decompressobj
    monkeypatch.setattr("stylenorm.resources.zlib.decompressobj", Counting)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 5500)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1100)
    texts = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000))) * 100
    plain = raw_png(1, 1, 8, 2, b"\0\x10\x20\x30")
    lean, _ = lean_png(io.BytesIO(plain[:33] + texts + plain[33:]))
    assert len(unpacked) == 5 and lean.getvalue().count(b"zTXt") == 5


@pytest.mark.parametrize("name", [b"gamma", b"transparency", b"duration", b"interlace", b"bbox", b"default_image"])
def test_a_text_in_a_png_may_have_any_name(name):
    """Pillow keeps texts beside what it finds out, under their names."""
    text = chunk(b"tEXt", name + b"\0words")
    data = raw_png(1, 1, 8, 2, b"\0\x10\x20\x30", text)
    assert read_picture(data[:-12] + text + data[-12:]).rgb.getpixel((0, 0)) == (16, 32, 48)


def test_an_srgb_profile_changes_no_pixel():
    image = Image.fromarray(noise())
    picture = read_picture(saved(image, icc_profile=SRGB))
    assert distance(picture.rgb, image) == 0
    result = rewrap(picture, picture.rgb)
    assert distance(result, image) == 0 and result.info["icc_profile"] == SRGB


def test_srgb_is_known_by_what_it_does_and_not_by_its_name():
    assert colour.is_srgb(colour.open_profile(SRGB))
    assert not colour.is_srgb(colour.open_profile(ADOBE_RGB))
    same_primaries = rgb_profile((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # but another curve
    assert not colour.is_srgb(colour.open_profile(same_primaries))


@pytest.mark.parametrize("exponent, same", [(2.4, True), (2.34, False)])
def test_a_profile_that_is_near_to_srgb_is_none_all_the_same(exponent, same):
    curve = b"para\0\0\0\0\0\3\0\0" + fixed(exponent, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    profile = rgb_profile((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), curve=curve)
    assert colour.is_srgb(colour.open_profile(profile)) == same


BROKEN = [b"junk", ADOBE_RGB[:100], ADOBE_RGB[:300], ADOBE_RGB[:132] + b"\xff" * 60 + ADOBE_RGB[192:], b"\0" * 600]


@pytest.mark.parametrize("profile", [*BROKEN, cmyk_profile(), GREY_LINEAR])
def test_a_broken_or_foreign_profile_is_ignored_and_the_pixels_kept(profile):
    picture = read_picture(saved(Image.fromarray(noise()), icc_profile=profile))
    assert picture.icc is None and distance(picture.rgb, noise()) == 0
    assert "icc_profile" not in rewrap(picture, picture.rgb).info


def test_a_cmyk_profile_is_used_with_black_for_its_darkest():
    planes = flat_cmyk(0, 0, 0, 0)
    planes[:, 8:16] = (255, 255, 255, 255)
    planes[:, 16:24] = (0, 255, 0, 0)
    planes[:, 24:] = (0, 0, 0, 128)
    image = Image.frombytes("CMYK", (32, 32), planes.tobytes())
    picture = read_picture(saved(image, "TIFF", icc_profile=cmyk_profile()))
    found = pixels(picture.rgb)[0]
    assert found[0].min() >= 253 and found[8].max() <= 40
    assert found[16][0] > found[16][1] + 40 and found[16][0] > found[16][2]  # reddish
    naive = pixels(image.convert("RGB"))[0]
    assert np.abs(found[16] - naive[16]).max() > 20  # Pillow's formula says pure magenta
    assert picture.icc is None and "icc_profile" not in rewrap(picture, picture.rgb).info


def test_a_scanners_profile_is_used_and_not_kept():
    """It has a way out of its colours and none back."""
    picture = read_picture(saved(Image.new("RGB", (4, 4), "red"), icc_profile=SCANNER))
    assert picture.icc is None and "icc_profile" not in rewrap(picture, picture.rgb).info
    assert np.abs(pixels(picture.rgb) - 188).max() <= 2


def test_a_grey_profile_is_used():
    picture = read_picture(saved(Image.new("L", (4, 4), 64), icc_profile=GREY_LINEAR))
    assert np.abs(pixels(picture.rgb) - 137).max() <= 1  # a quarter of the light
    assert picture.icc is None


def test_a_grey_picture_with_an_rgb_profile():
    picture = read_picture(saved(Image.new("L", (4, 4), 100), icc_profile=WIDE))
    assert picture.icc == WIDE and pixels(picture.rgb).std() < 1 and pixels(picture.rgb)[0, 0, 0] != 100


def test_a_picture_keeps_alpha_and_profile_together():
    picture = read_picture(saved(Image.fromarray(noise(16, 12, 4)), icc_profile=ADOBE_RGB))
    data = written(rewrap(picture, picture.rgb), "png")
    assert opened(data).mode == "RGBA" and icc_block(data, "png") == ADOBE_RGB


# ---- what can be read from ---------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same(tmp_path):
    path = tmp_path / "a.dat"  # told by content
    path.write_bytes(saved(smooth()))
    copy = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    pipe = subprocess.Popen([sys.executable, "-c", copy, str(path)], stdout=subprocess.PIPE)
    after_a_line = io.BytesIO(b"a line\n" + path.read_bytes())
    after_a_line.readline()
    with path.open("rb") as file, pipe:
        data = path.read_bytes()
        sources = [path, str(path), file, pipe.stdout, data, bytearray(data), memoryview(data), after_a_line]
        sources += [smooth(), np.asarray(smooth()), Image.open(path)]
        for source in sources:
            assert distance(read_picture(source).rgb, smooth()) == 0, type(source)
    picture = read_picture(path)
    assert read_picture(picture) is picture
    assert picture.name == str(path) and read_picture(path, name="it").name == "it"


def test_arrays_of_every_kind():
    rgb = noise(5, 4)
    as_floats = rgb.astype(np.float32) / 255
    layouts = rgb[::-1][::-1], np.asfortranarray(rgb)
    for array in (rgb, as_floats, as_floats.astype(np.float64), rgb.astype(np.uint16) * 257, *layouts):
        assert distance(read_picture(array).rgb, rgb) == 0
    for grey in (rgb[..., 0], rgb[..., :1]):
        assert distance(read_picture(grey).rgb, np.repeat(rgb[..., :1], 3, 2)) == 0
    assert distance(read_picture(rgb[..., :2]).alpha, rgb[..., 1]) == 0
    assert distance(pixels(read_picture(rgb[..., 0] > 99).rgb)[..., 0], (rgb[..., 0] > 99) * 255) == 0


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_a_picture_of_one_pixel(format):
    if format in ("AVIF", "JPEG2000") and not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[format]):
        pytest.skip(f"this Pillow has no {format}")
    picture = read_picture(saved(Image.new("RGB", (1, 1), (9, 99, 200)), format))
    assert picture.size == (1, 1) and picture.format == format.lower()
    assert read_picture(written(rewrap(picture, picture.rgb), "png")).size == (1, 1)


def test_the_callers_image_is_left_alone():
    image = Image.fromarray(noise(8, 6, 4))
    image.info.update(exif=photo_exif(6), icc_profile=ADOBE_RGB, dpi=(72, 72))
    before = image.tobytes(), dict(image.info), image.size
    picture = read_picture(image)
    rewrap(picture, picture.rgb).info["new"] = 1
    written(image, "jpeg")
    assert (image.tobytes(), dict(image.info), image.size) == before
    plain = smooth()
    assert read_picture(plain).rgb is not plain


def test_nothing_stale_is_left_in_the_infos():
    picture = read_picture(saved(smooth(), "JPEG", exif=photo_exif(), comment=b"old", icc_profile=SRGB))
    assert picture.rgb.info == {}
    assert set(rewrap(picture, picture.rgb).info) == {"exif", "icc_profile", "dpi"}


# ---- mistakes ----------------------------------------------------------------------------------


def complaint(call, *arguments, **options) -> str:
    """The message of the ImageError that the call raises: one line."""
    with pytest.raises(ImageError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert isinstance(caught.value, StylenormError) and message.isprintable(), message
    return message


def test_paths_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.jpg"
    assert complaint(read_picture, path) == f"{path} does not exist; check the path"
    assert complaint(read_picture, tmp_path) == f"{tmp_path} is a folder, not a picture; name a file in it"
    path.write_bytes(b"")
    assert complaint(read_picture, path) == f"{path} is empty; get a whole copy of it"
    path.write_bytes(b"P")
    assert complaint(read_picture, path).startswith(str(path))
    path.write_bytes(b"some words about a picture")
    assert complaint(read_picture, path) == f"{path} is not a picture; use JPEG, PNG, WebP, TIFF, GIF or BMP"
    for suffix, told in ((".CR3", "is a camera's raw file; save it as JPEG,"), (".jxl", "is of a kind that is not read; save it as PNG or JPEG")):
        assert told in complaint(read_picture, path.rename(tmp_path / f"a{suffix}"))
        path = tmp_path / f"a{suffix}"
    if os.name != "nt":  # where links need rights
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
        assert "does not exist" in complaint(read_picture, path)
    assert "cannot be opened" in complaint(read_picture, "a\0b")
    assert "cannot be opened" in complaint(read_picture, "x" * 5000)
    assert "does not exist" in complaint(read_picture, "two\nlines \udc80.jpg")
    assert "does not exist" in complaint(read_picture, "")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_permissions(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(saved(smooth()))
    path.chmod(0)
    assert complaint(read_picture, path) == f"{path} may not be read; change its permissions"
    path.chmod(0o444)
    before = path.read_bytes()
    assert "may not be written" in complaint(write_picture, smooth(8, 8), path)
    tmp_path.chmod(0o555)
    assert "may not be written" in complaint(write_picture, smooth(), tmp_path / "b.png")
    tmp_path.chmod(0o755)
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before


def test_on_windows_a_file_may_be_open_elsewhere(tmp_path, monkeypatch):
    def held(*_):
        error = PermissionError(errno.EACCES, "Access is denied")
        error.winerror = 5
        raise error

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr("stylenorm.drafts.PATIENCE", 0)
    told = "may not be written; close the program that has it open, if one has, or change the permissions or the place"
    assert told in complaint(write_picture, smooth(8, 8), tmp_path / "a.png") and not os.listdir(tmp_path)


@pytest.mark.parametrize("source", [None, 7, object(), [1, 2], {}])
def test_what_is_no_source(source):
    assert type(source).__name__ in complaint(read_picture, source)


def test_a_text_file_object():
    assert "binary mode" in complaint(read_picture, io.StringIO("text"))


@pytest.mark.parametrize(
    "array, word",
    [
        (np.zeros((4, 4, 5)), "shape"),
        (np.zeros((2, 2, 2, 3)), "shape"),
        (np.zeros(4), "shape"),
        (np.zeros((0, 4, 3)), "no pixels"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), complex), "complex"),
        (np.full((4, 4), "a"), "type"),
        (np.full((4, 4), 255.0), "outside"),
        (np.full((4, 4), -0.1), "outside"),
        (np.full((4, 4), np.nan), "outside"),
    ],
)
def test_arrays_that_are_no_picture(array, word):
    assert complaint(read_picture, array).startswith("the array") and word in complaint(read_picture, array)


def test_too_many_pixels_are_told_before_they_are_decoded():
    huge = raw_png(20_000, 20_000, 8, 2, b"")
    message = "a.png has 400 megapixels, more than the limit of 200; resize it, or set STYLENORM_MEGAPIXELS to more"
    assert complaint(read_picture, huge, name="a.png") == message
    assert "40000 megapixels" in complaint(read_picture, raw_png(200_000, 200_000, 1, 0, b""))
    assert "0.003072 megapixels" in complaint(read_picture, smooth(), max_pixels=3071)
    assert "limit of 0.003071; resize it or raise the limit" in complaint(read_picture, saved(smooth()), max_pixels=3071)
    assert "limit" in complaint(read_picture, noise(), max_pixels=3071)
    assert read_picture(noise(), max_pixels=3072).size == (64, 48)


def test_the_limit_is_the_users_to_set(monkeypatch):
    picture = saved(smooth())
    monkeypatch.setenv("STYLENORM_MEGAPIXELS", "0.003")
    assert "limit of 0.003; " in complaint(read_picture, picture)
    assert read_picture(picture, max_pixels=4000).size == (64, 48)
    monkeypatch.setenv("STYLENORM_MEGAPIXELS", "0.0031")
    assert read_picture(picture).size == (64, 48)
    for nonsense in ("many", "-1", "nan"):
        monkeypatch.setenv("STYLENORM_MEGAPIXELS", nonsense)
        assert "STYLENORM_MEGAPIXELS" in complaint(read_picture, picture)


def test_the_limit_is_ours_and_not_pillows():
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow would warn above it and fail at its double
        for format in ("PNG", "JPEG", "BMP", "GIF"):
            assert read_picture(saved(smooth(), format)).size == (64, 48)
        assert Image.MAX_IMAGE_PIXELS == 1000


def test_pillows_own_limit_is_one_sentence(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    source = raw_tiff(64, 48, 8, 1, noise(channels=1).tobytes())
    try:  # whether its TIFF reader minds depends on the version of Pillow
        assert read_picture(source).size == (64, 48)
    except ImageError as error:
        assert "MAX_IMAGE_PIXELS" in str(error)


def test_too_little_memory_is_one_sentence(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", load)
    assert "memory" in complaint(read_picture, smooth())


def whole(format: str) -> bytes:
    """A file with everything in it that its format holds."""
    image = Image.fromarray(noise(48, 40, 4 if format in ("PNG", "WEBP", "TIFF") else 3))
    if format == "GIF":
        return saved(image.quantize(64), "GIF", save_all=True, append_images=[smooth(48, 40).quantize(64)])
    image.info.update(exif=photo_exif(), icc_profile=ADOBE_RGB, dpi=(144, 72))
    return written(image, format)


FUZZED = ("JPEG", "PNG", "WEBP", "TIFF", "GIF")


@pytest.mark.parametrize("format", FUZZED)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(format, share):
    """A whole picture, half of it grey, would be worse than a message."""
    if format in ("TIFF", "GIF"):  # a TIFF of Pillow's has its tags first, a GIF has a second frame
        source = saved(Image.fromarray(noise()), format)
    else:
        source = whole(format)
    source = source[: int(len(source) * share)]
    assert complaint(read_picture, source, name="a.jpg").startswith("a.jpg is damaged, cut short or")


def survives(source: bytes) -> None:
    """A Picture that can be written again, or an ImageError: nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow grumbles about what it finds in damaged EXIF
        try:
            picture = read_picture(source, max_pixels=100_000)
        except ImageError as error:
            assert str(error).isprintable()
            return
        result = rewrap(picture, fit(picture.rgb, 32))
        for format in ("jpeg", "tiff"):
            assert written(result, format)


def repaired(png: bytes) -> bytes:
    """With true checksums, or Pillow would look no further."""
    at, parts = 8, [png[:8]]
    while at + 12 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        parts.append(chunk(kind, png[at + 8 : at + 8 + length]))
        at += 12 + length
    return b"".join(parts)


@pytest.mark.parametrize("format", FUZZED)
def test_cut_anywhere_a_file_is_read_or_refused(format):
    source = whole(format)
    for end in np.linspace(1, len(source) - 1, 30).astype(int):
        survives(source[:end])


@pytest.mark.parametrize("format", FUZZED)
def test_with_any_bytes_changed_a_file_is_read_or_refused(format):
    source = whole(format)
    for seed in range(100):
        random = np.random.default_rng(seed)
        damaged = bytearray(source)
        reach = len(source) if seed % 2 else min(len(source), 600)  # headers matter more
        for at in random.integers(0, reach, random.integers(1, 6)):
            damaged[at] = random.integers(256)
        survives(repaired(bytes(damaged)) if format == "PNG" and seed % 4 else bytes(damaged))


# ---- writing -----------------------------------------------------------------------------------


def test_a_jpeg_keeps_its_colour_at_full_resolution():
    data = written(smooth(), "jpeg")
    frame = jpeg_segments(data)[0xC0][0]
    assert [frame[7 + 3 * i] for i in range(3)] == [0x11, 0x11, 0x11]
    assert len(written(smooth(), "jpeg", quality=30)) < len(data)
    assert len(written(Image.fromarray(noise()), "webp", quality=30)) < len(written(Image.fromarray(noise()), "webp"))


def test_a_tiff_is_compressed():
    data = written(smooth(), "tiff")
    tags, _ = directory(data)
    assert tags[259] == 8 and tags[277] == 3 and len(data) < 64 * 48 * 3


@pytest.mark.parametrize("format", WRITTEN)
def test_nonsense_in_the_infos_is_left_out(format):
    image = smooth()
    image.info.update(exif=b"Exif\0\0junk", dpi=("many", 0), icc_profile=None)
    picture = read_picture(written(image, format))
    assert picture.exif is picture.dpi is picture.icc is None


@pytest.mark.parametrize("format", WRITTEN)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"])
def test_images_of_every_mode_can_be_written(format, mode):
    image = Image.new("I;16", (8, 8), 65535) if mode == "I;16" else Image.new("L", (8, 8), 255)
    image = image if mode in ("L", "I;16") else image.convert("RGB" if mode == "LAB" else mode).convert(mode)
    assert pixels(read_picture(written(image, format)).rgb).min() >= 253


def test_formats_and_targets_that_cannot_be_written(tmp_path):
    path, listed = tmp_path / "a.bmp", "use .jpg, .jpeg, .png, .webp, .tif, .tiff, .avif, .heic, .heif, .jfif, .jpe"
    assert complaint(write_picture, smooth(), path) == f"{path}: no format ending in .bmp can be written; {listed}"
    assert "without a suffix" in complaint(write_picture, smooth(), tmp_path / "a")
    assert "name the format" in complaint(write_picture, smooth(), io.BytesIO())
    assert "xcf" in complaint(write_picture, smooth(), io.BytesIO(), format="xcf")
    assert "int" in complaint(write_picture, smooth(), 7, format="png")
    for no_image in (np.zeros((4, 4, 3), np.uint8), read_picture(smooth()), None):
        assert "give a PIL image" in complaint(write_picture, no_image, tmp_path / "a.png")
    for quality in (0, 101, -1, "high", None):
        assert "use 1 to 100" in complaint(write_picture, smooth(), tmp_path / "a.jpg", quality=quality)
    assert "there is no folder" in complaint(write_picture, smooth(), tmp_path / "no" / "a.png")
    assert "null byte" in complaint(write_picture, smooth(), tmp_path / "a\0b.png")
    (tmp_path / "b.png").mkdir()
    assert "is a folder" in complaint(write_picture, smooth(), tmp_path / "b.png")
    assert "cannot be written" in complaint(write_picture, smooth(), io.StringIO(), format="png")
    assert os.listdir(tmp_path) == ["b.png"]


NEEDS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


@pytest.mark.parametrize("format, side", [("jpeg", 65501), ("webp", 16384), pytest.param("avif", 32769, marks=NEEDS_AVIF)])
def test_a_side_too_long_for_the_format(tmp_path, format, side):
    long = Image.new("RGB", (side, 1))
    assert "use PNG" in complaint(write_picture, long, tmp_path / "a", format=format)
    assert opened(written(long.crop((0, 0, side - 1, 1)), format)).size == (side - 1, 1)
    assert "cannot be encoded" in complaint(write_picture, Image.new("RGB", (0, 5)), tmp_path / "a", format=format)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "size, longest",
    [((12000, 11888), 11992), ((11944, 11939), 11941), ((11936, 11936), 0), ((20000, 31), 4216), ((30, 4217), 4216), ((4216, 31), 0), ((65536, 64), 0)],
)
def test_what_the_encoder_of_heic_cannot_take_is_told_before(size, longest):
    if not longest:
        return encode.check_sides(size, "heic", "a.heic")
    said = complaint(encode.check_sides, size, "heic", "a.heic", advice="give {longest}")
    assert f"holds at most {longest} pixels a side in these proportions" in said and said.endswith(f"; give {longest}")
    encode.check_sides(fitted(size, longest), "heic", "a.heic")


def test_a_strip_is_as_long_in_heic_as_its_encoder_takes_it():
    pytest.importorskip("pillow_heif")
    strip = Image.new("RGB", (4217, 31))
    assert "use PNG" in complaint(write_picture, strip, io.BytesIO(), format="heic")
    assert read_picture(written(strip.crop((0, 0, 4216, 31)), "heic")).size == (4216, 31)


def test_of_exif_too_long_for_a_jpeg_the_makers_note_is_left_out_first():
    picture = read_picture(saved(smooth(), exif=photo_exif(note=bytes(70_000))))
    assert len(picture.exif) > 70_000
    exif = opened(written(rewrap(picture, picture.rgb), "jpeg")).getexif()
    photo = exif.get_ifd(EXIF)
    assert 0x927C not in photo and photo[0x9286] == b"ASCII\0\0\0a comment" and exif.get_ifd(GPS)
    assert len(exif_block(written(rewrap(picture, picture.rgb), "png"), "png")) > 70_000
    exif = Image.Exif()
    exif[0x010E] = "long" * 17_500
    picture = read_picture(saved(smooth(), exif=exif))
    assert exif_block(written(rewrap(picture, picture.rgb), "jpeg"), "jpeg") is None


def test_the_format_argument_counts_more_than_the_suffix(tmp_path):
    for name in ("jpg", "JPEG"):
        write_picture(smooth(), tmp_path / "a.png", format=name)
        assert (tmp_path / "a.png").read_bytes()[:2] == b"\xff\xd8"


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_a_written_file_has_the_mode_of_any_new_file(tmp_path):
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            write_picture(smooth(), tmp_path / f"{mask}.png")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}.png").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.png").symlink_to("real.png")
    write_picture(smooth(), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink() and read_picture(tmp_path / "real.png").size == (64, 48)


def test_a_file_too_large_for_the_disk_leaves_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.png"
    write_picture(smooth(), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may grow beyond it
    try:
        message = complaint(write_picture, Image.fromarray(noise(200, 200)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.fullmatch(rf"{re.escape(str(path))} cannot be written \(.+\); try another place", message)
    assert os.listdir(tmp_path) == ["a.png"] and path.read_bytes() == before


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="pipes have no names there")
def test_a_pipe_of_the_shell_is_written_to():
    read_end, write_end = os.pipe()
    write_picture(Image.new("RGB", (4, 4)), f"/dev/fd/{write_end}", format="png")
    os.close(write_end)
    with open(read_end, "rb") as file:
        assert Image.open(io.BytesIO(file.read())).size == (4, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    path, received = tmp_path / "pipe.png", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    write_picture(smooth(), path)
    reader.join(60)
    assert distance(opened(received[0]), smooth()) == 0 and stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/full") or os.access("/dev", os.W_OK), reason="a mistake would replace it")
def test_a_full_disk():
    assert "No space left" in complaint(write_picture, smooth(), "/dev/full", format="png")


@pytest.mark.parametrize("sub", [True, False])
def test_a_cameras_raw_file_is_told_to_be_one_and_its_preview_not_painted(sub):
    with tifffile.TiffWriter(file := io.BytesIO()) as tiff:
        tiff.write(noise(12, 9), photometric="rgb", subfiletype=1, subifds=int(sub), metadata=None)
        tiff.write(noise(48, 36)[..., 0], photometric=32803, metadata=None)  # a colour filter's
    assert "raw file" in complaint(read_picture, file.getvalue())
    with tifffile.TiffWriter(file := io.BytesIO()) as tiff:
        tiff.write(noise(12, 9), photometric="rgb", subfiletype=1, metadata=None)  # and nothing behind it
    assert read_picture(file.getvalue()).size == (12, 9)


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_picture(smooth(), tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


# ---- tensors, sizes, colour --------------------------------------------------------------------


def test_tensors_and_images_are_the_same_both_ways():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_tensor(Image.fromarray(noise(7, 5)))
    assert tensor.shape == (1, 3, 5, 7) and tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert torch.equal(tensor[0, :, 2, 3], torch.from_numpy(noise(7, 5)[2, 3]).float() / 255)
    for dtype in (torch.float32, torch.float64):
        assert distance(to_image(tensor.to(dtype)), noise(7, 5)) == 0
    assert distance(to_image(tensor[0].requires_grad_()), noise(7, 5)) == 0
    assert distance(to_image(tensor.detach().bfloat16()), noise(7, 5)) <= 1


def test_an_image_is_rounded_and_clamped():
    torch = pytest.importorskip("torch")
    values = torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0, float("inf"), -float("inf")])
    found = pixels(to_image(values.expand(3, 1, 9)))[0, :, 1].tolist()
    assert found == [0, 0, 0, 1, 255, 255, 255, 255, 0]


def test_tensors_that_are_no_image():
    torch = pytest.importorskip("torch")
    for shape in ((1, 4, 5, 5), (2, 3, 5, 5), (5, 5), (3, 0, 5)):
        assert str(shape) in complaint(to_image, torch.zeros(shape))
    broken = torch.zeros(3, 4, 4)
    broken[1, 2, 3] = float("nan")
    assert "NaN" in complaint(to_image, broken)
    for image in (smooth().convert("L"), smooth().convert("RGBA")):
        assert image.mode in complaint(to_tensor, image)
        assert image.mode in complaint(rewrap, read_picture(smooth()), image)
        assert image.mode in complaint(keep_color, image, smooth())


@pytest.mark.parametrize(
    "call, size, given, expected",
    [
        (fit, 32, (64, 48), (32, 24)),
        (fit, 128, (64, 48), (128, 96)),
        (fit, 32, (48, 64), (24, 32)),
        (fit, 10, (1000, 3), (10, 1)),
        (fit, 1, (64, 48), (1, 1)),
        (short_side, 24, (64, 48), (32, 24)),
        (short_side, 96, (48, 64), (96, 128)),
        (short_side, 2, (1, 1000), (2, 2000)),
        (fit_even, 32, (64, 47), (32, 24)),
        (fit_even, 30, (48, 64), (22, 30)),
        (fit_even, 10, (1000, 3), (10, 2)),
        (fit_even, 64, (64, 43), (64, 44)),
    ],
)
def test_sizes(call, size, given, expected):
    assert call(Image.new("RGB", given), size).size == expected


def test_a_picture_that_fits_is_left_as_it_is():
    image = Image.fromarray(noise())
    assert fit(image, 64) is image and short_side(image, 48) is image and fit_even(image, 64) is image
    assert short_side(Image.new("RGB", (9, 2000)), 8).size == (8, 1778)
    with pytest.raises(ImageError, match="2000 x 3 px cannot be enlarged to a shorter side of 512 px"):
        short_side(Image.new("RGB", (2000, 3)), 512)  # to 175 megapixels
    for call in (fit, short_side):
        assert all("use 1 or more" in complaint(call, image, size) for size in (0, 0.5, -3))
    assert all("use 1 or more" in complaint(fit, image, size) for size in (np.inf, np.nan, "64"))
    assert "a PIL image is wanted" in complaint(fit, "a.jpg", 64)


def test_large_pictures_are_painted_at_1280_by_960_pixels_whatever_their_proportions():
    assert usual_side((1280, 960)) is None and usual_side((1, 1)) is None
    assert usual_side((2560, 1920)) == usual_side((1920, 2560)) == 1280 and usual_side((1281, 960)) == 1280
    assert usual_side((12_288, 400)) == 6144
    assert [side_to_paint((2560, 1920), given) for given in (None, FULL, 500)] == [1280, None, 500]
    assert fitted((64, 48), None) == (64, 48) and fitted((64, 48), 32) == (32, 24) and fitted((1000, 3), 10) == (10, 1)


def luma(image) -> np.ndarray:
    return np.asarray(image) @ np.array([0.299, 0.587, 0.114])


def test_a_picture_keeps_its_own_colour_exactly():
    image = Image.fromarray(noise(97, 301))
    assert distance(keep_color(image, image), image) == 0


def test_brightness_is_the_stylized_ones_and_hue_the_originals():
    stylized, original = Image.fromarray(noise(80, 300, seed=1)), Image.fromarray(noise(80, 300, seed=2))
    result = keep_color(stylized, original)
    assert np.abs(luma(result) - luma(stylized)).max() <= 0.6  # rounding of three channels, nothing clipped
    wanted = pixels(original) - luma(original)[..., None]
    found = pixels(result) - luma(result)[..., None]
    lengths = np.linalg.norm(wanted, axis=2) * np.linalg.norm(found, axis=2)
    clear = np.linalg.norm(found, axis=2) > 20
    cosine = (wanted * found).sum(2)[clear] / lengths[clear]
    assert clear.mean() > 0.5 and cosine.min() > 0.99
    assert (np.linalg.norm(found, axis=2) <= np.linalg.norm(wanted, axis=2) + 2).all()


def test_black_white_and_grey_take_no_colour():
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    for level in (0, 255):
        assert (pixels(keep_color(Image.new("RGB", (4, 4), (level,) * 3), red)) == level).all()
    grey = keep_color(red, Image.new("RGB", (4, 4), (90, 90, 90)))
    assert (pixels(grey) == 76).all()


def test_an_original_of_another_size_is_resized():
    assert keep_color(smooth(80, 60), smooth(40, 30)).size == (80, 60)
    assert distance(keep_color(smooth(80, 60), smooth(40, 30)), smooth(80, 60)) <= 4


# ---- good manners ------------------------------------------------------------------------------


def test_a_picture_is_read_without_torch_and_with_nothing_loaded_before(tmp_path):
    (tmp_path / "a.webp").write_bytes(saved(smooth(), "WEBP"))
    source = "import sys; from stylenorm.images import *; read_picture(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source, str(tmp_path / "a.webp")]).returncode == 0


def test_threads_do_not_disturb_each_other():
    sources = [saved(Image.fromarray(noise(seed=seed)), icc_profile=ADOBE_RGB) for seed in range(8)]
    alone = [read_picture(source).rgb.tobytes() for source in sources]
    together = [None] * 8

    def work(i):
        together[i] = read_picture(sources[i]).rgb.tobytes()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
