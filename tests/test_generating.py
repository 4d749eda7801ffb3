"""Pictures from noise: the same whatever the tiles, seamless, laid out, walked through, and refused in one sentence."""

from __future__ import annotations

import copy
import errno
import io
import json
import os
import re
import shutil
import tempfile
import threading
import weakref
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import add_generation, add_margins, make_photo, make_weights
from PIL import Image, ImageSequence

from stylenorm import generating, jobs, settling
from stylenorm.bench_generate import run_generate
from stylenorm.checkpoint import load_network, save_network, save_style
from stylenorm.cli import main
from stylenorm.cli_generate import layout_size
from stylenorm.colors import bindings, color_of
from stylenorm.config import SEEDS, GenerateConfig
from stylenorm.device import Group, autocast
from stylenorm.errors import ImageError, StyleError, StylenormError, WeightsError
from stylenorm.functional import EPSILON
from stylenorm.generating import NoisePainter, reach
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.images import read_picture
from stylenorm.layouts import Layout
from stylenorm.perceptual import style_loss
from stylenorm.noise_training import BORDER
from stylenorm.settling import FARTHEST, MOST, stripping
from stylenorm.style import Style
from stylenorm.training_model import describe
from stylenorm.walking import write_walk


@pytest.fixture(scope="module", autouse=True)
def small():
    """What moments are taken of, 768 px, and the 384 px at which a painting is read take much longer than the pictures here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "CANVAS", 256)
        for module in ("predicting", "engine"):
            patch.setattr(f"stylenorm.{module}.STYLE_SIZE", 64)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return add_generation(make_weights(tmp_path_factory.mktemp("generation"), seed=0))


@pytest.fixture(scope="module")
def painter(folder):
    return NoisePainter(folder, device="cpu")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# ---- pictures ----------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_picture_and_another_another(painter):
    a, b, c = (pixels(painter.generate("red-hill", (100, 70), seed)) for seed in (4, 4, 5))
    assert a.shape == (70, 100, 3) and a.std() > 2
    assert np.array_equal(a, b) and np.abs(a - c).mean() > 2


def test_tiles_do_not_show(painter, monkeypatch):
    whole = pixels(painter.generate("red-hill", (200, 150), 1))
    monkeypatch.setattr(generating, "TILE", 64)
    assert np.abs(pixels(painter.generate("red-hill", (200, 150), 1)) - whole).max() <= 1


def test_a_larger_picture_goes_on_where_a_smaller_one_ends(painter):
    small, large = (pixels(painter.generate("red-hill", size, 2)) for size in ((80, 70), (160, 140)))
    assert np.abs(large[:70, :80] - small).max() <= 1


def test_settled_styles_are_the_network_with_its_own_moments(painter):
    """On the canvas itself, γ/σ and β - γμ/σ without normalizing are what the generator does with normalizing."""
    style, settled = painter.stylizer.style("red-hill"), painter.settled("red-hill")
    canvas = generating.Noise(generating.SEEDS - 1, **painter.noise_kind).window(0, 0, settling.CANVAS, settling.CANVAS)
    none = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1 - EPSILON)
    with torch.inference_mode():
        expected = painter.generator(canvas, style)
        assert torch.allclose(painter.generator(canvas, settled, lambda i, x: none), expected, atol=1e-3)


@pytest.mark.parametrize("config", [GeneratorConfig(), GeneratorConfig((4, 8), (1, 2)), GeneratorConfig((4, 8, 8), (0, 0, 1))])
def test_reach_is_as_far_as_a_pixel_sees(config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(GeneratorConfig(tuple(4 for _ in config.widths), config.blocks)).double()
    channels = generator.config.channels
    style = [(torch.ones(1, c).double(), torch.zeros(1, c).double()) for c in channels]
    none = torch.zeros(1, 1, 1, 1).double(), torch.ones(1, 1, 1, 1).double()
    far = reach(config)
    size = 2 * far + 4 * config.stride
    x = torch.rand(1, 3, size, size).double().requires_grad_()
    where = size // 2
    generator(x, style, lambda i, x: none)[0, :, where, where].sum().backward()
    seen = x.grad.abs().sum((0, 1)).nonzero()
    furthest = (seen - where).abs().max().item()
    assert far - 3 * config.stride <= furthest <= far


def test_seamless_goes_on_across_its_edges(painter):
    tile = pixels(painter.generate("red-hill", (96, 80), 3, seamless=True))
    for axis in (0, 1):
        steps = np.abs(np.diff(tile, axis=axis)).mean(tuple({0, 1, 2} - {axis}))
        across = np.abs(tile.take(0, axis) - tile.take(-1, axis)).mean()
        assert across <= steps.mean()
    plain = pixels(painter.generate("red-hill", (96, 80), 3))
    steps = np.abs(np.diff(plain, axis=1)).mean((0, 2))
    assert np.abs(plain[:, 0] - plain[:, -1]).mean() > 1.5 * steps.mean()  # so the measure sees an edge


def test_a_seamless_picture_of_many_tiles_wraps_exactly(painter, monkeypatch):
    once = pixels(painter.generate("red-hill", (96, 80), 3, seamless=True))
    monkeypatch.setattr(generating, "TILE", 48)
    assert np.abs(pixels(painter.generate("red-hill", (96, 80), 3, seamless=True)) - once).max() <= 1


# ---- layouts -----------------------------------------------------------------------------------


BLUE, GOLD = (32, 64, 192), (224, 192, 32)


def halves(size=(64, 32)) -> Image.Image:
    image = Image.new("RGB", size, BLUE)
    image.paste(GOLD, (size[0] // 2, 0, *size))
    return image


def test_a_layout_has_each_style_where_its_colour_is(painter, monkeypatch):
    layout = Layout.of(halves(), [BLUE, GOLD], soft=0)
    size = (512, 256)
    both = pixels(painter.generate(["red-hill", "blue-tree"], size, 1, layout=layout))
    red, blue = (np.abs(pixels(painter.generate(name, size, 1)) - both).max((0, 2)) for name in ("red-hill", "blue-tree"))
    far = painter.margin
    assert red[: 256 - far].max() <= 1 and blue[256 + far :].max() <= 1  # untouched by the other style
    assert red[300:].mean() > 10 and blue[:200].mean() > 10
    monkeypatch.setattr(generating, "REGION_TILE", 128)
    tiled = pixels(painter.generate(["red-hill", "blue-tree"], size, 1, layout=layout))
    assert np.abs(tiled - both).max() <= 1


@pytest.mark.parametrize("wrap", [False, True])
def test_shares_are_soft_add_up_and_wrap(wrap):
    shares = Layout.of(halves(), [BLUE, GOLD], soft=20).shares(256, 128, wrap)
    window = shares.window(0, -64, 128, 384)
    assert window.shape == (2, 64, 192) and torch.allclose(window.sum(0), torch.ones(64, 192), atol=1e-5)
    row = window[0, 32]
    assert (row[32:160].diff() <= 1e-4).sum() > 30 and 0.4 < row[32 + 64] < 0.6  # the border is in the middle
    assert (row[31] < 0.7) == wrap  # outside, to the left, lies the right-hand style, or the left one goes on


def test_a_layout_of_other_colours_is_refused():
    with pytest.raises(StyleError, match="the layout has the colour #e0c020, to which no style is bound; it has #2040c0, #e0c020"):
        Layout.of(halves(), [BLUE])
    with pytest.raises(StyleError, match="bound to the colour #010203, which the layout does not have"):
        Layout.of(halves(), [BLUE, GOLD, (1, 2, 3)])
    noisy = Image.fromarray(np.arange(5000 * 3, dtype=np.uint16).astype(np.uint8).reshape(50, 100, 3))
    many = Image.fromarray(np.stack(np.meshgrid(np.arange(100), np.arange(50)), 2).astype(np.uint8).repeat(2, 2)[..., :3])
    with pytest.raises(StyleError, match="the layout has 5,000 colours; draw it in at most 32"):
        Layout.of(many, [BLUE])
    assert set(np.unique(Layout.of(noisy, [BLUE, GOLD], nearest=True).index)) <= {0, 1}
    with pytest.raises(ImageError, match="64 x 32 px and the picture is to be 100 x 100"):
        Layout.of(halves(), [BLUE, GOLD]).check_size(100, 100)


@pytest.mark.parametrize("text, told", [("#2040c0", "binds no style"), ("red=kiss", "not a colour"), ("#2040c0=a,2040C0=b", "two styles"), (" ", "empty")])
def test_bindings_are_refused_in_one_sentence(text, told):
    with pytest.raises(StyleError, match=told):
        bindings(text)


def test_bindings():
    assert bindings("#2040c0=water-lilies, E0C020=kiss") == {"#2040c0": "water-lilies", "#e0c020": "kiss"}
    assert color_of("#2040c0") == BLUE


# ---- walks -------------------------------------------------------------------------------------


def test_a_walk_between_styles_has_no_jumps(painter):
    frames = [pixels(f) for f in painter.walk("red-hill", "blue-tree", 9, (80, 64))]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:])]
    assert len(frames) == 9 and max(steps) < 3 * np.mean(steps) and max(steps) < np.abs(frames[0] - frames[-1]).mean()
    for frame, name in ((frames[0], "red-hill"), (frames[-1], "blue-tree")):
        assert np.abs(frame - pixels(painter.generate(name, (80, 64)))).max() <= 1


def test_a_walk_between_seeds_has_no_jumps(painter):
    frames = [pixels(f) for f in painter.walk("red-hill", "red-hill", 9, (80, 64), (1, 2))]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:])]
    assert max(steps) < 2 * np.mean(steps)
    assert np.abs(frames[-1] - pixels(painter.generate("red-hill", (80, 64), 2))).max() <= 1


# ---- files and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("size, seamless, told", [((63, 100), False, "64 px up"), ((8000, 8000), False, "40 megapixels"), ((100, 96), True, "multiples of")])
def test_wrong_sizes(painter, size, seamless, told):
    with pytest.raises(ImageError, match=told):
        painter.generate("red-hill", size, seamless=seamless)


def test_styles_of_another_network_are_refused(painter, folder, other_weights, tmp_path):
    with pytest.raises(WeightsError, match="paints with the styles of another network"):
        NoisePainter(other_weights, folder / "generate.safetensors", "cpu")
    other = NoisePainter(add_generation(shutil.copytree(other_weights, tmp_path / "o")), device="cpu").stylizer.style("red-hill")
    with pytest.raises(StyleError, match="another network"):
        painter.generate(other, (64, 64))
    with pytest.raises(StylenormError, match="a seed lies between"):
        painter.generate("red-hill", (64, 64), seed=-1)


@pytest.fixture
def run(folder, capsys):
    def call(*words) -> tuple[int, str, str]:
        code = main(["generate", "--weights", str(folder), "--device", "cpu", *map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_what_a_format_cannot_hold_is_refused_before_it_is_painted(run, tmp_path, monkeypatch):
    monkeypatch.setattr(NoisePainter, "generate", lambda *_, **__: pytest.fail("it was painted"))
    code, out, err = run("--style", "red-hill", "--size", "16384x64", "-o", tmp_path / "a.webp")
    assert (code, out) == (2, "") and "a.webp: webp holds at most 16383 pixels a side, and the picture would have 16384 x 64; give --size 16383" in err


def test_the_command_writes_pictures(run, tmp_path, painter):
    code, out, _ = run("--style", "red-hill", "--size", "96x64", "--seed", 7, "--count", 2, "-o", tmp_path / "many", "--json")
    rows = json.loads(out)
    assert code == 0 and [row["seed"] for row in rows] == [7, 8]
    assert np.array_equal(pixels(Image.open(rows[1]["output"])), pixels(painter.generate("red-hill", (96, 64), 8)))
    code, *_ = run("--style", "red-hill:1,blue-tree:1", "--size", 64, "-o", tmp_path / "b.jpg")
    assert code == 0 and Image.open(tmp_path / "b.jpg").size == (64, 64)


def test_a_picture_that_cannot_be_written_is_told_and_the_others_are_there(run, tmp_path):
    (tmp_path / "many" / "8.png").mkdir(parents=True)
    words = ("--style", "red-hill", "--size", 64, "--seed", 7, "--count", 3, "-o", tmp_path / "many")
    code, out, err = run(*words, "--json")
    rows = json.loads(out)
    assert code == 1 and [row["seed"] for row in rows] == [7, 8, 9] and err.count("\n") == 1
    assert rows[1].keys() == rows[0].keys() | {"error"} and rows[1]["output"] is None and "8.png is a folder" in rows[1]["error"] and rows[1]["error"] in err
    assert [Path(row["output"]).name for row in rows if "error" not in row] == ["7.png", "9.png"] and (tmp_path / "many" / "9.png").is_file()
    code, out, err = run(*words)
    assert (code, out.count("\n"), err) == (1, 2, f"stylenorm: {rows[1]['error']}\n")


def test_the_command_writes_heic_by_its_name_or_says_what_is_missing(run, tmp_path, monkeypatch):
    words = ("--style", "red-hill", "--size", 64, "--format", "heic", "-o", f"{tmp_path}/")
    monkeypatch.setattr(jobs, "find_spec", lambda name: None)
    code, _, err = run(*words)
    assert code == 2 and "writing HEIC takes another library" in err
    monkeypatch.undo()
    pytest.importorskip("pillow_heif")
    code, _, err = run(*words, "--seed", 3)
    assert code == 0 and read_picture(tmp_path / "3.heic").format == "heic", err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
@pytest.mark.parametrize("words", [("--count", 2), ("--from", 1, "--to", 2, "--frames", 2)])
def test_the_command_takes_a_painting_through_a_pipe(run, tmp_path, words):
    painting, pipe = make_photo(tmp_path / "painting.jpg"), tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=[painting.read_bytes()], daemon=True).start()
    results = []
    for source in (painting, pipe):
        (out := tmp_path / f"of-{source.name}").mkdir()
        target = out / "walk.webp" if "--from" in words else f"{out}/"
        code, _, err = run("--style-image", f"{source}:2", "--style", "red-hill", "--size", 64, *words, "-o", target)
        assert code == 0, err
        results.append([file.read_bytes() for file in sorted(out.iterdir())])
    assert results[0] == results[1] and results[0]


def test_the_command_writes_a_layout_in_its_proportions(run, tmp_path):
    halves().save(tmp_path / "map.png")
    code, out, _ = run("--layout", tmp_path / "map.png", "--bind", "#2040c0=red-hill,#e0c020=Blue-Tree", "-o", tmp_path / "o.png")
    assert code == 0 and Image.open(tmp_path / "o.png").size == (1024, 512)


@pytest.mark.parametrize(
    "sides, plain, seamless",
    [
        ((600, 300), (1024, 512), (1024, 512)),
        ((1500, 200), (1024, 137), (1088, 144)),
        ((70, 1000), (72, 1024), (64, 912)),
        ((1000, 10), (6400, 64), (6400, 64)),
    ],
)
def test_the_size_that_follows_from_a_layout_fits_it(sides, plain, seamless):
    layout = Layout(np.zeros(sides[::-1], np.uint8))
    for wrapped, size in ((False, plain), (True, seamless)):
        assert layout_size(layout, None, (1024, 1024), wrapped) == size
        layout.check_size(*size)


@pytest.mark.parametrize("suffix, format", [(".gif", "GIF"), (".webp", "WEBP")])
def test_the_command_writes_walks(run, tmp_path, suffix, format):
    target = tmp_path / f"walk{suffix}"
    code, *_ = run("--style", "red-hill", "--from", 1, "--to", 2, "--frames", 4, "--back", "--size", 64, "-o", target)
    with Image.open(target) as image:
        assert code == 0 and image.format == format and image.n_frames == 6 and image.size == (64, 64)


@pytest.mark.parametrize("fps, rate", [(15, 15), (24, 24), (30, 30), (40, 40), (100, 50)])
def test_a_gif_of_a_walk_plays_at_its_rate(tmp_path, fps, rate):
    """In hundredths of a second, which differ from frame to frame where they must; of less than two, browsers make ten."""
    write_walk(tmp_path / "walk.gif", [Image.new("RGB", (64, 64), (n, 40, 30)) for n in range(0, 240, 4)], 60, fps)
    with Image.open(tmp_path / "walk.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert len(durations) == 60 and sum(durations) == pytest.approx(60_000 / rate, abs=10) and min(durations) >= 20


def test_the_command_writes_mp4(run, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    code, *_ = run("--from", "red-hill", "--to", "blue-tree", "--frames", 5, "--size", "96x64", "-o", tmp_path / "walk.mp4")
    with av.open(str(tmp_path / "walk.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert code == 0 and len(frames) == 5 and frames[0].shape == (64, 96, 3)


@pytest.mark.parametrize(("size", "matrix"), [((1280, 720), 1), ((640, 360), 5)])
def test_an_mp4_has_the_colours_that_were_painted_in_every_player(size, matrix, tmp_path):
    av = pytest.importorskip("av")
    red = Image.new("RGB", size, (220, 40, 30))
    write_walk(tmp_path / "red.mp4", [red] * 2, 2)
    with av.open(str(tmp_path / "red.mp4")) as film:
        frame = next(film.decode(video=0))
        assert (int(frame.colorspace), int(frame.color_range), int(frame.color_primaries), int(frame.color_trc)) == (matrix, 1, 1, 1)
        rgb = frame.reformat(format="rgb24", src_colorspace=matrix).to_ndarray()  # what a player takes for granted at that size
        assert np.abs(rgb[::40, ::40].astype(int) - [220, 40, 30]).max() <= 4


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_few_frames_of_a_walk_are_in_memory_at_once_there_and_back(tmp_path, monkeypatch, suffix):
    if suffix == ".mp4":
        pytest.importorskip("av", reason="PyAV is not installed: pip install av")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    made, most = [], []

    def frames():
        for number in range(12):
            image = Image.new("RGB", (64, 64), (20 * number, 100, 200 - 10 * number))
            made.append(weakref.ref(image))
            most.append(sum(one() is not None for one in made))
            yield image

    write_walk(target := tmp_path / f"walk{suffix}", frames(), 12, fps=30, back=True)
    reds = [np.asarray(frame)[..., 0].mean() / 20 for frame in shown(target)]
    assert max(most) <= 4 and np.abs(np.array(reds) - [*range(12), *range(10, 0, -1)]).max() < 0.5
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def shown(path: Path):
    if path.suffix == ".mp4":
        import av

        with av.open(str(path)) as film:
            return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    with Image.open(path) as image:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]


def test_a_walk_for_which_the_disk_is_too_small_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("stylenorm.spill._unnamed", lambda folder: type("Full", (io.BytesIO,), {"write": full})())
    with pytest.raises(ImageError, match="disk became full"):
        write_walk(tmp_path / "walk.gif", [Image.new("RGB", (64, 64))] * 2, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, told",
    [
        (["-o", "x.png"], "give --style NAME"),
        (["--style", "nobody", "-o", "x.png"], "no style is named 'nobody'"),
        (["--style", "red-hill", "--size", "7by9", "-o", "x.png"], "give it as in 1920x1080"),
        (["--style", "red-hill", "--size", "20", "-o", "x.png"], "64 px up"),
        (["--style", "red-hill", "-o", ""], "-o is empty"),
        (["--style", "red-hill", "-o", "x.bmp"], "does not end in a format"),
        (["--style", "red-hill", "-o", "x.gif"], "is for a walk"),
        (["--style", "red-hill", "--count", "2", "-o", "x.png"], "2 pictures do not fit into the file"),
        (["--style", "red-hill", "--count", "2", "-o", "x.mp4"], "2 pictures do not fit into the file"),
        (["--style", "red-hill", "--format", "jpeg", "-o", "x.png"], "x.png says png and --format says jpeg"),
        (["--style", "red-hill", "--count", "2", "--seed", "9223372036854775807", "-o", "x"], "seeds end at 2^63 - 1"),
        (["--from", "red-hill", "-o", "x.gif"], "give both --from and --to"),
        (["--style", "red-hill", "--style-size", "64", "-o", "x.png"], "--style-size is for paintings"),
        (["--from", "red-hill", "--to", "blue-tree", "-o", "x.png"], "format for walks"),
        (["--style", "red-hill", "--from", "1", "--to", "blue-tree", "-o", "x.gif"], "are seeds"),
        (["--from", "red-hill", "--to", "blue-tree", "--size", "16384x64", "-o", "x.webp"], "at most 16383 pixels a side"),
        (["--layout", "none.png", "--bind", "#000000=red-hill", "-o", "x.png"], "there is no layout none.png"),
        (["--bind", "#000000=red-hill", "-o", "x.png"], "both --layout MAP and --bind"),
        (["--style", "red-hill", "--frames", "60", "-o", "x.webp"], "--frames is for a walk; give --from and --to as well"),
        (["--style", "red-hill", "--back", "-o", "x.webp"], "--back is for a walk; give --from and --to as well"),
        (["--style", "red-hill", "--soft", "4", "-o", "x.png"], "--soft is for a layout; give --layout and --bind as well"),
        (["--from", "red-hill", "--to", "blue-tree", "--format", "png", "-o", "x.gif"], "--format is for pictures that stand still"),
        (["--style", "red-hill", "--from", "1", "--to", "2", "--seed", "5", "-o", "x.gif"], "--seed is for one picture or a walk between styles"),
        (["--style", "red-hill", "--bind", "", "-o", "x.png"], "both --layout MAP and --bind"),
        (["--style", "red-hill", "--network", "none.safetensors", "-o", "x.png"], "does not exist"),
    ],
)
def test_wrong_use_is_one_sentence(run, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert code == 2 and out == "" and told in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "out, words",
    [
        ("map.png", ["--layout", "map.png", "--bind", "#2040c0=red-hill"]),
        ("map.png", ["--style-image", "map.png:2", "--size", 64]),
        ("map.webp", ["--style-image", "map.webp", "--size", 64, "--from", 1, "--to", 2]),
        (".", ["--style-image", "2.png", "--size", 64, "--count", 3]),
    ],
)
def test_an_input_is_never_overwritten(run, tmp_path, monkeypatch, out, words):
    monkeypatch.chdir(tmp_path)
    for name in ("map.png", "map.webp", "2.png"):
        halves().save(name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, _, err = run(*words, "-o", out)
    assert code == 2 and "is an input and would be overwritten; give another name" in err and len(err.splitlines()) == 1
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("kind", ["instance", "layer", "group", "batch"])
def test_the_moments_are_those_of_the_networks_kind_of_normalization(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(settling, "CANVAS", 384)
    folder = add_generation(make_weights(tmp_path, seed=0, config=GeneratorConfig((8, 16, 16), (0, 0, 1), kind, 4)))
    painter = NoisePainter(folder, device="cpu")
    for module in painter.generator.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    canvas = painter.noise(SEEDS - 1).window(0, 0, settling.CANVAS, settling.CANVAS)  # what moments are taken of
    with torch.no_grad():
        wanted = painter.generator(canvas, painter.stylizer.resolve("red-hill"))[0, :, 160:224, 160:224]
    start = 160 - painter.margin
    found = painter._window(painter.noise(SEEDS - 1), painter.settled("red-hill"), (start, start, *[64 + 2 * painter.margin] * 2))
    assert np.abs(found / 255 - wanted.permute(1, 2, 0).numpy()).max() < 0.01


def test_a_style_with_regions_is_refused_in_one_sentence(painter):
    style = painter.stylizer.region_style([("red-hill", np.eye(64)), ("tall-grass", 1 - np.eye(64))], (64, 64))
    with pytest.raises(StyleError, match="with regions is for a picture of its size; .* with a layout"):
        painter.generate(style, (64, 64))


def test_without_the_network_the_sentence_says_what_to_do(weights, capsys):
    assert main(["generate", "--weights", str(weights), "--style", "red-hill", "-o", "x.png"]) == 2
    assert "make it with stylenorm train-generate" in capsys.readouterr().err


# ---- training and figures ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    from conftest import make_photo

    folder = tmp_path_factory.mktemp("paintings")
    for seed, name in enumerate(("red-hill", "blue-tree")):
        make_photo(folder / f"{name}.png", (160, 140), seed)
    return folder


@pytest.fixture(scope="module")
def trained(weights, paintings, tmp_path_factory):
    from stylenorm.noise_training import train_generate

    seen, out = [], tmp_path_factory.mktemp("run")
    config = dict(styles=str(paintings), paintings=str(paintings), init=str(weights / "network.safetensors"))
    config |= dict(batch=2, size=64, style_size=128, painting_size=64, device="cpu", tensorboard="off", steps=2, checkpoint_every=2)
    train_generate(GenerateConfig(str(out), **config), progress=seen.append)
    return out, config, seen


def test_training_keeps_the_styles_and_moves_the_network(trained, weights):
    out, _, seen = trained
    before, after = load_network(weights / "network.safetensors"), load_network(out / "generate.safetensors")
    assert after.about["styles_of"] == before.hash != after.hash and after.encoder is None
    assert after.generator.config == before.generator.config and len(seen) == 2
    assert "photos" not in after.about["training"] and after.about["training"]["slope"] == GenerateConfig("").slope
    painter = NoisePainter(weights, out / "generate.safetensors", "cpu")
    assert pixels(painter.generate("tall-grass", (64, 64))).std() > 1  # a style that it was not trained in
    assert (out / "loss.csv").read_text().count("\n") == 3 and Image.open(out / "samples.png").width > 64


def test_each_seed_of_a_training_has_canvases_of_its_own_and_sheets_show_others():
    from stylenorm.noise_training import Canvases, NoiseTrainer

    config = GenerateConfig("", size=64)
    sheet = NoiseTrainer._unseen(SimpleNamespace(config=config))
    first, second = Canvases(config), Canvases(replace(config, seed=config.seed + 1))
    seeds = [set(range(canvases.first, canvases.first + 1000)) for canvases in (first, second, sheet)]
    assert not (seeds[0] & seeds[1] or seeds[0] & seeds[2] or seeds[1] & seeds[2])
    assert not any(torch.equal(first[0].data, other.data) for other in (second[0], sheet[0], first[1]))


def test_each_pair_of_canvases_is_judged_by_its_own_painting_at_every_scale(trained, tmp_path):
    from stylenorm.noise_training import NoiseTrainer

    trainer = NoiseTrainer(GenerateConfig(str(tmp_path / "run"), **trained[1] | {"batch": 8}))
    batch, seen, real = next(trainer.batches()), [], trainer.painter
    trainer.painter = lambda *given: seen.append((given[1], real(*given))) or seen[-1][1]
    with torch.no_grad(), autocast(trainer.device):
        diversity, style, nothing = trainer.losses(batch)
        ((statistics, painted),), others = seen, iter(batch.paintings.float() / 255)
        assert 0 < (batch.named < 0).sum() < 8 and not nothing.any() and len(diversity) == 8
        for i, name in enumerate(batch.named.tolist()):
            if name < 0:
                goals, told = describe(trainer.vgg, next(others)[None], trainer.SMALLER)
            else:
                goals, told = {layer: grams[[name]] for layer, grams in trainer.named.grams.items()}, trainer.named.statistics[[name]]
            found = describe(trainer.vgg, painted[[i], :, BORDER:-BORDER, BORDER:-BORDER].float(), trainer.SMALLER)[0]
            assert found.keys() == goals.keys() and len(goals) == 12
            assert style[i].item() == pytest.approx(style_loss(found, goals).item(), rel=0.05)
            torch.testing.assert_close(statistics[[i]].float(), told, rtol=0.05, atol=0.05)


def test_a_training_paints_with_the_moments_that_pictures_are_made_with(trained, weights, tmp_path):
    from stylenorm.noise_training import NoiseTrainer

    trainer = NoiseTrainer(GenerateConfig(str(tmp_path / "run"), **trained[1] | {"batch": 4, "named_share": 1.0}))
    batch, seen, real = next(trainer.batches()), [], trainer.painter
    trainer.painter = lambda *given: seen.append(real(*given)) or seen[-1]
    with torch.no_grad():
        trainer.losses(batch)
    painter = NoisePainter(weights, trainer.export(tmp_path), "cpu")
    canvases = batch.photos.float()
    none = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1 - EPSILON)
    for name in batch.named.unique().tolist():
        chosen = batch.named == name
        style = painter.stylizer.style(trainer.named.names[name])
        with torch.inference_mode():
            made = painter.generator(canvases[chosen], painter.settled(style), lambda index, x: none)
            own = painter.generator(canvases[chosen], style)
            shown = trainer._painted(canvases[chosen], trainer._style(name).flat())  # on the sheet of samples
        found, inner = seen[0][chosen].float(), (..., slice(BORDER, -BORDER), slice(BORDER, -BORDER))
        assert found.shape[-1] == 64 + 2 * BORDER and shown.shape[-1] == 64
        for found, made, own in ((found, made, own), (shown, made[inner], own[inner])):
            assert (found - made).abs().mean() < 0.01 < 0.02 < (found - own).abs().mean()


def test_a_training_judges_pictures_without_a_border_and_out_of_memory_tells_their_size(trained, tmp_path):
    from stylenorm.noise_training import NoiseTrainer

    trainer = NoiseTrainer(GenerateConfig(str(tmp_path / "run"), **trained[1] | {"batch": 2}))
    batch, seen, real = next(trainer.batches()), [], trainer.vgg.forward
    trainer.vgg.forward = lambda x, *layers: seen.append(x.shape[-1]) or real(x, *layers)
    with torch.no_grad():
        trainer.losses(batch)
    assert batch.photos.shape[-1] == 64 + 2 * BORDER and 64 in seen and max(seen) <= max(64, trainer.config.painting_size)
    assert torch.equal(trainer.photos[0].data[:, BORDER:, BORDER:], replace(trainer.photos.noise, seed=trainer.photos.first).window(0, 0, 64 + BORDER, 64 + BORDER)[0])


@pytest.mark.parametrize("count", [1, 3])
def test_the_gradient_of_a_canvas_is_that_of_a_normalization_of_its_pictures(count):
    """What torch's batch norm has, over the pictures of a style, where their moments are those that are given."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((4, 8), (0, 1)))
    x = (torch.randn(2 * count, 8, 5, 7) * 3 + 1).double().requires_grad_()
    weights, norm, index = torch.randn_like(x), generator.down[0].norm, 1
    parts = x.detach().split(count)
    given = [[(p.mean((0, 2, 3), keepdim=True), p.var((0, 2, 3), unbiased=False, keepdim=True))] * 2 for p in parts]
    one, nothing = torch.ones(1, 8).double(), torch.zeros(1, 8).double()
    found = norm(x, one, nothing, stripping(generator, given, count)(index, x))
    wanted = torch.cat([torch.nn.functional.batch_norm(p, None, None, training=True, eps=EPSILON) for p in x.split(count)])
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, wanted)))
    for further, factor in ((0, 1), (1, 4), (-0.5, 0.2), (40, 1e-4)):  # the last is beyond what is followed
        moved = [[(mean + further, var * factor) for mean, var in layers] for layers in given]
        found = norm(x, one, nothing, stripping(generator, moved, count)(index, x))
        wanted = []
        for part, ((mean, var), _) in zip(x.split(count), moved):  # as in the paper
            own, spread = part.mean((0, 2, 3), keepdim=True), (part.var((0, 2, 3), unbiased=False, keepdim=True) + EPSILON).sqrt()
            r = (spread / (var + EPSILON).sqrt()).detach().clamp(max=MOST)
            d = ((own - mean) / (var + EPSILON).sqrt()).detach().clamp(-FARTHEST, FARTHEST)
            wanted.append((part - own) / spread * r + d)
            if factor >= 0.2:
                assert torch.allclose(wanted[-1], (part - mean) / (var + EPSILON).sqrt())
        torch.testing.assert_close(found, torch.cat(wanted))
        torch.testing.assert_close(*(torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, torch.cat(wanted))))
    assert found.abs().max() < 20


