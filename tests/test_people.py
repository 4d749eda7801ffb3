"""People in photographs, and masks that are found instead of given."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest
from PIL import Image, ImageChops, ImageOps
from test_video import assert_goes_on_alike, film

from stylenorm import ImageError, PeopleWatch, StyleError, Stylizer, WeightsError, find_people, paint_film, people, poses
from stylenorm.catalog import people_file, photos_folder
from stylenorm.cli import main
from stylenorm.faces import Face
from stylenorm.manifest import Manifest
from stylenorm.masks import mask_levels
from stylenorm.people import Followers, Seen
from stylenorm.steady import Steady
from stylenorm.video_files import frames, probe

INSIDE = [(226, 121), (226, 60), (200, 300), (100, 420), (300, 330), (190, 250)]  # px of the astronaut: face, hair, suit, badge
OUTSIDE = [(40, 60), (60, 220), (120, 60), (330, 40), (420, 120), (470, 300), (440, 60)]  # flag, wall, shuttle


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.open(photos_folder() / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="module")
def mask(astronaut) -> Image.Image:
    return find_people(astronaut)


def test_somebody_is_found_where_she_is(astronaut, mask):
    assert mask.mode == "L" and mask.size == astronaut.size
    assert all(mask.getpixel(at) > 250 for at in INSIDE) and all(mask.getpixel(at) < 5 for at in OUTSIDE)
    levels = np.asarray(mask)
    assert 0.4 < (levels > 127).mean() < 0.6 and ((levels > 12) & (levels < 243)).mean() < 0.04, "nearly all is clearly in or out"


def test_the_network_is_what_another_program_makes_of_its_file(astronaut):
    session = onnxruntime.InferenceSession(people_file())
    seen = np.asarray(astronaut.resize((256, 192), Image.Resampling.BILINEAR, reducing_gap=3), np.float32).transpose(2, 0, 1)[None] / 255
    other = session.run(None, {"photo": seen})[0][0, 0]
    ours = 1 / (1 + np.exp(-people._logits(seen)))
    np.testing.assert_allclose(ours, other, atol=2e-3)  # logits end at 9
    assert other.min() < 0.01 and other.max() > 0.99
    mirrored = people._logits(seen[..., ::-1])[:, ::-1]
    np.testing.assert_allclose(people._look(astronaut, (256, 192)), (people._logits(seen) + mirrored) / 2, atol=1e-4)
    flipped = astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    np.testing.assert_allclose(people._look(flipped, (256, 192))[:, ::-1], people._look(astronaut, (256, 192)), atol=1e-4)


@pytest.mark.parametrize("size", [(1500, 1500), (300, 300), (700, 512), (128, 128)])
def test_a_photograph_of_any_size_has_a_mask_of_its_own(astronaut, mask, size):
    found = find_people(astronaut.resize(size, Image.Resampling.LANCZOS))
    assert found.size == size
    apart = np.abs(np.subtract(found.resize((64, 64)), mask.resize((64, 64)), dtype=np.int16))
    assert apart.mean() < 10


@pytest.mark.parametrize("size", [(1, 1), (16, 2000), (2000, 3)])
def test_a_photograph_of_any_shape_has_one(size):
    assert find_people(Image.new("RGB", size, "gray")).size == size


def test_a_photograph_that_lies_on_its_side_is_seen_upright(astronaut, mask, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    astronaut.rotate(90, expand=True).save(tmp_path / "lying.png", exif=exif)
    for lying in (tmp_path / "lying.png", Image.open(tmp_path / "lying.png")):
        np.testing.assert_array_equal(find_people(lying), mask)
    np.testing.assert_array_equal(find_people(np.asarray(astronaut)), mask)
    with pytest.raises(ImageError, match="none.png"):
        find_people(tmp_path / "none.png")


def test_a_small_figure_is_looked_at_from_nearer(astronaut, monkeypatch):
    looked = []
    look = people._look
    monkeypatch.setattr(people, "_look", lambda photo, *more, **rest: looked.append(photo.size) or look(photo, *more, **rest))
    find_people(astronaut)
    large = list(looked)
    wide = Image.new("RGB", (1600, 900), (90, 140, 90))
    wide.paste(astronaut.resize((200, 200)), (900, 500))
    looked.clear()
    found = find_people(wide)
    assert large == [astronaut.size] * 3 and set(looked) > {wide.size}
    assert found.getpixel((900 + 226 * 200 // 512, 500 + 121 * 200 // 512)) > 200 and found.getpixel((100, 100)) < 5
    box = people._around(Face(100, 200, 20, 30), (1600, 900))
    assert box == (0, 153, 205, 363), "seven heads high, the head near its upper edge, within the photograph"


def test_what_several_looks_say_counts_alike_and_a_frame_of_a_film_has_one(monkeypatch):
    asked, photo = [], Image.new("RGB", (600, 400), "gray")
    monkeypatch.setattr(people, "_look", lambda photo, size: asked.append(size) or np.full(size[::-1], len(asked) - 2.5, np.float32))
    logit = people._logit(photo, quick=True)
    assert asked == [(384, 256)] and logit.shape == (267, 400)
    np.testing.assert_allclose(logit, -1.5, rtol=1e-5)
    asked.clear()
    np.testing.assert_allclose(people._logit(photo), -0.5, rtol=1e-5)
    assert asked == [(336, 224), (480, 320), (256, 256)]
    assert people._within((3000, 100), 224, shorter=True) == (448, 224), "a panorama takes no longer for ever"


def test_around_a_small_head_what_is_found_from_nearer_counts_where_it_is_more(monkeypatch):
    looked, level = [], 4.0
    monkeypatch.setattr(people, "_look", lambda photo, size: looked.append((photo.size, size)) or np.full(size[::-1], level, np.float32))
    faces = [Face(800, 300, 30, 40), Face(200, 300, 130, 140), Face(200, 300, 9, 40)]  # a small one, a large one, and one that is too small to tell
    photo, logit = Image.new("RGB", (1600, 900)), np.full((90, 160), -2, np.float32)
    found = people._from_nearer(photo, logit, faces)
    assert looked == [((280, 280), (256, 256))] and found[38, 80] == 1, "the mean of both"
    assert -2 < found[25, 80] < 0 and -2 < found[38, 67] < 0, "which begins without a step"
    found[24:52, 66:94] = -2
    assert (found == -2).all()
    level = -6.0
    assert (people._from_nearer(photo, logit, faces) == -2).all()
    faces[1:], looked[:] = [faces[0]] * 20, []
    people._from_nearer(photo, logit, faces)
    assert len(looked) == people.MOST, "a crowd takes no longer for ever"
    level, faces[:] = 4.0, [Face(800, 300, 10, 12)]  # next to nothing at the size of what is known
    assert (people._from_nearer(photo, logit, faces) == -2).all()


# ---- the edges ---------------------------------------------------------------------------------


def test_slopes_are_those_of_a_regression_over_each_square(monkeypatch):
    rng = np.random.default_rng(0)
    colours, p = rng.random((3, 23, 31)), rng.random((23, 31))
    monkeypatch.setattr(people, "EVEN", 0.0)
    reach, given = people.REACH, people.mean_around
    calls = []
    monkeypatch.setattr(people, "mean_around", lambda x, reach: calls.append(x) or given(x, reach))
    people._coefficients(colours, p)
    slopes = calls[-1]  # before the last mean
    row, column = 11, 15
    here = slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)
    table = np.stack([*(c[here].ravel() for c in colours), np.ones((2 * reach + 1) ** 2)], 1)
    wanted, *_ = np.linalg.lstsq(table, p[here].ravel(), rcond=None)
    np.testing.assert_allclose(slopes[:, row, column], wanted, atol=1e-9)


def test_means_are_of_squares_with_edges_repeated():
    x = np.random.default_rng(0).random((2, 13, 17))
    reach = people.REACH
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach)], "edge")
    wanted = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2, (1, 2)).mean((3, 4))
    np.testing.assert_allclose(people.mean_around(x, reach), wanted, atol=1e-12)


def test_a_mask_gets_the_edge_of_the_photograph_at_its_own_size():
    """What is known of 60 x 40 px, blurred and a little off, follows an edge of 1200 x 800."""
    photo = Image.new("RGB", (1200, 800), (200, 60, 40))
    photo.paste((40, 90, 160), (613, 0, 1200, 800))
    chance = np.clip((np.arange(60) - 27) / 7, 0, 1).astype(np.float32) * np.ones((40, 1), np.float32)
    levels = np.asarray(people._followed(chance, photo))
    assert levels.shape == (800, 1200) and (levels == levels[0]).all(), "bands of rows leave no seam"
    assert levels[0, 611] < 10 and levels[0, 613] > 245 and levels[0, :560].max() < 10 and levels[0, 660:].min() > 245


def test_where_a_photograph_has_no_edge_a_mask_stays_as_soft_as_it_is_known():
    chance = np.clip((np.arange(60) - 20) / 20, 0, 1).astype(np.float32) * np.ones((40, 1), np.float32)
    levels = np.asarray(people._followed(chance, Image.new("RGB", (600, 400), "gray")))
    assert 110 < levels[200, 300] < 120 and levels[200, 100] == 0 and levels[200, 500] == 255
    assert np.abs(np.diff(levels[200].astype(int))).max() < 8


# ---- films -------------------------------------------------------------------------------------


@pytest.fixture
def chances(monkeypatch):
    """What is found in the next frames, in place of the networks, and borne out in all of them."""
    given = []
    monkeypatch.setattr(people, "_logit", lambda photo, quick: np.full((4, 6), np.log(given[0] / (1 - given.pop(0))), np.float32))
    monkeypatch.setattr(people, "borne_out", lambda photo, logit: np.zeros_like(logit))
    return given


def likely(followers) -> float:
    return float(followers.state["people"][0, 0, 0])


def test_what_changes_little_comes_slowly_and_what_changes_much_at_once(chances):
    chances += [0.5, 0.6, 0.6, 1e-9]
    frame, followers, levels = Image.new("RGB", (6, 4), "gray"), Followers(), []
    for _ in range(4):
        followers(frame)
        levels.append(likely(followers))
    assert levels[0] == 0.5 and levels[1] == pytest.approx(0.5 + 0.4 * 0.1) and levels[1] < levels[2] < 0.6
    assert levels[3] < 0.1 * levels[2]


def test_a_frame_that_is_the_same_has_the_same_mask_and_a_film_may_go_on_later(chances):
    chances += [0.51, 0.62, 0.7]
    frame, followers = Image.new("RGB", (6, 4), "gray"), Followers()
    followers(frame), followers(frame)
    before = followers.state
    resumed = Followers({name: value.copy() for name, value in before.items()})
    for other in (followers, resumed):
        np.testing.assert_array_equal(other(frame, again=True), followers(frame, again=True))
    assert len(chances) == 1 and (resumed.state["people"] == before["people"]).all() and resumed.state["age"] == 1
    assert Followers()(frame, again=True).getpixel((0, 0)) > 200 and not chances, "nothing is known of the one before"


def test_who_is_in_a_film_is_borne_out_now_and_then_and_forgotten_slowly(chances, monkeypatch):
    asked, said = [], [0.0, 1.0, -3.0, -3.0, -1.0]
    monkeypatch.setattr(people, "borne_out", lambda photo, logit: asked.append(len(borne)) or np.full_like(logit, said.pop(0)))
    frame, followers, borne = Image.new("RGB", (6, 4), "gray"), Followers(), []
    every = people.ASKED
    chances += [0.6] * (3 * every + 1) + [0.4, 0.4]
    while chances:
        followers(frame)
        borne.append(round(float(followers.state["people"][1, 0, 0]), 3))
    later = [round(1 - n * people.FADE, 3) for n in (every, 2 * every, 2 * every + 1)]
    assert borne == [0] * every + [1] * every + later[:1] * every + [later[1]] + later[2:] * 2
    assert asked == [0, every, 2 * every, 3 * every, 3 * every + 1], "at once where what is taken for somebody has moved"


def test_another_size_and_a_cut_begin_anew(chances):
    other_size = {"people": np.zeros((3, 2, 3), np.float32), "age": np.array(0)}
    for state in (other_size, {"people": np.zeros((4, 6), np.float32)}):  # the second as it was before bodies bore anything out
        frame, followers = Image.new("RGB", (6, 4), "gray"), Followers(state)
        chances += [0.5]
        followers(frame)
        assert (followers.state["people"][0] == 0.5).all()
    chances += [0.5]
    assert Followers(state)(frame, again=True).size == (6, 4) and not chances, "nor is there a mask of it for a frame that is the same"
    steady, noise = Steady(0.8, 4), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    chances += [0.2, 0.8]
    for pixels in (noise, 255 - noise // 4):
        steady.begin(pixels)
        steady.end(pixels)
        steady.people(Image.fromarray(pixels), again=False)
    assert steady.cuts == 1 and steady.state["people"][0, 0, 0] == pytest.approx(0.8)
    other = Steady(0.8, 4)
    other.restore(steady.state)
    chances += [0.7, 0.7]
    for goes_on in (steady, other):
        goes_on.people(Image.fromarray(pixels), again=False)
        assert 0.75 < goes_on.state["people"][0, 0, 0] < 0.8, "it changes slowly where there is no cut, and goes on so later"
        goes_on.people(Image.fromarray(pixels), again=True)
    assert not chances, "nobody is looked for in a frame that is the same"
    alone = Steady(0.0, 4)
    chances += [0.2, 0.3]
    for _ in range(2):
        alone.people(frame, again=False)
    assert alone.state["people"][0, 0, 0] == pytest.approx(0.3), "each frame by itself"


# ---- painting ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stylizer(weights) -> Stylizer:
    return Stylizer(weights, device="cpu", backend="torch")


@pytest.fixture(scope="module")
def styles(stylizer) -> list[str]:
    return list(stylizer.styles)


def painting(*given, **more) -> np.ndarray:
    return np.asarray(given[0].stylize(*given[1:], **more))


def test_people_or_all_else_is_painted(stylizer, styles, astronaut, mask):
    photo = np.asarray(astronaut)
    whole, inside, outside = (painting(stylizer, astronaut, styles[0], mask=m) for m in (None, "people", "background"))
    levels = np.asarray(mask)
    for painted, there in ((inside, levels), (outside, 255 - levels)):
        assert (painted[there == 0] == photo[there == 0]).all()
        apart = [np.abs(np.subtract(painted, other, dtype=np.int16))[there == 255].mean() for other in (whole, photo)]
        assert 4 * apart[0] < apart[1], "as the whole is painted, but for what is beside it"
    np.testing.assert_array_equal(inside, painting(stylizer, astronaut, styles[0], mask=mask))


def test_people_have_a_style_of_their_own(stylizer, styles, astronaut, mask):
    ours, other = (painting(stylizer, astronaut, styles[0], regions=[(styles[1], m)], paint_at=128) for m in ("people", mask))
    np.testing.assert_array_equal(ours, other)
    assert (ours != painting(stylizer, astronaut, styles[0], regions=[(styles[1], "background")], paint_at=128)).mean() > 0.5


def test_people_are_looked_for_once_and_only_where_they_are_asked_for(stylizer, styles, astronaut, monkeypatch, mask):
    asked = []
    monkeypatch.setattr(Seen.__init__, "__defaults__", (None, "", lambda photo: asked.append(photo.size) or mask))
    stylizer.stylize(astronaut, styles[0], mask="background", regions=[(styles[1], "people")])
    assert asked == [astronaut.size]
    stylizer.stylize(astronaut, styles[0], strength=0, mask="people")
    stylizer.stylize(astronaut, styles[0], mask=mask)
    assert len(asked) == 1


@pytest.mark.parametrize("word, where", [("people", 226), ("background", 60)])
def test_in_films_they_are_found_in_each_frame(stylizer, styles, astronaut, word, where):
    small = astronaut.resize((256, 256))
    frames = [small, small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    stream, apart = stylizer.stream(styles[0], mask=word), []
    for frame in frames:
        apart.append(np.abs(np.subtract(stream(frame), frame, dtype=np.int16)).mean(2))
    assert stream.steady.state["people"].shape == (3, people.WORK, people.WORK)
    face, wall = (slice(45, 75), slice(100, 125)), (slice(15, 40), slice(48, 70))
    changed, kept = (face, wall) if word == "people" else (wall, face)
    for number, difference in enumerate(apart):
        difference = difference[:, ::-1] if number == 2 else difference
        assert difference[changed].mean() > 5 and not difference[kept].any(), number
    np.testing.assert_array_equal(apart[0], apart[1])
    cuts, before = stream.steady.cuts, stream.steady.state["people"]
    stream(frames[2].transform(small.size, Image.Transform.AFFINE, (1, 0, 6, 0, 1, 0), fillcolor=(90, 90, 90)))
    assert stream.steady.cuts == cuts and 0.02 < np.abs(stream.steady.state["people"] - before)[0].mean() < 0.2, "she has moved, without a cut"
    surveyed = stylizer.stream(styles[0], mask=word).survey(small)
    assert not np.abs(np.subtract(surveyed, small, dtype=np.int16))[kept].any()


def test_in_films_they_have_a_style_of_their_own(stylizer, styles, astronaut):
    small = astronaut.resize((256, 256))
    far = Image.effect_noise(small.size, 30).convert("RGB")
    stream = stylizer.stream(styles[0], regions=[(styles[1], "people")], faces=0, smoothing=0)
    plain, other = (stylizer.stream(s, faces=0, smoothing=0) for s in styles[:2])
    here, there = (np.abs(np.subtract(stream(small), s(small), dtype=np.int16)).mean(2)[130:180, 80:130].mean() for s in (plain, other))
    assert there < here / 2
    stream = stylizer.stream(styles[0], regions=[(styles[1], "people")], faces=0, smoothing=0)
    assert np.abs(np.subtract(stream(far), plain(far), dtype=np.int16)).mean() < 2, "nobody is there, and rounding alone differs"


def test_on_a_sheet_people_stay_in_every_style(stylizer, weights, styles, astronaut, tmp_path):
    photo = tmp_path / "me.png"
    astronaut.save(photo)
    whole, kept = (np.asarray(stylizer.sheet(photo, tile=128, mask=mask)) for mask in (None, "background"))
    changed = (whole != kept).any(2)
    assert 0.2 < changed.mean() < 0.5, "of three paintings of four pictures about half"
    np.testing.assert_array_equal(kept, np.asarray(stylizer.sheet(photo, tile=128, mask=ImageOps.invert(find_people(photo)))))
    words = ["sheet", photo, "-o", tmp_path / "sheet.png", "--tile", 128, "--keep", "people", "--weights", weights]
    assert main([str(w) for w in (*words, "--backend", "torch", "--device", "cpu")]) == 0
    np.testing.assert_allclose(pixels(tmp_path / "sheet.png").astype(int), kept.astype(int), atol=2)
    find_people(photo).save(tmp_path / "mask.png")
    assert main([str(w) for w in (*words[:3], tmp_path / "mask.png", *words[4:7], tmp_path / "mask.png", *words[8:])]) == 2


def test_where_nobody_is_that_is_said(stylizer, styles, tmp_path):
    Image.effect_noise((64, 48), 40).convert("RGB").save(tmp_path / "wall.png")
    told = []
    before = np.asarray(Image.open(tmp_path / "wall.png"))
    assert (painting(stylizer, tmp_path / "wall.png", styles[0], mask="people", notice=told.append) == before).mean() > 0.99
    assert len(told) == 1 and told[0].endswith("wall.png: no people are to be seen in it")
    assert people.any_in(Image.new("L", (10, 10), 255)) and not people.any_in(Image.new("L", (10, 10)))
    for wide, anybody in ((15, False), (25, True)):  # of 10,000 px
        mask = Image.new("L", (50, 200))
        mask.paste(255, (0, 0, wide, 1))
        assert people.any_in(mask) is anybody, "some px are nobody"


def test_a_file_of_that_name_is_a_path(tmp_path, monkeypatch, stylizer, styles):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 48), 255).save("people", "png")
    photo = Image.effect_noise((64, 48), 40).convert("RGB")
    whole = painting(stylizer, photo, styles[0])
    np.testing.assert_array_equal(painting(stylizer, photo, styles[0], mask=Path("people")), whole)
    np.testing.assert_array_equal(painting(stylizer, photo, styles[0], mask="./people"), whole)


def test_without_a_photograph_there_are_no_people(stylizer, styles):
    with pytest.raises(StyleError, match="find_people"):
        mask_levels("people", (64, 48))
    with pytest.raises(StyleError, match="find_people"):
        stylizer.region_style([(styles[0], "background")], (64, 48))


def test_the_background_is_the_rest(astronaut, mask):
    seen = Seen(astronaut)
    np.testing.assert_array_equal(seen("background"), ImageOps.invert(mask))
    assert seen(None) is None and seen(mask) is mask and seen("sky.png") == "sky.png"


# ---- what is missing ---------------------------------------------------------------------------


@pytest.fixture
def anew():
    """Another network than the one that is kept."""
    people._network.cache_clear()
    yield
    people._network.cache_clear()


def test_without_openvino_that_is_said(astronaut, monkeypatch, anew):
    def missing():
        raise ImportError("no openvino")

    monkeypatch.setattr(poses, "openvino_core", missing)
    with pytest.raises(WeightsError, match="openvino, which is missing here; give a mask"):
        find_people(astronaut)


def test_a_file_that_is_missing_or_damaged_is_named(stylizer, styles, astronaut, monkeypatch, anew, tmp_path):
    monkeypatch.setattr(people, "people_file", lambda: tmp_path / "people.onnx")
    with pytest.raises(WeightsError, match="people.onnx, which finds people, does not exist"):
        stylizer.stylize(astronaut, styles[0], mask="people")
    stylizer.stylize(astronaut, styles[0])
    (tmp_path / "people.onnx").write_bytes(people_file().read_bytes()[:1000])
    with pytest.raises(WeightsError, match="people.onnx is damaged"):
        find_people(astronaut)


@pytest.mark.parametrize("words", [("--mask", "people"), ("--region", "background=blue-tree")])
def test_a_folder_and_a_film_are_not_begun_without_what_finds_people(cli, monkeypatch, anew, tmp_path, words):
    monkeypatch.setattr(people, "people_file", lambda: tmp_path / "people.onnx")
    with av.open("in.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (64, 48), "gray"))))
        out.mux(stream.encode(None))
    for verb in (("batch", "more", "out"), ("video", "in.mp4", "out.mp4")):
        code, told = cli(*verb, *words)
        assert code == 2 and told.err.count("people.onnx, which finds people, does not exist") == 1
    assert not Path("out").exists() and not Path("out.mp4.parts").exists()


# ---- the command line --------------------------------------------------------------------------


@pytest.fixture
def cli(capsys, tmp_path, astronaut, weights, monkeypatch):
    """Runs `stylenorm VERB` in a folder with me.png and more/me.png; gives the exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more").mkdir()
    for name in ("me.png", "more/me.png"):
        astronaut.resize((128, 128)).save(tmp_path / name)

    def run(verb, *words):
        more = ["--style", "red-hill", "--backend", "torch", "--device", "cpu", "--weights", weights]
        code = main([str(w) for w in (verb, *words, *more)])
        return code, capsys.readouterr()

    return run


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_command_line_finds_people(cli, astronaut):
    find_people(astronaut.resize((128, 128))).save("mask.png")
    for name, *words in (("a", "--mask", "people"), ("b", "--keep", "background"), ("c", "--mask", "mask.png"), ("d", "--keep", "people"), ("e", "--keep", "mask.png")):
        assert cli("stylize", "me.png", "-o", f"{name}.png", *words)[0] == 0
    inside, also, wanted, outside, rest = (pixels(f"{name}.png") for name in "abcde")
    assert (inside == also).all() and (inside == wanted).all() and (outside == rest).all() and (inside != outside).any()
    for name, where in (("f", "people"), ("g", "mask.png")):
        assert cli("stylize", "me.png", "-o", f"{name}.png", "--region", f"{where}=blue-tree")[0] == 0
    np.testing.assert_array_equal(pixels("f.png"), pixels("g.png"))
    code, told = cli("stylize", "me.png", "-o", "h.png", "--mask", "people", "--keep", "background")
    assert code == 2 and "one the other way round" in told.err


