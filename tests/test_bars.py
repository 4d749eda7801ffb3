"""Black bars around a film's picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stylenorm.bars import is_outside_black, picture_in, scaled

SIZE = 90, 160  # height, width


def frames(box=None, count=6, level=120):
    """Noise in ``box``, black around it."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        frame = np.zeros((*SIZE, 3), np.uint8)
        left, top, right, bottom = box or (0, 0, SIZE[1], SIZE[0])
        frame[top:bottom, left:right] = rng.integers(0, 2 * level, (bottom - top, right - left, 3))
        yield frame


@pytest.mark.parametrize("box", [(0, 12, 160, 78), (55, 0, 105, 90), (20, 11, 140, 79), (0, 12, 160, 77)])
def test_bars_are_found_on_either_side(box):
    assert picture_in(frames(box)) == box


@pytest.mark.parametrize(
    "box", [None, (0, 12, 160, 90), (0, 12, 160, 70), (0, 40, 160, 50)], ids=["none", "on one side alone", "of two widths", "next to all"]
)
def test_what_is_no_pair_of_bars(box):
    assert picture_in(frames(box)) is None


def test_a_film_that_is_all_black_or_empty_has_none():
    assert picture_in([np.zeros((*SIZE, 3), np.uint8)] * 3) is None and picture_in([]) is None


def test_night_that_grows_lighter_towards_the_middle_is_no_bar():
    light = np.clip(np.minimum(np.arange(90), np.arange(90)[::-1]) * 4 - 40, 0, 255).astype(np.uint8)
    rng = np.random.default_rng(0)
    night = [np.repeat(np.where(rng.random(SIZE) < light[:, None] / 255, 200, 0).astype(np.uint8)[..., None], 3, 2) for _ in range(6)]
    assert picture_in(night) is None


def test_black_is_what_an_encoder_makes_of_it_and_subtitles_may_stand_in_a_bar():
    made = list(frames((0, 12, 160, 78)))
    for number, frame in enumerate(made):
        frame[:12] = frame[78:] = 3 * number
        if number % 2:
            frame[82:86, 40:70] = 255
    assert picture_in(made) == (0, 12, 160, 78)
    made[0][3, 10:20] = 255  # in both of them, it is something else
    assert picture_in(made) is None


def test_a_long_line_of_a_subtitle_is_not_taken_for_the_picture():
    made = list(frames((0, 12, 160, 78)))
    for frame in made:
        frame[82:86, 20:140:2] = frame[83:85, 20:26] = 255  # as letters do, over 3/4 of the width
    assert picture_in(made) == (0, 12, 160, 78)


def test_a_frame_that_fills_the_bars_is_told_from_one_with_subtitles():
    box, (first, _) = (0, 12, 160, 78), frames((0, 12, 160, 78), 2)
    assert is_outside_black(Image.fromarray(first), box)
    first[82:86, 20:140] = 255
    assert is_outside_black(Image.fromarray(first), box)
    assert not is_outside_black(Image.fromarray(next(frames())), box)


def test_of_a_smaller_picture_no_line_is_partly_outside():
    assert scaled((0, 11, 160, 79), (160, 90), (80, 45)) == (0, 6, 80, 39)
    assert scaled((0, 11, 160, 79), (160, 90), (160, 90)) == (0, 11, 160, 79)
