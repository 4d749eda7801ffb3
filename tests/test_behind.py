"""What a painting does not show: outlines are moved to where nobody sees them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from stylenorm import Stylizer, behind, engine, steady
from stylenorm.behind import moved, shown


def disc(size: int = 320, radius: int = 90, inside=255, outside=0, mode: str = "L") -> Image.Image:
    image = Image.new(mode, (size, size), outside)
    ImageDraw.Draw(image).ellipse([size // 2 - radius, size // 2 - radius, size // 2 + radius, size // 2 + radius], fill=inside)
    return image


@pytest.fixture
def red() -> Image.Image:
    """A red disc before blue ground that is lighter to the right."""
    ground = Image.merge("RGB", [Image.new("L", (320, 320), 20), Image.linear_gradient("L").rotate(90).resize((320, 320)), Image.new("L", (320, 320), 200)])
    ground.paste((220, 30, 20), mask=disc())
    return ground


def test_an_outline_is_moved_to_where_it_is_not_shown(red):
    rest = ImageOps.invert(disc())
    found, given = np.asarray(moved(red, red, rest)).astype(int), np.asarray(red).astype(int)
    away = np.asarray(rest.filter(ImageFilter.MinFilter(11))) == 255
    assert (found[away] == given[away]).all(), "what is shown stays, but for the edge itself"
    assert (found[150:170, 150:170] == given[150:170, 150:170]).all(), "and so does what is far from it"
    for x in (74, 78, 240, 245):  # on both sides of the disc, within it
        assert found[160, x, 0] < 60 and abs(found[160, x, 1] - given[160, 60 if x < 160 else 262, 1]) < 25, "its own side's colour, continued"
    steps = np.abs(np.diff(found[160], axis=0)).max(1)
    assert steps.max() < 45 and steps[60:76].max() < 12 and np.abs(np.diff(given[160], axis=0)).max() > 150, "and no edge is left"


def test_sixteen_bits_are_moved_alike(red):
    deep = (np.asarray(red).astype(int) * 257 + 3).clip(max=65535).astype(np.uint16)
    rest = ImageOps.invert(disc())
    eight, found = np.asarray(moved(red, red, rest)).astype(int), moved(deep, red, rest)
    assert found.dtype == np.uint16 and np.abs(found.astype(int) // 257 - eight).max() <= 1
    away = np.asarray(rest.filter(ImageFilter.MinFilter(11))) == 255
    assert (found[away] == deep[away]).all()


@pytest.mark.parametrize(
    "part",
    [None, Image.new("L", (320, 320), 255), Image.new("L", (320, 320)), Image.new("L", (320, 320), 100), disc().filter(ImageFilter.GaussianBlur(12)), disc(radius=2)],
    ids=["all", "white", "black", "grey", "soft", "nothing is left of it"],
)
def test_where_there_is_no_outline_the_photograph_stays_as_it_is(red, part):
    assert np.array_equal(moved(red, red, part), red)


def test_how_soft_an_edge_is_does_not_hang_on_how_long_it_is(red):
    """The edges of masks that are found are a few px wide."""
    ramp = np.clip((np.arange(320) - 40) * 255 / 20, 0, 255)  # levels from 13 to 242 are 18 px of it
    for levels, wide in ((ramp, 18), (np.minimum(ramp, ramp[::-1]), 18), (255 * (ramp > 0), 0)):
        part = Image.fromarray(np.tile(levels.astype(np.uint8), (320, 1)))
        assert behind._softness(part) == pytest.approx(wide, abs=1.5) == behind._softness(part.crop((0, 0, 320, 30)))
    narrow = disc().filter(ImageFilter.GaussianBlur(1.5))
    assert not np.array_equal(moved(red, red, narrow), red)


def test_a_small_photograph_stays_as_it_is(red):
    small = red.resize((behind.LEAST - 1, 300))
    assert moved(small, small, disc().resize(small.size)) is small
    assert moved(red, red, disc()) is not red


@pytest.mark.parametrize("size", [(192, 192), (701, 200), (193, 500)])
def test_any_size_will_do(size):
    photo = Image.effect_noise(size, 40).convert("RGB")
    assert moved(photo, photo, disc().resize(size)).size == size


def test_what_is_filled_is_the_mean_of_what_is_near():
    weights = np.zeros((5, 7, 1), np.float32)
    weights[:, 0] = 1
    colours = np.full((5, 7, 3), (10, 200, 60), np.float32)
    np.testing.assert_allclose(behind._pulled(colours * weights, weights), colours, rtol=1e-5)
    weights[:, 6] = 0.5  # half known
    other = colours.copy()
    other[:, 6] = 100
    found = behind._pulled(other * weights, weights)
    np.testing.assert_allclose(found[:, 0], other[:, 0])
    assert (np.diff(found[:, :, 0]) > -1).all() and 10 < found[2, 3, 0] < 100 and found[2, 1, 0] < found[2, 5, 0]


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (6, 11)])
def test_a_little_that_is_known_fills_all(size):
    weights = np.zeros((*size, 1), np.float32)
    weights[-1, -1] = 0.25
    colour = np.array([10, 200, 60], np.float32)
    np.testing.assert_allclose(behind._pulled(colour * weights, weights), np.broadcast_to(colour, (*size, 3)), rtol=1e-4)


def test_of_paintings_one_over_the_other_that_is_shown_which_nothing_hides():
    whole, left, above = Image.new("L", (40, 20), 255), Image.new("L", (40, 20)), Image.new("L", (40, 20))
    left.paste(255, (0, 0, 20, 20)), above.paste(255, (0, 0, 40, 10))
    assert shown([], None, (40, 20)) == [None] and shown([], whole, (40, 20)) == [None]
    ground, first, second = (np.asarray(part) / 255 for part in shown([left, above], None, (40, 20)))
    np.testing.assert_allclose(ground + first + second, 1)
    assert second[5].all() and not second[15].any() and first[15, :20].all() and not first[5].any() and ground[15, 20:].all()
    alone = [np.asarray(part) for part in shown([whole], left, (40, 20))]
    assert not alone[0].any() and np.array_equal(alone[1], left), "all is hidden below, and a mask cuts off what lies above"
    assert shown([left], None, (20, 10))[1].size == (20, 10)
    assert shown([whole], None, (40, 20))[1] is None


def test_around_what_is_kept_no_rim_is_painted(monkeypatch):
    """A dark disc before light ground, with the shipped network."""
    ground = Image.effect_noise((320, 320), 30).point(lambda level: 150 + level // 3).convert("RGB")
    ground.paste((20, 20, 25), mask=disc())
    stylizer, rims = Stylizer(device="cpu"), []
    for style in ("feminine-wave", "starry-night"):
        for move in (lambda photo, small, part: photo, moved):
            monkeypatch.setattr(engine, "moved", move)
            painted = np.asarray(stylizer.stylize(ground, style, mask=ImageOps.invert(disc())).convert("L"), float)
            assert np.array_equal(painted[disc_of(86)], np.asarray(ground.convert("L"), float)[disc_of(86)])
            ring, far = disc_of(103) & ~disc_of(93), ~disc_of(125)
            rims.append(abs(painted[ring].mean() - painted[far].mean()))
    assert rims[1] < 0.7 * rims[0] and rims[3] < 0.7 * rims[2], rims


def disc_of(radius: int) -> np.ndarray:
    return np.asarray(disc(radius=radius)) == 255


def test_nor_in_films(monkeypatch):
    ground = Image.effect_noise((320, 320), 30).point(lambda level: 150 + level // 3).convert("RGB")
    ground.paste((20, 20, 25), mask=disc())
    stylizer, rims, asked = Stylizer(device="cpu"), [], []
    for move in (lambda photo, small, part: asked.append(part) or photo, moved):
        monkeypatch.setattr(steady, "moved", move)
        stream = stylizer.stream("feminine-wave", mask=ImageOps.invert(disc()))
        for paint in (stream, stream.survey):
            painted = np.asarray(paint(ground).convert("L"), float)
            ring, far = disc_of(103) & ~disc_of(93), ~disc_of(125)
            rims.append(abs(painted[ring].mean() - painted[far].mean()))
    assert rims[2] < 0.7 * rims[0] and rims[3] < 0.7 * rims[1], rims
    assert len(asked) == 2 and all(np.array_equal(part, ImageOps.invert(disc())) for part in asked)
    asked.clear()
    monkeypatch.setattr(steady, "moved", lambda photo, small, part: asked.append(part) or photo)
    framed = Image.new("RGB", (320, 400))
    framed.paste(ground, (0, 40))
    stream = stylizer.stream("kiss", regions=[("scream", ImageOps.expand(disc(), (0, 40), 0))], paint_at=200)
    stream.box = (0, 40, 320, 360)
    stream(framed)
    assert [part.size for part in asked] == [(200, 200)] * 2 and asked[0].getpixel((100, 100)) == 0 == asked[1].getpixel((5, 5))
    assert asked[1].getpixel((100, 48)) == 255 == asked[0].getpixel((100, 38)), "within the bars"
