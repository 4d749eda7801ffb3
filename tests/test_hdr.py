"""Films and photographs of high dynamic range, against the figures of the recommendations and FFmpeg's own conversion."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from test_images import DISPLAY_P3, SRGB, chunk, distance, fixed, gamma_curve, icc, opened, raw_png, saved, smooth, written

from stylenorm.animation import frames
from stylenorm.errors import ImageError
from stylenorm.exif import INTEROP, PHOTO, pack_exif, parse_exif
from stylenorm.hdr import TO_BT709, TRANSFERS, WHITE, from_hlg, from_pq, in_standard_range, is_hdr, standard, to_pq
from stylenorm.images import read_picture, rewrap

HLG, PQ = 18, 16
GREYS = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2))


def grey(code: float) -> np.ndarray:
    return np.full(3, code)


@pytest.mark.parametrize("percent, light", [(38, 26), (75, 203), (79, 265), (100, 1000)])
def test_light_of_hlg_is_what_bt_2408_tells(percent, light):
    assert from_hlg(grey(percent / 100)) == pytest.approx(light, rel=0.03)


@pytest.mark.parametrize("percent, light", [(0, 0), (38, 26), (58, 203), (75.2, 1000), (100, 10_000)])
def test_light_of_pq_is_what_bt_2408_tells(percent, light):
    assert from_pq(grey(percent / 100)) == pytest.approx(light, rel=0.03, abs=1e-9)
    assert to_pq(from_pq(grey(percent / 100))) == pytest.approx(percent / 100, abs=1e-6)


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_greys_stay_grey_and_in_their_order(transfer):
    made = np.asarray(in_standard_range(GREYS, transfer), int)[0]
    assert np.ptp(made, axis=1).max() <= 4 and (np.diff(made[:, 1]) >= 0).all()
    assert made[0].max() == 0 and made[-1].min() == 255


def test_lights_are_fainter_and_not_cut_off():
    """White of 203 cd/m2 is at 75 % of HLG and at 58 % of PQ; what is brighter, up to 1,000, still differs."""
    for name, white, peak in (("hlg", 0.75, 1.0), ("pq", 0.58, 0.752)):
        made = [standard(grey(code), name)[1] for code in np.linspace(white, peak, 6)]
        assert 0.87 < made[0] < 0.93 and (np.diff(made) > 0.0005).all() and made[-1] == pytest.approx(1, abs=0.01)


def test_colours_that_bt_709_does_not_have_become_greyer_and_keep_their_luminance():
    for color in ([0.6, 0.1, 0.1], [0.1, 0.6, 0.1], [0.3, 0.1, 0.6]):
        light, made = from_hlg(np.array(color)), standard(np.array(color), "hlg")
        assert (made >= 0).all() and (made <= 1).all() and made.argmax() == np.argmax(color)
        assert made**2.4 @ (0.2126, 0.7152, 0.0722) == pytest.approx(light @ (0.2627, 0.6780, 0.0593) / 203, rel=0.02)


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_the_table_is_near_to_what_it_stands_for(transfer):
    pixels = np.random.default_rng(0).integers(30, 160, (64, 64, 3)).astype(np.uint8)
    apart = np.abs(np.asarray(in_standard_range(Image.fromarray(pixels), transfer)) - 255 * standard(pixels / 255, TRANSFERS[transfer]))
    assert apart.mean() < 1


def test_of_bt_709s_own_primaries_the_colours_stay():
    color = np.array([0.5, 0.4, 0.3])
    light = from_hlg(color)
    assert standard(color, "hlg", 1) ** 2.4 == pytest.approx(light / 203, rel=1e-3)
    made = [in_standard_range(Image.new("RGB", (1, 1), (128, 102, 76)), HLG, p).getpixel((0, 0)) for p in (1, 9, 2)]
    assert made[0][0] - made[0][2] < made[1][0] - made[1][2] and made[1] == made[2]


def test_any_other_film_is_left_alone():
    assert in_standard_range(GREYS, 1) is GREYS and not is_hdr(2) and is_hdr(HLG)


# ---- stills ------------------------------------------------------------------------------------

DULL = np.asarray(smooth()) // 3 + 40  # nothing brighter than half of white


def in_pq(rgb: np.ndarray) -> np.ndarray:
    """sRGB to PQ in BT.2020's primaries, 0 to 1, with white at 203 cd/m2."""
    code = rgb / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return to_pq((linear @ np.linalg.inv(TO_BT709).T * WHITE).clip(0))


