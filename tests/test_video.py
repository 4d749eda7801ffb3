"""Films, made and read by PyAV: time stamps, sound, orientation, colours, going on after a kill, and damaged files."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from av.stream import Disposition  # noqa: E402

from stylenorm import Stylizer, cli_video, machine, paint_film, video, video_files  # noqa: E402
from stylenorm.cli import main  # noqa: E402
from stylenorm.cli_video import films_of  # noqa: E402
from stylenorm.errors import StylenormError  # noqa: E402
from stylenorm.hdr import in_standard_range  # noqa: E402
from stylenorm.manifest import Manifest  # noqa: E402
from stylenorm.masks import mask_levels  # noqa: E402
from stylenorm.mattes import Matte  # noqa: E402
from stylenorm.video_files import Film, frames, picture_box, probe  # noqa: E402

ROOT = Path(__file__).parent.parent
RATE = 44100


def scene(t: int, size=(64, 48), seed: int = 0) -> np.ndarray:
    """Smooth forms in motion, bright above and dark below."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [np.sin((x + 2 * t) / (7 + k) + seed * 2 + y / (5 + k)) for k in range(3)]
    halves = (40 if seed == 0 else -60) * np.sign(size[1] / 2 - y)
    return np.clip(128 + 60 * np.stack(waves, 2) + halves[..., None], 0, 255).astype(np.uint8)


def film(
    path, count=12, size=(64, 48), rate=10, stamps=None, sound="aac", turn=None, cut=None, codec="libx264", bar=0, **context
) -> Path:
    """A clip of ``count`` frames with a tone of 440 Hz under it. bar: black rows above, and as many below."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as out:
        pictures = out.add_stream(codec, rate=rate, options={"crf": "12"})
        pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 1000) if stamps else Fraction(1, rate)
        for name, value in context.items():
            setattr(pictures.codec_context, name, value)
        if turn:
            pictures.set_display_rotation(*turn)
        tone = out.add_stream(sound, rate=RATE, layout="mono") if sound else None
        for t in range(count):
            pixels = scene(t, size, int(cut is not None and t >= cut))
            pixels[:bar] = pixels[size[1] - bar :] = 0
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = (stamps[t] if stamps else t), pictures.codec_context.time_base
            out.mux(pictures.encode(frame))
        out.mux(pictures.encode(None))
        if tone:
            length = int(RATE * ((stamps[-1] / 1000 if stamps else count / rate)))
            samples = (8000 * np.sin(np.arange(length) * 2 * np.pi * 440 / RATE)).astype(np.float32) / 32768
            for at in range(0, length, 1024):
                frame = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], format="fltp", layout="mono")
                frame.rate, frame.pts = RATE, at
                out.mux(tone.encode(frame))
            out.mux(tone.encode(None))
    return path


def shown(path) -> tuple[list[float], np.ndarray]:
    """Seconds and pixels of every frame, by PyAV alone."""
    with av.open(str(path)) as container:
        found = [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24").astype(int)) for f in container.decode(video=0)]
    return [t for t, _ in found], np.stack([p for _, p in found])


def moved(source, target, by: float, marks=()):
    """The same film with its clock so many s further on, and with chapters."""
    with av.open(str(source)) as old, av.open(str(target), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in old.streams}
        out.set_chapters(chapters(marks))
        for packet in old.demux():
            if packet.dts is not None:
                ticks = round(by / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, streams[packet.stream.index]
                out.mux(packet)
    return target


def chapters(marks) -> list[dict]:
    """Of (first ms, last ms, title), as PyAV takes them."""
    return [{"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": t}} for n, (a, b, t) in enumerate(marks, 1)]


def packets(path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(getattr(container.streams, kind)[0]) if p.size]


@pytest.fixture
def cli(weights, capsys, monkeypatch):
    """Runs `stylenorm video` on the small weights; gives its exit code and what it printed."""
    monkeypatch.setattr(video, "PART", 5)

    def run(source, target, *words, style=("--style", "red-hill")):
        words = ["video", source, target, *style, "--backend", "torch", "--device", "cpu", "--weights", weights, *words]
        code = main([str(w) for w in words])
        return code, capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


# ---- encoders ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told, has",
    [
        ({"baseline": ["X86_V2"], "found": ["X86_V3", "X86_V4", "AVX512_ICL"], "not found": ["AVX512_SPR"]}, True),
        ({"baseline": ["SSE", "SSE2"], "found": ["AVX2", "AVX512F"]}, True), ({"baseline": ["X86_V4"]}, True),
        ({"baseline": ["X86_V2"], "found": ["X86_V3"], "not found": ["X86_V4", "AVX512_ICL"]}, False), ({"baseline": ["NEON"]}, False), (None, False),
    ],
)  # fmt: skip
def test_x264_computes_with_avx2_where_it_would_with_avx512(monkeypatch, told, has):
    monkeypatch.setattr(machine.np, "show_config", lambda mode: {"SIMD Extensions": told} if told else {})
    assert machine.has_avx512() is has
    options = video_files.encoder.__wrapped__("libx264")
    assert options.get("x264-params") == ("asm=AVX2" if has else None) and options["bf"] == "0"
    assert "x264-params" not in video_files.encoder.__wrapped__("libvpx-vp9")


def test_the_encoder_knows_its_options_and_gives_the_bytes_that_it_gives_without_vectors(tmp_path, monkeypatch):
    about = probe(film(tmp_path / "in.mp4", 3))
    written = []
    for options in (video_files.encoder("libx264"), video_files.ENCODER["libx264"] | {"x264-params": "asm=0"}):
        monkeypatch.setattr(video_files, "encoder", lambda codec, options=options: options)
        av.logging.set_level(av.logging.WARNING)
        with av.logging.Capture() as said:
            part = video.Part(tmp_path / "part.nut", about, "libx264", 20, (64, 48))
            for stamp in range(3):
                part.add(Image.fromarray(scene(stamp, (64, 48), 0)), stamp)
            part.close(whole=True)
        av.logging.set_level(None)
        assert said == [], "an option that it does not know is said there alone"
        written.append((tmp_path / "part.nut").read_bytes())
    assert written[0] == written[1]


# ---- masks -------------------------------------------------------------------------------------


def test_a_mask_lies_over_all_of_a_film_and_another_one_is_another_painting(cli, tmp_path, monkeypatch):
    source, target, masks = film(tmp_path / "in.mp4", 7, turn=(90,)), tmp_path / "out.mp4", tmp_path / "masks"
    begun = []
    masks.mkdir()
    left = Image.new("L", (48, 64))  # as the film is seen
    left.paste(255, (0, 0, 24, 64))
    left.save(masks / "in.png"), left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "other.png")
    assert cli(source, target, "--mask", masks, "--crf", "1")[0] == 0
    before, after = (np.stack([np.asarray(show()) for *_, show in frames(probe(path))]).astype(int) for path in (source, target))
    apart = np.abs(after - before).mean((0, 1, 3))
    assert before.shape[1:3] == (64, 48) and apart[:20].min() > 12 and apart[28:].max() < 6
    monkeypatch.setattr(cli_video, "check_begun", lambda manifest, settings, folder: begun.append(settings))
    for name, words in (("a", ["--mask", masks]), ("b", ["--mask", tmp_path / "other.png"]), ("c", ["--keep", masks])):
        assert cli(source, tmp_path / f"{name}.mp4", *words)[0] == 0
    first, second, kept = begun
    assert first["mask"] == kept["keep"] != second["mask"] and {**first, "mask": 0} == {**second, "mask": 0}
    Image.new("L", (64, 48)).save(tmp_path / "lying.png")
    for words in (["--mask", tmp_path / "lying.png"], ["--region", f"{tmp_path / 'lying.png'}=blue-tree"]):
        told = cli(source, tmp_path / "d.mp4", *words)
        assert told[0] == 2 and "lies on its side" in told[1].err and not (tmp_path / "d.mp4.parts").exists(), "another mask may be given then"
    painting = tmp_path / "other.png"
    for words, style in (([], "red-hill"), (["--style-size", "64"], painting), (["--style-size", "64", "--region", f"people={painting}"], "red-hill")):
        told = cli(source, tmp_path / "o.mp4", "--keep", tmp_path / "none.png", *words, style=("--style-image" if style is painting else "--style", style))
        assert told[0] == 2 and "there is no mask" in told[1].err


def moving_mask(path, count: int, size=(64, 48)) -> Path:
    """A white bar that goes to the right, 4 px a frame, as a film or as numbered pictures."""
    frames = [Image.new("L", size) for _ in range(count)]
    for number, frame in enumerate(frames):
        frame.paste(255, (4 * number, 0, 4 * number + 16, size[1]))
    if path.suffix in (".gif", ".webp"):
        first, *more = (frame.convert("RGB") for frame in frames)
        first.save(path, save_all=True, append_images=more, **({"lossless": True} if path.suffix == ".webp" else {}))
        return path
    if path.suffix:
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
            out.mux(stream.encode(None))
        return path
    path.mkdir(parents=True)
    for number, frame in enumerate(frames, 8):  # 8, 9, 10: by number, and not by name
        frame.save(path / f"frame{number}.png")
    return path


def changed(source, target) -> np.ndarray:
    """(frames, columns) where a painting differs from its film."""
    before, after = (shown(p)[1].astype(int) for p in (source, target))
    return np.abs(after - before).mean((1, 3)) > 8


def test_a_mask_that_moves_is_a_film_or_numbered_pictures_one_for_each_frame(cli, stylizer, tmp_path):
    source, film_mask = film(tmp_path / "in.mp4", 9), moving_mask(tmp_path / "matte.mp4", 9)
    numbers, clips = moving_mask(tmp_path / "numbers", 9), tmp_path / "clips"
    moving_mask(clips / "in", 9)
    named = tmp_path / "named"
    named.mkdir()
    (named / "in.mp4").write_bytes(film_mask.read_bytes())
    for number, mask in enumerate((film_mask, numbers, clips, named, moving_mask(tmp_path / "matte.gif", 9), moving_mask(tmp_path / "matte.webp", 9))):
        target = tmp_path / f"{number}.mp4"
        assert cli(source, target, "--mask", mask, "--crf", "1")[0] == 0
        where = changed(source, target)
        for at in range(9):
            assert where[at, 4 * at + 3 : 4 * at + 13].mean() > 0.8 and not where[at, : max(0, 4 * at - 3)].any() and not where[at, 4 * at + 19 :].any()
    assert cli(source, tmp_path / "k.mp4", "--keep", numbers, "--crf", "1")[0] == 0
    assert changed(source, tmp_path / "k.mp4")[4, 40:].mean() > 0.8 and not changed(source, tmp_path / "k.mp4")[4, 19:29].any()
    paint_film(source, tmp_path / "p.mp4", stylizer.stream("red-hill"), 1, mask=numbers)
    assert changed(source, tmp_path / "p.mp4")[4, 19:29].mean() > 0.8 and not changed(source, tmp_path / "p.mp4")[4, 40:].any()


def test_paint_film_does_not_replace_what_it_reads(tmp_path, stylizer):
    source = film(tmp_path / "in.mp4", 3)
    mask = moving_mask(tmp_path / "mask.mp4", 3)
    before = source.read_bytes(), mask.read_bytes()
    for target, options in ((source, {}), (mask, {"mask": str(mask)})):
        with pytest.raises(StylenormError, match="is an input and would be overwritten; give another name"):
            paint_film(source, target, stylizer.stream("red-hill"), **options)
    assert before == (source.read_bytes(), mask.read_bytes())


@pytest.mark.parametrize("name, codec, format", [("a.mov", "prores_ks", "yuva444p10le"), ("a.mov", "qtrle", "argb"), ("a.mkv", "ffv1", "yuva420p")])
def test_a_cut_out_film_is_a_mask_where_it_is_opaque(tmp_path, name, codec, format):
    matte = Matte(cut_out(tmp_path / name, codec, format))
    for at, mask in enumerate(matte.masks()):
        levels = np.asarray(mask_levels(mask, (64, 48)))
        assert levels[:, 10 + 8 * at : 38 + 8 * at].min() > 245 and levels[:, : 6 + 8 * at].max() < 10 > levels[:, 42 + 8 * at :].max()
        if at == 2:
            break
    rest = np.asarray(next(Matte(matte.path, inverted=True).masks()))
    assert rest[:, 10:38].max() < 10 and rest[:, 42:].min() > 245


def test_a_cut_out_of_which_ffmpeg_leaves_out_what_is_opaque_is_no_mask(tmp_path):
    with pytest.raises(StylenormError, match="what is opaque in the mask .*a.webm cannot be read from VP8 or VP9; convert it"):
        Matte(cut_out(tmp_path / "a.webm", "libvpx-vp9", "yuva420p"))


def cut_out(path, codec: str, format: str) -> Path:
    """Three frames in a dark blue with something that is as dark and opaque, and moves."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, format
        for t in range(3):
            pixels = np.full((48, 64, 4), (40, 60, 80, 0), np.uint8)
            pixels[:, 8 + 8 * t : 40 + 8 * t, 3] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=format)
            frame.pts = t
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def assert_goes_on_alike(source: Path, stream, folder: Path, frames: int, mattes=()) -> None:
    """Painted at one go, and stopped after so many frames and gone on with, it is the same file. stream: makes a fresh one."""
    whole, begun = folder / "whole.mp4", folder / "begun.mp4"
    for target, stops in ((whole, (None,)), (begun, (frames, None))):
        for stop_at in stops:
            stop = threading.Event()
            with Manifest(video.parts_folder(target)) as manifest:
                if manifest.settings is None:
                    manifest.begin({}, False)
                told = lambda n: stop.set() if n == stop_at else None  # noqa: E731
                video.paint_video(probe(source), target, stream(), manifest, 12, stop, told, 2, mattes)
    assert whole.read_bytes() == begun.read_bytes()


