"""`Stylizer`: what goes in, what comes out, and what is refused."""

import copy
import importlib.util
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image, ImageFilter

from stylenorm import engine, faces, people
from stylenorm.checkpoint import load_network, load_style, save_network, save_style
from stylenorm.config import TrainConfig
from stylenorm.device import choose_device, most_in_a_map
from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError, StyleError, StylenormError, WeightsError
from stylenorm.images import read_picture, to_tensor
from stylenorm.masks import mask_levels
from stylenorm.perceptual import resized_short_side
from stylenorm.profiles import numbered_profile
from stylenorm.style import Style, blend

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def small():
    """Photographs' own styles are read at 48 px."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "STYLE_SIZE", 48)
        yield


@pytest.fixture(scope="module")
def stylizer(weights, small) -> Stylizer:
    """On torch, where a pixel is the same on every machine."""
    return Stylizer(weights, "cpu", "torch")


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Image.Image:
    return Image.open(make_photo(tmp_path_factory.mktemp("image") / "photo.png")).convert("RGB")


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def distance(a: Image.Image, b: Image.Image) -> float:
    return float(np.abs(pixels(a) - pixels(b)).mean())


def refused(call, *parts: str, kind=StylenormError) -> None:
    with pytest.raises(StylenormError) as caught:
        call()
    told = str(caught.value)
    assert isinstance(caught.value, kind), type(caught.value)
    assert told and "\n" not in told and all(part in told for part in parts), told


# ---- what goes in ------------------------------------------------------------------------------


def test_a_path_a_picture_an_image_and_an_array_are_one(stylizer, photo):
    results = [stylizer.stylize(source, "red-hill") for source in (photo, str(photo), read_picture(photo), Image.open(photo), np.array(Image.open(photo)))]
    assert results[0].size == (60, 44) and results[0].mode == "RGB"
    assert all(np.array_equal(pixels(r), pixels(results[0])) for r in results[1:])
    assert distance(results[0], Image.open(photo)) > 10


def test_the_style_counts(stylizer, image):
    painted = [stylizer.stylize(image, name) for name in stylizer.styles]
    assert len(painted) == 3
    assert min(distance(painted[i], painted[j]) for i in range(3) for j in range(i)) > 5


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (16, 16), (17, 33), (70, 31)])
def test_the_result_is_as_large_as_the_photograph(stylizer, size):
    assert stylizer.stylize(Image.new("RGB", size, (30, 90, 200)), "red-hill").size == size


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16", "LA", "RGBA"])
def test_every_mode_is_painted(stylizer, image, mode):
    if mode == "I;16":
        source = Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) * 257))
    else:
        source = image.convert(mode)
    result = stylizer.stylize(source, "red-hill")
    assert result.size == image.size and result.mode == ("RGBA" if "A" in mode else "RGB")
    assert np.asarray(result.convert("L")).std() > 2


def test_transparency_comes_back(stylizer, image):
    alpha = Image.linear_gradient("L").resize(image.size)
    source = image.copy()
    source.putalpha(alpha)
    result = stylizer.stylize(source, "red-hill")
    assert result.mode == "RGBA" and np.array_equal(pixels(result.getchannel("A")), pixels(alpha))
    smaller = stylizer.stylize(source, "red-hill", size=30)
    assert smaller.size == (30, 22) and smaller.mode == "RGBA"


@pytest.mark.parametrize("size, wanted", [(30, (30, 22)), (60, (60, 44)), (90, (90, 66)), (16, (16, 12))])
def test_size_is_the_longer_side(stylizer, image, size, wanted):
    assert stylizer.stylize(image, "red-hill", size=size).size == wanted
    upright = image.transpose(Image.Transpose.ROTATE_90)
    assert stylizer.stylize(upright, "red-hill", size=size).size == wanted[::-1]


def test_the_photograph_is_not_changed(stylizer, image):
    before = pixels(image).copy()
    stylizer.stylize(image, "red-hill", strength=0.5, preserve_color=True, size=40)
    assert np.array_equal(pixels(image), before)


# ---- strength and colour -----------------------------------------------------------------------


def test_strength_0_is_the_photograph_and_1_the_painting(stylizer, image):
    assert np.array_equal(pixels(stylizer.stylize(image, "red-hill", strength=0)), pixels(image))
    assert np.array_equal(pixels(stylizer.stylize(image, "red-hill", strength=0, size=30)), pixels(stylizer.stylize(image, "tall-grass", strength=0.0, size=30)))
    assert np.array_equal(pixels(stylizer.stylize(image, "red-hill", strength=1.0)), pixels(stylizer.stylize(image, "red-hill")))


def test_strength_leads_from_one_to_the_other_without_a_jump(stylizer, image):
    steps = [stylizer.stylize(image, "red-hill", strength=s) for s in (0, 0.01, 0.25, 0.5, 0.75, 0.99, 1)]
    away = [distance(step, image) for step in steps]
    left = [distance(step, steps[-1]) for step in steps]
    assert away[1] < 3 and left[-2] < 3
    assert all(a < b for a, b in zip(away, away[1:])), away
    assert all(a > b for a, b in zip(left, left[1:])), left


def test_preserved_colours_are_the_photographs(stylizer, image):
    plain, kept = (stylizer.stylize(image, "red-hill", preserve_color=flag) for flag in (False, True))

    def chroma(picture):
        return pixels(picture.convert("YCbCr"))[..., 1:]

    assert np.abs(chroma(kept) - chroma(image)).mean() < 0.5 * np.abs(chroma(plain) - chroma(image)).mean()
    assert np.abs(pixels(kept.convert("L")) - pixels(plain.convert("L"))).mean() < 2
    assert distance(stylizer.stylize(image, "red-hill", strength=0, preserve_color=True), image) < 1


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_pictures_that_cannot_be_painted_in_one_pass_are_painted_one_after_another(weights, tmp_path, backend):
    """As where each has to be looked at by itself, and by a backend that paints one at a time."""
    stylizer, options = Stylizer(weights, "cpu", backend), {"strength": 0.4, "paint_at": "full"}
    pictures = [read_picture(make_photo(tmp_path / f"{i}.jpg", seed=i)) for i in range(2)]
    for alike, picture in zip(stylizer.stylize_alike(pictures, "red-hill", **options), pictures, strict=True):
        assert np.array_equal(pixels(alike), pixels(stylizer.stylize(picture, "red-hill", **options)))


@pytest.mark.parametrize("options", [{}, {"size": 40}, {"preserve_color": True, "strip": True}])
def test_pictures_of_one_size_in_one_pass_are_what_each_is_alone(stylizer, tmp_path, options):
    pictures = [read_picture(make_photo(tmp_path / f"{i}.jpg", seed=i)) for i in range(3)]
    assert stylizer.together(pictures[0], **options) > 1
    for alike, picture in zip(stylizer.stylize_alike(pictures, "red-hill", **options), pictures, strict=True):
        alone = stylizer.stylize(picture, "red-hill", **options)
        assert np.abs(pixels(alike) - pixels(alone)).max() <= 1 and alike.info.keys() == alone.info.keys()


def test_what_gains_nothing_together_goes_alone(stylizer, weights, tmp_path):
    small = read_picture(make_photo(tmp_path / "a.jpg"))
    large = read_picture(make_photo(tmp_path / "b.jpg", (1200, 900)))
    assert [stylizer.together(large), stylizer.together(large, size=100) > 1] == [1, True]
    assert stylizer.together(small, strength=0.5) == stylizer.together(small, paint_at=20) == 1
    assert Stylizer(weights, "cpu", "torch").together(small) > 1 == Stylizer(weights, "cpu", "torch", memory=0).together(small)
    pytest.importorskip("openvino")
    assert Stylizer(weights, "cpu", "openvino").together(small) == 1


@pytest.mark.parametrize("kind", ["mask", "regions"])
def test_where_several_are_given_at_once_masks_and_regions_count(stylizer, tmp_path, kind):
    pictures = [read_picture(make_photo(tmp_path / f"{i}.jpg", seed=i)) for i in range(2)]
    left = half_of(pictures[0].size)
    options = {kind: left if kind == "mask" else [("blue-tree", left)]}
    assert stylizer.together(pictures[0], **options) == 1
    for alike, picture in zip(stylizer.stylize_alike(pictures, "red-hill", **options), pictures, strict=True):
        assert np.array_equal(pixels(alike), pixels(stylizer.stylize(picture, "red-hill", **options)))


def test_faces_come_back_in_each_of_several_at_once(stylizer, tmp_path, monkeypatch):
    pictures, seen = [read_picture(make_photo(tmp_path / f"{i}.jpg", seed=i)) for i in range(3)], []
    assert stylizer.together(pictures[0]) > 1
    monkeypatch.setattr(engine, "faces_of", lambda photo, larger: [photo.tobytes()])
    monkeypatch.setattr(engine, "with_features", lambda painted, photo, found, share: seen.append((found, share)) or photo)
    alike = stylizer.stylize_alike(pictures, "red-hill", faces=0.25)
    assert seen == [([p.rgb.tobytes()], 0.25) for p in pictures] and all(np.array_equal(a, p.rgb) for a, p in zip(alike, pictures))
    stylizer.stylize_alike(pictures, "red-hill", faces=0)
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["kiss", *(pytest.param(n, marks=pytest.mark.slow) for n in ("starry-night", "scream"))])
def test_the_shipped_styles_grow_evenly_with_the_strength(name, monkeypatch):
    monkeypatch.setattr(engine, "STYLE_SIZE", 384)
    stylizer, photo = Stylizer(device="cpu", backend="torch"), read_picture(ROOT / "examples" / "coffee.jpg").rgb.resize((192, 128))
    seen, row_of = {}, stylizer._row_of  # of the photograph, whatever the strength: it takes a second each time

    def once(rgb, size):
        key = rgb.tobytes(), size
        if key not in seen:
            seen[key] = row_of(rgb, size)
        return seen[key]

    monkeypatch.setattr(stylizer, "_row_of", once)
    way = [distance(stylizer.stylize(photo, name, strength=s / 5), photo) for s in range(6)]
    print(name, " ".join(f"{d / way[-1]:.2f}" for d in way))
    assert np.all(np.diff(way) > 0.05 * way[-1])
    assert np.allclose(np.array(way) / way[-1], np.linspace(0, 1, 6), atol=0.15 if name == "kiss" else 0.08)  # see BENCHMARKS.md


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
def test_of_a_low_strength_no_rounding_is_seen_on_plain_ground():
    """In 8 bits, as in bfloat16, two paintings of one wall differ by scratches, which lay on the photograph."""
    ramp = np.linspace(150, 190, 128)[None, :, None] + np.linspace(0, 12, 96)[:, None, None] + np.array([0.0, -8.0, -20.0])
    wall = ramp.astype(np.uint8)
    wall[30:60, 40:70] = 40, 60, 90
    exact, rounded = (Stylizer(device="cpu", backend=name) for name in ("torch", "openvino-int8"))
    rounded._row_of = exact._row_of  # the wall's own style, which is rounded as well
    frames = [[stylizer.stream("auvers", strength=0.05, faces=0)(wall)] for stylizer in (exact, rounded)]
    for a, b in [[stylizer.stylize(wall, "auvers", strength=0.05, faces=0) for stylizer in (exact, rounded)], *zip(*frames)]:
        assert np.abs(pixels(a).astype(int) - pixels(b)).max() <= 2
        assert 0.2 < distance(a, Image.fromarray(wall)) < 5


def test_what_is_painted_smaller_leads_from_the_photograph_without_a_jump_too(stylizer, tmp_path):
    """A copy that is enlarged again is not the photograph: colours that change from pixel to pixel are not in it."""
    noise = np.random.default_rng(0).integers(-9, 10, (66, 90, 3))
    photo = Image.fromarray(np.clip(pixels(Image.open(make_photo(tmp_path / "a.png", (90, 66))).convert("RGB")) + noise, 0, 255).astype(np.uint8))
    for first in (stylizer.stylize(photo, "red-hill", strength=0.001, paint_at=30), stylizer.stream("red-hill", strength=0.001, paint_at=30)(photo)):
        assert np.abs(pixels(first).astype(int) - pixels(photo)).max() <= 2
    almost, whole = (stylizer.stylize(photo, "red-hill", strength=s, paint_at=30) for s in (0.999, 1))
    assert distance(almost, whole) < 1


def test_people_and_faces_are_looked_for_in_the_photograph_and_not_in_a_smaller_copy(stylizer, monkeypatch):
    photo = read_picture(ROOT / "examples" / "astronaut.jpg").rgb
    left, sizes = Image.fromarray((half_of(photo.size) * 255).astype(np.uint8)), []
    monkeypatch.setattr(people, "find_people", lambda seen: sizes.append(seen.size) or left.resize(seen.size))
    monkeypatch.setattr(faces, "find_faces", lambda seen, sure=0.5: sizes.append(seen.size) or [])
    monkeypatch.setattr(people.Seen.__init__, "__defaults__", (None, "", people.find_people))
    painted = stylizer.stylize(photo, "red-hill", size=96, mask="people")
    kept = stylizer.stylize(photo, "red-hill", size=96, strength=0)
    assert np.array_equal(pixels(painted)[:, 50:], pixels(kept)[:, 50:]) and not np.array_equal(pixels(painted), pixels(kept))
    stylizer.stream("red-hill", size=96)(photo)
    stylizer.stylize_alike([read_picture(photo)] * 2, "red-hill", size=96)
    assert sizes == [photo.size] * 5


def test_what_is_painted_larger_than_the_result_is_painted_of_the_photograph(stylizer, tmp_path):
    photo = Image.open(make_photo(tmp_path / "a.png", (120, 88))).convert("RGB")
    large = stylizer.stylize(photo, "red-hill")
    deep = np.asarray(photo, np.uint16) * 257
    for result in (stylizer.stylize(p, "red-hill", size=60, paint_at=120) for p in (photo, deep)):
        assert np.abs(pixels(result).astype(int) - pixels(large.resize((60, 44), Image.Resampling.LANCZOS))).max() <= (2 if result.info.get("deep") is None else 12)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_strength_may_be_numpys_or_torchs(weights, image, backend):
    stylizer = Stylizer(weights, "cpu", backend)
    one, *others = (pixels(stylizer.stylize(image, "red-hill", s)) for s in (0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)))
    assert all(np.array_equal(one, other) for other in others)


@pytest.mark.parametrize("strength", [-0.01, 1.01, math.nan, math.inf, -math.inf, None, "much"])
def test_other_strengths_are_refused(stylizer, image, strength):
    refused(lambda: stylizer.stylize(image, "red-hill", strength=strength), "strength", kind=StyleError)


@pytest.mark.parametrize("size", [0, -5, 15, 30001, "640", (640, 480)])
def test_other_sizes_are_refused(stylizer, image, size):
    refused(lambda: stylizer.stylize(image, "red-hill", size=size), "size", str(size))


# ---- styles ------------------------------------------------------------------------------------


def test_a_mapping_a_sequence_and_a_blend_are_one(stylizer, image):
    a, b = stylizer.style("red-hill"), stylizer.style("tall-grass")
    ways = [
        {"red-hill": 1, "tall-grass": 3},
        [("red-hill", 0.25), ("tall-grass", 0.75)],
        (("red-hill", 2), (b, 6)),
        {a: 1, b: 3},
        {"red-hill": "1", "tall-grass": "3"},
        blend([(a, 1), (b, 3)]),
        iter([(a, 1), (b, 3)]),
        {"red-hill": 1, "tall-grass": 3, "blue-tree": 0},
    ]
    results = [pixels(stylizer.stylize(image, way)) for way in ways]
    assert all(np.abs(r - results[0]).max() <= 1 for r in results[1:])
    assert np.array_equal(pixels(stylizer.stylize(image, {"red-hill": 7})), pixels(stylizer.stylize(image, "red-hill")))
    assert np.abs(results[0] - pixels(stylizer.stylize(image, "red-hill"))).mean() > 1


@pytest.mark.parametrize("style", [None, 3, {}, [], ["red-hill"], [("red-hill",)], {"red-hill": None}, {"red-hill": "much"}, [("red-hill", 1, 2)], [(3, 1)]])
def test_what_is_no_style_is_refused(stylizer, image, style):
    refused(lambda: stylizer.stylize(image, style), kind=StyleError)


@pytest.mark.parametrize("first, second", [(0, 0), (-1, 2), (math.nan, 1), (math.inf, 1)])
def test_weights_without_a_mean_are_refused(stylizer, image, first, second):
    refused(lambda: stylizer.stylize(image, {"red-hill": first, "tall-grass": second}), "weights", kind=StyleError)


def test_an_unknown_name_gets_a_suggestion(stylizer, image):
    for style in ("red-hil", {"red-hil": 1}, [("red-hil", 1)]):
        refused(lambda: stylizer.stylize(image, style), "'red-hil'", "red-hill", kind=StyleError)
    refused(lambda: stylizer.style("zzzzz"), "blue-tree", "tall-grass")
    refused(lambda: stylizer.style(""), "blue-tree")


def test_a_style_of_another_network_is_refused(stylizer, other_weights, image):
    foreign = Stylizer(other_weights, "cpu", "torch").style("red-hill")
    for style in (foreign, {foreign: 1}, [("tall-grass", 1), (foreign, 1)]):
        refused(lambda: stylizer.stylize(image, style), "'red-hill'", "another network", kind=StyleError)


def test_a_style_that_the_network_cannot_take_is_refused(stylizer, image):
    own = stylizer.style("red-hill")
    short = Style(own.gammas, tuple(b[:, :-1] for b in own.betas), "short", network=own.network)
    broken = own.map(lambda t: t * math.nan)
    two = own.map(lambda t: t.repeat(2, 1))
    fewer = Style(own.gammas[:-1], own.betas[:-1], "fewer")
    for style in (short, broken, two, fewer):
        refused(lambda: stylizer.stylize(image, style), repr(style.name), kind=StyleError)
    made_by_hand = Style(own.gammas, own.betas)  # of no known network, but of its shape
    assert np.array_equal(pixels(stylizer.stylize(image, made_by_hand)), pixels(stylizer.stylize(image, own)))


def test_a_saved_style_paints_as_before(stylizer, image, tmp_path):
    style = stylizer.style_from(image)
    save_style(tmp_path / "s.safetensors", style)
    back = load_style(tmp_path / "s.safetensors")
    assert np.abs(pixels(stylizer.stylize(image, back)) - pixels(stylizer.stylize(image, style))).max() <= 2


# ---- any painting ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (5000, 3), (40, 40), (300, 20), (7, 64)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_any_painting_is_a_style(stylizer, image, size, mode):
    painting = Image.effect_noise(size, 80).convert(mode)
    style = stylizer.style_from(painting, 32)
    assert style.network == load_network(stylizer._file).hash and torch.isfinite(style.flat()).all()
    assert stylizer.stylize(image, style).size == image.size


def test_a_painting_with_transparent_margins_is_the_painting(stylizer, tmp_path):
    painting = read_picture(make_photo(tmp_path / "p.jpg", (80, 60))).rgb
    wide = Image.new("RGBA", (200, 160))
    wide.paste(painting, (60, 50))
    for style_of in (stylizer.style_from, lambda p: stylizer.refine("red-hill", p, painting, steps=1, size=48)):
        torch.testing.assert_close(style_of(wide).flat(), style_of(painting).flat())


def test_a_predicted_style_may_be_learned_with(stylizer, image):
    style = stylizer.style_from(image)
    generator = load_network(stylizer._file).generator
    generator(torch.rand(1, 3, 16, 16), style).sum().backward()  # of what inference_mode has made, no gradient may pass
    assert all(p.grad is not None for p in generator.parameters()) and not style.flat().requires_grad


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_programs_own_random_numbers_are_not_moved_on(weights, image, device):
    stylizer = Stylizer(weights, "cpu", "torch")
    before = torch.get_rng_state()
    with torch.device(device):
        stylizer.stylize(image, stylizer.style_from(image), 0.5)  # the first to need VGG
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_style_that_is_being_learned_or_of_another_type_paints_as_any(weights, image, backend):
    stylizer = Stylizer(weights, "cpu", backend)
    own = stylizer.style("red-hill")
    for strength in (0.5, 1):
        wanted = pixels(stylizer.stylize(image, own, strength))
        for other in (own.map(lambda t: t.clone().requires_grad_()), own.to(torch.float64)):
            assert np.array_equal(pixels(stylizer.stylize(image, other, strength)), wanted)


def test_paintings_differ_and_the_same_painting_does_not(stylizer, tmp_path):
    a, b = make_photo(tmp_path / "dusk.png", seed=1), make_photo(tmp_path / "dawn.png", seed=8)
    first = stylizer.style_from(a)
    assert first.name == "dusk"
    assert torch.equal(first.flat(), stylizer.style_from(Image.open(a)).flat())
    assert torch.equal(first.flat(), stylizer.style_from(np.array(Image.open(a))).flat())
    assert (first.flat() - stylizer.style_from(b).flat()).abs().max() > 1e-3
    assert (first.flat() - stylizer.style_from(a, 96).flat()).abs().max() > 1e-4


def test_a_painting_blends_with_a_named_style(stylizer, image):
    style = stylizer.style_from(image)
    both = stylizer.stylize(image, [("red-hill", 1), (style, 1)])
    assert distance(both, stylizer.stylize(image, "red-hill")) > 1 and distance(both, stylizer.stylize(image, style)) > 1


@pytest.mark.parametrize("size", [0, 31, 2049, -1, "384"])
def test_other_painting_sizes_are_refused(stylizer, image, size):
    refused(lambda: stylizer.style_from(image, size), str(size), kind=StyleError)


def test_a_named_style_is_the_callers_own(stylizer, image):
    before = stylizer.stylize(image, "red-hill")
    for style in (stylizer.style("red-hill"), stylizer.resolve("red-hill"), stylizer.resolve({"red-hill": 1})):
        with torch.inference_mode():
            again = stylizer.style("red-hill")
        assert not again.gammas[0].is_inference() and (again.provenance, again.network) == (style.provenance, style.network)
        for t in style.gammas + style.betas:
            t.zero_()
        style.provenance["title"] = "mine"
    assert stylizer.stylize(image, "red-hill").tobytes() == before.tobytes()
    assert stylizer.style("red-hill").provenance["title"] == "Red Hill"


def test_a_style_that_was_written_again_is_read_again(weights, tmp_path):
    """A stylizer may stay open, as the app's does."""
    shutil.copytree(weights, tmp_path / "weights")
    stylizer = Stylizer(tmp_path / "weights", "cpu", "torch")
    before, file = stylizer.style("red-hill"), stylizer.styles["red-hill"].file
    save_style(file, before.map(lambda t: t + 1))
    os.utime(file, ns=(0, 10**18))
    torch.testing.assert_close(stylizer.style("red-hill").flat(), before.flat() + 1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_stylizer_is_pickled_and_copied(weights, image, backend):
    stylizer = Stylizer(weights, "cpu", backend, 3)
    wanted = stylizer.stylize(image, "red-hill").tobytes()
    for other in (pickle.loads(pickle.dumps(stylizer)), copy.deepcopy(stylizer), copy.copy({"it": stylizer})["it"], copy.copy(stylizer)):
        assert other.stylize(image, "red-hill").tobytes() == wanted and other._memory == 3e9
    assert copy.copy(stylizer)._lock is not stylizer._lock and len(pickle.dumps(stylizer)) < 1000


def test_a_stylizer_goes_with_its_program_to_another_folder(weights, photo, monkeypatch):
    monkeypatch.chdir(weights.parent)
    stylizer = Stylizer(weights.name, torch.device("cpu"), "torch")
    monkeypatch.chdir(photo.parent)  # where another process may be as well
    assert pickle.loads(pickle.dumps(stylizer)).stylize(photo, "red-hill") == stylizer.stylize(photo, "red-hill")


def test_a_pickled_stylizer_does_not_wait_for_threads_that_a_fork_has_not(weights, monkeypatch):
    """As in a `multiprocessing.Pool` on Linux."""
    pickled, given = pickle.dumps(Stylizer(weights, "cpu", "torch")), []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    pickle.loads(pickled)
    assert given == []
    monkeypatch.setattr(engine, "STARTED", os.getpid() + 1)
    pickle.loads(pickled)
    assert given == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking where there are threads
def test_a_stylizer_in_a_fork_does_not_wait_for_them_either(stylizer, image):
    """As in a server that is started with a Stylizer, and forks its workers after that."""
    torch.set_num_threads(2)
    stylizer.stylize(image, "red-hill")
    if not (child := os.fork()):
        os._exit(torch.get_num_threads())  # with more than 1 it would paint for ever
    torch.set_num_threads(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_pickled_stylizer_tells_of_a_network_that_is_gone_or_another(weights, other_weights, tmp_path):
    pickled = pickle.dumps(Stylizer(shutil.copytree(weights, tmp_path / "w"), "cpu", "torch"))
    shutil.copy(other_weights / "network.safetensors", tmp_path / "w")
    refused(lambda: pickle.loads(pickled), "another network than it was", kind=WeightsError)
    shutil.rmtree(tmp_path / "w")
    refused(lambda: pickle.loads(pickled), "does not exist", kind=WeightsError)


def test_broken_pictures_are_named(stylizer, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    for path in (tmp_path / "broken.jpg", tmp_path / "none.png", tmp_path):
        refused(lambda: stylizer.stylize(path, "red-hill"), path.name, kind=ImageError)
        refused(lambda: stylizer.style_from(path), path.name, kind=ImageError)


# ---- regions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_regions_paint_each_place_in_its_style(weights, image, backend, strength):
    stylizer = Stylizer(weights, "cpu", backend)
    left = np.zeros((44, 60))
    left[:, :30] = 1
    style = stylizer.region_style([("red-hill", left), ("blue-tree", 1 - left)], image.size)
    painted = stylizer.stylize(image, style, strength)
    a, b = (stylizer.stylize(image, name, strength) for name in ("red-hill", "blue-tree"))
    for columns, near, far in ((slice(0, 20), a, b), (slice(40, 60), b, a)):
        here = [np.abs(pixels(painted)[:, columns] - pixels(other)[:, columns]).mean() for other in (near, far)]
        assert here[0] < here[1], here
    same = stylizer.region_style([("red-hill", left), ("red-hill", 1 - left)], image.size)
    assert distance(stylizer.stylize(image, same, strength), a) < 2


@pytest.mark.parametrize("size", [(37, 41), (64, 96), (9, 9)])
def test_a_region_that_is_everywhere_is_the_style_itself(stylizer, size):
    photo = Image.fromarray(np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8))
    everywhere = stylizer.region_style([("red-hill", np.ones((2, 2))), ("blue-tree", np.zeros((2, 2)))], photo.size)
    assert everywhere.has_regions
    plain, painted = (np.asarray(stylizer.stylize(photo, s)).astype(int) for s in ("red-hill", everywhere))
    assert np.abs(plain - painted).max() <= 1


def test_regions_lie_where_their_masks_are(stylizer):
    photo = Image.fromarray(np.random.default_rng(5).integers(0, 256, (96, 96, 3), dtype=np.uint8))
    above = np.repeat([[1.0], [0.0]], 2, 1)
    halves = stylizer.region_style([("red-hill", above), ("blue-tree", 1 - above)], photo.size)
    painted, first, second = (np.asarray(stylizer.stylize(photo, s)).astype(float) for s in (halves, "red-hill", "blue-tree"))
    upper, lower = slice(0, 32), slice(64, 96)
    for rows, near, far in ((upper, first, second), (lower, second, first)):
        assert np.abs(painted - near)[rows].mean() < np.abs(painted - far)[rows].mean() / 2


@pytest.mark.parametrize("name", ["space-force", "udnie", "the-dance"])
def test_no_lines_are_drawn_along_the_upper_edge(name):
    """They were four pixels deep, of other colours, and three times as steep as the painting."""
    photo = Image.open(ROOT / "examples" / "astronaut.jpg")
    painted = np.asarray(Stylizer(device="cpu").stylize(photo, name)).astype(float)
    steps = np.abs(np.diff(painted, axis=0)).mean((1, 2))
    assert steps[:4].mean() < 1.4 * steps[4:40].mean()


def test_masks_are_pictures_or_arrays_of_any_size_and_gaps_take_the_first_style(stylizer, image):
    small, large = Image.new("L", (6, 4), 255), np.zeros((200, 300))
    style = stylizer.region_style([("red-hill", small), ("blue-tree", large)], image.size)
    assert distance(stylizer.stylize(image, style), stylizer.stylize(image, "red-hill")) < 1
    gaps = stylizer.region_style([("red-hill", np.zeros((4, 4))), ("blue-tree", np.zeros((4, 4)))], image.size)
    assert distance(stylizer.stylize(image, gaps), stylizer.stylize(image, "red-hill")) < 1


def test_regions_for_another_picture_are_refused(stylizer, image):
    style = stylizer.region_style([("red-hill", np.ones((4, 4)))], (128, 64))
    refused(lambda: stylizer.stylize(image, style), "60 x 44", kind=StyleError)


def test_a_mask_may_be_a_file(stylizer, image, tmp_path):
    left = Image.new("LA", (60, 44), (255, 0))
    left.paste((255, 255), (0, 0, 30, 44))
    left.save(tmp_path / "left.png")
    of_file, of_array = (
        stylizer.region_style([("red-hill", mask), ("blue-tree", 1 - np.tile(np.arange(60) < 30, (44, 1)))], image.size)
        for mask in (tmp_path / "left.png", np.tile(np.arange(60.0) < 30, (44, 1)))
    )
    assert all(torch.equal(a, b) for a, b in zip(of_file.gammas, of_array.gammas))
    refused(lambda: stylizer.region_style([("red-hill", "none.png")], (60, 44)), "none.png", "does not exist")
    refused(lambda: stylizer.region_style("red-hill", (60, 44)), "pairs", kind=StyleError)


def half_of(size: tuple[int, int]) -> np.ndarray:
    """True at the left, for a picture of (width, height) px."""
    return np.tile(np.arange(size[0]) < size[0] // 2, (size[1], 1))


@pytest.mark.parametrize("options", [{}, {"strength": 0.5, "preserve_color": True}, {"paint_at": 32, "size": 120}])
def test_with_a_mask_the_rest_of_the_photograph_stays(stylizer, image, options):
    whole, untouched = (np.asarray(stylizer.stylize(image, "red-hill", **options | more)) for more in ({}, {"strength": 0}))
    left = half_of(whole.shape[1::-1])
    painted = np.asarray(stylizer.stylize(image, "red-hill", mask=left, **options))
    assert np.array_equal(painted[left], whole[left]) and np.array_equal(painted[~left], untouched[~left])


def test_with_a_mask_the_rest_of_a_photograph_of_sixteen_bits_stays(stylizer, image):
    deep = np.asarray(image).astype(np.uint16) * 256 + np.arange(60, dtype=np.uint16)[None, :, None]
    left, whole = half_of(image.size), stylizer.stylize(deep, "red-hill").info["deep"]
    painted = stylizer.stylize(deep, "red-hill", mask=left).info["deep"]
    assert np.array_equal(painted[left], whole[left]) and np.array_equal(painted[~left], deep[~left])


def test_regions_lie_one_over_the_other_whatever_size_they_are_painted_at(stylizer, image):
    left = half_of(image.size)
    hill, tree, both = (np.asarray(stylizer.stylize(image, s, regions=r)) for s, r in (("red-hill", ()), ("blue-tree", ()), ("blue-tree", [("red-hill", left)])))
    assert np.array_equal(both[left], hill[left]) and np.array_equal(both[~left], tree[~left]), "each as if all were painted in its style"
    soft = np.asarray(stylizer.stylize(image, "blue-tree", regions=[("red-hill", np.full((4, 4), 0.5))]), float)
    assert np.abs(soft - (hill.astype(float) + tree) / 2).max() <= 1
    above = [("red-hill", np.ones((4, 4))), ("blue-tree", Image.new("L", (6, 4), 255))]  # the last one hides all
    assert distance(stylizer.stylize(image, "red-hill", regions=above), stylizer.stylize(image, "blue-tree")) < 1
    larger = stylizer.stylize(image, "blue-tree", regions=[("red-hill", left)], size=150, paint_at=90)
    assert larger.size == (150, 110)
    refused(lambda: stylizer.stylize(image, "blue-tree", regions=["red-hill"]), "pairs", kind=StyleError)
    refused(lambda: stylizer.stylize(image, "blue-tree", regions=[("red-hill", np.ones((60, 20)))]), "lies on its side", kind=StyleError)


def test_a_film_has_masks_and_regions_too(stylizer, image):
    left = half_of(image.size)
    stream = stylizer.stream("blue-tree", mask=left, regions=[("red-hill", np.ones((2, 2)))])
    for frame in (image, image):
        painted = np.asarray(stream(frame))
        assert np.array_equal(painted[~left], np.asarray(image)[~left])
        assert np.abs(painted.astype(int) - np.asarray(stylizer.stylize(image, "red-hill")))[left].max() <= 2
    assert np.array_equal(np.asarray(stylizer.stream("blue-tree", mask=left).survey(image))[~left], np.asarray(image)[~left])
    assert not stream.of_regions
    pairs = [("red-hill", np.ones((2, 2)))]
    once, always = (stylizer.stream("blue-tree", regions=regions) for regions in (iter(pairs), pairs))
    for frame in (image, image.resize((40, 32))):
        assert np.array_equal(np.asarray(once(frame)), np.asarray(always(frame)))
    for regions in (np.zeros((2, 2)), None, ["red-hill"], [("no-style", np.ones((2, 2)))]):
        refused(lambda: stylizer.stream("blue-tree", regions=regions), kind=StyleError)
    stream = stylizer.stream("blue-tree", regions=[("red-hill", None)])
    for paint in (lambda: stylizer.stylize(image, "blue-tree", regions=[("red-hill", None)]), lambda: stream(image)):
        refused(paint, "a mask is a greyscale picture", kind=StyleError)
    assert stream(image, layer_masks=[np.ones((2, 2))]).size == image.size, "each frame may have its own"


def test_at_no_strength_and_outside_a_mask_colours_outside_srgb_stay(stylizer, image):
    wide = image.copy()
    wide.paste((0, 255, 0), (0, 0, 60, 20))
    wide.info["icc_profile"] = numbered_profile(12, 13)  # Display P3
    for more in ({"strength": 0}, {"mask": np.zeros((2, 2))}):
        assert np.array_equal(np.asarray(stylizer.stylize(wide, "red-hill", **more)), np.asarray(wide))


def test_where_a_region_is_nowhere_its_style_is_not_painted(stylizer, image, monkeypatch):
    asked, paint = [], stylizer._painted
    monkeypatch.setattr(stylizer, "_painted", lambda *given: asked.append(given[2].name) or paint(*given))
    for mask, count in ((np.zeros((2, 2)), 1), (np.eye(2), 2)):
        asked.clear()
        stylizer.stylize(image, "blue-tree", regions=[("red-hill", mask)])
        assert len(asked) == count


def test_regions_have_sixteen_bits_and_strips_like_all_else(stylizer, image, monkeypatch):
    left, deep, told = half_of(image.size), np.asarray(image).astype(np.uint16) * 257, []
    both = stylizer.stylize(deep, "blue-tree", regions=[("red-hill", left)]).info["deep"]
    for where, name in ((left, "red-hill"), (~left, "blue-tree")):
        assert np.array_equal(both[where], stylizer.stylize(deep, name).info["deep"][where])
    usual = stylizer.stylize(image, "blue-tree", regions=[("red-hill", left)])
    strips = Stylizer(stylizer._file, "cpu", "torch", memory=0).stylize(image, "blue-tree", regions=[("red-hill", left)], notice=told.append)
    assert distance(strips, usual) < 1 and len(told) == 1, "which is told once"


@pytest.mark.parametrize("change, told", [({"device": "meta"}, "on meta"), ({"dtype": torch.float8_e4m3fn}, "float8_e4m3fn on cpu")])
def test_a_style_that_holds_nothing_to_compute_with_is_refused(change, told, stylizer, image):
    refused(lambda: stylizer.stylize(image, stylizer.style("red-hill").to(**change)), "'red-hill'", told, kind=StyleError)


def test_a_film_goes_on_from_the_state_of_one_alone(stylizer):
    stream, layered = stylizer.stream("red-hill"), stylizer.stream("red-hill", regions=[("tall-grass", np.eye(4))])
    kept = stream.state
    for rubbish in (None, {}, [], 5, "x", {"a": 1}, {"offset": np.zeros(2)}, layered.state):
        refused(lambda: stream.restore(rubbish), "same settings", kind=StyleError)
    stream.restore(kept)


def test_each_layer_of_a_film_has_a_memory_of_its_own(stylizer, image):
    frames = [image.transform(image.size, Image.Transform.AFFINE, (1, 0, n, 0, 1, 0)) for n in range(4)]
    left = half_of(image.size)
    whole, begun, resumed = (stylizer.stream("blue-tree", regions=[("red-hill", left), ("tall-grass", np.eye(4))]) for _ in range(3))
    alone = {name: stylizer.stream(name) for name in ("blue-tree", "red-hill", "tall-grass")}
    for number, frame in enumerate(frames):
        painted = np.asarray(whole(frame))
        tree, hill, grass = (np.asarray(stream(frame)) for stream in alone.values())
        over = np.asarray(mask_levels(np.eye(4), image.size))
        for where, wanted in ((over == 255, grass), ((over == 0) & left, hill), ((over == 0) & ~left, tree)):
            assert where.any() and np.array_equal(painted[where], wanted[where])
        if number == 1:
            resumed.restore(begun.state)
        other = np.asarray((begun if number < 1 else resumed)(frame))
        assert np.array_equal(painted, other)
    survey = stylizer.stream("blue-tree", regions=[("red-hill", left)])
    surveyed = {name: stylizer.stream(name) for name in ("blue-tree", "red-hill")}
    for frame in frames:
        first = [np.asarray(s.survey(frame)) for s in (survey, *surveyed.values())]
        assert np.array_equal(first[0][left], first[2][left]) and np.array_equal(first[0][~left], first[1][~left])
    fixed = stylizer.stream("blue-tree", regions=[("red-hill", left)], fixed=survey.pooled())(frames[0])
    for where, name in ((left, "red-hill"), (~left, "blue-tree")):
        assert np.array_equal(np.asarray(fixed)[where], np.asarray(stylizer.stream(name, fixed=surveyed[name].pooled())(frames[0]))[where])


def test_each_layer_of_an_animation_has_the_moments_of_all_frames(stylizer, image, monkeypatch):
    monkeypatch.setattr("stylenorm.steady.SMALL", 0)  # below which each frame has its own
    frames, ones = [image, Image.eval(image, lambda level: 255 - level)], np.ones((2, 2))
    found = {}
    for key, style, regions in (("layered", "blue-tree", [("red-hill", ones)]), ("alone", "red-hill", [])):
        survey = stylizer.stream(style, regions=regions)
        for frame in frames:
            survey.survey(frame)
        found[key] = np.asarray(stylizer.stream(style, regions=regions, fixed=survey.pooled())(image))
    assert np.array_equal(found["layered"], found["alone"])
    assert not np.array_equal(found["alone"], stylizer.stream("red-hill")(image)), "they count"


def test_a_frame_may_have_masks_of_its_own(stylizer, image):
    left, both = half_of(image.size), np.ones((2, 2))
    stream = stylizer.stream("blue-tree", mask=both, regions=[("red-hill", both)], smoothing=0)
    hill, tree = (np.asarray(stylizer.stream(name, smoothing=0)(image)) for name in ("red-hill", "blue-tree"))
    for _ in range(2):
        assert np.array_equal(stream(image), hill)
        assert np.array_equal(stream(image, left), np.where(left[..., None], hill, image))
        assert np.array_equal(stream(image, None, [left]), np.where(left[..., None], hill, tree))
        assert np.array_equal(stream(image, left, [~left]), np.where(left[..., None], tree, image))


def test_layers_of_a_film_are_painted_under_its_options(stylizer, image):
    options = {"strength": 0.5, "preserve_color": True, "smoothing": 0.4, "grain": False, "paint_at": 40, "faces": 0.0}
    plain = image.copy()
    plain.paste((120, 150, 200), (0, 0, 60, 24))  # which grain is for
    frames = [plain.transform(image.size, Image.Transform.AFFINE, (1, 0, n, 0, 1, 0)) for n in range(2)]
    layered, alone = stylizer.stream("blue-tree", regions=[("red-hill", np.ones((2, 2)))], **options), stylizer.stream("red-hill", **options)
    for frame in frames:
        assert np.array_equal(layered(frame), alone(frame))
    assert [layer._faces for layer in layered._layers] == [0]


def test_regions_of_a_film_leave_black_bars(stylizer, image):
    frame = Image.new("RGB", (60, 64))
    frame.paste(image, (0, 10))
    stream = stylizer.stream("blue-tree", regions=[("red-hill", half_of(frame.size))])
    stream.box = (0, 10, 60, 54)
    painted = np.asarray(stream(frame))
    assert not painted[:10].any() and not painted[54:].any()
    for columns, name in ((slice(0, 30), "red-hill"), (slice(30, 60), "blue-tree")):
        assert np.array_equal(painted[10:54, columns], np.asarray(stylizer.stream(name)(image))[:, columns])


def test_a_mask_of_no_use_for_a_film_is_told_at_its_first_frame(stylizer, image):
    for more in ({"mask": np.ones((60, 20))}, {"regions": [("red-hill", np.ones((60, 20)))]}):
        refused(lambda: stylizer.stream("blue-tree", **more)(image), "lies on its side", kind=StyleError)
    other = stylizer.region_style([("red-hill", np.ones((4, 4))), ("blue-tree", np.eye(4))], (128, 64))
    refused(lambda: stylizer.stream("blue-tree", regions=[(other, np.ones((2, 2)))])(image), "60 x 44", kind=StyleError)


@pytest.mark.parametrize("size", [(0, 44), (60, 0), (-1, 44), (60.5, 44), (60,), None, "ab"])
def test_sizes_that_no_picture_has_are_refused(stylizer, size):
    refused(lambda: stylizer.region_style([("red-hill", np.ones((4, 4)))], size), "size", kind=StyleError)


NO_MASKS = [np.full((4, 4), -1.0), np.full((4, 4), math.nan), np.ones((4, 4, 3)), np.ones(4), np.ones((0, 4)), [[1], [1, 2]], object()]


@pytest.mark.parametrize("mask", NO_MASKS)
def test_masks_that_say_nothing_are_refused(stylizer, mask):
    refused(lambda: stylizer.region_style([("red-hill", mask)], (60, 44)), "mask", kind=StyleError)
    refused(lambda: stylizer.region_style([], (60, 44)), kind=StyleError)


# ---- the sheet ---------------------------------------------------------------------------------


def test_the_sheet_shows_every_style(stylizer, image):
    sheet = stylizer.sheet(image, tile=40, columns=2)
    assert sheet.width >= 2 * 40 and sheet.height >= 2 * 29 and sheet.width < 3 * 40
    narrow = stylizer.sheet(image, ["red-hill"], tile=40)
    assert stylizer.sheet(image, "red-hill", tile=40).tobytes() == narrow.tobytes(), "a single name needs no list"
    assert narrow.width < sheet.width + 10 and narrow.height < sheet.height
    clear = image.convert("RGBA")
    clear.putalpha(0)
    assert len(stylizer.sheet(clear, ["red-hill"], tile=40).crop((0, 20, 86, 45)).getcolors()) == 1, "all of it is transparent"
    first = np.asarray(narrow)[20:49, :40].astype(int)  # below its label: the photograph
    assert np.abs(first - pixels(image.resize((40, 29), Image.Resampling.LANCZOS))).mean() < 2
    refused(lambda: stylizer.sheet(image, ["red-hill", "green"]), "'green'")
    for columns in (0, -1):
        refused(lambda: stylizer.sheet(image, tile=40, columns=columns), f"at least one column, not {columns}")


# ---- several at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_threads_do_not_disturb_one_another(weights, image, backend):
    """A fresh stylizer, so that the features and the styles are first loaded by several threads at once."""
    jobs = [("red-hill", 1.0), ("blue-tree", 0.5), ("tall-grass", 1.0), ({"red-hill": 1, "blue-tree": 2}, 0.3)] * 3
    fresh = Stylizer(weights, "cpu", backend)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: fresh.stylize(image, *job), jobs))
    alone = [fresh.stylize(image, *job) for job in jobs]
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(together, alone))