def test_training_does_not_start_from_its_own_result_which_has_no_styles(trained, tmp_path):
    from stylenorm.noise_training import train_generate

    out, config, _ = trained
    with pytest.raises(StylenormError, match="styles of another network; give --init that one"):
        train_generate(GenerateConfig(str(tmp_path / "run"), **config | {"init": str(out / "generate.safetensors")}))
    assert not (tmp_path / "run").exists()


def test_training_goes_on_from_an_earlier_result(trained, tmp_path, weights):
    from stylenorm.noise_training import NoiseTrainer

    out, config, _ = trained
    earlier = out / "generate.safetensors"
    trainer = NoiseTrainer(GenerateConfig(str(tmp_path / "run"), **config | {"generator": str(earlier)}))
    begun, stylizing = copy.deepcopy(trainer.model.generator.state_dict()), load_network(weights / "network.safetensors").generator.state_dict()
    for name, value in load_network(earlier).generator.state_dict().items():
        assert torch.equal(begun[name], value)
    assert any(not torch.equal(begun[name], value) for name, value in stylizing.items())
    assert str(earlier) not in json.dumps(trainer._about())
    trainer.run()
    resumed = NoiseTrainer(GenerateConfig(str(tmp_path / "run"), **config), resume=True)
    assert resumed.step == 2 and not torch.equal(resumed.model.generator.state_dict()[name], begun[name]), "from its own checkpoint"


