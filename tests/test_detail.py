"""A painting of a small copy, at the photograph's size: strokes and colours of the one, edges of the other."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageFilter

from stylenorm import bands
from stylenorm.detail import enlarge


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Image.Image:
    """Grey, 240 x 176, with lines of 1 px, which are lost at a quarter of its size."""
    rgb = Image.open(make_photo(tmp_path_factory.mktemp("detail") / "photo.png", (240, 176))).convert("RGB")
    values = np.asarray(rgb.filter(ImageFilter.GaussianBlur(4)).convert("L")).copy()
    values[:, ::24] = values[::24] = 20
    return Image.fromarray(values).convert("RGB")


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


def small_of(photo: Image.Image) -> Image.Image:
    return photo.resize((60, 44), Image.Resampling.LANCZOS)


def test_a_painting_that_follows_the_photograph_gets_its_detail(photo):
    small = small_of(photo)
    plain = small.resize(photo.size, Image.Resampling.BICUBIC)
    finer = enlarge(small, small, photo)
    error, lost = (np.abs(values(p) - values(photo)).mean() for p in (finer, plain))
    assert error < 0.2 * lost, (error, lost)
    half = Image.eval(small, lambda v: v // 2 + 60)  # half the contrast gets half the detail
    halved = values(photo) / 2 + 60
    assert np.abs(values(enlarge(half, small, photo)) - halved).mean() < 0.25 * np.abs(values(half.resize(photo.size)) - halved).mean()


def test_a_painting_that_does_not_follow_it_stays_as_it_is(photo):
    small = small_of(photo)
    flat = Image.new("RGB", small.size, (200, 40, 90))
    assert np.abs(values(enlarge(flat, small, photo)) - values(flat)[0, 0]).max() <= 1
    against = Image.eval(small, lambda v: 255 - v)  # light where it is dark: nothing to sharpen it by
    painted = values(enlarge(against, small, photo))
    assert np.abs(painted - values(against.resize(photo.size, Image.Resampling.BICUBIC))).mean() < 2


def test_strokes_are_where_they_were(photo):
    """The painting at its own size again is the painting."""
    small = small_of(photo)
    strokes = Image.effect_noise(small.size, 90).convert("RGB").filter(ImageFilter.GaussianBlur(1))
    back = enlarge(strokes, small, photo).resize(small.size, Image.Resampling.BOX)
    assert np.abs(values(back) - values(strokes)).mean() < 6


def test_bands_leave_no_trace(photo, monkeypatch):
    small = small_of(photo)
    whole = values(enlarge(small, small, photo))
    monkeypatch.setattr(bands, "BAND", 7)
    assert np.abs(values(enlarge(small, small, photo)) - whole).max() <= 1


def test_sixteen_bits_get_their_detail_in_sixteen(photo):
    small = small_of(photo)
    deep, deep_small = (np.asarray(p).astype(np.uint16) * 257 for p in (photo, small))
    finer = enlarge(deep_small, deep_small, deep)
    assert finer.dtype == np.uint16 and np.abs(finer / 257 - values(enlarge(small, small, photo))).max() <= 0.51
    assert enlarge(deep, deep, deep_small).shape == deep_small.shape


def test_a_larger_painting_is_made_smaller(photo):
    large = photo.resize((480, 352))
    assert np.array_equal(values(enlarge(large, large, photo)), values(large.resize(photo.size, Image.Resampling.LANCZOS)))