def test_a_film_that_goes_on_later_goes_on_with_the_mask_of_that_frame(stylizer, tmp_path):
    source, matte = film(tmp_path / "in.mp4", 7), Matte(moving_mask(tmp_path / "numbers", 7))
    assert_goes_on_alike(source, lambda: stylizer.stream("red-hill"), tmp_path, 4, [matte])


@pytest.mark.parametrize("count, code", [(3, "has 3 frames"), (59, "ends after 59 frames")])
def test_a_mask_that_is_too_short_is_told(cli, tmp_path, count, code):
    source, matte = film(tmp_path / "in.mp4", 60, sound=None), moving_mask(tmp_path / "numbers", count)
    result, told = cli(source, tmp_path / "out.mp4", "--mask", matte)
    assert result == 2 and code in told.err and len(told.err.splitlines()) == 1 and not (tmp_path / "out.mp4").exists()


def test_a_mask_of_no_use_leaves_nothing_behind_and_another_one_may_be_given(cli, tmp_path, monkeypatch):
    source, words = film(tmp_path / "in.mp4", 9, sound=None), (tmp_path / "out.mp4", "--mask")
    short, lying = moving_mask(tmp_path / "short", 3), tmp_path / "lying"
    lying.mkdir()
    for number in range(9):
        Image.new("L", (48, 64), 255).save(lying / f"{number}.png")
    for matte, told in ((short, "has 3 frames"), (lying, "lies on its side")):
        result, said = cli(source, *words, matte)
        assert result == 2 and told in said.err and not video.parts_folder(tmp_path / "out.mp4").exists()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(video, "paint_video", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("stopped before the first part")))
        cli(source, *words, moving_mask(tmp_path / "one", 9))
    assert video.parts_folder(tmp_path / "out.mp4").exists()
    assert cli(source, *words, moving_mask(tmp_path / "other.mp4", 9))[0] == 0 and (tmp_path / "out.mp4").exists()


def test_a_mask_is_not_written_over_and_a_folder_without_one_says_so(cli, tmp_path):
    source, matte = film(tmp_path / "in.mp4", 3), moving_mask(tmp_path / "matte.mp4", 3)
    before = matte.read_bytes()
    (tmp_path / "films").mkdir()
    film(tmp_path / "films" / "in.mp4", 3)
    result, told = cli(source, matte, "--mask", matte, "--overwrite")
    assert result == 2 and "is the mask" in told.err and matte.read_bytes() == before
    (tmp_path / "named").mkdir()
    for out in (tmp_path / "named", tmp_path / "named" / "in.mp4"):
        (tmp_path / "named" / "in.mp4").write_bytes(before)
        result, told = cli(source if out.suffix else tmp_path / "films", out, "--region", f"{tmp_path / 'named'}=blue-tree", "--overwrite")
        assert result > 0 and "is the mask" in told.err and (tmp_path / "named" / "in.mp4").read_bytes() == before
    (tmp_path / "odd").mkdir()
    for name in ("a1.png", "b1.png"):
        Image.new("L", (64, 48)).save(tmp_path / "odd" / name)
    result, told = cli(source, tmp_path / "out.mp4", "--mask", tmp_path / "odd")
    assert result == 2 and "has no mask for" in told.err
    (tmp_path / "empty" / "in").mkdir(parents=True)
    result, told = cli(source, tmp_path / "out.mp4", "--mask", tmp_path / "empty")
    assert result == 2 and "no numbered pictures" in told.err


def test_parts_of_a_film_have_styles_of_their_own_and_move(cli, stylizer, tmp_path):
    source, matte, left = film(tmp_path / "in.mp4", 9), moving_mask(tmp_path / "numbers", 9), Image.new("L", (64, 48))
    left.paste(255, (0, 0, 32, 48))
    left.save(tmp_path / "left.png")
    for name, style, *words in (("hill", "red-hill"), ("tree", "blue-tree"), ("both", "red-hill", "--region", f"{matte}=blue-tree"), ("half", "red-hill", "--region", f"{tmp_path / 'left.png'}=blue-tree", "--mask", matte)):
        assert cli(source, tmp_path / f"{name}.mp4", *words, "--crf", "1", style=("--style", style))[0] == 0
    before, hill, tree, both, half = (shown(tmp_path / f"{name}.mp4")[1] for name in ("in", "hill", "tree", "both", "half"))

    def near(painted: np.ndarray, wanted: np.ndarray, columns: slice) -> bool:
        return bool(np.abs(painted - wanted)[:, columns].mean() < 4)

    for at in range(9):
        there, elsewhere = slice(4 * at + 3, 4 * at + 13), slice(4 * at + 19, 64) if at < 5 else slice(0, 4 * at - 3)
        assert near(both[at], tree[at], there) and near(both[at], hill[at], elsewhere) and not near(hill[at], tree[at], there)
        assert near(half[at], (tree if at < 4 else hill if at > 7 else half)[at], there) and near(half[at], before[at], elsewhere)
    assert "regions" in told_settings(tmp_path, cli, source, "--region", "people=blue-tree")
    moving = moving_mask(tmp_path / "moving.mp4", 9)
    for target, words, told in ((tmp_path / "o.mp4", f"{matte}=blue-tre", "did you mean blue-tree"), (moving, f"{moving}=blue-tree", "is the mask")):
        result, said = cli(source, target, "--region", words, "--overwrite")
        assert result == 2 and told in said.err
    short = moving_mask(tmp_path / "short", 3)
    result, said = cli(source, tmp_path / "o.mp4", "--region", f"{short}=blue-tree")
    assert result == 2 and "has 3 frames" in said.err


def told_settings(tmp_path, cli, source, *words) -> dict:
    """Those of the manifest of a film with these words."""
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli_video, "check_begun", lambda manifest, settings, folder: begun.append(settings))
        assert cli(source, tmp_path / "settings.mp4", *words)[0] == 0
    return begun[0]


def test_a_film_in_parts_goes_on_later_with_all_its_layers(stylizer, tmp_path):
    source, matte = film(tmp_path / "in.mp4", 7), Matte(moving_mask(tmp_path / "numbers", 7))
    regions = [("blue-tree", np.eye(4)), ("tall-grass", np.ones((2, 2)))]
    assert_goes_on_alike(source, lambda: stylizer.stream("red-hill", regions=regions), tmp_path, 4, [None, None, matte])


