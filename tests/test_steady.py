"""Frames of one film: what is carried from one to the next, and that a film painted so holds still."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from stylenorm import StyleError, StylenormError, Stylizer, bench_film, steady
from stylenorm.images import fit, to_tensor
from stylenorm.steady import Pool, Steady, motion
from stylenorm.style import Style

ROOT = Path(__file__).parent.parent

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shipped():
    return Stylizer(ROOT / "weights", device="cpu")


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


@pytest.fixture(scope="module")
def photo():
    """Smooth forms of many sizes, 200 x 300 px: something to find one's place in."""
    rng = np.random.default_rng(0)
    small = [Image.fromarray(rng.integers(0, 256, (200 // k, 300 // k, 3), dtype=np.uint8)) for k in (4, 10, 40)]
    return np.mean([np.asarray(p.resize((300, 200), 3), np.float32) for p in small], 0).astype(np.uint8)


@pytest.fixture
def quick_own_style(monkeypatch):
    """A style that differs from frame to frame, as the one that VGG sees in it does, in no time."""

    def own(self, rgb, size, name):
        level = np.asarray(rgb, np.float32).mean() / 40
        return self.style("blue-tree").map(lambda t: t * level)

    monkeypatch.setattr(Stylizer, "_predicted", own)


def pan(photo, dy: int, dx: int, count: int, noise: float = 0) -> list[Image.Image]:
    rng = np.random.default_rng(1)
    cut = [photo[8 + dy * t :, 8 + dx * t :][:96, :128] for t in range(count)]
    return [Image.fromarray(np.clip(p + rng.normal(0, noise, p.shape), 0, 255).astype(np.uint8)) for p in cut]


def unrest(paintings, dy: int = 0, dx: int = 0) -> float:
    """Mean difference of neighbouring frames, the earlier one moved along, in levels."""
    arrays = [np.asarray(p, np.float32) for p in paintings]
    height, width = arrays[0].shape[:2]
    return np.mean([np.abs(a[dy:, dx:] - b[: height - dy, : width - dx]).mean() for a, b in zip(arrays, arrays[1:])])


@pytest.mark.parametrize("shift", [(0, 0), (1, 3), (7, -5), (-20, 31)])
def test_motion_is_found(photo, shift):
    dy, dx = shift
    before = photo[40:160, 60:220]
    now = photo[40 + dy : 160 + dy, 60 + dx : 220 + dx]
    assert motion(before, now) == shift


def test_motion_of_a_large_frame_is_found_to_the_pixel(photo, monkeypatch):
    monkeypatch.setattr("stylenorm.steady.MOTION_PIXELS", 5000)
    assert motion(photo[40:160, 60:220], photo[47:167, 55:215]) == (7, -5)


def test_no_motion_is_seen_where_there_is_none(photo):
    rng = np.random.default_rng(0)
    assert motion(photo[:120, :160], rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)) == (0, 0)
    assert motion(np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50, 3), np.uint8)) == (0, 0)
    assert motion(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)) == (0, 0)


def test_large_frames_are_painted_as_small_ones_are(stylizer, photo, monkeypatch):
    """What is carried from frame to frame is small, too."""
    monkeypatch.setattr("stylenorm.tensors.USUAL_PIXELS", 128 * 96)
    frames = [f.resize((256, 192), Image.Resampling.BICUBIC) for f in pan(photo, 0, 3, 4)]
    usual, tied, full, still = (stylizer.stream("red-hill", **o) for o in ({}, {"paint_at": 128}, {"paint_at": "full"}, {"strength": 0}))
    for frame in frames:
        painted = usual(frame)
        assert painted.size == frame.size and np.array_equal(painted, tied(frame)) and not np.array_equal(painted, full(frame))
        assert np.array_equal(still(frame), frame)
    assert [s.steady.state["painted"].shape for s in (usual, full)] == [(96, 128, 3), (192, 256, 3)]
    assert stylizer.stream("red-hill").survey(frames[0]).size == (256, 192)
    with pytest.raises(StyleError, match="paint_at"):
        stylizer.stream("red-hill", paint_at=7)


