"""Animated GIF, WebP and PNG, as Pillow reads what we wrote."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import GifImagePlugin, Image
from test_images import chunk

from stylenorm import ImageError, Stylizer
from stylenorm.animation import WRITERS, Survey, changed, frame_count, frames, hundredths, indexed, paint_animation, shared_palette
from stylenorm.cli import main
from stylenorm.errors import StylenormError
from stylenorm.images import read_picture
from stylenorm.jobs import Job, Masks, is_moving, plan
from stylenorm.mattes import Matte, Mattes, with_each

torch.set_num_threads(1)
TIMES = [40, 90, 130, 70]

XMP = b"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" crs:Exposure2012="1"
 xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/">
 <dc:subject><rdf:Bag><rdf:li>fog</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF>"""


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


def begin(stylizer, **options):
    return lambda fixed: stylizer.stream("red-hill", fixed=fixed, **options)


def pictures(mode: str = "RGB", size=(50, 38)) -> list[Image.Image]:
    """A square that walks over waves; around it nothing, if there is an alpha."""
    y, x = np.mgrid[: size[1], : size[0]]
    ground = np.stack([128 + 100 * np.sin(x / 9 + k * y / 17) for k in range(3)], 2).astype(np.uint8)
    found = []
    for t in range(len(TIMES)):
        pixels = ground.copy()
        pixels[10:20, 5 + 8 * t : 15 + 8 * t] = (250, 220, 40)
        image = Image.fromarray(pixels)
        if mode == "RGBA":
            alpha = np.zeros(size[::-1], np.uint8)
            alpha[6:24, 1 + 8 * t : 19 + 8 * t] = 255
            image.putalpha(Image.fromarray(alpha))
        found.append(image)
    return found


def animation(path, mode: str = "RGB", **options):
    first, *more = pictures(mode)
    first.save(path, save_all=True, append_images=more, **{"duration": TIMES, "loop": 0} | options)
    return path


def read(path) -> tuple[list[np.ndarray], list[int], object]:
    """Frames, milliseconds and the loop, by Pillow's own way."""
    shown, times = [], []
    with Image.open(path) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            image.load()
            shown.append(np.asarray(image.convert("RGBA")).astype(int))
            times.append(round(image.info.get("duration", 0)))
        return shown, times, image.info.get("loop")


@pytest.mark.parametrize("source", ["gif", "webp", "png"])
@pytest.mark.parametrize("target", ["gif", "webp", "png"])
def test_every_frame_keeps_its_time(stylizer, tmp_path, source, target):
    path = animation(tmp_path / f"in.{source}")
    first = paint_animation(path, out := tmp_path / f"out.{target}", begin(stylizer))
    shown, times, loop = read(out)
    assert times == TIMES and loop == 0 and first.size == (50, 38)
    assert all(a.shape == (38, 50, 4) and (a[..., 3] == 255).all() for a in shown)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_png_frames_are_those_that_a_stream_with_pooled_moments_paints(stylizer, tmp_path):
    path = animation(tmp_path / "in.png")
    paint_animation(path, out := tmp_path / "out.png", begin(stylizer, preserve_color=True))
    survey = stylizer.stream("red-hill", preserve_color=True)
    for image in pictures():
        survey.survey(image)
    stream = stylizer.stream("red-hill", preserve_color=True, fixed=survey.pooled())
    for got, image in zip(read(out)[0], pictures(), strict=True):
        np.testing.assert_array_equal(got[..., :3], np.asarray(stream(image)))


def test_a_gif_looks_like_the_lossless_animation(stylizer, tmp_path):
    """255 colours, dithered: each frame close, and closer where the eye averages. Parts that stay are not stored again."""
    path = animation(tmp_path / "in.png")
    for name in ("out.png", "out.gif"):
        paint_animation(path, tmp_path / name, begin(stylizer))
    for exact, told in zip(read(tmp_path / "out.png")[0], read(tmp_path / "out.gif")[0], strict=True):
        assert np.abs(exact - told)[..., :3].mean() < 8