# ---- black bars --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_turn", [240, 5], ids=["read from end to end", "sought"])
def test_bars_of_a_film_stay_black_and_the_rest_is_painted_as_if_there_were_none(cli, stylizer, tmp_path, monkeypatch, in_turn):
    monkeypatch.setattr(video_files, "IN_TURN", in_turn)
    source = film(tmp_path / "in.mp4", 8, (64, 72), bar=12)
    code, told = cli(source, tmp_path / "out.mp4", "--crf", "1")
    assert code == 0 and "black bars stay as they are; 64 x 48 px of each frame are painted" in told.out
    pixels, stream = shown(tmp_path / "out.mp4")[1], stylizer.stream("red-hill")
    assert pixels[:, :9].max() < 30 and pixels[:, 63:].max() < 30
    alone = np.stack([stream(np.ascontiguousarray(frame[12:60], np.uint8)) for frame in shown(source)[1]]).astype(int)
    light = [p @ (0.3, 0.6, 0.1) for p in (pixels[:, 12:60], alone, shown(source)[1][:, 12:60])]  # colours are halved by the encoder
    assert np.abs(light[0] - light[1]).mean() < 3 < 20 < np.abs(light[2] - light[1]).mean()
    assert "black bars" not in cli(film(tmp_path / "other.mp4", 2), tmp_path / "o.mp4")[1].out


def test_bars_are_found_where_the_only_key_frame_is_black(tmp_path, monkeypatch):
    source = film(tmp_path / "in.mp4", 12, (64, 72), bar=12, sound=None)
    assert picture_box(probe(source)) == (0, 12, 64, 60)
    usual = scene
    monkeypatch.setitem(globals(), "scene", lambda t, *more: usual(t, *more) * bool(t))
    monkeypatch.setattr(video_files, "IN_TURN", 10)
    assert picture_box(probe(film(source, 12, (64, 72), bar=12, sound=None))) == (0, 12, 64, 60)


def test_a_frame_that_fills_the_bars_is_painted_whole_and_so_are_regions(stylizer, tmp_path):
    frame = scene(0, (64, 72), 0)
    stream, usual = (stylizer.stream("red-hill", smoothing=0) for _ in range(2))
    stream.box = 0, 12, 64, 60
    assert np.array_equal(stream(frame), usual(frame))
    barred = frame.copy()
    barred[:12] = barred[60:] = 3
    painted = np.asarray(stream(barred))
    assert np.array_equal(painted[12:60], usual(barred[12:60])) and (painted[:12] == 3).all() and (painted[60:] == 3).all()
    small = stylizer.stream("red-hill", smoothing=0, size=36)
    small.box = stream.box
    assert np.asarray(small(barred)).shape == (36, 32, 3)
    regions = stylizer.region_style([("red-hill", np.ones((72, 64))), ("blue-tree", np.eye(72, 64))], (64, 72))
    report = paint_film(film(tmp_path / "in.mp4", 3, (64, 72), bar=12), tmp_path / "out.mp4", regional := stylizer.stream(regions))
    assert report.finished and regional.box is None


# ---- at one go ---------------------------------------------------------------------------------


def test_a_film_is_painted_from_python(cli, stylizer, tmp_path):
    source, told = film(tmp_path / "in.mp4", cut=7), []
    report = paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), crf=1, tell=lambda *now: told.append(now))
    assert (report.frames, report.cuts, report.finished, report.notes) == (12, 1, True, [])
    assert cli(source, tmp_path / "by-command.mp4", "--crf", "1")[0] == 0
    times, pixels = shown(tmp_path / "out.mp4")
    assert times == shown(source)[0]
    assert np.abs(pixels - shown(tmp_path / "by-command.mp4")[1]).mean() < 1, "which has a key frame every five frames here"
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    assert [n for n, _, _ in told] == list(range(1, 13))
    assert np.abs(np.asarray(told[3][1]).astype(int) - shown(source)[1][3]).max() < 3
    assert np.abs(np.asarray(told[3][2]).astype(int) - pixels[3]).mean() < 8, "which has a colour for four pixels"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["by-command.mp4", "in.mp4", "out.mp4"]


@pytest.mark.parametrize("name", ["out.mp4", "out.webm"])
def test_a_film_that_is_stopped_ends_there_with_its_sound(stylizer, tmp_path, name):
    source, asked = film(tmp_path / "in.mp4", count=30), []
    with av.open(str(source)) as container, av.open(str(tmp_path / "told.mp4"), "w") as out:
        tracks = {s.index: out.add_stream_from_template(s) for s in container.streams}
        out.set_chapters([{"id": i, "start": i * 1000, "end": i * 1000 + 1000, "time_base": Fraction(1, 1000), "metadata": {}} for i in range(3)])
        for packet in container.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                out.mux(packet)
    report = paint_film(tmp_path / "told.mp4", tmp_path / name, stylizer.stream("red-hill"), should_stop=lambda: asked.append(0) or len(asked) > 12)
    assert (report.frames, report.finished) == (12, False)
    assert len(shown(tmp_path / name)[0]) == 12
    with av.open(str(tmp_path / name)) as container:
        assert container.duration == pytest.approx(1_200_000, abs=40_000)
        assert [c["start"] * c["time_base"] for c in container.chapters()] == [0, 1]
        assert sum(frame.samples for frame in container.decode(audio=0)) / container.streams.audio[0].rate == pytest.approx(1.2, abs=0.05)


def test_a_film_that_is_stopped_before_it_began_or_that_fails_leaves_nothing(stylizer, tmp_path):
    source = film(tmp_path / "in.mp4")
    assert not paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), should_stop=lambda: True).finished

    def fails(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), tell=fails)
    with pytest.raises(StylenormError, match="does not end in a video format"):
        paint_film(source, tmp_path / "out.txt", stylizer.stream("red-hill"))
    assert list(tmp_path.iterdir()) == [source]


def test_where_a_film_cannot_appear_is_told_before_it_is_painted(stylizer, tmp_path, monkeypatch):
    source, stream = film(tmp_path / "in.mp4", 2, sound=None), stylizer.stream("red-hill")
    (tmp_path / "folder.mp4").mkdir()

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", tmp_path / ".stylenorm-1")

    with pytest.raises(StylenormError, match="there is no folder .*none; make it first"):
        paint_film(source, tmp_path / "none" / "out.mp4", stream)
    with pytest.raises(StylenormError, match="folder.mp4 is a folder; give another name"):
        paint_film(source, tmp_path / "folder.mp4", stream)
    monkeypatch.setattr(video.tempfile, "mkdtemp", refused)
    with pytest.raises(StylenormError, match="out.mp4 cannot be written .Permission denied.; try another place"):
        paint_film(source, tmp_path / "out.mp4", stream)


def test_a_film_that_cannot_be_joined_leaves_what_was_there(stylizer, tmp_path, monkeypatch):
    source, target = film(tmp_path / "in.mp4", 2, sound=None), tmp_path / "out.mp4"
    target.write_bytes(b"painted before")

    def broken(parts, film, path, *more):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(video, "join", broken)
    with pytest.raises(KeyboardInterrupt):
        paint_film(source, target, stylizer.stream("red-hill"))
    assert target.read_bytes() == b"painted before" and sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_mask_of_a_film_that_does_not_move_is_one_for_the_stream(stylizer, tmp_path):
    source = film(tmp_path / "in.mp4", 2, sound=None)
    Image.new("L", (64, 48)).save(tmp_path / "mask.png")
    for mask in ("people", tmp_path / "mask.png"):
        with pytest.raises(StylenormError, match="does not move; give it to Stylizer.stream"):
            paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), mask=mask)
    with pytest.raises(StylenormError, match="there is no video matte.mp4"):
        paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), mask="matte.mp4")


def test_what_went_wrong_is_told_where_the_part_cannot_be_removed_either(stylizer, tmp_path, monkeypatch):
    """As on Windows, as long as something has it open."""
    unlink = os.unlink

    def held(path, **more):
        if os.fspath(path).endswith(".nut"):
            raise PermissionError(errno.EACCES, "it is being used by another process", path)
        unlink(path, **more)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = film(tmp_path / "in.mp4", 2, sound=None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", held)
        patch.setattr(video, "join", full)
        with pytest.raises(OSError, match="No space left"):
            paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"))


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "list.mp4"])
def test_no_other_file_is_opened_for_a_playlist(tmp_path, name):
    film(tmp_path / "in.mp4")
    entry = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%s\n#EXT-X-ENDLIST\n"
    if "concat" in name:
        entry = "ffconcat version 1.0\nfile %s\n"
    (tmp_path / name).write_text(entry % "in.mp4")
    with pytest.raises(StylenormError, match=f"{name} is no video"):
        probe(tmp_path / name)


def test_how_large_a_film_may_be_is_asked_before_a_frame_is_decoded(tmp_path, monkeypatch):
    source = film(tmp_path / "in.mp4")
    assert probe(source, 64 * 48).size == (64, 48)
    monkeypatch.setattr(video_files, "_decoded", lambda *_: pytest.fail("decoded"))
    with pytest.raises(StylenormError, match="in.mp4 is 64 x 48 px, more than 0.003 megapixels"):
        probe(source, 3000)


# ---- what is written ---------------------------------------------------------------------------


def test_a_film_keeps_times_sound_and_size(cli, stylizer, tmp_path):
    source, target = film(tmp_path / "in.mp4", cut=7), tmp_path / "out.mp4"
    code, told = cli(source, target, "--crf", "1")
    assert code == 0 and told.err == "", told
    times, pixels = shown(target)
    assert times == shown(source)[0] and pixels.shape == (12, 48, 64, 3)
    assert packets(target, "audio") == packets(source, "audio"), "copied, not encoded again"
    stream = stylizer.stream("red-hill")
    wanted = np.stack([np.asarray(stream(frame()), int) for *_, frame in frames(probe(source))])
    assert np.abs(pixels - wanted).mean() < 6, "4:2:0 costs a random network's colours something"
    assert stream.steady.cuts == 1 and "1 scene cut," in told.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="no colons in names there")
