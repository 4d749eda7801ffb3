"""People one by one, against what MediaPipe itself answers."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stylenorm import WeightsError, poses
from stylenorm.catalog import bodies_files, photos_folder
from stylenorm.poses import VIEWER, Body, Place, look_at, places

# mediapipe 0.10.14, Pose(static_image_mode=True, model_complexity=1, enable_segmentation=True), of examples/astronaut.jpg: its
# segmentation_mask in squares of 32 px, "#" for more than 200 of 255 and "." for less than 55, and its landmark 0 in px
MASK = """
......++........ .....+###....... .....####+...... .....####....... .....+##+....... ....####........ ...+#####....... ..########......
.+########+..... .##########+.... +##########+.... +#########+..... +#########+..... +########+...... +########+...... +########+......
""".split()
NOSE = 223.9, 132.6


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.open(photos_folder() / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="module")
def place(astronaut) -> Place:
    (place,) = places(astronaut)
    return place


@pytest.fixture(scope="module")
def body(astronaut, place) -> Body:
    return look_at(astronaut, place)


def hers(body: Body, photo: Image.Image) -> np.ndarray:
    return body.spread(photo.size, photo.size) > 0


def test_somebody_is_seen_as_mediapipe_sees_her(astronaut, body):
    squares = 255 * hers(body, astronaut).reshape(16, 32, 16, 32).mean((1, 3))
    apart = [(row, column) for row in range(16) for column in range(16) if abs({"#": 228, "+": 128, ".": 27}[MASK[row][column]] - squares[row, column]) > 100]
    assert body.sure > 0.95 and len(apart) < 16, "by one square along the edge, as the square that is looked at is not quite the same"
    assert np.hypot(*np.subtract(body.nose, NOSE)) < 12
    assert body.side == pytest.approx(2.5 * body.place.radius)


def test_in_the_mirror_she_is_where_she_is(astronaut, place):
    (other,) = places(astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    for one, mirrored in zip(place[1:], other[1:]):
        np.testing.assert_allclose((512 - one[0], one[1]), mirrored, atol=0.5)
    assert other.likely == pytest.approx(place.likely, abs=1e-3)
    (alone,) = places(astronaut, mirrored=False)
    assert alone.is_of(place) and alone != place


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_who_lies_is_turned_upright(astronaut, place, body, quarters):
    """A place is turned with its photograph, and what is seen there is the same."""
    turned = astronaut.rotate(90 * quarters, expand=True)

    def to(point):
        x, y = point
        for _ in range(quarters):
            x, y = y, 512 - x
        return x, y

    other = look_at(turned, Place(place.likely, *map(to, place[1:])))
    assert other.sure == pytest.approx(body.sure, abs=0.02) and np.hypot(*np.subtract(other.nose, to(body.nose))) < 1
    assert (hers(other, turned) == np.rot90(hers(body, astronaut), quarters)).mean() > 0.995


def test_in_a_part_of_a_large_photograph_she_is_where_the_part_is(astronaut, place):
    wide = Image.new("RGB", (3000, 2000), (90, 140, 90))
    wide.paste(astronaut.resize((256, 256)), (2500, 1300))
    (found,) = [p for p in places(wide, (2500, 1300, 2756, 1556)) if p.likely > 0.6]
    for one, other in zip(place[1:], found[1:]):
        np.testing.assert_allclose((2500 + one[0] / 2, 1300 + one[1] / 2), other, atol=6)
    seen = look_at(wide, found)
    assert seen.sure > 0.9 and hers(seen, wide)[1300 + 60, 2500 + 112] and not hers(seen, wide)[:1200].any()
    small = seen.spread((300, 200), wide.size) > 0
    assert small.shape == (200, 300) and small[136, 261] and small.mean() == pytest.approx(hers(seen, wide).mean(), rel=0.05)


@pytest.mark.parametrize("size, left, upper", [((1200, 512), 688, 0), ((512, 1200), 0, 688)])
def test_all_of_a_long_photograph_is_searched(astronaut, place, size, left, upper):
    long = Image.new("RGB", size, (90, 140, 90))
    long.paste(astronaut, (left, upper))
    np.testing.assert_allclose((left + place.chest[0], upper + place.chest[1]), places(long)[0].chest, atol=40)


def test_the_first_network_sees_black_as_less_than_nothing_and_is_asked_all_over(monkeypatch):
    given, finder = [], poses._finder()
    monkeypatch.setattr(poses, "_finder", lambda: lambda seen: given.append(seen) or finder(seen))
    photo = Image.new("RGB", (400, 200), "white")
    photo.paste("black", (0, 0, 200, 200))
    places(photo)
    seen, mirrored = given
    assert seen[0, 112, [20, 200], 0].tolist() == [-1, 1] == mirrored[0, 112, [200, 20], 0].tolist() and (seen[0, :50] == -1).all()
    asked = poses._asked()
    assert len(asked) == finder(seen)[1].shape[1] == 2254, "each place that it answers for"
    np.testing.assert_allclose(asked[[0, 2, -6, -1]], [(0.5 / 28,) * 2, (1.5 / 28, 0.5 / 28), (6.5 / 7,) * 2, (6.5 / 7,) * 2])


@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (40, 300)])
def test_where_nobody_is_there_is_no_place(size):
    assert places(Image.new("RGB", size, "gray")) == []
    for hips in ((5e4, 5e4), (5e4, 0), (0, -5e4)):
        seen = look_at(Image.new("RGB", size, "gray"), Place(0.9, (0, 0), hips, hips))
        assert seen.logit.shape == (VIEWER, VIEWER) and seen.sure < 0.5, "nor beside the photograph, in a square of no size"


def test_a_square_of_a_photograph_is_black_beside_it():
    pixels = np.random.default_rng(0).integers(1, 255, (64, 48, 3), np.uint8)
    photo = Image.fromarray(pixels)
    seen = poses._seen(photo, poses._matrix((24, 32), 64, 0, 64), 64)
    np.testing.assert_allclose(255 * seen[:, 8:56], pixels, atol=0.51)
    assert not seen[:, :8].any() and not seen[:, 56:].any()
    halved = poses._seen(photo, poses._matrix((24, 32), 64, 0, 32), 32)
    np.testing.assert_allclose(255 * halved[8:24, 10:22], np.asarray(photo.resize((24, 32), Image.Resampling.BILINEAR))[8:24, 6:18], atol=2)


def test_places_of_one_person_become_one_by_how_likely_they_are():
    def at(likely, x):
        return Place(likely, (x, 100.0), (x, 150.0), (x, 50.0))

    each = poses._one_each([at(0.9, 100.0), at(0.8, 300.0), at(0.6, 110.0), at(0.5, 119.9)])
    assert [place.likely for place in each] == [0.9, 0.8] and each[1] == at(0.8, 300.0)
    assert each[0].chest == pytest.approx(((0.9 * 100 + 0.6 * 110 + 0.5 * 119.9) / 2.0, 100)) and each[0].hips[1] == 150
    small = Place(0.5, (119.0, 100.0), (119.0, 120.0), (119.0, 110.0))
    assert small.is_of(at(0.9, 100.0)) and at(0.9, 100.0).is_of(small), "by the larger circle"
    assert len(poses._one_each([at(0.9, 100.0), at(0.8, 120.1)])) == 2 and poses._one_each([]) == []


@pytest.mark.parametrize("number", [0, 1])
def test_a_network_that_is_missing_or_damaged_is_named(monkeypatch, tmp_path, number):
    files = [tmp_path / file.name for file in bodies_files()]
    files[1 - number] = bodies_files()[1 - number]
    monkeypatch.setattr(poses, "bodies_files", lambda: files)
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path))
    for get in (poses._finder, poses._viewer):
        get.cache_clear()
    try:
        with pytest.raises(WeightsError, match=f"{files[number].name}, which finds people, does not exist"):
            poses.prepare()
        files[number].write_bytes(bodies_files()[number].read_bytes()[:5000] if files[number].exists() else b"no network")
        with pytest.raises(WeightsError, match=f"{files[number].name} is damaged"):
            poses.prepare()
    finally:
        for get in (poses._finder, poses._viewer):
            get.cache_clear()