@pytest.mark.parametrize("target", ["gif", "webp", "png"])
def test_what_is_clear_stays_clear_and_nothing_is_left_standing(stylizer, tmp_path, target):
    path = animation(tmp_path / "in.webp", "RGBA", lossless=True)
    paint_animation(path, out := tmp_path / f"out.{target}", begin(stylizer))
    for shown, image in zip(read(out)[0], pictures("RGBA"), strict=True):
        np.testing.assert_array_equal(shown[..., 3] > 127, np.asarray(image.getchannel("A")) > 127)


def parts_of_gif(*parts: tuple[int, tuple[int, int], tuple[int, int], int]) -> bytes:
    """6 x 4 px. Of each part: its colour, (width, height), where it lies, and what becomes of it."""
    file = io.BytesIO()
    for i, (color, size, at, after) in enumerate(parts):
        part = Image.new("P", size, color)
        part.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0, 0, 0, 250])
        if not i:
            header = b"".join(GifImagePlugin.getheader(part.copy(), info={"optimize": False})[0])
            file.write(header[:6] + struct.pack("<HH", 6, 4) + header[10:])
        file.writelines(GifImagePlugin.getdata(part, at, duration=10, disposal=after))
    return file.getvalue() + b";"


def test_a_gif_is_put_together_as_browsers_do():
    """Nothing lies beside the first part, nor where one was cleared; the one that does not say what becomes of it stays."""
    data = parts_of_gif((1, (4, 2), (1, 1), 2), (2, (2, 2), (0, 0), 0), (3, (6, 1), (0, 3), 3), (3, (1, 1), (5, 0), 1))
    shown = [
        ["......", ".1111.", ".1111.", "......"],
        ["22....", "22....", "......", "......"],
        ["22....", "22....", "......", "333333"],
        ["22...3", "22....", "......", "......"],
    ]
    for (picture, *_), rows in zip(frames(data, "it"), shown, strict=True):
        index = np.array([[".123".index(c) for c in row] for row in rows])
        np.testing.assert_array_equal(np.asarray(picture.alpha) == 255, index > 0)
        np.testing.assert_array_equal(np.asarray(picture.rgb)[index > 0], (np.eye(3, dtype=np.uint8) * 250)[index[index > 0] - 1])


def test_beside_a_still_that_does_not_fill_its_gif_nothing_lies():
    picture = read_picture(parts_of_gif((1, (4, 2), (1, 1), 0)))
    assert picture.size == (6, 4) and picture.format == "gif" and np.asarray(picture.alpha).sum() == 8 * 255


def parts_of_png(*parts: tuple[tuple[int, ...], tuple[int, int], tuple[int, int], int, int]) -> bytes:
    """4 x 2 px with a picture of its own that is no frame. Of each part: RGBA, (width, height), where it lies, what becomes of it, "over"."""

    def packed(color, size) -> bytes:
        return zlib.compress((b"\0" + bytes(color) * size[0]) * size[1])

    body = chunk(b"acTL", struct.pack(">II", len(parts), 0)) + chunk(b"IDAT", packed((0, 0, 250, 255), (4, 2)))
    for i, (color, size, at, after, over) in enumerate(parts):
        body += chunk(b"fcTL", struct.pack(">5I2H2B", 2 * i, *size, *at, 1, 10, after, over))
        body += chunk(b"fdAT", struct.pack(">I", 2 * i + 1) + packed(color, size))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 8, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def test_a_png_is_put_together_as_browsers_do():
    """What is translucent lies over what is translucent, and never over the picture that is no frame."""
    red, green = (200, 0, 0, 102), (0, 200, 0, 153)
    data = parts_of_png((red, (4, 2), (0, 0), 0, 1), (green, (2, 2), (0, 0), 2, 1), (green, (1, 1), (3, 1), 1, 0), (red, (1, 1), (0, 0), 0, 0))
    first, second, third, fourth = (np.dstack([picture.rgb, picture.alpha]).astype(int) for picture, *_ in frames(data, "it"))
    assert (first == red).all()
    both = 255 * (1 - (1 - 0.4) * (1 - 0.6))
    assert np.abs(second[:, :2] - (200 * 0.4 * 0.4 / 0.76, 200 * 0.6 / 0.76, 0, both)).max() <= 1 and (second[:, 2:] == red).all()
    assert (third[:, :3] == red).all() and (third[1, 3] == green).all()
    assert fourth[1, 3, 3] == 0 and (fourth[:, :3] == red).all()