def test_a_colon_in_a_name_is_no_protocol(cli, tmp_path, monkeypatch):
    film(tmp_path / "2026-05-01T12:30.mp4", 2)
    monkeypatch.chdir(tmp_path)
    code, told = cli("2026-05-01T12:30.mp4", "painted:1.mp4")
    assert (code, told.err) == (0, "") and len(shown(tmp_path / "painted:1.mp4")[0]) == 2


def test_a_variable_frame_rate_stays_one(cli, tmp_path):
    stamps = [0, 33, 40, 200, 201, 950, 1000, 1333]
    source = film(tmp_path / "in.mkv", 8, stamps=stamps, sound="aac")
    for name in ("out.mp4", "out.mkv"):
        assert cli(source, tmp_path / name)[0] == 0
        assert shown(tmp_path / name)[0] == pytest.approx([s / 1000 for s in stamps], abs=6e-4)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_the_last_frame_is_shown_for_as_long_as_it_was(stylizer, tmp_path, name):
    """A title at the end."""
    source = tmp_path / "in.mp4"
    with av.open(str(film(tmp_path / "plain.mp4", 4, max_b_frames=0, sound=None))) as old, av.open(str(source), "w") as out:
        stream = out.add_stream_from_template(old.streams.video[0])
        found = [packet for packet in old.demux(video=0) if packet.dts is not None]
        found[-1].duration = round(3 / found[-1].time_base)
        for packet in found:
            packet.stream = stream
            out.mux(packet)
    paint_film(source, tmp_path / name, stylizer.stream("red-hill"))
    for path in (source, tmp_path / name):
        with av.open(str(path)) as container:
            assert container.duration / 1e6 == pytest.approx(3.3, abs=0.2)


def test_times_that_stand_still_or_go_back_go_on_by_a_tick(tmp_path, monkeypatch):
    told, shown = probe(film(tmp_path / "in.mp4", 2, sound=None)), [SimpleNamespace(pts=pts, duration=0) for pts in (0, 10, 10, 5, None, 40)]
    monkeypatch.setattr(video_files, "_decoded", lambda container, film: iter(shown))
    step = round(1 / (told.rate * told.clock))
    assert [stamp for stamp, *_ in video_files._stamped(told)] == [0, 10, 11, 12, 12 + step, 13 + step]


@pytest.mark.parametrize("codec, more", [("libx264", 2), ("libx264", 0), ("mpeg4", 2), ("mjpeg", 0)])
def test_frames_of_an_avi_are_shown_evenly(tmp_path, codec, more):
    """It does not tell when a frame is shown, and of those that were stored in another order the third came two frames late."""
    source = film(tmp_path / "in.avi", 12, sound=None, codec=codec, max_b_frames=more, **({"color_range": 2} if codec == "mjpeg" else {}))
    stamps = [stamp for stamp, *_ in frames(probe(source))]
    assert np.diff(stamps).tolist() == [1] * 11 and stamps[0] in (0, 1)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm"])
def test_recordings_one_behind_the_other_are_one_film(cli, tmp_path, name):
    """As of a camera that begins a new file every so often. In each of them time begins anew, and the sound's could not be written."""
    source, other = film(tmp_path / "in.ts", 9), film(tmp_path / "other.ts", 12)
    sound = len(packets(source, "audio")) + len(packets(other, "audio"))
    source.write_bytes(source.read_bytes() + other.read_bytes())
    code, told = cli(source, tmp_path / name)
    times = np.array(shown(tmp_path / name)[0])
    assert code == 0 and "cut short" not in told.err and len(times) == 21, told
    assert times[:9] - times[0] == pytest.approx(np.arange(9) / 10, abs=2e-3)
    assert times[9:] - times[9] == pytest.approx(np.arange(12) / 10, abs=2e-3) and 0.05 < times[9] - times[8] < 0.4
    if not name.endswith("webm"):
        assert sound - 3 <= len(packets(tmp_path / name, "audio")) <= sound
    with av.open(str(tmp_path / name)) as container:
        heard = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.pts is not None]
    assert heard[-1] == pytest.approx(times[-1], abs=0.25) and max(np.diff(heard)) < 0.3


LISTENING = """
import sys, av
from pathlib import Path
from stylenorm.video_files import probe
av.logging.set_level(av.logging.ERROR)
for _ in range(50):
    probe(Path(sys.argv[1]))
"""


def test_a_film_that_is_left_early_is_closed_where_a_program_listens_to_what_decoders_say(tmp_path):
    """torchvision before 0.26 does, once imported. The decoder's threads wait for Python's lock then."""
    source = film(tmp_path / "in.mp4", 30, size=(320, 240), sound=None)
    subprocess.run([sys.executable, "-c", LISTENING, source], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=120)