def test_openvino_and_torch_agree(weights, stylizer, image):
    other = Stylizer(weights, "cpu", "auto")
    assert other.describe() != "" and stylizer.describe().startswith("torch")
    assert distance(other.stylize(image, "red-hill"), stylizer.stylize(image, "red-hill")) < 3


# ---- what it stands on -------------------------------------------------------------------------


def test_a_network_without_encoder_paints_its_named_styles(weights, image, tmp_path):
    shutil.copytree(weights, tmp_path / "w")
    network = load_network(weights / "network.safetensors")
    save_network(tmp_path / "w" / "network.safetensors", network.generator, None)
    stylizer = Stylizer(tmp_path / "w", "cpu", "torch")
    stylizer.stylize(image, "red-hill")
    stylizer.stylize(image, "red-hill", strength=0)
    for call in (lambda: stylizer.style_from(image), lambda: stylizer.stylize(image, "red-hill", strength=0.5)):
        refused(call, "network.safetensors", "encoder")


@pytest.mark.parametrize("content", [None, b"", b"rubbish" * 9])
def test_features_that_cannot_be_read_are_named(weights, image, tmp_path, content, monkeypatch):
    shutil.copytree(weights, tmp_path / "w")
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(tmp_path / "w"))
    if content is not None:
        (tmp_path / "w" / "vgg16.safetensors").write_bytes(content)
    stylizer = Stylizer(device="cpu", backend="torch")
    stylizer.stylize(image, "red-hill")
    refused(lambda: stylizer.style_from(image), str(tmp_path / "w" / "vgg16.safetensors"), kind=WeightsError)