@pytest.mark.parametrize(
    ("generator", "out", "told"),
    [
        ("network", "new", "was not made by train-generate; give another --generator"),
        ("other", "new", "paints in the styles of another network than --init; give another --generator"),
        ("run/generate", "run", "which --generator starts from, would be overwritten; give another --out"),
    ],
)
def test_other_networks_to_go_on_from_are_refused(trained, tmp_path, weights, generator, out, told):
    from stylenorm.noise_training import train_generate

    shutil.copy(weights / "network.safetensors", tmp_path)
    (tmp_path / "run").mkdir()
    shutil.copy(trained[0] / "generate.safetensors", tmp_path / "run")
    earlier = load_network(trained[0] / "generate.safetensors")
    save_network(tmp_path / "other.safetensors", earlier.generator, None, styles_of="0" * 16)
    with pytest.raises(StylenormError, match=told):
        train_generate(GenerateConfig(str(tmp_path / out), **trained[1] | {"generator": str(tmp_path / f"{generator}.safetensors")}))


@pytest.mark.parametrize(("resume", "told"), [(False, "give a larger --batch"), (True, "start fewer")])
def test_processes_that_cannot_share_a_batch_in_pairs_are_told_what_can_be_changed(resume, told, monkeypatch):
    from stylenorm import noise_training

    monkeypatch.setattr(noise_training, "joined", lambda device: nullcontext(Group(size=3)))
    with pytest.raises(StylenormError, match=f"3 processes cannot share a batch of 4 in pairs; {told}"):
        noise_training.train_generate(GenerateConfig("out"), resume)