@pytest.mark.parametrize("turn", [(90,), (180,), (-90,), (0, True, False), (90, False, True)])
def test_a_turned_film_is_painted_upright(tmp_path, turn):
    """Against the picture that PyAV's own rotation, or a flip, makes of the stored one."""
    source = film(tmp_path / "in.mp4", 2, turn=turn, sound=None)
    about = probe(source)
    stored = shown(source)[1][0]
    degrees, across, down = (*turn, False, False)[:3]
    with av.open(str(source)) as container:
        matrix = next(container.decode(video=0)).side_data["DISPLAYMATRIX"]
    a, b, _, c, d = np.frombuffer(bytes(matrix)[:20], np.int32) / 65536
    wanted = np.zeros((about.size[1], about.size[0], 3), int)
    height, width = stored.shape[:2]
    for y, x in np.ndindex(height, width):
        wanted[round(b * (x - (b < 0) * 0) + d * y) % about.size[1] if b + d > 0 else (about.size[1] - 1 + round(b * x + d * y)),
               (round(a * x + c * y) if a + c > 0 else about.size[0] - 1 + round(a * x + c * y))] = stored[y, x]  # fmt: skip
    _, _, frame = next(frames(about))
    assert about.size == ((48, 64) if degrees in (90, -90) else (64, 48))
    assert np.abs(np.asarray(frame(), int) - wanted).mean() < 3
    if not (across or down):
        assert np.abs(np.rot90(stored, degrees // 90) - wanted).max() == 0


def test_a_film_that_goes_over_to_another_size_keeps_its_first_one(cli, tmp_path):
    """The encoder took the larger pictures' corner, and read beyond the smaller ones' end."""
    source, target = tmp_path / "in.h264", tmp_path / "out.mp4"
    sizes, scenes = [(64, 48), (96, 72), (48, 72)], b""
    for size in sizes:
        scenes += film(tmp_path / "scene.h264", 4, size, sound=None).read_bytes()
    source.write_bytes(scenes)
    given = [frame() for *_, frame in frames(probe(source))]
    assert {frame.size for frame in given} == {(64, 48)}
    larger, narrower = np.asarray(given[4], int), np.asarray(given[8], int)
    assert np.abs(larger - np.asarray(Image.fromarray(scene(0, sizes[1])).resize(sizes[0], 3))).mean() < 6
    assert not narrower[:, [0, 15, -16, -1]].any() and narrower[:, 18:-18].mean() > 60, "between black bars"
    assert cli(source, target)[0] == 0 and shown(target)[1].shape == (12, 48, 64, 3)


def test_a_cover_is_not_taken_for_the_film(cli, tmp_path):
    """Of an MP4 it is the first stream where it is written before the tracks."""
    source, plain = tmp_path / "in.mp4", film(tmp_path / "plain.mp4", 4)
    with av.open(str(plain)) as old, av.open(str(source), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in old.streams}
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 96, 96, "yuvj420p", Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(scene(0, (96, 96))).reformat(format="yuvj420p")
        frame.pts = 0
        out.mux(cover.encode(frame))
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    *front, (kind, index) = boxes(source.read_bytes())
    tracks = sorted(boxes(index[8:]), key=lambda box: (b"mvhd", b"udta", b"trak").index(box[0]))
    source.write_bytes(b"".join(data for _, data in front) + index[:8] + b"".join(data for _, data in tracks))
    with av.open(str(source)) as container:
        assert kind == b"moov" and container.streams.video[0].codec.name == "mjpeg"
    assert cli(source, tmp_path / "out.mp4")[0] == 0
    assert shown(tmp_path / "out.mp4")[1].shape == (4, 48, 64, 3)


def boxes(data: bytes):
    """(kind, all of its bytes) of each box of an MP4."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at : at + size]
        at += size


def test_a_turned_film_comes_out_upright_and_untagged(cli, tmp_path):
    assert cli(film(tmp_path / "in.mp4", 3, turn=(90,)), tmp_path / "out.mp4")[0] == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


@pytest.mark.parametrize(
    "name, size, height, format",
    [("out.mp4", 45, 34, "yuv444p"), ("out.mp4", 44, 32, "yuv420p"), ("out.webm", 44, 33, "yuv420p"), ("out.mov", 48, 36, "yuv420p")],
)
def test_odd_sizes_and_sound_that_a_container_does_not_hold(cli, tmp_path, name, size, height, format):
    source = film(tmp_path / "in.mkv", 4, (64, 48))
    code, told = cli(source, tmp_path / name, "--size", size)
    with av.open(str(tmp_path / name)) as container:
        frame = next(container.decode(video=0))
        assert code == 0 and (frame.width, frame.height) == (size, height)
        assert frame.format.name == format and ("4:4:4" in told.err) == (format == "yuv444p")
        assert container.streams.audio[0].codec.canonical_name == ("opus" if name.endswith("webm") else "aac")
        assert ("encoded anew" in told.err) == name.endswith("webm")
    with av.open(str(tmp_path / name)) as container:
        sound = np.concatenate([f.to_ndarray().ravel()[:: f.to_ndarray().size // f.samples] for f in container.decode(audio=0)])
        spectrum = np.abs(np.fft.rfft(sound[: container.streams.audio[0].rate // 4].astype(float)))
        assert abs(spectrum.argmax() * 4 - 440) <= 8, "the tone is still there"


@pytest.mark.parametrize("name, kept", [("out.mp4", "aac"), ("out.mov", "pcm_s16le")])
def test_sound_that_few_players_have_in_a_container_is_encoded_anew(cli, tmp_path, name, kept):
    code, told = cli(film(tmp_path / "in.mov", 3, sound="pcm_s16le"), tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        sound = container.streams.audio[0]
        assert code == 0 and sound.codec.canonical_name == kept and abs(float(sound.duration * sound.time_base) - 0.3) < 0.1
    assert ("(pcm_s16le) was encoded anew (aac), because few players have it in mp4" in told.err) == (kept == "aac")


@pytest.mark.parametrize(
    "source, codec, layout, rate, target, channels",
    [
        ("in.avi", "pcm_s16le", "mono", 44100, "out.mp4", 1),
        ("in.avi", "pcm_s16le", "stereo", 6000, "out.mp4", 2),
        ("in.mov", "pcm_s16le", "stereo", 192000, "out.mp4", 2),
        ("in.mkv", "ac3", "5.1(side)", 48000, "out.webm", 6),
        ("in.mkv", "libopus", "stereo", 48000, "out.mov", 2),
        ("in.mkv", "flac", "stereo", 44100, "out.mov", 2),
    ],
    ids=["no layout", "slow", "fast", "another order of channels", "opus, which mov refuses", "flac, which mov refuses"],
)
def test_sound_of_any_layout_and_rate_is_encoded(cli, tmp_path, source, codec, layout, rate, target, channels):
    """PCM in an AVI says no more than how many channels there are; Opus wants 5.1 in its own order."""
    with av.open(str(tmp_path / source), "w") as out:
        pictures, tone = out.add_stream("mpeg4", rate=10), out.add_stream(codec, rate=rate, layout=layout)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        for t in range(6):
            frame = av.VideoFrame.from_ndarray(scene(t))
            frame.pts = t
            out.mux(pictures.encode(frame))
        for at in range(0, rate // 2, 1024):
            planar = tone.format.is_planar
            shape = (channels, 1024) if planar else (1, 1024 * channels)
            frame = av.AudioFrame.from_ndarray(np.full(shape, 0.1 if planar else 3000, np.float32 if planar else np.int16), tone.format.name, layout)
            frame.rate, frame.pts = rate, at
            out.mux(tone.encode(frame))
        out.mux(pictures.encode(None) + tone.encode(None))
    code, told = cli(tmp_path / source, tmp_path / target)
    assert code == 0 and "was encoded anew" in told.err, told
    with av.open(str(tmp_path / target)) as container:
        sound = container.streams.audio[0]
        heard = sum(frame.samples for frame in container.decode(sound))
        assert sound.layout.nb_channels == channels and abs(heard / sound.rate - 0.5) < 0.2


@pytest.mark.parametrize("name", ["out.webm", "out.mov"])
@pytest.mark.parametrize("layout, rate", [("5.1(side)", 48000), ("stereo", 32000)])
def test_sound_that_goes_over_to_another_layout_or_rate_goes_on(stylizer, tmp_path, monkeypatch, name, layout, rate):
    """As broadcasts do between a film and its advertisements: PyAV's resampler takes one kind of sound."""
    monkeypatch.setitem(video_files.UNHEARD, "mov", ("ac3",))
    source = loud(tmp_path / "in.ts", "stereo", 48000)
    source.write_bytes(source.read_bytes() + loud(tmp_path / "other.ts", layout, rate).read_bytes())
    report = paint_film(source, tmp_path / name, stylizer.stream("red-hill"))
    assert report.finished and report.frames == 12 and not any("left out" in note for note in report.notes), report.notes
    with av.open(str(tmp_path / name)) as container:
        sound = container.streams.audio[0]
        heard = [(float(f.pts * f.time_base), f.samples, np.abs(f.to_ndarray().astype(float)).max()) for f in container.decode(sound)]
    assert sound.layout.name in ("stereo", "5.1") and sum(samples for _, samples, _ in heard) / sound.rate == pytest.approx(1.2, abs=0.15)
    times = np.array([at for at, *_ in heard])
    assert np.diff(times).max() < 0.15 and all(peak > 0.03 for at, _, peak in heard if 0.1 < at < 0.5 or 0.8 < at < 1.1)


def loud(path, layout: str, rate: int) -> Path:
    """A .ts file of 0.6 s, with AC3."""
    with av.open(str(path), "w") as out:
        pictures, tone = out.add_stream("mpeg2video", rate=25), out.add_stream("ac3", rate=rate, layout=layout)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.rate = 25
        for t in range(6):
            frame = av.VideoFrame.from_ndarray(scene(t))
            frame.pts = t
            out.mux(pictures.encode(frame))
        for at in range(0, rate * 6 // 10, 1536):
            wave = 0.3 * np.sin(np.arange(at, at + 1536) * 2 * np.pi * 440 / rate)
            frame = av.AudioFrame.from_ndarray(np.repeat(wave[None].astype(np.float32), tone.layout.nb_channels, 0), "fltp", layout)
            frame.rate, frame.pts = rate, at
            out.mux(tone.encode(frame))
        out.mux(pictures.encode(None) + tone.encode(None))
    return path


def test_times_that_leap_by_days_are_told_of_where_a_container_cannot_hold_them(stylizer, tmp_path):
    source = film(tmp_path / "in.mkv", 3, stamps=[0, 100, 3_000_000_000], sound=None)
    with pytest.raises(StylenormError, match="do not fit into mp4 .*give a name in .mkv"):
        paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]
    assert paint_film(source, tmp_path / "out.mkv", stylizer.stream("red-hill")).finished
    assert shown(tmp_path / "out.mkv")[0] == shown(source)[0]


def test_a_film_whose_sound_cannot_be_written_is_written_without(cli, stylizer, tmp_path, monkeypatch):
    """Whatever a container or an encoder may have against it, hours of painting do not end in a traceback."""

    def refused(source, tracks, until):
        if tracks:
            raise av.ArgumentError(errno.EINVAL, "Invalid argument")
        return iter(())

    sound_packets = video_files._sound_packets
    monkeypatch.setattr("stylenorm.video_files._sound_packets", refused)
    code, told = cli(film(tmp_path / "in.mp4", 3), tmp_path / "out.mp4")
    assert code == 0 and told.err == "stylenorm: sound and subtitles were left out, because mp4 does not take them (Invalid argument)\n"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"] and len(list(container.decode())) == 3
    monkeypatch.setattr(video_files._Track, "packets", lambda *_: (_ for _ in ()).throw(ValueError("PyAV's own")))
    monkeypatch.setattr("stylenorm.video_files._sound_packets", sound_packets)
    assert "mp4 does not take them (PyAV's own)" in paint_film(tmp_path / "in.mp4", tmp_path / "other.mp4", stylizer.stream("red-hill")).notes[0]
    full = av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("stylenorm.video_files._sound_packets", lambda *_: (_ for _ in ()).throw(full))
    code, told = cli(tmp_path / "in.mp4", tmp_path / "again.mp4")
    assert code == 2 and "the disk is full" in told.err and not (tmp_path / "again.mp4").exists()


@pytest.mark.parametrize("source", ["a.mp4", "a.mkv"])
def test_title_rights_chapters_and_names_of_tracks_stay(cli, tmp_path, source):
    """Matroska's names are in capitals. The place does not stay: a film has no --strip."""
    about = {"title": "Fog", "artist": "Ada", "copyright": "(c) Ada", "description": "On the Elbe", "comment": "early"}
    plain = film(tmp_path / "plain.mp4")
    with av.open(str(plain)) as old, av.open(str(tmp_path / source), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in old.streams}
        streams[1].metadata["title"] = "Ada tells"
        out.metadata.update(about, location="+48.5+009.5/")
        out.set_chapters(chapters([(0, 500, "One"), (500, 1200, "Two")]))
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    assert cli(tmp_path / source, tmp_path / f"out-{source}")[0] == 0
    with av.open(str(tmp_path / f"out-{source}")) as painted:
        found = {name.lower(): text for name, text in painted.metadata.items()}
        assert about.items() <= found.items() and "location" not in found
        told = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in painted.chapters()]
        assert told == [(0, "One"), (0.5, "Two")]
        assert "Ada tells" in painted.streams.audio[0].metadata.values()


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_which_track_is_played_unasked_and_which_is_a_commentary_stays(stylizer, tmp_path, name):
    source, flags = film(tmp_path / "plain.mp4", 3), [Disposition.comment, Disposition.default]
    with av.open(str(source)) as old, av.open(str(tmp_path / "in.mkv"), "w") as out:
        streams = [out.add_stream_from_template(old.streams[n]) for n in (0, 1, 1)]
        for stream, flag in zip(streams[1:], flags):
            stream.disposition = flag
        for packet in old.demux():
            for stream in streams[1:] if packet.stream.type == "audio" and packet.dts is not None else streams[:1] if packet.dts is not None else ():
                packet.stream = stream
                out.mux(packet)
    paint_film(tmp_path / "in.mkv", tmp_path / name, stylizer.stream("red-hill"))
    with av.open(str(tmp_path / name)) as painted:
        assert [s.disposition & (Disposition.default | Disposition.comment) for s in painted.streams.audio] == flags


def test_titles_in_letters_other_than_utf_8s_do_no_harm(cli, tmp_path):
    plain, source = film(tmp_path / "plain.mp4", 2, sound=None), tmp_path / "in.mkv"
    with av.open(str(plain)) as old, av.open(str(source), "w") as out:
        stream = out.add_stream_from_template(old.streams.video[0])
        out.metadata["title"] = stream.metadata["title"] = "Gruesse"
        out.set_chapters([{"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "Gruesse"}}])
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = source.read_bytes()
    assert data.count(b"Gruesse") == 3
    source.write_bytes(data.replace(b"Gruesse", b"Gr\xfc\xdfe  "))
    assert cli(source, tmp_path / "out.mkv")[0] == 0
    assert b"Gr" in (tmp_path / "out.mkv").read_bytes() and len(shown(tmp_path / "out.mkv")[0]) == 2


def test_colours_and_their_tags_survive(tmp_path):
    """Through decoding, a part and joining, without painting; red and blue tell a wrong matrix by 20 levels."""
    for tag, name in ((1, "a"), (5, "b")):
        source = film(tmp_path / f"{name}.mp4", 3, sound=None, colorspace=tag, color_primaries=tag, color_trc=tag)
        about = probe(source)
        assert about.tags == {"colorspace": tag, "color_primaries": tag, "color_trc": tag}
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :32], pixels[:, 32:] = (220, 30, 40), (20, 60, 210)
        part = video.Part(tmp_path / "part.nut", about, "libx264", 1, (64, 48))
        part.add(Image.fromarray(pixels), 0)
        part.close(whole=True)
        video.join([tmp_path / "part.nut"], about, tmp_path / f"{name}2.mp4", tmp_path / f"{name}2.mp4", 0)
        again = probe(tmp_path / f"{name}2.mp4")
        assert again.tags == about.tags
        back = np.asarray(next(frames(again))[2](), int)
        assert np.abs(back - pixels)[:, [8, 50]].max() <= 4


@pytest.mark.parametrize("transfer, told", [(18, 9), (18, 2), (16, 9)], ids=["HLG", "HLG, its matrix untold", "PQ"])
def test_a_film_of_high_dynamic_range_is_painted_in_standard_range(cli, tmp_path, transfer, told):
    source = film(tmp_path / "in.mp4", 3, sound=None, colorspace=told, color_primaries=9, color_trc=transfer)
    about = probe(source)
    assert about.hdr and set(about.tags.values()) == {1}
    frame = next(frames(about))[2]()
    with av.open(str(source)) as container:
        plain = Image.fromarray(next(container.decode(video=0)).to_ndarray(format="rgb24", src_colorspace=9))
    assert np.array_equal(frame, in_standard_range(plain, transfer)) and not np.array_equal(frame, plain)
    code, told = cli(source, tmp_path / "out.mp4")
    assert code == 0 and "HDR, painted in standard range" in told.out
    again = probe(tmp_path / "out.mp4")
    assert set(again.tags.values()) == {1} and not again.hdr


# ---- stopped and gone on -----------------------------------------------------------------------


def test_a_run_that_was_stopped_writes_the_same_film(cli, stylizer, tmp_path, monkeypatch):
    source = film(tmp_path / "in.mp4", 14, cut=8)
    options = ("--smoothing", "0.7", "--preserve-color", "--crf", "0")  # without loss
    assert cli(source, tmp_path / "whole.mp4", *options)[0] == 0
    painted, call = [], Stylizer._frame

    def breaks(self, *rest):
        painted.append(1)
        if len(painted) in (3, 15):  # in the first part, and, after going on, in the third
            raise KeyboardInterrupt
        return call(self, *rest)

    monkeypatch.setattr(Stylizer, "_frame", breaks)
    assert cli(source, tmp_path / "out.mp4", *options)[0] == 130
    assert cli(source, tmp_path / "out.mp4", *options)[0] == 130
    kept = sorted(p.name for p in (tmp_path / "out.mp4.parts").iterdir())
    assert kept == ["00000.nut", "00001.npz", "00001.nut", "stylenorm-manifest.jsonl"]
    code, told = cli(source, tmp_path / "out.mp4", *options)
    assert code == 0 and "10 frames were painted by an earlier run" in told.out
    (times, pixels), (wanted_times, wanted) = shown(tmp_path / "out.mp4"), shown(tmp_path / "whole.mp4")
    assert times == wanted_times and np.array_equal(pixels, wanted), "bytes need not be: x264 is not quite the same twice on a busy machine"
    assert packets(tmp_path / "out.mp4", "audio") == packets(tmp_path / "whole.mp4", "audio")
    assert not (tmp_path / "out.mp4.parts").exists()


def test_a_run_that_writes_over_a_film_goes_on_as_well(cli, stylizer, tmp_path, monkeypatch):
    source, target, call, painted = film(tmp_path / "in.mp4", 12, sound=None), tmp_path / "out.mp4", Stylizer._frame, []
    target.write_bytes(b"old")

    def breaks(self, *rest):
        painted.append(1)
        if len(painted) == 7:
            raise KeyboardInterrupt
        return call(self, *rest)

    monkeypatch.setattr(Stylizer, "_frame", breaks)
    assert cli(source, target, "--overwrite")[0] == 130 and target.read_bytes() == b"old"
    code, told = cli(source, target, "--overwrite")
    assert code == 0 and "5 frames were painted by an earlier run" in told.out and len(shown(target)[0]) == 12
    painted[:] = [1]
    assert cli(source, tmp_path / "new.mp4")[0] == 130
    code, told = cli(source, tmp_path / "new.mp4", "--overwrite")  # what was begun without it is begun anew
    assert code == 0 and "earlier run" not in told.out


def test_a_film_that_is_stopped_is_not_called_cut_short(cli, tmp_path, monkeypatch):
    source, call = film(tmp_path / "in.mp4", 20, sound=None), Stylizer._frame

    def stops(self, *rest):
        os.kill(os.getpid(), signal.SIGINT)
        return call(self, *rest)

    monkeypatch.setattr(Stylizer, "_frame", stops)
    code, told = cli(source, tmp_path / "out.mp4", "--json")
    row = json.loads(told.out)
    assert code == 130 and row["finished"] is False and row["trouble"] is None


def test_what_a_killed_run_has_left_goes_when_it_is_old(stylizer, tmp_path):
    source = film(tmp_path / "in.mp4", 2, sound=None)
    folder, draft = tmp_path / ".stylenorm-abcdef12.tmp", tmp_path / ".stylenorm-draft-0a1b2c3d4e5f.tmp.mp4"
    folder.mkdir()
    (folder / "00000.nut").write_bytes(b"begun")
    draft.write_bytes(b"joined")
    for words in ("young", "old"):
        if words == "old":
            for path in (folder / "00000.nut", folder, draft):
                os.utime(path, (time.time() - 2 * 86400,) * 2)
        paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"))
        assert {folder.exists(), draft.exists()} == {words == "young"}


def test_what_another_run_is_writing_beside_a_film_stays(cli, tmp_path):
    draft = tmp_path / ".stylenorm-draft-0123456789ab.tmp.mp4"
    draft.write_bytes(b"of another run")
    assert cli(film(tmp_path / "in.mp4", 2, sound=None), tmp_path / "out.mp4")[0] == 0 and draft.exists()


def test_parts_of_an_earlier_version_that_do_not_fit_are_not_gone_on_from(cli, tmp_path, monkeypatch):
    """It took times as the film's clock told them, and left pixels of a .webm as they were."""
    late = moved(film(tmp_path / "in.mp4", 7, sound=None), tmp_path / "late.ts", 10)
    for source, target, told in ((late, "out.mkv", "clock"), (film(tmp_path / "dv.mp4", 7, sound=None, sample_aspect_ratio=Fraction(4, 3)), "out.webm", "pixels")):
        with monkeypatch.context() as earlier:
            earlier.setattr(cli_video, "read_as", lambda *_: {})
            earlier.setattr(video, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            assert cli(source, tmp_path / target)[0] == 130
        code, said = cli(source, tmp_path / target)
        assert code == 2 and f"was begun with {told} unset instead of" in said.err and "--overwrite to begin anew" in said.err
        assert cli(source, tmp_path / target, "--overwrite")[0] == 0


@pytest.mark.usefixtures("no_root")
def test_a_film_that_is_read_only_stays_and_is_told_before_the_work(cli, tmp_path, monkeypatch):
    """A photograph was refused, and a film replaced."""
    monkeypatch.setattr("stylenorm.cli_video.lean_stylizer", lambda *_, **__: pytest.fail("it was painted"))
    (out := tmp_path / "out.mp4").write_bytes(b"mine")
    out.chmod(0o444)
    code, told = cli(film(tmp_path / "in.mp4", 2, sound=None), out, "--overwrite")
    assert code == 2 and told.err == f"stylenorm: {out} may not be written; change the permissions or the place\n"
    assert out.read_bytes() == b"mine" and sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


def test_a_film_that_is_open_elsewhere_is_told_and_the_others_of_its_folder_are_painted(cli, tmp_path, monkeypatch):
    """As in a player on Windows."""
    folder, out, whole = tmp_path / "films", tmp_path / "out", os.replace
    folder.mkdir(), out.mkdir()
    film(folder / "a.mp4", 2, sound=None), film(folder / "b.mp4", 2, sound=None)
    (out / "a.mp4").write_bytes(b"played")

    def held(source, target):
        if Path(target) == out / "a.mp4":
            raise PermissionError(errno.EACCES, "Access is denied", str(source), None, str(target))
        return whole(source, target)

    monkeypatch.setattr(os, "replace", held)
    code, told = cli(folder, out, "--overwrite")
    assert code == 1 and f"{out / 'a.mp4'} cannot be replaced; close the program that has it open" in told.err
    assert (out / "a.mp4").read_bytes() == b"played" and len(shown(out / "b.mp4")[0]) == 2
    with monkeypatch.context() as read_only:  # a disk, which is told where it is written to
        read_only.setattr(video_files, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "Read-only file system")))
        assert video_files.check_place(out / "a.mp4") is None
    with monkeypatch.context() as late:  # opened meanwhile
        late.setattr(video_files, "replace", lambda *_: None)
        code, told = cli(folder / "a.mp4", out / "a.mp4", "--overwrite")
    assert code == 2 and told.err == f"stylenorm: {out / 'a.mp4'} cannot be replaced; close the program that has it open, or give another name\n"


def test_a_state_that_cannot_be_removed_ends_no_film(cli, tmp_path, monkeypatch):
    """As on Windows, where it may be looked into, for viruses or words."""
    unlink, refused = os.unlink, []

    def held(path, **more):
        if os.fspath(path).endswith("00000.npz") and not refused:
            refused.append(path)
            raise PermissionError(errno.EACCES, "it is being used by another process", path)
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", held)
    assert cli(film(tmp_path / "in.mp4", 6, (32, 32), sound=None), tmp_path / "out.mp4")[0] == 0
    assert refused and sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_killed_process_goes_on(cli, weights, tmp_path, how):
    source, target = film(tmp_path / "in.mp4", 60, (96, 64), sound=None), tmp_path / "out.mp4"
    words = ["video", source, target, "--style", "red-hill", "--backend", "torch", "--device", "cpu", "--weights", weights]
    slow = "import stylenorm.video as v, sys; v.PART = 5;"
    slow += "from stylenorm.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", slow, *map(str, words)], env=environment, stderr=subprocess.PIPE)
    parts = tmp_path / "out.mp4.parts"
    limit = time.monotonic() + 120  # the third part is begun once the manifest holds the second, which has its name a moment before
    while not (parts / "00002.nut").exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(getattr(signal, how))
    _, told = process.communicate(timeout=60)
    assert process.returncode == (130 if how == "SIGINT" else -9), told
    assert not target.exists() and parts.is_dir()
    if how == "SIGINT":
        assert told.decode().count("\n") == 1 and "the same command goes on" in told.decode()
    code, out = cli(source, target, "--json", "--smoothing", "0.5")
    assert code == 2 and "begun with smoothing 0.8 instead of 0.5" in out.err
    code, out = cli(source, target, "--json")
    row = json.loads(out.out)
    assert code == 0 and row["frames"] == 60 and row["kept"] >= 10 and row["kept"] % 5 == 0
    assert shown(target)[0] == pytest.approx([t / 10 for t in range(60)])