def test_a_file_of_that_name_is_meant_by_its_path_and_is_not_written_over(cli):
    Image.new("L", (128, 128)).save("people", "png")
    assert cli("stylize", "me.png", "-o", "a.png", "--mask", "./people")[0] == 0
    np.testing.assert_array_equal(pixels("a.png"), pixels("me.png"))
    code, told = cli("stylize", "me.png", "-o", "people", "--format", "png", "--mask", "./people")
    assert code == 2 and "is an input" in told.err
    code, told = cli("stylize", "me.png", "-o", "b.png", "--mask", "peeple")
    assert code == 2 and "there is no mask peeple; give a picture that is white where it counts, a folder of such, people or background" in told.err


def test_where_nobody_is_the_command_line_says_so_once(cli):
    Image.effect_noise((64, 48), 40).convert("RGB").save("wall.png")
    code, told = cli("stylize", "wall.png", "-o", "a.png", "--keep", "people")
    assert code == 0 and told.out.count("wall.png: no people are to be seen in it") == 1
    rows = json.loads(cli("stylize", "wall.png", "me.png", "-o", "out/", "--keep", "people", "--json")[1].out)
    assert [row.get("notices") for row in rows] == [["wall.png: no people are to be seen in it"], None]


def test_masks_are_written_to_be_corrected(cli, astronaut):
    words = ("--quiet",)
    assert main(["mask", "me.png", "-o", "mask.png"]) == 0 == main(["mask", "me.png", "more", "-o", "masks", *words])
    wanted = find_people(astronaut.resize((128, 128)))
    for name in ("mask.png", "masks/me.png", "masks/me-2.png"):
        with Image.open(name) as image:
            assert image.mode == "L" and (np.asarray(image) == wanted).all()
    assert cli("stylize", "me.png", "-o", "a.png", "--keep", "masks/me.png")[0] == 0 == cli("stylize", "me.png", "-o", "b.png", "--keep", "people")[0]
    np.testing.assert_array_equal(pixels("a.png"), pixels("b.png"))


