"""Faces in photographs, and their features in paintings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from conftest import make_weights
from PIL import Image

from stylenorm import StyleError, Stylizer, WeightsError, faces
from stylenorm.catalog import faces_file, photos_folder
from stylenorm.faces import Face, Followed, find_faces, finding, with_features
from stylenorm.steady import Steady

ASTRONAUT = Face(226, 121, 93, 125)  # px, as one sees it


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.open(photos_folder() / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="module")
def painted(astronaut) -> Image.Image:
    """Nothing of the photograph is in it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return Image.fromarray(noise).resize(astronaut.size, Image.Resampling.BICUBIC)


def near(found: Face, wanted: Face, px: float = 8) -> bool:
    return bool(np.abs(np.subtract(found[:4], wanted[:4])).max() < px)


def test_a_face_is_found_where_it_is_and_none_where_there_is_none(astronaut):
    (found,) = find_faces(astronaut)
    assert near(found, ASTRONAUT, 16) and abs(found.tilt) < 0.1 and found.sure > 0.8
    for name in ("coffee.jpg", "chelsea.jpg"):
        assert find_faces(Image.open(photos_folder() / name).convert("RGB")) == []
    assert find_faces(Image.new("RGB", (20, 300))) == []


def test_the_network_is_what_another_program_makes_of_its_file(astronaut):
    session = onnxruntime.InferenceSession(faces_file())
    heat, scale, _, marks = session.run(None, {"image": np.asarray(astronaut, np.float32).transpose(2, 0, 1)[None]})
    row, column = np.unravel_index(heat[0, 0].argmax(), heat.shape[2:])
    height, width = 4 * np.exp(scale[0, :, row, column])
    assert near(find_faces(astronaut)[0], Face(4 * column + 2, 4 * row + 2, width, height), 12)
    eyes = marks[0, :4, row, column].reshape(2, 2) * (height, width)
    assert eyes[0, 1] < eyes[1, 1] and abs(eyes[0, 0] - eyes[1, 0]) < 4, "(y, x) of the left eye first"


def test_faces_are_in_the_photographs_own_pixels_whatever_its_size(astronaut):
    (large,) = find_faces(astronaut.resize((1500, 1500)))
    assert near(Face(*(v * 512 / 1500 for v in large)), ASTRONAUT)
    wide = Image.new("RGB", (1024, 512), "gray")
    wide.paste(astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (0, 0))
    wide.paste(astronaut, (512, 0))
    left, right = sorted(find_faces(wide))
    assert near(left, ASTRONAUT._replace(x=512 - ASTRONAUT.x), 16) and near(right, ASTRONAUT._replace(x=512 + ASTRONAUT.x), 16)


def test_a_tilted_head_is_known_by_its_eyes(astronaut):
    tilted = astronaut.rotate(-20, center=ASTRONAUT[:2], fillcolor="gray")
    (found,) = find_faces(tilted)
    assert found.tilt == pytest.approx(np.radians(20), abs=0.15)


def test_in_a_face_light_and_colour_are_the_paintings_and_features_the_photographs(astronaut, painted):
    result = with_features(painted, astronaut, [ASTRONAUT], 1.0)
    middle = slice(95, 150), slice(200, 252)
    there, here, mixed = (np.asarray(p, np.float32) for p in (painted, astronaut, result))
    colours = [p[middle].mean((0, 1)) for p in (there, here, mixed)]
    assert np.abs(colours[2] - colours[0]).max() < 8 < 30 < np.abs(colours[1] - colours[0]).max()
    fine = [(p - cv2.GaussianBlur(p, (0, 0), faces.COARSE * ASTRONAUT.width))[middle].ravel() for p in (there, here, mixed)]
    assert np.corrcoef(fine[2], fine[1])[0, 1] > 0.9 > 0.2 > abs(np.corrcoef(fine[2], fine[0])[0, 1])