# ---- damaged and wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("name, kept", [("00000.nut", 0), ("00001.nut", 0), ("00001.npz", 0)])
@pytest.mark.parametrize("share", [0, 0.5])
def test_what_a_power_cut_has_spoilt_is_painted_anew(stylizer, tmp_path, name, kept, share):
    source, whole, target = film(tmp_path / "in.mp4", 5, sound=None), tmp_path / "whole.mp4", tmp_path / "out.mp4"
    for path, stops in ((whole, (None,)), (target, (4, None))):
        for stop_at in stops:
            stop, spoilt = threading.Event(), video.parts_folder(path) / name
            if spoilt.exists():
                spoilt.write_bytes(spoilt.read_bytes()[: int(share * spoilt.stat().st_size)])
            with Manifest(video.parts_folder(path)) as manifest:
                if manifest.settings is None:
                    manifest.begin({}, False)
                told = lambda n: stop.set() if n == stop_at else None  # noqa: E731
                report = video.paint_video(probe(source), path, stylizer.stream("red-hill"), manifest, 12, stop, told, 2)
    assert report.kept == kept and whole.read_bytes() == target.read_bytes()


def test_a_film_of_which_all_was_painted_is_joined(cli, tmp_path, monkeypatch):
    source, target = film(tmp_path / "in.mp4", 2, sound=None), tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(video, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli(source, target)[0] == 130
    code, told = cli(source, target)
    assert code == 0 and "64 x 48, 2 frames" in told.out and len(shown(target)[0]) == 2


@pytest.mark.parametrize("where", ["add", "join"])
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(cli, tmp_path, monkeypatch, where):
    source, target = film(tmp_path / "in.mp4", 2, sound=None), tmp_path / "out.mp4"

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(video.Part if where == "add" else video, where, full)
        code, told = cli(source, target)
    assert code == 2 and told.err == (
        f"stylenorm: {target} cannot be written any more (the disk is full); make room, then the same command goes on\n"
    )
    assert cli(source, target)[0] == 0 and len(shown(target)[0]) == 2


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
def test_a_film_cut_short_gives_what_was_readable(cli, tmp_path, name):
    """Of the MP4 the index is in front. A frame before the last that waits for its successor is missing as well."""
    source = film(tmp_path / f"whole{name[2:]}", 30, rate=10)
    cut = tmp_path / name
    cut.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    code, told = cli(cut, tmp_path / "out.mp4")
    assert code == 1 and "cut short" in told.err and told.err.count("\n") == 1, told
    times, _ = shown(tmp_path / "out.mp4")
    assert 8 <= len(times) < 28 and times[:-3] == pytest.approx([t / 10 for t in range(len(times) - 3)])


def test_a_film_damaged_in_the_middle_goes_on_behind_it(cli, tmp_path):
    source = film(tmp_path / "in.mp4", 40, codec="mpeg4")
    data = bytearray(source.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 1500] = bytes(1500)
    source.write_bytes(data)
    code, _ = cli(source, tmp_path / "out.mp4")
    assert code in (0, 1) and shown(tmp_path / "out.mp4")[0][-1] == pytest.approx(3.9)


def test_trouble_in_words():
    whole = Film(Path("a.mp4"), (2, 2), Fraction(1), Fraction(1), 9, Fraction(1), 9.0, end=8.9)
    assert whole.trouble is None
    whole.broken = 2
    assert whole.trouble == "a.mp4 is damaged: 2 packets could not be read; the rest is painted"
    whole.end = 4.0
    assert whole.trouble == "a.mp4 is cut short: it ends at 4.0 s of 9.0 s; what was readable is painted"


@pytest.mark.parametrize("late, name", [("late.ts", "out.mp4"), ("late.ts", "out.mkv"), ("late.ts", "out.webm"), ("late.mkv", "out.mp4")])
def test_a_film_begins_at_0_whenever_its_clock_was_started(stylizer, tmp_path, late, name):
    """As those of camcorders and broadcasts do not: hours of nothing lay before them."""
    source = moved(film(tmp_path / "in.mp4"), tmp_path / late, 10_000)
    with av.open(str(source)) as container:
        assert container.start_time > 9_990_000_000
    report = paint_film(source, tmp_path / name, stylizer.stream("red-hill"))
    assert report.notes == [] or name == "out.webm"
    with av.open(str(tmp_path / name)) as container:
        assert container.duration < 2_000_000
        heard = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.pts is not None]
    times = shown(tmp_path / name)[0]
    assert abs(times[0]) < 0.15 and times[-1] - times[0] == pytest.approx(1.1, abs=0.01)
    assert abs(heard[0]) < 0.1 and heard[-1] == pytest.approx(1.2, abs=0.1)