@pytest.mark.parametrize("noise", [0, 3])
def test_a_pan_holds_still(stylizer, photo, noise):
    frames = pan(photo, 1, 3, 8, noise)
    alone = [stylizer.stylize(f, "red-hill") for f in frames]
    stream = stylizer.stream("red-hill")
    assert unrest([stream(f) for f in frames], 1, 3) < 0.35 * unrest(alone, 1, 3)


def test_the_networks_grid_moves_along(stylizer, photo):
    """Which alone, without blending, makes a pan of steps that are no multiple of the grid hold much better."""
    frames = pan(photo, 1, 3, 8)
    stream = stylizer.stream("red-hill")
    stream.steady._blend = lambda result: None
    alone = unrest([stylizer.stylize(f, "red-hill") for f in frames], 1, 3)
    assert unrest([stream(f) for f in frames], 1, 3) < 0.5 * alone


@pytest.mark.parametrize("clip", [4, 5, 6, 7, 8], ids=["parts of a pixel", "zoom", "turn", "shaking hand", "two motions"])
def test_what_moves_in_any_way_holds_still_and_stays_sharp(stylizer, photo, clip, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr("stylenorm.bench_film.SIZE", (160, 112))
    monkeypatch.setattr("stylenorm.bench_film.FRAMES", 8)
    film = bench_film.clips(photo)[clip]

    def judged() -> tuple[float, float]:
        paintings = bench_film.painted(stylizer.stream("red-hill"), film)
        return bench_film.unrest(paintings, film), bench_film.sharpness(paintings)

    now, sharp = judged()
    monkeypatch.setattr("stylenorm.flow.opencv", lambda: None)
    before, as_sharp = judged()
    assert now < 0.6 * before and sharp > 0.8 * as_sharp, (now, before, sharp, as_sharp)


@pytest.mark.parametrize("turned", [False, True], ids=["a zoom", "a turn"])
def test_plain_ground_goes_along_with_the_camera(turned):
    """It looks the same wherever it has moved to; without that, strokes on it stood while all else zoomed."""
    pytest.importorskip("cv2")
    image = Image.new("RGB", (240, 160), (120, 190, 235))
    drawn = ImageDraw.Draw(image)
    for i in range(5):
        drawn.rectangle((20 + 40 * i, 90 + 7 * i, 44 + 40 * i, 150), (225 - 30 * i, 105, 70 + 25 * i))
    c, s = (np.cos(0.02), np.sin(0.02)) if turned else (0.98, 0.0)
    matrix = (c, -s, 120 - c * 120 + s * 80, s, c, 80 - s * 120 - c * 80)
    before, now = np.asarray(image), np.asarray(image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
    memory = Steady(0.8, 16)
    memory.begin(before)
    memory.end(before)
    memory.begin(now)
    rows, columns = np.mgrid[:160, :240].astype(np.float32)
    found = memory._sources.carried(np.stack([columns, rows, rows], 2))
    sky = np.s_[6:70, 6:-6]
    x, y = columns + 0.5, rows + 0.5
    wanted = np.stack([c * x - s * y + matrix[2], s * x + c * y + matrix[5]], 2) - 0.5
    assert np.abs(found[..., :2] - wanted)[sky].max() < 0.6 < np.abs(wanted - np.stack([columns, rows], 2))[sky].max()


def test_a_wall_behind_somebody_who_moves_stands(photo):
    """Most corners are of who moves, and the wall looks nearly the same 4 px aside."""
    pytest.importorskip("cv2")
    rng, memory = np.random.default_rng(0), Steady(0.8, 16)
    wall = 160 + np.asarray(Image.fromarray(rng.integers(0, 256, (20, 30), dtype=np.uint8)).resize((240, 160), 3))[..., None] / 50.0
    rows, columns = np.mgrid[:160, :240].astype(np.float32)
    places, stood = np.stack([columns, rows, rows], 2), []
    for t in range(8):
        frame = np.repeat(wall, 3, 2)
        frame[60:, 30 + 4 * t : 130 + 4 * t] = photo[20:120, 20:120]
        frame = np.clip(np.rint(frame + rng.normal(0, 1.5, frame.shape)), 0, 255).astype(np.uint8)
        memory.begin(frame)
        if t:
            found = memory._sources.carried(places)
            stood.append(np.abs(found - places)[:50, 10:-10].max(2) == 0)
            body = found[80:140, 60 + 4 * t : 110 + 4 * t, 0] - places[80:140, 60 + 4 * t : 110 + 4 * t, 0]
            assert np.abs(np.median(body) + 4) < 0.1
        memory.end(frame)
    assert np.mean(stood) > 0.9


def test_a_first_frame_and_a_stream_without_smoothing_are_painted_as_by_themselves(stylizer, photo, quick_own_style):
    frames = pan(photo, 0, 2, 3)
    for options in ({}, {"strength": 0.5, "preserve_color": True, "size": 64}):
        alone = [stylizer.stylize(f, "red-hill", **options) for f in frames]
        loose = stylizer.stream("red-hill", smoothing=0, **options)
        for frame, wanted in zip(frames, alone):
            assert np.abs(np.asarray(loose(frame), int) - np.asarray(wanted)).max() <= 1
        assert np.abs(np.asarray(stylizer.stream("red-hill", **options)(frames[0]), int) - np.asarray(alone[0])).max() <= 1


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_at_strength_0_a_film_is_what_it_was(weights, photo, backend, tmp_path):
    from stylenorm.animation import paint_animation

    frames = pan(photo, 0, 3, 4, noise=3)
    made = Stylizer(weights, device="cpu", backend=backend)
    stream = made.stream("red-hill", strength=0)
    assert all(np.array_equal(stream(frame), frame) for frame in frames)
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], duration=100)
    paint_animation(tmp_path / "in.png", tmp_path / "out.png", lambda fixed: made.stream("red-hill", strength=0, fixed=fixed))
    with Image.open(tmp_path / "out.png") as painted:
        for number, frame in enumerate(frames):
            painted.seek(number)
            assert np.array_equal(painted.convert("RGB"), frame)