def test_resuming_a_finished_training_writes_nothing(trained):
    from stylenorm.noise_training import train_generate

    out, config, _ = trained
    written = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert train_generate(GenerateConfig(str(out), **config), resume=True) == out / "generate.safetensors"
    assert written == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_training_goes_on_as_if_it_had_not_stopped(trained, tmp_path):
    from stylenorm.noise_training import train_generate

    out, config, seen = trained
    shutil.copytree(out, tmp_path / "run")
    again = []
    train_generate(GenerateConfig(str(tmp_path / "run"), **config | {"steps": 4}), resume=True, progress=again.append)
    straight = []
    train_generate(GenerateConfig(str(tmp_path / "two"), **config | {"steps": 4, "decay_start": 1.0}), progress=straight.append)
    assert [r.step for r in again] == [3, 4] and len(straight) == 4
    # The same noise and the same paintings come in the same order.
    assert straight[0].content == pytest.approx(seen[0].content) and straight[0].style == pytest.approx(seen[0].style)


def test_a_network_without_an_encoder_is_trained_in_its_named_styles_alone(weights, trained, tmp_path):
    from stylenorm.noise_training import NoiseTrainer

    shutil.copytree(weights / "styles", tmp_path / "styles")
    network = load_network(weights / "network.safetensors")
    save_network(tmp_path / "network.safetensors", network.generator, None)
    config = GenerateConfig(str(tmp_path / "run"), **trained[1] | {"init": str(tmp_path / "network.safetensors")})
    with pytest.raises(StylenormError, match="has no style encoder.*leave --paintings out"):
        NoiseTrainer(config)
    assert NoiseTrainer(replace(config, paintings=None)).named.names == ["blue-tree", "red-hill"]


