"""Scores: zero where they must be, the losses of `perceptual` elsewhere, on the pictures that training did not see."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import add_margins, make_photo
from PIL import Image

from stylenorm import scoring
from stylenorm.checkpoint import load_network, save_style
from stylenorm.data import held_out
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import to_tensor
from stylenorm.perceptual import VGGFeatures, content_loss, grams, style_loss
from stylenorm.scoring import (
    Score,
    Yardstick,
    judge,
    luminance,
    mean,
    run_peer,
    score,
    score_named,
    score_pairs,
    sliced_wasserstein,
    square,
    ssim,
    unseen_pictures,
)
from stylenorm.style import Style

torch.set_num_threads(1)
SHIPPED = Path(__file__).parent.parent / "weights" / "vgg16.safetensors"


@pytest.fixture(scope="module")
def vgg() -> VGGFeatures:
    return VGGFeatures.from_file(SHIPPED)


@pytest.fixture(scope="module")
def stylizer(weights) -> Stylizer:
    return Stylizer(weights, "cpu", "torch")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    for i in range(3):
        make_photo(folder / "photos" / f"p{i}.png", (70 + 4 * i, 66), seed=i)
        make_photo(folder / "paintings" / f"a{i}.png", (70, 66 + 4 * i), seed=10 + i)
    for i, name in enumerate(("blue-tree", "red-hill", "tall-grass")):
        make_photo(folder / "styles" / f"{name}.png", (90, 70), seed=30 + i)
    return folder


def drawn(tmp_path: Path, seed: int, size=(48, 40)) -> Image.Image:
    return Image.open(make_photo(tmp_path / f"{seed}.png", size, seed)).convert("RGB")


def test_a_picture_is_at_no_distance_from_itself(vgg, tmp_path):
    a, b = drawn(tmp_path, 0), drawn(tmp_path, 5, (64, 40))
    assert score(vgg, a, b, a).content == 0 and score(vgg, a, b, a).style > 0.01
    assert score(vgg, a, b, b.crop((0, 0, 48, 40))).content > 0.01
    assert score(vgg, a, a, a) == Score(0, 0)


def test_a_score_is_the_loss_of_the_8_bit_pictures(vgg, tmp_path):
    a, b, c = drawn(tmp_path, 0), drawn(tmp_path, 5, (64, 40)), drawn(tmp_path, 7)
    with torch.no_grad():
        x, y, z = (vgg(to_tensor(im)) for im in (a, b, c))
        content, style = content_loss(z["relu3_3"], x["relu3_3"]).item(), style_loss(grams(z), grams(y)).item()
    got = score(vgg, a, b, c)
    assert (got.content, got.style) == pytest.approx((content, style), rel=1e-4)
    assert got.total == pytest.approx(content + 10 * style, rel=1e-4)


def test_the_mean_of_scores():
    assert mean([Score(1, 2), Score(3, 6)]) == Score(2, 4) and mean([Score(1, 2), Score(3, 6)]).total == 42


def test_unseen_pictures_are_held_out_and_evenly_spread(tmp_path):
    files = [tmp_path / f"{i:04d}.png" for i in range(400)]
    for path in files:
        path.touch()
    _, out = held_out(files)
    assert unseen_pictures(tmp_path, 10**6) == out
    for count in (1, 3, 5, len(out) - 1, len(out)):
        chosen = unseen_pictures(tmp_path, count)
        places = [out.index(p) for p in chosen]
        assert len(set(chosen)) == count and places == sorted(places)
        gaps = [b - a for a, b in zip(places, places[1:] + [places[0] + len(out)])]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 50])
def test_of_few_pictures_each_comes_once(pictures, count):
    chosen = unseen_pictures(pictures / "photos", count)
    assert len(set(chosen)) == len(chosen) == min(count, 3)


def test_squares_are_the_middle(tmp_path):
    picture = Image.new("RGB", (90, 30), "red")
    picture.paste("blue", (30, 0, 60, 30))
    picture.save(tmp_path / "x.png")
    middle = square(tmp_path / "x.png", 30)
    assert middle.size == (30, 30) and set(middle.getcolors()) == {(900, (0, 0, 255))}


def test_squares_are_of_what_is_to_be_seen(tmp_path):
    """Of a painting of a pair, say, on whose margins no style is; what is learned on is cut so as well."""
    painting = make_photo(tmp_path / "p.png", (60, 40))
    assert square(add_margins(painting, tmp_path / "wide.png"), 32).tobytes() == square(painting, 32).tobytes()


def test_named_styles_are_scored_each_on_every_photograph(stylizer, vgg, pictures):
    ticks = []
    result = score_named(stylizer, vgg, pictures / "photos", pictures / "styles", size=48, count=2, tick=ticks.append)
    assert list(result) == ticks == list(stylizer.styles)
    photos = [square(p, 48) for p in unseen_pictures(pictures / "photos", 2)]
    painting = scoring.short_side(Image.open(pictures / "styles" / "red-hill.png").convert("RGB"), 48)
    wanted = mean([score(vgg, x, painting, stylizer.stylize(x, "red-hill")) for x in photos])
    assert result["red-hill"] == wanted and len(set(result.values())) == 3


def test_a_style_without_its_painting_is_named(stylizer, vgg, pictures, tmp_path):
    make_photo(tmp_path / "blue-tree.png")
    with pytest.raises(StylenormError, match="red-hill"):
        score_named(stylizer, vgg, pictures / "photos", tmp_path, size=48, count=1)


def test_a_style_of_ones_own_without_a_painting_there_is_left_out(weights, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path / "home"))
    network = load_network(weights / "network.safetensors")
    channels = network.generator.config.channels
    own = Style.from_flat(torch.ones(1, 2, sum(channels)), channels, name="my-garden", network=network.hash)
    save_style(tmp_path / "home" / "styles" / "my-garden.safetensors", own)
    stylizer = Stylizer(weights, "cpu", "torch")
    assert "my-garden" in stylizer.styles
    assert list(scoring.paintings_of(stylizer, pictures / "styles")) == [name for name in stylizer.styles if name != "my-garden"]
    stylizer.styles = {"my-garden": stylizer.styles["my-garden"]}
    with pytest.raises(StylenormError, match="no named style with a painting in"):
        scoring.paintings_of(stylizer, pictures / "styles")


def test_pairs_are_scored_beside_the_unchanged_photograph(stylizer, vgg, pictures, tmp_path):
    got = score_pairs(stylizer, vgg, pictures / "photos", pictures / "paintings", 2, 48, 40, folder=tmp_path / "out")
    assert got.pairs == 2 and got.peer is None
    assert got.unchanged.content == 0 and got.unchanged.style > 0 and got.ours.content > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"0{i}-{kind}.png" for i in (0, 1) for kind in ("ours", "photo", "style")]
    x, y, z = (Image.open(tmp_path / "out" / f"00-{kind}.png") for kind in ("photo", "style", "ours"))
    x1, y1, z1 = (Image.open(tmp_path / "out" / f"01-{kind}.png") for kind in ("photo", "style", "ours"))
    wanted = mean([score(vgg, x, y, z), score(vgg, x1, y1, z1)])
    assert (got.ours.content, got.ours.style) == pytest.approx((wanted.content, wanted.style))
    assert x.size == (48, 48) and y.size == (40, 40)
    for sizes, same in (([40], True), ([], False)):
        painted = stylizer.stylize(x, stylizer.style_from(y, *sizes), faces=0)
        assert (np.abs(np.asarray(painted).astype(int) - np.asarray(z)).max() <= 1) == same, "the style is that of the painting at its size"


def test_refined_styles_are_scored_beside_the_predicted_ones(stylizer, vgg, pictures, tmp_path):
    got = score_pairs(stylizer, vgg, pictures / "photos", pictures / "paintings", 1, 48, 40, folder=tmp_path / "out", refine=5)
    x, y, z = (Image.open(tmp_path / "out" / f"00-{kind}.png") for kind in ("photo", "style", "refined"))
    wanted = score(vgg, x, y, z)
    assert (got.refined.content, got.refined.style) == pytest.approx((wanted.content, wanted.style))
    assert got.refined.total < got.ours.total


def test_another_program_is_scored_on_the_same_pairs(stylizer, vgg, pictures, monkeypatch):
    """A peer that gives the photograph back scores what the photograph scores."""
    program = "import shutil, sys\nfor i in range(int(sys.argv[2])):\n    shutil.copy(f'{sys.argv[1]}/{i:02d}-photo.png', f'{sys.argv[1]}/{i:02d}-peer.png')\nprint('[]')"
    monkeypatch.setattr(scoring, "PEER_PAIRS", program)
    got = score_pairs(stylizer, vgg, pictures / "photos", pictures / "paintings", 2, 48, 40, peer=sys.executable)
    assert got.peer == got.unchanged


@pytest.mark.parametrize("python, program", [("/none/python", "print(1)"), (sys.executable, "raise SystemExit('no such thing')"), (sys.executable, "print('x')"), (sys.executable, "1/0")])
def test_a_peer_that_does_not_run_is_one_sentence(python, program):
    with pytest.raises(StylenormError) as caught:
        run_peer(python, program)
    assert python in str(caught.value) and "\n" not in str(caught.value)


def test_a_peer_gets_arguments_and_answers_in_json():
    assert run_peer(sys.executable, "import sys, json; print(json.dumps(sys.argv[1:]))", "a", "b c") == ["a", "b c"]


# ---- measures that nothing was trained on ------------------------------------------------------


def test_ssim_is_that_of_scikit_image():
    """structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1), 0.26.0."""
    rng = np.random.default_rng(0)
    a = rng.random((40, 56))
    pairs = {"noise": (a, rng.random((40, 56))), "brighter": (a, 0.5 * a + 0.4), "near": (a, np.clip(a + rng.normal(0, 0.1, a.shape), 0, 1))}
    wanted = {"noise": 0.020642931, "brighter": 0.771416352, "near": 0.945044914}
    for name, (x, y) in pairs.items():
        got = ssim(*(torch.from_numpy(v)[None, None] for v in (x, y)))
        assert got.shape == (1,) and got.item() == pytest.approx(wanted[name], abs=1e-7), name


def test_ssim_of_equal_pictures_is_1_and_of_flat_ones_follows_from_the_formula():
    a = torch.rand(2, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ssim(a, a), torch.ones(2, dtype=torch.float64))
    dark, light = torch.full((1, 1, 12, 12), 0.2), torch.full((1, 1, 12, 12), 0.6)
    assert ssim(dark, light).item() == pytest.approx((2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4), rel=1e-5)


def test_luminance_is_pillows(tmp_path):
    picture = drawn(tmp_path, 0)
    theirs = np.asarray(picture.convert("L"), np.float32) / 255
    np.testing.assert_allclose(luminance(to_tensor(picture))[0, 0].numpy(), theirs, atol=0.6 / 255)


def test_on_a_line_the_distance_is_that_of_the_best_assignment():
    """One channel, so that every direction is ±1: the least mean square over all ways to pair the pixels."""
    a, b = torch.randn(2, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    x, y = a.flatten().tolist(), b.flatten().tolist()
    best = min(sum((p - q) ** 2 for p, q in zip(x, order)) for order in itertools.permutations(y))
    assert sliced_wasserstein(a, b) == pytest.approx(best / sum(q * q for q in y), rel=1e-5)


def test_the_distance_knows_no_places_and_grows_with_a_shift():
    features = torch.randn(6, 8, 10, generator=torch.Generator().manual_seed(2))
    mixed = features.flatten(1)[:, torch.randperm(80)].view(6, 10, 8)
    assert sliced_wasserstein(mixed, features) == pytest.approx(0, abs=1e-10)
    near, far = (sliced_wasserstein(features + shift, features) for shift in (0.1, 0.2))
    assert near > 0 and far == pytest.approx(4 * near, rel=1e-4)  # (v·shift)², whatever v


def test_the_distance_sees_what_gram_matrices_do_not():
    """Two values as often as each other, and a bell curve, of the same mean and deviation."""
    generator = torch.Generator().manual_seed(3)
    two = torch.randint(0, 2, (1, 64, 64), generator=generator) * 2.0 - 1
    bell = torch.randn(1, 64, 64, generator=generator)
    bell = (bell - bell.mean()) / bell.std(correction=0) * two.std(correction=0) + two.mean()
    assert (two.square().mean() - bell.square().mean()).abs() < 1e-5
    assert sliced_wasserstein(two, bell) == pytest.approx(2 - 2 * (2 / np.pi) ** 0.5, rel=0.03)  # E(|z| - 1)²


def test_sizes_may_differ_and_the_seed_is_kept_to():
    features = torch.randn(8, 30, 30, generator=torch.Generator().manual_seed(4))
    more = features.repeat_interleave(2, 2)
    assert sliced_wasserstein(features, more) < 1e-3
    other = features * 2 + 1
    assert sliced_wasserstein(features, other) == sliced_wasserstein(features, other) != sliced_wasserstein(features, other, seed=1)


def test_a_judgement_is_the_score_and_the_new_measures(vgg, tmp_path):
    a, b, c = drawn(tmp_path, 0), drawn(tmp_path, 5, (64, 40)), drawn(tmp_path, 7)
    got, known = judge(vgg, a, b, c), score(vgg, a, b, c)
    assert (got.content, got.style, got.total) == pytest.approx((known.content, known.style, known.total), rel=1e-5)
    assert set(got.to_dict()) == {"content", "style", "total", "wasserstein", "ssim"} and got.to_dict()["total"] == got.total
    itself = judge(vgg, a, a, a)
    assert itself.to_dict() == pytest.approx({"content": 0, "style": 0, "total": 0, "wasserstein": 0, "ssim": 1}, abs=1e-9)
    assert 0 < got.ssim < 1 and got.wasserstein > judge(vgg, a, b, b.crop((0, 0, 48, 40))).wasserstein


def test_optimizing_comes_nearer_to_the_painting_by_both_measures(vgg, tmp_path):
    yardstick = Yardstick.of(vgg, make_photo(tmp_path / "a.png", (64, 48)), make_photo(tmp_path / "b.png", (70, 64), 9), 64)
    steps = []
    before, after = yardstick.unchanged(), yardstick.optimized(12, lambda step, loss: steps.append(step))
    assert steps == list(range(1, 13)) and before.content == 0 and before.ssim == pytest.approx(1)
    assert after.style < 0.7 * before.style and after.wasserstein < before.wasserstein and after.ssim < before.ssim


def test_a_picture_of_another_size_is_resized_and_that_is_said(vgg, tmp_path):
    photo = make_photo(tmp_path / "a.png", (80, 60))
    yardstick = Yardstick.of(vgg, photo, make_photo(tmp_path / "b.png", seed=9), 64)
    assert yardstick.content.size == (64, 48) and min(yardstick.painting.size) == 64
    judgement, note = yardstick.judged(photo)
    assert note is None and judgement == yardstick.unchanged()
    small, note = yardstick.judged(make_photo(tmp_path / "c.png", (40, 30)))
    assert "c.png is 40 x 30 px" in note and "80 x 60" in note and small.content > 0
    with pytest.raises(StylenormError, match="too narrow"):
        Yardstick.of(vgg, make_photo(tmp_path / "n.png", (300, 20)), photo, 64)