def test_an_animated_png_with_fewer_frames_than_it_tells_is_cut_short():
    with pytest.raises(ImageError, match="cut short"):
        list(frames(parts_of_png(*[((1, 2, 3, 255), (4, 2), (0, 0), 0, 0)] * 3)[:-60], "it"))


def test_frames_are_composed_before_they_are_painted(tmp_path):
    """Pillow's GIF stores what changes; frames() gives whole frames."""
    path = animation(tmp_path / "in.png")
    for (picture, duration, _), image, time in zip(frames(path), pictures(), TIMES, strict=True):
        np.testing.assert_array_equal(np.asarray(picture.rgb), np.asarray(image))
        assert duration == time


@pytest.mark.parametrize("source, loop, target, wanted", [
    ("gif", 3, "gif", 3), ("gif", None, "gif", None), ("gif", 3, "webp", 4), ("gif", None, "png", 1),
    ("webp", 4, "gif", 3), ("png", 1, "gif", None), ("png", 2, "webp", 2),
])  # fmt: skip
def test_it_runs_as_often_as_before(stylizer, tmp_path, source, loop, target, wanted):
    """A GIF counts the runs after the first, the others all of them."""
    options = {} if loop is None else {"loop": loop}
    first, *more = pictures()
    path = tmp_path / f"in.{source}"
    first.save(path, save_all=True, append_images=more, duration=TIMES, **options)
    paint_animation(path, out := tmp_path / f"out.{target}", begin(stylizer, smoothing=0))
    assert read(out)[2] == wanted


def test_a_png_whose_own_picture_is_no_frame(stylizer, tmp_path):
    first, *more = pictures()
    first.save(tmp_path / "in.png", save_all=True, append_images=more, default_image=True, duration=TIMES[1:])
    assert frame_count(tmp_path / "in.png") == 3
    paint_animation(tmp_path / "in.png", out := tmp_path / "out.webp", begin(stylizer))
    assert read(out)[1] == TIMES[1:]


def test_stills_and_files_that_are_no_pictures_have_one_frame(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"nothing")
    pictures()[0].save(tmp_path / "b.gif")
    assert [frame_count(tmp_path / n) for n in ("a.gif", "b.gif", "c.gif")] == [1, 1, 1]


def test_previews_and_pages_are_no_frames(tmp_path):
    first, *more = pictures()
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=more)
    assert Image.open(tmp_path / "a.jpg").n_frames == 4 and frame_count(tmp_path / "a.jpg") == len(list(frames(tmp_path / "a.jpg"))) == 1


@pytest.mark.parametrize("kind", ["a PSD, which counts layers", "floats, which Pillow has no mode for"])
def test_any_still_becomes_a_gif(stylizer, tmp_path, kind):
    pixels = np.asarray(pictures()[0])
    if "PSD" in kind:
        head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 38, 50, 8, 3)
        (tmp_path / "a").write_bytes(head + bytes(12) + b"\0\0" + pixels.transpose(2, 0, 1).tobytes())
    else:
        tifffile.imwrite(tmp_path / "a", pixels.astype(np.float32) / 255, photometric="rgb", metadata=None)
    ((picture, *_),) = frames(tmp_path / "a")
    np.testing.assert_array_equal(np.asarray(picture.rgb), pixels)
    paint_animation(tmp_path / "a", out := tmp_path / "out.gif", begin(stylizer))
    assert read(out)[0][0].shape == (38, 50, 4)