def test_outside_of_faces_nothing_changes(astronaut, painted):
    result, tilted = (np.asarray(with_features(painted, astronaut, [ASTRONAUT._replace(tilt=t)], 1.0)) for t in (0.0, 0.5))
    changed, turned = ((p != np.asarray(painted)).any(2) for p in (result, tilted))
    rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
    assert near(Face(columns.mean(), rows.mean(), np.ptp(columns), np.ptp(rows)), Face(226, 121, 93 * 1.18, 125 * 1.18), 4)
    assert turned.sum() == pytest.approx(changed.sum(), rel=0.05) and np.flatnonzero(turned.any(0)).min() < columns.min()
    assert with_features(painted, astronaut, [], 1.0) is painted and with_features(painted, astronaut, [ASTRONAUT], 0.0) is painted


def test_the_amount_is_even(astronaut, painted):
    none, half, all_ = (np.asarray(with_features(painted, astronaut, [ASTRONAUT], a), np.float32) for a in (0, 0.5, 1))
    unclipped = (all_ > 0) & (all_ < 255)
    np.testing.assert_allclose(half[unclipped], ((none + all_) / 2)[unclipped], atol=1)


def faint(photo: Image.Image, share: float, mean: float = 0) -> Image.Image:
    return Image.fromarray(np.rint(mean + share * (np.asarray(photo, np.float32) - mean)).astype(np.uint8))


@pytest.mark.parametrize("share, mean", [(0.1, 0), (0.3, 0), (0.2, 200)])
@pytest.mark.parametrize("deep", [False, True])
def test_a_face_by_night_or_in_fog_has_as_clear_features_as_by_day(astronaut, share, mean, deep):
    kind = (lambda p: np.asarray(p, np.uint16) * 257) if deep else (lambda p: p)
    clear, result = (np.asarray(with_features(kind(astronaut), kind(p), [ASTRONAUT], 1.0), np.float32) / (257 if deep else 1) for p in (astronaut, faint(astronaut, share, mean)))
    middle = slice(95, 150), slice(200, 252)
    fine = [(p - cv2.GaussianBlur(p, (0, 0), faces.COARSE * ASTRONAUT.width))[middle] for p in (clear, result)]
    assert 0.5 < fine[1].std() / fine[0].std() < 1.05, "unamplified: little more than the share of it that is there"
    assert np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] > 0.95


def test_features_of_ordinary_photographs_come_back_as_they_are(astronaut, painted):
    assert faces.gain_of(painted, astronaut) == faces.gain_of(faint(astronaut, 0.1), faint(astronaut, 0.1)) == 1, "the painting is as faint"
    assert faces.gain_of(astronaut, Image.new("RGB", astronaut.size)) == faces.MOST_GAIN
    by_night = Followed()(faint(astronaut, 0.1), astronaut, astronaut, 1.0, cut=True)
    assert np.array_equal(by_night, with_features(astronaut, faint(astronaut, 0.1), find_faces(astronaut, faces.LIKELY), 1.0)), "in films as well"


def test_16_bits_are_the_same_but_finer(astronaut, painted):
    deep = with_features(*(np.asarray(p, np.uint16) * 257 for p in (painted, astronaut)), [ASTRONAUT], 0.7)
    usual = np.asarray(with_features(painted, astronaut, [ASTRONAUT], 0.7), np.float32)
    assert deep.dtype == np.uint16 and len(np.unique(deep % 257)) > 100
    np.testing.assert_allclose(deep / 257, usual, atol=0.51)


@pytest.mark.parametrize("face", [Face(0, 0, 60, 80), Face(500, 510, 90, 90, 0.4), Face(900, 100, 50, 50), Face(-200, -200, 9, 9), Face(256, 256, 2000, 2000)])
def test_a_face_may_lie_beyond_the_edge(astronaut, painted, face):
    result = with_features(painted, astronaut, [face], 1.0)
    away = abs(face.x - 256) - face.width > 256
    assert (np.asarray(result) == np.asarray(painted)).all() == away