def test_a_run_of_train_or_of_another_network_is_not_gone_on_with(trained, weights, tmp_path):
    from stylenorm.noise_training import NoiseTrainer
    from stylenorm.training_state import load_state, save_state

    out, config, _ = trained
    network = load_network(weights / "network.safetensors")
    with torch.no_grad():
        next(network.generator.parameters()).mul_(2)
    save_network(tmp_path / "other.safetensors", network.generator, network.encoder)
    settings = GenerateConfig(str(out), **config | {"init": str(tmp_path / "other.safetensors"), "names": ("red-hill", "blue-tree")})
    with pytest.raises(StylenormError, match="takes the styles of another network; give --init again"):
        NoiseTrainer(settings, resume=True)
    with pytest.raises(StylenormError, match="is one of train-generate; give another --out"):
        load_state(out / "resume.safetensors", {}, None, settings, [])
    save_state(tmp_path / "resume.safetensors", {}, torch.optim.Adam([torch.zeros(1)]), settings, [], step=1)
    with pytest.raises(StylenormError, match="is one of train; give another --out"):
        load_state(tmp_path / "resume.safetensors", {}, None, settings, [], "0123456789abcdef")


def test_training_settings_are_refused_in_one_sentence(tmp_path, capsys):
    with pytest.raises(StylenormError, match="batch must be even"):
        GenerateConfig(str(tmp_path), batch=3)
    with pytest.raises(StylenormError, match="contrast must be above 0"):
        GenerateConfig(out="o", contrast=0.0)
    with pytest.raises(StylenormError, match="contrast and color"):
        GenerateConfig(str(tmp_path), color=1.5)
    assert main(["train-generate", "--out", str(tmp_path / "o")]) == 2
    assert re.search("give --styles.*or --paintings", capsys.readouterr().err)
    assert main(["train-generate", "--out", str(tmp_path / "o"), "--encoder-width", "64"]) == 2  # no encoder is trained
    assert re.search("No such option:? '?--encoder-width", capsys.readouterr().err)  # in click's words, or in Typer's