def test_an_animation_cut_short_is_told_and_nothing_is_written(stylizer, tmp_path):
    path = animation(tmp_path / "in.webp")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ImageError, match=r"in\.webp"):
        paint_animation(path, tmp_path / "out.gif", begin(stylizer))
    assert not (tmp_path / "out.gif").exists()


@pytest.mark.parametrize("end", ["in the middle of a palette", "in the middle of a frame"])
def test_a_gif_cut_short_is_no_still(tmp_path, end):
    """Its frames are counted by going through them, and what can be read was painted as if it were all."""
    path = animation(tmp_path / "in.gif")
    data, second = path.read_bytes(), Image.open(path)
    second.seek(1)
    at = second.tile[0].offset
    path.write_bytes(data[: at - 50 if "palette" in end else at + 9])
    assert frame_count(path) == 2 and plan([str(path)], f"{tmp_path}/out/", None)[0].target.name == "in.gif"
    with pytest.raises(ImageError, match=r"in\.gif"):
        list(frames(path))


@pytest.mark.parametrize("target", ["webp", "png"])
def test_an_animation_keeps_exif_and_xmp_as_a_still_does_and_strip_leaves_them_out(stylizer, tmp_path, target):
    exif = Image.Exif()
    exif[0x8298] = "Ada"
    path = animation(tmp_path / "in.webp", exif=exif, xmp=XMP)
    for strip in (False, True):
        paint_animation(path, out := tmp_path / f"out.{target}", begin(stylizer), strip=strip)
        data = out.read_bytes()
        assert (b"<rdf:li>fog</rdf:li>" in data) is (Image.open(out).getexif().get(0x8298) == "Ada") is not strip
        if target == "webp" and not strip:
            at = data.index(b"EXIF") + 8
            assert data[at : at + 4] in (b"MM\0*", b"II*\0"), "no 'Exif' in front, which exiftool finds improper"
        assert b"crs:" not in data and len(read(out)[0]) == 4


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
@pytest.mark.parametrize("duration, count", [(1000 / 60, 6), (100 / 3, 3), (0.4, 5), (70_001.5, 2)])
def test_times_between_whole_milliseconds_add_up(tmp_path, kind, duration, count):
    survey = Survey([duration] * count, samples=pictures())
    with open(tmp_path / f"x.{kind}", "wb") as file:
        WRITERS[kind](file, (Image.new("RGB", (8, 8), (40 * n, 0, 0)) for n in range(count)), survey, 90)
    with Image.open(tmp_path / f"x.{kind}") as image:
        times = [image.seek(n) or image.load() and image.info["duration"] for n in range(count)]
    assert sum(times) == pytest.approx(duration * count, abs={"gif": 5, "webp": 0.5, "png": 0.01}[kind])


@pytest.mark.parametrize("kind, most", [("gif", 65535), ("webp", 65535), ("png", 100_001)])
def test_more_runs_than_a_format_counts_are_as_many_as_it_counts(tmp_path, kind, most):
    survey = Survey([40] * 4, plays=100_001, samples=pictures())
    with open(tmp_path / f"x.{kind}", "wb") as file:
        WRITERS[kind](file, iter(pictures()), survey, 90)
    assert read(tmp_path / f"x.{kind}")[2] == most


@pytest.mark.parametrize("clear", [False, True])
def test_what_stands_still_is_written_as_long_as_it_stood(tmp_path, clear):
    """Frames that are alike are put together, with a sum that a PNG may not be able to tell exactly."""
    still, other = (Image.new("RGBA", (8, 8), (level, 0, 0, 128 if clear else 255)) for level in (0, 90))
    survey = Survey([7001] * 11 + [33], clear=clear)
    with open(tmp_path / "x.png", "wb") as file:
        WRITERS["png"](file, iter([still] * 11 + [other]), survey, 90)
    with Image.open(tmp_path / "x.png") as image:
        times = [image.seek(n) or image.load() and image.info["duration"] for n in range(image.n_frames)]
    assert len(times) == 2 and times == pytest.approx([77_011, 33], abs=1)


