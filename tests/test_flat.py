"""Pictures of next to one colour: what is painted of them, by every way that paints."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from stylenorm.engine import Stylizer
from stylenorm.flat import SIDE, FlatBackend, backend_for, grain_for, has_colours, never_in_strips, ordinary_photos, own_share, painted_at
from stylenorm.formats import FULL
from stylenorm.images import read_picture
from stylenorm.style import Style

torch.set_num_threads(1)
BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (200, 30, 30), (40, 90, 200)


@pytest.fixture(scope="module", params=["torch", "auto"])
def stylizer(request) -> Stylizer:
    return Stylizer(device="cpu", backend=request.param)


def one_colour(color, size=(48, 40)) -> Image.Image:
    return Image.new("RGB", size, color)


def noisy(color, deviation: float) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, deviation, (64, 64, 3))
    return Image.fromarray(np.clip(np.array(color) + noise + 0.5, 0, 255).astype(np.uint8))


def values(image) -> np.ndarray:
    return np.asarray(image).astype(float)


@pytest.mark.parametrize("name", ["starry-night", "great-wave", "kiss", "udnie", "irises", "composition-vii"])
def test_a_single_colour_becomes_a_single_colour_and_light_stays_lighter_than_dark(stylizer, name):
    painted = {color: values(stylizer.stylize(one_colour(color), name)) for color in (BLACK, (128, 128, 128), WHITE)}
    assert all(np.ptp(p, (0, 1)).max() <= 4 for p in painted.values())
    dark, grey, light = (p.mean() for p in painted.values())
    assert dark + 15 < grey < light - 15


@pytest.mark.parametrize("name", ["starry-night", "irises", "scream"])
def test_blue_is_bluer_than_red(stylizer, name):
    blue, red = (values(stylizer.stylize(one_colour(c), name)).mean((0, 1)) for c in (BLUE, RED))
    assert blue[2] - blue[0] > red[2] - red[0] + 30


def test_noise_on_a_dark_frame_stays_noise(stylizer, monkeypatch):
    faint = noisy((40, 40, 40), 0.6)
    painted = values(stylizer.stylize(faint, "starry-night")).std((0, 1)).mean()
    monkeypatch.setattr("stylenorm.flat.own_share", lambda pixels: 1.0)
    assert painted < 0.5 * values(stylizer.stylize(faint, "starry-night")).std((0, 1)).mean()


def test_the_second_half_that_a_mac_makes_of_a_file_is_no_photograph(tmp_path, monkeypatch):
    """As ._a.jpg beside a.jpg on drives of no format of its own."""
    noisy((90, 120, 60), 9).save(tmp_path / "a.jpg")
    (tmp_path / "._a.jpg").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    monkeypatch.setattr("stylenorm.flat.photos_folder", lambda: tmp_path)
    assert ordinary_photos.__wrapped__().shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("own_part, share", [(0.25, 0.5), (0, 1), (0.75, 1), (0.5, 0)])
def test_what_is_stripped_is_the_pictures_own_moments_and_those_of_photographs(own_part, share, kind):
    """Whatever backend it is: of the moments, this one takes the mean level for each."""
    style = Style([torch.ones(1, 3)], [torch.zeros(1, 3)])

    class Levels:
        def steered(self, picture, style, given, share, fine=True):
            self.stripped = share * (own := np.full((2, 3), picture.mean(), np.float32)) + (1 - share) * given
            assert given.dtype == np.float32 and picture.dtype == kind and 0 <= share <= 1
            return picture, own

        def pooled(self, pictures, *rest):
            self.steered(pictures, *rest)
            return self.stripped

    white = np.iinfo(kind).max
    picture, given = np.full((4, 4, 3), white // 5, kind), np.full((2, 3), 0.4 * white, np.float32)
    flat = FlatBackend(Levels(), own_part, lambda: np.full((2, 2, 3), 204, np.uint8))
    own = (0.2 * own_part + 0.8 * (1 - own_part)) * white
    painted, met = flat.steered(picture, style, given, share)
    assert painted is picture and met.dtype == np.float32 and met == pytest.approx(own)
    assert flat.backend.stripped == pytest.approx(share * own + (1 - share) * given)
    assert flat.pooled(picture[None], style, given, share) == pytest.approx(share * own + (1 - share) * given)
    assert flat(picture, style) is picture and flat.backend.stripped == pytest.approx(own)


def test_what_photographs_have_in_a_style_is_computed_once_for_all_flat_pictures(monkeypatch):
    """Which takes as long as a large picture, and a small one has to wait for it."""
    monkeypatch.setattr("stylenorm.flat.KEPT", 2)
    seen = []

    class Counting:
        def steered(self, picture, style, given, share, fine=True):
            if picture.shape == (2, 2, 3):
                seen.append((style.name, picture.dtype))
            return picture, np.full((2, 3), picture.mean() * float(style.gammas[0][0, 0]), np.float32)

    def ordinary():
        return np.full((2, 2, 3), 204, np.uint8)

    a, b, c = (Style([torch.full((1, 3), number)], [torch.zeros(1, 3)], name) for name, number in zip("abc", (1.0, 2.0, 3.0)))
    backend, flat = Counting(), np.full((4, 4, 3), 9, np.uint8)
    for style, told in ((a, ["a"]), (a, []), (b, ["b"]), (a, []), (c, ["c"]), (b, []), (a, ["a"])):
        met = FlatBackend(backend, 0, ordinary).steered(flat, style, np.zeros((2, 3), np.float32), 1)[1]
        assert met == pytest.approx(204 * float(style.gammas[0][0, 0])) and [name for name, _ in seen] == told
        seen.clear()
    FlatBackend(backend, 0, ordinary)(flat.astype(np.uint16) * 257, a)
    FlatBackend(Counting(), 0, ordinary)(flat, a)
    assert seen == [("a", np.uint16), ("a", np.uint8)], "16 bits and another network have their own"


def test_regions_strip_what_they_are_given_as_their_moments_are_the_pictures():
    class Told:
        def steered(self, *words):
            return words

        pooled = steered

    words = np.zeros((4, 4, 3), np.uint8), SimpleNamespace(has_regions=True), np.zeros((2, 3), np.float32), 0.3
    flat = FlatBackend(Told(), 0.5, None)
    assert flat.steered(*words) == flat.pooled(*words) == words


def test_how_flat_a_picture_is_by_its_most_uneven_channel():
    levels = np.full((6, 8, 3), 90, np.uint8)
    levels[:, ::2, 1] += 4  # of deviation 2
    for pixels in (Image.fromarray(levels), levels.astype(np.uint16) * 257):
        assert own_share(pixels) == pytest.approx(2 / 3) and not has_colours(pixels, "instance") and has_colours(pixels, "batch")
    levels[:, ::2, 1] += 2
    assert own_share(Image.fromarray(levels)) == 1


def test_a_flat_picture_is_painted_whole_at_2048_px_at_most_and_any_other_as_it_was_to_be():
    flat, small = one_colour(RED, (2, 2049)), one_colour(RED, (2048, 2))
    assert [painted_at(FULL, flat, norm) for norm in ("instance", "batch")] == [2048, None] and painted_at(FULL, small, "instance") is None
    assert painted_at(300, flat, "instance") == 300 and painted_at(3000, small, "instance") == 2048
    found = [never_in_strips(picture, norm) for picture in (flat, small) for norm in ("instance", "batch")]
    assert found == [False, False, True, False] and not never_in_strips(noisy(RED, 9), "instance")
    backend = object()
    assert backend_for(backend, noisy(RED, 9), "instance") is backend and grain_for(backend) == 1
    assert isinstance(given := backend_for(backend, noisy(RED, 1), "instance"), FlatBackend) and 0.2 < grain_for(given) < 0.5


def test_ordinary_pictures_are_painted_as_ever(stylizer, monkeypatch):
    photo = noisy((90, 120, 60), 9)
    painted = values(stylizer.stylize(photo, "kiss"))
    monkeypatch.setattr("stylenorm.flat.own_share", lambda pixels: 1.0)
    assert (painted == values(stylizer.stylize(photo, "kiss"))).all()


def test_there_is_no_step_where_a_picture_begins_to_be_flat(stylizer):
    shares = [own_share(noisy((90, 120, 60), d)) for d in (0, 0.5, 1, 2, 2.9, 3.2, 40)]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    below, above = (values(stylizer.stylize(noisy((90, 120, 60), d), "kiss")).std() for d in (2.95, 3.1))
    assert abs(below - above) < 0.35 * above


def test_sixteen_bits_know_it_too(stylizer, tmp_path):
    deep = np.full((40, 40), 3 * 2**13, np.uint16)
    Image.fromarray(deep).save(tmp_path / "grey.png")
    painted = stylizer.stylize(tmp_path / "grey.png", "great-wave")
    assert np.ptp(values(painted), (0, 1)).max() <= 4
    assert np.abs(values(painted) - values(stylizer.stylize(one_colour((96, 96, 96), (40, 40)), "great-wave"))).max() <= 4
    assert own_share(np.zeros((4, 4, 3), np.uint16)) == 0
    assert own_share((np.arange(4 * 4 * 3).reshape(4, 4, 3) * 1000).astype(np.uint16)) == 1


def test_a_flat_picture_among_others_of_its_size(tmp_path):
    stylizer = Stylizer(device="cpu", backend="torch")  # the one that paints several at once
    noisy((90, 120, 60), 30).save(tmp_path / "a.png")
    one_colour(BLUE, (64, 64)).save(tmp_path / "b.png")
    pictures = [read_picture(tmp_path / n) for n in ("a.png", "b.png", "a.png")]
    for alone, together in zip(pictures, stylizer.stylize_alike(pictures, "kiss")):
        assert np.abs(values(stylizer.stylize(alone, "kiss")) - values(together)).max() <= 1


def test_a_film_that_begins_in_black(stylizer):
    stream = stylizer.stream("starry-night", smoothing=0.8)
    scene = values(noisy((120, 120, 120), 40))
    frames = [stream(Image.fromarray((scene * share).astype(np.uint8))) for share in (0, 0, 0.01, 0.5, 1)]
    assert all(np.ptp(values(f), (0, 1)).max() <= 6 for f in frames[:2])
    assert values(frames[0]).mean() < 80 and values(frames[-1]).std() > 20


def test_half_strength_and_regions_work_on_one_colour(stylizer, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.STYLE_SIZE", 64)
    flat = one_colour(RED, (64, 48))
    assert stylizer.stylize(flat, "kiss", strength=0.5).size == (64, 48)
    half = np.zeros((48, 64))
    half[:, 32:] = 1
    regions = stylizer.region_style([("kiss", 1 - half), ("scream", half)], (64, 48))
    assert stylizer.stylize(flat, regions).size == (64, 48)


def test_a_flat_picture_too_large_for_the_memory(monkeypatch):
    monkeypatch.setattr("stylenorm.flat.LARGEST", 64)
    stylizer, notices = Stylizer(device="cpu", backend="torch", memory=0.005), []
    painted = stylizer.stylize(one_colour(BLUE, (300, 200)), "starry-night", notice=notices.append)
    assert painted.size == (300, 200) and not notices and np.ptp(values(painted), (0, 1)).max() <= 4
    asked = stylizer.stylize(one_colour(BLUE, (300, 200)), "starry-night", paint_at=250, notice=notices.append)
    assert not notices and (values(asked) == values(painted)).all()
    stylizer.stylize(noisy(BLUE, 30).resize((300, 200)), "starry-night", notice=notices.append)
    assert len(notices) == 1


def test_a_flat_picture_is_not_painted_in_strips_whatever_the_memory():
    stylizer, notices = Stylizer(device="cpu", backend="torch", memory=0), []
    painted = stylizer.stylize(one_colour(BLUE, (96, 64)), "starry-night", notice=notices.append)
    assert not notices and np.ptp(values(painted), (0, 1)).max() <= 4
    stylizer.stylize(noisy(BLUE, 30).resize((96, 64)), "starry-night", notice=notices.append)
    assert len(notices) == 1