def png(codes: np.ndarray, numbers: tuple[int, int], bits: int = 8, more: bytes = b"") -> bytes:
    height, width = codes.shape[:2]
    samples = np.rint(codes * (2**bits - 1)).astype(">u2" if bits == 16 else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    return raw_png(width, height, bits, 2, rows, more + chunk(b"cICP", bytes([*numbers, 0, 1])))


def avif(codes: np.ndarray, numbers: tuple[int, int], icc: bytes | None = None) -> bytes:
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    image = Image.fromarray(np.rint(codes * 255).astype(np.uint8))
    return saved(image, "AVIF", quality=100, subsampling="4:4:4", icc_profile=icc).replace(
        b"nclx" + struct.pack(">HH", *((2, 2) if icc else (1, 13))), b"nclx" + struct.pack(">HH", *numbers)
    )


def heic(codes: np.ndarray, numbers: tuple[int, int]) -> bytes:
    plugin = pytest.importorskip("pillow_heif")
    image = Image.fromarray(np.rint(codes * 255).astype(np.uint8))
    told = {"color_primaries": numbers[0], "transfer_characteristics": numbers[1], "matrix_coefficients": 9, "full_range_flag": 1}
    plugin.from_pillow(image).save(buffer := io.BytesIO(), quality=-1, chroma=444, **told)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [png, lambda *given: png(*given, 16), avif, heic], ids=["png", "deep", "avif", "heic"])
def test_a_photograph_of_high_dynamic_range_is_read_as_it_looks_and_written_without_saying_so(make):
    data = make(in_pq(DULL), (9, 16))
    picture = read_picture(data)
    assert distance(picture.rgb, DULL) <= 12 and np.abs(np.asarray(picture.rgb, int) - DULL).mean() < 2.5  # 8 bits of PQ are coarse
    assert picture.icc is None
    for format, left in (("png", b"cICP"), ("avif", struct.pack(">4sHH", b"nclx", 9, 16))):
        if format == "png" or features.check("avif"):
            result = written(rewrap(picture, picture.rgb if picture.deep is None else picture.deep), format)
            assert left not in result and "icc_profile" not in opened(result).info


def test_a_profile_may_tell_the_numbers_of_high_dynamic_range():
    codes = np.rint(in_pq(DULL) * 255).astype(np.uint8)
    tags = {b"cicp": b"cicp\0\0\0\0" + bytes([9, 16, 0, 1])} | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma_curve(6))
    tags |= {name: b"XYZ \0\0\0\0" + fixed(*point) for name, point in zip((b"rXYZ", b"gXYZ", b"bXYZ"), np.eye(3))}
    for format in ("PNG", "JPEG"):
        picture = read_picture(saved(Image.fromarray(codes), format, icc_profile=icc(b"RGB ", tags)))
        assert picture.icc is None and np.abs(np.asarray(picture.rgb, int) - DULL).mean() < 4
        assert read_picture(saved(smooth(), format, icc_profile=icc(b"RGB ", tags | {b"cicp": b"cicp"}))).icc is not None


@pytest.mark.parametrize("numbers, space", [((9, 18), 1), ((12, 13), 65535)])
def test_exif_does_not_say_that_it_is_still_of_high_dynamic_range(numbers, space):
    tree = {PHOTO: {0xA001: (3, 1, b"\xff\xff"), INTEROP: {1: (2, 4, b"R03\0")}}}
    exif = parse_exif(read_picture(png(DULL / 255, numbers, more=chunk(b"eXIf", pack_exif(tree, "<")[6:]))).exif)[0][PHOTO]
    assert exif[0xA001][2] == struct.pack("<H", space) and (INTEROP in exif) == (space > 1)


def test_exif_that_says_uncalibrated_and_no_more_does_not_either():
    """Not that of Adobe RGB."""
    exif = chunk(b"eXIf", pack_exif({PHOTO: {0xA001: (3, 1, b"\xff\xff")}}, "<")[6:])
    assert parse_exif(read_picture(png(DULL / 255, (9, 18), more=exif)).exif)[0][PHOTO][0xA001][2] == struct.pack("<H", 1)


def test_sixteen_bits_of_it_stay_and_have_its_alpha():
    rgba = np.dstack([in_pq(DULL), np.linspace(0.2, 1, 64)[None].repeat(48, 0)])
    rows = b"".join(b"\0" + row.tobytes() for row in np.rint(rgba * 65535).astype(">u2"))
    deep = read_picture(raw_png(64, 48, 16, 6, rows, chunk(b"cICP", bytes([9, 16, 0, 1])))).deep
    assert np.abs(deep[..., :3] / 257 - DULL).max() < 0.5
    assert np.array_equal(deep[..., 3], np.rint(rgba[..., 3] * 65535))