def test_what_masks_cannot_be_made_of_is_told(cli, capsys):
    Path("not.jpg").write_text("no picture")
    Image.effect_noise((64, 48), 40).convert("RGB").save("wall.png")
    before = Path("me.png").read_bytes()
    for words, code, line in (
        (["not.jpg", "wall.png", "-o", "masks"], 1, "not.jpg"), (["wall.png", "-o", "a.png"], 0, "no people are to be seen"), (["me.png", "-o", "me.png"], 2, "is an input"),
        (["none.jpg", "-o", "b.png"], 2, "none.jpg"), (["me.png", "-o", "b.txt"], 2, "does not end in a format"), (["me.png", "-o", "b.gif"], 2, "add one, or end a folder"), (["me.png", "-o", "b"], 2, "end a folder in a slash"), (["me.png", "-o", "-", "--json"], 2, "cannot both go"),
    ):  # fmt: skip
        assert main(["mask", *words]) == code
        assert line in capsys.readouterr().err
    assert sorted(p.name for p in Path("masks").iterdir()) == ["wall.png"] and Path("me.png").read_bytes() == before
    assert main(["mask", "me.png", "-o", "masks.2"]) == 2 == main(["mask", "me.png", "-o", "new"]) and not Path("new").exists(), "a folder, without a slash"
    assert capsys.readouterr().err.count("end a folder in a slash") == 2
    Image.open("me.png").save("more/me.jpg"), Path("more/me.png").unlink(), Path("more/raw.cr2").touch()
    assert main(["mask", "more", "-o", "masks.2", "--quiet"]) == 0 == main(["mask", "more/me.jpg", "-o", "masks.3/", "--quiet"])
    assert [p.as_posix() for p in sorted(Path().glob("masks.*/*"))] == ["masks.2/me.png", "masks.3/me.png"], "an edge would not be sharp in a JPEG"
    assert capsys.readouterr() == ("", "")
    assert main(["mask", "more", "-o", "masks.2"]) == 0 and "raw" in capsys.readouterr().err
    assert main(["mask", "me.png", "-o", "c.png", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["output"] == "c.png" and "error" not in row


def test_a_mask_goes_through_pipes_whatever_a_library_prints(astronaut, monkeypatch, capfdbinary, tmp_path):
    astronaut.resize((128, 128)).save(tmp_path / "me.png")
    wanted, find = find_people(tmp_path / "me.png"), people.find_people
    monkeypatch.setattr(people, "find_people", lambda photo: print("a library says so") or find(photo))
    with open(tmp_path / "me.png") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert main(["mask", "-", "-o", "-"]) == 0
    out, err = capfdbinary.readouterr()
    np.testing.assert_array_equal(Image.open(io.BytesIO(out)), wanted)
    assert err.splitlines() == [b"a library says so"] and out.endswith(b"IEND\xaeB`\x82")


def test_a_folder_has_its_people_found_and_goes_on_alike(cli, tmp_path):
    assert cli("batch", "more", "out", "--keep", "people")[0] == 0
    assert cli("stylize", "me.png", "-o", "a.png", "--keep", "people")[0] == 0
    np.testing.assert_array_equal(pixels("out/me.png"), pixels("a.png"))
    assert "1 is there already" in cli("batch", "more", "out", "--mask", "background")[1].out
    code, told = cli("batch", "more", "out", "--mask", "people")
    assert code == 2 and "background" in told.err
    Path("people").mkdir()
    Image.open("me.png").save("people/me.png")
    assert cli("batch", "people", "out2", "--mask", "people")[0] == 0, "the photographs' own folder is called so"
    assert cli("batch", (tmp_path / "more").as_uri(), (tmp_path / "out3").as_uri(), "--keep", "people")[0] == 0
    np.testing.assert_array_equal(pixels("out3/me.png"), pixels("a.png"))


def test_frames_of_an_animation_have_their_people_found(cli):
    frames = [Image.open("me.png").convert("RGB")]
    frames[0].save("in.png", save_all=True, append_images=[frames[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)], duration=100)
    assert cli("stylize", "in.png", "-o", "out.png", "--keep", "people")[0] == 0
    with Image.open("out.png") as painted, Image.open("in.png") as given:
        for number in range(2):
            painted.seek(number), given.seek(number)
            apart = np.abs(np.subtract(painted.convert("RGB"), given.convert("RGB"), dtype=np.int16)).mean(2)
            apart = apart[:, ::-1] if number else apart
            assert apart[8:20, 24:35].mean() > 5 and not apart[23:37, 50:62].any()


def test_a_film_has_its_people_found_and_goes_on_later(stylizer, weights, tmp_path, astronaut):
    clip(tmp_path / "in.mp4", astronaut)
    assert_goes_on_alike(tmp_path / "in.mp4", lambda: stylizer.stream("red-hill", mask="background"), tmp_path, 3)
    words = ["video", tmp_path / "in.mp4", tmp_path / "out.mp4", "--style", "red-hill", "--keep", "people", "--crf", "1", "--weights", weights]
    assert main([str(w) for w in (*words, "--backend", "torch", "--device", "cpu")]) == 0
    before, after = (np.stack([np.asarray(show()) for *_, show in frames(probe(tmp_path / name))]).astype(int) for name in ("in.mp4", "out.mp4"))
    for number in range(6):
        apart = np.abs(after - before)[number].mean(2)
        face = apart[25:35, 50 - 2 * number : 60 - 2 * number]
        assert face.mean() < 3 < 8 < apart[5:12, 24 - 2 * number : 34 - 2 * number].mean()


def test_where_nobody_is_in_a_film_or_an_animation_that_is_said_once(cli, stylizer, astronaut, capsys, monkeypatch):
    clip(Path("in.mp4"), astronaut, 3)
    clip(Path("wall.mp4"), Image.effect_noise((128, 128), 40).convert("RGB"), 3)
    monkeypatch.setattr("stylenorm.video.PART", 2)
    told = {}
    for name, *words in (("wall", "--keep", "people"), ("in", "--keep", "people"), ("wall", "--region", "people=blue-tree"), ("wall",)):
        code, said = cli("video", f"{name}.mp4", "out.mp4", "--overwrite", *words)
        assert code == 0
        told[(name, *words)] = said.err.count(f"no people are to be seen in {name}.mp4")
    assert list(told.values()) == [1, 0, 1, 0]
    (row,) = [json.loads(line) for line in cli("video", "wall.mp4", "b.mp4", "--keep", "people", "--json")[1].out.splitlines()]
    assert row["notes"] == ["no people are to be seen in wall.mp4"]
    for name, notes in (("wall", ["no people are to be seen in wall.mp4"]), ("in", [])):
        assert paint_film(f"{name}.mp4", f"{name}-python.mp4", stylizer.stream("red-hill", mask="background")).notes == notes
        assert main(["mask", f"{name}.mp4", "-o", name]) == 0
        assert capsys.readouterr().err.count(f"no people are to be seen in {name}.mp4") == len(notes)
    assert main(["mask", "wall.mp4", "-o", "again", "--quiet"]) == 0 and not capsys.readouterr().err
    Image.effect_noise((64, 48), 40).convert("RGB").save("wall.gif", save_all=True, append_images=[Image.new("RGB", (64, 48), "gray")], duration=100)
    for verb, source in (("stylize", "wall.gif"), ("batch", "walls")):
        if verb == "batch":
            Path("walls").mkdir(), Path("wall.gif").rename("walls/wall.gif")
        code, said = cli(verb, source, *(["-o", "o.gif"] if verb == "stylize" else ["painted"]), "--keep", "people")
        assert code == 0 and (said.out + said.err).count(f"no people are to be seen in {Path(source)}") == 1
    (row,) = json.loads(cli("stylize", "walls/wall.gif", "-o", "p.gif", "--keep", "people", "--json")[1].out)
    assert row["notices"] == [f"no people are to be seen in {Path('walls/wall.gif')}"]


def test_who_was_seen_before_a_film_was_stopped_has_been_seen(cli, astronaut, monkeypatch):
    """With the manifest of a version that did not write it down nothing is told."""
    still = astronaut.resize((128, 128)).crop((0, 0, 128, 96))
    with av.open("in.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in [still] * 2 + [Image.effect_noise((128, 96), 40).convert("RGB")] * 4:
            out.mux(stream.encode(av.VideoFrame.from_image(image)))
        out.mux(stream.encode(None))
    monkeypatch.setattr("stylenorm.video.PART", 2)
    add = Manifest.append

    def stopped(self, line):
        add(self, line)
        if line.get("input") == "00001.nut":
            raise KeyboardInterrupt

    for people_of, said in ((lambda line: line, 0), (lambda line: {k: v for k, v in line.items() if k != "people"}, 0), (lambda line: line | {"people": False} if line["kind"] == "done" else line, 1)):
        monkeypatch.setattr(Manifest, "append", lambda self, line, change=people_of: stopped(self, change(line)))
        assert cli("video", "in.mp4", "out.mp4", "--keep", "people", "--overwrite")[0] == 130
        monkeypatch.setattr(Manifest, "append", add)
        code, told = cli("video", "in.mp4", "out.mp4", "--keep", "people")
        assert code == 0 and told.err.count("no people are to be seen") == said, told.err
        Path("out.mp4").unlink()


def clip(path, astronaut: Image.Image, count: int = 6) -> Path:
    small = astronaut.resize((128, 128))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number in range(count):
            out.mux(stream.encode(av.VideoFrame.from_image(small.crop((2 * number, 0, 2 * number + 128, 96)))))
        out.mux(stream.encode(None))
    return path


def test_a_films_masks_are_written_to_be_corrected(cli, tmp_path, astronaut, capsys):
    clip(tmp_path / "in.mp4", astronaut)
    assert main(["mask", "in.mp4", "-o", "frames"]) == 0
    assert "in.mp4 -> frames (6 masks)" in capsys.readouterr().out
    assert sorted(p.name for p in Path("frames").iterdir()) == [f"{n:06}.png" for n in range(1, 7)]
    with Image.open("frames/000001.png") as first, Image.open("frames/000006.png") as last:
        assert first.mode == "L" and first.size == (128, 96)
        assert first.getpixel((56, 30)) > 250 and last.getpixel((46, 30)) > 250 and first.getpixel((15, 15)) < 5
    watch, shown = PeopleWatch(), [show().convert("RGB") for *_, show in frames(probe(tmp_path / "in.mp4"))]
    assert watch.somebody is None
    shown[1].transpose(Image.Transpose.ROTATE_90).save("side.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    for number, frame in enumerate([shown[0], "side.png", *map(np.asarray, shown[2:])], 1):
        with Image.open(f"frames/{number:06}.png") as written:
            assert np.array_equal(watch(frame), written), f"frame {number}, from Python"
    assert watch.somebody
    for name, keep in (("people", "people"), ("pictures", "frames")):
        assert cli("video", "in.mp4", f"{name}.mp4", "--keep", keep)[0] == 0
    assert Path("people.mp4").read_bytes() == Path("pictures.mp4").read_bytes()
    for output, told in (("frames", "holds something already"), ("in.mp4", "is an input"), ("-", "go to a folder"), ("in.mp4/frames", "cannot be made"), ("a.png", "or to a film"), ("a.avi", ".mp4")):
        assert main(["mask", "in.mp4", "-o", output]) == 2
        assert told in capsys.readouterr().err
    Path("broken.mp4").write_text("no film")
    assert main(["mask", "broken.mp4", "-o", "masks", "--json"]) == 1 and not Path("masks").exists()
    told = capsys.readouterr()
    assert told.err == f"stylenorm: {json.loads(told.out)[0]['trouble']}\n" and "is no video" in told.err
    Path("other").mkdir()
    Path("other/.DS_Store").touch(), Path("other/desktop.ini").touch()  # which nobody sees
    assert main(["mask", "in.mp4", "-o", "other", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["frames"], row["finished"]) == (6, True)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_films_masks_are_a_film_as_long(cli, tmp_path, astronaut, capsys, suffix):
    clip(tmp_path / "in.mp4", astronaut)
    assert main(["mask", "in.mp4", "-o", f"mask.{suffix}"]) == 0 == main(["mask", "in.mp4", "-o", "frames", "--quiet"])
    assert f"in.mp4 -> mask.{suffix} (6 masks)" in capsys.readouterr().out
    given, mask = probe(Path("in.mp4")), probe(Path(f"mask.{suffix}"))
    times = [[float(at * one.clock) for at, *_ in frames(one)] for one in (given, mask)]
    assert times[0] == pytest.approx(times[1], abs=0.002) and len(times[1]) == 6
    for (*_, frame), exact in zip(frames(mask), sorted(Path("frames").iterdir())):
        apart = np.subtract(frame().convert("L"), Image.open(exact), dtype=np.int16)
        assert np.abs(apart).mean() < 1.5 and np.abs(apart).max() < 60, "edges of a few pixels are a little softer"
    for name, keep in (("people", "people"), ("film", f"mask.{suffix}")):
        assert cli("video", "in.mp4", f"{name}.mp4", "--keep", keep)[0] == 0
    for (*_, a), (*_, b) in zip(frames(probe(Path("people.mp4"))), frames(probe(Path("film.mp4")))):
        assert np.abs(np.subtract(a(), b(), dtype=np.int16)).mean() < 2


def test_a_film_of_masks_is_silent_and_black_where_nobody_is(cli, tmp_path, capsys):
    film(tmp_path / "in.mp4", count=4)
    assert main(["mask", "in.mp4", "-o", "mask.mov", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["output"], row["frames"], row["finished"]) == ("mask.mov", 4, True)
    with av.open("mask.mov") as mask, av.open("in.mp4") as given:
        assert [s.type for s in mask.streams] == ["video"] and len(given.streams) == 2
        assert [frame.to_image().getextrema() for frame in mask.decode(video=0)] == [((0, 0),) * 3] * 4
    assert main(["mask", "in.mp4", "-o", "mask.mp4"]) == 0 and "no people are to be seen in in.mp4" in capsys.readouterr().err


def test_a_film_of_masks_that_is_stopped_is_not_written(cli, tmp_path, astronaut, capsys, monkeypatch):
    clip(tmp_path / "in.mp4", astronaut)
    find, calls = Followers.__call__, []

    def stopped(self, frame, again=False):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return find(self, frame, again)

    monkeypatch.setattr(Followers, "__call__", stopped)
    before = sorted(p.name for p in Path().iterdir())
    assert main(["mask", "in.mp4", "-o", "mask.mp4"]) == 130
    assert "stopped after 3 frames; mask.mp4 was not written" in capsys.readouterr().err
    assert sorted(p.name for p in Path().iterdir()) == before


def test_an_animations_masks_are_a_picture_that_moves_with_it(cli, astronaut, capsys):
    small = astronaut.resize((128, 128)).crop((0, 0, 128, 96))
    first, *more = (ImageChops.offset(small, -step, 0) for step in (0, 0, 12, 24))
    first.save("in.gif", save_all=True, append_images=more, duration=[100, 200, 100, 300])
    assert main(["mask", "in.gif", "more", "-o", "masks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["output"] for row in rows] == [str(Path("masks", name)) for name in ("in.png", "me.png")]
    with Image.open("in.gif") as given, Image.open("masks/in.png") as mask, Image.open("masks/me.png") as still:
        assert mask.n_frames == given.n_frames and not getattr(still, "is_animated", False)
        seen = []
        for number in range(mask.n_frames):
            mask.seek(number)
            seen.append(np.asarray(mask.convert("L"), int))
        assert seen[0][30, 56] > 250 and seen[-1][30, 56 - 24] > 250 and seen[0][15, 15] < 5
    for name, keep in (("people", "people"), ("pictures", "masks/in.png"), ("folder", "masks")):
        assert cli("stylize", "in.gif", "-o", f"{name}.png", "--keep", keep)[0] == 0
    assert Path("pictures.png").read_bytes() == Path("folder.png").read_bytes()
    with Image.open("people.png") as a, Image.open("pictures.png") as b:
        for number in range(a.n_frames):
            a.seek(number), b.seek(number)
            assert np.abs(np.subtract(a.convert("RGB"), b.convert("RGB"), dtype=np.int16)).max() <= 1


def test_behind_a_cut_of_a_film_nobody_is_known(cli, astronaut):
    """Who was there before bears out no cat: it took nearly a second until she was forgotten."""
    cat = Image.open(photos_folder() / "chelsea.jpg").convert("RGB").resize((128, 96))
    with av.open("in.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in [astronaut.resize((128, 128)).crop((0, 0, 128, 96))] * 2 + [cat] * 2:
            out.mux(stream.encode(av.VideoFrame.from_image(image)))
        out.mux(stream.encode(None))
    assert main(["mask", "in.mp4", "-o", "frames", "--quiet"]) == 0
    assert [people.any_in(Image.open(name)) for name in sorted(Path("frames").iterdir())] == [True] * 2 + [False] * 2


def test_a_film_that_is_stopped_leaves_the_masks_that_are_made(cli, tmp_path, astronaut, capsys, monkeypatch):
    clip(tmp_path / "in.mp4", astronaut)
    find = Followers.__call__

    def stopped(self, frame, again=False):
        if len(list(Path("frames").iterdir())) == 2:
            signal.raise_signal(signal.SIGINT)
        return find(self, frame, again)

    monkeypatch.setattr(Followers, "__call__", stopped)
    assert main(["mask", "in.mp4", "-o", "frames"]) == 130
    assert "stopped after 3 frames" in capsys.readouterr().err and len(list(Path("frames").iterdir())) == 3