def test_frames_of_a_gif_are_no_longer_than_it_can_tell():
    assert list(hundredths([5, 655_350, 655_350])) == [0, 655_350, 655_350]


def test_an_animation_of_60_frames_a_second_is_as_long_as_it_was(stylizer, tmp_path):
    source = animation(tmp_path / "in.png", duration=[1000 / 60] * 4)
    assert [round(time, 6) for _, time, _ in frames(source)] == [16.666667] * 4
    paint_animation(source, tmp_path / "out.png", begin(stylizer))
    with Image.open(tmp_path / "out.png") as image:
        image.seek(3)
        assert image.info["duration"] == pytest.approx(1000 / 60)


def test_hundredths_keep_the_sum():
    assert list(hundredths([33, 33, 34, 5, 5, 0, 1000])) == [30, 40, 30, 0, 10, 0, 1000]
    assert list(hundredths([700_000, 100])) == [655_350, 100], "a frame of a GIF stands no longer"


def test_unchanged_pixels_are_clear_in_the_next_frame():
    palette, spread = shared_palette(pictures())
    a, b = (indexed(p, palette, spread) for p in pictures()[:2])
    part, (x, y) = changed(b, a)
    assert (x, y) >= (5, 10) and part.size[0] <= 18 and part.size[1] <= 10
    assert changed(b, b)[0].size == (1, 1)


def test_stylize_takes_animations(stylizer, weights, tmp_path, capsys):
    def stylize(*words):
        code = main(["stylize", *map(str, words), "--style", "red-hill", "--weights", str(weights), "--backend", "torch"])
        return code, capsys.readouterr()

    gif, webp = animation(tmp_path / "in.gif"), animation(tmp_path / "in.webp")
    code, told = stylize(gif, "-o", tmp_path / "out.gif")
    assert code == 0 and "out.gif (50 x 38" in told.out
    assert stylize(gif, webp, "-o", f"{tmp_path}/all/")[0] == 0
    assert [len(read(tmp_path / name)[0]) for name in ("out.gif", "all/in.gif", "all/in.webp")] == [4, 4, 4]
    assert stylize(gif, "-o", tmp_path / "first.jpg")[0] == 0 and frame_count(tmp_path / "first.jpg") == 1
    pictures()[0].save(tmp_path / "still.jpg")
    assert stylize(tmp_path / "still.jpg", "-o", tmp_path / "still.gif", "--size", "30")[0] == 0
    assert read(tmp_path / "still.gif")[0][0].shape == (23, 30, 4)
    webp.write_bytes(webp.read_bytes()[:-300])
    code, told = stylize(webp, "-o", tmp_path / "broken.webp")
    assert code == 1 and told.err.count("\n") == 1 and "in.webp" in told.err


def test_a_still_gif_becomes_a_png_in_a_folder_and_a_moving_one_stays_a_gif(tmp_path):
    animation(tmp_path / "a.gif")
    pictures()[0].save(tmp_path / "b.gif")
    jobs = plan([str(tmp_path / "a.gif"), str(tmp_path / "b.gif")], f"{tmp_path}/out/", None)
    assert [j.target.name for j in jobs] == ["a.gif", "b.png"]