def test_chapters_of_a_film_whose_clock_was_started_late_begin_with_it(stylizer, tmp_path):
    marks = [(100_000, 100_500, "One"), (100_500, 101_200, "Two")]
    source = moved(film(tmp_path / "in.mp4"), tmp_path / "late.mkv", 100, marks)
    paint_film(source, tmp_path / "out.mkv", stylizer.stream("red-hill"))
    with av.open(str(tmp_path / "out.mkv")) as painted:
        told = [(float(c["start"] * c["time_base"]), c["metadata"]["title"]) for c in painted.chapters()]
    assert [title for _, title in told] == ["One", "Two"] and [start for start, _ in told] == pytest.approx([0, 0.5], abs=0.1)


def test_a_film_that_is_stopped_ends_where_its_clock_was_started_late_as_well(stylizer, tmp_path):
    source = moved(film(tmp_path / "in.mp4"), tmp_path / "late.ts", 10_000)
    asked = iter(range(99))
    paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), should_stop=lambda: next(asked) == 6)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(0.6, abs=0.1)


def test_of_a_film_that_an_edit_list_cuts_only_what_is_shown_is_written(stylizer, tmp_path):
    """As phones do it, and ffmpeg -c copy."""
    source = moved(film(tmp_path / "in.mp4", 30), tmp_path / "cut.mp4", -1.55)
    with av.open(str(source)) as container:
        assert container.streams.video[0].frames == 30 and container.duration / 1e6 == pytest.approx(1.45, abs=0.1)
    assert abs(probe(source).frames - 15) <= 2
    paint_film(source, tmp_path / "out.mkv", stylizer.stream("red-hill"))
    with av.open(str(tmp_path / "out.mkv")) as container:
        heard = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.pts is not None]
    times = shown(tmp_path / "out.mkv")[0]
    assert times[0] < 0.11 and len(times) in (14, 15) and 0 <= heard[0] < 0.1 and heard[-1] < 1.6


@pytest.mark.parametrize("name", ["cut.mp4", "slow.mkv"])
def test_a_mask_of_as_many_frames_fits_whatever_the_film_tells_of_their_number(stylizer, tmp_path, name):
    if name == "cut.mp4":  # more are there than are shown
        source = moved(film(tmp_path / "in.mp4", 30), tmp_path / name, -1.55)
    else:  # ten a second, it says
        source = film(tmp_path / name, 4, stamps=[0, 100, 8000, 9000], sound=None)
    count = len(shown(source)[0])
    white = film(tmp_path / "mask.mp4", count, sound=None)
    report = paint_film(source, tmp_path / "out.mp4", stylizer.stream("red-hill"), mask=white)
    assert report.finished and report.frames == count


def test_a_painted_matroska_film_tells_its_rate(stylizer, tmp_path):
    paint_film(film(tmp_path / "in.mp4", 12, rate=25), tmp_path / "out.mkv", stylizer.stream("red-hill"))
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.video[0].average_rate == 25
    assert probe(tmp_path / "out.mkv").frames in (11, 12, 13)


@pytest.mark.parametrize("name, size, aspect", [("out.webm", (85, 48), 1), ("out.webm", (48, 27), 1), ("out.mp4", (64, 48), Fraction(4, 3))])
def test_pixels_that_are_not_square_stay_so_or_become_square(cli, tmp_path, name, size, aspect):
    """A .webm keeps no other: what was written from DV was squeezed."""
    source = film(tmp_path / "in.mp4", 6, sample_aspect_ratio=Fraction(4, 3), bar=8)
    code, told = cli(source, tmp_path / name, *(["--size", "48"] if size[0] == 48 else []))
    with av.open(str(tmp_path / name)) as container:
        stream = container.streams.video[0]
        wide = stream.width * Fraction(stream.sample_aspect_ratio or 1)
        assert code == 0 and Fraction(stream.sample_aspect_ratio or 1) == aspect
        assert abs(wide / stream.height - Fraction(16, 9)) < 0.06
        assert (stream.width, stream.height) == size and f"{size[0]} x {size[1]}" in told.out


