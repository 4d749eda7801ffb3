"""Grain for plain ground: what it is, where it goes, and that what is painted there is something."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stylenorm.cli import main
from stylenorm.engine import Stylizer
from stylenorm.grain import GRAIN, PERIOD, SIDE, add_grain, grain, plain_ground
from stylenorm.grain_traced import TracedGrain
from stylenorm.images import read_picture
from stylenorm.plain import plain_stylizer
from stylenorm.steady import Steady, motion

torch.set_num_threads(1)
SKY = 120, 190, 235


def one_colour(height=96, width=128, color=SKY) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def grained(pixels: np.ndarray, *where) -> np.ndarray:
    pixels = pixels.copy()
    add_grain(pixels, *where)
    return pixels


def noise(height, width, deviation, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, (height, width, 3))


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    """A roof under a sky of one colour."""
    image = Image.new("RGB", (176, 128), SKY)
    ImageDraw.Draw(image).polygon([(96, 128), (140, 80), (176, 128)], (110, 60, 50))
    return image


def test_it_is_white_noise_made_of_splitmix64():
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # of seed 0, as its authors have them
    sums = [sum((z >> shift) & 0xFFFF for shift in (0, 16, 32, 48)) for z in first]
    made = np.rint(32 * GRAIN * 3**0.5 * (np.array(sums) / 65535 - 2)).astype(np.int16)
    row = grain(0, 0, SIDE, SIDE)
    assert any((np.roll(row, -k, 1)[:, :3] == made).all(1).any() for k in range(SIDE))  # somewhere, the pattern is moved
    levels = grain(0, 0, 1024, 1024) / 32
    assert abs(levels.std() - GRAIN) < 0.02 and abs(levels.mean()) < 0.02
    power = np.abs(np.fft.fft2(levels)) ** 2 / levels.size
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(1024), np.fft.fftfreq(1024)))
    bands = [power[np.abs(radius - r) < 0.02].mean() for r in (0.02, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert np.allclose(bands, GRAIN**2, rtol=0.1)  # as much of every frequency


def test_it_does_not_repeat_itself():
    """A repeating pattern is painted as a wallpaper."""
    levels = grain(0, 0, 1024, 2048).astype(float)
    levels -= levels.mean()
    alike = np.fft.irfft2(np.abs(np.fft.rfft2(levels)) ** 2, levels.shape) / (levels**2).sum()
    assert alike[0, 0] == pytest.approx(1)
    alike[0, 0] = 0
    assert np.abs(alike).max() < 0.1
    assert (grain(PERIOD, -PERIOD, 40, 300) == grain(0, 0, 40, 300)).all()


def test_plain_is_what_does_not_bend():
    ramp = np.broadcast_to(np.linspace(60, 140, 256)[None, :, None], (128, 256, 3)).round().astype(np.uint8)
    shares = [np.asarray(plain_ground(p)) / 255 for p in (one_colour(), ramp)]
    assert shares[0].min() == 1 and shares[1].min() > 0.8
    by_noise = [np.asarray(plain_ground(np.rint(128 + noise(256, 256, d)).astype(np.uint8))).mean() / 255 for d in (0.5, 1, 1.5, 3)]
    assert by_noise == sorted(by_noise, reverse=True) and by_noise[0] > 0.5 > 0.25 > by_noise[2] and by_noise[3] == 0


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)], ids=["left", "above"])
def test_only_plain_ground_gets_some(axes):
    pixels = one_colour(128, 288)
    pixels[:, 160:] = np.clip(128 + noise(128, 128, 20), 0, 255)
    added = (grained(pixels.transpose(axes)).astype(int) - pixels.transpose(axes)).transpose(axes)
    for plain in (added[:, :144], added[:, 130:144]):
        assert abs(plain.std() - GRAIN) < 0.15 and abs(plain.mean()) < 0.1
    assert not added[:, 176:].any()
    assert (added == added[..., :1]).all()  # grey


@pytest.mark.parametrize("channel", range(3))
def test_texture_in_one_channel_is_texture(channel):
    pixels = one_colour()
    pixels[..., channel] = np.clip(128 + noise(96, 128, 20)[..., 0], 0, 255)
    assert (grained(pixels) == pixels).all()


def test_half_the_amount_is_half_the_grain():
    whole, half = (grained(one_colour(256, 256), amount).astype(int) - one_colour(256, 256) for amount in (1.0, 0.5))
    assert abs(half.std() / whole.std() - 0.5) < 0.1
    assert (grained(one_colour(), 0.0) == one_colour()).all()


@pytest.mark.parametrize("place", [(3, 5), (250, 1), (SIDE, 0), (PERIOD + 7, -PERIOD), (300, 500)])
def test_it_is_laid_where_it_is_told(place):
    whole = grained(one_colour(2 * SIDE, 3 * SIDE))
    down, right = (p % PERIOD for p in place)
    assert (grained(one_colour(), 1.0, place) == whole[down:, right:][:96, :128]).all()


def test_light_stays_light_and_dark_dark():
    for color in (0, 255):
        levels = grained(one_colour(color=(color,) * 3)).astype(int)
        assert np.abs(levels - color).max() <= 4 * GRAIN and (levels != color).any()


def test_sixteen_bits_get_the_same():
    deep = grained(one_colour().astype(np.uint16) * 257)
    assert deep.dtype == np.uint16 and np.abs(deep / 257 - grained(one_colour())).max() < 0.6
    for color in (0, 65535):
        levels = grained(np.full((32, 32, 3), color, np.uint16)).astype(int)
        assert np.abs(levels - color).max() <= 4 * GRAIN * 257
    random = np.random.default_rng(0)
    levels = random.integers(126, 129, (64, 96, 3))
    deep = levels * 257 + random.integers(-128, 129, levels.shape)
    seen = plain_ground(deep.astype(np.uint16))
    assert seen.tobytes() == plain_ground(levels.astype(np.uint8)).tobytes() and seen.getextrema()[1] > 0


@pytest.mark.parametrize("size", list(itertools.product((1, 3, 17, 65), (1, 2, 16, 300))))
def test_any_size(size):
    pixels = grained(one_colour(*size))
    assert pixels.shape == (*size, 3) and np.abs(pixels.astype(int) - SKY).max() <= 4 * GRAIN


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("style", ["starry-night", "kiss", "great-wave"])
def test_a_plain_sky_is_painted(backend, style):
    """Without grain its corner, far from everything, comes out in next to one colour."""
    stylizer, drawing = Stylizer(device="cpu", backend=backend), Image.new("RGB", (320, 320), SKY)
    ImageDraw.Draw(drawing).rectangle((240, 240, 300, 320), (110, 60, 50))
    without, painted = (np.asarray(stylizer.stylize(drawing, style, grain=g), float)[:64, :64].std((0, 1)).mean() for g in (False, True))
    assert painted > 2 * without


def test_all_ways_of_painting_add_the_same(weights, drawing):
    stylizer = Stylizer(weights, device="cpu", backend="torch")
    wanted = np.asarray(stylizer.stylize(drawing, "blue-tree"), int)
    assert np.abs(wanted - np.asarray(stylizer.stylize(drawing, "blue-tree", grain=False), int)).max() > 3
    deep = np.asarray(drawing).astype(np.uint16) * 257
    kept = deep.copy()
    others = {
        "strips": Stylizer(weights, device="cpu", backend="torch", memory=0).stylize(drawing, "blue-tree"),
        "together": stylizer.stylize_alike([read_picture(drawing)] * 2, "blue-tree")[1],
        "16 bits": stylizer.stylize(deep, "blue-tree"),
        "a film": stylizer.stream("blue-tree", smoothing=0)(drawing),
    }
    assert (deep == kept).all()
    for way, found in others.items():
        apart = np.abs(np.asarray(found, int) - wanted)
        assert (apart.mean() < 3 if way == "16 bits" else apart.max() <= 1), way  # whose grain is not rounded to levels


def test_without_torch_it_is_the_same(weights, drawing):
    full = Stylizer(weights, device="cpu")
    plain = plain_stylizer(weights, "cpu", "auto", None, lambda: full)
    if plain is None:
        pytest.skip("needs openvino")
    style = plain.resolve([("blue-tree", 1.0)])
    for options in ({}, {"grain": False}, {"strength": 0.4}):
        found, wanted = (np.asarray(p, int) for p in (plain.stylize(drawing, style, **options), full.stylize(drawing, "blue-tree", **options)))
        assert np.abs(found - wanted).max() <= ("strength" in options)  # torch mixes styles with one rounding less
    frames = [np.asarray(s.stream(st, grain=False)(drawing)) for s, st in ((plain, style), (full, "blue-tree"))]
    assert np.array_equal(*frames)


def test_strength_ends_in_the_photograph(weights, drawing):
    stylizer = Stylizer(weights, device="cpu", backend="torch")
    assert np.array_equal(stylizer.stylize(drawing, "blue-tree", strength=0), drawing)
    near = np.asarray(stylizer.stylize(drawing, "blue-tree", strength=0.001), int)
    assert np.abs(near - np.asarray(drawing)).max() <= 2


def test_photographs_side_by_side_or_of_one_colour_keep_theirs(weights, drawing):
    stylizer = Stylizer(weights, device="cpu", backend="torch")
    flat = Image.new("RGB", drawing.size, SKY)
    together = stylizer.stylize_alike([read_picture(drawing), read_picture(flat)], "blue-tree")
    for photo, found in zip((drawing, flat), together):
        assert np.abs(np.asarray(found, int) - np.asarray(stylizer.stylize(photo, "blue-tree"), int)).max() <= 1
    assert np.ptp(np.asarray(together[1]), (0, 1)).max() <= 4


def test_grain_lies_still_under_a_film_that_pans():
    rng = np.random.default_rng(0)
    wide = np.asarray(Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((480, 360), 3))
    steady, seen = Steady(0.8, 16), []
    for t in range(4):
        frame = np.ascontiguousarray(wide[10 + 7 * t :, 5 + 90 * t :][:200, :200])
        steady.begin(frame)
        seen.append(steady.place)
        steady.end(frame)
    assert seen == [(0, 0), (7, 90), (14, 180), (21, 270)]


def test_a_pan_over_plain_ground_is_seen_through_noise():
    """Most of such a frame shows noise alone, which fits at no shift."""
    sky = np.zeros((280, 400, 3)) + SKY
    sky[200:, 100:160] = 96, 166, 211
    clean = [sky[2 * t :, 3 * t :][:240, :320] for t in range(2)]
    frames = [np.clip(np.rint(p + noise(240, 320, 3, seed)), 0, 255).astype(np.uint8) for seed, p in enumerate(clean)]
    assert motion(*frames) == (2, 3)
    still = [np.clip(np.rint(clean[0] + noise(240, 320, 3, seed)), 0, 255).astype(np.uint8) for seed in (2, 3)]
    assert motion(*still) == (0, 0)


def test_plain_ground_goes_along_with_what_stands_on_it(monkeypatch):
    """Where no motion fits better than another, what was painted is not left behind."""
    monkeypatch.setattr("stylenorm.flow.opencv", lambda: None)
    sky = np.zeros((120, 160, 3)) + SKY
    sky[60:, 60:100] = 20, 20, 60
    clean = [sky[:96, 6 * t :][:, :128] for t in range(2)]
    steady, marks = Steady(0.8, 16), np.zeros((96, 128, 3), np.uint8)
    marks[20:24, 20:24] = 255  # a stroke on the sky
    results = []
    for seed, (p, painted) in enumerate(zip(clean, (marks, np.zeros_like(marks)))):
        steady.begin(np.clip(np.rint(p + noise(96, 128, 2, seed)), 0, 255).astype(np.uint8))
        results.append(steady.end(painted))
    assert results[1][20:24, 14:18].mean() > 180 and results[1][20:24, 20:24].mean() < 20


def test_the_command_line_can_leave_it_out(weights, drawing, tmp_path):
    drawing.save(tmp_path / "drawing.png")
    for name, options in (("with.png", []), ("without.png", ["--no-grain"])):
        given = [str(tmp_path / "drawing.png"), "-s", "blue-tree", "--weights", str(weights), "-o", str(tmp_path / name)]
        assert main(["stylize", *given, *options]) == 0
    found = {name: np.asarray(Image.open(tmp_path / name), int) for name in ("with.png", "without.png")}
    stylizer = Stylizer(weights, device="cpu")
    for name, g in (("with.png", True), ("without.png", False)):
        assert np.abs(found[name] - np.asarray(stylizer.stylize(drawing, "blue-tree", grain=g), int)).max() <= 1
    assert np.abs(found["with.png"] - found["without.png"]).max() > 3


def test_a_batch_can_leave_it_out_and_one_begun_before_there_was_any_goes_on(weights, drawing, tmp_path):
    (tmp_path / "in").mkdir()
    drawing.save(tmp_path / "in" / "drawing.png")
    for name, options in (("with", []), ("without", ["--no-grain"])):
        assert main(["batch", str(tmp_path / "in"), str(tmp_path / name), "-s", "blue-tree", "--weights", str(weights), "-q", *options]) == 0
    settings = {name: (tmp_path / name / "stylenorm-manifest.jsonl").read_text() for name in ("with", "without")}
    assert "grain" not in settings["with"] and '"grain": false' in settings["without"]
    a, b = (np.asarray(Image.open(tmp_path / name / "drawing.png"), int) for name in ("with", "without"))
    assert np.abs(a - b).max() > 3


@pytest.mark.parametrize("size", [(96, 128), (97, 131), (5, 3), (300, 700), (1, 40)])
def test_an_exported_network_adds_the_same(size):
    rng = np.random.default_rng(0)
    pixels = one_colour(*size)
    pixels[:, size[1] // 2 :] = np.clip(128 + rng.normal(0, 1.2, (size[0], size[1] - size[1] // 2, 3)), 0, 255)
    pixels[size[0] // 2 :, : size[1] // 3] = rng.integers(0, 256, 3)
    found = TracedGrain()(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(found - grained(pixels)).max() < 1e-3