def test_a_frame_may_be_an_array_or_of_another_mode(stylizer, photo):
    frame = Image.fromarray(photo)
    wanted = np.asarray(stylizer.stream("red-hill")(frame))
    for given in (photo, frame.convert("RGBA")):
        assert np.array_equal(stylizer.stream("red-hill")(given), wanted)
    with pytest.raises(StylenormError, match="none.png does not exist"):
        stylizer.stream("red-hill")("none.png")


def test_a_frame_from_a_camera_is_painted_upright_also_where_it_was_opened_before(stylizer, photo, tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif)
    wanted = stylizer.stream("red-hill")(tmp_path / "a.png")
    assert wanted.size == (200, 300)
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(stylizer.stream("red-hill")(opened), wanted)


def test_a_scene_cut_begins_anew_and_a_fast_pan_does_not(stylizer, photo):
    stream = stylizer.stream("red-hill")
    other = Image.fromarray(255 - photo[::-1][:96, :128] // 2)
    for frame in pan(photo, 2, 20, 4):
        stream(frame)
    assert stream.steady.cuts == 0
    after = stream(other)
    assert stream.steady.cuts == 1
    wanted = np.asarray(stylizer.stylize(other, "red-hill"))
    assert np.abs(np.asarray(after, int) - wanted).max() <= 1, "nothing of the scene before"


def drawn(left: int) -> np.ndarray:
    """A ball that comes from the left, and a box that stands on plain ground."""
    image = Image.new("RGB", (240, 176), (250, 220, 120))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 120, 240, 176), fill=(60, 160, 80))
    pen.ellipse((left, 60, left + 60, 130), fill=(220, 60, 60), outline="black", width=3)
    pen.rectangle((170, 30, 210, 120), fill=(90, 90, 200), outline="black", width=3)
    return np.asarray(image)