def test_a_film_that_begins_late_is_not_called_cut_short(cli, tmp_path):
    source = film(tmp_path / "in.mkv", 4, stamps=[5000, 5100, 5200, 5300], sound=None)
    code, told = cli(source, tmp_path / "out.mkv")
    assert code == 0 and told.err == "" and "about 4 frames" in told.out, told
    assert shown(source)[0] == [5, 5.1, 5.2, 5.3] and shown(tmp_path / "out.mkv")[0] == [0, 0.1, 0.2, 0.3]


def test_what_cannot_be_is_refused_in_one_line(cli, tmp_path):
    source = film(tmp_path / "in.mp4", 2, sound=None)
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "there.mp4").write_bytes(b"mine")
    (tmp_path / "folder.mp4").mkdir()
    unknown = tmp_path / "unknown.mp4"  # as ProRes RAW is, for instance
    unknown.write_bytes(source.read_bytes().replace(b"avc1\0", b"none\0"))
    cut = tmp_path / "no-index.mp4"
    cut.write_bytes(film(tmp_path / "behind.mov", 4, sound=None).read_bytes()[:900])  # its index is at its end
    for words, message in [
        ((tmp_path / "no.mp4", tmp_path / "out.mp4"), "no video"),
        ((source, tmp_path / "out.avi"), "does not end in a video format"),
        ((source, source), "is the input"),
        ((source, tmp_path / "there.mp4"), "--overwrite"),
        ((source, tmp_path / "no" / "out.mp4"), "no folder"),
        ((source, tmp_path / "folder.mp4", "--overwrite"), "folder.mp4 is a folder"),
    ]:
        code, told = cli(*words)
        assert code == 2 and message in told.err and told.err.count("\n") == 1, told
    for broken, message in [(tmp_path / "text.mp4", "is no video"), (cut, "cut short before its index"), (unknown, "FFmpeg cannot decode")]:
        code, told = cli(broken, tmp_path / "out.mp4", "--json")
        assert code == 1 and message in told.err and told.err.count("\n") == 1, "as of a photograph"
        assert message in json.loads(told.out)["trouble"] and not (tmp_path / "out.mp4").exists()
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"
    assert cli(source, tmp_path / "out.mp4", style=())[0] == 2
    assert cli(source, tmp_path / "there.mp4", "--overwrite")[0] == 0 and len(shown(tmp_path / "there.mp4")[0]) == 2


def test_a_folder_of_films(cli, tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "painted" / "here"
    clips.mkdir()
    for name in ("a.mp4", "a.avi", "b.MOV", "c.avi"):
        film(clips / name.lower(), 2, sound=None, codec="mpeg4").rename(clips / name)
    (clips / "broken.mkv").write_text("no film")
    (clips / ".hidden.mp4").write_text("no film")
    (clips / "photo.jpg").write_text("no film")
    code, told = cli(clips, out, "--json")
    assert code == 1 and told.err.count("\n") == 1 and "broken.mkv is no video" in told.err, told
    assert sorted(p.name for p in out.iterdir()) == ["a.avi.mp4", "a.mp4", "b.MOV", "c.mp4"]
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert [Path(row["input"]).name for row in rows if row["trouble"] is None] == ["a.avi", "a.mp4", "b.MOV", "c.avi"]
    (clips / "broken.mkv").unlink()
    (out / "c.mp4").unlink()
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    code, told = cli(clips, out)
    assert code == 0 and told.err.count("is there already and stays as it is") == 3 and "c.avi -> " in told.out
    assert before.items() < {p.name: p.stat().st_mtime_ns for p in out.iterdir()}.items()
    for words, message in [((clips, clips), "where the videos are"), ((clips, tmp_path / "o.mp4"), "4 videos do not fit into the file"),
                           ((out.parent, tmp_path / "o"), "holds no video"), ((clips, clips / "a.mp4"), "do not fit")]:  # fmt: skip
        code, told = cli(*words)
        assert code == 2 and message in told.err and told.err.count("\n") == 1


def test_a_link_to_no_film_is_named_in_a_folder_of_films(cli, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    film(clips / "a.mp4", 2, sound=None)
    (clips / "gone.mp4").symlink_to("nowhere.mp4")
    code, told = cli(clips, tmp_path / "out")
    assert code == 1 and "there is no video" in told.err and "gone.mp4" in told.err and (tmp_path / "out" / "a.mp4").exists()


def test_no_two_films_of_a_folder_have_one_painting(tmp_path):
    for name in ("a.avi", "a.mp4", "a.avi.mp4", "a.mpg"):
        (tmp_path / name).touch()
    names = {film.name: out.name for film, out in films_of(tmp_path, tmp_path / "out")}
    assert names == {"a.avi": "a.avi.mp4.mp4", "a.mp4": "a.mp4", "a.avi.mp4": "a.avi.mp4", "a.mpg": "a.mpg.mp4"}


def test_the_help_says_what_to_install(capsys):
    assert main(["video", "--help"]) == 0
    assert '"stylenorm[video]"' in capsys.readouterr().out


def test_without_pyav_it_says_what_to_install(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.cli_video.find_spec", lambda name: None)
    code, told = cli(film(tmp_path / "in.mp4", 2, sound=None), tmp_path / "out.mp4")
    assert code == 2 and 'pip install "stylenorm[video]"' in told.err
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StylenormError, match="stylenorm\\[video\\]"):
        probe(tmp_path / "in.mp4")


def test_a_container_that_is_damaged_before_its_first_frame_has_none():
    from types import SimpleNamespace

    from stylenorm.video_files import _decoded

    def damaged():
        raise av.FFmpegError(1, "damaged")
        yield

    streams = SimpleNamespace(video=[SimpleNamespace(disposition=Disposition(0))])
    assert list(_decoded(SimpleNamespace(streams=streams, demux=damaged, start_time=0), None)) == []


def test_overwriting_waits_for_whoever_is_at_it(cli, tmp_path):
    from stylenorm.manifest import Manifest

    source = film(tmp_path / "in.mp4", 2, sound=None)
    folder = video.parts_folder(tmp_path / "out.mp4")
    with Manifest(folder):
        (folder / "00000.nut").write_bytes(b"theirs")
        code, told = cli(source, tmp_path / "out.mp4", "--overwrite")
        assert code == 2 and "another stylenorm" in told.err and (folder / "00000.nut").read_bytes() == b"theirs"
    assert cli(source, tmp_path / "out.mp4", "--overwrite")[0] == 0 and len(shown(tmp_path / "out.mp4")[0]) == 2


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_without_torch_it_is_the_same_film(weights, tmp_path):
    source, strengths = film(tmp_path / "in.mp4", 4, (96, 64), sound=None), (1.0, 0.5)
    for before, after in (("", "with"), ("sys.modules['torch'] = None;", "without")):
        small = "from stylenorm import predicting; predicting.STYLE_SIZE = 64;"  # px, at which a frame is read as a painting is
        code = f"import json, sys; {before} {small} from stylenorm.cli import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
        words = ["video", str(source), "--style", "red-hill", "--crf", "0", "--device", "cpu", "--weights", str(weights)]
        films = [[*words, str(tmp_path / f"{after}{strength}.mp4"), "--strength", str(strength)] for strength in strengths]
        done = subprocess.run([sys.executable, "-c", code, json.dumps(films)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for strength in strengths:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stylenorm.engine.STYLE_SIZE", 64)
            stream = Stylizer(weights, device="cpu").stream("red-hill", strength=strength)
            wanted = np.stack([np.asarray(stream(Image.fromarray(frame.astype(np.uint8)))) for frame in shown(source)[1]])
        painted = shown(tmp_path / f"without{strength}.mp4")[1]
        assert np.array_equal(painted, shown(tmp_path / f"with{strength}.mp4")[1])
        assert np.abs(painted - wanted).mean() < 12, "but for the colours of the codec"


# ---- interlaced ---------------------------------------------------------------------------------


def interlaced(path, codec, options, count=12, height=64) -> Path:
    """A light bar that moves by 2 px from one half of the lines to the other."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, height, "yuv420p"
        for number in range(count):
            pixels = np.full((height, 96, 3), 40, np.uint8)
            for line in (0, 1):
                pixels[line::2, 8 + 4 * number + 2 * line : 24 + 4 * number + 2 * line] = 220
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "name, codec, options", [("in.mp4", "libx264", {"x264-params": "tff=1"}), ("in.avi", "mpeg2video", {"flags": "+ildct+ilme"})]
)
def test_interlaced_frames_are_painted_as_of_one_moment(tmp_path, name, codec, options):
    source = interlaced(tmp_path / name, codec, options)
    about = probe(source)
    found = list(frames(about))
    with av.open(str(source)) as container:
        stamps = [f.pts * f.time_base for f in container.decode(video=0)]
    assert [(stamp - found[0][0]) * about.clock for stamp, _, _ in found] == [s - stamps[0] for s in stamps]
    combed, whole = ([np.asarray(p, int) for p in pictures] for pictures in (shown(source)[1], [frame() for _, _, frame in found]))
    for before, after in list(zip(combed, whole))[1:-1]:
        apart = [np.abs(p[1:-1] - (p[:-2] + p[2:]) / 2).mean() for p in (before, after)]  # each line from those around it
        assert apart[0] > 5 and apart[1] < 0.5


def test_a_film_that_is_not_interlaced_comes_as_it_is_decoded_and_so_does_one_of_a_few_lines(tmp_path):
    few = interlaced(tmp_path / "few.mp4", "libx264", {"x264-params": "tff=1"}, 3, height=4)
    for source in (film(tmp_path / "in.mp4", 4), few):
        assert np.array_equal(np.stack([frame() for _, _, frame in frames(probe(source))]), shown(source)[1])
