"""Noise of films: what the network sees has grain in its place, which stands still, and nothing else is changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from stylenorm import Stylizer, denoising
from stylenorm.plain import plain_stylizer
from stylenorm.steady import Pool, Steady

ROOT = Path(__file__).parent.parent
NOISE = 3.0

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photo():
    """A house under a plain sky, 160 x 224 px, with details on its wall."""
    image = Image.new("RGB", (224, 160), (120, 190, 235))
    drawn = ImageDraw.Draw(image)
    drawn.rectangle((70, 90, 150, 160), (225, 205, 170))
    drawn.polygon([(60, 90), (110, 50), (160, 90)], (150, 60, 50))
    for y in range(96, 160, 12):
        drawn.line((72, y, 148, y + 5), (120, 80, 60), 2)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.7)))


def noisy(pictures, noise: float = NOISE) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.clip(np.rint(p + rng.normal(0, noise, p.shape)), 0, 255).astype(np.uint8) for p in pictures]


def shown(frames, steady: Steady | None = None) -> list[np.ndarray]:
    steady, seen = steady or Steady(0.8, 16), []
    for frame in frames:
        steady.begin(frame)
        seen.append(np.asarray(steady.shown(Image.fromarray(frame))))
        steady.end(frame)
    return seen


def off(a, b) -> float:
    return float(np.sqrt(np.square(np.asarray(a, float) - b).mean()))


def test_noise_is_taken_out_and_as_much_grain_stands_in_its_place(photo):
    frames, steady = noisy([photo] * 24), Steady(0.8, 16)
    seen = shown(frames, steady)
    assert np.array_equal(seen[0], frames[0]), "nothing is known before the first frame"
    assert off(steady._mean, photo) < 0.35 * NOISE
    for a, b in zip(seen[12:], frames[12:]):
        assert off(a, photo) == pytest.approx(off(b, photo), rel=0.15), "as noisy as the frame itself"
    changes = [(off(a, b), off(c, d)) for a, b, c, d in zip(seen[12:], seen[13:], frames[12:], frames[13:])]
    assert np.mean([now for now, _ in changes]) < 0.2 * np.mean([before for _, before in changes])


def test_grain_moves_along_with_a_pan(photo):
    frames = noisy([photo[t : t + 130, 3 * t : 3 * t + 140] for t in range(20)])
    seen = shown(frames)
    moved = [off(b[:-1, :-3], np.asarray(a, float)[1:, 3:]) for a, b in zip(seen[10:], seen[11:])]
    assert np.mean(moved) < 0.4 * NOISE * 2**0.5


@pytest.mark.parametrize("step", [(0, 0), (1, 3), (0.3, 1.4)])
def test_films_without_noise_are_shown_as_they_are(photo, step):
    dy, dx = step
    frames = []
    for t in range(10):
        box = (10 + dx * t, 5 + dy * t, 170 + dx * t, 117 + dy * t)
        frames.append(np.asarray(Image.fromarray(photo).resize((160, 112), Image.Resampling.BICUBIC, box)))
    steady = Steady(0.8, 16)
    for frame in frames:
        steady.begin(frame)
        picture = Image.fromarray(frame)
        assert steady.shown(picture) is picture
        steady.end(frame)


@pytest.mark.parametrize("rate", [1, 2, 4])
def test_a_fade_is_shown_in_time(photo, rate):
    frames = noisy([photo - rate * t * (photo / 255) for t in range(24)])
    late = [float(np.mean(a, dtype=float) - np.mean(b, dtype=float)) for a, b in zip(shown(frames), frames)]
    assert max(map(abs, late)) < 2


@pytest.mark.parametrize("width, box, most", [(40, 3, 6), (1, 1, 9)], ids=["something large", "a wire"])
def test_what_crosses_leaves_no_ghost(photo, width, box, most):
    truth = []
    for t in range(20):
        truth.append(photo.copy())
        truth[-1][20:60, max(0, 12 * t - width) : max(0, 12 * t)] = (250, 245, 230)
    for clean, seen in zip(truth[1:], shown(noisy(truth, 2.0))[1:]):
        soft = [np.asarray(Image.fromarray(p).filter(ImageFilter.BoxBlur(box)), float) for p in (seen, clean)]
        assert np.abs(soft[0] - soft[1]).mean(2).max() < most


def test_black_bars_do_not_hide_that_a_film_is_noisy(photo):
    bars = np.zeros_like(photo)
    frames = noisy([photo] * 12)
    for frame in frames:
        frame[:50] = frame[-50:] = 0
    seen = shown(frames)
    assert np.array_equal(seen[-1][:30], bars[:30]), "what is black stays black"
    middle = slice(70, 90)
    assert off(seen[-1][middle], seen[-2][middle]) < 0.3 * off(frames[-1][middle], frames[-2][middle])


def test_without_smoothing_and_in_a_survey_nothing_is_taken_out(photo):
    frames = noisy([photo] * 4)
    for a, b in zip(shown(frames, Steady(0.0, 16)), frames):
        assert np.array_equal(a, b)
    pool, picture = Pool(), Image.fromarray(frames[0])
    assert pool.shown(picture) is picture


def test_a_film_goes_on_where_it_was_left(photo):
    frames, first = noisy([photo] * 8), Steady(0.8, 16)
    shown(frames[:4], first)
    second = Steady(0.8, 16)
    second.restore({name: np.array(value) for name, value in first.state.items()})
    for a, b in zip(shown(frames[4:], first), shown(frames[4:], second)):
        assert np.array_equal(a, b)


def test_a_state_from_before_frames_were_averaged_is_taken(photo):
    frames, first = noisy([photo] * 6), Steady(0.8, 16)
    shown(frames[:3], first)
    second = Steady(0.8, 16)
    second.restore({name: value for name, value in first.state.items() if name != "mean"})
    seen = shown(frames[3:], second)
    assert np.array_equal(seen[0], frames[3]) and not np.array_equal(seen[1], frames[4])


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 40), (17, 33)])
def test_frames_of_any_size(size):
    frames = noisy([np.full((*size, 3), 120, np.uint8)] * 4)
    for seen in shown(frames):
        assert seen.shape == (*size, 3)


@pytest.mark.parametrize("kind", ["plain", "full"])
def test_stars_stay_where_they_are_in_a_noisy_film(photo, kind, monkeypatch):
    """Each frame's own noise decided where they lie, so that they faded within ten frames: large forms in the sky change half as much."""
    if kind == "plain":
        stylizer = plain_stylizer(ROOT / "weights", "cpu", "openvino", None, None)
    else:
        stylizer = Stylizer(ROOT / "weights", device="cpu", backend="torch")
    style, count = stylizer.resolve([("starry-night", 1.0)]), 26 if kind == "plain" else 18
    frames = [Image.fromarray(frame) for frame in noisy([photo] * count)]

    def drift() -> float:
        stream = stylizer.stream(style)
        sky = [np.asarray(stream(f).crop((0, 0, 224, 48)).filter(ImageFilter.GaussianBlur(4)), float) for f in frames]
        return off(sky[-1], sky[count // 2])

    now = drift()
    monkeypatch.setattr(denoising, "NOISE", (98.0, 99.0))
    assert now < 0.7 * drift()