@pytest.mark.parametrize("given", ["none", "none.safetensors", "."])
def test_weights_that_are_not_there_are_named(tmp_path, given):
    refused(lambda: Stylizer(tmp_path / given), str(tmp_path / given), kind=WeightsError)


@pytest.mark.parametrize("device", ["cuda", "mps", "cuda:0", "tpu", "cpu:x", "", "cuda:x"])
def test_a_device_that_is_not_here_is_named(weights, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    refused(lambda: Stylizer(weights, device), repr(device), "cpu")


def test_of_several_gpus_one_that_is_not_there_is_named(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refused(lambda: Stylizer(weights, "cuda:7"), "'cuda:7'", "choose cuda:0, cuda:1 or auto")
    assert choose_device("cuda:1") == torch.device("cuda", 1) and choose_device("cuda") == torch.device("cuda")


def test_a_device_may_be_torchs(weights, image):
    here = Stylizer(weights, torch.device("cpu"), "torch")
    assert here.stylize(image, "red-hill").tobytes() == Stylizer(weights, "cpu", "torch").stylize(image, "red-hill").tobytes()
    assert TrainConfig(photos="a", out="b", device=torch.device("cuda", 1)).device == "cuda:1", "a checkpoint's JSON holds text"


# ---- large pictures ----------------------------------------------------------------------------


def free(amount: float | None):
    return lambda device: amount


def test_the_way_is_chosen_by_the_free_memory_and_told_in_one_line(stylizer, image, monkeypatch):
    told = []
    wanted = stylizer.stylize(image, "red-hill", notice=told.append)
    for amount in (None, 10**9):  # a system that does not tell is no trouble
        monkeypatch.setattr(engine, "free_memory", free(amount))
        assert np.array_equal(pixels(stylizer.stylize(image, "red-hill", notice=told.append)), pixels(wanted))
    assert told == []
    need = 60 * 44 * (stylizer._backend.bytes_per_pixel + engine.AROUND)
    for amount, lines in ((2 * need, 0), (2 * need - 2, 1)):
        monkeypatch.setattr(engine, "free_memory", free(amount))
        painted = stylizer.stylize(image, "red-hill", notice=told.append)
        assert len(told) == lines and np.abs(pixels(painted) - pixels(wanted)).max() <= 1
    assert "strips" in told[0] and "\n" not in told[0] and "the picture" in told[0]


def test_a_map_that_is_too_large_for_a_gpu_is_one_for_strips(stylizer, image, monkeypatch):
    """As one of more than 4 GB is for a Mac's, however much memory there is."""
    assert most_in_a_map(torch.device("mps")) == 2**32 and most_in_a_map(torch.device("cuda")) == math.inf
    told, wanted, largest = [], stylizer.stylize(image, "red-hill"), 60 * 44 * stylizer._network.generator.config.largest_map
    assert largest == 4 * 16 * 30 * 22  # what comes from below, with its channels, at half the picture's resolution
    for most, lines in ((largest, 0), (largest - 1, 1)):
        monkeypatch.setattr(engine, "most_in_a_map", lambda device, most=most: most)
        painted = stylizer.stylize(image, "red-hill", notice=told.append)
        assert len(told) == lines and np.abs(pixels(painted) - pixels(wanted)).max() <= 1
    assert "too large for this GPU; painting in strips" in told[0]


@pytest.mark.parametrize("memory, strips", [(0, True), (0.0001, True), (1, False), (math.inf, False)])
def test_the_memory_can_be_given(weights, image, monkeypatch, memory, strips):
    told = []
    monkeypatch.setattr(engine, "free_memory", free(10**8))
    Stylizer(weights, "cpu", "torch", memory=memory).stylize(image, "red-hill", notice=told.append)
    assert bool(told) == strips
    for wrong in (-1, math.nan):
        refused(lambda: Stylizer(weights, "cpu", memory=wrong), "memory")


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_all_that_can_be_asked_for_works_in_strips(weights, image, backend):
    """With either backend the strips are torch's, in float32. The photograph's own style is read in bfloat16 where OpenVINO does so."""
    whole, strips = Stylizer(weights, "cpu", "torch", memory=1), Stylizer(weights, "cpu", backend, memory=0)
    region = whole.region_style([("red-hill", np.eye(4)), ("blue-tree", 1 - np.eye(4))], image.size)
    for style, options in (
        ("red-hill", {"strength": 0.4}),
        ("red-hill", {"preserve_color": True, "strength": 0.7}),
        ({"red-hill": 1, "blue-tree": 2}, {"size": 90}),
        (region, {}),
    ):
        wanted, painted = (s.stylize(image, style, **options) for s in (whole, strips))
        assert painted.size == wanted.size and np.abs(pixels(painted) - pixels(wanted)).max() <= (2 if backend == "torch" else 5)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize(
    "options", [{}, {"strength": 0}, {"strength": 0.4, "preserve_color": True}, {"size": 90, "strip": True}, {"paint_at": 30}]
)
def test_sixteen_bits_are_painted_in_strips_and_stay_sixteen(weights, image, backend, options):
    deep = np.asarray(image).astype(np.uint16) * 256 + 77
    whole, strips = Stylizer(weights, "cpu", "torch", memory=1), Stylizer(weights, "cpu", backend, memory=0)
    told = []
    wanted, painted = (s.stylize(deep, "red-hill", **options, notice=told.append) for s in (whole, strips))
    assert len(told) == bool(options.get("strength", 1))
    assert painted.size == wanted.size and painted.info["deep"].dtype == np.uint16
    assert np.abs(painted.info["deep"].astype(int) - wanted.info["deep"]).max() <= (16 if backend == "torch" else 5 * 257)
    assert np.abs(painted.info["deep"] / 257 - pixels(painted)).max() <= 0.51


def test_sixteen_bits_count_as_float32(weights, image, monkeypatch):
    stylizer, told = Stylizer(weights, "cpu", "torch"), []
    monkeypatch.setattr(stylizer._backend, "bytes_per_pixel", 10, raising=False)
    monkeypatch.setattr(engine, "free_memory", free(2 * 60 * 44 * 200))
    stylizer.stylize(image, "red-hill", notice=told.append)
    assert told == []
    stylizer.stylize(np.asarray(image).astype(np.uint16) * 257, "red-hill", notice=told.append)
    assert len(told) == 1


def test_the_maps_of_regions_count_with_the_copies_that_painting_makes(stylizer, image, monkeypatch):
    region, told = stylizer.region_style([("red-hill", np.eye(4)), ("blue-tree", 1 - np.eye(4))], image.size), []
    monkeypatch.setattr(stylizer._backend, "bytes_per_pixel", 10, raising=False)
    maps = sum(t.nbytes for t in region.gammas + region.betas)
    for strength, copies in ((1, 1), (0.5, 2)):
        need = 60 * 44 * (engine.FLOAT32_BYTES + engine.AROUND) + copies * maps
        for amount, lines in ((2 * need, 0), (2 * need - 2, 1)):
            told.clear()
            monkeypatch.setattr(engine, "free_memory", free(amount))
            stylizer.stylize(image, region, strength=strength, notice=told.append)
            assert len(told) == lines
    monkeypatch.setattr(engine, "free_memory", free(maps))
    refused(lambda: stylizer.stylize(image, region), "GB of memory", "give a size of", kind=ImageError)


def test_too_little_disk_is_told_before_it_starts(stylizer, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "paint_strips", lambda *_: pytest.fail("it started"))
    monkeypatch.setattr(engine, "free_memory", free(300_000_000))
    monkeypatch.setattr(engine, "free_disk", lambda folder: 10_000_000)
    monkeypatch.setattr(engine, "spill_folder", lambda: tmp_path)
    monkeypatch.setattr(engine, "disk_needed", lambda generator, size: 40 * size[0] * size[1])
    photo = Image.effect_noise((1200, 800), 80).convert("RGB")  # one of a single colour needs no strips
    refused(lambda: stylizer.stylize(photo, "red-hill"), "disk", str(tmp_path), "TMPDIR", "size of 551 px", kind=ImageError)


def test_what_is_too_large_for_strips_is_refused_with_a_size_that_fits(stylizer, monkeypatch):
    monkeypatch.setattr(engine, "free_memory", free(500_000))
    photo = Image.new("RGB", (600, 400))
    with pytest.raises(ImageError, match="give a size of") as caught:
        stylizer.stylize(photo, "red-hill")
    size = int(str(caught.value).split("size of ")[1].split()[0])
    assert 100 < size < 600
    assert max(stylizer.stylize(photo, "red-hill", size=size).size) == size


def test_regions_too_large_for_the_memory_are_refused(stylizer, monkeypatch):
    monkeypatch.setattr(engine, "free_memory", free(500_000))
    refused(lambda: stylizer.region_style([("red-hill", np.ones((4, 4)))], (600, 400)), "regions", "600 x 400", kind=StyleError)


@pytest.mark.parametrize("size, short", [((700, 500), 48), ((90, 1300), 48), ((20, 30), 48), ((300, 48), 48)])
def test_a_photograph_is_read_small_as_if_at_once(size, short):
    rgb = Image.effect_noise(size, 80).convert("RGB")
    small = resized_short_side(to_tensor(rgb), short)
    assert (engine._small_tensor(rgb, short, most=20) - small).abs().max() < 1e-4
    middle = engine._small_tensor(rgb, short, most=2)
    width, height = min(size[0], 2 * size[1]), min(size[1], 2 * size[0])
    x, y = (size[0] - width) // 2, (size[1] - height) // 2
    wanted = resized_short_side(to_tensor(rgb.crop((x, y, x + width, y + height))), short)
    assert middle.shape == wanted.shape and (middle - wanted).abs().max() < 1e-4


def test_pillow_does_not_take_a_large_picture_for_a_bomb(weights, monkeypatch):
    """It checks each crop, too; 89 megapixels make it warn, and twice as many refuse."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    monkeypatch.setattr(engine, "paint_strips", partial(engine.paint_strips, strip=100_000))
    photo = Image.effect_noise((200, 620), 80).convert("RGB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for memory in (0, 9):
            stylizer = Stylizer(weights, "cpu", "torch", memory=memory)
            stylizer.stylize(photo, "red-hill", strength=0.5, preserve_color=True)
            stylizer.stylize(photo, stylizer.style_from(photo), paint_at=100)


# ---- the size to paint at ----------------------------------------------------------------------


def test_painted_at_one_size_a_style_looks_alike_at_all_sizes(stylizer, tmp_path):
    large = Image.open(make_photo(tmp_path / "large.png", (480, 352))).convert("RGB").filter(ImageFilter.GaussianBlur(3))
    small = large.resize((120, 88), Image.Resampling.LANCZOS)
    free, tied = ([stylizer.stylize(p, "red-hill", paint_at=side) for p in (large, small)] for side in (None, 60))
    assert [p.size for p in free + tied] == [large.size, small.size] * 2
    apart = [distance(a.resize((60, 44), Image.Resampling.BOX), b.resize((60, 44), Image.Resampling.BOX)) for a, b in (free, tied)]
    assert apart[1] < 3 and apart[1] < 0.5 * apart[0], apart


def test_painting_at_the_photographs_own_size_is_plain_painting(stylizer, image):
    assert np.array_equal(pixels(stylizer.stylize(image, "red-hill", paint_at=60)), pixels(stylizer.stylize(image, "red-hill")))
    finer = stylizer.stylize(image, "red-hill", paint_at=120)  # smaller strokes than the picture itself has room for
    assert finer.size == image.size and distance(finer, stylizer.stylize(image, "red-hill")) > 1
    coarse = stylizer.stylize(image, "red-hill", paint_at=30, strength=0.5, preserve_color=True, size=90)
    assert coarse.size == (90, 66)
    for side in (15, 30001, "all"):
        refused(lambda: stylizer.stylize(image, "red-hill", paint_at=side), "paint_at", kind=StyleError)


@pytest.fixture
def usually_small(monkeypatch):
    monkeypatch.setattr("stylenorm.tensors.USUAL_PIXELS", 60 * 44)


@pytest.mark.parametrize("size, side", [((120, 88), 60), ((44, 240), 120), ((60, 44), None), ((2, 1000), None), ((600, 440), 60)])
def test_a_large_picture_is_painted_as_one_of_usual_size_is(stylizer, tmp_path, usually_small, size, side):
    """Of so many pixels: a panorama of a longer side alone would be a strip of a few pixels' height."""
    path = make_photo(tmp_path / "large.png", size)
    usual, tied, full = (pixels(stylizer.stylize(path, "red-hill", paint_at=at)) for at in (None, side, "full"))
    assert np.array_equal(usual, tied) and usual.shape[:2] == size[::-1]
    assert np.array_equal(usual, full) == (side is None)
    assert np.array_equal(full, pixels(stylizer._whole(Image.open(path).convert("RGB"), stylizer.resolve("red-hill"))))
    read = read_picture(path)
    assert (stylizer.together(read) > 1) == (side is None) and stylizer.together(read, paint_at="full") > 1
    assert stylizer.together(read, size=max(size)) == stylizer.together(read)


def test_a_style_of_regions_is_painted_at_the_size_that_it_was_made_for(stylizer, tmp_path, usually_small):
    large = Image.open(make_photo(tmp_path / "large.png", (160, 120))).convert("RGB")
    left = np.zeros((120, 160))
    left[:, :80] = 1
    regions = stylizer.region_style([("red-hill", left), ("blue-tree", 1 - left)], large.size)
    found = pixels(stylizer.stylize(large, regions))
    assert np.array_equal(found, pixels(stylizer.stylize(large, regions, paint_at="full"))) and found.shape == (120, 160, 3)
    assert stylizer.stream(regions)(large).size == (160, 120)
    over = [(regions, np.ones((2, 2)))]
    assert np.array_equal(pixels(stylizer.stylize(large, "red-hill", regions=over)), found), "over another one, too"
    layered = stylizer.stream("red-hill", regions=over)
    assert layered.of_regions and np.array_equal(layered(large), stylizer.stream(regions)(large))
    usual = stylizer.stylize(large, "red-hill", regions=[("blue-tree", np.ones((2, 2)))])
    assert np.array_equal(usual, stylizer.stylize(large, "blue-tree")), "which is painted smaller"


STYLIZE = """
import json, sys
from stylenorm import Stylizer
stylizer = Stylizer(sys.argv[1], "cpu")
stylizer.stylize(sys.argv[2], {"red-hill": 1, "tall-grass": 2}, preserve_color=True)
stylizer.stylize(sys.argv[2], stylizer.style_from(sys.argv[2], 32))
stylizer.sheet(sys.argv[2], tile=32)
print(json.dumps([m for m in ("torchvision", "gradio", "matplotlib", "stylenorm.training", "scipy") if m in sys.modules]))
"""


def test_stylizing_imports_nothing_it_does_not_need(weights, photo):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", STYLIZE, weights, photo], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_paints_what_the_cpu_paints(weights, stylizer, image):
    gpu = Stylizer(weights, "cuda")
    for style in ("red-hill", gpu.style_from(image)):
        for strength in (1, 0.5):
            assert distance(gpu.stylize(image, style, strength), stylizer.stylize(image, style, strength)) < 4