def test_something_large_that_jumps_is_no_cut(monkeypatch):
    """As in a drawn film, of which every picture stands for two frames. Should its motion be taken for that of all, all is elsewhere then."""
    memory = Steady(0.8, 16)
    monkeypatch.setattr(steady, "motion", lambda before, now: (0, -28) if (before != now).any() else (0, 0))
    for t in range(14):
        memory.begin(drawn(14 * (t // 2 * 2) - 30))
        memory.end(np.zeros((176, 240, 3), np.uint8))
    assert memory.cuts == 0


def test_the_motion_of_something_that_stands_out_is_not_that_of_all():
    """The rest of the picture, which stands, would be farther off than it is: stars on the plain ground went along with the ball."""
    assert motion(drawn(20), drawn(48)) == (0, 0)


def test_a_cut_between_scenes_in_the_dark_begins_anew_and_a_fade_does_not(photo):
    rng, memory = np.random.default_rng(0), Steady(0.8, 16)
    one, other = photo[:112, :176] * 0.2, photo[80:192, 100:276] * 0.2

    def cuts(*scenes) -> int:
        memory.cuts = 0
        for scene in scenes:
            frame = np.clip(np.rint(scene + rng.normal(0, 1.5, scene.shape)), 0, 255).astype(np.uint8)
            memory.begin(frame)
            memory.end(frame)
        return memory.cuts

    assert cuts(*[one] * 5) == 0
    assert cuts(*[other] * 5, *[one] * 5, *[other] * 2) == 3
    assert cuts(*(other * share for share in np.linspace(1, 0.2, 8))) == 0
    assert cuts(*(photo[:112, :176] * share for share in np.linspace(0.2, 1, 20))) == 1, "after the cut to it"


def test_moments_are_smoothed_over_time(stylizer, photo):
    """m = 0.75 m + 0.25 own, told from the moments that the backend met."""
    met, frames = [], [np.asarray(f) for f in pan(photo, 0, 0, 4, noise=9)]

    class Watched:
        def steered(self, pixels, style, given, share, fine=True):
            painted, own = stylizer._backend.steered(pixels, style, given, share)
            met.append((given.copy(), share, own))
            return painted, own

    steady, style = Steady(0.75, 8), stylizer.style("red-hill")
    for frame in frames:
        steady.begin(frame)
        steady.end(steady.run(Watched(), frame, style))
    assert [share for _, share, _ in met] == [1.0, 0.25, 0.25, 0.25]
    wanted = met[0][2]
    for given, _, own in met[1:]:
        np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-6)
        wanted = 0.75 * wanted + 0.25 * own


def test_styles_that_are_predicted_from_frames_are_smoothed_and_pooled_as_moments_are():
    styles = [Style.from_flat(torch.full((1, 2, 3), level), (2, 1)) for level in (1.0, 5.0, 2.0)]
    fixed = {"style": np.full((1, 2, 3), 7, np.float32)}
    for memory, wanted in ((Steady(0.75, 8), (1, 2, 2)), (Steady(0.0, 8), (1, 5, 2)), (Steady(0.75, 8, fixed), (7, 7, 7))):
        for style, level in zip(styles, wanted):
            np.testing.assert_allclose(memory.settle(style).row(), np.full((1, 2, 3), level))
    pool = Pool()
    for style in styles:
        pool.begin()
        assert pool.settle(style) is style
    np.testing.assert_allclose(pool.pooled()["style"], np.full((1, 2, 3), 8 / 3), rtol=1e-6)
    np.testing.assert_allclose(steady._mean(styles).row(), np.full((1, 2, 3), 8 / 3), rtol=1e-6)
    assert steady._mean([styles[0]] * 3) is styles[0]


def test_pooled_moments_are_those_of_all_frames_together(stylizer, photo):
    """At the first normalization, whose map does not depend on other moments: those of the maps side by side."""
    from stylenorm.functional import moments

    frames, kept = pan(photo, 5, 9, 3), []
    stream = stylizer.stream("red-hill")
    for frame in frames:
        stream.survey(frame)
    generator, style = stylizer._network.generator, stylizer.style("red-hill")

    stride = generator.config.stride

    def first_map(index, x):
        if index == 0:
            kept.append(x)
        return moments(x)

    with torch.inference_mode():
        for frame in frames:
            larger = np.pad(np.asarray(frame), ((stride, 0), (stride, 0), (0, 0)), "symmetric")  # as it is painted
            generator(to_tensor(Image.fromarray(larger)), style, first_map)
    mean, var = moments(torch.cat(kept, 3))
    count = generator.config.channels[0]
    pooled = stream.pooled()["moments 0"]
    np.testing.assert_allclose(pooled[0, :count], mean.flatten(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pooled[1, :count], var.flatten(), rtol=1e-3, atol=1e-5)


def test_pooled_moments_are_what_batch_norm_would_strip_from_all_frames(stylizer, photo):
    """torch's own batch norm, while it trains, at every layer; each frame painted alone comes out as it did among all."""
    import torch.nn.functional as F

    frames = np.stack([np.asarray(f) for f in pan(photo, 5, 9, 3)])
    frames[1] //= 3  # unlike the others
    generator, style = stylizer._network.generator, stylizer.style("red-hill")
    met = []

    def of_batch(index, x):
        mean, var = torch.zeros(x.shape[1]), torch.zeros(x.shape[1])
        F.batch_norm(x, mean, var, training=True, momentum=1.0)  # which counts one less in the variance
        met.append(torch.stack([mean, var * (1 - x.shape[1] / x.numel())]))
        return tuple(met[-1][:, None, :, None, None])

    with torch.inference_mode():
        wanted = generator(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, style, of_batch)
    zeros = np.zeros((2, sum(style.channels)), np.float32)
    pooled = stylizer._backend.pooled(frames, style, zeros, 1.0)
    np.testing.assert_allclose(pooled, torch.cat(met, 1), rtol=1e-3, atol=1e-4)
    for frame, painting in zip(frames, (wanted * 255 + 0.5).permute(0, 2, 3, 1)):
        got = stylizer._backend.steered(frame, style, pooled, 0.0)[0]
        np.testing.assert_allclose(got, painting.byte(), atol=2)
    mixed = stylizer._backend.pooled(frames, style, pooled + 1, 0.0)
    np.testing.assert_allclose(mixed, pooled + 1, rtol=1e-5, err_msg="a share of 0 is what was given")


def test_of_a_long_survey_frames_are_kept_evenly_and_no_more_than_fit(monkeypatch):
    class Fake:
        def steered(self, pixels, style, given, share, fine=True):
            return pixels, np.array([[pixels.mean() * unlike], [1]], np.float32)

    class Named:
        channels, has_regions = (1,), False

    seen, unlike = [], 0.05
    monkeypatch.setattr(steady, "TOGETHER", 5 * 4)
    style = Named()
    for unlike, wanted in ((0.05, []), (0.2, [[0, 8, 16]] * 2)):  # of the variance, 0.1 and 0.6 lies between the frames
        pool = Pool(lambda frames, style: seen.append(frames[:, 0, 0, 0].tolist()) or np.zeros((2, 1)))
        for level in range(23):
            pool.begin()
            for _ in range(2):
                pool.run(Fake(), np.full((2, 2, 3), level, np.uint8), style)
        pool.pooled()
        assert seen == wanted


@pytest.mark.parametrize("side, small", [(47, True), (48, False)])
def test_a_small_frame_is_painted_by_its_own_moments(stylizer, side, small):
    """Six positions of the deepest map: 48 px with a stride of 8."""
    frame = np.zeros((side, 100, 3), np.uint8)
    frame[10:30, 10:60] = 200
    style = stylizer.style("red-hill")
    fixed = {"moments 0": np.ones((2, sum(style.channels)), np.float32)}
    stream = Steady(0.5, 8, fixed)
    stream.begin(frame)
    painted = stream.run(stylizer._backend, frame, style)
    assert np.array_equal(painted, stylizer._backend(frame, style)) is small
    if not small:  # by what is fixed alone
        assert np.array_equal(painted, stylizer._backend.steered(frame, style, fixed["moments 0"], 0.0)[0])


@pytest.mark.parametrize("side", [32, 320])
def test_frames_of_a_fade_come_out_much_as_they_would_alone(shipped, side):
    """With moments that did not fit together the small ones were of one colour, and the others in colours of their own."""
    cat = fit(Image.open(ROOT / "examples" / "chelsea.jpg").convert("RGB"), side)
    frames = [cat.point(lambda v, k=k: int(v * k)) for k in (1, 0.8, 0.6, 0.4)]
    survey = shipped.stream("scream")
    alone = [np.asarray(survey.survey(frame), np.float32) for frame in frames]
    stream = shipped.stream("scream", fixed=survey.pooled())
    apart = [np.abs(np.asarray(stream(frame)) - other).mean() for frame, other in zip(frames, alone)]
    assert max(apart) < 50


def test_with_fixed_moments_equal_frames_are_painted_alike_whatever_came_before(stylizer, photo, quick_own_style):
    a, b = pan(photo, 30, 60, 2)
    survey = stylizer.stream("red-hill", strength=0.6)
    for frame in (a, b):
        survey.survey(frame)
    stream = stylizer.stream("red-hill", strength=0.6, smoothing=0, fixed=survey.pooled())
    first, _, again = stream(a), stream(b), stream(a)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))


def test_a_stream_goes_on_from_its_state(stylizer, photo, quick_own_style):
    frames = pan(photo, 1, 2, 4, noise=2)
    options = {"strength": 0.7, "smoothing": 0.6}
    whole, begun, resumed = (stylizer.stream("red-hill", **options) for _ in range(3))
    wanted = [whole(f) for f in frames]
    for frame in frames[:2]:
        begun(frame)
    resumed.steady.restore(begun.steady.state)
    for frame, painting in zip(frames[2:], wanted[2:]):
        np.testing.assert_array_equal(np.asarray(resumed(frame)), np.asarray(painting))


@pytest.mark.parametrize("smoothing", [0.0, 0.8])
def test_a_frame_that_is_the_same_again_is_shown_again_and_not_painted(stylizer, photo, monkeypatch, smoothing):
    drawn = [frame for frame in pan(photo, 1, 2, 4, noise=3) for _ in range(3)]  # a new picture every third frame
    once = [stylizer.stream("red-hill", smoothing=smoothing)(frame) for frame in drawn[:1]]
    stream, painted, frame_of = stylizer.stream("red-hill", smoothing=smoothing), [], Stylizer._frame
    monkeypatch.setattr(Stylizer, "_frame", lambda *given: painted.append(0) or frame_of(*given))
    shown = []
    for n, frame in enumerate(drawn):
        if n in (4, 9):  # as a film that goes on from a part: also in the middle of a picture
            state = stream.steady.state
            stream = stylizer.stream("red-hill", smoothing=smoothing)
            stream.steady.restore(state)
        shown.append(stream(frame.copy()).tobytes())
    assert len(painted) == (4 if smoothing else 5), "without smoothing there is no state"
    assert shown[0] == once[0].tobytes() and [shown[n] == shown[n - 1] for n in range(1, 12)] == [n % 3 != 0 for n in range(1, 12)]
    alone = [stylizer.stream("red-hill", smoothing=smoothing)]
    assert [alone[0](frame).tobytes() for frame in drawn[::3]] == shown[::3], "it is no frame of its own"


def test_what_an_encoder_does_to_a_frame_makes_no_new_one_of_it(photo):
    steady, faint = Steady(0.8, 8), (photo[:96, :128] // 8 + 100).astype(np.uint8)
    for frame, by, places, again in (
        (photo[:96, :128], 4, 1, True), (photo[:96, :128], 5, 1, False), (photo[:96, :128], 1, 350, True), (photo[:96, :128], 1, 400, False),
        (faint, 1, 1, False), (faint, 0, 1, True),
    ):  # fmt: skip
        steady._shown = frame, frame // 2
        now = frame.astype(int)
        now.reshape(-1, 3)[7 : 7 + places] += np.where(now.reshape(-1, 3)[7 : 7 + places] < 128, by, -by)
        found = steady.again(now.astype(np.uint8))
        assert (found is steady._shown[1]) == again, (by, places)
    assert Steady(0.0, 8).again(photo) is None


def test_after_a_frame_that_was_stopped_a_stream_begins_anew(stylizer, photo, monkeypatch):
    """As with Ctrl-C in a notebook. Its place, noise and softness counted, and the painting was of the one before it."""
    *frames, wanted = pan(photo, 1, 2, 6, noise=2)
    stream = stylizer.stream("red-hill")
    for frame in frames[:4]:
        stream(frame)
    with monkeypatch.context() as patch:
        patch.setattr(Stylizer, "_frame", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stream(frames[4])
    np.testing.assert_array_equal(stream(wanted), stylizer.stream("red-hill")(wanted))
    assert stream.steady.cuts == 0


def test_what_moves_leaves_no_ghost(stylizer, photo):
    """Where the frame has changed, nothing of the last painting is left."""
    steady = Steady(0.9, 8)
    before = photo[:96, :128].copy()
    now = before.copy()
    now[30:60, 40:80] = 255 - now[30:60, 40:80]
    for frame, painted in ((before, np.zeros_like(before)), (now, np.full_like(now, 200))):
        steady.begin(frame)
        result = steady.end(painted)
    assert (result[36:54, 46:74] == 200).mean() > 0.9
    assert result[80:, 100:].max() < 25, "and where nothing has, nine tenths of it"


@pytest.mark.parametrize("noise", [0, 1])
def test_what_moves_in_fog_leaves_no_ghost(photo, noise, monkeypatch):
    """By 6 levels from what is behind it, which is much where all else differs by less; what stands there goes on so."""
    monkeypatch.setattr("stylenorm.flow.opencv", lambda: None)
    rng, memory = np.random.default_rng(0), Steady(0.8, 16)
    ground = 170 + 0.08 * photo[:112, :176].astype(np.float32)
    for t in range(6):
        frame = ground.copy()
        frame[30:90, 20 * t : 20 * t + 60] += 6
        frame = np.clip(np.rint(frame + rng.normal(0, noise, frame.shape)), 0, 255).astype(np.uint8)
        painted = np.full_like(frame, 100)
        painted[30:90, 20 * t : 20 * t + 60] = 200
        memory.begin(frame)
        result = memory.end(painted)
    assert np.abs(result[36:84].astype(int) - painted[36:84])[:, [*range(66, 94), *range(146, 154)]].mean() < 6
    assert memory._sources.alike[:24].mean() > 0.95


def test_a_film_that_has_faded_to_black_is_black(photo):
    """The last step is of few levels, and the picture stood on the black for ten frames."""
    memory = Steady(0.8, 16)
    for level in np.linspace(1, 0, 25):
        memory.begin((photo[:112, :176] * level).astype(np.uint8))
        result = memory.end(np.full((112, 176, 3), 200 if level else 20, np.uint8))
    assert result.max() < 40


def test_wrong_use_is_told(stylizer):
    for options in ({"smoothing": 1.0}, {"smoothing": -0.1}, {"strength": 2.0}, {"size": 3}):
        with pytest.raises(StyleError):
            stylizer.stream("red-hill", **options)


def test_moments_of_another_strength_are_told(stylizer, photo):
    survey = stylizer.stream("red-hill")
    survey.survey(frame := pan(photo, 0, 0, 1)[0])
    with pytest.raises(StyleError, match="survey the frames at the strength"):
        stylizer.stream("red-hill", strength=0.5, fixed=survey.pooled())(frame)


def test_a_pool_of_two_parts_a_frame():
    class Fake:
        def steered(self, pixels, style, given, share, fine=True):
            assert share == 1.0
            return pixels, np.array([[pixels.mean()], [1.0]], np.float32)

    class Named:
        channels = (1,)

    pool = Pool()
    for level in (10, 20):
        pool.begin()
        pool.run(Fake(), np.full((2, 2, 3), level, np.uint8), Named)
        pool.run(Fake(), np.full((2, 2, 3), 7, np.uint8), Named)
    pooled = pool.pooled()
    np.testing.assert_allclose(pooled["moments 0"].ravel(), [15, 26])  # 25 between the frames, 1 within
    np.testing.assert_allclose(pooled["moments 1"].ravel(), [7, 1])