def test_an_animation_goes_from_file_to_file_and_this_is_told_at_once(tmp_path, monkeypatch):
    gif = str(animation(tmp_path / "a.gif"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with pytest.raises(StylenormError, match="read from a file; give that file's name in place of -"):
        plan(["-"], f"{tmp_path}/x.gif", None)
    with pytest.raises(StylenormError, match="a.gif moves, .* give -o FILE, or --format jpeg"):
        plan([gif], "-", None)
    assert plan([gif], "-", "jpeg")[0].format == "jpeg" and plan([gif], "-", None, stills=True)[0].target is None


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no names there")
def test_a_pipe_is_not_emptied_to_count_its_frames(tmp_path):
    pictures()[0].save(data := io.BytesIO(), "PNG")
    read_end, write_end = os.pipe()
    os.write(write_end, data.getvalue())
    os.close(write_end)
    assert not is_moving(Job(Path(f"/dev/fd/{read_end}"), tmp_path / "x.png", None))
    assert os.read(read_end, 1 << 20) == data.getvalue()
    os.close(read_end)


def moving_masks(folder: Path, count: int = len(TIMES)) -> list[Path]:
    """A bar of white that goes to the right, 10 px a frame: animated, in numbered pictures, and as a cut-out."""
    bars = [Image.new("L", (50, 38)) for _ in range(count)]
    for number, bar in enumerate(bars):
        bar.paste(255, (10 * number, 0, 10 * number + 10, 38))
    (folder / "numbers").mkdir()
    for number, bar in enumerate(bars, 8):
        bar.save(folder / "numbers" / f"{number}.png")
    cut_outs = [Image.new("RGBA", bar.size, (200, 30, 90, 0)) for bar in bars]
    for bar, cut_out in zip(bars, cut_outs):
        cut_out.putalpha(bar)
    for name, (first, *more) in (("mask.gif", bars), ("mask.png", bars), ("cut.webp", cut_outs)):
        first.save(folder / name, save_all=True, append_images=more, lossless=True)
    return [folder / name for name in ("numbers", "mask.gif", "mask.png", "cut.webp")]


def assert_painted_in_the_bars(source: Path, target: Path, inside: bool = True) -> None:
    (before, *_), (after, *_) = read(source), read(target)
    for number, (was, now) in enumerate(zip(before, after, strict=True)):
        changed = np.abs(now - was)[..., :3].max((0, 2)) > 0
        there = np.arange(50) // 10 == number
        assert changed[there].mean() == inside and changed[~there].mean() == (not inside)


def test_a_mask_that_moves_is_for_each_frame(weights, tmp_path, capsys):
    source = animation(tmp_path / "in.png")
    words = ["stylize", str(source), "--weights", str(weights), "--style", "red-hill"]
    for number, mask in enumerate(moving_masks(tmp_path)):
        target = tmp_path / f"{number}.png"
        assert main([*words, "-o", str(target), "--mask", str(mask)]) == 0
        assert_painted_in_the_bars(source, target)
    assert main([*words, "-o", str(tmp_path / "k.png"), "--keep", str(mask)]) == 0
    assert_painted_in_the_bars(source, tmp_path / "k.png", inside=False)
    assert main([*words[:2], *words[2:4], "--style", "blue-tree", "-o", str(tmp_path / "all.png")]) == 0
    assert main([*words, "-o", str(tmp_path / "both.png"), "--region", f"{tmp_path / 'numbers'}=blue-tree"]) == 0
    assert_painted_in_the_bars(tmp_path / "all.png", tmp_path / "both.png", inside=False)


def test_a_folder_of_animations_may_have_a_mask_that_moves_for_each(weights, tmp_path, capsys):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir(), masks.mkdir()
    source = animation(photos / "in.png")
    (masks / "in.gif").write_bytes(moving_masks(tmp_path)[1].read_bytes())
    for number, mask in enumerate((masks, tmp_path / "mask.gif")):
        words = ["--weights", str(weights), "--style", "red-hill", "--mask", str(mask), "--format", "png"]
        assert main(["batch", str(photos), str(tmp_path / f"out{number}"), *words]) == 0
        assert_painted_in_the_bars(source, tmp_path / f"out{number}" / "in.png")


def test_a_mask_of_fewer_frames_is_told(stylizer, weights, tmp_path, capsys):
    source, (numbers, moving, *_) = animation(tmp_path / "in.gif"), moving_masks(tmp_path, 3)
    for mask in (numbers, moving):
        assert main(["stylize", str(source), "-o", str(tmp_path / "out.gif"), "--weights", str(weights), "--style", "red-hill", "--mask", str(mask)]) == 1
        told = capsys.readouterr().err
        assert "has 3 frames" in told and "about 4" in told and len(told.splitlines()) == 1 and not (tmp_path / "out.gif").exists()
    with pytest.raises(ImageError, match="has 3 frames"):
        Mattes([Masks(moving)], source)
    with pytest.raises(ImageError, match="ends after 3 frames"):
        paint_animation(source, tmp_path / "out.gif", begin(stylizer), each=lambda: with_each([Matte(moving)]))


def test_what_is_looked_at_first_is_what_is_painted(stylizer, tmp_path):
    """The palette of a GIF, and the moments of each region, are of the frames with their masks."""
    source, (numbers, *_), seen = animation(tmp_path / "in.png"), moving_masks(tmp_path), []

    class Told:
        def __init__(self, stream):
            self.stream, self.steady, self.pooled = stream, stream.steady, stream.pooled

        def survey(self, frame, **masks):
            seen.append(masks["mask"])
            return self.stream.survey(frame, **masks)

        def __call__(self, frame, **masks):
            seen.append(masks["mask"])
            return self.stream(frame, **masks)

    paint_animation(source, tmp_path / "out.gif", lambda fixed: Told(begin(stylizer)(fixed)), each=lambda: with_each([Matte(numbers)]))
    bars = [np.asarray(picture.rgb)[0, :, 0].argmax() for picture in seen]
    assert bars == [0, 10, 20, 30] * 2
    photo, surveyed = Image.open(source).convert("RGB"), stylizer.stream("red-hill").survey(Image.open(source).convert("RGB"), mask=numbers / "8.png")
    where = np.abs(np.asarray(photo, int) - np.asarray(surveyed, int)).max((0, 2)) > 0
    assert where[:10].all() and not where[10:].any()


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_frames_of_a_mask_that_were_put_together_are_taken_apart(tmp_path, suffix):
    """Pillow writes frames that are alike as one that stands longer, and so do others."""
    levels = [0, 255, 255, 255, 0, 0, 255, 0]
    first, *more = (Image.new("RGB", (40, 30), (level,) * 3) for level in levels)
    first.save(path := tmp_path / f"mask.{suffix}", save_all=True, append_images=more, duration=60, lossless=True)
    matte = Matte(path)
    assert frame_count(path) == matte.count == 5
    matte.check_length(Path("film.mp4"), 8)
    given = matte.masks()
    assert [next(given).rgb.getpixel((5, 5))[0] for _ in levels] == levels
    assert next(matte.masks(6)).rgb.getpixel((5, 5)) == (255,) * 3
    with pytest.raises(ImageError, match="has 8 frames, and film.mp4 about 9"):
        matte.check_length(Path("film.mp4"), 9)


def test_of_an_animation_people_are_looked_for_in_each_frame_where_a_png_is_written(tmp_path, capsys):
    given = animation(tmp_path / "in.gif")
    assert main(["mask", str(given), "-o", str(tmp_path / "out.png")]) == 0
    assert capsys.readouterr().err.splitlines() == [f"stylenorm: no people are to be seen in {given}"]
    with Image.open(tmp_path / "out.png") as mask, Image.open(given) as moving:
        assert mask.n_frames == moving.n_frames == 4 and mask.mode == "L" and mask.size == moving.size, "though all of them are black"
        assert mask.info["loop"] == 0
    assert [ms for _, ms, _ in frames(tmp_path / "out.png")] == [ms for _, ms, _ in frames(given)]
    assert main(["mask", str(given), "-o", str(tmp_path / "out.webp")]) == 0
    assert "in the first of its 4 frames alone; in a file that ends in .png, in each" in capsys.readouterr().err
    assert main(["mask", str(given), "-o", str(tmp_path / "out.png"), "--quiet"]) == 0 and not capsys.readouterr().err