def test_a_folder_without_the_networks_styles_is_refused_and_a_style_of_ones_own_counts(weights, trained, paintings, tmp_path, monkeypatch):
    from stylenorm.noise_training import NoiseTrainer

    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path / "home"))
    (tmp_path / "mine").mkdir()
    shutil.copy(paintings / "red-hill.png", tmp_path / "mine" / "my-garden.png")
    config = GenerateConfig(str(tmp_path / "run"), **trained[1] | {"styles": str(tmp_path / "mine")})
    with pytest.raises(StylenormError, match="no picture in .*mine is called as a style of .*leave --styles out"):
        NoiseTrainer(config)
    network = load_network(weights / "network.safetensors")
    channels = network.generator.config.channels
    mine = Style.from_flat(torch.rand(1, 2, sum(channels)), channels, name="my-garden", network=network.hash)
    save_style(tmp_path / "home" / "styles" / "my-garden.safetensors", mine)
    assert torch.allclose(NoiseTrainer(config)._style(0).flat(), mine.flat(), atol=1e-3)


def test_the_end_of_a_training_tells_how_the_network_is_used(weights, paintings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stylenorm.noise_training.train_generate", lambda config, *_: Path(config.out, "generate.safetensors"))
    words = ["train-generate", "--styles", str(paintings), "--out", str(tmp_path / "gen"), "--init", str(weights / "network.safetensors")]
    assert main(words) == 0
    usage = f"use it with: stylenorm generate --network {tmp_path / 'gen' / 'generate.safetensors'} --weights {weights / 'network.safetensors'}"
    assert capsys.readouterr().out.endswith(usage + "\n")


def test_diversity_sees_a_dead_generator(folder, paintings):
    rows = run_generate(paintings, ["red-hill"], pictures=3, size=64, steps=2, weights=folder, device="cpu", speeds=(64,))
    found = {row["what"]: row for row in rows if row["name"] == "red-hill"}
    assert found["noise of no contrast"]["diversity"] == pytest.approx(0, abs=1e-3)
    assert found["generated"]["diversity"] > 0.05 and found["crops of the painting"]["diversity"] > 0.05
    assert found["crops of the painting"]["style"] < found["generated"]["style"]  # of a random network
    assert found["64 x 64 px"]["seconds"] > 0


def test_transparent_margins_are_no_part_of_a_painting_that_is_judged_by(folder, paintings, tmp_path):
    add_margins(paintings / "red-hill.png", tmp_path / "red-hill.png")
    cut, wide = (run_generate(p, ["red-hill"], 1, 64, 0, folder, device="cpu", speeds=()) for p in (paintings, tmp_path))
    assert wide == cut


def test_the_shipped_network_takes_the_shipped_styles_and_its_tiles_wrap():
    painter = NoisePainter(device="cpu")  # refuses a network of other styles than those that lie beside it
    for name in ("starry-night", "kiss"):
        tile = pixels(painter.generate(name, (128, 128), 1, seamless=True))
        assert tile.std() > 10
        for axis in (0, 1):
            inside = np.abs(np.diff(tile, axis=axis)).mean()
            assert np.abs(tile.take(0, axis) - tile.take(-1, axis)).mean() <= inside


def test_too_little_memory_tells_what_fits_in_pairs(trained, tmp_path):
    from stylenorm.noise_training import NoiseTrainer

    _, config, _ = trained
    trainer = NoiseTrainer(GenerateConfig(str(tmp_path), **config | {"batch": 6, "size": 128, "steps": 1}))
    real = trainer.losses

    def short(batch):
        if batch.photos[:, 0].numel() > 2 * (64 + 2 * BORDER) ** 2:
            raise MemoryError
        return real(batch)

    trainer.losses = short
    with pytest.raises(StylenormError, match="a batch of 6 at 128 px .*--batch 2 --size 64 fits"):
        trainer.run()
