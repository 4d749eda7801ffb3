"""A painting of a small copy, at the photograph's size: strokes and colours of the one, edges of the other."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_photo
from PIL import Image, ImageFilter

from stylenorm import bands, detail
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


def test_lines_of_colour_that_the_network_draws_are_not_enlarged(photo):
    """Every two and four pixels; in light they may be strokes, and stay."""
    small, rows = small_of(photo), np.arange(44)[:, None, None]
    lines = 12 * np.cos(np.pi * rows / 2) + 6 * (-1.0) ** rows
    for colour, kept in (([1, -0.299 / 0.587, 0], False), (np.ones(3), True)):  # the first of no light
        painted = Image.fromarray(np.broadcast_to(128 + lines * np.array(colour), (44, 60, 3)).round().astype(np.uint8))
        found = values(enlarge(painted, small, photo))[20:-20]
        assert (found.std(axis=0).max() > 5) if kept else np.ptp(found, axis=0).max() <= 3, found.std(axis=0).max()


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


@pytest.mark.parametrize("size", [(60, 44), (239, 175), (33, 1), (1, 25), (61, 3)])
def test_the_maps_are_those_of_torch(photo, size):
    """Means over squares, and a cubic that goes through what is there."""
    small = np.asarray(photo.resize(size, Image.Resampling.LANCZOS)).astype(np.float32).transpose(2, 0, 1) / 255
    wanted = F.avg_pool2d(torch.from_numpy(small), 5, 1, 2, count_include_pad=False).numpy()
    assert np.abs(detail._mean(small) - wanted).max() < 1e-6
    (width, height), (w, h) = photo.size, size
    found = sum(small[:, row] * share[:, None] for row, share in zip(*detail._cubic(h, height, 0, height)))
    first, taps = detail._across(w, width, 0, width)
    x, y = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in (width, height))
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], 2)[None]
    wanted = F.grid_sample(torch.from_numpy(small)[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0].numpy()
    assert np.abs(found[..., first : first + len(taps)] @ taps - wanted).max() < 1e-4


def test_the_shares_are_those_of_the_papers_formula():
    torch.manual_seed(0)
    small = 0.5 + 0.06 * (torch.rand(1, 3, 14, 21) - 0.5) * torch.linspace(0, 3, 21)  # from flat to what counts in full
    painted = torch.rand(1, 3, 14, 21) / 3 + small
    (i, own), taps = (torch.tensordot(torch.tensor([0.299, 0.587, 0.114]), x[0], 1)[None, None] for x in (small, painted)), torch.tensor([1, 2, 2, 2, 1]) / 8
    kernel = (taps * taps[:, None]).expand(3, 1, 5, 5)
    p = own + F.conv2d(F.pad(painted - own, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)

    def mean(x):
        return F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)

    a = mean(((mean(i * p) - mean(i) * mean(p)) / (mean(i * i) - mean(i) ** 2 + 0.02**2)).clamp(0, 1))
    found = detail._maps(painted[0].numpy(), small[0].numpy())
    assert 0.1 < a.std() and np.abs(found - torch.cat([p, a, i], 1)[0].numpy()).max() < 1e-3


def test_a_picture_on_its_side_gets_the_same(photo):
    painted = photo.resize((200, 146)).filter(ImageFilter.GaussianBlur(1))
    small = photo.resize(painted.size)
    upright, lying = enlarge(painted, small, photo), enlarge(*(p.transpose(Image.Transpose.TRANSPOSE) for p in (painted, small, photo)))
    assert np.abs(values(lying).swapaxes(0, 1) - values(upright)).max() <= 1
    black, white = (Image.new("RGB", (9, 7), color) for color in ("black", "white"))
    assert [enlarge(p.resize((4, 3)), p.resize((4, 3)), p).getextrema() for p in (black, white)] == [((0, 0),) * 3, ((255, 255),) * 3]


def test_it_takes_no_torch():
    program = "import sys, stylenorm.detail; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