def test_numbers_of_wide_colours_are_a_profile():
    wide = np.asarray(ImageCms.profileToProfile(smooth(), io.BytesIO(SRGB), io.BytesIO(DISPLAY_P3), 1))
    for data in (png(wide / 255, (12, 13)), png(wide / 255, (12, 13), 16), avif(wide / 255, (12, 13)), avif(wide / 255, (12, 1))):
        picture = read_picture(data)
        assert distance(picture.rgb, smooth()) <= 7  # of AVIF's loss
        assert np.abs(np.asarray(rewrap(picture, picture.rgb), int) - wide).mean() < 1
        again = opened(written(rewrap(picture, picture.rgb), "png"))
        assert distance(ImageCms.profileToProfile(again, io.BytesIO(again.info["icc_profile"]), io.BytesIO(SRGB), 1), smooth()) <= 8


def test_a_pngs_numbers_count_more_than_its_profile_and_an_avifs_less():
    plain = np.asarray(smooth()) / 255
    named = chunk(b"iCCP", b"p\0\0" + zlib.compress(DISPLAY_P3))
    for more in (named, chunk(b"gAMA", struct.pack(">I", 100_000))):
        picture = read_picture(png(plain, (1, 13), more=more))
        assert picture.icc is None and distance(picture.rgb, smooth()) == 0
        assert read_picture(png(plain, (2, 2), more=more)).icc is not None, "2 is untold"
    assert read_picture(avif(plain, (9, 16), DISPLAY_P3)).icc == DISPLAY_P3


# (240, 40, 30), 8 x 8, of Display P3 by its sequence header; its "nclx" is called otherwise. By libavif.
RED = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADybWV0YQAAAAAAAAAoaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAGxpYmF2aWYAAAAADnBpdG0AAAAAAAEA"
    "AAAeaWxvYwAAAABEAAABAAEAAAABAAABGgAAACAAAAAoaWluZgAAAAAAAQAAABppbmZlAgAAAAABAABhdjAxQ29sb3IAAAAAamlwcnAAAABLaXBjbwAAABRpc3BlAAAAAAAA"
    "AAgAAAAIAAAAEHBpeGkAAAAAAwgICAAAAAxhdjFDgSAAAAAAABNmcmVlbmNseAAMAA0ABoAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAAChtZGF0EgAKCDgIv2EMDQaQMhIQ"
    "AAAAD/pDVDrHqSUAUp7NGkQ="
)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_may_tell_its_colours_in_the_coded_picture_alone():
    pytest.importorskip("av")
    data = base64.b64decode(RED)
    picture = read_picture(data)
    assert picture.icc is not None and picture.rgb.getpixel((4, 4))[0] == 255 and picture.rgb.getpixel((4, 4))[1] < 20
    told = read_picture(data.replace(b"free", b"colr"))
    assert told.rgb == picture.rgb and told.icc == picture.icc and told.deep is None


@pytest.mark.parametrize("damage", [lambda data: data.replace(b"ipma", b"ipmb"), lambda data: data.replace(b"pitm", b"pitn")])
def test_what_an_avif_tells_of_its_colours_may_be_damaged(damage):
    with suppress(ImageError):  # the decoder's own verdict
        read_picture(damage(avif(DULL / 255, (9, 16))))


def test_each_frame_of_an_animation_is_in_standard_range():
    images = [Image.fromarray(np.rint(in_pq(DULL // part) * 255).astype(np.uint8)) for part in (1, 2)]
    data = saved(images[0], "PNG", save_all=True, append_images=images[1:])
    data = data[:33] + chunk(b"cICP", bytes([9, 16, 0, 1])) + data[33:]
    for part, (picture, *_) in zip((1, 2), frames(data, "it")):
        assert np.abs(np.asarray(picture.rgb, int) - DULL // part).mean() < 2


def test_a_text_in_a_png_that_is_called_cicp_tells_nothing():
    picture = read_picture(raw_png(1, 1, 8, 2, b"\0\x10\x20\x30", chunk(b"tEXt", b"cicp\0words")))
    assert picture.rgb.getpixel((0, 0)) == (16, 32, 48)


# ---- against FFmpeg ----------------------------------------------------------------------------


@pytest.mark.slow  # FFmpeg takes seconds for each
@pytest.mark.parametrize("transfer, most", [(HLG, 0.55), (PQ, 0.46)])
def test_up_to_the_knee_it_is_what_ffmpeg_makes_of_it(transfer, most):
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    codes = most * (0.4 + 0.6 * rng.random((32, 32, 1))) * (0.85 + 0.15 * rng.random((32, 32, 3)))  # colours that both have
    frame = av.VideoFrame.from_ndarray((65535 * codes).round().astype(np.uint16), format="rgb48le")
    frame.color_range, frame.color_trc, frame.color_primaries, frame.colorspace = 2, transfer, 9, 0
    made = frame.reformat(format="rgb48le", dst_color_trc=1, dst_color_primaries=1).to_ndarray() / 65535
    if np.abs(made - codes).max() < 0.001:
        pytest.skip("this PyAV, of before 18, changes the tags alone")
    assert np.abs(made - standard(codes, TRANSFERS[transfer])).max() < 2.5 / 255
