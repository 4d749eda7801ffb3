"""Motion of each place between two frames, held against motions that are known, and what is carried along by it."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from PIL import Image

from stylenorm import flow

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def photo():
    """Smooth forms of many sizes, 320 x 400 px."""
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (320 // k, 400 // k, 3), dtype=np.uint8)) for k in (4, 10, 40)]
    return np.mean([np.asarray(p.resize((400, 320), 3), np.float32) for p in small], 0).astype(np.uint8)


def seen(photo, degrees: float = 0, scale: float = 1, dx: float = 0, dy: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """A view of the middle, 160 x 240 px, by PIL, and where in the photograph each of its places lies, (160, 240, 2)."""
    c, s = np.cos(np.deg2rad(degrees)) * scale, np.sin(np.deg2rad(degrees)) * scale
    e, f = 200 + dx - c * 120 + s * 80, 160 + dy - s * 120 - c * 80
    view = Image.fromarray(photo).transform((240, 160), Image.Transform.AFFINE, (c, -s, e, s, c, f), Image.Resampling.BICUBIC)
    y, x = np.mgrid[:160, :240] + 0.5
    return np.asarray(view), np.stack([c * x - s * y + e, s * x + c * y + f], axis=2)


@pytest.mark.parametrize("pixels", [flow.PIXELS, 20_000], ids=["", "searched in half of the size"])
@pytest.mark.parametrize("motion", [{"dx": 2.5, "dy": -0.75}, {"scale": 1.02}, {"degrees": 1.5}, {"degrees": -1, "scale": 0.98, "dx": 6}])
def test_a_motion_is_found(photo, motion, pixels, monkeypatch):
    monkeypatch.setattr(flow, "PIXELS", pixels)
    (before, there), (now, here) = seen(photo), seen(photo, **motion)
    found = flow.dense(before, now)
    wanted = here - there  # the first view neither turns nor scales
    off = np.abs(found - wanted).max(2)[~flow.outside(flow.sources(found))]
    assert np.median(off) < 0.15 and np.mean(off < 0.5) > 0.95
    inside = ~flow.outside(flow.sources(wanted.astype(np.float32)))
    apart = np.abs(flow.carried(before.astype(np.float32), flow.sources(found)) - now)[inside]
    assert apart.mean() < 0.2 * np.abs(before.astype(float) - now)[inside].mean()


@pytest.mark.parametrize("pixels", [flow.PIXELS, 20_000], ids=["", "searched in half of the size"])
@pytest.mark.parametrize("noise", [0, 3])
@pytest.mark.parametrize("motion", [{"dx": 2.5, "dy": -0.75}, {"scale": 1.02}, {"degrees": 1.5}, {"degrees": -1, "scale": 0.98, "dx": 6}])
def test_the_cameras_motion_is_found_and_holds_everywhere(photo, motion, noise, pixels, monkeypatch):
    monkeypatch.setattr(flow, "PIXELS", pixels)
    rng = np.random.default_rng(0)
    (before, there), (now, here) = seen(photo), seen(photo, **motion)
    before, now = (np.clip(np.rint(p + rng.normal(0, noise, p.shape)), 0, 255).astype(np.uint8) for p in (before, now))
    matrix = flow.camera(flow.dense(before, now), now, (0, 0))
    off = np.abs(flow.everywhere(matrix, (160, 240)) - (here - there)).max(2)
    assert np.median(off) < 0.25 and off.max() < 0.8
    np.testing.assert_allclose(flow.of_the_middle(matrix, (160, 240)), (here - there)[79:81, 119:121].mean((0, 1))[::-1], atol=0.25)


@pytest.mark.parametrize("noise", [0, 3])
@pytest.mark.parametrize("shift", [(0, 0), (2, -5)])
def test_a_camera_that_pans_by_whole_pixels_does_just_that(photo, shift, noise):
    rng, (dy, dx) = np.random.default_rng(0), shift
    cuts = photo[20:180, 20:260], photo[20 + dy : 180 + dy, 20 + dx : 260 + dx]
    before, now = (np.clip(np.rint(p + rng.normal(0, noise, p.shape)), 0, 255).astype(np.uint8) for p in cuts)
    assert flow.is_shift(flow.camera(flow.dense(before, now), now, shift), shift)


def test_where_nothing_agrees_there_is_no_camera(photo):
    rng = np.random.default_rng(0)
    before, now = rng.integers(0, 256, (2, 160, 240, 3), dtype=np.uint8)
    assert flow.camera(flow.dense(before, now), now, (0, 0)) is None
    plain = np.full((160, 240, 3), 90, np.uint8)
    assert flow.camera(flow.dense(plain, plain), plain, (0, 0)) is None, "no corners"
    burst = np.float32([[10, -10][(y + x) % 2] * np.float32([y - x, x + y]) / 40 for y in range(160) for x in range(240)]).reshape(160, 240, 2)
    assert flow.camera(burst, photo[:160, :240], (0, 0)) is None


def test_two_motions_at_once_are_found(photo):
    before, now = photo[:200, :300].copy(), photo[:200, 3:303].copy()
    before[50:150, 100:200] = photo[150:250, 250:350]
    now[50:150, 105:205] = photo[150:250, 250:350]
    found = flow.dense(before, now)
    for place, wanted in (((slice(70, 130), slice(125, 185)), (-5, 0)), ((slice(10, 40), slice(10, 280)), (3, 0))):
        assert np.abs(np.median(found[place], (0, 1)) - wanted).max() < 0.1
    np.testing.assert_array_equal(flow.shared(found, (0, 0)), [0, 3])  # most of the frame, and a whole number of pixels


def test_whole_pixels_are_carried_as_they_are(photo):
    picture = photo[:40, :60].astype(np.float32)
    places = flow.sources(np.full((40, 60, 2), (3, 2), np.float32))
    moved = flow.carried(picture, places)
    np.testing.assert_array_equal(moved[:37, :56], picture[2:39, 3:59])
    assert flow.outside(places).sum() == 40 * 60 - 38 * 57


@pytest.mark.parametrize("here", [np.s_[:, :], np.s_[3:, :-10], np.s_[5:6, 7:8], np.s_[:0, :]])
def test_what_is_put_into_a_part_stands_there_with_and_without_opencv(here, monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.random((40, 60, 3), dtype=np.float32) for _ in range(2))
    where = rng.random((40, 60)) > 0.5
    wanted, without = a.copy(), a.copy()
    wanted[here] = np.where(where[here][..., None], b[here], a[here])
    flow.put(a[here], b[here], where[here])
    monkeypatch.setattr(flow, "opencv", lambda: None)
    flow.put(without[here], b[here], where[here])
    np.testing.assert_array_equal(a, wanted)
    np.testing.assert_array_equal(without, wanted)


def test_the_motion_of_most_of_the_frame(photo):
    still = np.zeros((100, 100, 2), np.float32)
    crossed, turned = still.copy(), still.copy()
    crossed[:, :40] = 7, 3
    turned[..., 0] = np.linspace(-9, 9, 100)[:, None] + 0.3
    np.testing.assert_array_equal(flow.shared(crossed, (3, 7)), [0, 0])
    np.testing.assert_array_equal(flow.shared(still + (2.03, 1), (1, 2)), [1, 2])
    np.testing.assert_allclose(flow.shared(still + (2.3, 1.2), (1, 2)), [1.2, 2.3], atol=1e-6)
    assert np.abs(flow.shared(turned, (0, 0))).max() < 0.5
    assert np.isfinite(flow.shared(still + np.nan, (0, 0))).all()


def test_the_mean_of_paintings_gets_contrast_back_and_one_painting_none():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(128, 20, (80, 120, 3)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(flow.vivid(a.copy(), a.copy()), a, atol=1e-3)
    mean = 0.8 * a + 0.2 * b  # of what is independent: its deviation is sqrt(0.68) of theirs
    middle = flow.vivid(mean.copy(), b.copy())[20:-20, 20:-20].std()
    assert middle == pytest.approx(20 * 0.68**0.25, rel=0.03)
    plain = np.full((50, 50, 3), 90, np.float32)
    np.testing.assert_allclose(flow.vivid(plain.copy(), b[:50, :50].copy()), plain, atol=1e-3)  # nothing to amplify


@pytest.mark.parametrize("shape", [(1, 1), (31, 200), (32, 32), (33, 700), (700, 33), (240, 33)])
def test_frames_of_any_shape(shape):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = flow.dense(frame, frame)
    if min(shape) < flow.LEAST:
        assert found is None
    else:
        assert found.shape == (*shape, 2) and np.abs(found).max() < 0.5
    pictures = (frame.astype(np.float32) for _ in range(2))
    assert flow.vivid(*pictures).shape == frame.shape


def test_without_opencv_no_flow_is_found(photo, monkeypatch):
    flow.opencv.cache_clear()
    real = builtins.__import__

    def refused(name, *rest, **more):
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        return real(name, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refused)
        assert flow.dense(photo, photo) is None
    flow.opencv.cache_clear()
    assert flow.dense(photo, photo) is not None