def test_the_blur_is_a_gaussian(painted):
    given = np.asarray(painted, np.float32)
    for sigma in (3.0, 6.0, 11.2):
        other = cv2.GaussianBlur(given, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        assert np.abs(faces._blurred(given, sigma) - other).mean() < 2


# ---- films -------------------------------------------------------------------------------------


def strength_in(followed: Followed, monkeypatch, *found: list[Face]) -> list[list[float]]:
    """How much of the amount each face has, frame by frame, where these are found."""
    given = iter(found)
    monkeypatch.setattr(faces, "find_faces", lambda photo, sure=0.5: list(next(given)))
    grey, levels = Image.new("RGB", (64, 64), "gray"), []
    for number in range(len(found)):
        followed(grey, grey, grey, 0.5, cut=number == 0 and not followed.faces)
        levels.append([round(level, 2) for _, level in followed.faces])
    return levels


def test_in_a_film_a_face_comes_and_goes_over_some_frames_and_does_not_jump(monkeypatch):
    face, moved = Face(30, 30, 20, 24), Face(32, 30, 20, 24)
    assert strength_in(Followed(), monkeypatch, [face], [face], [], [], [moved])[-1] == [0.75]
    late = Followed()
    assert strength_in(late, monkeypatch, [], [face], [moved], [face], [face]) == [[], [0.25], [0.5], [0.75], [1.0]]
    assert strength_in(late, monkeypatch, *[[]] * 6) == [[0.75], [0.5], [0.25], [], [], []]


def test_a_face_that_moves_is_followed_at_once_and_one_that_trembles_is_not(monkeypatch):
    for x, wanted in ((31, 30.5), (32, 31.333), (34, 34), (48, 48)):
        followed = Followed()
        strength_in(followed, monkeypatch, [Face(30, 30, 20, 24)], [Face(x, 30, 20, 24)])
        assert followed.faces[0][0].x == pytest.approx(wanted, abs=0.01) and len(followed.faces) == 1


def test_another_face_that_comes_while_one_goes_is_another_one(monkeypatch):
    for other in (Face(52, 30, 20, 24), Face(30, 30, 60, 70)):
        followed = Followed()
        assert strength_in(followed, monkeypatch, [Face(30, 30, 20, 24)], [other]) == [[1.0], [0.75, 0.25]]


def test_what_is_hardly_a_face_is_one_where_one_was(monkeypatch):
    face, doubtful = Face(30, 30, 20, 24), Face(30, 30, 20, 24, sure=0.4)
    assert strength_in(Followed(), monkeypatch, [doubtful], [face], [doubtful]) == [[], [0.25], [0.5]]


def test_a_film_that_goes_on_later_has_the_same_faces(monkeypatch):
    frames = [[Face(30, 30, 20, 24), Face(50, 10, 8, 9)], [Face(31, 30, 20, 24)], [], [Face(31, 31, 20, 24)]]
    whole, begun = Followed(), Followed()
    strength_in(whole, monkeypatch, *frames)
    strength_in(begun, monkeypatch, *frames[:2])
    resumed = Followed(np.array(begun.state))
    strength_in(resumed, monkeypatch, *frames[2:])
    assert resumed.faces == whole.faces and len(whole.faces) == 2


def test_behind_a_cut_faces_are_there_at_once(astronaut, painted):
    steady, dark = Steady(0.8, 8), Image.new("RGB", astronaut.size)
    for frame in (dark, astronaut):
        steady.begin(np.asarray(frame))
        result = steady.with_faces(frame, frame, painted, 1.0)
        steady.end(np.asarray(result))
    assert steady.cuts == 1 and "faces" in steady.state
    np.testing.assert_array_equal(result, with_features(painted, astronaut, find_faces(astronaut), 1.0))


# ---- painting ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stylizer(tmp_path_factory) -> Stylizer:
    return Stylizer(make_weights(tmp_path_factory.mktemp("weights"), 0), device="cpu")


def test_stylize_brings_the_features_back_as_far_as_it_is_asked_to(stylizer, astronaut):
    style = next(iter(stylizer.styles))
    none, usual, all_ = (np.asarray(stylizer.stylize(astronaut, style, **more), np.float32) for more in ({"faces": 0}, {}, {"faces": 1}))
    apart, outside = (np.abs(p - none) for p in (usual, all_)), np.ones((512, 512), bool)
    outside[40:200, 150:300] = False
    for difference in apart:
        assert difference[~outside].mean() > 1 and not difference[outside].any()
    wanted = with_features(Image.fromarray(none.astype(np.uint8)), astronaut, find_faces(astronaut), 1)
    np.testing.assert_array_equal(all_, np.asarray(wanted))


def test_where_strokes_are_to_be_large_faces_are_looked_for_in_the_photograph_itself(stylizer, astronaut):
    far = Image.new("RGB", (1500, 1500), "gray")
    far.paste(astronaut.resize((300, 300)), (600, 600))
    small = far.resize((150, 150))
    assert find_faces(small) == []
    (found,) = finding(small, far)()
    assert near(found, Face(60 + 22.6 * 300 / 512, 60 + 12.1 * 300 / 512, 9.3 * 300 / 512, 12.5 * 300 / 512), 2)
    style = next(iter(stylizer.styles))
    none, all_ = (np.asarray(stylizer.stylize(far, style, paint_at=150, faces=a), np.float32) for a in (0, 1))
    assert np.abs(all_ - none)[600:900, 600:900].max() > 10
    none, all_ = (np.asarray(stylizer.stream(style, paint_at=150, faces=a)(far), np.float32) for a in (0, 1))
    assert np.abs(all_ - none)[600:900, 600:900].max() > 10


def test_films_and_sheets_do_the_same(stylizer, astronaut):
    style = next(iter(stylizer.styles))
    small = astronaut.resize((256, 256))
    for paint in (lambda a: stylizer.stream(style, faces=a)(small), lambda a: stylizer.sheet(small, [style], tile=256, faces=a)):
        with_, without = (np.asarray(paint(amount), np.float32) for amount in (1, 0))
        changed = np.abs(with_ - without).max(2) > 2
        assert 0.005 < changed.mean() < 0.1


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan"), "much", [1, 2]])
def test_an_amount_that_is_none_is_told(stylizer, amount):
    photo, style = Image.new("RGB", (32, 32)), next(iter(stylizer.styles))
    for ask in (stylizer.stylize, lambda photo, style, faces: stylizer.stream(style, faces=faces)):
        with pytest.raises(StyleError, match="^faces must"):
            ask(photo, style, faces=amount)


@pytest.fixture
def anew():
    """Another detector than the one that is kept."""
    faces._detector.cache_clear()
    yield
    faces._detector.cache_clear()


def test_without_openvino_no_face_is_found(astronaut, monkeypatch, anew):
    def missing():
        raise ImportError("no openvino")

    monkeypatch.setattr(faces, "openvino_core", missing)
    assert find_faces(astronaut) == []


def test_a_damaged_file_is_told_by_whoever_waits_for_the_faces(astronaut, monkeypatch, anew, tmp_path):
    (tmp_path / "faces.onnx").write_bytes(faces_file().read_bytes()[:1000])
    monkeypatch.setattr(faces, "faces_file", lambda: tmp_path / "faces.onnx")
    for ask in (lambda: find_faces(astronaut), finding(astronaut, astronaut)):
        with pytest.raises(WeightsError, match="faces.onnx is damaged; .* faces 0 and no mask of people"):
            ask()


def test_without_the_file_none_is_found_and_all_else_goes_on(stylizer, astronaut, monkeypatch, anew, tmp_path):
    monkeypatch.setattr(faces, "faces_file", lambda: Path(tmp_path / "faces.onnx"))
    assert find_faces(astronaut) == []
    stylizer.stylize(astronaut, next(iter(stylizer.styles)))
